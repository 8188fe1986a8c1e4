"""Approximate aggregates: right within their error, in bounded state, over every kind of window, also resumed."""

from __future__ import annotations

import random

import polars as pl
import pytest
from engine_rig import cut, run, run_with_restarts

from penstock_processor.compile.build import build_engine
from penstock_processor.logical.plan_app import plan_app
from penstock_processor.operators.interface import SourceBlock
from penstock_processor.operators.sketches import HeavyHitters

ROWS = 6000
SECOND = 1000
WINDOWS = {
    "tumble": "TUMBLE(TABLE events, DESCRIPTOR(ts), INTERVAL '1' HOUR)",
    "hop": "HOP(TABLE events, DESCRIPTOR(ts), INTERVAL '30' MINUTE, INTERVAL '1' HOUR)",
    "cumulate": "CUMULATE(TABLE events, DESCRIPTOR(ts), INTERVAL '30' MINUTE, INTERVAL '1' HOUR)",
    "session": "SESSION(TABLE events PARTITION BY k, DESCRIPTOR(ts), INTERVAL '10' SECOND)",
}


def _plan(window: str):
    return plan_app(
        "sketches",
        f"""CREATE TABLE events (k STRING, user_id BIGINT, d DOUBLE, ts TIMESTAMP(3), WATERMARK FOR ts AS ts)
WITH ('connector' = 'penstock');
CREATE TABLE counts WITH ('connector' = 'penstock') AS
SELECT k, window_start, window_end, APPROX_COUNT_DISTINCT(user_id) AS users, APPROX_QUANTILE(d, 0.5) AS median,
  APPROX_QUANTILE(d, 1) AS most, APPROX_COUNT_DISTINCT(user_id) FILTER (WHERE d < 0) AS nobody, COUNT(*) AS c,
  APPROX_TOP_K(user_id, 50) AS top
FROM TABLE({WINDOWS[window]}) GROUP BY k, window_start, window_end""",
    )


def _events() -> pl.DataFrame:
    """One row a second of each of two keys: 3,000 users of `a` and 50 of `b`, with values 0 to 2,999."""
    numbers = [n // 2 for n in range(ROWS)]
    return pl.DataFrame(
        {
            "k": ["a", "b"] * (ROWS // 2),
            "user_id": [n if i % 2 == 0 else n % 50 for i, n in enumerate(numbers)],
            "d": [float(n) for n in numbers],
            "ts": pl.Series([n * SECOND for n in numbers]).cast(pl.Datetime("ms")),
        }
    )


def _rows(results) -> list[tuple]:
    frames = [o.frame for r in results for o in r.outputs if o.frame.height]
    names = ["k", "window_start", "window_end", "users", "median", "most", "nobody", "c", "top"]
    return sorted(pl.concat([frame.select(names) for frame in frames]).rows())


@pytest.mark.parametrize("window", list(WINDOWS))
def test_estimates_are_within_their_error_whether_whole_cut_or_resumed(window):
    plan, events = _plan(window), {"events": _events()}
    whole = _rows(run(plan, [[SourceBlock("events", 0, events["events"])]]))
    steps = cut(events, random.Random(7))
    resumed = _rows(run_with_restarts(plan, steps, random.Random(1)))
    assert [row[:3] for row in whole] == [row[:3] for row in resumed]
    for k, start, end, users, median, most, nobody, count, top in [*whole, *resumed]:
        low = max(0, int(start.timestamp()))
        values = range(low, min(low + count, ROWS // 2))
        assert len(values) == count, (start, end)
        assert users == pytest.approx(min(count, 50) if k == "b" else count, rel=0.08)
        assert median == pytest.approx(low + count / 2, abs=count * 0.04)
        assert (most, nobody) == (values[-1], 0)
        if k == "b" and count >= 50:
            assert {each["value"] for each in top} == set(range(50))
            assert sum(each["count"] for each in top) == count


def test_state_does_not_grow_with_the_values_of_a_group():
    engine = build_engine(_plan("tumble"))
    sizes = []
    for first in range(0, 400_000, 100_000):
        many = pl.DataFrame({"k": ["a"], "ts": [0]}).select(
            pl.lit("a").alias("k"),
            pl.int_range(first, first + 100_000).alias("user_id"),
            pl.int_range(first, first + 100_000).cast(pl.Float64).alias("d"),
            pl.lit(0).cast(pl.Datetime("ms")).alias("ts"),
        )
        result = engine.step([SourceBlock("events", 0, many)])
        sizes.append(max(len(delta.payload) for delta in result.deltas))
    assert sizes[-1] < 40_000
    assert sizes[-1] < 1.3 * sizes[0]


def test_heavy_hitters_come_with_their_counts_and_merge():
    kind = HeavyHitters()
    parts = []
    for seed in (1, 2):
        sketch = kind.made()
        often = ["x"] * 500 + ["y"] * 300 + ["z"] * 100
        kind.add(sketch, pl.Series("v", often + [f"rare {random.Random(seed).random()} {n}" for n in range(5000)]))
        parts.append(kind.load(kind.dump(sketch)))
    found = kind.hitters(kind.dump(kind.merged(parts)), 3)
    assert [value for value, _ in found] == ["x", "y", "z"]
    assert found[0][1] == pytest.approx(1000, rel=0.05)
