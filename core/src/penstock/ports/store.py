"""The store port: the SQL database behind the data service, filled from the log and rebuilt from it.

Callers: the applier (role data) writes; the data service and the publish gateway (rows of a table topic) read.
Adapter: `stores.sql` (SQLAlchemy; SQLite here, PostgreSQL later).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import polars as pl

from penstock.model.stream import StreamSpec

__all__ = ["Applied", "Apply", "Snapshot", "Store"]


@dataclass(frozen=True, slots=True)
class Applied:
    """How far a relation has been applied, per partition."""

    epoch: int
    next: Mapping[int, int]
    watermark_ms: int | None  # least over partitions: rows whose time is below are complete


@dataclass(frozen=True, slots=True)
class Apply:
    """Rows of one relation and partition, offsets [first, next): the frame has the spec's columns, `$op`, and for
    early tables `$pending`. `expected_next` is compared before anything is written (Fenced otherwise).
    """

    relation: str
    partition: int
    epoch: int
    expected_next: int | None
    first: int
    next: int
    frame: pl.DataFrame
    watermark_ms: int | None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Rows of a table as of `applied`, read in one transaction. The frame has the spec's columns and `$pending`."""

    frame: pl.DataFrame
    applied: Applied


class Store(Protocol):
    """Tables of relations with the position up to which they hold the log."""

    async def prepare(self, specs: Sequence[StreamSpec]) -> None:
        """Create the tables of these relations; recreate those whose columns or keys changed; drop those that left."""
        ...

    async def applied(self, relation: str) -> Applied | None:
        """How far the relation is; None before the first apply."""
        ...

    async def apply(self, changes: Sequence[Apply]) -> None:
        """Apply all changes and their positions in one transaction (compare-and-set on `expected_next`)."""
        ...

    async def snapshot(self, relation: str) -> Snapshot:
        """All rows of a table with a primary key; `unknown_relation` if it is not stored."""
        ...

    async def select(self, sql: object, parameters: Mapping[str, object], row_limit: int, timeout_s: float
                     ) -> list[Mapping[str, object]]:  # fmt: skip
        """Run one read-only SQLAlchemy selectable in a short read transaction."""
        ...

    async def close(self) -> None:
        """Release connections."""
        ...
