"""A clock that is set back, in a running app or between two runs, brings nothing back whose time was up."""

from __future__ import annotations

import polars as pl
import pytest
from engine_rig import DeltaLog
from processor.keyed_rig import app, blocks

from penstock_processor.compile.build import build_engine
from penstock_processor.logical.plan import AppPlan
from penstock_processor.operators.interface import Engine, SourceBlock

HOUR_MS = 3_600_000
NOON_MS = 1_514_764_800_000
JOIN = app(
    "k INT, a INT, b INT, PRIMARY KEY (k, a, b) NOT ENFORCED", "SELECT l.k, l.v, r.v FROM l JOIN r ON l.k = r.k"
)
GROUPS = app("k INT, n BIGINT, PRIMARY KEY (k) NOT ENFORCED", "SELECT k, COUNT(*) FROM l GROUP BY k")


class Run:
    """An app whose clock the test sets."""

    def __init__(self, plan: AppPlan, *, restarts: bool) -> None:
        self._plan, self._restarts = plan, restarts
        self._log = DeltaLog()
        self._engine: Engine = build_engine(plan)

    def step(self, name: str, row: tuple[int, int], now_ms: int) -> list[tuple]:
        """Rows that come of one row."""
        if self._restarts:
            self._engine = build_engine(self._plan)
            self._engine.restore(self._log.deltas)
        frame: pl.DataFrame = blocks(self._plan, {name: [(*row, 0)]})[name]
        result = self._engine.step([SourceBlock(name, 0, frame)], now_ms=now_ms)
        self._log.write(result.deltas)
        return [row for output in result.outputs for row in output.frame.drop("$op", strict=False).rows()]


@pytest.mark.parametrize("restarts", [False, True])
def test_a_row_whose_time_was_up_is_not_found_again(restarts: bool) -> None:
    run = Run(JOIN, restarts=restarts)
    run.step("l", (1, 10), NOON_MS)
    assert run.step("r", (1, 20), NOON_MS + 2 * HOUR_MS) == []  # an hour is all that it is kept for
    assert run.step("r", (1, 21), NOON_MS + 1) == []
    assert len(run.step("l", (1, 11), NOON_MS + 2)) == 2


@pytest.mark.parametrize("restarts", [False, True])
def test_a_group_whose_time_was_up_begins_anew_and_goes_on_from_there(restarts: bool) -> None:
    run = Run(GROUPS, restarts=restarts)
    first = run.step("l", (1, 10), NOON_MS)
    run.step("l", (2, 10), NOON_MS + 2 * HOUR_MS)
    again = run.step("l", (1, 10), NOON_MS + 1)
    assert [row[:2] for row in first] == [row[:2] for row in again] == [(1, 1)]
