"""Windows by the time of processing: the clock ends them, with or without events, and never judges one to be late."""

from __future__ import annotations

import polars as pl
import pytest
from engine_rig import DeltaLog
from processor.live_rig import Live

from penstock.codecs.frames import polars_schema
from penstock_processor.compile.build import build_engine
from penstock_processor.logical.plan_app import check_app, plan_app
from penstock_processor.operators.interface import SourceBlock, Timed

TABLE = """CREATE TABLE readings (device STRING, n INT, ts TIMESTAMP(3), p AS PROCTIME())
WITH ('connector' = 'penstock', 'dedupe' = 'none');
"""
TUMBLE = """CREATE TABLE minutes WITH ('connector' = 'penstock') AS
SELECT device, window_start AS w, SUM(n) AS total
FROM TABLE(TUMBLE(TABLE readings, DESCRIPTOR(p), INTERVAL '1' MINUTE)) GROUP BY device, window_start, window_end;
"""
HOP = (
    TUMBLE.replace("TUMBLE(", "HOP(")
    .replace("DESCRIPTOR(p)", "DESCRIPTOR(p), INTERVAL '1' MINUTE")
    .replace("'1' MINUTE))", "'2' MINUTE))")
)


@pytest.fixture
def live() -> Live:
    return Live(TABLE + TUMBLE)


async def test_the_clock_ends_windows_whatever_time_events_carry(live: Live) -> None:
    async with live.running():
        await live.send(0, ("a", 1, 10_000))
        await live.passes(30)
        await live.send(0, ("a", 2, -500), ("b", 4, 0))
        assert await live.minutes() == []
        await live.passes(31)
        assert sorted(await live.minutes_when(2)) == [("a", 0, 3), ("b", 0, 4)]
        await live.passes(200)
        await live.send(0, ("a", 8, 0))
        await live.passes(61)
        assert (await live.minutes_when(3))[2:] == [("a", 4, 8)]
        assert await live.late() == []


async def test_windows_that_overlap_end_one_after_the_other_without_events() -> None:
    live = Live(TABLE + HOP)
    async with live.running():
        await live.passes(70)
        await live.send(0, ("a", 1, 0))
        await live.passes(60)
        assert await live.minutes_when(1) == [("a", 0, 1)]
        await live.passes(60)
        assert await live.minutes_when(2) == [("a", 0, 1), ("a", 1, 1)]


async def test_a_window_that_ended_while_the_app_was_away_comes_when_it_is_back(live: Live) -> None:
    async with live.running(killed=True):
        await live.send(0, ("a", 1, 0))
    await live.clock.advance(30)
    async with live.running(killed=True):
        await live.send(0, ("a", 2, 0))
    await live.clock.advance(600)
    async with live.running():
        await live.passes(1)
        assert await live.minutes_when(1) == [("a", 0, 3)]


async def test_a_clock_that_goes_back_makes_nothing_late(live: Live) -> None:
    async with live.running():
        await live.passes(65)
        await live.send(0, ("a", 1, 0))
        live.clock.jump(-20)
        await live.send(0, ("a", 2, 0))
        await live.passes(100)
        assert await live.minutes_when(1) == [("a", 1, 3)]
        assert await live.late() == []


#: One row of `device` and the number of the cycle at each of these seconds, none where it is negative.
SECONDS = (60, -61, 100, 130, -185, 190, -260, -330, 331, -900)
PAIRS = """CREATE TABLE minutes WITH ('connector' = 'penstock') AS SELECT a.device, a.n, b.n AS m, a.window_start AS w
FROM (SELECT * FROM TABLE(TUMBLE(TABLE readings, DESCRIPTOR(p), INTERVAL '1' MINUTE))) a
JOIN (SELECT * FROM TABLE(TUMBLE(TABLE readings, DESCRIPTOR(p), INTERVAL '1' MINUTE))) b
ON a.device = b.device AND a.window_start = b.window_start AND a.window_end = b.window_end;
"""


def _given(sql: str, *, restarts: bool) -> list[tuple[object, ...]]:
    """What each cycle gives; with `restarts` each cycle is one of a new engine that knows the deltas alone."""
    plan = plan_app("live", TABLE + sql)
    schema = polars_schema(plan.sources["readings"].spec.columns)
    engine, log, found = build_engine(plan), DeltaLog(), []
    for cycle, second in enumerate(SECONDS):
        if restarts:
            if cycle % 4 == 3:
                log.write([engine.compact(operator) for operator in sorted(engine.operators)])
            engine = build_engine(plan)
            engine.restore(log.deltas)
        rows = [] if second < 0 else [("a", cycle, None)]
        block = SourceBlock("readings", 0, pl.DataFrame(rows, schema=schema, orient="row"))
        result = engine.step([block], now_ms=1000 * abs(second))
        log.write(result.deltas)
        found += [(second, *row) for output in result.outputs for row in output.frame.rows()]
    return found


@pytest.mark.parametrize("sql", [TUMBLE, HOP, HOP.replace("HOP(", "CUMULATE("), PAIRS])
def test_a_window_that_has_fired_does_not_fire_again_after_a_restart(sql: str) -> None:
    expected = _given(sql, restarts=False)
    assert len(expected) >= 4
    assert _given(sql, restarts=True) == expected


def test_an_idle_app_has_nothing_to_do() -> None:
    engine = build_engine(plan_app("live", TABLE + TUMBLE))
    assert isinstance(engine, Timed)
    assert engine.due_ms == 0
    engine.step([], now_ms=90_000)
    assert engine.due_ms == 120_000
    engine.step([], now_ms=120_000)
    assert engine.due_ms is None


def test_the_window_of_a_replayed_row_ends_with_the_clock() -> None:
    plan = plan_app("live", TABLE + TUMBLE)
    engine = build_engine(plan)
    assert isinstance(engine, Timed)
    for now_ms in (90_000, 120_000):
        engine.step([], now_ms=now_ms)
    schema = polars_schema(plan.sources["readings"].spec.columns)
    again = SourceBlock("readings", 0, pl.DataFrame([("a", 7, None)], schema=schema, orient="row"))
    engine.replay(plan.statements[0].label, again, now_ms=200_000)
    assert engine.due_ms is not None
    assert engine.step([], now_ms=200_000).outputs[0].frame.height == 0
    assert engine.due_ms == 240_000
    assert engine.step([], now_ms=240_000).outputs[0].frame["total"].to_list() == [7]


@pytest.mark.parametrize(
    ("sql", "code"),
    [
        (TABLE + TUMBLE.replace("TUMBLE", "SESSION"), "no_event_time"),
        ("SET 'parallelism.default' = '2';\n" + TABLE + TUMBLE, "unsupported"),
        (TABLE + TUMBLE.replace("DESCRIPTOR(p)", "DESCRIPTOR(ts)"), "no_event_time"),
    ],
)
def test_what_the_clock_cannot_do_is_refused(sql: str, code: str) -> None:
    assert [error.code for error in check_app("live", sql)] == [code]
