"""A load generator for one WebSocket into a stream: single events, so many without a reply at once.

Run as a process of its own: reads a job as JSON on standard input, prints the figures as one JSON line.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import struct
import sys
import time
from typing import Any

import uvloop

from loadtests.http_load import make_body

REPLY, PROBLEM = b'{"n":', b'"type":"/errors/'
_LONGEST = max(len(REPLY), len(PROBLEM)) - 1


class Pipeline(asyncio.Protocol):
    """Sends as many events as there were replies, until the deadline; ends with the last reply."""

    def __init__(self, job: dict[str, Any], done: asyncio.Future[None]) -> None:
        self.job, self.done = job, done
        self.sent = self.replies = self.problems = 0
        self.open = False
        self.cut = b""
        self.started = 0.0
        self.ended = 0.0
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]  # uvloop has transports of its own
        self.transport.write(
            b"GET /v1/streams/%s/connect HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\nAuthorization: Bearer %s\r\n\r\n"
            % (self.job["stream"].encode(), base64.b64encode(os.urandom(16)), self.job["token"].encode())
        )

    def data_received(self, data: bytes) -> None:
        if not self.open:
            if b"101 Switching" not in data[:64]:
                self.done.set_exception(RuntimeError(data[:300].decode(errors="replace")))
                return
            self.open, self.started = True, time.perf_counter()
            self.send(self.job["window"])
            return
        block = self.cut + data
        self.cut = block[-_LONGEST:]  # a mark may be cut in two
        before = self.replies
        self.replies += block.count(REPLY) - self.cut.count(REPLY)
        self.problems += block.count(PROBLEM) - self.cut.count(PROBLEM)
        if time.perf_counter() < self.started + self.job["seconds"]:
            self.send(self.replies - before)
        elif self.replies + self.cut.count(REPLY) >= self.sent and not self.done.done():
            self.replies += self.cut.count(REPLY)
            self.ended = time.perf_counter()
            self.done.set_result(None)

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(RuntimeError(f"the socket was closed after {self.replies} replies"))

    def send(self, count: int) -> None:
        """Masked with zeros (RFC 6455, 5.3), which leaves the text as it is."""
        parts = []
        for _ in range(count):
            body = make_body(self.job, f"{self.job['run']}-{self.sent}")
            self.sent += 1
            size = len(body)
            parts.append(
                struct.pack("!BB", 0x81, 0x80 | size) if size < 126 else struct.pack("!BBH", 0x81, 0xFE, size)
            )
            parts += b"\0\0\0\0", body
        if parts:
            self.transport.write(b"".join(parts))


async def run(job: dict[str, Any]) -> dict[str, Any]:
    """Connect, send, count."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()
    _, pipeline = await loop.create_connection(lambda: Pipeline(job, done), "127.0.0.1", job["port"])
    await done
    seconds = pipeline.ended - pipeline.started
    return {
        "requests": pipeline.replies,
        "errors": pipeline.problems,
        "seconds": seconds,
        "requests_per_s": pipeline.replies / seconds,
    }


if __name__ == "__main__":
    print(json.dumps(uvloop.run(run(json.loads(sys.stdin.readline())))))
