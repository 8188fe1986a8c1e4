"""For tests of the role data: relations, and one app in a memory log with the role over it and a store in a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import msgspec
import polars as pl

from penstock.codecs.arrow import encode_frame
from penstock.codecs.frames import polars_schema
from penstock.codecs.ndjson import encode_lines
from penstock.logs.memory import MemoryLog
from penstock.model.batch import OP_COLUMN, PENDING_COLUMN, Encoding, NewBatch, Op
from penstock.model.stream import Column, Relation, StreamSpec
from penstock.model.types import BIGINT, BOOLEAN, DATE, DOUBLE, STRING, TIMESTAMP, decimal
from penstock.ports.clock import SystemClock
from penstock.ports.log import Transaction
from penstock.ports.store import Store
from penstock.role import Ports
from penstock.testing.access import OpenAccess
from penstock_data.service import DataRole, build
from penstock_data.settings import ApplierSettings, DataSettings, QuerySettings, SqlSettings

JAN_1_MS = 1_514_764_800_000  # 2018-01-01T00:00:00Z

LOTS = StreamSpec(
    name="lots",
    app="markets",
    relation=Relation.STREAM,
    columns=(
        Column("market", STRING),
        Column("tonnes", DOUBLE),
        Column("price", decimal(10, 2)),
        Column("bags", BIGINT),
        Column("organic", BOOLEAN),
        Column("harvested", DATE),
        Column("ts", TIMESTAMP),
    ),
    time_column="ts",
    store=True,
)

DAILY = StreamSpec(
    name="daily",
    app="markets",
    relation=Relation.TABLE,
    columns=(
        Column("state", STRING, nullable=False),
        Column("day_start", TIMESTAMP, nullable=False),
        Column("tonnes", DOUBLE),
        Column("limit", BIGINT),
    ),
    primary_key=("state", "day_start"),
    store=True,
    emit="early",
)

ARRIVALS = StreamSpec(
    name="arrivals",
    app="markets",
    relation=Relation.SOURCE,
    columns=(
        Column("market", STRING),
        Column("tonnes", DOUBLE),
        Column("price", decimal(10, 2)),
        Column("ts", TIMESTAMP),
    ),
    time_column="ts",
    key=("market",),
)


class Harness:
    """One app in a memory log, the role data over it, and short ways to write."""

    def __init__(self, store: Store, url: str) -> None:
        self.log = MemoryLog(clock=SystemClock())
        self.store, self.url = store, url
        self.term = 0

    def role(self, sql: SqlSettings | None = None, **query: Any) -> DataRole:
        """The role with quick pauses."""
        settings = DataSettings(
            applier=ApplierSettings(pause_s=0, wait_s=0.05, retry_s=0.01),
            query=QuerySettings(**query),
            sql=sql or SqlSettings(),
        )
        role = build(settings, Ports(self.log, self.store, SystemClock(), OpenAccess()))
        assert isinstance(role, DataRole)
        return role

    async def deploy(self, *specs: StreamSpec) -> None:
        await self.log.put_app("markets", "", specs, None)
        self.term = (await self.log.acquire("markets")).term

    async def derive(
        self,
        spec: StreamSpec,
        rows: Sequence[tuple[Any, ...]],
        *,
        partition: int = 0,
        watermark_ms: int | None = None,
    ) -> None:
        """Commit rows of (columns..., op[, pending]) as one batch of a derived relation."""
        schema: dict[str, pl.DataType] = {**polars_schema(spec.columns), OP_COLUMN: pl.Int8()}
        if spec.emit == "early":
            schema[PENDING_COLUMN] = pl.Boolean()
        frame = pl.DataFrame(list(rows), schema=schema, orient="row")
        batch = NewBatch(spec.name, partition, Encoding.ARROW, encode_frame(frame), frame.height)
        await self.log.commit(Transaction("markets", self.term, appends=[replace(batch, watermark_ms=watermark_ms)]))

    async def receive(self, spec: StreamSpec, lines: Sequence[bytes], *, partition: int = 0) -> None:
        """Append events as received to a source stream."""
        batch = NewBatch(spec.name, partition, Encoding.NDJSON_ZSTD, encode_lines(lines), len(lines))
        await self.log.append([batch])

    async def catch_up(self, role: DataRole) -> None:
        """Rounds of the applier until nothing is new."""
        while await role.applier.round():
            pass


def ndjson(event: dict[str, Any]) -> bytes:
    return msgspec.json.encode(event)


def inserted(*rows: tuple[Any, ...]) -> list[tuple[Any, ...]]:
    return [(*row, Op.INSERT) for row in rows]
