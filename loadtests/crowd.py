"""A crowd of WebSocket subscribers in one process: counts events by their bytes, measures how old they are.

Run as a process of its own. The first line on standard input is the job as JSON:

    host, port, path      where to; path with its query
    shares                in the path, {share} is the socket's number modulo this
    headers               lines of the request, such as Authorization
    hello                 text messages to send after the handshake
    mark                  what each event contains once
    sockets               how many; from `sources` (loopback addresses), 28,000 ports each
    timed_every           every so manieth socket measures the age of events with "sent_ns" (0: none)
    stalled               so many sockets stop reading once they are connected

It prints `{"ready": seconds, ...}`, then answers each command on standard input with one line of JSON:
`report` (and begins anew), `reconnect` (all at once, then until each is back). It ends with its input.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import random
import re
import socket
import struct
import sys
import time
from array import array
from typing import Any

import uvloop

SENT = re.compile(rb'"sent_ns":(\d+)')
AT_ONCE = 256
RETRY_S = 0.5
#: A ping without a payload, which is the gateway's, and the answer. An envelope is ASCII and holds none; where
#: a frame's length looks like one, an answer that nobody asked for does no harm (RFC 6455, 5.5.3).
PING, PONG = b"\x89\x00", b"\x8a\x80\0\0\0\0"
#: linux/in.h: take the local port at connect, when the whole connection is known. A port taken at bind must be free
#: of all connections, and the search for one costs milliseconds once thousands are taken.
IP_BIND_ADDRESS_NO_PORT = 24
STALLED_RECEIVE_BYTES = 4_096


class Crowd:
    """The job, and what all sockets have seen."""

    def __init__(self, job: dict[str, Any]) -> None:
        self.job = job
        self.mark = job["mark"].encode()
        self.subscribers: list[Subscriber] = []
        self.refused = 0
        self.lost = 0
        self.ages_ms = array("d")

    def request(self, number: int) -> bytes:
        """The upgrade of one socket."""
        key = base64.b64encode(os.urandom(16)).decode()
        lines = (
            f"GET {self.job['path'].replace('{share}', str(number % self.job['shares']))} HTTP/1.1",
            f"Host: {self.job['host']}",
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            f"Sec-WebSocket-Key: {key}",
            *self.job["headers"],
        )
        return "\r\n".join((*lines, "", "")).encode()

    async def connect_all(self) -> float:
        """Connect every subscriber that is not connected, many at once; the seconds that it took."""
        started = time.perf_counter()
        gate = asyncio.Semaphore(AT_ONCE)
        await asyncio.gather(*(one.connect(gate) for one in self.subscribers))
        return time.perf_counter() - started

    def report(self) -> dict[str, Any]:
        """Figures since the last report."""
        reading = [one for one in self.subscribers if not one.stalled]
        ages = sorted(self.ages_ms)
        found = {
            "events": sum(one.events for one in reading),
            "least": min((one.events for one in reading), default=0),
            "most": max((one.events for one in reading), default=0),
            "bytes": sum(one.bytes for one in reading),
            "last_at": max((one.last_at for one in reading), default=0.0),
            "timed": len(ages),
            "refused": self.refused,
            "lost": self.lost,
        }
        for name, share in (("p50_ms", 0.5), ("p99_ms", 0.99), ("max_ms", 1.0)):
            found[name] = ages[min(len(ages) - 1, int(len(ages) * share))] if ages else None
        self.ages_ms = array("d")
        self.refused = self.lost = 0
        for one in self.subscribers:
            one.events = one.bytes = 0
        return found


class Subscriber(asyncio.Protocol):
    """One socket."""

    __slots__ = ("bytes", "crowd", "cut", "events", "last_at", "number", "ready", "stalled", "tail", "transport")

    def __init__(self, crowd: Crowd, number: int) -> None:
        self.crowd, self.number = crowd, number
        self.stalled = number < crowd.job["stalled"]
        self.events = self.bytes = 0
        self.last_at = 0.0
        self.cut = self.tail = b""
        self.ready: asyncio.Future[bool] | None = None
        self.transport: asyncio.Transport | None = None

    async def connect(self, gate: asyncio.Semaphore) -> None:
        """Until the handshake is through; again after a while where it is refused."""
        job, loop = self.crowd.job, asyncio.get_running_loop()
        source = job["sources"][self.number % len(job["sources"])]
        while True:
            async with gate:
                self.cut = self.tail = b""
                ready = self.ready = loop.create_future()
                try:
                    outward = await dialled(source, job["host"], job["port"])
                    await loop.create_connection(lambda: self, sock=outward)
                    if await ready:
                        return
                except OSError:
                    self.crowd.refused += 1
            await asyncio.sleep(RETRY_S * random.uniform(1, 2))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        self.transport = transport  # type: ignore[assignment]  # uvloop has transports of its own
        if self.stalled:
            raw = transport.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, STALLED_RECEIVE_BYTES)
        transport.write(self.crowd.request(self.number))  # type: ignore[attr-defined]  # as above

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        crowd = self.crowd
        if self.ready is not None:
            ready, self.ready = self.ready, None
            if b" 101 " not in data[:32]:
                crowd.refused += 1
                ready.set_result(False)
                assert self.transport is not None
                self.transport.abort()
                return
            for text in crowd.job["hello"]:
                self.transport.write(masked(text.encode()))  # type: ignore[union-attr]  # it is connected
            ready.set_result(True)
            if self.stalled:
                self.transport.pause_reading()  # type: ignore[union-attr]  # as above
        self.bytes += len(data)
        if PING in data:
            self.transport.write(PONG)  # type: ignore[union-attr]  # as above
        mark = crowd.mark
        found = (self.cut + data).count(mark) if self.cut else data.count(mark)
        self.cut = data[-(len(mark) - 1) :]  # a mark may be cut in two; the rest of one is never a whole one
        if found:
            self.events += found
            self.last_at = time.perf_counter()
            if crowd.job["timed_every"] and self.number % crowd.job["timed_every"] == 0:
                self.time(data)

    def time(self, data: bytes) -> None:
        """How old the events in `data` are."""
        now_ns = time.perf_counter_ns()
        block = self.tail + data
        for sent in SENT.findall(block):
            self.crowd.ages_ms.append((now_ns - int(sent)) / 1e6)
        self.tail = block[-30:] if SENT.search(block[-30:]) is None else b""

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self.transport = None
        if self.ready is not None:
            ready, self.ready = self.ready, None
            self.crowd.refused += 1
            ready.set_result(False)
        else:
            self.crowd.lost += 1


async def dialled(source: str, host: str, port: int) -> socket.socket:
    """A connection from one of our addresses; OSError."""
    outward = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        outward.setblocking(False)
        outward.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        outward.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
        outward.bind((source, 0))
        await asyncio.get_running_loop().sock_connect(outward, (host, port))
    except BaseException:
        outward.close()
        raise
    return outward


def masked(payload: bytes) -> bytes:
    """A text frame of a client with a mask of zeros."""
    size = len(payload)
    head = struct.pack("!BB", 0x81, 0x80 | size) if size < 126 else struct.pack("!BBH", 0x81, 0xFE, size)
    return head + b"\0\0\0\0" + payload


async def run(job: dict[str, Any]) -> None:
    """Connect, then follow commands until standard input ends."""
    crowd = Crowd(job)
    crowd.subscribers = [Subscriber(crowd, number) for number in range(job["sockets"])]
    print(json.dumps({"ready": await crowd.connect_all(), "refused": crowd.refused}), flush=True)
    loop = asyncio.get_running_loop()
    while command := (await loop.run_in_executor(None, sys.stdin.readline)).strip():
        if command == "reconnect":
            for one in crowd.subscribers:
                if one.transport is not None:
                    one.transport.abort()
            await asyncio.sleep(0)
            print(json.dumps({"seconds": await crowd.connect_all(), "refused": crowd.refused}), flush=True)
        else:
            print(json.dumps(crowd.report()), flush=True)


if __name__ == "__main__":
    uvloop.run(run(json.loads(sys.stdin.readline())))
