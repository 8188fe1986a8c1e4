"""What tests of the ingest gateway hold in hand: a running gateway, and the stream that most of them use."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import aiohttp
import msgspec

from penstock.codecs.ndjson import decode_lines
from penstock.logs.memory import MemoryLog
from penstock.model.batch import NewBatch, RejectedEvent
from penstock.model.position import Position
from penstock.model.stream import Column, Relation, StreamSpec
from penstock.model.types import BIGINT, DOUBLE, STRING, TIMESTAMP
from penstock.ports.log import RejectedFilter
from penstock.testing.clock import ManualClock
from penstock_ingest.service import IngestRole

COLUMNS = (
    Column("id", STRING),
    Column("market", STRING),
    Column("price", DOUBLE),
    Column("lots", BIGINT),
    Column("ts", TIMESTAMP),
)
ARRIVALS = StreamSpec("arrivals", "app", Relation.SOURCE, COLUMNS, time_column="ts", key=("market",), dedupe=("id",))


@dataclass
class Edge:
    """A running gateway and the client's view of it."""

    role: IngestRole
    log: Any
    clock: ManualClock
    http: aiohttp.ClientSession

    async def post(
        self, body: Any, *, stream: str = "arrivals", kind: str | None = "application/json", **headers: str
    ) -> tuple[int, dict[str, Any]]:
        """Status and reply of one request; `kind` None sends no Content-Type."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if kind is not None:
            sent["Content-Type"] = kind
        data = body if isinstance(body, bytes) else msgspec.json.encode(body)
        async with self.http.post(
            f"/v1/streams/{stream}/events", data=data, headers=sent, skip_auto_headers=["Content-Type"]
        ) as reply:
            return reply.status, await reply.json(content_type=None)

    async def lines(self, body: bytes, *, stream: str = "arrivals") -> tuple[int, dict[str, Any]]:
        """The same for NDJSON."""
        return await self.post(body, stream=stream, kind="application/x-ndjson")

    async def stored(self, stream: str = "arrivals", partition: int = 0) -> list[bytes]:
        """The stored lines of a partition."""
        batches = await self.log.read(stream, partition, 0, 1 << 30)
        return [line for batch in batches for line in decode_lines(batch.payload).split(b"\n")]

    async def rejected(self) -> list[RejectedEvent]:
        """Rejected events, newest first."""
        return cast(list[RejectedEvent], await self.log.rejected(RejectedFilter(limit=1000)))


MakeEdge = Callable[..., Awaitable[Edge]]


class HeldLog(MemoryLog):
    """A memory log whose appends wait for the test, and end as the test says."""

    def __init__(self, *, clock: ManualClock) -> None:
        super().__init__(clock=clock)
        self.gate = asyncio.Event()
        self.gate.set()
        self.waiting = 0
        self.fail_before: Exception | None = None
        self.fail_after: Exception | None = None

    async def append(
        self, batches: Sequence[NewBatch], rejected: Sequence[RejectedEvent] = (), replayed: Sequence[str] = ()
    ) -> list[Position]:
        """As the memory log, once the gate is open; then the failure that was set, once."""
        self.waiting += 1
        await self.gate.wait()
        self.waiting -= 1
        before, self.fail_before = self.fail_before, None
        if before is not None:
            raise before
        positions = await super().append(batches, rejected, replayed)
        after, self.fail_after = self.fail_after, None
        if after is not None:
            raise after
        return positions

    async def until_waiting(self, count: int) -> None:
        """Return once that many appends wait at the gate."""
        await until(lambda: self.waiting >= count)


async def until(condition: Callable[[], bool]) -> None:
    """Return once the condition holds."""
    while not condition():  # noqa: ASYNC110 # what is watched has no event to wait for
        await asyncio.sleep(0.001)
