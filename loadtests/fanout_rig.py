"""What the sections of the fan-out bench share: the crowd, a paced producer, the baseline's process."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loadtests.machine import pinned
from loadtests.system import Door, free_port, wait_for_port

__all__ = [
    "CLIENT_CORE",
    "PORTS_PER_SOURCE",
    "SERVER_CORE",
    "CrowdProcess",
    "FanoutBench",
    "Producer",
    "broadcasting",
]

SERVER_CORE, CLIENT_CORE = 0, 1
#: Sockets from one loopback address to one port; Linux lends about 28,000 ports.
PORTS_PER_SOURCE = 20_000


@dataclass(frozen=True, slots=True)
class FanoutBench:
    """Where, how many, how long; `sockets` None: the section's own number; `sockets_max`: files one may open."""

    folder: Path
    sockets: int | None
    seconds: float
    rounds: int
    sockets_max: int

    def crowd_of(self, wanted: int) -> tuple[int, str]:
        """How many sockets, and a note where the machine allows no more."""
        wanted = self.sockets or wanted
        if wanted <= self.sockets_max:
            return wanted, ""
        return self.sockets_max, f"{wanted:,} wanted; a process may open {self.sockets_max:,} here (ulimit -n)"


class CrowdProcess:
    """Subscribers in a process of its own (`loadtests.crowd`)."""

    def __init__(
        self,
        port: int,
        sockets: int,
        *,
        path: str,
        headers: Sequence[str] = (),
        mark: str = '{"t":',
        timed_every: int = 0,
        stalled: int = 0,
        core: int | None = CLIENT_CORE,
        shares: int = 1,
        first_source: int = 0,
    ) -> None:
        self.sockets = sockets
        sources = [f"127.0.0.{first_source + n + 2}" for n in range(1 + sockets // PORTS_PER_SOURCE)]
        job = {"host": "127.0.0.1", "port": port, "path": path, "headers": list(headers), "hello": [], "mark": mark}
        job |= {"sockets": sockets, "sources": sources, "timed_every": timed_every, "stalled": stalled}
        job["shares"] = shares
        self._process = subprocess.Popen(
            [*pinned(core), sys.executable, "-m", "loadtests.crowd"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started = self.ask(json.dumps(job))
        self.connect_s: float = started["ready"]
        self.refused: int = started["refused"]

    @classmethod
    def of(
        cls, door: Door, topic: str, sockets: int, *, extensions: str = "", query: str = "", **options: Any
    ) -> CrowdProcess:
        """Subscribers of one topic of Penstock; `query`: more parameters, beginning with &."""
        headers = [f"Authorization: Bearer {door.token}"]
        if extensions:
            headers.append(f"Sec-WebSocket-Extensions: {extensions}")
        return cls(door.port, sockets, path=f"/v1/topics/{topic}?after=latest{query}", headers=headers, **options)

    def ask(self, command: str) -> dict[str, Any]:
        """The reply to a command."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the crowd ended with {self._process.wait()}")
        found: dict[str, Any] = json.loads(line)
        return found

    def report(self) -> dict[str, Any]:
        """Figures since the last report."""
        return self.ask("report")

    def close(self) -> None:
        """Let go of all sockets."""
        self._process.communicate()


class Producer:
    """Posts events to the stream `pings` on one connection; each carries when it was sent."""

    def __init__(self, door: Door, *, note_bytes: int = 24) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", door.port)
        self._headers = {"Authorization": f"Bearer {door.token}", "Content-Type": "application/x-ndjson"}
        self._note = "x" * note_bytes
        self._next_n = 0

    def post(self, rows: int) -> None:
        """One batch."""
        sent_ns = time.perf_counter_ns()
        numbers = range(self._next_n, self._next_n + rows)
        self._next_n += rows
        body = "\n".join(f'{{"n":{n},"sent_ns":{sent_ns},"note":"{self._note}"}}' for n in numbers)
        self._connection.request("POST", "/v1/streams/pings/events", body, self._headers)
        reply = self._connection.getresponse()
        answer = reply.read()
        if reply.status != 200:
            raise RuntimeError(f"{reply.status} {answer[:200]!r}")

    def pace(self, per_s: float, seconds: float, *, rows: int = 1) -> int:
        """So many batches a second, each after the reply to the one before; how many events."""
        next_at, sent = time.perf_counter(), 0
        end_at = next_at + seconds
        while next_at < end_at:
            self.post(rows)
            sent += rows
            next_at += 1 / per_s
            time.sleep(max(0.0, next_at - time.perf_counter()))
        return sent


class Broadcast:
    """The process of `loadtests.baseline_broadcast`."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self.port, self._process = port, process

    def send(self, count: int, size_bytes: int, *, batch: int) -> float:
        """Broadcast; when it began, on the clock of `time.perf_counter`."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{count} {size_bytes} {batch}\n")
        self._process.stdin.flush()
        return float(self._process.stdout.readline())


@contextmanager
def broadcasting(*, core: int | None) -> Iterator[Broadcast]:
    """`websockets` with its own broadcast."""
    port = free_port()
    process = subprocess.Popen(
        [*pinned(core), sys.executable, "-m", "loadtests.baseline_broadcast", str(port)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        wait_for_port(port)
        assert process.stdout is not None
        process.stdout.readline()
        yield Broadcast(process, port)
    finally:
        process.terminate()
        process.wait(30)
