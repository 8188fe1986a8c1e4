"""Aggregates OVER rows before, against a plain reading row by row, wherever the engine restarts."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Sequence

import polars as pl
import pytest
from processor.window_oracle import Row, steps_of, watermarks
from processor.window_rig import LAG, PARTITIONS, SECOND, Restarting, blocks_of

from penstock_processor.compile.build import build_engine
from penstock_processor.logical.explain import explain_text
from penstock_processor.logical.plan import AppPlan
from penstock_processor.logical.plan_app import check_app, plan_app
from penstock_processor.operators.interface import Engine

APP = """SET 'parallelism.default' = '{tasks}';
CREATE TABLE readings (
  device STRING, n BIGINT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '7' SECOND
) WITH ('connector' = 'penstock', 'partitions' = '2');
CREATE TABLE found WITH ('connector' = 'penstock') AS
SELECT device, n, ts, COUNT(*) OVER w AS c, SUM(n) OVER w AS s, MIN(n) OVER w AS least, MAX(n) OVER w AS most,
  FIRST_VALUE(n) OVER w AS f, LAST_VALUE(n) OVER w AS l{more}
FROM readings WINDOW w AS ({key}ORDER BY ts {frame});
"""
#: The frame, whether it goes by rows, and how far back (None: all).
FRAMES = {
    "ROWS BETWEEN 3 PRECEDING AND CURRENT ROW": (True, 3),
    "ROWS BETWEEN 0 PRECEDING AND CURRENT ROW": (True, 0),
    "ROWS UNBOUNDED PRECEDING": (True, None),
    "RANGE BETWEEN INTERVAL '4' SECOND PRECEDING AND CURRENT ROW": (False, 4 * SECOND),
    "RANGE BETWEEN INTERVAL '30' SECOND PRECEDING AND CURRENT ROW": (False, 30 * SECOND),
    "": (False, None),
}
Values = tuple[object, ...]


def _plan(frame: str, *, keyed: bool = True, tasks: int = 1) -> AppPlan:
    key = "PARTITION BY device " if keyed else ""
    more = "" if frame else ", LAG(n, 2) OVER w AS back"
    if FRAMES[frame][1] is None:
        more += ", COUNT(DISTINCT n) OVER w AS several, SUM(DISTINCT n) OVER w AS once"
    return plan_app("app", APP.format(frame=frame, key=key, more=more, tasks=tasks))


def _expected(frame: str, steps: Sequence[Sequence[Row]], *, keyed: bool) -> tuple[list[Values], int]:
    """Rows in order of time, those of one time as they arrived (in a step by partition), and late ones."""
    by_rows, back = FRAMES[frame]
    marks = watermarks(steps, lag=LAG, partitions=PARTITIONS)
    counted: list[Row] = []
    late = 0
    for rows, watermark in zip(steps, marks, strict=True):
        for row in sorted(rows, key=lambda each: each[0]):
            late += row[3] <= watermark
            counted += [row] if row[3] > watermark else []
    counted.sort(key=lambda row: row[3])
    found = []
    for place, (_, key, n, at) in enumerate(counted):
        mine = [(m, number, time) for m, (_, other, number, time) in enumerate(counted) if not keyed or other == key]
        frame_rows = [r for r in mine if (r[0] <= place if by_rows else r[2] <= at)]
        if back is not None:
            frame_rows = frame_rows[-back - 1 :] if by_rows else [r for r in frame_rows if r[2] >= at - back]
        numbers = [number for _, number, _ in frame_rows if number is not None]
        ends = (min(numbers), max(numbers), numbers[0], numbers[-1]) if numbers else (None,) * 4
        lagged = () if frame else (frame_rows[-3][1] if len(frame_rows) > 2 else None,)
        once = (len(set(numbers)), sum(set(numbers)) if numbers else None) if back is None else ()
        found.append((key, n, at, len(frame_rows), sum(numbers) if numbers else None, *ends, *lagged, *once))
    return found, late


def _found(plan: AppPlan, engine: Engine | Restarting, steps: Sequence[Sequence[Row]]) -> tuple[list[Values], int]:
    rows: list[Values] = []
    late = 0
    for result in [*(engine.step(blocks_of(plan, each)) for each in steps), engine.finish()]:
        for output in result.outputs:
            frame = output.frame.select(pl.exclude("^[$].*$"))
            rows += frame.with_columns(pl.col(pl.Datetime).dt.timestamp("ms")).rows()
        late += sum(problem.code == "late" for problem in result.problems)
    return rows, late


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize("keyed", [True, False], ids=["by key", "without a key"])
def test_each_row_has_the_values_of_its_frame_in_order_wherever_the_engine_restarts(frame: str, keyed: bool) -> None:
    plan = _plan(frame, keyed=keyed)
    for seed in range(3):
        chance = random.Random(seed)
        steps = steps_of(chance, partitions=PARTITIONS, tick=SECOND, rows=60)
        expected = _expected(frame, steps, keyed=keyed)
        assert _found(plan, build_engine(plan), steps) == expected
        assert _found(plan, Restarting(plan, chance), steps) == expected


def test_distinct_goes_over_all_rows_before_alone() -> None:
    sql = APP.format(frame="ROWS BETWEEN 3 PRECEDING AND CURRENT ROW", key="", tasks=1,
                     more=", COUNT(DISTINCT n) OVER w AS several")  # fmt: skip
    assert [(error.code, error.remedy.split(",")[0]) for error in check_app("app", sql)] == [
        ("unsupported", "Write RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW")]  # fmt: skip


@pytest.mark.parametrize("frame", list(FRAMES)[::3])
def test_state_is_bounded_by_the_frame(frame: str) -> None:
    """Keys come and go; what no later frame can hold leaves the state."""
    plan = _plan(frame)
    engine = build_engine(plan)
    sizes = []
    for step in range(40):
        rows: list[Row] = [(n % 2, f"{step // 4}-{n % 5}", n, (step * 100 + n) * 100) for n in range(100)]
        engine.step(blocks_of(plan, rows))
        sizes.append(sum(engine.state_sizes().values()))
    assert max(sizes) < 2_600
    engine.finish()


def test_keys_without_rows_in_a_frame_of_time_are_forgotten() -> None:
    """Each key has one row, and few rows are in a frame at a time."""
    plan = _plan("RANGE BETWEEN INTERVAL '4' SECOND PRECEDING AND CURRENT ROW")
    engine, weights = build_engine(plan, durable=False), []
    tracemalloc.start()
    try:
        for step in range(80):
            rows: list[Row] = [(n % 2, f"{step}-{n}", n, (step * 250 + n) * 1000) for n in range(250)]
            engine.step(blocks_of(plan, rows))
            weights.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert max(weights[40:]) < 1.15 * max(weights[:40])


def test_rows_move_to_the_task_that_has_their_key() -> None:
    assert "Repartition by device" in explain_text(_plan("", tasks=2))
    assert "Repartition to the first partition" in explain_text(_plan("", keyed=False, tasks=2))
