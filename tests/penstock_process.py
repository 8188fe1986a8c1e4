"""A real `penstock up` as a child process, and plain HTTP calls to it: what the system tests drive.

Imports nothing of the product: it sees what a stranger sees (the program, its output, HTTP).
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.parse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = Path(sys.executable).with_name("penstock")
START_TIMEOUT_S = 60


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Reply:
    """An HTTP reply with its body read."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class PenstockProcess:
    """Start, call, kill, stop. The port stays the same over restarts, so clients find it again."""

    def __init__(self, data: Path, *apps: Path | str, port: int | None = None, env: dict[str, str] | None = None):
        self.data = data
        self.apps = [str(app) for app in apps]
        self.port = port or free_port()
        self.env = {**os.environ, **(env or {})}
        self.url = f"http://127.0.0.1:{self.port}"
        self.prefix: list[str] = []  # a wrapper such as strace
        self.flags: list[str] = []
        self.process: subprocess.Popen[bytes] | None = None
        self.stdout: list[str] = []
        self.stderr: list[str] = []
        self._token = ""
        self._readers: list[threading.Thread] = []

    def __enter__(self) -> PenstockProcess:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> PenstockProcess:
        """Start and wait for the `Ready:` line."""
        self.launch()
        try:
            self.wait_ready()
        except AssertionError:
            self.kill()
            raise
        return self

    def command(self) -> list[str]:
        """The command and its apps, without the flags that every way to start has."""
        return ["up", *self.apps]

    def launch(self) -> None:
        command = [str(PROGRAM), *self.command(), "--data", str(self.data), "--port", str(self.port), *self.flags]
        self.stdout, self.stderr = [], []
        self.process = subprocess.Popen(
            [*self.prefix, *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self.env,
            cwd=self.data.parent,
            start_new_session=True,
        )
        self._readers = [
            threading.Thread(target=_collect, args=(self.process.stdout, self.stdout), daemon=True),
            threading.Thread(target=_collect, args=(self.process.stderr, self.stderr), daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    def wait_ready(self, timeout_s: float = START_TIMEOUT_S) -> None:
        assert self.process is not None
        deadline = time.monotonic() + timeout_s
        while not any(line.startswith("Ready: ") for line in list(self.stdout)):
            if self.process.poll() is not None:
                code = self.process.returncode
                raise AssertionError(f"penstock {self.command()[0]} ended with {code}:\n{self.output()}")
            if time.monotonic() > deadline:
                raise AssertionError(f"not ready after {timeout_s} s:\n{self.output()}")
            time.sleep(0.01)

    def output(self) -> str:
        return "\n".join([*self.stdout, *self.stderr][-60:])

    def kill(self) -> None:
        """SIGKILL, at once."""
        assert self.process is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self._reap()

    @property
    def pid(self) -> int:
        """The process of Penstock itself, also under a wrapper."""
        assert self.process is not None
        if not self.prefix:
            return self.process.pid
        return int(Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()[0])

    def stop(self) -> int:
        """SIGINT as Ctrl-C does; returns the exit code."""
        if self.process is None or self.process.poll() is not None:
            self._reap()
            return self.process.returncode if self.process else 0
        os.kill(self.pid, signal.SIGINT)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"did not stop within 30 s:\n{self.output()}") from None
        self._reap()
        return self.process.returncode

    def _reap(self) -> None:
        if self.process is not None:
            self.process.wait(30)
            for reader in self._readers:
                reader.join(5)
            for pipe in (self.process.stdout, self.process.stderr):
                assert pipe is not None
                pipe.close()

    @property
    def client(self) -> dict[str, str]:
        return json.loads((self.data / "client.json").read_text())

    def token(self) -> str:
        """An access token, fetched once (tokens survive restarts: the key is in the data folder)."""
        if not self._token:
            client = self.client
            credentials = base64.b64encode(f"{client['client_id']}:{client['client_secret']}".encode()).decode()
            form = urllib.parse.urlencode({"grant_type": "client_credentials", "scope": client["scope"]}).encode()
            headers = {"Authorization": f"Basic {credentials}", "Content-Type": "application/x-www-form-urlencoded"}
            reply = self.call("POST", "/oauth/token", form, headers=headers, authorize=False)
            assert reply.status == 200, reply.body
            self._token = reply.json()["access_token"]
        return self._token

    def forget_token(self) -> None:
        """Fetch another one with the next call."""
        self._token = ""

    def call(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        headers: dict[str, str] | None = None,
        authorize: bool = True,
        timeout_s: float = 30,
    ) -> Reply:
        """One request on a connection of its own; connection errors come through as OSError or HTTPException."""
        sent = {"Authorization": f"Bearer {self.token()}"} if authorize else {}
        sent |= headers or {}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout_s)
        try:
            connection.request(method, path, body, sent)
            reply = connection.getresponse()
            return Reply(reply.status, {k.lower(): v for k, v in reply.getheaders()}, reply.read())
        finally:
            connection.close()

    def get(self, path: str) -> Any:
        """The JSON of a GET that must succeed."""
        reply = self.call("GET", path)
        assert reply.status == 200, f"{path}: {reply.status} {reply.body[:500]!r}"
        return reply.json()

    def post_events(self, stream: str, events: list[dict[str, Any]]) -> Reply:
        body = b"\n".join(json.dumps(event).encode() for event in events)
        headers = {"Content-Type": "application/x-ndjson"}
        return self.call("POST", f"/v1/streams/{stream}/events", body, headers=headers)

    def rows(self, relation: str, **query: str) -> list[dict[str, Any]]:
        """Every row of a relation, page after page."""
        found: list[dict[str, Any]] = []
        cursor: str | None = None
        while True:
            page = {"limit": "10000", **query} | ({"cursor": cursor} if cursor else {})
            answer = self.get(f"/v1/data/{relation}?{urllib.parse.urlencode(page)}")
            found += answer["rows"]
            cursor = answer["next"]
            if cursor is None:
                return found

    def history(self, topic: str, after: str = "earliest") -> tuple[list[dict[str, Any]], str]:
        """Every event of a topic after a cursor, and the cursor at its end."""
        found: list[dict[str, Any]] = []
        while True:
            query = urllib.parse.urlencode({"after": after, "limit": "10000"})
            reply = self.call("GET", f"/v1/topics/{topic}?{query}", headers={"Accept": "application/json"})
            assert reply.status == 200, reply.body
            answer = reply.json()
            events = [event for event in answer["events"] if "sys" not in event]
            found += events
            after = answer["next"]
            if not answer["events"]:
                return found, after

    def run(self, *arguments: str, timeout_s: float = 300, check: bool = True) -> subprocess.CompletedProcess[str]:
        """A `penstock` command against this system."""
        done = subprocess.run(
            [str(PROGRAM), *arguments, "--data", str(self.data)],
            capture_output=True,
            text=True,
            timeout=timeout_s,
            cwd=self.data.parent,
        )
        if check:
            assert done.returncode == 0, done.stdout + done.stderr
        return done


def eventually(condition: Any, timeout_s: float = 30, every_s: float = 0.05) -> Any:
    """Wait until `condition()` is truthy and return it."""
    deadline = time.monotonic() + timeout_s
    while True:
        if found := condition():
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"not true within {timeout_s} s: {condition}")
        time.sleep(every_s)


def _collect(pipe: Any, lines: list[str]) -> None:
    for line in pipe:
        lines.append(line.decode(errors="replace").rstrip("\n"))
