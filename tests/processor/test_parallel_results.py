"""An app that several tasks share gives what it gives as one task, whatever is cut, killed and started again."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from processor.parallel_rig import Event, Row, Tasks, produce_app, produce_events, same_rows, send

from penstock.logs.memory import MemoryLog
from penstock.logs.sqlite import SqliteLog
from penstock.ports.clock import SystemClock
from penstock.ports.log import Log

FAR_MS = 1_893_456_000_000  # 2030
CLOCK = SystemClock()


@asynccontextmanager
async def fresh_log(kind: str, folder: Path) -> AsyncIterator[Log]:
    log: Log = MemoryLog(clock=CLOCK) if kind == "memory" else await SqliteLog.open(folder, clock=CLOCK)
    try:
        yield log
    finally:
        await log.close()


async def feed(tasks: Tasks, events: list[Event], chance: random.Random, *, kills: int) -> None:
    """Send in batches of random size; now and then a task is killed and started again."""
    at, killed = 0, 0
    while at < len(events):
        size = chance.randint(1, max(2, len(events) // 20))
        await send(tasks.log, events[at : at + size])
        at += size
        await asyncio.sleep(chance.random() * 0.01)
        if killed < kills and chance.random() < 0.4:
            killed += 1
            name = chance.choice(tasks.names)
            await tasks.kill(name)
            await asyncio.sleep(chance.random() * 0.01)
            tasks.start(name)


#: What the example has not: rows that cannot be combined, one group for all, sides and branches that end in different
#: stages, a table by another key than its rows come by, two writers, statements that read what others write.
WIDE = """CREATE TABLE trades (id STRING, symbol STRING, region STRING, n BIGINT, price DOUBLE, ts TIMESTAMP(3),
  WATERMARK FOR ts AS ts - INTERVAL '1' SECOND) WITH ('connector' = 'penstock', 'key' = 'id', 'dedupe' = 'none');
CREATE TABLE kinds WITH ('connector' = 'penstock')
AS SELECT region, window_start, COUNT(DISTINCT symbol) AS kinds, COUNT(*) AS n, MIN(symbol) AS first_symbol,
  PERCENTILE(n, 0.5) AS middle, APPROX_COUNT_DISTINCT(symbol) AS about
FROM TABLE(TUMBLE(TABLE trades, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) GROUP BY region, window_start, window_end;
CREATE TABLE everything WITH ('connector' = 'penstock')
AS SELECT window_start, SUM(n) AS n, AVG(price) AS price, MAX(price) AS best, AVG(n) AS mean
FROM TABLE(HOP(TABLE trades, DESCRIPTOR(ts), INTERVAL '20' SECOND, INTERVAL '1' MINUTE))
GROUP BY window_start, window_end;
CREATE TABLE so_far WITH ('connector' = 'penstock')
AS SELECT region, window_start, window_end, SUM(n) AS n, MIN(price) AS least, STDDEV_POP(n) AS spread
FROM TABLE(CUMULATE(TABLE trades, DESCRIPTOR(ts), INTERVAL '20' SECOND, INTERVAL '3' MINUTE, INTERVAL '1' SECOND))
GROUP BY region, window_start, window_end;
CREATE TABLE visits WITH ('connector' = 'penstock')
AS SELECT symbol, region, window_start, window_end, COUNT(*) AS n, COUNT(DISTINCT n) AS kinds
FROM TABLE(SESSION(TABLE trades PARTITION BY symbol, DESCRIPTOR(ts), INTERVAL '3' SECOND))
GROUP BY symbol, region, window_start, window_end;
CREATE TABLE rushes WITH ('connector' = 'penstock') AS SELECT window_start, window_end, SUM(n) AS n
FROM TABLE(SESSION(TABLE trades, DESCRIPTOR(ts), INTERVAL '0.2' SECOND)) GROUP BY window_start, window_end;
CREATE TABLE one_visit WITH ('connector' = 'penstock') AS SELECT id, window_end, COUNT(*) AS n
FROM TABLE(SESSION(TABLE trades PARTITION BY id, DESCRIPTOR(ts), INTERVAL '1' MINUTE))
GROUP BY id, window_start, window_end;
CREATE TABLE busiest WITH ('connector' = 'penstock') AS SELECT s, e, MAX(n) AS most, COUNT(*) AS regions
FROM (SELECT region, window_start AS s, window_end AS e, COUNT(*) AS n
  FROM TABLE(HOP(TABLE trades, DESCRIPTOR(ts), INTERVAL '20' SECOND, INTERVAL '1' MINUTE))
  GROUP BY region, window_start, window_end)
GROUP BY s, e;
CREATE VIEW minutes AS SELECT symbol, window_time AS at_time, SUM(price) AS total
FROM TABLE(TUMBLE(TABLE trades, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) GROUP BY symbol, window_start, window_end,
  window_time;
CREATE TABLE shares WITH ('connector' = 'penstock') AS SELECT t.id, t.symbol, t.price / m.total AS share
FROM trades AS t JOIN minutes AS m ON t.symbol = m.symbol
  AND t.ts BETWEEN m.at_time - INTERVAL '1' MINUTE AND m.at_time;
CREATE TABLE last_price (symbol STRING, price DOUBLE, PRIMARY KEY (symbol) NOT ENFORCED)
WITH ('connector' = 'penstock');
INSERT INTO last_price SELECT symbol, MAX(price) FROM TABLE(TUMBLE(TABLE trades, DESCRIPTOR(ts), INTERVAL '1' DAY))
GROUP BY symbol, region, window_start, window_end HAVING region = 'north';
CREATE TABLE notes (symbol STRING, total DOUBLE, at_time TIMESTAMP(3), WATERMARK FOR at_time AS at_time)
WITH ('connector' = 'penstock');
INSERT INTO notes SELECT symbol, total, at_time FROM minutes;
INSERT INTO notes SELECT symbol, price, ts FROM trades WHERE n > 90;
CREATE TABLE notes_a_minute WITH ('connector' = 'penstock') AS SELECT window_start, COUNT(*) AS n
FROM TABLE(TUMBLE(TABLE notes, DESCRIPTOR(at_time), INTERVAL '1' MINUTE)) GROUP BY window_start, window_end;
SET 'table.exec.state.ttl' = '1 d';
CREATE TABLE totals (symbol STRING, n BIGINT, best DOUBLE, kinds BIGINT, PRIMARY KEY (symbol) NOT ENFORCED)
WITH ('connector' = 'penstock');
INSERT INTO totals SELECT symbol, SUM(n), MAX(price), COUNT(DISTINCT region) FROM trades WHERE symbol IS NOT NULL
GROUP BY symbol HAVING COUNT(*) > 2;
CREATE TABLE shown WITH ('connector' = 'penstock') AS SELECT region, n > 50 AS much, window_start, COUNT(*) AS n
FROM TABLE(TUMBLE(TABLE trades, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) GROUP BY window_start, window_end,
  CUBE (region, n > 50);
CREATE TABLE sizes (n BIGINT, symbols BIGINT, total BIGINT, most BIGINT, PRIMARY KEY (n) NOT ENFORCED)
WITH ('connector' = 'penstock');
INSERT INTO sizes SELECT n, COUNT(*), SUM(total), MAX(total)
FROM (SELECT symbol, region, COUNT(*) / 10 AS n, SUM(n) AS total FROM trades GROUP BY symbol, region) GROUP BY n;
CREATE TABLE sevenths (g BIGINT, least BIGINT, most BIGINT, symbols BIGINT, PRIMARY KEY (g) NOT ENFORCED)
WITH ('connector' = 'penstock');
INSERT INTO sevenths SELECT MOD(n, 7), MIN(n), MAX(n), COUNT(*)
FROM (SELECT symbol, COUNT(*) AS n FROM trades GROUP BY symbol HAVING MAX(n) < 99) GROUP BY MOD(n, 7);
CREATE TABLE pairs WITH ('connector' = 'penstock') AS SELECT DISTINCT symbol, region FROM trades;
CREATE TABLE visited WITH ('connector' = 'penstock') AS SELECT id, window_start, window_end
FROM TABLE(SESSION(TABLE trades PARTITION BY symbol, DESCRIPTOR(ts), INTERVAL '3' SECOND)) WHERE symbol IS NOT NULL;
CREATE TABLE lately WITH ('connector' = 'penstock')
AS SELECT id, COUNT(*) OVER w AS c, SUM(n) OVER w AS n, MAX(price) OVER w AS best
FROM trades
WINDOW w AS (PARTITION BY symbol ORDER BY ts RANGE BETWEEN INTERVAL '20' SECOND PRECEDING AND CURRENT ROW);
CREATE TABLE until_then WITH ('connector' = 'penstock')
AS SELECT id, SUM(n) OVER (ORDER BY ts) AS n FROM trades;
CREATE TABLE by_then WITH ('connector' = 'penstock')
AS SELECT id, COUNT(DISTINCT region) OVER (PARTITION BY symbol ORDER BY ts) AS n FROM trades;
CREATE TABLE best_trades WITH ('connector' = 'penstock') AS SELECT id, window_start, place FROM (
  SELECT *, ROW_NUMBER() OVER (PARTITION BY window_start, window_end, region ORDER BY price DESC, id) AS place
  FROM TABLE(TUMBLE(TABLE trades, DESCRIPTOR(ts), INTERVAL '1' MINUTE))) WHERE place <= 2;
CREATE TABLE best_regions WITH ('connector' = 'penstock') AS SELECT s, region, n, place FROM (
  SELECT *, ROW_NUMBER() OVER (PARTITION BY s, e ORDER BY n DESC, region) AS place
  FROM (SELECT region, window_start AS s, window_end AS e, SUM(n) AS n
    FROM TABLE(HOP(TABLE trades, DESCRIPTOR(ts), INTERVAL '20' SECOND, INTERVAL '1' MINUTE))
    GROUP BY region, window_start, window_end)) WHERE place <= 2;
CREATE TABLE dearest (symbol STRING, place BIGINT, id STRING, PRIMARY KEY (symbol, place) NOT ENFORCED)
WITH ('connector' = 'penstock');
INSERT INTO dearest SELECT symbol, place, id FROM (
  SELECT *, ROW_NUMBER() OVER (PARTITION BY symbol ORDER BY price DESC, id) AS place FROM trades) WHERE place <= 2
  AND symbol IS NOT NULL;
CREATE TABLE neighbours WITH ('connector' = 'penstock') AS SELECT t.id, u.id AS other_id
FROM trades AS t JOIN trades AS u ON t.symbol = u.symbol AND t.n = u.n + 1 WHERE t.region = 'north';
CREATE TABLE alone (symbol STRING, n BIGINT, PRIMARY KEY (symbol) NOT ENFORCED) WITH ('connector' = 'penstock');
INSERT INTO alone SELECT t.symbol, COUNT(*) FROM trades AS t LEFT JOIN trades AS u
  ON t.symbol = u.symbol AND u.price IS NULL WHERE t.symbol IS NOT NULL AND u.id IS NULL GROUP BY t.symbol;
CREATE TABLE either WITH ('connector' = 'penstock')
AS SELECT symbol, total FROM minutes UNION ALL SELECT symbol, price FROM trades WHERE region = 'north' AND n < 10;
"""


def trades(seed: int, count: int) -> list[Event]:
    chance = random.Random(seed)
    found: list[Event] = []
    for n in range(count):
        at = f"2018-01-01T00:{n * 10 // count:02}:{n * 600 // count % 60:02}.000"
        symbol = chance.choice(["a", "b", "c", "d", None]) if chance.random() < 0.9 else f"s{chance.randint(0, 50)}"
        found.append(("trades", {"id": f"t{n}", "symbol": symbol, "region": chance.choice(["north", "south", None]),
                                 "n": chance.randint(0, 99), "price": chance.choice([0.1, 2.5, 1e9, None]),
                                 "ts": at}))  # fmt: skip
    return found


async def outcome(
    log: Log, parallelism: int, events: list[Event], chance: random.Random, *, kills: int
) -> dict[str, list[Row]]:
    sql = (
        produce_app(parallelism)
        if events[0][0] == "arrivals"
        else f"{WIDE}SET 'parallelism.default' = '{parallelism}';"
    )
    tasks = await Tasks.deploy(log, CLOCK, sql)
    tasks.start()
    await feed(tasks, events, chance, kills=kills)
    await tasks.complete(FAR_MS)
    assert await tasks.late() == []
    results = await tasks.results()
    await tasks.stop()
    return results


@pytest.mark.parametrize(("kind", "seed"), [("memory", 1), ("memory", 2), ("sqlite", 3)])
async def test_two_and_three_tasks_give_what_one_gives(kind: str, seed: int, tmp_path: Path) -> None:
    events = produce_events(seed, 3000)
    found = []
    for parallelism in (1, 2, 3):
        async with fresh_log(kind, tmp_path / str(parallelism)) as log:
            chance = random.Random(seed * 10 + parallelism)
            kills = 0 if parallelism == 1 else 6
            found.append(await outcome(log, parallelism, events, chance, kills=kills))
    one, two, three = found
    assert all(len(rows) > 10 for rows in one.values()), {name: len(rows) for name, rows in one.items()}
    same_rows(one, two)
    same_rows(one, three)


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_whatever_the_stages_are_the_results_are_those_of_one_task(seed: int, tmp_path: Path) -> None:
    events = trades(seed, 2000)
    found = []
    for parallelism in (1, 2, 3):
        async with fresh_log("memory", tmp_path) as log:
            chance = random.Random(seed * 10 + parallelism)
            found.append(await outcome(log, parallelism, events, chance, kills=0 if parallelism == 1 else 8))
    one, two, three = found
    assert all(len(rows) >= 5 for rows in one.values()), {name: len(rows) for name, rows in one.items()}
    same_rows(one, two)
    same_rows(one, three)
