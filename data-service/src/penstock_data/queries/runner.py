"""Runs queries: what the names mean, who may read it, a turn, the store."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl
from sqlglot import exp

from penstock.errors import PenstockError, SqlErrors
from penstock.http.access import Principal
from penstock.model.stream import Column, Relation, StreamSpec
from penstock.ports.clock import Clock
from penstock.ports.log import Log
from penstock.ports.store import Store
from penstock_data.apply import is_stored
from penstock_data.metrics import SQL_REFUSED, SQL_ROWS
from penstock_data.queries.refusals import closest_of, refused
from penstock_data.queries.request import QueryRequest
from penstock_data.queries.translate import translate
from penstock_data.settings import SqlSettings
from penstock_data.turns import Turns

__all__ = ["QueryRunner", "Result"]


@dataclass(frozen=True, slots=True)
class Result:
    """Rows of a query with their columns; `truncated`: there are more."""

    frame: pl.DataFrame
    columns: tuple[Column, ...]
    truncated: bool


class QueryRunner:
    """Answers queries; knows no HTTP."""

    def __init__(self, log: Log, store: Store, limits: SqlSettings, *, clock: Clock) -> None:
        self._log, self._store, self._limits, self._clock = log, store, limits, clock
        self._turns = Turns(limits)

    async def run(
        self, principal: Principal, request: QueryRequest, *, hidden: frozenset[str] = frozenset()
    ) -> Result:
        """The rows; `hidden`: relations that are not there for this caller.

        Errors: SqlErrors with places, `insufficient_scope`, `query_timeout`, `out_of_range`, `too_many_requests`.
        """
        _check_unfiltered(principal)
        relations = _Stored(
            _without(hidden, await self._store.relations()), _without(hidden, (await self._log.catalog()).streams)
        )
        try:
            found = await asyncio.to_thread(
                translate,
                request.sql,
                request.params,
                relations,
                limits=self._limits,
                now_ms=self._clock.now_ms(),
            )
        except SqlErrors as error:
            SQL_REFUSED.labels(error.errors[0].code).inc()
            raise
        async with self._turns.turn():
            rows = await self._store.query(
                found.select,
                found.columns,
                row_limit=self._limits.rows_max,
                size_limit_bytes=self._limits.reply_max_bytes,
                timeout_s=self._limits.time_s,
            )
        SQL_ROWS.inc(rows.frame.height)
        return Result(rows.frame, found.columns, rows.truncated)


class _Stored:
    """Implements `scope.Relations` over what the store holds and what the log's catalog declares."""

    def __init__(self, stored: Mapping[str, StreamSpec], declared: Mapping[str, StreamSpec]) -> None:
        self._stored, self._declared = stored, declared

    def spec(self, name: str, at: exp.Expr) -> StreamSpec:
        """See `scope.Relations`."""
        spec = self._stored.get(name)
        if spec is not None:
            return spec
        known = self._declared.get(name)
        if known is None:
            raise refused(at, "unknown_relation", f"There is no relation '{name[:100]}'.",
                          closest_of(name, self._stored))  # fmt: skip
        if is_stored(known):
            raise PenstockError("not_ready", f"'{name}' is being prepared", retry_after_s=1.0)
        if known.relation is Relation.SOURCE:
            raise refused(at, "unknown_relation", f"'{name}' is a source: queries read stored streams and tables.",
                          f"GET /v1/data/raw.{name} has its events; or store what you need in the app.")  # fmt: skip
        raise refused(at, "unknown_relation", f"'{name}' is not stored.", "Declare it with 'store' = 'true'.")


def _without(hidden: frozenset[str], specs: Mapping[str, StreamSpec]) -> Mapping[str, StreamSpec]:
    return {name: spec for name, spec in specs.items() if name not in hidden} if hidden else specs


def _check_unfiltered(principal: Principal) -> None:
    """A query could show, count or compare rows that the token hides; where it hides some, no query is run.

    Whatever else it grants: that a condition on rows holds in every query over them cannot be shown here.
    """
    if any(grant.filter is not None for grant in principal.details):
        raise PenstockError(
            "insufficient_scope",
            "the token shows some rows only (authorization_details with a filter), which a query cannot keep to: use "
            "/v1/data for relations that are not filtered, the topics themselves, or get a token without filters",
            extra={"scope": "data:query"},
        )
