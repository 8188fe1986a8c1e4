"""GROUP BY, over a window or without one: keys, aggregate functions, HAVING and the SELECT list above them.

Flink: "Window Aggregation", "System (Built-in) Functions: Aggregate Functions". SUM and AVG of integers keep the
argument's type (AVG truncates); DECIMAL grows to 38 digits.
"""

from __future__ import annotations

from dataclasses import replace

from sqlglot import exp

from penstock.errors import SqlErrors
from penstock.expressions.dialect import span_of
from penstock.expressions.literals import coerced
from penstock.expressions.nodes import ColumnRef, Expr, Literal, Span
from penstock.expressions.table import Function, OwnCall
from penstock.model.types import STRING, Kind, array_of
from penstock_processor.logical.aggregate_calls import (
    RETRACTABLE,
    collected_for,
    matters,
    options_of,
    result_type,
    weighted,
)
from penstock_processor.logical.bind_window import WINDOW_COLUMNS
from penstock_processor.logical.changes import updating
from penstock_processor.logical.clock import clock_call
from penstock_processor.logical.expressions import (
    OWN_AGGREGATE,
    bind_condition,
    bind_value,
    is_aggregate,
    refuse_special,
    rows_only,
)
from penstock_processor.logical.grouping_sets import expanded, grouping_value, is_grouping
from penstock_processor.logical.plan import (
    Aggregate,
    AggregateCall,
    Field,
    GroupAggregate,
    Named,
    Node,
    WindowAssign,
    WindowKind,
)
from penstock_processor.logical.rewrite import columns_read
from penstock_processor.logical.scope import RowScope
from penstock_processor.sql.findings import refusal
from penstock_processor.sql.parse import only

__all__ = ["Grouping"]


class Grouping:
    """One GROUP BY. `value` binds expressions above it and gathers the aggregate calls; `node` is the plan then."""

    def __init__(self, window: WindowAssign | None, rows: RowScope, sets: list[list[exp.Expr]], *, at: Span) -> None:
        self._window = window
        self._kind = WindowKind.ATTACHED if window is None else window.kind
        self._rows = rows
        self._keys: list[Named] = []
        self._window_columns: set[str] = set()
        self._calls: list[AggregateCall] = []
        bound = [[self._key(key) for key in each] for each in sets]
        self._sets = [frozenset(n for n, key in enumerate(self._keys) if key.expr in each) for each in bound]
        names = [{key.name for key in each if isinstance(key, ColumnRef)} & set(WINDOW_COLUMNS) for each in bound]
        own = self._kind is not WindowKind.ATTACHED
        if own and any(each != self._window_columns or not {"window_start", "window_end"} <= each for each in names):
            raise refusal(
                at,
                "unbounded_state",
                message="GROUP BY does not name the window, so its groups would never end.",
                remedy="Group by window_start and window_end.",
            )
        if window is not None and window.kind is WindowKind.SESSION:
            if len(sets) > 1:
                raise refusal(
                    at,
                    "unsupported",
                    message="GROUPING SETS over sessions are not in this version.",
                    remedy="Write one statement per grouping.",
                )
            self._check_session(window, at)

    def value(self, node: exp.Expr) -> Expr:
        """An expression over the groups: keys, window columns, aggregate calls. Raises SqlErrors."""
        return bind_value(node, self._rows, hook=self._hook)

    def column(self, column: ColumnRef) -> Expr:
        """A column that a star stands for."""
        return self._grouped(column, shown=column.name)

    def condition(self, node: exp.Expr) -> Expr:
        """HAVING."""
        return bind_condition(node, self._rows, hook=self._hook, what="HAVING")

    def groups(self, rows: Node, *, ttl_ms: int, at: Span) -> GroupAggregate:
        """Without a window: the plan node over `rows`. Raises SqlErrors if a call cannot take its rows back."""
        lasting = [call.function for call in self._calls if call.function not in RETRACTABLE]
        if lasting and updating(rows):
            raise refusal(
                at,
                "reads_updates",
                message=f"{lasting[0]} cannot take rows back, and the rows of this input change.",
                remedy=f"Over changing rows there are {', '.join(sorted(RETRACTABLE))}.",
            )
        keys = tuple(self._keys)
        if len(self._sets) > 1:
            rows, keys = expanded(rows, keys, self._sets)
        fields = (*(Field(k.name, k.expr.type) for k in keys), *(Field(c.name, c.type) for c in self._calls))
        return GroupAggregate(fields, rows, keys, tuple(self._calls), ttl_ms)

    def node(self) -> Aggregate:
        """The plan node with all calls gathered so far."""
        assert self._window is not None
        columns = tuple(c for c in WINDOW_COLUMNS if c in self._window_columns)
        by_name = {f.name: f for f in self._window.fields}
        window, keys = self._window, tuple(self._keys)
        if len(self._sets) > 1:
            rows, keys = expanded(window.input, keys, self._sets)
            own = window.fields[len(window.input.fields) :]
            window = replace(window, fields=(*(Field(f.name, f.type) for f in rows.fields), *own), input=rows)
        fields = (
            *(Field(k.name, k.expr.type, self._is_time(k.expr)) for k in keys),
            *(by_name[c] for c in columns),
            *(Field(c.name, c.type) for c in self._calls),
        )
        return Aggregate(fields, window, keys, columns, tuple(self._calls))

    def _is_time(self, key: Expr) -> bool:
        """The window_time of rows that come out of windows stays the time attribute."""
        passes = self._kind is WindowKind.ATTACHED and isinstance(key, ColumnRef)
        return passes and isinstance(key, ColumnRef) and self._rows.rowtime(key.name)

    def _check_session(self, window: WindowAssign, at: Span) -> None:
        """Sessions are those of PARTITION BY, groups lie inside them."""
        columns = {key.expr.name for key in self._keys if isinstance(key.expr, ColumnRef)}
        missing = [name for name in window.partition if name not in columns]
        if missing:
            raise refusal(
                at,
                "not_grouped",
                message=f"The session window is partitioned by '{missing[0]}', which is not in GROUP BY.",
                remedy=f"Add {missing[0]} to GROUP BY, or remove it from PARTITION BY.",
            )
        if columns_read(*(key.expr for key in self._keys)) & set(WINDOW_COLUMNS):
            raise _inside_session(at)

    def _key(self, node: exp.Expr) -> Expr:
        key = bind_value(node, self._rows, hook=rows_only("GROUP BY"))
        if not columns_read(key):
            raise refusal(
                span_of(node),
                "unsupported",
                message="GROUP BY takes columns; a number is no position in Flink SQL.",
                remedy="Write the column or expression itself.",
            )
        own = self._kind is not WindowKind.ATTACHED
        if own and isinstance(key, ColumnRef) and key.name in WINDOW_COLUMNS:
            self._window_columns.add(key.name)
        elif all(key != k.expr for k in self._keys):
            name = key.name if isinstance(key, ColumnRef) else f"key${len(self._keys)}"
            self._keys.append(Named(name, key))
        return key

    def _grouping(self, node: exp.Expr) -> Expr:
        """GROUPING and GROUPING_ID."""
        numbers = []
        for argument in node.expressions:
            found = bind_value(argument, self._rows)
            numbers += [n for n, key in enumerate(self._keys) if key.expr == found]
        if not numbers or len(numbers) < len(node.expressions):
            raise refusal(
                span_of(node),
                "not_grouped",
                message=f"{node.name.upper()} takes what is grouped by.",
                remedy=f"Write {node.name.upper()}(k) with k from GROUP BY.",
            )
        return grouping_value(numbers, self._sets, at=span_of(node))

    def _hook(self, node: exp.Expr) -> Expr | None:
        if is_grouping(node):
            return self._grouping(node)
        refuse_special(node)
        if (now := clock_call(node)) is not None:
            return now
        if isinstance(node, exp.Filter):
            if not is_aggregate(node.this):
                raise refusal(
                    span_of(node),
                    "syntax",
                    message="FILTER belongs to an aggregate function.",
                    remedy="Write COUNT(*) FILTER (WHERE condition).",
                )
            return self._call(node.this, where=node.expression.this)
        if is_aggregate(node):
            return self._call(node, where=None)
        if isinstance(node, exp.Column):
            return self._grouped(bind_value(node, self._rows), shown=node.name)
        return self._grouped_expression(node)

    def _grouped(self, found: Expr, *, shown: str) -> Expr:
        if isinstance(found, ColumnRef) and found.name in self._window_columns:
            return found
        for key in self._keys:
            if key.expr == found:
                return ColumnRef(found.type, name=key.name, span=found.span)
        raise refusal(
            found.span,
            "not_grouped",
            message=f"'{shown}' is neither in GROUP BY nor inside an aggregate.",
            remedy=f"Add {shown} to GROUP BY, or write MAX({shown}).",
        )

    def _grouped_expression(self, node: exp.Expr) -> Expr | None:
        """An expression that is grouped by as a whole."""
        if all(isinstance(k.expr, ColumnRef) for k in self._keys) or node.find(exp.Column) is None:
            return None
        if any(is_aggregate(n) for n in node.walk()):
            return None
        try:
            found = bind_value(node, self._rows)
        except SqlErrors:
            return None  # the same finding comes up again where its parts are bound
        for key in self._keys:
            if key.expr == found:
                return ColumnRef(found.type, name=key.name, span=found.span)
        return None

    def _call(self, node: exp.Expr, *, where: exp.Expr | None) -> Expr:
        at, function = span_of(node), node.name.upper()
        arguments, distinct = node.expressions, False
        if len(arguments) == 1 and isinstance(arguments[0], exp.Distinct):
            only(arguments[0], ("expressions",), where="an aggregate")
            arguments, distinct = arguments[0].expressions, True
        hook = rows_only("an aggregate function")
        predicate = None if where is None else bind_condition(where, self._rows, hook=hook, what="FILTER")
        own = node.meta.get(OWN_AGGREGATE)
        if isinstance(own, Function):
            args = [bind_value(argument, self._rows, hook=hook) for argument in arguments]
            collected, result = collected_for(own, args, at=at)
            if self._kind is WindowKind.SESSION and columns_read(collected, predicate) & set(WINDOW_COLUMNS):
                raise _inside_session(at)
            values = array_of(collected.type)
            group = self._registered(AggregateCall("", "ARRAY_AGG", collected, values, distinct, predicate), at=at)
            return OwnCall(result, function=own.name, args=(group,), span=at, entry=own)
        options = options_of(function, arguments, at=at)
        star = isinstance(arguments[0], exp.Star)
        arg = None if star else bind_value(arguments[0], self._rows, hook=hook)
        if self._kind is WindowKind.SESSION and columns_read(arg, predicate) & set(WINDOW_COLUMNS):
            raise _inside_session(at)
        if arg is None and (function != "COUNT" or distinct):
            raise refusal(
                at,
                "syntax",
                message=f"{function}({'DISTINCT ' if distinct else ''}*) does not exist.",
                remedy=f"Write {function}(x)." if function != "COUNT" else "Write COUNT(*) or COUNT(DISTINCT x).",
            )
        if isinstance(arg, Literal) and arg.value is not None and function == "COUNT" and not distinct:
            arg = None  # COUNT(1)
        elif arg is not None and arg.type.kind is Kind.NULL and function == "COUNT":
            arg = coerced(arg, STRING)
        distinct = distinct and matters(function, at=at)
        type_ = result_type(function, arg, at=at)
        if function == "PERCENTILE" and isinstance(arguments[1], exp.Array):
            type_ = array_of(type_)
        if len(arguments) == 3 and arg is not None:
            arg = weighted(arg, bind_value(arguments[2], self._rows, hook=hook), at=at)
        return self._registered(AggregateCall("", function, arg, type_, distinct, predicate, options), at=at)

    def _registered(self, wanted: AggregateCall, *, at: Span) -> Expr:
        for call in self._calls:
            if replace(call, name="") == wanted:
                return ColumnRef(call.type, name=call.name, span=at)
        name = f"{wanted.function.lower()}${len(self._calls)}"
        self._calls.append(replace(wanted, name=name))
        return ColumnRef(wanted.type, name=name, span=at)


def _inside_session(at: Span) -> SqlErrors:
    return refusal(
        at,
        "unsupported",
        message="The bounds of a session are known when it has ended; rows cannot be grouped or added up by them.",
        remedy="Compute with them in an outer query over the grouped result.",
    )
