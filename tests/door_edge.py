"""A door on a real port, and a service behind it that does what its paths say."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from penstock.http.listener import HttpSettings, Listener
from penstock.ports.clock import SystemClock
from penstock_publish.authority import Authority, open_authority
from penstock_publish.door.routes import Door
from penstock_publish.settings import AuthSettings, DoorSettings

__all__ = ["DoorEdge", "Service", "open_door"]


class Service:
    """Answers 201 with what it saw; `silent`, `broken`, `trickle`, `endless` do what they say.

    With `refusal` it answers everything but `/livez` with 503 and this code.
    """

    def __init__(self, refusal: str = "") -> None:
        self.refusal = refusal
        self.hangs_up = False
        self.seen: list[dict[str, Any]] = []
        self.go_on = asyncio.Event()
        self.written_bytes = 0
        self.port = 0
        self._listener: Listener | None = None

    async def start(self) -> None:
        self._listener = Listener(HttpSettings(port=self.port, drain_s=0.2))
        self.port = self._listener.port
        await self._listener.serve(
            [
                web.get("/livez", self._alive),
                web.get("/v1/streams/silent", self._silent),
                web.get("/v1/streams/broken", self._broken),
                web.get("/v1/streams/trickle", self._trickle),
                web.get("/v1/streams/endless", self._endless),
                web.get("/v1/streams/s/connect", self._connect),
                web.route("*", "/{rest:.+}", self._echo),
            ]
        )

    async def stop(self) -> None:
        assert self._listener is not None
        await self._listener.close()

    async def _alive(self, request: web.Request) -> web.Response:
        return web.Response()

    async def _echo(self, request: web.Request) -> web.Response:
        body = b"".join([chunk async for chunk in request.content.iter_any()])
        seen = {"method": request.method, "path": request.raw_path, "headers": dict(request.headers)}
        self.seen.append(seen)
        if self.hangs_up:
            assert request.transport is not None
            request.transport.abort()
        if self.refusal:
            return web.json_response({"code": self.refusal}, status=503, headers={"Retry-After": "1"})
        return web.json_response({**seen, "body": body.decode()}, status=201, headers={"ETag": '"7"'})

    async def _silent(self, request: web.Request) -> web.Response:
        await asyncio.sleep(5)
        return web.Response()

    async def _broken(self, request: web.Request) -> web.StreamResponse:
        reply = web.StreamResponse(headers={"Content-Length": "1000"})
        await reply.prepare(request)
        await reply.write(b"half")
        await asyncio.sleep(0.05)
        assert request.transport is not None
        request.transport.abort()
        return reply

    async def _trickle(self, request: web.Request) -> web.StreamResponse:
        reply = web.StreamResponse()
        await reply.prepare(request)
        await reply.write(b"first")
        await self.go_on.wait()
        await reply.write(b"second")
        return reply

    async def _endless(self, request: web.Request) -> web.StreamResponse:
        reply = web.StreamResponse()
        await reply.prepare(request)
        try:
            while True:
                await reply.write(b"x" * 65_536)
                self.written_bytes += 65_536
        except ConnectionError:
            return reply

    async def _connect(self, request: web.Request) -> web.StreamResponse:
        if "refuse" in request.query:
            return web.Response(status=401, headers={"WWW-Authenticate": 'Bearer realm="penstock"'})
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            if message.type is aiohttp.WSMsgType.BINARY:
                await socket.send_bytes(message.data)
            elif message.data == "die":
                assert request.transport is not None
                request.transport.abort()
            elif message.data.startswith("close"):
                await socket.close(code=int(message.data.split()[1]))
            else:
                await socket.send_str(f"{request.headers.get('Authorization')}: {message.data}")
        return socket


@dataclass
class DoorEdge:
    """The door, how to call it, and what is behind it."""

    door: Door
    service: Service
    authority: Authority
    http: aiohttp.ClientSession
    url: str
    port: int
    stop: asyncio.Event
    running: asyncio.Task[None]

    def token(self, scope: str) -> str:
        assert self.authority.embedded is not None
        return self.authority.embedded.issuer.issue("tester", scope)


@asynccontextmanager
async def open_door(folder: Path, settings: DoorSettings, *before: Service) -> AsyncIterator[DoorEdge]:
    """A door to a service that takes the paths of ingest and of the processor; `before`: replicas that are named
    first, which the caller starts and stops.
    """
    clock = SystemClock()
    service = Service()
    await service.start()
    urls = [f"http://127.0.0.1:{one.port}" for one in (*before, service)]
    listener = Listener(HttpSettings(port=0, drain_s=1))
    authority = await open_authority(folder, AuthSettings(), clock=clock, public_url=listener.url)
    door = Door({"ingest": urls, "processor": urls}, authority, clock=clock, settings=settings)
    await listener.serve(door.routes())
    stop = asyncio.Event()
    running = asyncio.create_task(door.run(stop))
    await asyncio.sleep(0)
    jar = aiohttp.DummyCookieJar()
    try:
        async with aiohttp.ClientSession(listener.url, cookie_jar=jar) as http:
            yield DoorEdge(door, service, authority, http, listener.url, listener.port, stop, running)
    finally:
        service.go_on.set()
        stop.set()
        await asyncio.wait([running], timeout=5)
        await listener.close()
        await service.stop()
        await authority.close()
