"""Pages and summaries of stored relations and raw events: checks the request, reads, and names the next page."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from penstock.errors import PenstockError
from penstock.model.stream import Column, Relation, StreamSpec
from penstock.model.types import BIGINT
from penstock.ports.clock import Clock
from penstock.ports.log import Log
from penstock.ports.store import Applied, Store
from penstock_data.apply import is_stored
from penstock_data.cursors import cursor_text, read_cursor
from penstock_data.query import PageQuery, Scalar, parse_page_query
from penstock_data.raw import raw_page
from penstock_data.raw_archive import Archive
from penstock_data.raw_columns import raw_columns
from penstock_data.settings import QuerySettings
from penstock_data.statements import columns_of, order_of, page_statement, rows_statement
from penstock_data.stored_values import stored_value
from penstock_data.summaries import columns_read, parse_summary_query, summarise

__all__ = ["RAW", "DataReader", "Rows"]

Pairs = Sequence[tuple[str, str]]

_ONE = Column("one", BIGINT)  # what is read when only rows are counted

#: Prefix of the relation under which a source's events are read.
RAW = "raw."


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows to send with their columns; `next`: cursor of the next page; `complete_to_ms`: of a summary."""

    frame: pl.DataFrame
    columns: tuple[Column, ...]
    next: str | None = None
    complete_to_ms: int | None = None


class DataReader:
    """Answers requests; knows no HTTP."""

    def __init__(
        self,
        log: Log,
        store: Store,
        limits: QuerySettings,
        *,
        clock: Clock | None = None,
        archive: Archive | None = None,
    ) -> None:
        self._log, self._store, self._limits, self._clock, self._archive = log, store, limits, clock, archive

    async def version(self, relation: str) -> str:
        """Text that changes whenever a page or a summary of the relation may: what an ETag is made of."""
        if relation.startswith(RAW):
            spec = await self._source(relation)
            heads = [await self._log.head(spec.name, partition) for partition in range(spec.partitions)]
            return f"{spec}|{heads}"
        spec = await self.stored(relation)
        return f"{spec}|{_version(await self._store.applied(relation))}"

    async def relations(self) -> list[tuple[str, StreamSpec, tuple[Column, ...]]]:
        """(name, spec, columns) of everything that can be read, by name."""
        found = [(n, s, tuple(columns_of(s).values())) for n, s in (await self._store.relations()).items()]
        for name, spec in (await self._log.catalog()).streams.items():
            if spec.relation is Relation.SOURCE:
                found.append((RAW + name, spec, tuple(raw_columns(spec).values())))
        return sorted(found, key=lambda entry: entry[0])

    async def page(self, relation: str, pairs: Pairs) -> Rows:
        """One page of `/v1/data/{relation}`."""
        if relation.startswith(RAW):
            spec = await self._source(relation)
            query = parse_page_query(pairs, raw_columns(spec), self._limits)
            now_s = None if self._clock is None else self._clock.monotonic_s
            page = await raw_page(self._log, spec, query, self._limits, archive=self._archive, now_s=now_s)
            return Rows(page.frame, query.select, page.next)
        spec = await self.stored(relation)
        return await self._stored_page(spec, parse_page_query(pairs, columns_of(spec), self._limits))

    async def summary(self, relation: str, pairs: Pairs) -> Rows:
        """The rows of `/v1/summaries/{relation}`."""
        if relation.startswith(RAW):
            raise PenstockError("unknown_relation", f"'{relation}': summaries are over derived streams and tables")
        spec = await self.stored(relation)
        query = parse_summary_query(spec, columns_of(spec), pairs, limits=self._limits)
        needed, limit = columns_read(query), self._limits.summary_rows_max
        found = await self._store.select(
            relation,
            rows_statement(spec, needed, query.conditions, limit=limit + 1),
            needed or (_ONE,),
            row_limit=limit + 1,
            timeout_s=self._limits.time_s,
        )
        if found.frame.height > limit:
            raise PenstockError("too_large", f"more than {limit} rows to add up; narrow 'from' and 'to' or filter")
        rows = await asyncio.to_thread(summarise, query, found.frame, groups_max=self._limits.summary_groups_max)
        complete_to_ms = None if found.applied is None else found.applied.watermark_ms
        return Rows(rows, query.columns, complete_to_ms=complete_to_ms)

    async def spec(self, relation: str) -> StreamSpec:
        """The spec behind a relation, stored or raw; `unknown_relation` with what to do."""
        return await (self._source(relation) if relation.startswith(RAW) else self.stored(relation))

    async def stored(self, relation: str) -> StreamSpec:
        """The spec of a stored relation; `unknown_relation` with what to do."""
        spec = (await self._store.relations()).get(relation)
        if spec is not None:
            return spec
        streams = (await self._log.catalog()).streams
        known = streams.get(relation)
        if known is None:
            raise PenstockError("unknown_relation", f"there is no '{relation}'; GET /v1/data lists what there is")
        if is_stored(known):
            raise PenstockError("not_ready", f"'{relation}' is being prepared", retry_after_s=1.0)
        if known.relation is Relation.SOURCE:
            raise PenstockError("unknown_relation", f"'{relation}' is a source: read '{RAW}{relation}'")
        raise PenstockError("unknown_relation", f"'{relation}' is not stored: declare it with 'store' = 'true'")

    async def _source(self, relation: str) -> StreamSpec:
        name = relation.removeprefix(RAW)
        spec = (await self._log.catalog()).streams.get(name)
        if spec is None:
            raise PenstockError("unknown_relation", f"there is no stream '{name}'; GET /v1/data lists what there is")
        if spec.relation is not Relation.SOURCE:
            raise PenstockError("unknown_relation", f"'{name}' is derived, not raw: read '{name}'")
        return spec

    async def _stored_page(self, spec: StreamSpec, query: PageQuery) -> Rows:
        order = order_of(spec, query.order)
        scope = "|".join([spec.name, *(f"{o.column.name}:{o.column.type}:{o.descending}" for o in order)])
        after: list[Scalar | None] | None = None
        if query.cursor is not None:
            after = read_cursor(scope, query.cursor, [o.column.type for o in order])
        statement, columns = page_statement(
            spec, query.select, query.conditions, order=order, after=after, limit=query.limit + 1
        )
        found = await self._store.select(
            spec.name, statement, columns, row_limit=query.limit + 1, timeout_s=self._limits.time_s
        )
        rows = found.frame.head(query.limit)
        next_cursor = None
        if found.frame.height > query.limit:
            last = rows.row(-1, named=True)
            next_cursor = cursor_text(scope, [stored_value(last[o.column.name], o.column) for o in order])
        return Rows(rows.select([column.name for column in query.select]), query.select, next_cursor)


def _version(applied: Applied | None) -> Mapping[str, object]:
    if applied is None:
        return {}
    return {"epoch": applied.epoch, "next": sorted(applied.next.items()), "watermark": applied.watermark_ms}
