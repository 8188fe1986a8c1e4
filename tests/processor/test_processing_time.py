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


SESSIONS = """CREATE TABLE minutes WITH ('connector' = 'penstock') AS
SELECT device, window_start AS w, window_end AS e, SUM(n) AS total
FROM TABLE(SESSION(TABLE readings PARTITION BY device, DESCRIPTOR(p), INTERVAL '1' MINUTE))
GROUP BY device, window_start, window_end;
"""
OVER = """CREATE TABLE minutes WITH ('connector' = 'penstock') AS
SELECT device, n, SUM(n) OVER (PARTITION BY device ORDER BY p {}) AS total FROM readings;
"""
FRAMES = (
    "",
    "ROWS BETWEEN 1 PRECEDING AND CURRENT ROW",
    "RANGE BETWEEN INTERVAL '1' MINUTE PRECEDING AND CURRENT ROW",
)


@pytest.mark.parametrize(
    "sql",
    [
        TUMBLE,
        HOP,
        HOP.replace("HOP(", "CUMULATE("),
        PAIRS,
        SESSIONS.replace("'1' MINUTE", "'20' SECOND"),
        *map(OVER.format, FRAMES),
    ],
)
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
        ("SET 'parallelism.default' = '2';\n" + TABLE + OVER.format(""), "unsupported"),
        ("SET 'parallelism.default' = '2';\n" + TABLE + TUMBLE, "unsupported"),
        (TABLE + TUMBLE.replace("DESCRIPTOR(p)", "DESCRIPTOR(ts)"), "no_event_time"),
    ],
)
def test_what_the_clock_cannot_do_is_refused(sql: str, code: str) -> None:
    assert [error.code for error in check_app("live", sql)] == [code]


async def test_a_session_ends_with_the_clock_when_its_gap_has_passed() -> None:
    live = Live(TABLE + SESSIONS)
    async with live.running():
        await live.passes(5)
        await live.send(0, ("a", 1, 10_000), ("b", 4, 0))
        await live.passes(40)
        await live.send(0, ("a", 2, -500))
        assert await live.minutes() == []
        await live.passes(25)
        assert await live.minutes_when(1) == [("b", 0, 4)]
        await live.passes(40)
        assert (await live.minutes_when(2))[1:] == [("a", 0, 3)]
        assert await live.late() == []


def _valued(frame: str, *steps: tuple[int, list[tuple[str, int]]]) -> list[tuple[object, ...]]:
    """Rows of OVER by the clock, whose steps come at these seconds."""
    plan = plan_app("live", TABLE + OVER.format(frame))
    schema = polars_schema(plan.sources["readings"].spec.columns)
    engine, found = build_engine(plan), []
    for second, rows in steps:
        frame_of = pl.DataFrame([(*row, None) for row in rows], schema=schema, orient="row")
        result = engine.step([SourceBlock("readings", 0, frame_of)], now_ms=1000 * second)
        assert result.problems == []
        found += [row[:3] for output in result.outputs for row in output.frame.rows()]
    return found


STEPS = (
    (60, [("a", 1), ("b", 10)]),
    (61, [("a", 2), ("a", 4)]),
    (61, [("a", 8)]),
    (50, [("b", 20)]),
    (130, [("a", 16)]),
)


@pytest.mark.parametrize(
    ("frame", "totals"),
    [
        ("ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW", [1, 10, 3, 7, 15, 30, 31]),
        ("ROWS BETWEEN 1 PRECEDING AND CURRENT ROW", [1, 10, 3, 6, 12, 30, 24]),
        ("RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW", [1, 10, 7, 7, 15, 30, 31]),
        ("RANGE BETWEEN INTERVAL '1' MINUTE PRECEDING AND CURRENT ROW", [1, 10, 7, 7, 15, 30, 16]),
    ],
)
def test_over_by_the_clock_gives_each_row_at_once_and_none_is_late(frame: str, totals: list[int]) -> None:
    rows = [row for _, some in STEPS for row in some]
    assert _valued(frame, *STEPS) == [(*row, total) for row, total in zip(rows, totals, strict=True)]


def test_behind_over_by_the_clock_event_times_are_plain_columns() -> None:
    timed = TABLE.replace("ts TIMESTAMP(3),", "ts TIMESTAMP(3), WATERMARK FOR ts AS ts,")
    sql = """CREATE VIEW summed AS
SELECT device, ts, SUM(n) OVER (PARTITION BY device ORDER BY p) AS total FROM readings;
CREATE TABLE minutes WITH ('connector' = 'penstock') AS
SELECT device, window_start AS w FROM TABLE(TUMBLE(TABLE summed, DESCRIPTOR(ts), INTERVAL '1' MINUTE));"""
    assert [error.code for error in check_app("live", timed + sql)] == ["no_event_time"]
