"""CAST among the supported types, by the rules of Flink's runtime (flink-table-runtime, functions.casting).

Numbers narrow as in Java: integers wrap, DOUBLE to an integer truncates and saturates, NaN is 0. A DECIMAL that does
not fit is NULL. Text is read without the blanks around it; text that is no value of the type fails (`cast_failed`).
The session time zone is UTC.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import polars as pl

from penstock.codecs.frames import polars_type
from penstock.expressions import decimals
from penstock.expressions.casts_nested import check_nested_cast, nested_cast
from penstock.expressions.coercion import Mismatch, as_decimal
from penstock.expressions.rounding import double_to_decimal
from penstock.expressions.table import Compiled, failing
from penstock.model.types import DataType, Kind

__all__ = ["cast_value", "check_cast", "fitted"]

CAST_FAILED = "cast_failed"
_INTEGERS = (Kind.TINYINT, Kind.SMALLINT, Kind.INT, Kind.BIGINT)
_FLOATS = (Kind.FLOAT, Kind.DOUBLE)
_NUMBERS = (*_INTEGERS, *_FLOATS, Kind.DECIMAL)
_TIMESTAMPS = (Kind.TIMESTAMP, Kind.TIMESTAMP_LTZ)
_BITS = {Kind.TINYINT: 7, Kind.SMALLINT: 15, Kind.INT: 31, Kind.BIGINT: 63}

#: source kind -> kinds that it can be cast to, besides itself.
_TARGETS: dict[Kind, set[Kind]] = {
    Kind.BOOLEAN: {Kind.STRING, *_NUMBERS},
    **{kind: {Kind.BOOLEAN, Kind.STRING, *_NUMBERS} for kind in _INTEGERS},
    **{kind: {Kind.BOOLEAN, Kind.STRING, *_NUMBERS} for kind in (*_FLOATS, Kind.DECIMAL)},
    Kind.STRING: {Kind.BOOLEAN, *_NUMBERS, Kind.BYTES, Kind.DATE, Kind.TIME, *_TIMESTAMPS},
    Kind.BYTES: {Kind.STRING},
    Kind.DATE: {Kind.STRING, *_TIMESTAMPS},
    Kind.TIME: {Kind.STRING},
    Kind.TIMESTAMP: {Kind.STRING, Kind.DATE, Kind.TIME, Kind.TIMESTAMP_LTZ},
    Kind.TIMESTAMP_LTZ: {Kind.STRING, Kind.DATE, Kind.TIME, Kind.TIMESTAMP},
    Kind.INTERVAL: set(),
    Kind.NULL: set(Kind) - {Kind.INTERVAL, Kind.NULL},
}


def check_cast(source: DataType, target: DataType) -> None:
    """Mismatch if there is no CAST from `source` to `target`."""
    if source.is_nested:
        check_nested_cast(source, target)
        return
    if source.kind is target.kind or target.kind in _TARGETS[source.kind]:
        return
    remedy = "Cast to STRING first if that is meant."
    if source.is_numeric and target.is_timestamp:
        remedy = "Write TO_TIMESTAMP_LTZ(milliseconds, 3)."
    elif source.is_timestamp and target.is_numeric:
        remedy = "Write EXTRACT(EPOCH FROM ts), or TIMESTAMPDIFF for the time between two."
    raise Mismatch(f"cannot convert {source} to {target}.", remedy)


def cast_value(value: pl.Expr, source: DataType, target: DataType) -> Compiled:
    """`value` of type `source` as `target`; the error mask is None where it cannot fail."""
    if source == target:
        return Compiled(value)
    if source.is_nested:
        return Compiled(nested_cast(value, source, target, _leaves))
    if source.kind is Kind.NULL:
        return Compiled(value.cast(polars_type(target)))
    if source.kind is Kind.STRING:
        return _from_text(value, target)
    if target.kind is Kind.STRING:
        return _to_text(value, source)
    if source.is_numeric or source.kind is Kind.BOOLEAN:
        return _from_number(value, source, target)
    return _from_time(value, source, target)


def fitted(value: pl.Expr, kind: Kind, length: int, *, padded: bool) -> pl.Expr:
    """What CHAR(n), VARCHAR(n), BINARY(n) and VARBINARY(n) keep: the first n; CHAR and BINARY are `padded` to n."""
    if kind is Kind.STRING:
        cut = value.str.slice(0, length)
        return cut.str.pad_end(length, " ") if padded else cut

    def batch(values: pl.Series) -> pl.Series:
        kept = [None if v is None else v[:length].ljust(length if padded else 0, b"\0") for v in values.to_list()]
        return pl.Series(values.name, kept, dtype=pl.Binary)

    return value.map_batches(batch, return_dtype=pl.Binary, is_elementwise=True)


def _leaves(values: Sequence[Any], source: DataType, target: DataType) -> list[Any]:
    """Parts of nested values in another type, by a cast that cannot fail."""
    frame = pl.DataFrame([pl.Series("v", values, dtype=polars_type(source))])
    return frame.select(cast_value(pl.col("v"), source, target).value.alias("v"))["v"].to_list()


def _from_number(value: pl.Expr, source: DataType, target: DataType) -> Compiled:
    if target.kind is Kind.BOOLEAN:
        return Compiled(value != 0)
    if target.kind is Kind.DECIMAL:
        return _number_to_decimal(value, source, target)
    wanted = polars_type(target)
    if source.kind in _FLOATS and target.is_integer:
        return Compiled(_saturated(value, target))
    if source.kind is Kind.DECIMAL and target.is_integer:
        scale = as_decimal(source)[1]
        whole = decimals.divide_down(decimals.unscaled(value), decimals.power(scale))
        return Compiled(whole.cast(pl.Int64, wrap_numerical=True).cast(wanted, wrap_numerical=True))
    if target.is_integer and source.is_integer:
        return Compiled(value.cast(wanted, wrap_numerical=True))
    return Compiled(value.cast(wanted, strict=False))


def _saturated(value: pl.Expr, target: DataType) -> pl.Expr:
    """Java's (int) of a double: toward zero, clamped; through int for the narrower types."""
    bits = max(_BITS[target.kind], 31)
    high, low = 2**bits - 1, -(2**bits)
    wide = pl.Int64 if bits == 63 else pl.Int32
    clamped = (
        pl.when(value >= float(2**bits))
        .then(pl.lit(high, dtype=wide))
        .when(value <= float(low))
        .then(pl.lit(low, dtype=wide))
        .otherwise(value.fill_nan(0.0).cast(wide, strict=False))
    )
    nan_as_zero = pl.when(value.is_nan()).then(pl.lit(0, dtype=wide)).otherwise(clamped)
    return nan_as_zero.cast(polars_type(target), wrap_numerical=True)


def _number_to_decimal(value: pl.Expr, source: DataType, target: DataType) -> Compiled:
    precision, scale = as_decimal(target)
    if source.kind is Kind.BOOLEAN:
        value, source_scale = value.cast(pl.Int32), 0
    elif source.kind in _FLOATS:
        return Compiled(double_to_decimal(value, precision, scale), failing(CAST_FAILED, ~value.is_finite()))
    else:
        source_scale = as_decimal(source)[1]
        if source.kind is Kind.DECIMAL and scale >= source_scale:
            whole = as_decimal(source)[0] - source_scale
            if precision - scale >= whole:  # widening: every value fits, and Polars is exact
                return Compiled(value.cast(pl.Decimal(precision, scale)))
    raw = decimals.unscaled(value) if source.kind is Kind.DECIMAL else value.cast(pl.Int128)
    return Compiled(decimals.rescale(raw, from_scale=source_scale, precision=precision, scale=scale))


def _text_to_decimal(text: pl.Expr, precision: int, scale: int) -> pl.Expr:
    """Text as DECIMAL, HALF_UP: read with as many more digits as 38 allow, then rounded."""
    wide = max(scale, min(37, 38 - (precision - scale)))
    read = text.cast(pl.Decimal(38, wide), strict=False)
    return decimals.rescale(decimals.unscaled(read), from_scale=wide, precision=precision, scale=scale)


def _from_text(value: pl.Expr, target: DataType) -> Compiled:
    if target.kind is Kind.BYTES:
        return Compiled(value.cast(pl.Binary))
    made = _READERS[target.kind](value.str.strip_chars(), target)
    return Compiled(made, failing(CAST_FAILED, made.is_null() & value.is_not_null()))


def _read_integer(text: pl.Expr, target: DataType) -> pl.Expr:
    """Whole numbers; a fraction is cut. The pattern is needed only for a batch that has other texts."""
    wanted = polars_type(target)

    def batch(values: pl.Series) -> pl.Series:
        plain = values.cast(wanted, strict=False)
        if plain.null_count() == values.null_count():
            return plain
        return values.str.extract(r"^([+-]?[0-9]+)(?:\.[0-9]*)?$", 1).cast(wanted, strict=False)

    return text.map_batches(batch, return_dtype=wanted, is_elementwise=True)


def _read_float(text: pl.Expr, target: DataType) -> pl.Expr:
    read = text.cast(polars_type(target), strict=False)
    return pl.when(read.is_finite() | text.str.contains(r"^[+-]?(?:NaN|Infinity|[0-9.][0-9.eE+-]*)$")).then(read)


def _read_decimal(text: pl.Expr, target: DataType) -> pl.Expr:
    return _text_to_decimal(text, *as_decimal(target))


def _read_boolean(text: pl.Expr, _: DataType) -> pl.Expr:
    lower = text.str.to_lowercase()
    words = {"t": True, "true": True, "y": True, "yes": True, "1": True,
             "f": False, "false": False, "n": False, "no": False, "0": False}  # fmt: skip
    return lower.replace_strict(words, default=None, return_dtype=pl.Boolean)


def _read_date(text: pl.Expr, _: DataType) -> pl.Expr:
    return text.str.extract(r"^([0-9]{4}-[0-9]{1,2}-[0-9]{1,2})(?:[ T].*)?$", 1).str.to_date("%Y-%m-%d", strict=False)


def _read_time(text: pl.Expr, _: DataType) -> pl.Expr:
    whole = text.str.extract(r"^([0-9]{1,2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?)$", 1)
    return whole.str.to_time("%H:%M:%S%.f", strict=False)


def read_timestamp(text: pl.Expr) -> pl.Expr:
    """`2018-01-01 10:00:00.123`, also with T, or a date alone; digits after milliseconds are cut. NULL otherwise."""
    normal = text.str.extract(
        r"^([0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:[ T][0-9]{1,2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?)?)$", 1
    ).str.replace("T", " ", literal=True)
    whole = pl.when(normal.str.contains(":", literal=True)).then(normal).otherwise(normal + " 00:00:00")
    return (
        whole.str.to_datetime("%Y-%m-%d %H:%M:%S%.f", time_unit="us", strict=False)
        .dt.truncate("1ms")
        .dt.cast_time_unit("ms")
    )


def _read_local(text: pl.Expr, _: DataType) -> pl.Expr:
    return read_timestamp(text.str.strip_suffix("Z")).dt.replace_time_zone("UTC")


_READERS: dict[Kind, Callable[[pl.Expr, DataType], pl.Expr]] = {
    **dict.fromkeys(_INTEGERS, _read_integer),
    **dict.fromkeys(_FLOATS, _read_float),
    Kind.DECIMAL: _read_decimal,
    Kind.BOOLEAN: _read_boolean,
    Kind.DATE: _read_date,
    Kind.TIME: _read_time,
    Kind.TIMESTAMP: lambda text, _: read_timestamp(text),
    Kind.TIMESTAMP_LTZ: _read_local,
}


def _to_text(value: pl.Expr, source: DataType) -> Compiled:
    match source.kind:
        case Kind.BOOLEAN:
            return Compiled(pl.when(value).then(pl.lit("TRUE")).when(~value).then(pl.lit("FALSE")))
        case Kind.FLOAT | Kind.DOUBLE:
            return Compiled(value.map_batches(_java_text, return_dtype=pl.String, is_elementwise=True))
        case Kind.TIMESTAMP | Kind.TIMESTAMP_LTZ:
            return Compiled(value.dt.to_string("%Y-%m-%d %H:%M:%S%.3f"))
        case Kind.TIME:
            return Compiled(value.dt.to_string("%H:%M:%S%.f"))
        case Kind.BYTES:
            return Compiled(value.map_batches(_decoded, return_dtype=pl.String, is_elementwise=True))
        case _:
            return Compiled(value.cast(pl.String))


def _decoded(values: pl.Series) -> pl.Series:
    """Java's `new String(bytes, UTF_8)`: bytes that are no UTF-8 become U+FFFD."""
    texts = [None if v is None else v.decode("utf-8", "replace") for v in values.to_list()]
    return pl.Series(texts, dtype=pl.String)


def _java_text(values: pl.Series) -> pl.Series:
    """Double.toString: plain from 0.001 to 10,000,000, else `1.5E10`; `Infinity`, `NaN`."""
    text = values.cast(pl.String)
    size = values.abs()
    odd = ((size < 1e-3) & (size != 0)) | (size >= 1e7) | ~values.is_finite()
    places = odd.fill_null(value=False).arg_true()
    if not len(places):
        return text
    return text.scatter(places, [_java_number(t) for t in text.gather(places).to_list()])


def _java_number(text: str) -> str:
    if text.lower().lstrip("-") in ("inf", "nan"):
        return text.lower().replace("inf", "Infinity").replace("nan", "NaN")
    mantissa, _, exponent = text.lower().partition("e")
    sign = "-" if mantissa.startswith("-") else ""
    whole, _, fraction = mantissa.lstrip("-").partition(".")
    digits = (whole + fraction).lstrip("0")
    lead = len(whole + fraction) - len(digits)
    power = int(exponent or 0) + len(whole) - lead - 1
    return f"{sign}{digits[0]}.{digits[1:].rstrip('0') or '0'}E{power}"


def _from_time(value: pl.Expr, source: DataType, target: DataType) -> Compiled:
    match source.kind, target.kind:
        case Kind.DATE, Kind.TIMESTAMP:
            return Compiled(value.cast(pl.Datetime("ms")))
        case Kind.DATE, Kind.TIMESTAMP_LTZ:
            return Compiled(value.cast(pl.Datetime("ms")).dt.replace_time_zone("UTC"))
        case Kind.TIMESTAMP, Kind.TIMESTAMP_LTZ:
            return Compiled(value.dt.replace_time_zone("UTC"))
        case Kind.TIMESTAMP_LTZ, Kind.TIMESTAMP:
            return Compiled(value.dt.replace_time_zone(None))
        case _, Kind.DATE:
            return Compiled(value.dt.date())
        case _, Kind.TIME:
            return Compiled(value.dt.truncate("1s").dt.time())  # TIME is TIME(0) in Flink
        case _:
            raise Mismatch(f"cannot convert {source} to {target}.", "Cast to STRING first if that is meant.")
