"""The system under load as child processes: Penstock, the generators, the subscribers."""

from __future__ import annotations

import base64
import json
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from loadtests.machine import pinned

__all__ = ["Door", "Subscribers", "System", "post_load", "running", "stream_load"]

PROGRAM = Path(sys.executable).with_name("penstock")
SERVER_LOG = "server.log"
HERE = Path(__file__).parent


class System:
    """A running `penstock up`."""

    def __init__(self, process: subprocess.Popen[str], port: int, data: Path, ready_s: float) -> None:
        self.process, self.port, self.data, self.ready_s = process, port, data, ready_s
        self.pid = process.pid
        client = json.loads((data / "client.json").read_text())
        credentials = base64.b64encode(f"{client['client_id']}:{client['client_secret']}".encode()).decode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/oauth/token",
            data=b"grant_type=client_credentials",
            headers={"Authorization": f"Basic {credentials}"},
        )
        with urllib.request.urlopen(request) as reply:
            self.token = json.loads(reply.read())["access_token"]

    def get(self, path: str) -> Any:
        """JSON of a GET."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}", headers={"Authorization": f"Bearer {self.token}"}
        )
        with urllib.request.urlopen(request, timeout=30) as reply:
            return json.loads(reply.read())

    def settings(self) -> str:
        """The databases' settings as the server read them back at its start."""
        found = []
        for line in (self.data.parent / SERVER_LOG).read_text().splitlines():
            event = json.loads(line)
            if event["event"] == "log opened":
                found += [
                    f"{n}: {f['journal_mode']}, synchronous {f['synchronous']}" for n, f in event["files"].items()
                ]
            elif event["event"] == "data starts":
                found.append(f"store: {event['journal_mode']}, synchronous {event['synchronous']}")
        return "; ".join(found)


@contextmanager
def running(folder: Path, sql: str, *, core: int | None = None) -> Iterator[System]:
    """Start `penstock up` with one app called `bench` on a fresh data folder."""
    folder.mkdir(parents=True, exist_ok=True)
    arguments = []
    if sql:
        (folder / "bench.sql").write_text(sql)
        arguments = [str(folder / "bench.sql")]
    port = free_port()
    started = time.perf_counter()
    with (folder / SERVER_LOG).open("w") as server_log:
        process = subprocess.Popen(
            [*pinned(core), str(PROGRAM), "up", *arguments, "--data", str(folder / "data"), "--port", str(port)],
            stdout=subprocess.PIPE,
            stderr=server_log,
            text=True,
        )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("Ready: "):
            break
    else:
        raise RuntimeError(f"penstock up ended with {process.wait()}")
    try:
        yield System(process, port, folder / "data", time.perf_counter() - started)
    finally:
        process.terminate()
        process.wait(60)


@contextmanager
def running_baseline(*, core: int | None) -> Iterator[int]:
    """The bare aiohttp handler; yields its port."""
    port = free_port()
    process = subprocess.Popen([*pinned(core), sys.executable, str(HERE / "baseline_handler.py"), str(port)])
    try:
        wait_for_port(port)
        yield port
    finally:
        process.terminate()
        process.wait(30)


def post_load(job: dict[str, Any], *, core: int | None) -> dict[str, Any]:
    """Run the load generator with a job and return its figures."""
    return _load("http_load", job, core)


def stream_load(job: dict[str, Any], *, core: int | None) -> dict[str, Any]:
    """The same over one WebSocket into a stream."""
    return _load("stream_load", job, core)


class Door(Protocol):
    """Where events go in and out."""

    @property
    def port(self) -> int: ...

    @property
    def token(self) -> str: ...


class Subscribers:
    """A crowd of sockets in a process of its own."""

    def __init__(self, system: Door, topic: str, sockets: int, *, core: int | None) -> None:
        self._process = subprocess.Popen(
            [*pinned(core), sys.executable, str(HERE / "socket_load.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        job = {"port": system.port, "topic": topic, "sockets": sockets, "token": system.token}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        if self._process.stdout.readline().strip() != "ready":
            raise RuntimeError("the subscribers could not connect")

    def finish(self) -> dict[str, Any]:
        """Close the crowd and return what it counted."""
        out, _ = self._process.communicate()
        figures: dict[str, Any] = json.loads(out)
        return figures


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_port(port: int) -> None:
    """Until something listens."""
    for _ in range(500):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    raise TimeoutError(f"nothing listens on {port}")


def _load(generator: str, job: dict[str, Any], core: int | None) -> dict[str, Any]:
    done = subprocess.run(
        [*pinned(core), sys.executable, "-m", f"loadtests.{generator}"],
        cwd=HERE.parent,
        input=json.dumps(job) + "\n",
        capture_output=True,
        text=True,
        check=True,
    )
    figures: dict[str, Any] = json.loads(done.stdout)
    if figures["errors"]:
        raise RuntimeError(f"{figures['errors']} of {figures['requests']} requests failed")
    return figures
