"""Constants: numbers, texts, typed times and intervals as typed literals, and their conversion to other types."""

from __future__ import annotations

import re
from datetime import date, datetime, time
from decimal import Decimal

from sqlglot import exp

from penstock.expressions.coercion import INTERVAL, Mismatch, as_decimal
from penstock.expressions.nodes import NOWHERE, Cast, Expr, Literal, Span
from penstock.model.types import BIGINT, DOUBLE, INT, DataType, Kind, decimal

__all__ = ["coerced", "interval", "months", "number", "time_literal"]

_DATE = re.compile(r"\d{4}-\d{1,2}-\d{1,2}")
_TIMESTAMP = re.compile(r"(\d{4}-\d{1,2}-\d{1,2})(?:[ T](\d{1,2}:\d{2}:\d{2}(?:\.\d{1,9})?))?")
_TIME = re.compile(r"(\d{1,2}):(\d{2}):(\d{2})(?:\.(\d{1,9}))?")
_UNIT_MS = {"WEEK": 604_800_000, "DAY": 86_400_000, "HOUR": 3_600_000, "MINUTE": 60_000, "SECOND": 1000}
_SPAN_MS = {
    ("DAY", "HOUR"): (r"(\d+) (\d+)", (86_400_000, 3_600_000)),
    ("DAY", "MINUTE"): (r"(\d+) (\d+):(\d+)", (86_400_000, 3_600_000, 60_000)),
    ("DAY", "SECOND"): (r"(\d+) (\d+):(\d+):(\d+)(\.\d+)?", (86_400_000, 3_600_000, 60_000, 1000)),
    ("HOUR", "MINUTE"): (r"(\d+):(\d+)", (3_600_000, 60_000)),
    ("HOUR", "SECOND"): (r"(\d+):(\d+):(\d+)(\.\d+)?", (3_600_000, 60_000, 1000)),
    ("MINUTE", "SECOND"): (r"(\d+):(\d+)(\.\d+)?", (60_000, 1000)),
}


def number(text: str, *, negative: bool = False, span: Span = NOWHERE) -> Literal:
    """INT, BIGINT, DECIMAL (with a point, or beyond BIGINT) or DOUBLE (with an exponent). Mismatch out of range."""
    sign = "-" if negative else ""
    if "e" in text.lower():
        value = float(sign + text)
        if value in (float("inf"), float("-inf")):
            raise Mismatch(f"The number {text} is out of the range of DOUBLE.", "Write a smaller number.")
        return Literal(DOUBLE, value=value, span=span)
    if "." not in text:
        whole = int(sign + text)
        if -(2**31) <= whole < 2**31:
            return Literal(INT, value=whole, span=span)
        if -(2**63) <= whole < 2**63:
            return Literal(BIGINT, value=whole, span=span)
    digits, _, fraction = text.partition(".")
    precision = len(digits) + len(fraction)
    if precision > 38:
        raise Mismatch(f"The number has {precision} digits.", "At most 38 are possible; write 1.5e40 for a DOUBLE.")
    return Literal(
        decimal(max(precision, 1), len(fraction)),
        value=Decimal(sign + (digits or "0") + "." + (fraction or "0")),
        span=span,
    )


def time_literal(text: str, target: DataType, *, span: Span = NOWHERE) -> Literal:
    """DATE, TIME, TIMESTAMP or TIMESTAMP_LTZ (UTC) of a text. Mismatch if the text is none."""
    value = _parse(text.strip(), target.kind)
    if value is None:
        shape = {Kind.DATE: "'2018-01-31'", Kind.TIME: "'10:00:00'"}.get(target.kind, "'2018-01-31 10:00:00'")
        raise Mismatch(f"'{text[:40]}' is no {target}.", f"Write {shape}.")
    return Literal(target, value=value, span=span)


def months(node: exp.Interval) -> int | None:
    """Months of an INTERVAL in YEAR or MONTH; None for day-time intervals. Mismatch if the text is no number."""
    unit = node.args.get("unit")
    if not isinstance(unit, exp.Var) or unit.name not in ("YEAR", "MONTH"):
        return None
    match = re.fullmatch(r"-?\d{1,6}", node.this.name.strip())
    if match is None:
        raise Mismatch(f"'{node.this.name[:40]}' is no whole number of {unit.name}s.", "Write INTERVAL '1' MONTH.")
    return int(match.group()) * (12 if unit.name == "YEAR" else 1)


def interval(node: exp.Interval, *, span: Span = NOWHERE) -> Literal:
    """A day-time INTERVAL in milliseconds. Mismatch for other texts."""
    text, unit = node.this.name.strip(), node.args.get("unit")
    sign = -1 if text.startswith("-") else 1
    text = text.lstrip("+-")
    found: Decimal | None = None
    if isinstance(unit, exp.IntervalSpan):
        shape = _SPAN_MS.get((unit.this.name, unit.expression.name))
        match = re.fullmatch(shape[0], text) if shape else None
        if shape and match:
            parts = list(match.groups())
            fraction = parts.pop() if len(parts) > len(shape[1]) else None
            found = sum((Decimal(p) * ms for p, ms in zip(parts, shape[1], strict=True)), Decimal(0))
            found += Decimal(fraction or 0) * 1000
    elif isinstance(unit, exp.Var) and unit.name in _UNIT_MS and re.fullmatch(r"\d{1,12}(\.\d+)?", text):
        found = Decimal(text) * _UNIT_MS[unit.name] if "." not in text or unit.name == "SECOND" else None
    if found is None or found > 2**53:
        raise Mismatch(f"'{node.this.name[:40]}' does not fit its unit.", "Write INTERVAL '10' MINUTE, for example.")
    return Literal(INTERVAL, value=sign * int(found), span=span)


def coerced(expr: Expr, target: DataType) -> Expr:
    """`expr` as `target`: constants are converted here (Mismatch if they cannot be), the rest gets a CAST."""
    if expr.type == target:
        return expr
    if isinstance(expr, Literal):
        value = expr.value
        if value is None:
            return Literal(target, value=None, span=expr.span)
        if isinstance(value, str) and target.kind in (Kind.DATE, Kind.TIME, Kind.TIMESTAMP, Kind.TIMESTAMP_LTZ):
            return time_literal(value, target, span=expr.span)
        if isinstance(value, int | Decimal) and not isinstance(value, bool) and expr.type.is_numeric:
            converted = _number_as(value, target)
            if converted is not None:
                return Literal(target, value=converted, span=expr.span)
    return Cast(target, arg=expr, span=expr.span)


def _number_as(value: int | Decimal, target: DataType) -> int | float | Decimal | None:
    """The number in the wider type; None if a CAST must do it."""
    if target.kind is Kind.DOUBLE:
        return float(value)
    if target.is_integer and isinstance(value, int):
        return value
    if target.kind is Kind.DECIMAL:
        precision, scale = as_decimal(target)
        exact = Decimal(value)
        exponent = exact.as_tuple().exponent
        if isinstance(exponent, int) and -exponent <= scale and (not exact or exact.adjusted() < precision - scale):
            return exact
    return None


def _parse(text: str, kind: Kind) -> date | time | datetime | None:
    try:
        if kind is Kind.DATE:
            return date(*map(int, text.split("-"))) if _DATE.fullmatch(text) else None
        if kind is Kind.TIME:
            return _time(text)
        match = _TIMESTAMP.fullmatch(text.removesuffix("Z") if kind is Kind.TIMESTAMP_LTZ else text)
        if match is None:
            return None
        day = date(*map(int, match[1].split("-")))
        at = _time(match[2]) if match[2] else time()
        return datetime.combine(day, at) if at is not None else None
    except ValueError:
        return None


def _time(text: str) -> time | None:
    match = _TIME.fullmatch(text)
    if match is None:
        return None
    millis = int((match[4] or "0")[:3].ljust(3, "0"))
    return time(int(match[1]), int(match[2]), int(match[3]), millis * 1000)
