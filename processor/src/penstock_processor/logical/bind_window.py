"""FROM TABLE(TUMBLE(...)), TABLE(HOP(...)), CUMULATE and SESSION: arguments, time attribute, sizes.

Flink: "Windowing table-valued functions"; HOP and CUMULATE take the slide or step before the size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlglot import exp

from penstock.expressions.dialect import span_of
from penstock.expressions.nodes import Literal, Span
from penstock.model.types import TIMESTAMP, Kind
from penstock_processor.logical.expressions import bind_constant
from penstock_processor.logical.plan import Field, Node, WindowAssign, WindowKind
from penstock_processor.logical.plan_proctime import Pace, with_processing_time
from penstock_processor.logical.printing import interval_text
from penstock_processor.sql.findings import closest, refusal
from penstock_processor.sql.limits import SqlLimits
from penstock_processor.sql.parse import identifier

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["WINDOW_COLUMNS", "bind_window"]

WINDOW_COLUMNS = ("window_start", "window_end", "window_time")
_FORMS = {
    "TUMBLE": "TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '10' MINUTE))",
    "HOP": "TABLE(HOP(TABLE t, DESCRIPTOR(ts), INTERVAL '5' MINUTE, INTERVAL '10' MINUTE)), slide before size",
    "CUMULATE": "TABLE(CUMULATE(TABLE t, DESCRIPTOR(ts), INTERVAL '1' HOUR, INTERVAL '1' DAY)), step before size",
    "SESSION": "TABLE(SESSION(TABLE t PARTITION BY k, DESCRIPTOR(ts), INTERVAL '5' MINUTE))",
}
_PARAMETERS = {
    "TUMBLE": ("DATA", "TIMECOL", "SIZE", "OFFSET"),
    "HOP": ("DATA", "TIMECOL", "SLIDE", "SIZE", "OFFSET"),
    "CUMULATE": ("DATA", "TIMECOL", "STEP", "SIZE", "OFFSET"),
    "SESSION": ("DATA", "TIMECOL", "GAP"),
}


@dataclass(frozen=True, slots=True)
class _Call:
    """Arguments by parameter name."""

    function: str
    at: Span
    arguments: dict[str, exp.Expr]

    def missing(self, parameter: str) -> Exception:
        return refusal(
            self.at,
            "syntax",
            message=f"{self.function} has no {parameter}.",
            remedy=f"Write {_FORMS[self.function]}.",
        )


def bind_window(call: exp.Anonymous, relation: Callable[[exp.Expr], Node], *, limits: SqlLimits) -> WindowAssign:
    """The window node over the table argument, which `relation` binds. Raises SqlErrors."""
    found = _arguments(call)
    if "DATA" not in found.arguments:
        raise found.missing("TABLE argument")
    table, partition = _partition(found)
    data = relation(table)
    if found.function == "SESSION":
        size = slide = _interval(found, "GAP")
        offset = 0
    else:
        size, slide, offset = _aligned(found, limits=limits)
    data, time = _timed(found, data, size=size, slide=slide, offset=offset)
    taken = {f.name for f in data.fields} & set(WINDOW_COLUMNS)
    if taken:
        raise refusal(
            found.at,
            "name_taken",
            message=f"The input already has a column '{min(taken)}'.",
            remedy="Rename it in a view before the window.",
        )
    fields = (
        *(Field(f.name, f.type) for f in data.fields),
        Field("window_start", TIMESTAMP),
        Field("window_end", TIMESTAMP),
        Field("window_time", time.type, rowtime=True),
    )
    by = tuple(_partition_column(column, data) for column in partition)
    return WindowAssign(fields, data, WindowKind(found.function), time.name, size, slide, offset, by)


def _aligned(found: _Call, *, limits: SqlLimits) -> tuple[int, int, int]:
    """(size, slide or step, offset) of windows that do not depend on rows."""
    size = _interval(found, "SIZE")
    shift = {"HOP": "SLIDE", "CUMULATE": "STEP"}.get(found.function)
    slide = size if shift is None else _interval(found, shift)
    offset = _interval(found, "OFFSET", positive=False) if "OFFSET" in found.arguments else 0
    if shift is not None:
        _check_shift(found, shift.lower(), slide=slide, size=size, limits=limits)
    elif abs(offset) >= size:
        raise refusal(
            span_of(found.arguments["OFFSET"]),
            "bad_window",
            message=f"The offset {interval_text(offset)} is not shorter than the size {interval_text(size)}.",
            remedy=f"Windows repeat after each size: {interval_text(offset % size)} gives the same ones.",
        )
    return size, slide, offset % (slide if found.function == "HOP" else size)


def _partition(call: _Call) -> tuple[exp.Expr, list[exp.Expr]]:
    """The table argument without PARTITION BY, and the columns of that."""
    table = call.arguments["DATA"]
    partition = table.args.get("partition")
    if partition is None:
        return table, []
    if call.function != "SESSION":
        raise refusal(
            span_of(partition.expressions[0]),
            "syntax",
            message=f"{call.function} takes no PARTITION BY: its windows are the same for all rows.",
            remedy="Remove it, and write the column into GROUP BY.",
        )
    plain = table.copy()
    plain.set("partition", None)
    return plain, list(partition.expressions)


def _partition_column(node: exp.Expr, data: Node) -> str:
    at = span_of(node)
    if not isinstance(node, exp.Column) or node.args.get("table"):
        raise refusal(at, "syntax", message="PARTITION BY takes names of columns.", remedy="Write PARTITION BY k.")
    names = [field.name for field in data.fields]
    if node.name not in names:
        raise refusal(
            at,
            "unknown_column",
            message=f"There is no column '{node.name}'.",
            remedy=closest(node.name, names, otherwise="Name a column of the table."),
        )
    return node.name


def _arguments(call: exp.Anonymous) -> _Call:
    function, at = call.name.upper(), span_of(call)
    if function not in _FORMS:
        raise refusal(
            at,
            "unsupported",
            message=f"{function} is not a window of this version.",
            remedy=closest(function, _FORMS, otherwise=f"Write {_FORMS['TUMBLE']}, HOP, CUMULATE or SESSION."),
        )
    names = _PARAMETERS[function]
    arguments: dict[str, exp.Expr] = {}
    for i, argument in enumerate(call.expressions):
        name, value = names[i] if i < len(names) else "", argument
        if isinstance(argument, exp.Kwarg):
            name, value = argument.this.name.upper(), argument.expression
        if name not in names or name in arguments:
            raise refusal(
                span_of(argument),
                "syntax",
                message=f"{function} takes no such argument here.",
                remedy=f"Write {_FORMS[function]}.",
            )
        arguments[name] = value
    return _Call(function, at, arguments)


def _timed(call: _Call, data: Node, *, size: int, slide: int, offset: int) -> tuple[Node, Field]:
    """The input and its time: the event time, or that of processing, which then has values."""
    descriptor = call.arguments.get("TIMECOL")
    column = descriptor.expressions[0] if isinstance(descriptor, exp.Anonymous) and descriptor.expressions else None
    if isinstance(column, exp.Column) and not column.args.get("table"):
        pace = Pace.SESSIONS if call.function == "SESSION" else Pace.WINDOWS
        grain = 1 if pace is Pace.SESSIONS else slide
        clocked = with_processing_time(data, column.name, grain_ms=grain, offset_ms=offset, size_ms=size, pace=pace)
        if clocked is not None:
            return clocked, next(f for f in clocked.fields if f.name == column.name)
    return data, _time_column(call, data)


def _time_column(call: _Call, data: Node) -> Field:
    descriptor = call.arguments.get("TIMECOL")
    if (
        not isinstance(descriptor, exp.Anonymous)
        or descriptor.name.upper() != "DESCRIPTOR"
        or len(descriptor.expressions) != 1
    ):
        raise call.missing("DESCRIPTOR(time column)")
    column = descriptor.expressions[0]
    at = span_of(column)
    if not isinstance(column, exp.Column) or column.args.get("table"):
        raise refusal(at, "syntax", message="DESCRIPTOR takes the name of a column.", remedy="Write DESCRIPTOR(ts).")
    identifier(column, otherwise=at, what="the time column")
    times = [f for f in data.fields if f.rowtime]
    field = next((f for f in data.fields if f.name == column.name), None)
    if field is None:
        raise refusal(
            at,
            "unknown_column",
            message=f"There is no column '{column.name}'.",
            remedy=closest(
                column.name,
                [f.name for f in times] or [f.name for f in data.fields],
                otherwise="Name the column that WATERMARK is declared for.",
            ),
        )
    if not field.rowtime:
        raise refusal(
            at,
            "no_event_time",
            message=f"'{field.name}' is not an event time here.",
            remedy=f"Use '{times[0].name}'."
            if times
            else "A window needs a column with WATERMARK. A derived table keeps event time only if it declares "
            "WATERMARK or is a VIEW, as in Flink; casts and functions lose it.",
        )
    return field


def _interval(call: _Call, parameter: str, *, positive: bool = True) -> int:
    node = call.arguments.get(parameter)
    if node is None:
        raise call.missing(parameter)
    value = bind_constant(node)
    if not isinstance(value, Literal) or value.type.kind is not Kind.INTERVAL or not isinstance(value.value, int):
        raise refusal(
            span_of(node),
            "type_mismatch",
            message=f"{parameter} of {call.function} is not an interval.",
            remedy="Write INTERVAL '10' MINUTE.",
        )
    if positive and value.value <= 0:
        raise refusal(
            span_of(node),
            "bad_window",
            message=f"{parameter} of {call.function} is not positive.",
            remedy="Write an interval above zero.",
        )
    return value.value


def _check_shift(call: _Call, shift: str, *, slide: int, size: int, limits: SqlLimits) -> None:
    at = span_of(call.arguments["SIZE"])
    if size % slide:
        raise refusal(
            at,
            "bad_window",
            message=f"The size {interval_text(size)} is no multiple of the {shift} {interval_text(slide)}.",
            remedy=f"{call.function} takes the {shift} before the size; choose a size that the {shift} divides.",
        )
    if size // slide > limits.windows_per_row_max:
        raise refusal(
            at,
            "bad_window",
            message=f"Each row would lie in {size // slide:,} windows.",
            remedy=f"At most {limits.windows_per_row_max:,}; choose a longer {shift}.",
        )
