"""Windows over what windows give: grouped again by their bounds, or by another window on their window_time."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence

import polars as pl
import pytest
from processor.window_oracle import Expected, Row, aligned, sessions, steps_of, tumble
from processor.window_rig import ALIGNED, LAG, PARTITIONS, SECOND, SESSIONS, Restarting, blocks_of

from penstock_processor.compile.build import build_engine
from penstock_processor.logical.plan import AppPlan
from penstock_processor.logical.plan_app import plan_app
from penstock_processor.operators.interface import Engine

#: A view keeps event time; a derived table keeps it by declaring it again.
APP = """CREATE TABLE readings (
  device STRING, n BIGINT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '7' SECOND
) WITH ('connector' = 'penstock', 'partitions' = '2');
CREATE VIEW totals AS SELECT device, window_start AS s, window_end AS e, window_time AS t, COUNT(*) AS c
FROM TABLE({window}) GROUP BY device, window_start, window_end, window_time;
CREATE TABLE stored (device STRING, c BIGINT, t TIMESTAMP(3), WATERMARK FOR t AS t) WITH ('connector' = 'penstock');
INSERT INTO stored SELECT device, c, t FROM totals;
CREATE TABLE again WITH ('connector' = 'penstock') AS SELECT e, s, COUNT(*) AS n, MAX(c) AS most
FROM totals WHERE c > 1 GROUP BY s, e;
CREATE TABLE once_more WITH ('connector' = 'penstock') AS SELECT MIN(most) AS least, e, s
FROM (SELECT device, s, e, MAX(c) AS most FROM totals GROUP BY e, device, s) GROUP BY s, e;
CREATE TABLE by_view WITH ('connector' = 'penstock') AS SELECT window_start AS s, COUNT(*) AS n, SUM(c) AS c
FROM TABLE(TUMBLE(TABLE totals, DESCRIPTOR(t), INTERVAL '1' MINUTE)) GROUP BY window_start, window_end;
CREATE TABLE by_table WITH ('connector' = 'penstock') AS SELECT window_start AS s, COUNT(*) AS n, SUM(c) AS c
FROM TABLE(TUMBLE(TABLE stored, DESCRIPTOR(t), INTERVAL '1' MINUTE)) GROUP BY window_start, window_end;
"""
INNER = [*list(ALIGNED)[1::3], *SESSIONS]


def _inner(window: str, steps: Sequence[Sequence[Row]]) -> Expected:
    if window in ALIGNED:
        return aligned(ALIGNED[window], steps, lag=LAG, partitions=PARTITIONS)
    gap, by_key = SESSIONS[window]
    return sessions(gap, steps, lag=LAG, partitions=PARTITIONS, by_key=by_key)


def _expected(window: str, steps: Sequence[Sequence[Row]]) -> dict[str, list[tuple[int, ...]]]:
    counts: dict[tuple[int, int], list[int]] = defaultdict(list)
    for _, start, end, count, *_ in _inner(window, steps)[0]:
        counts[start, end].append(count)
    minutes: dict[int, list[int]] = defaultdict(list)
    for (_, end), each in counts.items():
        ((minute, _),) = tumble(60 * SECOND)(end - 1)
        minutes[minute] += each
    many = {bounds: [c for c in each if c > 1] for bounds, each in counts.items()}
    by_minute = sorted((minute, len(each), sum(each)) for minute, each in minutes.items())
    return {
        "again": sorted((end, start, len(each), max(each)) for (start, end), each in many.items() if each),
        "once_more": sorted((min(each), end, start) for (start, end), each in counts.items()),
        "by_view": by_minute,
        "by_table": by_minute,
    }


def _found(plan: AppPlan, engine: Engine | Restarting, steps: Sequence[Sequence[Row]]
           ) -> dict[str, list[tuple[int, ...]]]:  # fmt: skip
    rows: dict[str, list[tuple[int, ...]]] = defaultdict(list)
    for result in [*(engine.step(blocks_of(plan, each)) for each in steps), engine.finish()]:
        for output in result.outputs:
            frame = output.frame.select(pl.exclude("^[$].*$"))
            rows[output.target] += frame.with_columns(pl.col(pl.Datetime).dt.timestamp("ms")).rows()
    del rows["stored"]
    return {target: sorted(each) for target, each in rows.items()}


@pytest.mark.parametrize("window", INNER)
def test_windows_of_windows_have_the_rows_of_their_definition_wherever_the_engine_restarts(window: str) -> None:
    plan = plan_app("app", APP.format(window=window))
    for seed in range(2):
        chance = random.Random(seed)
        steps = steps_of(chance, partitions=PARTITIONS, tick=SECOND, rows=50)
        expected = _expected(window, steps)
        assert all(expected.values())
        assert _found(plan, build_engine(plan), steps) == expected
        assert _found(plan, Restarting(plan, chance), steps) == expected


def test_windows_that_are_grouped_again_end_with_those_that_they_come_from() -> None:
    plan = plan_app("app", APP.format(window=next(iter(ALIGNED))))
    engine = build_engine(plan)
    seen = []
    for at in (1_000, 9_000, 9_998 + LAG, 9_999 + LAG):
        rows = [(partition, "a", 1, at) for partition in range(PARTITIONS)]
        outputs = engine.step(blocks_of(plan, rows)).outputs
        seen.append([o.frame.height for o in outputs if o.target == "once_more"])
    assert [sum(each) for each in seen] == [0, 0, 0, 1]
