"""Calls that need all values of a group: what they keep, how it is written down, and in what order they are told."""

from __future__ import annotations

import random

import polars as pl
import pytest
from engine_rig import DeltaLog, cut, run_with_restarts

from penstock_processor.compile.build import build_engine
from penstock_processor.evaluation.sinks import EndState
from penstock_processor.logical.plan_app import plan_app
from penstock_processor.operators.interface import SourceBlock

WINDOWS = {
    "tumble": "TUMBLE(TABLE events, DESCRIPTOR(ts), INTERVAL '1' HOUR)",
    "cumulate": "CUMULATE(TABLE events, DESCRIPTOR(ts), INTERVAL '30' MINUTE, INTERVAL '1' HOUR)",
    "session": "SESSION(TABLE events, DESCRIPTOR(ts), INTERVAL '1' HOUR)",
}


def _plan(window: str, *, early: bool = False):
    emit = ", 'emit' = 'early'" if early else ""
    return plan_app(
        "collected",
        f"""CREATE TABLE events (s STRING, n INT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '1' HOUR)
WITH ('connector' = 'penstock');
CREATE TABLE lists (w TIMESTAMP(3), e TIMESTAMP(3), l STRING, a ARRAY<INT>, m DOUBLE, f STRING, z STRING,
  PRIMARY KEY (w, e) NOT ENFORCED) WITH ('connector' = 'penstock'{emit});
INSERT INTO lists SELECT window_start, window_end, LISTAGG(s), ARRAY_AGG(DISTINCT n), PERCENTILE(n, 0.5),
  FIRST_VALUE(s), LAST_VALUE(s) FROM TABLE({WINDOWS[window]}) GROUP BY window_start, window_end""",
    )


def _events(count: int, *, seed: int = 0) -> pl.DataFrame:
    """Rows of one hour, in no order of time."""
    chance = random.Random(seed)
    return pl.DataFrame(
        {
            "s": [None if chance.random() < 0.1 else str(n) for n in range(count)],
            "n": pl.Series([chance.choice([None, 1, 2, 3]) for _ in range(count)], dtype=pl.Int32),
            "ts": pl.Series([chance.randrange(3600) * 1000 for _ in range(count)]).cast(pl.Datetime("ms")),
        }
    )


@pytest.mark.parametrize("early", [False, True])
@pytest.mark.parametrize("window", list(WINDOWS))
def test_values_are_told_in_the_order_of_their_arrival_however_often_it_stopped(window, early):
    events = _events(200)
    texts = [s for s in events["s"].to_list() if s is not None]
    for seed in range(3):
        steps = cut({"events": events}, random.Random(seed))
        plan = _plan(window, early=early)
        end = EndState(plan.sources["lists"].spec)
        for result in run_with_restarts(plan, steps, random.Random(seed)):
            for output in result.outputs:
                if output.frame.height:
                    end.apply(output.frame)
        rows = end.rows()
        assert rows is not None
        whole = rows.sort("e").row(-1, named=True)
        assert whole["l"] == ",".join(texts)
        assert whole["a"] == list(dict.fromkeys(events["n"].to_list()))
        assert whole["m"] == events["n"].median()
        assert (whole["f"], whole["z"]) == (texts[0], texts[-1])


def test_a_cycle_writes_down_only_the_values_that_came_in_it():
    engine, log, sizes = build_engine(_plan("tumble")), DeltaLog(), []
    for seed in range(20):
        result = engine.step([SourceBlock("events", 0, _events(100, seed=seed))])
        log.write(result.deltas)
        sizes.append(sum(len(delta.payload) for delta in result.deltas))
    assert sizes[-1] < 1.2 * sizes[0]
    again = build_engine(_plan("tumble"))
    again.restore(log.deltas)
    (told,), (same,) = ([o.frame for o in e.finish().outputs if o.frame.height] for e in (engine, again))
    assert told.equals(same)
    assert len(told["l"][0].split(",")) > 1500
