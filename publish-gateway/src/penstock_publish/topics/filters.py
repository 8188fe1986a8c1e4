"""Filters: SQL predicates over a topic's columns, compiled once per distinct text and remembered.

What a caller asks for and what the caller's token demands are compiled apart and both applied to the rows: the text
of the one cannot get around the other.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence

import polars as pl

from penstock.errors import PenstockError, SqlErrors
from penstock.model.stream import Column, StreamSpec
from penstock_publish.topics.render import Filter
from penstock_publish.topics.rows import Predicate

__all__ = ["EVERYTHING", "Filters", "filter_identity"]

EVERYTHING = Filter("", None)


class Filters:
    """Compiled filters, the newest `limit` of them."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._compiled: OrderedDict[tuple[str, tuple[Column, ...], str], Filter] = OrderedDict()

    async def compile(self, spec: StreamSpec, text: str, *, mandatory: Sequence[str] = ()) -> Filter:
        """The filter of that text over the columns of `spec`; `bad_filter` with the places of what is wrong.

        `mandatory`: conditions of the caller's token of which every row must meet one (`Principal.row_filters`);
        `insufficient_scope` if they do not fit the topic.
        """
        if not text and not mandatory:
            return EVERYTHING
        key = (spec.name, spec.columns, filter_identity(text, mandatory))
        found = self._compiled.get(key)
        if found is None:
            found = self._compiled[key] = await asyncio.to_thread(_compile, spec, text, tuple(mandatory))
            if len(self._compiled) > self._limit:
                self._compiled.popitem(last=False)
        return found


def filter_identity(text: str, mandatory: Sequence[str]) -> str:
    """What tells filters of one topic apart; empty for none. A filter's own text cannot look like a token's."""
    return text if not mandatory else f"\0{(text, *mandatory)!r}"


def _compile(spec: StreamSpec, text: str, mandatory: tuple[str, ...]) -> Filter:
    # Imported with the first filter: the SQL front costs start-up time that most processes need not pay.
    from penstock.expressions.predicate import compile_predicate

    try:
        own = compile_predicate(text, spec.columns) if text else None
    except SqlErrors as error:
        raise PenstockError("bad_filter", error.detail, extra=error.extra) from None
    try:
        demanded = [compile_predicate(one, spec.columns) for one in mandatory]
    except SqlErrors as error:
        raise PenstockError(
            "insufficient_scope",
            f"the token's filter does not fit the topic {spec.name} (authorization_details): {error.detail}",
        ) from None
    return Filter(filter_identity(text, mandatory), own, _any_of(demanded) if demanded else None)


def _any_of(predicates: Sequence[Predicate]) -> Predicate:
    first, *others = predicates

    def matches(frame: pl.DataFrame) -> pl.Series:
        found = first(frame)
        for other in others:
            found = found | other(frame)
        return found

    return matches
