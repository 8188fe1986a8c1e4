"""Aggregates OVER rows before, in order of event time: calls of a SELECT list become one OverAggregate node.

Flink: "Over Aggregation". All calls of a SELECT go by one window, in ascending order of the time attribute, and
frames end with the current row. Flink takes no FILTER there. LAG goes by all rows up to the last one of its row's
time.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlglot import exp

from penstock.errors import SqlErrors
from penstock.expressions.bind import AGGREGATES
from penstock.expressions.coercion import common_type
from penstock.expressions.dialect import span_of
from penstock.expressions.literals import coerced
from penstock.expressions.nodes import Call, ColumnRef, Expr, Literal, Span
from penstock.model.types import BIGINT, STRING, DataType, Kind
from penstock_processor.logical.aggregate_calls import matters, options_of, result_type
from penstock_processor.logical.changes import refuse_updating
from penstock_processor.logical.expressions import bind_constant, bind_value, rows_only
from penstock_processor.logical.over_distinct import counted_once
from penstock_processor.logical.plan import AggregateCall, Field, Node
from penstock_processor.logical.plan_keyed import Ranked
from penstock_processor.logical.plan_over import LAG, OverAggregate
from penstock_processor.logical.plan_proctime import Pace, with_processing_time
from penstock_processor.logical.rewrite import inputs_of, with_inputs
from penstock_processor.logical.scope import RowScope
from penstock_processor.logical.select_list import with_columns
from penstock_processor.sql.findings import closest, refusal
from penstock_processor.sql.limits import SqlLimits
from penstock_processor.sql.parse import only

__all__ = ["OVER_FUNCTIONS", "OverCalls", "name_windows", "numbered"]

_FORM = "SUM(x) OVER (PARTITION BY k ORDER BY ts RANGE BETWEEN INTERVAL '1' HOUR PRECEDING AND CURRENT ROW)"
#: Aggregates that OVER computes.
OVER_FUNCTIONS = frozenset(
    name
    for name in AGGREGATES
    if name not in ("LISTAGG", "PERCENTILE", "ARRAY_AGG", "COLLECT") and not name.startswith("APPROX_")
)


@dataclass(frozen=True, slots=True)
class _Window:
    partition: tuple[Expr, ...]
    time: str
    rows: bool
    preceding: int | None
    clocked: bool


def name_windows(tree: exp.Select) -> None:
    """Write the windows of the WINDOW clause out where OVER names them. Raises SqlErrors."""
    clause = tree.args.get("windows") or []
    named = {window.name: window for window in clause}
    for expression in tree.expressions:
        for call in expression.find_all(exp.Window):
            name = call.args.get("alias")
            if name is None:
                continue
            window = named.get(name.name)
            if window is None:
                raise refusal(
                    span_of(name),
                    "unknown_window",
                    message=f"There is no window '{name.name}'.",
                    remedy=closest(name.name, named, otherwise="Add WINDOW w AS (ORDER BY ts) behind FROM."),
                )
            call.set("alias", None)
            for part in ("partition_by", "order", "spec"):
                found = window.args.get(part)
                if found is not None and call.args.get(part) is None:
                    call.set(part, [each.copy() for each in found] if isinstance(found, list) else found.copy())


def numbered(node: Node) -> Node:
    """Rankings in ascending order of event time alone, which no later row changes, as running counts."""
    node = with_inputs(node, tuple(numbered(one) for one in inputs_of(node)))
    match node:
        case Ranked(order=(key,)) if not key.descending and _is_time(node.input, key.column):
            call = AggregateCall(node.fields[-1].name, "COUNT", None, BIGINT)
            return OverAggregate(node.fields, node.input, node.partition, key.column, True, None, (call,))
        case _:
            return node


class OverCalls:
    """The calls with OVER of one SELECT list. `hook` gathers them while the list is bound, `over` is the plan.

    `rows`: what FROM gives.
    """

    def __init__(self, scope: RowScope, limits: SqlLimits, rows: Node) -> None:
        self._scope = scope
        self._rows = rows
        self._limits = limits
        self._plain = rows_only("this place")
        self._window: _Window | None = None
        self._at: Span | None = None
        self._calls: list[AggregateCall] = []

    def hook(self, node: exp.Expr) -> Expr | None:
        """What stands for a call; see `expressions.Hook`."""
        if not isinstance(node, exp.Window):
            return self._plain(node)
        at, call = span_of(node), node.this
        if isinstance(call, exp.Filter):
            raise _unsupported(
                at, "FILTER cannot stand in front of OVER.", "Write SUM(CASE WHEN ... THEN x END) OVER."
            )
        if not isinstance(call, exp.Anonymous) or call.name.upper() not in {*OVER_FUNCTIONS, LAG}:
            name = call.name.upper() if isinstance(call, exp.Anonymous) else "This"
            known = ", ".join(sorted({*OVER_FUNCTIONS, LAG, "ROW_NUMBER"}))
            raise _unsupported(at, f"{name} cannot stand in front of OVER.", f"Functions are {known}.")
        lagging = call.name.upper() == LAG
        window = self._bound(node, at, lagging=lagging)
        if self._window is not None and window != self._window:
            raise _unsupported(
                at, "Windows of OVER in one SELECT differ, which Flink does not take.", "Use one, or nest queries."
            )
        self._window, self._at = window, at
        return self._lag(call, at) if lagging else self._call(call, at, bounded=window.preceding is not None)

    def over(self, node: Node) -> Node:
        """The rows that the list is computed on: `node`, with the values of the calls beside them."""
        window = self._window
        if window is None or self._at is None:
            return node
        refuse_updating(node, at=self._at, reader="OVER")
        if window.clocked:
            node = with_processing_time(node, window.time, pace=Pace.ROWS) or node
        below, partition = with_columns(node, window.partition)
        below, calls = counted_once(below, tuple(self._calls), partition=partition, time=window.time)
        fields = (*below.fields, *(Field(call.name, call.type) for call in calls))
        return OverAggregate(fields, below, partition, window.time, window.rows, window.preceding, calls)

    def _bound(self, node: exp.Window, at: Span, *, lagging: bool) -> _Window:
        only(node, ("this", "partition_by", "order", "spec", "over"), where="OVER (...)")
        hook = rows_only("OVER")
        partition = tuple(bind_value(each, self._scope, hook=hook) for each in node.args.get("partition_by") or ())
        order = node.args.get("order")
        ordered = [] if order is None else order.expressions
        if len(ordered) != 1:
            raise _unsupported(at, "OVER goes by one column of event time.", f"Write {_FORM}.")
        time = bind_value(ordered[0].this, self._scope, hook=hook)
        clocked = isinstance(time, ColumnRef) and with_processing_time(self._rows, time.name) is not None
        if not isinstance(time, ColumnRef) or not (clocked or self._scope.rowtime(time.name)):
            raise refusal(
                span_of(ordered[0]),
                "no_event_time",
                message="OVER goes by an event time, or that of processing, and this is none here.",
                remedy=f"Order by the column that WATERMARK is declared for, or by one AS PROCTIME(): {_FORM}.",
            )
        if ordered[0].args.get("desc"):
            raise _unsupported(at, "OVER goes by event time in ascending order.", "Remove DESC.")
        spec = node.args.get("spec")
        if spec is not None and lagging:
            raise _unsupported(at, "LAG takes no frame.", "Remove ROWS or RANGE.")
        rows, preceding = (False, None) if spec is None else self._frame(spec, at)
        return _Window(tuple(dict.fromkeys(partition)), time.name, rows, preceding, clocked)

    @property
    def clocked(self) -> bool:
        """Whether the rows go by the time of processing, so that their event times are plain columns."""
        return self._window is not None and self._window.clocked

    def _frame(self, spec: exp.Expr, at: Span) -> tuple[bool, int | None]:
        """(by rows, how many or how long)"""
        rows = spec.args["kind"] == "ROWS"
        ends_here = spec.args.get("end") in (None, "CURRENT ROW") and spec.args.get("exclude") is None
        if not ends_here or spec.args.get("start_side") != "PRECEDING":
            raise refusal(
                at,
                "bad_window",
                message="A frame of OVER begins before its row and ends with it.",
                remedy="Write ROWS BETWEEN 2 PRECEDING AND CURRENT ROW.",
            )
        start = spec.args["start"]
        if start == "UNBOUNDED":
            return rows, None
        found = bind_constant(start)
        value = found.value if isinstance(found, Literal) else None
        fitting = found.type.is_integer if rows else found.type.kind is Kind.INTERVAL
        if not fitting or not isinstance(value, int) or value < 0:
            raise refusal(
                at,
                "type_mismatch",
                message=f"{'ROWS' if rows else 'RANGE'} takes {'a number of rows' if rows else 'an interval'}.",
                remedy=f"Write {'ROWS BETWEEN 2' if rows else _RANGE} PRECEDING AND CURRENT ROW.",
            )
        if rows and value > self._limits.over_rows_max:
            raise refusal(
                at,
                "bad_window",
                message=f"The frame would keep {value:,} rows of each key.",
                remedy=f"At most {self._limits.over_rows_max:,}; go by time instead: {_RANGE} PRECEDING.",
            )
        return rows, value

    def _call(self, call: exp.Anonymous, at: Span, *, bounded: bool) -> Expr:
        function, arguments, distinct = call.name.upper(), list(call.expressions), False
        if len(arguments) == 1 and isinstance(arguments[0], exp.Distinct):
            arguments, distinct = arguments[0].expressions, True
        options_of(function, arguments, at=at)
        distinct = distinct and matters(function, at=at)
        if distinct and bounded:
            raise _unsupported(
                at,
                f"{function}(DISTINCT x) OVER a frame that begins later than the first row is not in this version.",
                "Write RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW, or remove DISTINCT.",
            )
        star = isinstance(arguments[0], exp.Star)
        if star and function != "COUNT":
            raise refusal(at, "syntax", message=f"{function}(*) does not exist.", remedy=f"Write {function}(x).")
        arg = None if star else bind_value(arguments[0], self._scope, hook=rows_only("an aggregate function"))
        if isinstance(arg, Literal) and arg.value is not None and function == "COUNT" and not distinct:
            arg = None  # COUNT(1)
        elif arg is not None and arg.type.kind is Kind.NULL and function == "COUNT":
            arg = coerced(arg, STRING)
        return self._registered(function, arg, result_type(function, arg, at=at), (), at, distinct=distinct)

    def _lag(self, call: exp.Anonymous, at: Span) -> Expr:
        """LAG(x [, offset [, default]])."""
        arguments = call.expressions
        if not 1 <= len(arguments) <= 3:
            raise refusal(
                at,
                "argument_count",
                message=f"LAG takes one to three arguments, not {len(arguments)}.",
                remedy="Write LAG(x), LAG(x, 2) or LAG(x, 2, default).",
            )
        hook = rows_only("an aggregate function")
        arg = bind_value(arguments[0], self._scope, hook=hook)
        offset = 1 if len(arguments) == 1 else self._offset(arguments[1], at)
        if len(arguments) < 3:
            return self._registered(LAG, arg, arg.type, (offset,), at)
        default = bind_value(arguments[2], self._scope, hook=hook)
        both = common_type((arg.type, default.type))
        if both is None:
            raise refusal(
                at,
                "type_mismatch",
                message=f"LAG gives {arg.type}, its default is {default.type}.",
                remedy="Use CAST to give both the same type.",
            )
        value = self._registered(LAG, coerced(arg, both), both, (offset,), at)
        # Flink gives the default for NULL, too.
        return Call(both, function="COALESCE", args=(value, coerced(default, both)), span=at)

    def _offset(self, node: exp.Expr, at: Span) -> int:
        found = bind_constant(node)
        value = found.value if isinstance(found, Literal) and found.type.is_integer else None
        if isinstance(value, int) and 1 <= value <= self._limits.over_rows_max:
            return value
        raise refusal(
            at,
            "out_of_range",
            message="LAG goes a constant number of rows back.",
            remedy=f"Write LAG(x, 2); at most {self._limits.over_rows_max:,}.",
        )

    def _registered(
        self,
        function: str,
        arg: Expr | None,
        type_: DataType,
        options: tuple[int, ...],
        at: Span,
        *,
        distinct: bool = False,
    ) -> Expr:
        for call in self._calls:
            if (call.function, call.arg, call.options, call.distinct) == (function, arg, options, distinct):
                return ColumnRef(call.type, name=call.name, span=at)
        name = f"{function.lower()}$over{len(self._calls)}"
        self._calls.append(AggregateCall(name, function, arg, type_, distinct, options=options))
        return ColumnRef(type_, name=name, span=at)


_RANGE = "RANGE BETWEEN INTERVAL '1' HOUR"


def _unsupported(at: Span, message: str, remedy: str) -> SqlErrors:
    return refusal(at, "unsupported", message=message, remedy=remedy)


def _is_time(node: Node, column: str) -> bool:
    return any(field.name == column and field.rowtime for field in node.fields)
