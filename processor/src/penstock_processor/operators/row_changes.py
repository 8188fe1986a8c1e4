"""Changes that come to an operator which keeps rows: what is to be added, and which kept rows go."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from penstock_processor.operators.changes import brings
from penstock_processor.operators.hash_index import Ints
from penstock_processor.operators.keyed_rows import KeyedRows, pairs_of_equal
from penstock_processor.operators.step import CHANGE

__all__ = ["changes_to"]


def changes_to(
    stores: Sequence[KeyedRows], frame: pl.DataFrame, columns: list[str], now_ms: int
) -> tuple[pl.DataFrame, list[Ints]]:
    """Rows of a flow to add, and positions of those that go in each store, which are asked in order.

    Rows taken back that are not there are left alone: one that has outlived its time here, and is told again by an
    input that still has it (taken back and brought), comes anew.

    A row that comes and then goes in the same cycle does neither.
    """
    rows = pl.DataFrame([frame[name] for name in columns])
    positions = [np.zeros(0, np.int64) for _ in stores]
    if CHANGE not in frame.columns:
        return rows, positions
    back = ~brings(frame).to_numpy()
    if not back.any():
        return rows, positions
    added, gone = rows.filter(pl.Series(~back)), rows.filter(pl.Series(back))
    places = np.flatnonzero(back)
    for n, kept in enumerate(stores):
        mine, positions[n] = kept.equal(gone, now_ms)
        if len(mine):
            gone, places = gone.filter(pl.Series(~np.isin(np.arange(gone.height), mine))), np.delete(places, mine)
    if not gone.height or not added.height:
        return added, positions
    stays = np.ones(added.height, np.bool_)
    going, coming = pairs_of_equal(gone, added)
    stays[coming[np.flatnonzero(~back)[coming] < places[going]]] = False
    return added.filter(pl.Series(stays)), positions
