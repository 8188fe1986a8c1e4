"""Changes of a cycle against the rows that an operator keeps: what is added, and what goes."""

from __future__ import annotations

import polars as pl

from penstock.model.batch import Op
from penstock_processor.operators.keyed_rows import KeyedRows
from penstock_processor.operators.row_changes import changes_to
from penstock_processor.operators.step import CHANGE

HOUR_MS = 3_600_000


def changes(*rows):
    """Rows (operation, key, value)."""
    ops = pl.Series(CHANGE, [int(op) for op, _, _ in rows], pl.Int8)
    return pl.DataFrame([row[1:] for row in rows], schema=["k", "v"], orient="row").hstack([ops])


def kept_since(now_ms, *rows):
    kept = KeyedRows(["k"], whole=["k", "v"], ttl_ms=HOUR_MS)
    kept.add(pl.DataFrame(list(rows), schema=["k", "v"], orient="row"), now_ms)
    kept.tidy(now_ms)
    return kept


def test_a_row_that_has_outlived_its_time_comes_anew_when_its_input_tells_it_again():
    told = changes((Op.UPDATE_BEFORE, 1, 5), (Op.UPDATE_AFTER, 1, 5))
    for now_ms, gone in ((HOUR_MS, 1), (2 * HOUR_MS, 0)):
        added, [positions] = changes_to([kept_since(1, (1, 5))], told, ["k", "v"], now_ms)
        assert added.rows() == [(1, 5)]
        assert len(positions) == gone


def test_a_row_that_comes_and_then_goes_in_one_cycle_does_neither():
    told = changes((Op.INSERT, 1, 5), (Op.INSERT, 1, 6), (Op.DELETE, 1, 5), (Op.DELETE, 2, 7), (Op.DELETE, 3, 8))
    added, [positions] = changes_to([kept_since(1, (2, 7))], told, ["k", "v"], HOUR_MS)
    assert added.rows() == [(1, 6)]
    assert positions.tolist() == [0]
