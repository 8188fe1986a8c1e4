"""What rules compare: subjects as NumPy columns, each evaluated once for all rules, and constants beside them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from penstock.codecs.frames import polars_type
from penstock.expressions.compile import compile_expression
from penstock.expressions.nodes import Expr, Literal
from penstock.model.types import Kind

__all__ = ["Bools", "Numbers", "Subjects", "Values", "constants_of", "is_nan"]

Numbers = npt.NDArray[np.int64]
Values = npt.NDArray[np.generic]
Bools = npt.NDArray[np.bool_]

_FLOATS = (Kind.FLOAT, Kind.DOUBLE)
_PLAIN = frozenset({Kind.TINYINT, Kind.SMALLINT, Kind.INT, Kind.BIGINT, Kind.STRING, *_FLOATS})  # are what they say


class Subjects:
    """The compared expressions and whole conditions of all rules, evaluated once a frame."""

    def __init__(self) -> None:
        self._places: dict[Expr, str] = {}
        self._exprs: list[pl.Expr] = [pl.int_range(pl.len()).alias("$row")]  # constants become as long as the rest

    def name_of(self, subject: Expr) -> str:
        """The column of an expression; added if it is new."""
        found = self._places.get(subject)
        if found is None:
            found = self._places[subject] = f"${len(self._places)}"
            self._exprs.append(_physical(subject).alias(found))
        return found

    def evaluated(self, frame: pl.DataFrame) -> Columns:
        """Over these rows."""
        return Columns(frame, frame.select_seq(self._exprs))


class Columns:
    """Evaluated subjects (`frame`) of the rows in `source`."""

    def __init__(self, source: pl.DataFrame, frame: pl.DataFrame) -> None:
        self.source = source
        self.frame = frame
        self._arrays: dict[str, tuple[Values, Bools]] = {}

    @property
    def height(self) -> int:
        """Rows."""
        return self.frame.height

    def arrays(self, name: str) -> tuple[Values, Bools]:
        """Values of a column, and where there is one; not for text."""
        found = self._arrays.get(name)
        if found is None:
            column = self.frame.get_column(name)
            if column.null_count():
                filled = column.fill_null(value=False) if column.dtype == pl.Boolean else column.fill_null(0)
                found = filled.to_numpy(), column.is_not_null().to_numpy()
            else:
                found = column.to_numpy(), np.ones(len(column), np.bool_)
            self._arrays[name] = found
        return found


def constants_of(exprs: Sequence[Expr]) -> pl.Series:
    """The values of constant expressions of one type, in the form that subjects have."""
    if not exprs:
        return pl.Series(dtype=pl.Int64)
    if all(isinstance(expr, Literal) and expr.type.kind in _PLAIN for expr in exprs):
        values = [expr.value for expr in exprs if isinstance(expr, Literal)]
        return pl.Series(values, dtype=polars_type(exprs[0].type))
    distinct = {expr: f"${n}" for n, expr in enumerate(dict.fromkeys(exprs))}
    made = pl.select(_physical(expr).alias(name) for expr, name in distinct.items())
    found = {expr: made.get_column(name)[0] for expr, name in distinct.items()}
    return pl.Series([found[expr] for expr in exprs], dtype=made.dtypes[0])


def is_nan(values: Values) -> Bools:
    """Where a number is none."""
    return np.isnan(values) if values.dtype.kind == "f" else np.zeros(len(values), np.bool_)


def _physical(expr: Expr) -> pl.Expr:
    value = compile_expression(expr).value
    return value if expr.type.kind in (Kind.STRING, Kind.BOOLEAN, *_FLOATS) else value.to_physical()
