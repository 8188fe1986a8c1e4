"""What may stand in any expression of a query: parameters, the time, subqueries that read nothing from outside."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping

import sqlalchemy as sa
from sqlglot import exp

from penstock.expressions.bind import AGGREGATES, Hook, Scope, bind
from penstock.expressions.coercion import common_type
from penstock.expressions.literals import coerced
from penstock.expressions.nodes import Expr, Literal
from penstock.model.types import BOOLEAN, DATE, TIMESTAMP, TIMESTAMP_LTZ, DataType
from penstock_data.queries.forks import Element
from penstock_data.queries.refusals import only, refused
from penstock_data.queries.scope import Query, Statement

__all__ = ["Anywhere", "call_of", "is_aggregate"]

_EPOCH = dt.datetime(1970, 1, 1)
_CLOCKS = {
    "CURRENT_TIMESTAMP": TIMESTAMP_LTZ, "NOW": TIMESTAMP_LTZ, "LOCALTIMESTAMP": TIMESTAMP, "CURRENT_DATE": DATE,
}  # fmt: skip


class Anywhere:
    """Hooks of `expressions.bind`: see above. `query` binds a subquery."""

    def __init__(self, statement: Statement, query: Callable[[exp.Expr], Query]) -> None:
        self._statement, self._query = statement, query

    def hook(self, node: exp.Expr, scope: Scope, around: Hook) -> Expr | None:
        """What stands for the node; None: bind it as it is. `around`: the whole hook, for what is compared."""
        match node:
            case exp.Placeholder():
                return self._parameter(node)
            case exp.Exists():
                query = self._query(node.this)
                return self._statement.ref(BOOLEAN, sa.exists(query.select.correlate(None)))
            case exp.In() if node.args.get("query") is not None:
                return self._in(node, bind(node.this, scope, hook=around))
            case exp.Subquery():
                return self._scalar(node)
            case exp.Column() | exp.Anonymous():
                return self._clock(node)
        return None

    def _parameter(self, node: exp.Placeholder) -> Expr:
        known, name = self._statement.parameters, node.this
        if isinstance(name, str):
            found = known.get(name) if isinstance(known, Mapping) else None
            if found is None:
                raise refused(node, "missing_parameter", f"There is no parameter ':{name}'.",
                              f'Send "params": {{"{name}": ...}}.')  # fmt: skip
            self._statement.used.add(name)
            return found
        place = self._statement.place_of(node)
        if isinstance(known, Mapping) or place >= len(known):
            raise refused(node, "missing_parameter", f"There is no parameter {place + 1}.",
                          'Send as many values as there are ?: "params": [...].')  # fmt: skip
        return known[place]

    def _in(self, node: exp.In, value: Expr) -> Expr:
        found = node.args["query"]
        query = self._query(found.this if isinstance(found, exp.Subquery) else found)
        if len(query.fields) != 1:
            raise refused(node, "column_count", "IN takes a query with one column.", "Select one column.")
        target = common_type((value.type, query.fields[0].type))
        if target is None or target.is_nested:
            raise refused(node, "type_mismatch", f"{value.type} cannot be compared with {query.fields[0].type}.",
                          "CAST one of them.")  # fmt: skip
        select = self._as(query, target)
        converted = coerced(value, target)

        def element() -> Element:
            return sa.type_coerce(self._statement.written(converted).in_(select), sa.Boolean())

        return self._statement.ref(BOOLEAN, element)

    def _as(self, query: Query, target: DataType) -> sa.Select[tuple[object, ...]]:
        if query.fields[0].type == target:
            return query.select.correlate(None)
        inner = query.select.subquery()
        ref = self._statement.ref(query.fields[0].type, inner.c.c0, texts=query.fields[0].texts)
        converted = self._statement.written(coerced(ref, target))
        return sa.select(converted.label("c0")).select_from(inner).correlate(None)

    def _scalar(self, node: exp.Subquery) -> Expr:
        only(node, ("this",), where="a query as a value")
        query = self._query(node.this)
        if len(query.fields) != 1:
            raise refused(node, "column_count", "A query as a value has one column.", "Select one column.")
        if not query.single:
            raise refused(node, "several_rows", "A query as a value has one row.",
                          "Select an aggregate without GROUP BY, or end it with LIMIT 1.")  # fmt: skip
        field, value = query.fields[0], query.select.correlate(None).scalar_subquery()
        return self._statement.ref(field.type, value, texts=field.texts)

    def _clock(self, node: exp.Expr) -> Expr | None:
        if isinstance(node, exp.Column):
            if node.args.get("table") or not isinstance(node.this, exp.Identifier) or node.this.args.get("quoted"):
                return None
            name = node.name.upper()
        else:
            name = call_of(node)
            if node.expressions:
                return None
        kind = _CLOCKS.get(name)
        if kind is None:
            return None
        now = _EPOCH + dt.timedelta(milliseconds=self._statement.now_ms)
        return Literal(kind, value=now.date() if kind is DATE else now)


def call_of(node: exp.Expr) -> str:
    """The name of a call in capitals; empty for what is none."""
    if not isinstance(node, exp.Anonymous):
        return ""
    return str(node.this if isinstance(node.this, str) else node.this.name).upper()


def is_aggregate(node: exp.Expr) -> bool:
    """A call of an aggregate function, or one with FILTER."""
    return isinstance(node, exp.Filter) or call_of(node) in AGGREGATES
