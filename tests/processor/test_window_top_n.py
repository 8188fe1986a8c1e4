"""The best rows of each window, against a plain reading of order, ties and late rows, also over restarts."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence

import polars as pl
import pytest
from processor.window_oracle import Row, steps_of, watermarks
from processor.window_rig import ALIGNED, LAG, PARTITIONS, SECOND, Restarting, blocks_of

from penstock_processor.compile.build import build_engine
from penstock_processor.logical.explain import explain_text
from penstock_processor.logical.plan import AppPlan
from penstock_processor.logical.plan_app import plan_app
from penstock_processor.operators.interface import Engine

APP = """SET 'parallelism.default' = '{tasks}';
CREATE TABLE readings (
  device STRING, n BIGINT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '7' SECOND
) WITH ('connector' = 'penstock', 'partitions' = '2');
CREATE TABLE found WITH ('connector' = 'penstock') AS SELECT s, e, device, n, ts, place FROM (
  SELECT device, n, ts, window_start AS s, window_end AS e,
    ROW_NUMBER() OVER (PARTITION BY window_start, window_end{key} ORDER BY {order}) AS place
  FROM TABLE({window})) WHERE place <= {limit};
"""
#: ORDER BY, and what a row is sorted by: NULL is the least number.
ORDERS = {
    "n DESC": lambda row: (row[2] is None, -(row[2] or 0)),
    "n, ts DESC": lambda row: (row[2] is not None, row[2] or 0, -row[3]),
    "n DESC NULLS FIRST": lambda row: (row[2] is not None, -(row[2] or 0)),
}
WINDOWS = list(ALIGNED)[::3]


def _plan(window: str, order: str, *, keyed: bool, limit: int, tasks: int = 1) -> AppPlan:
    key = ", device" if keyed else ""
    return plan_app("app", APP.format(window=window, order=order, key=key, limit=limit, tasks=tasks))


def _expected(window: str, order: str, steps: Sequence[Sequence[Row]], *, keyed: bool, limit: int
              ) -> list[tuple[object, ...]]:  # fmt: skip
    groups: dict[tuple[object, ...], list[Row]] = defaultdict(list)
    for rows, watermark in zip(steps, watermarks(steps, lag=LAG, partitions=PARTITIONS), strict=True):
        for row in sorted(rows, key=lambda each: each[0]):
            for start, end in ALIGNED[window](row[3]):
                if end - 1 > watermark:
                    groups[(start, end, row[1]) if keyed else (start, end)].append(row)
    return [
        (start, end, row[1], row[2], row[3], place)
        for (start, end, *_), rows in groups.items()
        for place, row in enumerate(sorted(rows, key=ORDERS[order])[:limit], 1)
    ]


def _found(plan: AppPlan, engine: Engine | Restarting, steps: Sequence[Sequence[Row]]) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = []
    for result in [*(engine.step(blocks_of(plan, each)) for each in steps), engine.finish()]:
        for output in result.outputs:
            frame = output.frame.select(pl.exclude("^[$].*$"))
            rows += frame.with_columns(pl.col(pl.Datetime).dt.timestamp("ms")).rows()
    return rows


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("order", ORDERS)
def test_the_best_rows_come_once_when_their_window_ends(window: str, order: str) -> None:
    for seed, keyed, limit in [(1, True, 2), (2, False, 3), (3, False, 1)]:
        chance = random.Random(seed)
        steps = steps_of(chance, partitions=PARTITIONS, tick=SECOND, rows=60)
        plan = _plan(window, order, keyed=keyed, limit=limit)
        found = _found(plan, build_engine(plan), steps)
        expected = _expected(window, order, steps, keyed=keyed, limit=limit)
        assert sorted(found, key=repr) == sorted(expected, key=repr)
        assert _found(plan, Restarting(plan, chance), steps) == found


def test_what_cannot_be_among_the_best_leaves_the_state() -> None:
    plan = _plan(WINDOWS[0], "n DESC", keyed=False, limit=2)
    engine = build_engine(plan)
    for step in range(20):
        engine.step(blocks_of(plan, [(0, "a", n, 9 * SECOND) for n in range(step * 300, step * 300 + 300)]))
    assert sum(engine.state_sizes().values()) < 100
    assert [row[3] for row in _found(plan, engine, [])] == [5_999, 5_998]


def test_rows_of_a_window_meet_in_one_task() -> None:
    text = explain_text(_plan(WINDOWS[0], "n DESC", keyed=False, limit=1, tasks=2))
    assert "Repartition by window_start, window_end" in text


#: Readers of rows that are in several windows: the best of them, groups of windows that rows have already.
AGAIN = """CREATE TABLE again WITH ('connector' = 'penstock') AS SELECT s, e, COUNT(*) AS c FROM (
  SELECT n, window_start AS s, window_end AS e FROM TABLE({window})) GROUP BY s, e;
"""


@pytest.mark.parametrize("window", [name for name in ALIGNED if not name.startswith("TUMBLE")][::2])
def test_a_row_is_late_once_and_not_while_it_counts_in_a_window(window: str) -> None:
    plan = plan_app(
        "app", APP.format(window=window, order="n DESC", key="", limit=2, tasks=1) + AGAIN.format(window=window)
    )
    steps = steps_of(random.Random(4), partitions=PARTITIONS, tick=SECOND, rows=60)
    engine, partly = build_engine(plan), 0
    for rows, watermark in zip(steps, watermarks(steps, lag=LAG, partitions=PARTITIONS), strict=True):
        result = engine.step(blocks_of(plan, rows))
        late = []
        for partition in range(PARTITIONS):
            for place, row in enumerate(each for each in rows if each[0] == partition):
                open_ = [end - 1 > watermark for _, end in ALIGNED[window](row[3])]
                late += [] if any(open_) else [(partition, place)]
                partly += any(open_) and not all(open_)
        for statement in {problem.statement for problem in result.problems} | {s.label for s in plan.statements}:
            mine = [(p.partition, p.row) for p in result.problems if p.statement == statement and p.code == "late"]
            assert sorted(mine) == late
    assert partly
