"""An HTTP endpoint of others, on a free loopback port, that answers as a test wants it to."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from aiohttp import web

__all__ = ["Receiver", "receiver"]


class Receiver:
    """An endpoint that answers by `answer`: a status, or None to stall."""

    def __init__(self) -> None:
        self.requests: list[tuple[dict[str, str], bytes]] = []
        self.taken: list[Any] = []
        self.answer: Callable[[Any], int | None] = lambda _: 200
        self.retry_after = ""
        self.url = ""
        self.released = asyncio.Event()  # a stalled request is answered when it is set
        self.accepted: list[tuple[str, Any]] = []  # what was taken, with the query that it came with
        self.together = 0  # the most requests that were there at once with one query
        self._there: Counter[str] = Counter()

    async def handle(self, request: web.Request) -> web.Response:
        query = request.query_string
        self._there[query] += 1
        self.together = max(self.together, self._there[query])
        try:
            return await self._answer(request, query)
        finally:
            self._there[query] -= 1

    async def _answer(self, request: web.Request, query: str) -> web.Response:
        body = await request.read()
        self.requests.append((dict(request.headers), body))
        lines = request.content_type == "application/x-ndjson"
        found = [msgspec.json.decode(line) for line in body.splitlines()] if lines else msgspec.json.decode(body)
        status = self.answer(found)
        if status is None:
            await self.released.wait()
            return web.Response(status=504)
        if 200 <= status < 300:
            self.taken += found if isinstance(found, list) else [found]
            self.accepted.append((query, found))
        headers = {"Retry-After": self.retry_after} if self.retry_after else {}
        return web.Response(status=status, text=f"status {status} it is", headers=headers)

    @property
    def ids(self) -> list[int]:
        return [row["id"] for row in self.taken]


@asynccontextmanager
async def receiver() -> AsyncIterator[Receiver]:
    """On a free loopback port."""
    found = Receiver()
    app = web.Application(client_max_size=64 * 1024 * 1024)
    app.router.add_route("*", "/hook", found.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    found.url = f"http://{host}:{port}/hook"
    try:
        yield found
    finally:
        found.released.set()
        await runner.cleanup()
