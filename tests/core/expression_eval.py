"""Evaluate SQL text over columns, one Python value a row; a failed row shows its code."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from penstock.codecs.frames import polars_type
from penstock.expressions.bind import bind_text
from penstock.expressions.compile import compile_expression
from penstock.expressions.nodes import Expr
from penstock.model.stream import Column
from penstock.model.types import BOOLEAN, DataType

Table = dict[str, tuple[DataType, Sequence[object]]]


def frame_of(table: Table) -> pl.DataFrame:
    return pl.DataFrame(
        {
            name: pl.Series(list(values), dtype=polars_type(kind), strict=True)
            for name, (kind, values) in table.items()
        }
    )


def evaluate_bound(expr: Expr, frame: pl.DataFrame) -> list[object]:
    """Values of a bound expression; `error: code` where a row fails. Checks the type on the way."""
    made = compile_expression(expr)
    error = pl.lit(None, dtype=pl.String) if made.error is None else made.error
    result = frame.with_columns(made.value.alias("$v"), error.alias("$e")).select("$v", "$e")
    assert result.schema["$v"] == polars_type(expr.type), f"{result.schema['$v']} is not {expr.type}"
    assert result.schema["$e"] == pl.String
    return [value if code is None else f"error: {code}" for value, code in result.iter_rows()]


def evaluate(sql: str, table: Table | None = None) -> list[object]:
    """One value a row of `table` (one row without it)."""
    table = table or {"one_row": (BOOLEAN, [True])}
    columns = [Column(name, kind) for name, (kind, _) in table.items()]
    return evaluate_bound(bind_text(sql, columns), frame_of(table))


def one(sql: str) -> object:
    """The value of a constant expression."""
    return evaluate(sql)[0]
