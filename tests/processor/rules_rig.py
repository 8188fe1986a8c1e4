"""The processor with rules on some log: an app with a source, a stream and two tables, and requests about rules."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import polars as pl
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from penstock.codecs.arrow import decode_frame
from penstock.codecs.ndjson import encode_lines
from penstock.model.batch import Encoding, NewBatch
from penstock.ports.clock import Clock
from penstock.ports.log import Log
from penstock.role import Ports
from penstock.testing.access import OpenAccess
from penstock_processor.rules.model import rules_app
from penstock_processor.service import ProcessorRole, build
from penstock_processor.settings import ProcessorSettings

__all__ = ["APP", "System", "lot", "system_on"]

APP = """CREATE TABLE lots (
  market STRING, price DOUBLE, n INT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '1' SECOND
) WITH ('connector' = 'penstock', 'key' = 'market', 'partitions' = '{partitions}');
CREATE TABLE cheap WITH ('connector' = 'penstock') AS SELECT market, price FROM lots WHERE price < 500;
CREATE TABLE totals (market STRING, lots BIGINT, t TIMESTAMP(3), PRIMARY KEY (market, t) NOT ENFORCED
) WITH ('connector' = 'penstock', 'emit' = 'early');
INSERT INTO totals SELECT market, COUNT(*), window_start
FROM TABLE(TUMBLE(TABLE lots, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) GROUP BY market, window_start, window_end;
"""


class System:
    """The processor role, served on a free loopback port."""

    def __init__(self, client: TestClient[web.Request, web.Application], role: ProcessorRole, log: Log) -> None:
        self.client = client
        self.role = role
        self.log = log

    async def deploy(self, text: str = "", *, partitions: int = 1) -> None:
        await self.role.deploy("produce", text or APP.format(partitions=partitions))

    async def call(
        self, method: str, path: str, body: object = None, **headers: str
    ) -> tuple[int, Any, Mapping[str, str]]:
        data = None if body is None else msgspec.json.encode(body)
        async with self.client.request(method, f"/v1/rules{path}", data=data, headers=headers) as reply:
            text = await reply.read()
            return reply.status, msgspec.json.decode(text) if text else None, reply.headers

    async def put(self, name: str, predicate: str = "price > 100", **more: object) -> dict[str, Any]:
        body = {"source": "lots", "predicate": predicate, "target": "alerts", **more}
        status, answer, _ = await self.call("PUT", f"/{name}", body)
        assert status in (200, 201), answer
        return answer  # type: ignore[no-any-return]  # JSON

    async def rule(self, name: str) -> dict[str, Any]:
        status, answer, _ = await self.call("GET", f"/{name}")
        assert status == 200, answer
        return answer  # type: ignore[no-any-return]  # JSON

    async def send(self, *events: dict[str, Any], partition: int = 0) -> None:
        lines = [msgspec.json.encode(event) for event in events]
        await self.log.append([NewBatch("lots", partition, Encoding.NDJSON_ZSTD, encode_lines(lines), len(lines))])

    async def rows(self, stream: str) -> list[dict[str, Any]]:
        batches = await self.log.read(stream, 0, 0, 1 << 30, 1 << 20)
        return pl.concat([decode_frame(b.payload) for b in batches if b.count]).to_dicts() if batches else []

    async def caught_up(self, source: str = "lots", *apps: str) -> None:
        """Until the rules of the source (and these apps) have committed what the log holds of it."""

        async def done() -> bool:
            for app in apps or (rules_app(source),):
                at = await self.log.positions(app)
                spec = (await self.log.catalog()).streams[source]
                for n in range(spec.partitions):
                    if at.get((source, n)) != (await self.log.head(source, n)).next:
                        return False
            return True

        await self.until(done)

    async def until(self, condition: Callable[[], Awaitable[object]]) -> None:
        for _ in range(4000):
            if await condition():
                return
            await asyncio.sleep(0.002)
        raise AssertionError("it did not happen")


@asynccontextmanager
async def system_on(
    log: Log, clock: Clock, *, routes: Sequence[web.AbstractRouteDef] = (), **settings: Any
) -> AsyncIterator[System]:
    """The role until the end of the block; `routes` are served beside its own."""
    # The store is not a port that this role uses.
    ports = Ports(log=log, store=None, clock=clock, access=OpenAccess())  # type: ignore[arg-type]  # see above
    role = build(ProcessorSettings(wait_s=0.05, **settings), ports)
    application = web.Application()
    application.add_routes([*role.routes(), *routes])
    stop = asyncio.Event()
    task = asyncio.create_task(role.run(stop))
    async with TestClient(TestServer(application)) as client:
        try:
            yield System(client, role, log)
        finally:
            stop.set()
            await asyncio.wait_for(task, 10)


def lot(market: str, price: float | None, n: int | None = 1, second: int = 0) -> dict[str, Any]:
    """An event of `lots`."""
    return {"market": market, "price": price, "n": n, "ts": f"2018-01-01T00:{second // 60:02}:{second % 60:02}.000"}
