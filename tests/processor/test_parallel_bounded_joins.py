"""Joins bounded by windows, by time, by versions and by keys elsewhere: several tasks give what one gives."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from pathlib import Path

from processor.parallel_rig import Event, Tasks, same_rows, send

from penstock.logs.memory import MemoryLog
from penstock.ports.clock import SystemClock

FAR_MS = 1_893_456_000_000  # 2030
APP = """
CREATE TABLE trades (id STRING, symbol STRING, n INT, ts TIMESTAMP(3), proc_time AS PROCTIME(),
  WATERMARK FOR ts AS ts - INTERVAL '1' SECOND) WITH ('connector' = 'penstock', 'key' = 'id', 'dedupe' = 'none');
CREATE TABLE quotes (id STRING, symbol STRING, bid DOUBLE, ts TIMESTAMP(3),
  WATERMARK FOR ts AS ts - INTERVAL '1' SECOND) WITH ('connector' = 'penstock', 'key' = 'id', 'dedupe' = 'none');
CREATE TABLE rates (symbol STRING, rate INT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '1' SECOND,
  PRIMARY KEY (symbol) NOT ENFORCED) WITH ('connector' = 'penstock');
CREATE TABLE names (symbol STRING, name STRING)
  WITH ('connector' = 'jdbc', 'url' = 'jdbc:sqlite:{names}', 'table-name' = 'names', 'lookup.cache.max-rows' = '3');
CREATE TABLE in_windows WITH ('connector' = 'penstock') AS SELECT t.id, q.id AS quote, t.window_start
FROM (SELECT * FROM TABLE(TUMBLE(TABLE trades, DESCRIPTOR(ts), INTERVAL '10' SECOND))) AS t
FULL JOIN (SELECT * FROM TABLE(TUMBLE(TABLE quotes, DESCRIPTOR(ts), INTERVAL '10' SECOND))) AS q
ON t.symbol = q.symbol AND t.window_start = q.window_start AND t.window_end = q.window_end AND t.n > q.bid;
CREATE TABLE alone WITH ('connector' = 'penstock') AS SELECT t.id, t.window_start
FROM (SELECT * FROM TABLE(TUMBLE(TABLE trades, DESCRIPTOR(ts), INTERVAL '2' SECOND))) AS t
WHERE NOT EXISTS (SELECT * FROM (SELECT * FROM TABLE(TUMBLE(TABLE quotes, DESCRIPTOR(ts), INTERVAL '2' SECOND))) AS q
  WHERE t.symbol = q.symbol AND t.window_start = q.window_start AND t.window_end = q.window_end);
CREATE TABLE near WITH ('connector' = 'penstock') AS SELECT t.id, q.id AS quote FROM trades AS t LEFT JOIN quotes AS q
ON t.symbol = q.symbol AND q.ts BETWEEN t.ts - INTERVAL '1' SECOND AND t.ts + INTERVAL '2' SECOND AND q.bid > 40;
CREATE TABLE rated WITH ('connector' = 'penstock') AS SELECT t.id, r.rate, r.ts
FROM trades AS t LEFT JOIN rates FOR SYSTEM_TIME AS OF t.ts AS r ON t.symbol = r.symbol;
CREATE TABLE named WITH ('connector' = 'penstock') AS SELECT t.id, s.name
FROM trades AS t LEFT JOIN names FOR SYSTEM_TIME AS OF t.proc_time AS s ON t.symbol = s.symbol;
SET 'parallelism.default' = '{parallelism}';
"""


def events_of(seed: int, count: int) -> list[Event]:
    chance = random.Random(seed)
    found: list[Event] = []
    for n in range(count):
        ts = f"2018-01-01T00:{n // 600:02}:{n // 10 % 60:02}.{n % 10}00"
        symbol = chance.choice(["a", "b", "c", "d", "e", None])
        found.append(("trades", {"id": f"t{n}", "symbol": symbol, "n": chance.randint(0, 99), "ts": ts}))
        if chance.random() < 0.3:
            found.append(("quotes", {"id": f"q{n}", "symbol": chance.choice(["a", "b", "f", None]),
                                     "bid": float(chance.randint(0, 99)), "ts": ts}))  # fmt: skip
        if chance.random() < 0.2:
            found.append(("rates", {"symbol": chance.choice(["a", "b", "c", "g"]), "rate": n, "ts": ts}))
    return found


async def test_joins_give_in_many_tasks_what_they_give_in_one_whatever_is_killed(tmp_path: Path) -> None:
    names = tmp_path / "names.db"
    with sqlite3.connect(names) as connection:
        connection.execute("CREATE TABLE names (symbol TEXT, name TEXT)")
        connection.executemany("INSERT INTO names VALUES (?, ?)", [("a", "Alpha"), ("b", "Beta"), ("c", "Gamma")])
    connection.close()
    events, found = events_of(1, 500), []
    for parallelism in (1, 3):
        chance = random.Random(parallelism)
        log = MemoryLog(clock=SystemClock())
        tasks = await Tasks.deploy(log, SystemClock(), APP.format(parallelism=parallelism, names=names))
        tasks.start()
        at = 0
        while at < len(events):
            size = chance.randint(1, 90)
            await send(log, events[at : at + size])
            at += size
            await asyncio.sleep(chance.random() * 0.01)
            if parallelism > 1 and chance.random() < 0.3:
                name = chance.choice(tasks.names)
                await tasks.kill(name)
                tasks.start(name)
        await tasks.complete(FAR_MS)
        assert await tasks.late() == []
        found.append(await tasks.results())
        await tasks.stop()
    assert all(len(rows) >= 40 for rows in found[0].values()), {name: len(rows) for name, rows in found[0].items()}
    same_rows(found[0], found[1])
