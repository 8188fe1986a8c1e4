"""Times out of texts and numbers: what functions of time share."""

from __future__ import annotations

import polars as pl

from penstock.expressions.casts import read_timestamp
from penstock.expressions.java_patterns import Fields, read_pattern

__all__ = ["SPAN_MAX_MS", "millis_of_seconds", "read_time"]

SPAN_MAX_MS = 315_360_000_000_000  # ten thousand years: what may be added to a time

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def millis_of_seconds(value: pl.Expr) -> tuple[pl.Expr, pl.Expr]:
    """(milliseconds, where the seconds are out of range)."""
    limit = SPAN_MAX_MS // 1000
    outside = (value > limit) | (value < -limit)
    return pl.when(~outside).then(value) * 1000, outside


def read_time(text: pl.Expr, pattern: str | None) -> pl.Expr:
    """Text as TIMESTAMP by a Java pattern (Mismatch for one without a counterpart), or in the form of SQL.

    NULL where it does not fit. As Java's DateTimeFormatter in Flink: what the pattern leaves out is as in
    1970-01-01 00:00:00; a day up to 31 is the last one of a shorter month; 24:00:00 is the next day.
    """
    if pattern is None:
        return read_timestamp(text.str.strip_chars())
    regex, fields = read_pattern(pattern)
    groups = text.str.extract_groups(regex)
    found = {field: groups.struct.field(str(i + 1)) for i, field in enumerate(fields)}
    return _assembled(found)


def _number(found: dict[Fields, pl.Expr], field: Fields, default: int) -> pl.Expr:
    return found[field].cast(pl.Int64, strict=False) if field in found else pl.lit(default, dtype=pl.Int64)


def _assembled(found: dict[Fields, pl.Expr]) -> pl.Expr:
    year, day = _number(found, "year", 1970), _number(found, "day", 1)
    minute, second = _number(found, "minute", 0), _number(found, "second", 0)
    if "year2" in found:
        year = _number(found, "year2", 0) + 2000
    month = _number(found, "month", 1)
    if "month_name" in found:
        numbers = {name: i + 1 for i, name in enumerate(_MONTHS)}
        month = found["month_name"].str.slice(0, 3).replace_strict(numbers, default=None, return_dtype=pl.Int64)
    hour = _number(found, "hour", 0)
    if "hour12" in found:
        half = _number(found, "hour12", 12)
        hour = pl.when((half >= 1) & (half <= 12)).then(half % 12)
        if "half" in found:
            hour = hour + pl.when(found["half"] == "PM").then(12).otherwise(0)
    millis = pl.lit(0, dtype=pl.Int64)
    if "fraction" in found:
        millis = found["fraction"].fill_null("").str.pad_end(3, "0").str.slice(0, 3).cast(pl.Int64, strict=False)
    clock = ((hour * 60 + minute) * 60 + second) * 1000 + millis
    inside = month.is_between(1, 12) & day.is_between(1, 31) & (clock <= 86_400_000) & (minute < 60) & (second < 60)
    first = pl.when(inside & year.is_between(1, 9999)).then(
        pl.datetime(year.clip(1, 9999), month.clip(1, 12), 1, time_unit="ms")  # it raises for other numbers
    )
    last = first.dt.month_end().dt.day().cast(pl.Int64)
    days = pl.min_horizontal(day, last) - 1
    return first + (days * 86_400_000 + clock).cast(pl.Duration("ms"))
