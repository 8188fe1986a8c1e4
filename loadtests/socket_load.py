"""Subscribers for fan-out: raw sockets after the WebSocket handshake; counts events by their bytes, parses none.

Run as a process of its own: a job as JSON on standard input; prints `ready`, then on end of input the figures. One
socket of the crowd also measures how long events take that carry `"sent_ns"`.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import sys
import time
from typing import Any
from urllib.parse import urlencode

import uvloop

MARK = b'{"t":'
SENT = re.compile(rb'"sent_ns":(\d+)')


class Subscriber(asyncio.Protocol):
    """Counts envelopes; `timed` also collects latencies."""

    def __init__(self, job: dict[str, Any], timed: bool, ready: asyncio.Future[None]) -> None:
        self.job, self.timed, self.ready = job, timed, ready
        self.events = 0
        self.bytes = 0
        self.last_at = 0.0
        self.latencies_ms: list[float] = []
        self.tail = b""
        self.cut = b""
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]  # uvloop has transports of its own
        key = base64.b64encode(os.urandom(16))
        self.transport.write(
            b"GET /v1/topics/%s?%s HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\nAuthorization: Bearer %s\r\n\r\n"
            % (
                self.job["topic"].encode(),
                urlencode({"after": "latest"}).encode(),
                key,
                self.job["token"].encode(),
            )
        )

    def data_received(self, data: bytes) -> None:
        if not self.ready.done():
            if b"101 Switching" not in data[:64]:
                self.ready.set_exception(RuntimeError(data[:300].decode(errors="replace")))
                return
            self.ready.set_result(None)
        self.bytes += len(data)
        found = (self.cut + data).count(MARK)
        self.cut = data[-(len(MARK) - 1) :]  # a mark may be cut in two
        if found:
            self.events += found
            self.last_at = time.perf_counter()
        if self.timed:
            now_ns = time.perf_counter_ns()
            block = self.tail + data
            for sent in SENT.findall(block):
                self.latencies_ms.append((now_ns - int(sent)) / 1e6)
            self.tail = block[-30:] if SENT.search(block[-30:]) is None else b""


async def run(job: dict[str, Any]) -> None:
    """Connect the crowd, say ready, count until standard input ends."""
    loop = asyncio.get_running_loop()
    crowd: list[Subscriber] = []
    for number in range(job["sockets"]):
        ready: asyncio.Future[None] = loop.create_future()
        _, subscriber = await loop.create_connection(
            lambda number=number, ready=ready: Subscriber(job, number == 0, ready),  # type: ignore[misc]  # bound per turn
            "127.0.0.1",
            job["port"],
        )
        crowd.append(subscriber)
        await ready
    print("ready", flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    ordered = sorted(crowd[0].latencies_ms) or [0.0]
    print(
        json.dumps(
            {
                "events": sum(one.events for one in crowd),
                "least": min(one.events for one in crowd),
                "bytes": sum(one.bytes for one in crowd),
                "last_at": max(one.last_at for one in crowd),
                "p50_ms": ordered[len(ordered) // 2],
                "p99_ms": ordered[int(len(ordered) * 0.99)],
                "timed": len(crowd[0].latencies_ms),
            }
        ),
        flush=True,
    )


if __name__ == "__main__":
    uvloop.run(run(json.loads(sys.stdin.readline())))
