"""Functions of time. Everything is UTC (the session time zone), in milliseconds; weeks of EXTRACT are ISO weeks."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import polars as pl

from penstock.expressions.coercion import Mismatch
from penstock.expressions.java_patterns import formatted, read_pattern
from penstock.expressions.nodes import Call, Expr, Literal
from penstock.expressions.operators_arithmetic import truncated
from penstock.expressions.operators_logic import comparable_type
from penstock.expressions.table import (
    CONSTANT_TEXT,
    LONG,
    TEXT,
    Check,
    Compiled,
    Function,
    Parameter,
    Typing,
    failing,
    plain,
    takes,
    typed,
)
from penstock.expressions.times import SPAN_MAX_MS, millis_of_seconds, read_time
from penstock.model.types import BIGINT, BOOLEAN, DATE, INT, STRING, TIMESTAMP, DataType, Kind

__all__ = ["FUNCTIONS", "ceil_time", "floor_time", "time_rounding_check"]

_UNIT_MS = {"WEEK": 604_800_000, "DAY": 86_400_000, "HOUR": 3_600_000, "MINUTE": 60_000, "SECOND": 1000,
            "MILLISECOND": 1}  # fmt: skip
_UNIT_MONTHS = {"YEAR": 12, "QUARTER": 3, "MONTH": 1}
_STEPS = {"YEAR": "1y", "QUARTER": "1q", "MONTH": "1mo", "WEEK": "1w", "DAY": "1d", "HOUR": "1h", "MINUTE": "1m",
          "SECOND": "1s", "MILLISECOND": "1ms"}  # fmt: skip
_NEXT = {"YEAR": "12mo", "QUARTER": "3mo", "MONTH": "1mo"}
_CLOCK = ("HOUR", "MINUTE", "SECOND", "MILLISECOND")


def _time_types(*kinds: Kind) -> Parameter:
    names = " or ".join(k.value for k in kinds)

    def accepts(expr: Expr) -> DataType | None:
        if expr.type.kind is Kind.NULL:
            return TIMESTAMP
        return expr.type if expr.type.kind in kinds else None

    return Parameter(names, accepts, "Write CAST(x AS TIMESTAMP(3)), or TO_TIMESTAMP(text).")


_STAMP = _time_types(Kind.TIMESTAMP, Kind.TIMESTAMP_LTZ)
_DAY_TIME = _time_types(Kind.TIMESTAMP, Kind.TIMESTAMP_LTZ, Kind.DATE)
_ANY_TIME = _time_types(Kind.TIMESTAMP, Kind.TIMESTAMP_LTZ, Kind.DATE, Kind.TIME)


def _stamp(value: pl.Expr, data_type: DataType) -> pl.Expr:
    """A DATE as its midnight; other times as they are."""
    return value.cast(pl.Datetime("ms")) if data_type.kind is Kind.DATE else value


def _unit(expr: Expr) -> str:
    return str(expr.value).upper() if isinstance(expr, Literal) else ""


_FIELDS: dict[str, Callable[[pl.Expr], pl.Expr]] = {
    "YEAR": lambda t: t.dt.year(),
    "QUARTER": lambda t: t.dt.quarter(),
    "MONTH": lambda t: t.dt.month(),
    "WEEK": lambda t: t.dt.week(),
    "DAY": lambda t: t.dt.day(),
    "DOY": lambda t: t.dt.ordinal_day(),
    "DOW": lambda t: t.dt.weekday() % 7 + 1,
    "ISODOW": lambda t: t.dt.weekday(),
    "ISOYEAR": lambda t: t.dt.iso_year(),
    "DECADE": lambda t: t.dt.year() // 10,
    "CENTURY": lambda t: (t.dt.year() + 99) // 100,
    "MILLENNIUM": lambda t: (t.dt.year() + 999) // 1000,
    "HOUR": lambda t: t.dt.hour(),
    "MINUTE": lambda t: t.dt.minute(),
    "SECOND": lambda t: t.dt.second(),
    "MILLISECOND": lambda t: t.dt.millisecond(),
    "EPOCH": lambda t: t.dt.epoch("s"),
}


def _extract_check(args: Sequence[Expr]) -> Typing:
    typing = takes(BIGINT, CONSTANT_TEXT, _ANY_TIME)(args)
    unit = _unit(args[0])
    if unit not in _FIELDS:
        raise Mismatch(f"does not know the unit {unit}.", f"Write one of {', '.join(_FIELDS)}.")
    if args[1].type.kind is Kind.TIME and unit not in _CLOCK:
        raise Mismatch(f"cannot take {unit} from a TIME.", f"Write one of {', '.join(_CLOCK)}.")
    return typing


def _extract(call: Call, values: Sequence[pl.Expr]) -> Compiled:
    return Compiled(_FIELDS[_unit(call.args[0])](_stamp(values[1], call.args[1].type)).cast(pl.Int64))


def time_rounding_check(args: Sequence[Expr]) -> Typing:
    """FLOOR and CEIL of a time to a unit."""
    typing = takes(0, _DAY_TIME, CONSTANT_TEXT)(args)
    if _unit(args[1]) not in _STEPS:
        raise Mismatch(f"cannot round a time to {_unit(args[1])}.", f"Write one of {', '.join(_STEPS)}.")
    return typing


def floor_time(value: pl.Expr, data_type: DataType, unit: str) -> pl.Expr:
    """The start of the unit that holds a time; weeks start on Sunday, as in Flink."""
    stamp = _stamp(value, data_type)
    if unit == "WEEK":
        stamp = (stamp + pl.duration(days=1, time_unit="ms")).dt.truncate("1w") - pl.duration(days=1, time_unit="ms")
    else:
        stamp = stamp.dt.truncate(_STEPS[unit])
    return stamp.dt.date() if data_type.kind is Kind.DATE else stamp


def ceil_time(value: pl.Expr, data_type: DataType, unit: str) -> pl.Expr:
    """The time itself if a unit starts there, else the start of the next."""
    stamp, floored = _stamp(value, data_type), _stamp(floor_time(value, data_type, unit), data_type)
    following = floored.dt.offset_by(_NEXT.get(unit, _STEPS[unit]))
    moved = pl.when(floored == stamp).then(stamp).otherwise(following)
    return moved.dt.date() if data_type.kind is Kind.DATE else moved


def _add_check(args: Sequence[Expr]) -> Typing:
    typing = takes(2, CONSTANT_TEXT, LONG, _DAY_TIME)(args)
    unit = _unit(args[0])
    if unit not in _UNIT_MS and unit not in _UNIT_MONTHS:
        raise Mismatch(f"cannot add {unit}.", f"Write one of {', '.join([*_UNIT_MONTHS, *_UNIT_MS])}.")
    if typing.result.kind is Kind.DATE and unit in _CLOCK:
        return Typing((*typing.arguments[:2], TIMESTAMP), TIMESTAMP)
    return typing


def _add(call: Call, values: Sequence[pl.Expr]) -> Compiled:
    unit, count, moment = _unit(call.args[0]), values[1], values[2]
    stamp = _stamp(moment, call.args[2].type)
    size = _UNIT_MS.get(unit) or _UNIT_MONTHS[unit] * 2_592_000_000
    too_far = (count > SPAN_MAX_MS // size) | (count < -(SPAN_MAX_MS // size))
    kept = pl.when(~too_far).then(count)
    if unit in _UNIT_MS:
        moved = stamp + (kept * _UNIT_MS[unit]).cast(pl.Duration("ms"))
    else:
        moved = stamp.dt.offset_by((kept * _UNIT_MONTHS[unit]).cast(pl.String) + "mo")
    constant = call.args[1]
    error = failing("overflow", too_far & moment.is_not_null())
    if (
        isinstance(constant, Literal)
        and isinstance(constant.value, int)
        and abs(constant.value) * size <= SPAN_MAX_MS
    ):
        return Compiled(moved.dt.date() if call.type.kind is Kind.DATE else moved)
    return Compiled(moved.dt.date() if call.type.kind is Kind.DATE else moved, error)


def _diff_check(args: Sequence[Expr]) -> Typing:
    typing = takes(INT, CONSTANT_TEXT, _DAY_TIME, _DAY_TIME)(args)
    unit = _unit(args[0])
    if unit not in _UNIT_MONTHS and unit not in _UNIT_MS:
        raise Mismatch(f"cannot count in {unit}.", f"Write one of {', '.join([*_UNIT_MONTHS, *_UNIT_MS])}.")
    if {typing.arguments[1].kind, typing.arguments[2].kind} >= {Kind.TIMESTAMP_LTZ} and args[1].type != args[2].type:
        raise Mismatch("takes two times of one kind.", "Write CAST(x AS TIMESTAMP(3)) around the TIMESTAMP_LTZ.")
    return typing


def _diff(call: Call, values: Sequence[pl.Expr]) -> Compiled:
    unit = _unit(call.args[0])
    a, b = (_stamp(v, arg.type) for v, arg in zip(values[1:], call.args[1:], strict=True))
    if unit in _UNIT_MS:
        count = truncated(b.to_physical() - a.to_physical(), pl.lit(_UNIT_MS[unit], dtype=pl.Int64))
    else:
        count = truncated(_months_between(a, b), pl.lit(_UNIT_MONTHS[unit], dtype=pl.Int64))
    return Compiled(count.cast(pl.Int32, wrap_numerical=True))


def _months_between(a: pl.Expr, b: pl.Expr) -> pl.Expr:
    """Whole months from a to b; a month is whole when the day and time of the earlier one are reached again."""
    back = a > b
    early, late = pl.when(back).then(b).otherwise(a), pl.when(back).then(a).otherwise(b)
    first, last = (t.dt.year().cast(pl.Int64) * 12 + t.dt.month() for t in (early, late))
    count = last - first
    whole = count - (early.dt.offset_by(count.cast(pl.String) + "mo") > late).cast(pl.Int64)
    return pl.when(back).then(-whole).otherwise(whole)


def _pattern_check(result: DataType, *parameters: Parameter, optional: int = 0, parsing: bool) -> Check:
    """As `takes`; the constant pattern in the last place must be one that can be translated."""
    base = takes(result, *parameters, optional=optional)

    def check(args: Sequence[Expr]) -> Typing:
        typing = base(args)
        if len(args) == len(parameters) and isinstance(args[-1], Literal):
            pattern = str(args[-1].value)
            if parsing:
                read_pattern(pattern)
            else:
                formatted(pl.lit(None, dtype=pl.Datetime("ms")), pattern)
        return typing

    return check


def _pattern(call: Call, place: int) -> str | None:
    if len(call.args) <= place:
        return None
    pattern = call.args[place]
    return str(pattern.value) if isinstance(pattern, Literal) else None


def _date_format(call: Call, values: Sequence[pl.Expr]) -> Compiled:
    return Compiled(formatted(values[0], _pattern(call, 1) or ""))


def _to_timestamp(call: Call, values: Sequence[pl.Expr]) -> Compiled:
    return Compiled(read_time(values[0], _pattern(call, 1)))


def _to_date(call: Call, values: Sequence[pl.Expr]) -> Compiled:
    return Compiled(read_time(values[0], _pattern(call, 1)).dt.date())


def _unix_timestamp(call: Call, values: Sequence[pl.Expr]) -> Compiled:
    read = read_time(values[0], _pattern(call, 1))
    return Compiled(read.dt.epoch("s"), failing("bad_argument", read.is_null() & values[0].is_not_null()))


def _from_unixtime(call: Call, values: Sequence[pl.Expr]) -> Compiled:
    millis, outside = millis_of_seconds(values[0])
    text = formatted(millis.cast(pl.Datetime("ms")), _pattern(call, 1) or "yyyy-MM-dd HH:mm:ss")
    return Compiled(text, failing("bad_argument", outside))


def _overlaps_check(args: Sequence[Expr]) -> Typing:
    target = comparable_type(args)
    if target.kind not in (Kind.DATE, Kind.TIME, Kind.TIMESTAMP, Kind.TIMESTAMP_LTZ):
        raise Mismatch(f"takes times, not {target}.", "Write (start, end) OVERLAPS (start, INTERVAL '1' HOUR).")
    return Typing((target,) * 4, BOOLEAN)


def _overlaps(first: pl.Expr, last: pl.Expr, other_first: pl.Expr, other_last: pl.Expr) -> pl.Expr:
    """Ends of a pair stand in any order and belong to it: pairs that touch overlap, as in Calcite."""

    def ordered(a: pl.Expr, b: pl.Expr) -> tuple[pl.Expr, pl.Expr]:
        return pl.when(a <= b).then(a).otherwise(b), pl.when(a <= b).then(b).otherwise(a)

    start, end = ordered(first, last)
    other_start, other_end = ordered(other_first, other_last)
    return (end >= other_start) & (other_end >= start)


def _part(name: str, field: str, doc: str, example: str) -> Function:
    """YEAR(ts) and its like: EXTRACT by another name."""
    parameter = _ANY_TIME if field in _CLOCK else _DAY_TIME

    def build(call: Call, values: Sequence[pl.Expr]) -> Compiled:
        return Compiled(_FIELDS[field](_stamp(values[0], call.args[0].type)).cast(pl.Int64))

    shown = f"{name}(TIMESTAMP '2018-03-04 05:06:07')"
    return Function(name, f"{name}(ts)", doc, takes(BIGINT, parameter), typed(build), ((shown, example),))


FUNCTIONS = (
    Function("EXTRACT", "EXTRACT(unit FROM ts)", "A part of a time. Units: YEAR, QUARTER, MONTH, WEEK, DAY, DOY, "
             "DOW (Sunday "
             "is 1), ISODOW (Monday is 1), HOUR, MINUTE, SECOND, MILLISECOND (of the second), EPOCH (seconds), "
             "...",
             _extract_check, typed(_extract),
             (("EXTRACT(HOUR FROM TIMESTAMP '2018-01-01 10:20:30')", "10"),
              ("EXTRACT(DOW FROM DATE '2018-01-07')", "1"),
              ("EXTRACT(EPOCH FROM TIMESTAMP '1970-01-02 00:00:00')", "86400"))),
    _part("YEAR", "YEAR", "The year.", "2018"),
    _part("QUARTER", "QUARTER", "The quarter, 1 to 4.", "1"),
    _part("MONTH", "MONTH", "The month, 1 to 12.", "3"),
    _part("WEEK", "WEEK", "The ISO week.", "9"),
    _part("DAYOFYEAR", "DOY", "The day of the year.", "63"),
    _part("DAYOFMONTH", "DAY", "The day of the month; also DAY(ts).", "4"),
    _part("DAYOFWEEK", "DOW", "The day of the week; Sunday is 1.", "1"),
    _part("HOUR", "HOUR", "The hour, 0 to 23.", "5"),
    _part("MINUTE", "MINUTE", "The minute.", "6"),
    _part("SECOND", "SECOND", "The second.", "7"),
    Function("OVERLAPS", "(a, b) OVERLAPS (c, d)", "True if two spans of time have a moment in common; b and d "
             "are times or INTERVALs.", _overlaps_check, plain(_overlaps),
             (("(DATE '2018-01-01', DATE '2018-01-05') OVERLAPS (DATE '2018-01-05', INTERVAL '3' DAY)", "true"),
              ("(TIMESTAMP '2018-01-01 09:00:00', INTERVAL '1' HOUR) OVERLAPS "
               "(TIMESTAMP '2018-01-01 10:15:00', INTERVAL '3' HOUR)", "false"))),
    Function("DATE_FORMAT", "DATE_FORMAT(ts, 'pattern')", "The time as text by a Java pattern: yyyy, yy, MM, M, "
             "MMM, MMMM, dd, d, HH, H, hh, h, kk, KK, mm, m, ss, s, S, SSS, a, E, EEEE, D, Q, QQQ, A and 'quoted "
             "text'.",
             _pattern_check(STRING, _STAMP, CONSTANT_TEXT, parsing=False), typed(_date_format),
             (("DATE_FORMAT(TIMESTAMP '2018-03-04 05:06:07', 'yyyy-MM-dd HH:mm')", '"2018-03-04 05:06"'),)),
    Function("TO_TIMESTAMP", "TO_TIMESTAMP(text[, 'pattern'])",
             "Text as TIMESTAMP; NULL if it does not fit the pattern "
             "(yyyy-MM-dd HH:mm:ss by default).", _pattern_check(TIMESTAMP, TEXT, CONSTANT_TEXT, optional=1,
             parsing=True),
             typed(_to_timestamp),
             (("TO_TIMESTAMP('04.03.2018 05:06', 'dd.MM.yyyy HH:mm')", '"2018-03-04T05:06:00.000"'),
              ("TO_TIMESTAMP('soon')", "null"))),
    Function("TO_DATE", "TO_DATE(text[, 'pattern'])", "Text as DATE; NULL if it does not fit the pattern "
             "(yyyy-MM-dd by default).",
             _pattern_check(DATE, TEXT, CONSTANT_TEXT, optional=1, parsing=True), typed(_to_date),
             (("TO_DATE('2018-03-04')", '"2018-03-04"'), ("TO_DATE('04/03/2018', 'dd/MM/yyyy')", '"2018-03-04"'))),
    Function("TIMESTAMPADD", "TIMESTAMPADD(unit, n, ts)", "The time n units later. Months keep the day where they "
             "can.",
             _add_check, typed(_add),
             (("TIMESTAMPADD(MONTH, 1, DATE '2018-01-31')", '"2018-02-28"'),
              ("TIMESTAMPADD(HOUR, -1, TIMESTAMP '2018-01-01 00:00:00')", '"2017-12-31T23:00:00.000"'))),
    Function("TIMESTAMPDIFF", "TIMESTAMPDIFF(unit, a, b)", "Whole units from a to b.", _diff_check, typed(_diff),
             (("TIMESTAMPDIFF(DAY, DATE '2018-01-01', DATE '2018-03-01')", "59"),
              ("TIMESTAMPDIFF(MONTH, DATE '2018-01-31', DATE '2018-02-28')", "1"),
              ("TIMESTAMPDIFF(SECOND, TIMESTAMP '2018-01-01 00:00:01.500', TIMESTAMP '2018-01-01 00:00:00')", "-1"))),
    Function("UNIX_TIMESTAMP", "UNIX_TIMESTAMP(text[, 'pattern'])",
             "Text as epoch seconds; fails if it does not fit the pattern.",
             _pattern_check(BIGINT, TEXT, CONSTANT_TEXT, optional=1, parsing=True), typed(_unix_timestamp),
             (("UNIX_TIMESTAMP('1970-01-01 00:01:00')", "60"), ("UNIX_TIMESTAMP('x')", "error: bad_argument"))),
    Function("FROM_UNIXTIME", "FROM_UNIXTIME(n[, 'pattern'])", "Epoch seconds as text.",
             _pattern_check(STRING, LONG, CONSTANT_TEXT, optional=1, parsing=False), typed(_from_unixtime),
             (("FROM_UNIXTIME(60)", '"1970-01-01 00:01:00"'),)),
)  # fmt: skip
