"""Changelogs as frames: which rows bring and which take back, and what is left of the changes of a cycle by key."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from penstock.model.batch import Op
from penstock_processor.operators.step import CHANGE

__all__ = ["brings", "net_changes", "with_change"]

_FIRST, _LAST = "$first", "$last"


def brings(frame: pl.DataFrame) -> pl.Series:
    """Which rows are brought (+I, +U); the others take an equal row back (-U, -D)."""
    ops = frame[CHANGE]
    return (ops == int(Op.INSERT)) | (ops == int(Op.UPDATE_AFTER))


def with_change(frame: pl.DataFrame) -> pl.DataFrame:
    """The frame with CHANGE: rows of an append-only flow are brought."""
    if CHANGE in frame.columns:
        return frame
    return frame.with_columns(pl.lit(int(Op.INSERT), dtype=pl.Int8).alias(CHANGE))


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
