"""Windows without GROUP BY: rows with the bounds of their windows, wherever the engine restarts."""

from __future__ import annotations

import random
from collections.abc import Sequence

import polars as pl
import pytest
from processor.window_oracle import Row, sessions, steps_of
from processor.window_rig import ALIGNED, LAG, PARTITIONS, SECOND, SESSIONS, Restarting, blocks_of

from penstock_processor.compile.build import build_engine
from penstock_processor.logical.explain import explain_text
from penstock_processor.logical.plan import AppPlan
from penstock_processor.logical.plan_app import plan_app
from penstock_processor.operators.interface import Engine

APP = """SET 'parallelism.default' = '{tasks}';
CREATE TABLE readings (
  device STRING, n BIGINT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '7' SECOND
) WITH ('connector' = 'penstock', 'partitions' = '2');
CREATE TABLE placed WITH ('connector' = 'penstock') AS SELECT device, n, ts, window_start AS s, window_end AS e
FROM TABLE({window});
"""


def _plan(window: str, tasks: int = 1) -> AppPlan:
    return plan_app("app", APP.format(window=window, tasks=tasks))


def _found(plan: AppPlan, engine: Engine | Restarting, steps: Sequence[Sequence[Row]]
           ) -> tuple[list[tuple[object, ...]], int]:  # fmt: skip
    rows: list[tuple[object, ...]] = []
    late = 0
    for result in [*(engine.step(blocks_of(plan, each)) for each in steps), engine.finish()]:
        for output in result.outputs:
            frame = output.frame.select(pl.exclude("^[$].*$"))
            rows += frame.with_columns(pl.col(pl.Datetime).dt.timestamp("ms")).rows()
        late += len(result.problems)
    return rows, late


@pytest.mark.parametrize("window", list(ALIGNED)[::2])
def test_each_row_comes_once_for_every_window_that_it_lies_in_late_or_not(window: str) -> None:
    chance = random.Random(window)
    steps = steps_of(chance, partitions=PARTITIONS, tick=SECOND, rows=60)
    plan = _plan(window)
    expected = [
        (device, n, ts, start, end)
        for step in steps
        for _, device, n, ts in step
        if ts is not None
        for start, end in ALIGNED[window](ts)
    ]
    found, _ = _found(plan, build_engine(plan), steps)
    assert sorted(found, key=repr) == sorted(expected, key=repr)


@pytest.mark.parametrize("window", SESSIONS)
def test_rows_of_sessions_are_those_that_their_groups_count_wherever_the_engine_restarts(window: str) -> None:
    gap, by_key = SESSIONS[window]
    plan = _plan(window)
    for seed in range(3):
        chance = random.Random(seed)
        steps = steps_of(chance, partitions=PARTITIONS, tick=SECOND, rows=50)
        groups, _, *_ = sessions(gap, steps, lag=LAG, partitions=PARTITIONS, by_key=by_key)
        found, late = _found(plan, build_engine(plan), steps)
        counts = {(device, start, end): 0 for device, start, end, *_ in groups}
        for device, _, ts, start, end in found:
            assert start <= ts <= end - gap
            counts[device, start, end] += 1
        given = [(*key, count) for key, count in counts.items()]
        assert sorted(given, key=repr) == sorted((group[:4] for group in groups), key=repr)
        assert _found(plan, Restarting(plan, chance), steps) == (found, late)
        assert len(found) + late == sum(len(step) for step in steps)


def test_sessions_move_to_the_task_that_has_their_key() -> None:
    by_key, _, alone = (explain_text(_plan(window, tasks=2)) for window in SESSIONS)
    assert "Repartition by device" in by_key
    assert "Repartition to the first partition" in alone


def test_rows_of_sessions_say_up_to_which_start_they_are_complete() -> None:
    window, (gap, _) = next(iter(SESSIONS.items()))
    plan = _plan(window)
    engine = build_engine(plan)
    reached = 103 * SECOND
    rows: list[Row] = [(0, "a", 1, reached), (0, "b", 1, reached + LAG), (1, "b", 1, reached + LAG)]
    (output,) = engine.step(blocks_of(plan, rows)).outputs
    assert output.watermark_ms == reached - gap + 1  # a session of one row that starts then would end now
