"""A Docker engine for `make test-compose`, and images where no registry answers.

The engine that answers is used. Where none does, and the machine has `dockerd` and root, one of our own is started:
its data in the folder that `PENSTOCK_TEST_CACHE` names (else the user's cache), so that the second run is quick.
An image that cannot be pulled is made from Debian's packages, under the name that the compose files use, with the
real one's user, folders and variables: what runs in it is the real PostgreSQL, the real Kafka, the real Python.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import kafka_broker
from penstock_process import ROOT

__all__ = ["BASE", "IMAGE", "DockerEngine", "StandIns", "output", "succeeds"]

BASE = "python:3.11-slim"
#: The product's own image, which the compose files build.
IMAGE = "penstock:0.1.0"
FOLDER = Path(__file__).parent / "container"
START_S = 30.0
PULL_S = 600
_LABEL = "penstock.stand-in"


def output(command: list[str], env: dict[str, str] | None = None, *, timeout_s: float = 900) -> str:
    """Standard output of a command at the root that must succeed."""
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=timeout_s)
    assert done.returncode == 0, f"{command}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def succeeds(*command: str, timeout_s: float = PULL_S) -> bool:
    """Whether the program is there and ends with 0."""
    if shutil.which(command[0]) is None:
        return False
    try:
        return subprocess.run(command, capture_output=True, timeout=timeout_s).returncode == 0
    except subprocess.TimeoutExpired:
        return False


class DockerEngine:
    """Found or started; `own` says which. `close` ends only what was started here."""

    def __init__(self) -> None:
        self.own = False
        self._process: subprocess.Popen[bytes] | None = None
        self._folder: Path | None = None
        self._host_before = os.environ.get("DOCKER_HOST")

    def open(self) -> bool:
        """True if an engine answers now, by whatever means."""
        if succeeds("docker", "version", timeout_s=30):
            return True
        able = os.geteuid() == 0 and shutil.which("dockerd") is not None and shutil.which("docker") is not None
        return able and self._start()

    def close(self) -> None:
        """Stop the engine of our own; its images stay in the cache."""
        if self._process is None or self._folder is None:
            return
        subprocess.run(["docker", "image", "prune", "--force"], capture_output=True)
        self._process.terminate()
        self._process.wait(60)
        shutil.rmtree(self._folder, ignore_errors=True)
        if self._host_before is None:
            del os.environ["DOCKER_HOST"]
        else:
            os.environ["DOCKER_HOST"] = self._host_before

    def _start(self) -> bool:
        cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
        data = Path(os.environ.get("PENSTOCK_TEST_CACHE", cache / "penstock-tests")) / "docker"
        data.mkdir(parents=True, exist_ok=True)
        self._folder = Path(tempfile.mkdtemp(prefix="penstock-docker-"))
        host = f"unix://{self._folder}/docker.sock"
        command = ["dockerd", "--data-root", str(data), "--exec-root", f"{self._folder}/exec"]
        command += ["--pidfile", f"{self._folder}/pid", "--host", host, "--log-level", "warn"]
        with (self._folder / "log").open("wb") as log:
            # A session of its own: Ctrl-C at pytest ends the containers first, and then the engine.
            self._process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        os.environ["DOCKER_HOST"] = host
        self.own = True
        deadline = time.monotonic() + START_S
        while not succeeds("docker", "version", timeout_s=5):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"dockerd did not start:\n{(self._folder / 'log').read_text()[-2000:]}")
            time.sleep(0.1)
        return True


class StandIns:
    """Makes sure of the images that the compose files name."""

    def __init__(self, engine: DockerEngine) -> None:
        self._engine = engine
        self.made: list[str] = []

    def missing(self, image: str) -> str | None:
        """Get the image: there, pulled or made. What is needed to make it, if that is impossible here."""
        if succeeds("docker", "image", "inspect", image) or succeeds("docker", "pull", image):
            return None
        if os.geteuid() != 0 or shutil.which("debootstrap") is None:
            return f"cannot pull {image}; making it needs root and debootstrap"
        if image == BASE:
            output([str(FOLDER / "stand_in_base.sh"), BASE])
        else:
            if lacking := self.missing(BASE):
                return lacking
            name = image.split(":")[0].split("/")[-1]
            if name == "kafka" and (lacking := kafka_broker.KafkaBroker.missing()):
                return f"cannot pull {image}; {lacking}"
            self._build(image, FOLDER / f"stand_in_{name}")
        self.made.append(image)
        return None

    def close(self) -> None:
        """Leave no stand-in on an engine of somebody else, so that a later build starts from the real image."""
        if self._engine.own or not self.made:
            return
        for image in (IMAGE, *reversed(self.made)):
            subprocess.run(["docker", "rmi", image], capture_output=True)

    def _build(self, image: str, folder: Path) -> None:
        with tempfile.TemporaryDirectory() as context:
            shutil.copytree(folder, context, dirs_exist_ok=True)
            if folder.name == "stand_in_kafka":
                shutil.copytree(kafka_broker.fetch_jars(), Path(context) / "jars")
            output(["docker", "build", "--label", _LABEL, "--build-arg", f"BASE={BASE}", "-t", image, context])
