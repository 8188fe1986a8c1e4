"""Functions of Python values where Polars has none: called once for each combination of arguments in a batch.

NULL comes of a NULL argument (unless `nulls` is set) and of None.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import RLock

import polars as pl

__all__ = ["by_row", "missing", "once"]


def by_row(build: Callable[..., object], result: pl.DataType, *, nulls: bool = False) -> Callable[..., pl.Expr]:
    """A vectorised form of `build`, whose values become Polars values of type `result`.

    `build` gets hashable values, is pure and does not raise; with `nulls` it gets None where an argument is NULL.
    """

    def column(values: pl.Series) -> pl.Series:
        made: dict[object, object] = {
            value: _kept(build(value)) for value in set(values.to_list()) if value is not None
        }
        if nulls:
            made[None] = _kept(build(None))
        return pl.Series([made.get(value) for value in values.to_list()], dtype=result)

    def rows(packed: pl.Series) -> pl.Series:
        made: dict[tuple[object, ...], object] = {}
        found = []
        fields = [packed.struct.field(name).to_list() for name in packed.struct.fields]
        for row in zip(*fields, strict=True):
            if row not in made:
                made[row] = _kept(build(*row)) if nulls or None not in row else None
            found.append(made[row])
        return pl.Series(found, dtype=result)

    def apply(*values: pl.Expr) -> pl.Expr:
        if len(values) == 1:
            return values[0].map_batches(once(column), return_dtype=result, is_elementwise=True)
        packed = pl.struct(value.alias(str(i)) for i, value in enumerate(values))
        return packed.map_batches(once(rows), return_dtype=result, is_elementwise=True)

    return apply


def missing(value: pl.Expr, arguments: list[pl.Expr]) -> pl.Expr:
    """Rows that have no value although no argument is NULL."""
    return value.is_null() & pl.all_horizontal([a.is_not_null() for a in arguments])


def once(made: Callable[[pl.Series], pl.Series], *, waits: bool = True) -> Callable[[pl.Series], pl.Series]:
    """`made`, which remembers its last batch: Polars asks again for each mention in value and error of a function.

    `waits`: who asks while another thread is at it waits for that. Not for a `made` that uses Polars' threads itself:
    what it hands to them may lie below a call that waits for it.
    """
    last: list[tuple[pl.Series, pl.Series]] = []
    turn = RLock()  # value and error are asked for by several threads; one of them may come back here while it waits

    def remembered(values: pl.Series) -> pl.Series:
        if not turn.acquire(blocking=waits):
            return made(values)
        try:
            if last and len(last[0][0]) == len(values) and _same(last[0][0], values):
                return last[0][1]
            found = made(values)
            last[:] = [(values, found)]
            return found
        finally:
            turn.release()

    return remembered


def _same(known: pl.Series, values: pl.Series) -> bool:
    """Equal and not only in Polars' eyes: zeros of DOUBLE have a sign."""
    inner = [f.dtype for f in known.dtype.fields] if isinstance(known.dtype, pl.Struct) else [known.dtype]
    return not any(d.is_float() for d in inner) and known.dtype == values.dtype and known.equals(values)


def _kept(value: object) -> object:
    """Text as Java stores it: what UTF-8 cannot say (half of a surrogate pair) is a question mark."""
    if isinstance(value, str) and not value.isascii():
        return value.encode("utf-8", "replace").decode()
    return value
