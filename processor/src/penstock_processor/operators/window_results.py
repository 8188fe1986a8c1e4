"""From the saved state of groups to the rows that a windowed aggregate emits, final or early."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from penstock.model.batch import OP_COLUMN, PENDING_COLUMN, Op
from penstock_processor.operators.accumulators import Slots
from penstock_processor.operators.chain import PASSES
from penstock_processor.operators.groups import AggregateShape, Groups
from penstock_processor.operators.step import AT, NOWHERE

__all__ = ["SLOT", "marked", "results_of", "told"]

SLOT = "$slot"  # in the chain above early results: the slot of each


def results_of(shape: AggregateShape, by: Sequence[str], saved: pl.DataFrame, *hidden: str) -> pl.DataFrame:
    """Results over saved state, ordered by `by`."""
    at = pl.lit(NOWHERE, pl.Int64).alias(AT)
    return saved.sort(by).select(*shape.outputs, at, *hidden)


def told(done: pl.DataFrame, groups: Groups) -> pl.DataFrame:
    """Early results (behind a marking chain) as changes of what the target has; keeps what is visible now."""
    slots, passes = done[SLOT].to_numpy(), done[PASSES].to_numpy()
    was = groups.visible[slots]
    groups.visible[slots] = passes
    ops = np.where(passes, np.where(was, Op.UPDATE_AFTER, Op.INSERT), Op.DELETE).astype(np.int8)
    done = done.drop(SLOT, PASSES).with_columns(pl.Series(OP_COLUMN, ops))
    news = passes | was
    return done if news.all() else done.filter(pl.Series(news))


def marked(saved: pl.DataFrame, slots: Slots, *, pending: bool) -> pl.DataFrame:
    """Saved state on its way to early results."""
    return saved.hstack([pl.Series(SLOT, slots), pl.Series(PENDING_COLUMN, [pending] * len(slots))])
