"""A pattern that several tasks share finds what it finds in one task: rows move to the task that has their key."""

from __future__ import annotations

import random

from processor.parallel_rig import Event, Row, Tasks, same_rows, send

from penstock.logs.memory import MemoryLog
from penstock.ports.clock import SystemClock

FAR_MS = 1_893_456_000_000  # 2030
CLOCK = SystemClock()
SQL = """CREATE TABLE readings (id STRING, device STRING, n BIGINT, ts TIMESTAMP(3),
  WATERMARK FOR ts AS ts - INTERVAL '1' SECOND) WITH ('connector' = 'penstock', 'key' = 'id', 'dedupe' = 'none');
CREATE TABLE rises WITH ('connector' = 'penstock') AS SELECT * FROM readings MATCH_RECOGNIZE (
  PARTITION BY device ORDER BY ts MEASURES A.id AS a, LAST(B.id) AS b, SUM(B.n) AS total, MATCH_ROWTIME() AS at_time
  AFTER MATCH SKIP TO NEXT ROW PATTERN (A B{2,3}? C) WITHIN INTERVAL '10' SECOND
  DEFINE B AS B.n > LAST(n, 1), C AS C.n < LAST(n, 1));
CREATE TABLE rises_a_minute WITH ('connector' = 'penstock') AS SELECT window_start, COUNT(*) AS n, SUM(total) AS total
FROM TABLE(TUMBLE(TABLE steep, DESCRIPTOR(at_time), INTERVAL '1' MINUTE)) GROUP BY window_start, window_end;
CREATE VIEW steep AS SELECT * FROM readings MATCH_RECOGNIZE (
  ORDER BY ts MEASURES B.n AS total, MATCH_ROWTIME() AS at_time AFTER MATCH SKIP PAST LAST ROW
  PATTERN (A B) WITHIN INTERVAL '1' MINUTE DEFINE B AS B.n > A.n + 50);
"""


def readings(seed: int, count: int) -> list[Event]:
    chance = random.Random(seed)
    return [
        ("readings", {"id": f"r{n}", "device": chance.choice(["a", "b", "c", "d", None]), "n": chance.randint(0, 99),
                      "ts": f"2018-01-01T00:{n // 600:02}:{n // 10 % 60:02}.{n % 10}00"})
        for n in range(count)
    ]  # fmt: skip


async def outcome(parallelism: int, events: list[Event]) -> dict[str, list[Row]]:
    log = MemoryLog(clock=CLOCK)
    tasks = await Tasks.deploy(log, CLOCK, f"{SQL}SET 'parallelism.default' = '{parallelism}';")
    tasks.start()
    await send(log, events)
    await tasks.complete(FAR_MS)
    assert await tasks.late() == []
    results = await tasks.results()
    await tasks.stop()
    await log.close()
    return results


async def test_a_pattern_finds_the_same_in_one_task_and_in_three() -> None:
    events = readings(1, 600)
    one, three = await outcome(1, events), await outcome(3, events)
    assert len(one["rises"]) > 5 and len(one["rises_a_minute"]) == 1
    same_rows(one, three)
