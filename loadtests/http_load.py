"""A load generator for POSTs: raw asyncio protocols on kept-alive connections, one request at a time each.

Run as a process of its own: reads a job as JSON on standard input, prints the figures as one JSON line.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from dataclasses import dataclass, field
from typing import Any

import uvloop


@dataclass
class Figures:
    """What one run saw; latencies in milliseconds."""

    requests: int = 0
    errors: int = 0
    seconds: float = 0.0
    latencies_ms: list[float] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        ordered = sorted(self.latencies_ms) or [0.0]
        return {
            "requests": self.requests,
            "errors": self.errors,
            "seconds": self.seconds,
            "requests_per_s": self.requests / self.seconds if self.seconds else 0.0,
            "p50_ms": ordered[len(ordered) // 2],
            "p99_ms": ordered[int(len(ordered) * 0.99)],
        }


class Poster(asyncio.Protocol):
    """One connection: sends, waits for the whole reply, sends again until the deadline."""

    def __init__(self, job: dict[str, Any], number: int, figures: Figures, done: asyncio.Future[None]) -> None:
        self.job, self.number, self.figures, self.done = job, number, figures, done
        self.sent = 0
        self.next_at = 0.0
        self.buffer = b""
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]  # uvloop has transports of its own
        self.next_at = time.perf_counter()
        self.send()

    def send_in_turn(self) -> None:
        """At once, or at the job's `requests_per_s`; what is late is not made up for."""
        if rate := self.job.get("requests_per_s"):
            now = time.perf_counter()
            self.next_at = max(self.next_at + self.job["connections"] / rate, now)
            asyncio.get_running_loop().call_later(self.next_at - now, self.send)
        else:
            self.send()

    def send(self) -> None:
        now = time.perf_counter()
        if now >= self.job["deadline"]:
            self.transport.close()
            return
        body = self.job.get("body") or make_body(self.job, f"{self.job['run']}-{self.number}-{self.sent}")
        self.sent += 1
        self.started = now
        self.transport.write(self.job["head"] % len(body) + body)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self.buffer[:end].lower()
        at = head.find(b"content-length:")
        length = int(head[at + 15 :].split(b"\r\n", 1)[0])
        if len(self.buffer) < end + 4 + length:
            return
        self.figures.latencies_ms.append((time.perf_counter() - self.started) * 1000)
        self.figures.requests += 1
        self.figures.errors += not head.startswith((b"http/1.1 200", b"http/1.1 202"))
        self.buffer = b""
        self.send_in_turn()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_result(None)


def make_body(job: dict[str, Any], mark: str) -> bytes:
    """One small event, or `rows` events of about 100 bytes with unique ids."""
    rows = job["rows"]
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime())
    if rows == 1:
        return b'{"id":"%s","ts":"%s","device":"d7","celsius":21.5,"note":"ok"}' % (mark.encode(), stamp.encode())
    head = b'{"id":"%s-' % mark.encode()
    tail = b'","ts":"%s","device":"d%d","celsius":%d.5,"note":"fine weather"}'
    return b"\n".join(
        head + str(n).encode() + tail % (stamp.encode(), n % job.get("devices", 100), n % 40) for n in range(rows)
    )


async def run(job: dict[str, Any]) -> Figures:
    """Open the connections, post until the time is over."""
    media = b"application/json" if job["rows"] == 1 else b"application/x-ndjson"
    job["head"] = (
        b"POST /v1/streams/%s/events HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer %s\r\nContent-Type: %s\r\n"
        b"Content-Length: %%d\r\n\r\n" % (job["stream"].encode(), job["token"].encode(), media)
    )
    if job.get("reuse"):  # for streams without dedupe: the generator must not be what is measured
        job["body"] = make_body(job, job["run"])
    loop = asyncio.get_running_loop()
    figures = Figures()
    started = time.perf_counter()
    job["deadline"] = started + job["seconds"]
    waits = []
    for number in range(job["connections"]):
        done: asyncio.Future[None] = loop.create_future()
        await loop.create_connection(
            lambda number=number, done=done: Poster(job, number, figures, done),  # type: ignore[misc]  # bound per turn
            "127.0.0.1",
            job["port"],
        )
        waits.append(done)
    await asyncio.gather(*waits)
    figures.seconds = time.perf_counter() - started
    return figures


if __name__ == "__main__":
    print(json.dumps(uvloop.run(run(json.loads(sys.stdin.readline()))).as_json()))
