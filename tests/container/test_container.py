"""The container as a person starts it, `docker compose up` at the root. `make test-container` runs this.

Not part of `make test`: it needs a Docker engine. Where no registry answers, `stand_in_base.sh` makes the base image;
then no image is left behind, so that a later build on this machine starts from the real one.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from penstock_process import ROOT, PenstockProcess, eventually
from readme_tour import run_step, tour

BASE = "python:3.11-slim"
STAND_IN = Path(__file__).with_name("stand_in_base.sh")
HEALTHY_S = 60

pytestmark = pytest.mark.timeout(1800)  # the first build downloads the base image and every wheel


class Container(PenstockProcess):
    """The service `penstock` in a project, a volume and a port of its own; HTTP calls come from the host."""

    def __init__(self, compose: list[str]) -> None:
        super().__init__(Path("/data"))
        self.compose = compose
        self.project = {"COMPOSE_PROJECT_NAME": f"penstock-test-{self.port}", "PENSTOCK_HTTP__PORT": str(self.port)}
        self.env |= self.project

    @property
    def client(self) -> dict[str, str]:
        return json.loads(self.inside("cat", "/data/client.json"))

    def command(self, *arguments: str) -> str:
        """A `docker compose` command at the root."""
        return output([*self.compose, *arguments], self.env)

    def inside(self, *arguments: str) -> str:
        return self.command("exec", "-T", "penstock", *arguments)

    def state(self, key: str) -> str:
        """A value of the container's state, such as Health.Status."""
        identity = self.command("ps", "-a", "-q", "penstock").strip()
        return output(["docker", "inspect", "-f", "{{.State." + key + "}}", identity]).strip()

    def up(self) -> None:
        """In the background; returns when the health check passes."""
        self.command("up", "-d")
        try:
            eventually(lambda: self.state("Health.Status") == "healthy", HEALTHY_S, 0.5)
        except AssertionError:
            raise AssertionError(self.command("logs")) from None


def output(command: list[str], env: dict[str, str] | None = None) -> str:
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def succeeds(*command: str) -> bool:
    return shutil.which(command[0]) is not None and subprocess.run(command, capture_output=True).returncode == 0


@pytest.fixture(scope="module")
def compose(need) -> list[str]:
    need("container", os.environ.get("PENSTOCK_TEST_CONTAINER") == "1", "run `make test-container`")
    need("docker", succeeds("docker", "version"), "install Docker and start its engine")
    plugin = succeeds("docker", "compose", "version")
    need("docker", plugin or succeeds("docker-compose", "version"), "install Docker Compose")
    return ["docker", "compose"] if plugin else ["docker-compose"]


@pytest.fixture(scope="module")
def base(compose: list[str], need) -> Iterator[bool]:
    """Makes sure of the base image; True if it is a stand-in."""
    stand_in = not (succeeds("docker", "image", "inspect", BASE) or succeeds("docker", "pull", BASE))
    if stand_in:
        able = os.geteuid() == 0 and shutil.which("debootstrap") is not None
        need("docker", able, f"cannot pull {BASE}; its stand-in needs root and debootstrap")
        output([str(STAND_IN), BASE])
    yield stand_in
    if stand_in:
        output(["docker", "rmi", BASE])


@pytest.fixture(scope="module")
def container(compose: list[str], base: bool) -> Iterator[Container]:
    container = Container(compose)
    try:
        container.command("build")
        container.up()
        yield container
    finally:
        container.command("down", "--volumes", *(["--rmi", "all"] if base else []))


def test_the_page_opens_and_only_it_needs_no_token(container: Container):
    page = container.call("GET", "/", authorize=False)
    assert page.status == 200 and page.headers["content-type"].startswith("text/html")
    assert "penstock_session=" in page.headers["set-cookie"]
    assert container.call("GET", "/readyz", authorize=False).status == 401
    assert container.get("/readyz")["ready"] is True


def test_it_runs_without_rights_on_a_read_only_root(container: Container):
    assert container.inside("id", "-u").strip() == "10001"
    assert "CapEff:\t0000000000000000" in container.inside("cat", "/proc/1/status")
    with pytest.raises(AssertionError, match="Read-only file system"):
        container.inside("touch", "/opt/penstock/written")
    container.inside("touch", "/tmp/written")


def test_the_tour_works_with_the_command_of_the_readme(container: Container, monkeypatch: pytest.MonkeyPatch):
    found = re.search(r"`(penstock\(\) \{.*\})`", (ROOT / "README.md").read_text())
    assert found
    command = found[1].replace("docker compose", " ".join(container.compose))
    for name, value in container.project.items():
        monkeypatch.setenv(name, value)
    eventually(lambda: container.history("cheap_lots")[0])
    for step in tour():
        run_step(step, ROOT, port=container.port, before=command)


def test_stopped_removed_and_started_again_it_has_lost_nothing(container: Container):
    events = [
        {"id": f"kept-{n}", "date": "2026-01-05T09:00:00", "state": "Karnataka", "market": "Kept", "commodity": "Tea"}
        | {"arrivals_tonnes": 1.5, "modal_price": n}
        for n in range(1000)
    ]
    reply = container.post_events("arrivals", events)
    assert reply.status == 200 and reply.json()["accepted"] == 1000
    container.command("stop")
    assert container.state("ExitCode") == "0", "137 is a kill after the grace period"
    container.command("down")
    container.up()
    kept = container.rows("raw.arrivals", market="eq.Kept", select="modal_price")
    assert [row["modal_price"] for row in kept] == [float(n) for n in range(1000)]
    again = container.post_events("arrivals", events)
    assert again.json()["duplicate"] == 1000
