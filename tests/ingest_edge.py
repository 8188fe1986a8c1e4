"""What tests of the ingest gateway hold in hand: a running gateway, and the stream that most of them use."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, cast

import aiohttp
import msgspec

from penstock.codecs.ndjson import decode_lines
from penstock.model.batch import RejectedEvent
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
