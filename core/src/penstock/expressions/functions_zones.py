"""Functions that know time zones: CONVERT_TZ and TO_TIMESTAMP_LTZ. The session itself is in UTC.

Semantics: Flink 2.3, "Temporal Functions"
(https://nightlies.apache.org/flink/flink-docs-release-2.3/docs/sql/functions/built-in-functions/#temporal-functions).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import polars as pl

from penstock.expressions.coercion import Mismatch
from penstock.expressions.java_patterns import read_pattern
from penstock.expressions.nodes import Call, Expr, Literal
from penstock.expressions.table import (
    CONSTANT_TEXT,
    INTEGER,
    LONG,
    TEXT,
    Compiled,
    Function,
    Typing,
    failing,
    takes,
    typed,
)
from penstock.expressions.time_zones import Zone, from_zone, to_zone, zone_of
from penstock.expressions.times import SPAN_MAX_MS, millis_of_seconds, read_time
from penstock.model.types import STRING, TIMESTAMP_LTZ, Kind

__all__ = ["FUNCTIONS"]

_CLOCK = "%Y-%m-%d %H:%M:%S"


def _check_zone(expr: Expr) -> None:
    if isinstance(expr, Literal) and isinstance(expr.value, str) and zone_of(expr.value) is None:
        raise Mismatch(f"does not know the time zone '{expr.value[:40]}'.",
                       "Write a name such as 'Europe/Berlin' or 'GMT+08:00'.")  # fmt: skip


def _convert_check(args: Sequence[Expr]) -> Typing:
    typing = takes(STRING, TEXT, TEXT, TEXT)(args)
    for zone in args[1:]:
        _check_zone(zone)
    return typing


def _convert(_: Call, values: Sequence[pl.Expr]) -> Compiled:
    """Lenient as Java's SimpleDateFormat: months and hours beyond their end carry over, what follows is not read."""
    parts = [values[0].str.extract(r"^\s*(\d{1,6})-(\d{1,6})-(\d{1,6}) +(\d{1,6}):(\d{1,6}):(\d{1,6})", i + 1)
             .cast(pl.Int64) for i in range(6)]  # fmt: skip
    year, month, day, hour, minute, second = parts
    months = year * 12 + month - 1
    known = months.clip(12, 9998 * 12)  # pl.datetime raises for other numbers
    start = pl.when(known == months).then(pl.datetime(known // 12, known % 12 + 1, 1, time_unit="ms"))
    seconds = (day - 1) * 86_400 + hour * 3_600 + minute * 60 + second
    local = start + (seconds * 1000).cast(pl.Duration("ms"))
    moved = _by_zones([local, *values[1:]], lambda times, zones: to_zone(from_zone(times, zones[0]), zones[1]))
    return Compiled(moved.dt.to_string(_CLOCK))


def _by_zones(values: Sequence[pl.Expr], move: Callable[[pl.Series, list[Zone]], pl.Series]) -> pl.Expr:
    """`move` over the times of each combination of zones in a batch; an unknown zone is UTC, as in Flink."""
    names = [str(i) for i in range(len(values))]

    def batch(packed: pl.Series) -> pl.Series:
        frame = packed.struct.unnest().with_row_index("$row")
        moved = [
            part.with_columns(move(part.get_column("0"), [zone_of(str(key)) or 0 for key in keys]).alias("0"))
            for keys, part in frame.drop_nulls().partition_by(names[1:], as_dict=True).items()
        ]
        if not moved:
            return pl.Series([None] * len(packed), dtype=pl.Datetime("ms"))
        found = pl.concat(moved).select("$row", "0")
        whole = frame.select("$row").join(found, on="$row", how="left", maintain_order="left")
        return whole.get_column("0").cast(pl.Datetime("ms"))

    packed = pl.struct(v.alias(n) for v, n in zip(values, names, strict=True))
    return packed.map_batches(batch, return_dtype=pl.Datetime("ms"), is_elementwise=True)


def _ltz_check(args: Sequence[Expr]) -> Typing:
    if args and args[0].type.kind is Kind.STRING:
        typing = takes(TIMESTAMP_LTZ, TEXT, CONSTANT_TEXT, TEXT, optional=2)(args)
        if len(args) > 1 and isinstance(args[1], Literal):
            read_pattern(str(args[1].value))
        if len(args) > 2:
            _check_zone(args[2])
        return typing
    typing = takes(TIMESTAMP_LTZ, LONG, INTEGER, optional=1)(args)
    if len(args) > 1 and not (isinstance(args[1], Literal) and args[1].value in (0, 3)):
        raise Mismatch("takes 0 (seconds) or 3 (milliseconds) as precision.", "Write TO_TIMESTAMP_LTZ(n, 3).")
    return typing


def _to_ltz(call: Call, values: Sequence[pl.Expr]) -> Compiled:
    if call.args[0].type.kind is Kind.STRING:
        return _text_to_ltz(call, values)
    precision = call.args[1] if len(call.args) > 1 else None
    if isinstance(precision, Literal) and precision.value == 0:
        millis, outside = millis_of_seconds(values[0])
    else:
        outside = (values[0] > SPAN_MAX_MS) | (values[0] < -SPAN_MAX_MS)
        millis = pl.when(~outside).then(values[0])
    return Compiled(millis.cast(pl.Datetime("ms")).dt.replace_time_zone("UTC"), failing("bad_argument", outside))


def _text_to_ltz(call: Call, values: Sequence[pl.Expr]) -> Compiled:
    """Without a pattern a text that is no time fails; with one it is NULL."""
    pattern = str(call.args[1].value) if len(call.args) > 1 and isinstance(call.args[1], Literal) else None
    local = read_time(values[0], pattern)
    if len(values) > 2:
        local = _by_zones([local, values[2]], lambda times, zones: from_zone(times, zones[0]))
    error = failing("bad_argument", local.is_null() & values[0].is_not_null()) if pattern is None else None
    return Compiled(local.dt.replace_time_zone("UTC"), error)


FUNCTIONS = (
    Function("TO_TIMESTAMP_LTZ", "TO_TIMESTAMP_LTZ(n[, precision]) or TO_TIMESTAMP_LTZ(text[, 'pattern'[, zone]])",
             "Epoch milliseconds (precision 3) or seconds (0), or a text in UTC or in a time zone, as TIMESTAMP_LTZ.",
             _ltz_check, typed(_to_ltz),
             (("TO_TIMESTAMP_LTZ(1514764800123, 3)", '"2018-01-01T00:00:00.123Z"'),
              ("TO_TIMESTAMP_LTZ(0, 0)", '"1970-01-01T00:00:00.000Z"'),
              ("TO_TIMESTAMP_LTZ('2018-07-01 12:00', 'yyyy-MM-dd HH:mm', 'Asia/Kolkata')",
               '"2018-07-01T06:30:00.000Z"'),
              ("TO_TIMESTAMP_LTZ('soon')", "error: bad_argument"))),
    Function("CONVERT_TZ", "CONVERT_TZ(text, from, to)", "A time yyyy-MM-dd HH:mm:ss of one time zone as that of "
             "another; NULL for other texts.", _convert_check, typed(_convert),
             (("CONVERT_TZ('1970-01-01 00:00:00', 'UTC', 'America/Los_Angeles')", '"1969-12-31 16:00:00"'),
              ("CONVERT_TZ('2020-07-01 02:30:00', 'Europe/Berlin', 'GMT+05:30')", '"2020-07-01 06:00:00"'),
              ("CONVERT_TZ('now', 'UTC', 'UTC') IS NULL", "true"))),
)  # fmt: skip
