"""The store port: the SQL database behind the data service, filled from the log and rebuilt from it.

Callers: the applier (role data) writes; the data service and the publish gateway (rows of a table topic) read.
Adapter: `stores.sql` (SQLAlchemy; SQLite or PostgreSQL). One contract suite: `testing.store_contract`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import polars as pl

from penstock.model.stream import Column, StreamSpec
from penstock.ports.archive import ArchiveCatalogue

__all__ = ["Applied", "Apply", "Queried", "Selected", "Snapshot", "Store"]


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

    `expected_next` None: nothing of this epoch has been applied to the partition; rows of an older epoch are dropped.
    `first` may lie beyond `expected_next` when retention has deleted what was between. `offsets`: that of each row,
    where the log has offsets without events; None: the rows have every offset.
    """

    relation: str
    partition: int
    epoch: int
    expected_next: int | None
    first: int
    next: int
    frame: pl.DataFrame
    watermark_ms: int | None
    offsets: pl.Series | None = None  # Int64, of each row; None: one row an offset

    def row_offsets(self) -> pl.Series:
        """Offset of each row. ValueError if there are more or fewer rows than offsets."""
        known = self.offsets
        offsets = pl.int_range(self.first, self.next, dtype=pl.Int64, eager=True) if known is None else known
        if len(offsets) != self.frame.height:
            raise ValueError(f"{self.relation}: {self.frame.height} rows for offsets [{self.first}, {self.next})")
        return offsets


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Rows of a table as of `applied`, read in one transaction. The frame has the spec's columns and `$pending`."""

    frame: pl.DataFrame
    applied: Applied


@dataclass(frozen=True, slots=True)
class Selected:
    """What a select found, and how far the relation was applied in the same transaction."""

    frame: pl.DataFrame
    applied: Applied | None


@dataclass(frozen=True, slots=True)
class Queried:
    """What a query found; `truncated`: there is more."""

    frame: pl.DataFrame
    truncated: bool


class Store(ArchiveCatalogue, Protocol):
    """Tables of relations with the position up to which they hold the log, and the archive's catalogue.

    Errors: Fenced (positions moved), `store_unavailable` (disk, locks), `unknown_relation`, `query_timeout`.
    """

    async def prepare(self, specs: Sequence[StreamSpec], version: int, *, older: bool = False) -> None:
        """Create the tables of these relations; recreate those whose columns or keys changed; drop the others.

        `version` is that of the log's catalog that the specs are from. The store keeps it: Fenced, and nothing is
        changed, if another process has prepared a newer one. `older`: also go back, to the catalog of a log that was
        restored; only who was asked to (a rebuild) says so.
        """
        ...

    async def relations(self) -> Mapping[str, StreamSpec]:
        """The relations prepared, with the specs that their tables follow."""
        ...

    async def applied(self, relation: str) -> Applied | None:
        """How far the relation is; None before the first apply."""
        ...

    async def applied_all(self) -> Mapping[str, Applied]:
        """How far each prepared relation is, in one look; relations without a position are left out.

        What whoever trims the log must keep: nothing of a relation's stream is needed below `next` of its epoch.
        """
        ...

    async def apply(self, changes: Sequence[Apply]) -> None:
        """Apply all changes and their positions in one transaction (compare-and-set on `expected_next`).

        Durable when it returns. Within a table's frame the last row of a key wins. A change with first == next and
        no rows only moves the watermark, which never goes back.
        """
        ...

    async def snapshot(self, relation: str) -> Snapshot:
        """All rows of a table with a primary key; `unknown_relation` if it is not stored."""
        ...

    async def select(
        self, relation: str, statement: object, columns: Sequence[Column], *, row_limit: int, timeout_s: float
    ) -> Selected:
        """Run one SQLAlchemy select over `stores.tables.table_of` in a short read-only transaction.

        `columns` names and types the result's columns, in order. At most `row_limit` rows are returned;
        `query_timeout` after `timeout_s`.
        """
        ...

    async def query(
        self, statement: object, columns: Sequence[Column], *, row_limit: int, size_limit_bytes: int, timeout_s: float
    ) -> Queried:
        """Run one SQLAlchemy select for a caller, on connections that may only read tables of relations.

        `columns` as in `select`. Reading stops behind `row_limit` rows or `size_limit_bytes` of values; the last ones
        may go beyond by one fetch. `query_timeout` after `timeout_s`, `out_of_range` for a value that has no place in
        its type.
        """
        ...

    async def begin_rebuild(self, relation: str) -> StreamSpec:
        """A table beside the relation's own, empty, or as an earlier rebuild that was cut short has left it.

        Returns the spec under which it is filled (`apply_beside`, `applied`); queries do not see it. The relation
        goes on as it is. `unknown_relation` if it is not stored.
        """
        ...

    async def apply_beside(self, beside: StreamSpec, changes: Sequence[Apply]) -> None:
        """`apply` to the table of `begin_rebuild`."""
        ...

    async def finish_rebuild(self, relation: str, ends: Mapping[int, tuple[int, int]]) -> bool:
        """Put the table beside in force and drop the old one, in one transaction: queries see one or the other.

        `ends`: (epoch, next) of the log per partition. False, and nothing is changed, while the new table is behind
        the old one, but for partitions where the old one is ahead of the log itself. `conflict` if the relation was
        deployed anew meanwhile, or if there is no rebuild.
        """
        ...

    async def drop_rebuild(self, relation: str) -> None:
        """Give up: drop the table beside. Nothing happens if there is none."""
        ...

    def describe(self) -> Mapping[str, str]:
        """The database's settings as read back from it."""
        ...

    async def close(self) -> None:
        """Finish the write that was begun and release connections."""
        ...
