"""The app under test: its tasks over a log that knows when they rest, and what happens when they fail."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from case_rig import ORDERS, try_steps

from penstock.errors import PenstockError
from penstock.testing.clock import ManualClock
from penstock_app.cases.settings import CaseSettings
from penstock_app.cases.stepped_log import SteppedLog
from penstock_app.cases.system import AppUnderTest
from penstock_processor.logical.plan_app import plan_app
from penstock_processor.logical.stages import specs_of

NOW_MS = 1_767_607_200_000  # 2026-01-05T10:00:00

CHAINED = """SET 'parallelism.default' = '2';
CREATE TABLE s (k STRING, v BIGINT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '1' SECOND)
WITH ('connector' = 'penstock', 'key' = 'k', 'partitions' = '2');
CREATE VIEW minutes AS SELECT k, SUM(v) AS v, window_time AS at_time
FROM TABLE(TUMBLE(TABLE s, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) GROUP BY k, window_start, window_end, window_time;
CREATE TABLE hours (h TIMESTAMP(3), most BIGINT, minutes BIGINT, PRIMARY KEY (h) NOT ENFORCED)
WITH ('connector' = 'penstock');
INSERT INTO hours SELECT window_start, MAX(v), COUNT(*)
FROM TABLE(TUMBLE(TABLE minutes, DESCRIPTOR(at_time), INTERVAL '1' HOUR)) GROUP BY window_start, window_end;
"""


@pytest.mark.parametrize("seed", [None, 5])
async def test_windows_over_windows_close_in_tasks_that_share_the_app(tmp_path: Path, seed: int | None):
    rows = "\n".join(f"    - {{k: k{n % 3}, v: {n}, ts: 2026-01-05T09:0{n}:00}}" for n in range(9))
    steps = f"""
- send: s
  rows:
{rows}
- restart
- complete
- expect: hours
  rows: [{{h: 2026-01-05T09:00:00, most: 8, minutes: 9}}]
"""
    tried = await try_steps(tmp_path, steps, sql=CHAINED, seed=seed)
    assert (tried.wrong, tried.said) == ([], [])


GROUPED = """SET 'table.exec.state.ttl' = '1 h';
CREATE TABLE s (k STRING, v INT) WITH ('connector' = 'penstock', 'dedupe' = 'none');
CREATE TABLE sums (k STRING, n BIGINT, v INT, PRIMARY KEY (k) NOT ENFORCED) WITH ('connector' = 'penstock');
INSERT INTO sums SELECT k, COUNT(*), SUM(v) FROM s GROUP BY k HAVING SUM(v) < 100;
CREATE TABLE sizes (n BIGINT, keys BIGINT, PRIMARY KEY (n) NOT ENFORCED) WITH ('connector' = 'penstock');
INSERT INTO sizes SELECT n, COUNT(*) FROM (SELECT k, COUNT(*) AS n FROM s GROUP BY k) AS g GROUP BY n;
"""


@pytest.mark.parametrize("parallelism", [1, 2])
async def test_groups_are_kept_over_a_restart_taken_back_and_forgotten_by_the_clock(tmp_path: Path, parallelism: int):
    steps = """
- send: s
  rows: [{k: a, v: 5}, {k: b, v: 7}]
- expect: sizes
  rows: [{n: 1, keys: 2}]
- advance: 40 min
- restart
- send: s
  rows: [{k: a, v: 1}]
- expect: sums
  changes: true
  rows: [{$op: +I, k: a, v: 5}, {$op: +I, k: b, v: 7}, {$op: +U, k: a, v: 6}]
- expect: sizes
  rows: [{n: 1, keys: 1}, {n: 2, keys: 1}]
- advance: 30 min
- send: s
  rows: [{k: a, v: 99}, {k: b, v: 2}]
- expect: sums
  changes: true
  rows: [{$op: -D, k: a}, {$op: +I, k: b, n: 1, v: 2}]
"""
    sql = f"SET 'parallelism.default' = '{parallelism}';{GROUPED}"
    tried = await try_steps(tmp_path, steps, sql=sql, seed=None)
    assert (tried.wrong, tried.said) == ([], [])


async def test_events_of_a_topic_that_others_fill_are_sent_by_the_case(tmp_path: Path):
    sql = """CREATE TABLE s (id STRING, v INT) WITH ('connector' = 'kafka', 'topic' = 'theirs', 'format' = 'json',
  'properties.bootstrap.servers' = 'broker.example:9092', 'scan.startup.mode' = 'earliest-offset');
CREATE TABLE big WITH ('connector' = 'penstock') AS SELECT id, v FROM s WHERE v > 9;"""
    steps = "- send: s\n  rows: [{id: a, v: 9}, {id: b, v: 10}]\n- expect: big\n  rows: [{id: b, v: 10}]"
    tried = await try_steps(tmp_path, steps, sql=sql)
    assert (tried.wrong, tried.said) == ([], [])


async def test_an_app_that_fails_ends_its_case_with_the_reason():
    plan = plan_app("orders", ORDERS)
    log = SteppedLog(clock=ManualClock(NOW_MS))
    app = AppUnderTest(plan, now_ms=NOW_MS, settings=CaseSettings(), log=log)
    await app.start()
    try:
        await log.acquire("orders")  # as another instance would that takes the app over
        with pytest.raises(PenstockError, match=r"task orders has failed: .*term 2, not 1"):
            await app.send("orders", [b'{"id":"a","amount":100,"ts":"2026-01-05T09:00:00"}'])
    finally:
        await app.close()


async def test_an_app_that_does_not_come_to_rest_ends_its_case_too():
    class Busy(SteppedLog):
        async def rest(self, readers: int) -> None:
            await asyncio.Event().wait()

    log = Busy(clock=ManualClock(NOW_MS))
    app = AppUnderTest(plan_app("orders", ORDERS), now_ms=NOW_MS, settings=CaseSettings(rest_timeout_s=0.1), log=log)
    with pytest.raises(PenstockError, match=r"within 0\.1 s; divide the step, or raise test\.rest_timeout_s"):
        await app.start()
    await app.close()


async def test_too_many_rejected_events_are_refused(tmp_path: Path):
    steps = "- send: orders\n  rows: |\n    {}\n    {}\n    {}\n- expect_rejected: [{code: missing_column}]"
    tried = await try_steps(tmp_path, steps, limits=CaseSettings(rejected_max=2))
    assert tried.said == [
        "10: more than 2 events were rejected; send less, or raise test.rejected_max (too_large)",
    ]


async def test_the_log_rests_only_when_every_reader_has_seen_the_last_change():
    log = SteppedLog(clock=ManualClock(NOW_MS))
    seen: list[tuple[str, int]] = []

    async def read(name: str) -> None:
        tick = 0
        while True:
            tick = await log.wait(["orders"], tick, 5.0)
            seen.append((name, tick))

    readers = [asyncio.create_task(read(name)) for name in ("a", "b")]
    try:
        await log.rest(2)
        assert seen == [], "nothing has happened yet"
        plan = plan_app("orders", ORDERS)
        for version in (1, 2):
            await log.put_app(plan.name, plan.sql + "\n" * version, specs_of(plan), None)
            await log.rest(2)
            assert sorted(seen) == [("a", version), ("b", version)]
            seen.clear()
        log.look_again()
        await log.rest(2)
        assert sorted(seen) == [("a", 2), ("b", 2)], "time has passed: both look, at the same tick"
    finally:
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)
