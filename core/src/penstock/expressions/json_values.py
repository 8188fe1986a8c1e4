"""Columns as JSON texts: how JSON_STRING, JSON_OBJECT and JSON_ARRAY write each SQL type.

As Flink: text escaped no more than JSON asks, numbers as Java's BigDecimal writes them, NaN and Infinity as strings,
times in ISO form (TIMESTAMP_LTZ with Z), BYTES in base64.
"""

from __future__ import annotations

from decimal import Decimal

import polars as pl

from penstock.expressions.by_row import by_row
from penstock.expressions.casts import cast_value
from penstock.expressions.coercion import Mismatch
from penstock.expressions.json_text import shown, write_json
from penstock.model.types import DOUBLE, STRING, DataType, Kind

__all__ = ["check_jsonable", "json_of"]

_KINDS = {Kind.STRING, Kind.BOOLEAN, Kind.TINYINT, Kind.SMALLINT, Kind.INT, Kind.BIGINT, Kind.FLOAT, Kind.DOUBLE,
          Kind.DECIMAL, Kind.TIMESTAMP, Kind.TIMESTAMP_LTZ, Kind.BYTES, Kind.NULL}  # fmt: skip


def check_jsonable(data_type: DataType) -> None:
    """Mismatch for a type that Flink does not write as JSON."""
    if data_type.kind not in _KINDS:
        raise Mismatch(f"cannot write {data_type} as JSON.", "Write CAST(x AS STRING).")


def json_of(value: pl.Expr, data_type: DataType) -> pl.Expr:
    """JSON text of each value; NULL for NULL."""
    match data_type.kind:
        case Kind.STRING:
            return value.map_batches(_quoted, return_dtype=pl.String, is_elementwise=True)
        case Kind.BOOLEAN:
            return pl.when(value).then(pl.lit("true")).when(~value).then(pl.lit("false"))
        case Kind.FLOAT | Kind.DOUBLE:
            text = cast_value(value.cast(pl.Float64), DOUBLE, STRING).value
            return by_row(_number, pl.String())(text)
        case Kind.DECIMAL:
            return by_row(_number, pl.String())(value.cast(pl.String))
        case Kind.TIMESTAMP | Kind.TIMESTAMP_LTZ:
            # ISO_LOCAL_DATE_TIME: no zeros at the end of a fraction
            text = value.dt.to_string("%Y-%m-%dT%H:%M:%S%.3f").str.strip_chars_end("0").str.strip_suffix(".")
            zone = "Z" if data_type.kind is Kind.TIMESTAMP_LTZ else ""
            return pl.lit('"') + text + pl.lit(zone + '"')
        case Kind.BYTES:
            return pl.lit('"') + value.bin.encode("base64") + pl.lit('"')
        case _:
            return value.cast(pl.String)


def _number(text: str) -> str:
    if text[-1].isalpha():  # NaN, Infinity
        return f'"{text}"'
    return shown(Decimal(text))


def _quoted(values: pl.Series) -> pl.Series:
    odd = values.str.contains('["\\\\\\x00-\\x1f]').fill_null(value=False)
    if odd.any():
        texts = [None if text is None else write_json(text) for text in values.to_list()]
        return pl.Series(texts, dtype=pl.String)
    return '"' + values + '"'
