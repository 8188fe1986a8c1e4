"""`compose/services.yml` and `compose/kafka.yml`: the four services over real servers, killed and replaced.

The tests of a file run in order on one project; the last ones take it down and bring it up again.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path

import pytest
from compose_project import ComposeProject
from docker_engine import output
from penstock_process import ROOT, eventually
from readme_tour import run_step, tour

ROLES = ("ingest", "processor", "publish", "data")
SERVERS = {"services": ("postgres",), "kafka": ("postgres", "kafka")}
APP = ROOT / "examples" / "produce-markets" / "app.sql"

pytestmark = pytest.mark.timeout(1800)  # the first build downloads the base image and every wheel


@pytest.fixture(scope="module", params=list(SERVERS))
def arrangement(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def project(compose: list[str], images, arrangement: str) -> Iterator[ComposeProject]:
    text = (ROOT / "compose" / "parts.yml").read_text()
    images(*(re.search(rf"^  {name}:.*\n    image: (\S+)", text, re.M)[1] for name in SERVERS[arrangement]))
    project = ComposeProject(compose, arrangement, door="publish")
    try:
        project.command("build", "secrets")
        project.up()
        yield project
    finally:
        project.command("down", "--volumes", "--remove-orphans")


def lots(mark: str, count: int, start: int = 0) -> list[dict[str, object]]:
    return [
        {"id": f"{mark}-{n}", "date": "2026-01-05T09:00:00", "state": "Karnataka", "market": mark}
        | {"commodity": "Tea", "arrivals_tonnes": n, "modal_price": 5}
        for n in range(start, start + count)
    ]


class Sender:
    """Posts a lot at a time and again until it is acknowledged, as a careful producer does."""

    def __init__(self, project: ComposeProject, mark: str) -> None:
        self.project, self.mark = project, mark
        self.acknowledged = 0
        self.wrong: str | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Sender:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(60)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                reply = self.project.post_events("arrivals", lots(self.mark, 10, self.acknowledged))
            except (OSError, HTTPException):
                time.sleep(0.2)
                continue
            if reply.status == 200:
                self.acknowledged += 10
                time.sleep(0.02)
            elif reply.status in (429, 502, 503, 504):
                time.sleep(0.2)
            else:
                self.wrong = f"{reply.status} {reply.body!r}"
                return


def tonnes(project: ComposeProject, relation: str, mark: str) -> list[float]:
    """The column that numbers the lots of a test."""
    eventually(lambda: project.call("GET", f"/v1/data/{relation}?limit=1").status == 200, 60)  # 503: being prepared
    rows = project.rows(relation, market=f"eq.{mark}", select="arrivals_tonnes")
    return [row["arrivals_tonnes"] for row in rows]


def check_kept(project: ComposeProject, mark: str, count: int) -> None:
    """What was acknowledged is there once and in order, as raw events and as what the rule made of it."""
    expected = [float(n) for n in range(count)]
    for relation in ("raw.arrivals", "cheap_lots"):
        eventually(lambda relation=relation: len(tonnes(project, relation, mark)) >= count, 60, 0.5)
        assert tonnes(project, relation, mark) == expected, relation


def test_every_container_runs_without_rights_under_limits(project: ComposeProject):
    for found in project.containers():
        host = found["HostConfig"]
        where = found["Name"]
        assert re.fullmatch(r"\d+:\d+", found["Config"]["User"]), where
        assert not found["Config"]["User"].startswith("0:"), where
        assert [name.removeprefix("CAP_") for name in host["CapDrop"]] == ["ALL"], where
        assert "no-new-privileges:true" in host["SecurityOpt"], where
        assert host["Memory"] > 0 and host["NanoCpus"] > 0, where
        assert host["ReadonlyRootfs"] or "kafka" in where, where
    for role in ROLES:
        assert "CapEff:\t0000000000000000" in project.inside(role, "cat", "/proc/1/status")
        with pytest.raises(AssertionError, match="Read-only file system"):
            project.inside(role, "touch", "/opt/penstock/written")


def test_only_the_public_door_is_published_and_only_on_loopback(project: ComposeProject):
    published = {
        (found["Name"], binding["HostIp"], binding["HostPort"])
        for found in project.containers()
        for bindings in (found["NetworkSettings"]["Ports"] or {}).values()
        for binding in bindings or ()
    }
    assert published == {(project.container("publish")["Name"], "127.0.0.1", str(project.port))}


def test_the_password_is_in_a_file_and_nowhere_else(project: ComposeProject):
    password = project.inside("data", "cat", "/run/penstock/postgres-password").strip()
    assert len(password) >= 32
    assert password not in json.dumps(project.containers())
    assert password not in project.command("logs")
    with pytest.raises(AssertionError, match="Read-only file system"):
        project.inside("data", "touch", "/run/penstock/written")


def test_metrics_are_read_without_a_token_inside_and_with_one_outside(project: ComposeProject):
    read = "import sys, urllib.request as web; sys.stdout.write(web.urlopen(sys.argv[1]).read().decode())"
    for role, port in (("ingest", 8081), ("processor", 8082), ("publish", project.port), ("data", 8083)):
        assert "penstock_" in project.inside("sample", "python3", "-c", read, f"http://{role}:{port}/metrics")
    assert project.call("GET", "/metrics").status == 200


def test_the_tour_works_with_the_command_of_the_readme(project: ComposeProject, monkeypatch: pytest.MonkeyPatch):
    found = re.search(r"`(penstock\(\) \{.*\})`", (ROOT / "README.md").read_text())
    assert found
    for name, value in project.project.items():
        monkeypatch.setenv(name, value)
    eventually(lambda: project.history("cheap_lots")[0], 60)
    for step in tour():
        run_step(step, ROOT, port=project.port, before=found[1].replace("docker compose", " ".join(project.compose)))


def test_killed_containers_are_replaced_and_nothing_is_lost(project: ComposeProject, arrangement: str):
    with Sender(project, "Killed") as sender:
        for service in (*ROLES, *SERVERS[arrangement]):
            before = sender.acknowledged
            eventually(lambda before=before: sender.acknowledged > before or sender.wrong, 60)
            old = project.container(service)["Id"]
            subprocess.run(["docker", "kill", old], check=True, capture_output=True)
            project.command("rm", "--force", service)
            project.up("--no-recreate")
            assert project.container(service)["Id"] != old
        before = sender.acknowledged
        eventually(lambda: sender.acknowledged > before or sender.wrong, 60)
    assert sender.wrong is None
    check_kept(project, "Killed", sender.acknowledged)


def test_a_process_that_dies_is_started_again_by_the_engine(project: ComposeProject):
    before = project.container("processor")
    os.kill(before["State"]["Pid"], signal.SIGKILL)
    eventually(lambda: project.container("processor")["RestartCount"] > before["RestartCount"], 60, 0.2)
    project.until_healthy("processor")
    assert project.post_events("arrivals", lots("Died", 100)).json()["accepted"] == 100
    check_kept(project, "Died", 100)


def test_replicas_share_the_work(project: ComposeProject):
    project.up("--no-recreate", "--scale", "ingest=2", "--scale", "processor=2")
    assert len(project.containers("ingest")) == len(project.containers("processor")) == 2
    with Sender(project, "Shared") as sender:
        eventually(lambda: sender.acknowledged >= 200 or sender.wrong, 60)
        subprocess.run(["docker", "kill", project.containers("ingest")[0]["Id"]], check=True, capture_output=True)
        subprocess.run(["docker", "kill", project.containers("processor")[0]["Id"]], check=True, capture_output=True)
        after_kill = sender.acknowledged
        eventually(lambda: sender.acknowledged >= after_kill + 200 or sender.wrong, 60)
    assert sender.wrong is None
    check_kept(project, "Shared", sender.acknowledged)


def test_taken_down_and_up_again_everything_is_there(project: ComposeProject):
    events = lots("Kept", 1000)
    assert project.post_events("arrivals", events).json()["accepted"] == 1000
    changed = APP.read_text().replace("modal_price < 500", "modal_price < 10")
    put = project.call(
        "PUT", "/v1/apps/produce-markets", changed.encode(), headers={"Content-Type": "application/sql"}
    )
    assert put.status == 200, put.body
    identity = project.client
    running = [found["Id"] for role in ROLES for found in project.containers(role) if found["State"]["Running"]]
    assert len(running) >= len(ROLES)
    project.command("stop")
    stopped = json.loads(output(["docker", "inspect", *running]))
    codes = {found["Name"]: found["State"]["ExitCode"] for found in stopped}
    assert set(codes.values()) == {0}, f"137 is a kill after the grace period: {codes}"
    project.command("down")
    project.up()
    assert project.client == identity
    check_kept(project, "Kept", 1000)
    assert project.post_events("arrivals", events).json()["duplicate"] == 1000
    assert "modal_price < 10" in project.call("GET", "/v1/apps/produce-markets").body.decode(), "the edit survives"


def test_both_files_are_read_by_this_compose(compose: list[str], tmp_path: Path):
    for name in ("services", "kafka", "embedded"):
        for profile in ((), ("--profile", "observability")):
            done = subprocess.run(
                [*compose, "-f", f"compose/{name}.yml", *profile, "config", "--quiet"],
                cwd=ROOT,
                capture_output=True,
                text=True,
            )
            assert done.returncode == 0, done.stderr
            assert "warn" not in done.stderr.lower(), done.stderr
