"""A gateway whose WebSockets tests hold in hand: real sockets and tokens, a clock and a log that the test moves."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, cast

from ingest_edge import ARRIVALS, HeldLog, until
from token_issuer import TokenMaker
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from penstock.codecs.ndjson import decode_lines
from penstock.http.credentials import JwtAccess
from penstock.http.listener import HttpSettings, Listener
from penstock.http.tokens import TokenVerifier
from penstock.model.stream import StreamSpec
from penstock.ports.store import Store
from penstock.role import Ports
from penstock.testing.clock import ManualClock
from penstock_ingest.service import IngestRole, build
from penstock_ingest.settings import IngestSettings

__all__ = ["SocketEdge", "ended", "event", "notice", "replies", "running_edge"]


def event(number: int, **members: object) -> dict[str, object]:
    """An event of `arrivals` with an id of its own."""
    return {"id": f"e{number}", "market": "m", "price": 1.5, "lots": number, "ts": 1_514_764_800_000, **members}


@dataclass
class SocketEdge:
    """A running role, how to call it, and what it rests on."""

    role: IngestRole
    log: HeldLog
    clock: ManualClock
    url: str
    maker: TokenMaker
    revoked: dict[str, float]
    stop: asyncio.Event
    running: asyncio.Task[None]

    def token(self, **claims: object) -> str:
        """One that may send events."""
        return self.maker.token(**{"scope": "ingest:write", **claims})

    def socket(
        self, query: str = "", *, stream: str = "arrivals", token: str | None = None, **options: Any
    ) -> connect:
        """`token` empty: without the header."""
        token = self.token() if token is None else token
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        headers |= options.pop("headers", {})
        url = f"{self.url.replace('http', 'ws', 1)}/v1/streams/{stream}/connect{query}"
        return connect(url, additional_headers=headers, compression=None, max_queue=None, **options)

    async def stored(self, stream: str = "arrivals", partition: int = 0) -> list[str]:
        """Ids of what is stored, in order."""
        batches = await self.log.read(stream, partition, 0, 1 << 30)
        return [json.loads(line)["id"] for batch in batches for line in decode_lines(batch.payload).split(b"\n")]

    async def pass_time(self, seconds: float) -> None:
        """In steps, as a sweep sleeps again after each."""
        for _ in range(round(seconds / 0.25)):
            await self.clock.advance(0.25)
            await asyncio.sleep(0.002)


@asynccontextmanager
async def running_edge(*specs: StreamSpec, **settings: object) -> AsyncIterator[SocketEdge]:
    """`settings`: of `ingest`."""
    clock = ManualClock()
    log = HeldLog(clock=clock)
    await log.put_app("app", "", specs or (ARRIVALS,), None)
    maker = TokenMaker("http://issuer.example", clock)
    revoked: dict[str, float] = {}
    verifier = TokenVerifier(
        {maker.kid: type(maker.key).import_key(maker.jwk())},  # type: ignore[arg-type]  # a key's dict
        issuer=maker.issuer,
        audience="penstock",
        clock=clock,
        revoked=revoked,
        leeway_s=5,
        cache_max=100,
    )
    listener = Listener(HttpSettings(port=0, drain_s=1))
    access = JwtAccess(verifier, public_url=listener.url)
    role = build(IngestSettings.model_validate(settings), Ports(log, cast(Store, None), clock, access))
    await listener.serve(role.routes())
    stop = asyncio.Event()
    running = asyncio.create_task(role.run(stop))
    await until(lambda: role.ready()[0].ok)
    try:
        yield SocketEdge(role, log, clock, listener.url, maker, revoked, stop, running)
    finally:
        log.gate.set()
        stop.set()
        while not running.done():
            await clock.advance(0.25)
            await asyncio.sleep(0.001)
        await running
        await listener.close()


async def replies(ws: ClientConnection, count: int) -> list[dict[str, Any]]:
    """The next replies to messages; notices are left out."""
    found: list[dict[str, Any]] = []
    while len(found) < count:
        line = json.loads(await ws.recv())
        if "sys" not in line:
            found.append(line)
    return found


async def notice(ws: ClientConnection) -> dict[str, Any]:
    """The next line, which is a notice."""
    line = json.loads(await ws.recv())
    assert "sys" in line, line
    return cast(dict[str, Any], line)


async def ended(ws: ClientConnection) -> tuple[int | None, dict[str, Any]]:
    """Close code and reason; lines that come before are left out."""
    try:
        while True:
            await ws.recv()
    except ConnectionClosed:
        return ws.close_code, json.loads(ws.close_reason or "{}")
