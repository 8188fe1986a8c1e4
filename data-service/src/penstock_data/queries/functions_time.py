"""Functions of time in queries: integer arithmetic over stored milliseconds and days, UTC; the calendar by the
database.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import sqlalchemy as sa

from penstock.expressions.nodes import Call, Literal
from penstock.model.types import DataType, Kind
from penstock.stores.tables import column_type
from penstock_data.queries.casts import DAY_MS
from penstock_data.queries.forks import Element, Fork, binary, floor_divided, integer, modulo_positive
from penstock_data.queries.refusals import refused_at

__all__ = ["TIME_FUNCTIONS", "moved"]

_UNIT_MS = {"WEEK": 7 * DAY_MS, "DAY": DAY_MS, "HOUR": 3_600_000, "MINUTE": 60_000, "SECOND": 1000, "MILLISECOND": 1}
#: Parts of a date: SQLite's strftime, PostgreSQL's EXTRACT.
_DATE_PARTS = {"YEAR": ("%Y", "year"), "MONTH": ("%m", "month"), "DAY": ("%d", "day"), "DOY": ("%j", "doy")}
#: Parts of a day: (unit, how many of them).
_DAY_PARTS = {"HOUR": (3_600_000, 24), "MINUTE": (60_000, 60), "SECOND": (1000, 60), "MILLISECOND": (1, 1000)}
_BIG = sa.BigInteger()
_EPOCH = sa.cast(sa.literal("1970-01-01", sa.Text()), sa.Date())
_FRIDAY = 4  # 1970-01-01 was a Thursday: days + 4, modulo 7, is 0 on a Sunday


def moved(call: Call, args: Sequence[Element]) -> Element:
    """A time plus or minus an INTERVAL."""
    time, span = (1, 0) if call.args[0].type.kind is Kind.INTERVAL else (0, 1)
    by = args[span]
    if call.type.kind is Kind.DATE:
        by = binary("/", by, integer(DAY_MS), _BIG)
    return binary(call.function, args[time], by, _BIG)


def _unit(call: Call, place: int) -> str:
    found = call.args[place]
    return str(found.value).upper() if isinstance(found, Literal) else ""


def _days(value: Element, data_type: DataType) -> Element:
    return value if data_type.kind is Kind.DATE else floor_divided(value, DAY_MS)


def _millis(value: Element, data_type: DataType) -> Element:
    return binary("*", value, integer(DAY_MS), _BIG) if data_type.kind is Kind.DATE else value


def _part(call: Call, unit: str, value: Element, data_type: DataType) -> Element:
    if unit in _DAY_PARTS:
        size_ms, count = _DAY_PARTS[unit]
        millis = _millis(value, data_type)
        return modulo_positive(floor_divided(millis, size_ms) if size_ms > 1 else millis, count)
    if unit == "EPOCH":
        return floor_divided(_millis(value, data_type), 1000)
    days = _days(value, data_type)
    if unit in ("DOW", "ISODOW"):
        shift, first = (_FRIDAY, 1) if unit == "DOW" else (_FRIDAY - 1, 1)
        return binary("+", modulo_positive(binary("+", days, integer(shift), _BIG), 7), integer(first), _BIG)
    if unit == "QUARTER":
        month = binary("+", _date_part("MONTH", days), integer(2), _BIG)
        return binary("/", month, integer(3), _BIG)
    if unit in _DATE_PARTS:
        return _date_part(unit, days)
    known = ", ".join([*_DATE_PARTS, "QUARTER", "DOW", "ISODOW", *_DAY_PARTS, "EPOCH"])
    raise refused_at(call.span, "unsupported", f"{unit} is not available in queries.", f"Write one of {known}.")


def _date_part(unit: str, days: Element) -> Element:
    shape, field = _DATE_PARTS[unit]
    seconds = binary("*", days, integer(86_400), _BIG)
    text = sa.func.strftime(sa.literal(shape, sa.Text()), seconds, sa.literal("unixepoch", sa.Text()))
    return Fork(_BIG, sqlite=sa.cast(text, _BIG), postgresql=sa.cast(sa.func.date_part(field, _date(days)), _BIG))


def _date(days: Element) -> Element:
    """PostgreSQL: the date of a number of days."""
    return _EPOCH.op("+")(sa.cast(days, sa.Integer()))


def _extract(call: Call, args: Sequence[Element]) -> Element:
    return _part(call, _unit(call, 0), args[1], call.args[1].type)


def _named(unit: str) -> Callable[[Call, Sequence[Element]], Element]:
    return lambda call, args: _part(call, unit, args[0], call.args[0].type)


def _floor(call: Call, args: Sequence[Element]) -> Element:
    """FLOOR(ts TO unit); weeks start on Sunday, as in Flink."""
    unit, source = _unit(call, 1), call.args[0].type
    value = args[0]
    if unit in ("YEAR", "MONTH"):
        return _shown(_calendar_floor(unit, _days(value, source)), source)
    if unit == "QUARTER":
        raise refused_at(call.span, "unsupported", "FLOOR TO QUARTER is not available in queries.", "Write MONTH.")
    if unit == "WEEK":
        days = _days(value, source)
        back = modulo_positive(binary("+", days, integer(_FRIDAY), _BIG), 7)
        return _shown(binary("-", days, back, _BIG), source)
    if source.kind is Kind.DATE or unit not in _UNIT_MS:
        return value
    size_ms = integer(_UNIT_MS[unit])
    return binary("*", floor_divided(value, _UNIT_MS[unit]), size_ms, column_type(source))


def _shown(days: Element, source: DataType) -> Element:
    """A number of days in the type of `source`."""
    return days if source.kind is Kind.DATE else binary("*", days, integer(DAY_MS), _BIG)


def _calendar_floor(unit: str, days: Element) -> Element:
    seconds = binary("*", days, integer(86_400), _BIG)
    modifiers = [sa.literal(text, sa.Text()) for text in ("unixepoch", f"start of {unit.lower()}")]
    here = binary("/", sa.func.unixepoch(seconds, *modifiers), integer(86_400), _BIG)
    start = sa.cast(sa.func.date_trunc(unit.lower(), sa.cast(_date(days), sa.DateTime())), sa.Date())
    there = sa.cast(start.op("-")(_EPOCH), _BIG)
    return Fork(_BIG, sqlite=here, postgresql=there)


def _ceil(call: Call, _: Sequence[Element]) -> Element:
    raise refused_at(call.span, "unsupported", "CEIL of a time is not available in queries.",
                     "Write FLOOR(ts TO unit), plus an INTERVAL.")  # fmt: skip


def _difference(call: Call, args: Sequence[Element]) -> Element:
    unit = _fixed(call)
    start, end = (_millis(arg, of.type) for arg, of in zip(args[1:], call.args[1:], strict=True))
    return binary("/", binary("-", end, start, _BIG), integer(_UNIT_MS[unit]), _BIG)


def _added(call: Call, args: Sequence[Element]) -> Element:
    unit = _fixed(call)
    by = binary("*", args[1], integer(_UNIT_MS[unit]), _BIG)
    if call.type.kind is Kind.DATE:
        by = binary("/", by, integer(DAY_MS), _BIG)
    return binary("+", args[2], by, _BIG)


def _fixed(call: Call) -> str:
    unit = _unit(call, 0)
    if unit not in _UNIT_MS:
        raise refused_at(call.span, "unsupported", f"{unit} has no fixed length: queries do not count in it.",
                         f"Write one of {', '.join(_UNIT_MS)}.")  # fmt: skip
    return unit


TIME_FUNCTIONS: Mapping[str, Callable[[Call, Sequence[Element]], Element]] = {
    "EXTRACT": _extract,
    "YEAR": _named("YEAR"),
    "QUARTER": _named("QUARTER"),
    "MONTH": _named("MONTH"),
    "DAYOFMONTH": _named("DAY"),
    "DAYOFYEAR": _named("DOY"),
    "DAYOFWEEK": _named("DOW"),
    "HOUR": _named("HOUR"),
    "MINUTE": _named("MINUTE"),
    "SECOND": _named("SECOND"),
    "FLOOR TO": _floor,
    "CEIL TO": _ceil,
    "TIMESTAMPDIFF": _difference,
    "TIMESTAMPADD": _added,
}
