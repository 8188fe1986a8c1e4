"""A processor on a log of the test, with deliveries to systems of others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from penstock.codecs.ndjson import encode_lines
from penstock.errors import LogUnavailable
from penstock.logs.memory import MemoryLog
from penstock.model.batch import Encoding, NewBatch, RejectedEvent
from penstock.model.position import Position
from penstock.ports.clock import SystemClock
from penstock.ports.log import Log, RejectedFilter, Transaction
from penstock.role import Ports
from penstock.testing.access import OpenAccess
from penstock_processor.compile.build import build_engine
from penstock_processor.runtime.delivery import Delivery
from penstock_processor.service import ProcessorRole
from penstock_processor.settings import DeliverySettings, ProcessorSettings

SOURCE = "CREATE TABLE lots (id BIGINT, market STRING, price DOUBLE) WITH ('connector' = 'penstock');\n"


class CutLog(MemoryLog):
    """The memory log; `cuts` of the next commits of deliveries do not take place, as if the process had been killed
    between the delivery and its commit.
    """

    def __init__(self) -> None:
        super().__init__(clock=SystemClock())
        self.cuts = 0

    async def commit(self, transaction: Transaction) -> list[Position]:
        moved = any(consumed.expected != consumed.next for consumed in transaction.consumed)
        if "#" in transaction.app and self.cuts and moved and transaction.consumed[0].expected is not None:
            self.cuts -= 1
            raise LogUnavailable("the test cut it off before the commit")
        return await super().commit(transaction)


class Rig:
    """A running processor. Rows go into the source `lots`, deliveries come out at the other end."""

    def __init__(self, log: Log, folder: Path | None) -> None:
        self.log = log
        delivery = DeliverySettings(retry_min_s=0.01, retry_max_s=0.05, stop_grace_s=0.2)
        settings = ProcessorSettings(
            wait_s=0.05, retry_min_s=0.01, small_cycle_share=1.0, delivery=delivery, secrets_folder=folder
        )
        # The store is not a port that this role uses.
        ports = Ports(log=log, store=None, clock=SystemClock(), access=OpenAccess())  # type: ignore[arg-type]  # see above
        self.role = ProcessorRole(settings, ports, build_engine=build_engine, member="one")

    async def send(self, rows: Sequence[dict[str, Any]], stream: str = "lots") -> None:
        lines = [msgspec.json.encode(row) for row in rows]
        await self.log.append([NewBatch(stream, 0, Encoding.NDJSON_ZSTD, encode_lines(lines), len(lines), ids=b"")])

    @property
    def delivery(self) -> Delivery:
        (only,) = self.role.replica.apps["shop"].deliveries.here
        return only

    async def rejected(self) -> list[RejectedEvent]:
        return await self.log.rejected(RejectedFilter(limit=1000))

    async def position(self, stream: str) -> int | None:
        """How far deliveries of partition 0 have committed."""
        return (await self.log.positions(f"shop#{stream}.0")).get((stream, 0))

    async def caught_up(self, stream: str) -> None:
        """Until all sources are processed and what they gave is delivered."""
        for _ in range(2000):
            lags = await self.role.lag_events("shop")
            if not any(lags.values()) and await self.position(stream) == (await self.log.head(stream, 0)).next:
                return
            await asyncio.sleep(0.005)
        raise AssertionError(f"not delivered: {self.delivery.state} {self.delivery.detail}")


@asynccontextmanager
async def processor(sql: str, log: Log | None = None, folder: Path | None = None) -> AsyncIterator[Rig]:
    """The app `shop` with this text, running."""
    rig = Rig(log or CutLog(), folder)
    stop = asyncio.Event()
    running = asyncio.create_task(rig.role.run(stop))
    try:
        await rig.role.deploy("shop", sql)
        yield rig
    finally:
        stop.set()
        await running


async def until(condition: Callable[[], object]) -> None:
    for _ in range(2000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it did not happen")
