"""Filters: SQL predicates over a topic's columns, compiled once per distinct text and remembered."""

from __future__ import annotations

import asyncio
from collections import OrderedDict

from penstock.errors import PenstockError, SqlErrors
from penstock.model.stream import Column, StreamSpec
from penstock_publish.topics.render import Filter

__all__ = ["EVERYTHING", "Filters"]

EVERYTHING = Filter("", None)


class Filters:
    """Compiled filters, the newest `limit` of them."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._compiled: OrderedDict[tuple[str, tuple[Column, ...], str], Filter] = OrderedDict()

    async def compile(self, spec: StreamSpec, text: str) -> Filter:
        """The filter of that text over the columns of `spec`; `bad_filter` with the places of what is wrong."""
        if not text:
            return EVERYTHING
        key = (spec.name, spec.columns, text)
        found = self._compiled.get(key)
        if found is None:
            found = self._compiled[key] = await asyncio.to_thread(_compile, spec, text)
            if len(self._compiled) > self._limit:
                self._compiled.popitem(last=False)
        return found


def _compile(spec: StreamSpec, text: str) -> Filter:
    # Imported with the first filter: the SQL front costs start-up time that most processes need not pay.
    from penstock.expressions.predicate import compile_predicate

    try:
        return Filter(text, compile_predicate(text, spec.columns))
    except SqlErrors as error:
        raise PenstockError("bad_filter", error.detail, extra=error.extra) from None
