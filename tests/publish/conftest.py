"""A publish gateway on a free loopback port, with the clock in the test's hands."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import date
from pathlib import Path
from urllib.parse import urlencode

import aiohttp
import polars as pl
import pytest
from aiohttp import web
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from penstock.codecs.arrow import decode_frame, encode_frame
from penstock.logs.memory import MemoryLog
from penstock.model.batch import OP_COLUMN, PENDING_COLUMN, Encoding, NewBatch, Op
from penstock.model.stream import Column, Relation, StreamSpec
from penstock.model.types import BIGINT, DATE, STRING
from penstock.ports.log import Transaction
from penstock.ports.store import Apply, Store
from penstock.role import Ports
from penstock.stores.open import open_store
from penstock.testing.clock import ManualClock
from penstock_publish.authority import Authority, open_authority
from penstock_publish.service import build
from penstock_publish.settings import AuthSettings, PublishSettings


def loopback_socket() -> socket.socket:
    """A bound socket on a free port, so that the URL is known before the server is."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", 0))
    return sock


def url_of(sock: socket.socket) -> str:
    return f"http://127.0.0.1:{sock.getsockname()[1]}"


@asynccontextmanager
async def serving(sock: socket.socket, routes: Sequence[web.AbstractRouteDef]) -> AsyncIterator[str]:
    """Serve routes until the block ends."""
    application = web.Application()
    application.add_routes(routes)
    runner = web.AppRunner(application, shutdown_timeout=1)
    await runner.setup()
    await web.SockSite(runner, sock).start()
    try:
        yield url_of(sock)
    finally:
        await runner.cleanup()


def a_token(authority: Authority, scope: str, *, client_id: str = "tester") -> str:
    """A token without a round trip."""
    assert authority.embedded is not None
    return authority.embedded.issuer.issue(client_id, scope)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(1_700_000_000_000)


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:
        yield session


ORDERS = StreamSpec(
    name="orders",
    app="shop",
    relation=Relation.STREAM,
    columns=(Column("id", STRING), Column("n", BIGINT), Column("region", STRING)),
    key=("id",),
    publish=True,
    partitions=2,
)
ALERTS = replace(ORDERS, name="alerts", key=(), partitions=1, retention_s=3600.0)
CLICKS = replace(ORDERS, name="clicks", relation=Relation.SOURCE, partitions=1)
HIDDEN = replace(ORDERS, name="hidden", publish=False)
TOTALS = StreamSpec(
    name="totals",
    app="shop",
    relation=Relation.TABLE,
    columns=(Column("region", STRING, nullable=False), Column("day", DATE, nullable=False), Column("sum_n", BIGINT)),
    primary_key=("region", "day"),
    key=("region", "day"),
    publish=True,
    store=True,
    emit="early",
)
SPECS = (ORDERS, ALERTS, CLICKS, HIDDEN, TOTALS)


def orders_batch(rows: Sequence[tuple[str, int, str]], *, stream: str = "orders", partition: int = 0) -> NewBatch:
    """A batch of (id, n, region)."""
    frame = pl.DataFrame(rows, schema={"id": pl.String, "n": pl.Int64, "region": pl.String}, orient="row")
    frame = frame.with_columns(pl.lit(0, pl.Int8).alias(OP_COLUMN))
    return NewBatch(stream, partition, Encoding.ARROW, encode_frame(frame), len(rows))


def totals_batch(rows: Sequence[tuple[str, str, int | None, Op, bool]]) -> NewBatch:
    """A batch of (region, day, sum, op, pending)."""
    frame = pl.DataFrame(
        [(region, date.fromisoformat(day), total, int(op), pending) for region, day, total, op, pending in rows],
        schema={
            "region": pl.String,
            "day": pl.Date,
            "sum_n": pl.Int64,
            OP_COLUMN: pl.Int8,
            PENDING_COLUMN: pl.Boolean,
        },
        orient="row",
    )
    return NewBatch("totals", 0, Encoding.ARROW, encode_frame(frame), len(rows))


class Gateway:
    """A running role with its log and store, and shorthands for callers."""

    def __init__(
        self, data_dir: Path, authority: Authority, *, log: MemoryLog, store: Store, clock: ManualClock
    ) -> None:
        self.data_dir = data_dir
        self.authority, self.log, self.store, self.clock = authority, log, store, clock
        self.url = authority.public_url
        self.stop = asyncio.Event()
        self.term = 0
        self.routes: Sequence[web.AbstractRouteDef] = ()

    async def commit(self, *batches: NewBatch) -> None:
        """Append to derived streams."""
        await self.log.commit(Transaction("shop", self.term, appends=batches))

    async def orders(self, first: int, count: int, *, partition: int = 0, stream: str = "orders") -> None:
        """Rows n = first, first + 1, ... in one batch."""
        rows = [(f"k{n % 3}", n, "north" if n % 2 else "south") for n in range(first, first + count)]
        await self.commit(orders_batch(rows, stream=stream, partition=partition))

    def token(self, scope: str = "*:read") -> str:
        """A token without a round trip."""
        return a_token(self.authority, scope)

    def headers(self, scope: str = "*:read") -> dict[str, str]:
        """The header of a bearer."""
        return {"Authorization": f"Bearer {self.token(scope)}"}

    def subscribe(
        self, topic: str, *, headers: dict[str, str] | None = None, origin: str | None = None, **query: str
    ):
        """A WebSocket client's connection context."""
        url = f"{self.url.replace('http', 'ws', 1)}/v1/topics/{topic}?{urlencode(query)}"
        sent = self.headers() if headers is None else headers
        return connect(url, additional_headers=sent, origin=origin, compression=None, max_queue=None)

    async def apply(self, first: int, batch: NewBatch, *, epoch: int = 1) -> None:
        """Do the applier's work: the batch, whose first offset is `first`, into the store."""
        expected = None if first == 0 else first
        frame = decode_frame(batch.payload)
        await self.store.apply([Apply("totals", 0, epoch, expected, first, first + batch.count, frame, None)])

    async def pass_time(self, seconds: float, *, step_s: float = 0.5) -> None:
        """Move the clock and let the sweeper run."""
        while seconds > 0:
            await self.clock.advance(min(step_s, seconds))
            await asyncio.sleep(0.005)
            seconds -= step_s


@asynccontextmanager
async def running_gateway(data_dir: Path, clock: ManualClock, **settings: object) -> AsyncIterator[Gateway]:
    """Start a gateway and stop it."""
    sock = loopback_socket()
    authority = await open_authority(data_dir, AuthSettings(), clock=clock, public_url=url_of(sock))
    log = MemoryLog(clock=clock)
    store = await asyncio.to_thread(open_store, f"sqlite:///{data_dir}", clock=clock)
    await store.prepare([TOTALS], 1)
    gateway = Gateway(data_dir, authority, log=log, store=store, clock=clock)
    await log.put_app("shop", "-- shop", SPECS, None)
    gateway.term = (await log.acquire("shop")).term
    role = build(
        PublishSettings.model_validate(settings), Ports(log, store, clock, authority.access), authority=authority
    )
    running = asyncio.create_task(role.run(gateway.stop))
    gateway.routes = [*authority.routes(), *role.routes()]
    async with serving(sock, gateway.routes):
        try:
            yield gateway
        finally:
            gateway.stop.set()
            await running
    await authority.close()
    await store.close()


@pytest.fixture
async def gateway(tmp_path, clock, request) -> AsyncIterator[Gateway]:
    """Parametrize indirectly with a dict to change settings."""
    async with running_gateway(tmp_path, clock, **getattr(request, "param", {})) as running:
        yield running


async def receive(ws, count: int) -> list[dict[str, object]]:
    """The next messages, decoded."""
    return [json.loads(await asyncio.wait_for(ws.recv(), 5)) for _ in range(count)]


async def events(ws, count: int) -> list[dict[str, object]]:
    """The next events; notices are skipped."""
    found: list[dict[str, object]] = []
    while len(found) < count:
        [message] = await receive(ws, 1)
        if "sys" not in message:
            found.append(message)
    return found


async def close_of(ws) -> tuple[int | None, dict[str, object]]:
    """Read to the close frame: its code and reason."""
    async with asyncio.timeout(5):
        while True:
            try:
                await ws.recv()
            except ConnectionClosed as closed:
                return closed.rcvd.code, json.loads(closed.rcvd.reason or "{}")
