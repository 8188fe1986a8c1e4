"""Expressions of DEFINE and MEASURES: columns of variables, FIRST and LAST, aggregates over rows of a variable."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from sqlglot import exp

from penstock.errors import SqlErrors
from penstock.expressions.coercion import Mismatch
from penstock.expressions.dialect import span_of
from penstock.expressions.nodes import Cast, ColumnRef, Expr, Literal, Span
from penstock.expressions.reserved import reserved_name
from penstock.model.types import BIGINT, TIMESTAMP, DataType, Kind, decimal
from penstock_processor.logical.expressions import (
    bind_condition,
    bind_constant,
    bind_value,
    is_aggregate,
    refuse_special,
    rows_only,
)
from penstock_processor.logical.plan_match import MATCH_INSTANT, MATCH_TIME, MatchAggregate, Reach
from penstock_processor.logical.rewrite import columns_read
from penstock_processor.logical.scope import RowScope
from penstock_processor.sql.findings import closest, refusal

__all__ = ["PATTERN_AGGREGATES", "MatchExpressions"]

#: Aggregates that DEFINE and MEASURES compute.
PATTERN_AGGREGATES = ("COUNT", "SUM", "AVG", "MIN", "MAX")
_ORDERED = (Kind.STRING, Kind.BOOLEAN, Kind.DATE, Kind.TIME, Kind.TIMESTAMP, Kind.TIMESTAMP_LTZ)
_REFUSED = {
    "PREV": "Rows are reached by what they are in the pattern: write LAST(A.price, 1).",
    "NEXT": "Rows are reached by what they are in the pattern: write FIRST(A.price, 1).",
    "CLASSIFIER": "Select columns of the variables instead.",
    "MATCH_NUMBER": "Count matches in an outer query.",
    "MATCH_PROCTIME": "Time is that of the events: write MATCH_ROWTIME().",
}
_REACH_FORM = "Write LAST(A.price) or LAST(A.price, 1)."


class MatchExpressions:
    """Binds the expressions of one MATCH_RECOGNIZE and gathers what they reach for.

    `rows`: columns of the input. `time`: its event time. `variables`: names of the pattern.
    """

    def __init__(self, rows: RowScope, time: ColumnRef, variables: Collection[str]) -> None:
        self._rows, self._time = rows, time
        self._variables = list(variables)
        self.reaches: list[Reach] = []
        self.aggregates: list[MatchAggregate] = []

    def condition(self, node: exp.Expr, variable: str) -> Expr:
        """The condition of a variable. Raises SqlErrors."""
        return bind_condition(node, self._rows, what="DEFINE", hook=lambda n: self._hook(n, variable))

    def measure(self, node: exp.Expr) -> Expr:
        """A measure. Raises SqlErrors."""
        return bind_value(node, self._rows, hook=lambda n: self._hook(n, None))

    def _hook(self, node: exp.Expr, defining: str | None) -> Expr | None:
        refuse_special(node)
        if isinstance(node, exp.Column):
            return self._reach(node, defining, first=False, offset=0)
        if isinstance(node, exp.Filter):
            raise _unsupported(node, "FILTER", "Write SUM(CASE WHEN condition THEN A.x END).")
        if not isinstance(node, exp.Anonymous):
            return None
        name = node.name.upper()
        if name in _REFUSED:
            raise _unsupported(node, name, _REFUSED[name])
        if name == "MATCH_ROWTIME":
            return self._match_time(node, defining)
        if name in ("FIRST", "LAST"):
            return self._navigation(node, defining, first=name == "FIRST")
        if is_aggregate(node) and name not in PATTERN_AGGREGATES:
            raise _unsupported(
                node, f"{name} in MATCH_RECOGNIZE", f"Aggregates here are {', '.join(PATTERN_AGGREGATES)}."
            )
        return self._aggregate(node, name) if name in PATTERN_AGGREGATES else None

    def _match_time(self, node: exp.Anonymous, defining: str | None) -> Expr:
        """Without an argument a TIMESTAMP; with the event time's column, of its type."""
        at, given = span_of(node), node.expressions
        if given and (len(given) > 1 or not isinstance(given[0], exp.Column) or given[0].name != self._time.name):
            raise _syntax(node, "MATCH_ROWTIME takes the event time or nothing.", "Write MATCH_ROWTIME().")
        zoned = self._time.type.kind is Kind.TIMESTAMP_LTZ
        if defining is not None:
            row = replace(self._time, span=at)
            return Cast(TIMESTAMP, arg=row, span=at) if zoned and not given else row
        if zoned and given:
            return ColumnRef(self._time.type, name=MATCH_INSTANT, span=at)
        return ColumnRef(TIMESTAMP, name=MATCH_TIME, span=at)

    def _navigation(self, node: exp.Anonymous, defining: str | None, *, first: bool) -> Expr:
        """FIRST and LAST of an expression are those of its columns."""
        if len(node.expressions) not in (1, 2):
            raise _syntax(node, f"{node.name.upper()} takes an expression and an offset.", _REACH_FORM)
        offset = 0
        if len(node.expressions) == 2:
            given = bind_constant(node.expressions[1])
            if not isinstance(given, Literal) or not isinstance(given.value, int) or given.value < 0:
                raise _syntax(node.expressions[1], "An offset is a whole number.", _REACH_FORM)
            offset = given.value
        self._one_variable(node)
        used: list[str] = []

        def hook(part: exp.Expr) -> Expr | None:
            refuse_special(part)
            if isinstance(part, exp.Column):
                used.append(part.table)
                return self._reach(part, defining, first=first, offset=offset)
            if isinstance(part, exp.Anonymous) and part.name.upper() in (
                *PATTERN_AGGREGATES,
                *_REFUSED,
                "FIRST",
                "LAST",
            ):
                raise _unsupported(part, f"{part.name.upper()} inside {node.name.upper()}", _REACH_FORM)
            return None

        found = bind_value(node.expressions[0], self._rows, hook=hook)
        if not used:
            raise _syntax(node, f"{node.name.upper()} takes columns.", _REACH_FORM)
        return found

    def _reach(self, node: exp.Column, defining: str | None, *, first: bool, offset: int) -> Expr:
        column, variable = self._column(node), self._variable(node)
        if defining is not None and not first and offset == 0 and variable in (None, defining):
            return column  # of the row that the condition is asked for
        for known in self.reaches:
            if (known.variable, known.first, known.offset, known.column) == (variable, first, offset, column.name):
                return ColumnRef(known.type, name=known.name, span=column.span)
        name = f"$reach{len(self.reaches)}"
        self.reaches.append(Reach(name, variable, first, offset, column.name, column.type))
        return ColumnRef(column.type, name=name, span=column.span)

    def _aggregate(self, node: exp.Anonymous, function: str) -> Expr:
        at = span_of(node)
        if len(node.expressions) != 1:
            raise _syntax(node, f"{function} takes one argument.", f"Write {function}(A.x).")
        if isinstance(node.expressions[0], exp.Distinct):
            raise _unsupported(node, f"{function}(DISTINCT x) in MATCH_RECOGNIZE", f"Write {function}(A.x).")
        if isinstance(node.expressions[0], exp.Star):
            if function != "COUNT":
                raise _syntax(node, f"{function}(*) does not exist.", f"Write {function}(A.x).")
            return self._registered(None, function, self._time, BIGINT, at)  # every row has a time
        variable = self._one_variable(node)
        inner = rows_only("an aggregate function")

        def hook(part: exp.Expr) -> Expr | None:
            if isinstance(part, exp.Column):
                return self._column(part)
            if isinstance(part, exp.Anonymous) and part.name.upper() in (*_REFUSED, "FIRST", "LAST"):
                raise _unsupported(part, f"{part.name.upper()} inside {function}", f"Write {function}(A.x).")
            return inner(part)

        arg = bind_value(node.expressions[0], self._rows, hook=hook)
        if not columns_read(arg):
            raise _syntax(node, f"{function} needs a column.", f"Write {function}(A.x).")
        kind, result = arg.type.kind, arg.type
        if not (arg.type.is_numeric or function == "COUNT" or (function in ("MIN", "MAX") and kind in _ORDERED)):
            raise refusal(at, "type_mismatch", message=f"{function} cannot take {arg.type}.",
                          remedy="Give it a number.")  # fmt: skip
        if function == "COUNT":
            result = BIGINT
        elif kind is Kind.DECIMAL and function in ("SUM", "AVG"):
            scale = arg.type.scale or 0
            result = decimal(38, scale if function == "SUM" else max(6, scale))
        return self._registered(variable, function, arg, result, at)

    def _registered(self, variable: str | None, function: str, arg: Expr, result: DataType, at: Span) -> Expr:
        for known in self.aggregates:
            if (known.variable, known.function, known.arg) == (variable, function, arg):
                return ColumnRef(known.type, name=known.name, span=at)
        self.aggregates.append(MatchAggregate(f"$agg{len(self.aggregates)}", variable, function, arg, result))
        return ColumnRef(result, name=self.aggregates[-1].name, span=at)

    def _one_variable(self, node: exp.Anonymous) -> str | None:
        """The variable that all columns of the arguments belong to."""
        columns = [column for argument in node.expressions[:1] for column in argument.find_all(exp.Column)]
        found = {self._variable(column) for column in columns}
        if len(found) > 1:
            raise _syntax(node, f"{node.name.upper()} takes columns of one variable.",
                          "Compute with the results of several calls.")  # fmt: skip
        return next(iter(found), None)

    def _column(self, node: exp.Column) -> ColumnRef:
        at = span_of(node)
        for part in node.parts:
            if isinstance(part, exp.Identifier) and (finding := reserved_name(part)) is not None:
                raise SqlErrors([finding])
        try:
            return replace(self._rows.resolve(node.name, None), span=at)
        except Mismatch as mismatch:
            raise refusal(at, mismatch.code, message=mismatch.message, remedy=mismatch.remedy) from None

    def _variable(self, node: exp.Column) -> str | None:
        name = node.table
        if not name:
            return None
        if name not in self._variables:
            raise refusal(
                span_of(node),
                "unknown_variable",
                message=f"The pattern has no variable '{name}'.",
                remedy=closest(name, self._variables, otherwise=f"Variables are {', '.join(self._variables)}."),
            )
        return name


def _unsupported(node: exp.Expr, what: str, remedy: str) -> SqlErrors:
    return refusal(span_of(node), "unsupported", message=f"{what} is not supported.", remedy=remedy)


def _syntax(node: exp.Expr, message: str, remedy: str) -> SqlErrors:
    return refusal(span_of(node), "syntax", message=message, remedy=remedy)
