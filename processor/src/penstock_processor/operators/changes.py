"""Changelogs as frames: which rows bring and which take back, and what is left of the changes of a cycle by key."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from penstock.model.batch import Op
from penstock_processor.operators.step import AT, CHANGE

__all__ = ["MOVED_CHANGE", "brings", "equal_rows", "kept", "net_changes", "settled", "with_change"]

MOVED_CHANGE = "$change"  # CHANGE in a repartition stream, whose batches have operations of their own

_FIRST, _LAST, _SIGN = "$first", "$last", "$sign"


def brings(frame: pl.DataFrame) -> pl.Series:
    """Which rows are brought (+I, +U); the others take an equal row back (-U, -D)."""
    ops = frame[CHANGE]
    return (ops == int(Op.INSERT)) | (ops == int(Op.UPDATE_AFTER))


def with_change(frame: pl.DataFrame) -> pl.DataFrame:
    """The frame with CHANGE: rows of an append-only flow are brought."""
    if CHANGE in frame.columns:
        return frame
    return frame.with_columns(pl.lit(int(Op.INSERT), dtype=pl.Int8).alias(CHANGE))


def settled(frame: pl.DataFrame) -> pl.DataFrame:
    """Changes of several cycles of another task (MOVED_CHANGE) as those of one.

    What was brought and taken back is nothing; a row that was taken back and brought again stays in use. What is
    taken back comes first.
    """
    frame = frame.rename({MOVED_CHANGE: CHANGE})
    sign = pl.when(pl.col(CHANGE).is_in([int(Op.INSERT), int(Op.UPDATE_AFTER)])).then(1).otherwise(-1)
    row = [name for name in frame.columns if name not in (AT, CHANGE)]
    marked = frame.with_columns(sign.alias(_SIGN))
    both = pl.col(_SIGN).sum()
    per_row = marked.group_by(row, maintain_order=True).agg(
        pl.col(AT).last(), pl.col(CHANGE).last(), both.alias(_SIGN), pl.col(_SIGN).first().alias(_FIRST)
    )
    stays = (pl.col(_SIGN) == 0) & (pl.col(_FIRST) < 0)
    times = pl.when(stays).then(1).otherwise(pl.col(_SIGN).abs()).alias(_LAST)
    found = []
    for way, back, forth in ((-1, Op.UPDATE_BEFORE, Op.DELETE), (1, Op.UPDATE_AFTER, Op.INSERT)):
        rows = per_row.filter((pl.col(_SIGN) * way > 0) | stays).with_columns(times)
        told = pl.when(pl.col(CHANGE).is_in([int(back), int(forth)])).then(CHANGE).otherwise(int(back))
        rows = rows.with_columns(told.cast(pl.Int8).alias(CHANGE))
        found.append(rows[np.repeat(np.arange(rows.height), rows[_LAST].to_numpy())])
    return pl.concat(found).select(frame.columns)


def net_changes(frame: pl.DataFrame, key: Sequence[str], columns: Sequence[str]) -> pl.DataFrame:
    """One change a key, in order of first appearance: +I of a key that was not there, +U, or -D of one that is gone.

    The last change of a key counts. `columns`: what is compared: a key that ends as it began has no change.
    """
    bring = brings(frame).to_numpy()
    places = frame.select(key).with_row_index(_LAST).group_by(key, maintain_order=True).agg(
        pl.col(_LAST).first().alias(_FIRST), pl.col(_LAST).last()
    )  # fmt: skip
    first, last = places[_FIRST].to_numpy(), places[_LAST].to_numpy()
    stays, began = bring[last], ~bring[first]
    was = began | (frame[CHANGE].to_numpy()[first] != Op.INSERT)
    ops = np.where(stays, np.where(was, Op.UPDATE_AFTER, Op.INSERT), Op.DELETE).astype(np.int8)
    told = frame[last]
    news = np.where(stays, ~began, was)
    if (stays & began).any():
        news |= stays & began & ~equal_rows(frame[first], told, columns)
    return kept(told.drop(CHANGE).hstack([pl.Series(CHANGE, ops)]), news)


def equal_rows(one: pl.DataFrame, other: pl.DataFrame, columns: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Which rows of two frames of one height are equal in these columns; NULL is a value."""
    if not columns or not one.height:
        return np.ones(one.height, np.bool_)
    same = pl.all_horizontal([pl.col(name).eq_missing(pl.lit(other[name])) for name in columns])
    return one.select(same.alias(_FIRST))[_FIRST].to_numpy()


def kept(frame: pl.DataFrame, rows: npt.NDArray[np.bool_]) -> pl.DataFrame:
    """The marked rows. Mostly all of them are or none, and a filter costs more to start than a few rows take."""
    return frame if rows.all() else frame.filter(pl.Series(rows)) if rows.any() else frame.clear()
