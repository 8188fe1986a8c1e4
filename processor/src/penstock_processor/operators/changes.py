"""Changelogs as frames: which rows bring and which take back, and what is left of the changes of a cycle by key."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from penstock.model.batch import Op
from penstock_processor.operators.step import AT, CHANGE

__all__ = ["MOVED_CHANGE", "brings", "net_changes", "settled", "with_change"]

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
    bring = brings(frame)
    marked = frame.with_columns(bring.alias("$brings")).with_row_index(_LAST)
    per_key = marked.group_by(key, maintain_order=True).agg(
        pl.col(_LAST).first().alias(_FIRST), pl.col(_LAST).last()
    )  # fmt: skip
    first, last = frame[per_key[_FIRST]], frame[per_key[_LAST]]
    was, stays = first[CHANGE] != int(Op.INSERT), bring.gather(per_key[_LAST])
    ops = pl.select(
        pl.when(~stays).then(int(Op.DELETE)).when(was).then(int(Op.UPDATE_AFTER)).otherwise(int(Op.INSERT))
    ).to_series()
    began = ~bring.gather(per_key[_FIRST])
    same = pl.Series([True]).new_from_index(0, last.height)
    for name in columns:
        same &= first[name].eq_missing(last[name])
    news = (stays & ~(began & same)) | (~stays & was)
    return last.with_columns(ops.cast(pl.Int8).alias(CHANGE)).filter(news)
