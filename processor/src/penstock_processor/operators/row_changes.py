"""Changes that come to an operator which keeps rows: what is to be added, and which kept rows go."""

from __future__ import annotations

import numpy as np
import polars as pl

from penstock_processor.operators.changes import brings
from penstock_processor.operators.hash_index import Ints
from penstock_processor.operators.keyed_rows import KeyedRows, pairs_of_equal
from penstock_processor.operators.step import CHANGE

__all__ = ["changes_to"]


def changes_to(kept: KeyedRows, frame: pl.DataFrame, columns: list[str], now_ms: int) -> tuple[pl.DataFrame, Ints]:
    """Rows of a flow to add, and positions of those that go. Rows taken back that are not there are left alone.

    A row that comes and goes in the same cycle does neither.
    """
    rows = frame.select(columns)
    if CHANGE not in frame.columns:
        return rows, np.zeros(0, np.int64)
    back = ~brings(frame).to_numpy()
    if not back.any():
        return rows, np.zeros(0, np.int64)
    added, gone = rows.filter(pl.Series(~back)), rows.filter(pl.Series(back))
    mine, positions = kept.equal(gone, now_ms)
    if len(mine) == gone.height or not added.height:
        return added, positions
    stays = np.ones(added.height, np.bool_)
    unknown = gone.filter(pl.Series(~np.isin(np.arange(gone.height), mine)))
    stays[pairs_of_equal(unknown, added)[1]] = False
    return added.filter(pl.Series(stays)), positions
