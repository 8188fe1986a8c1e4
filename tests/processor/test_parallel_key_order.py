"""Rows of one primary key that move between tasks: the table has the one that is there, whoever speaks last."""

from __future__ import annotations

import asyncio

import pytest
from processor.parallel_rig import Tasks, send

from penstock.logs.memory import MemoryLog
from penstock.ports.clock import SystemClock
from penstock_processor.logical.plan_app import plan_app
from penstock_processor.logical.plan_keyed import TopN
from penstock_processor.logical.stages import stages_of

FAR_MS = 1_893_456_000_000  # 2030
SOURCES = """SET 'table.exec.state.ttl' = '1 d';
SET 'parallelism.default' = '2';
CREATE TABLE t (id INT, c INT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts)
WITH ('connector' = 'penstock', 'key' = 'id', 'dedupe' = 'none');
CREATE TABLE r (c INT, x INT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts)
WITH ('connector' = 'penstock', 'key' = 'c', 'dedupe' = 'none');
CREATE VIEW a AS SELECT id, MAX(c) AS c FROM t GROUP BY id;
CREATE VIEW b AS SELECT c, MAX(x) AS x FROM r GROUP BY c;
"""
MOVES = "SELECT a.id, a.c, b.x FROM a LEFT JOIN b ON a.c = b.c"


def app(query: str, key: str = "id") -> str:
    target = (
        f"CREATE TABLE o (id INT, c INT, x INT, PRIMARY KEY ({key}) NOT ENFORCED) WITH ('connector' = 'penstock');"
    )
    return f"{SOURCES}{target}\nINSERT INTO o {query};"


@pytest.mark.parametrize("late", [0, 1])
async def test_a_row_that_moves_to_another_task_stays_in_the_table_whichever_task_is_first(late: int) -> None:
    clock = SystemClock()
    log = MemoryLog(clock=clock)
    tasks = await Tasks.deploy(log, clock, app(MOVES))

    async def shown(least: int, *, from_c: int) -> None:
        for _ in range(1000):
            if sum(row[1] >= from_c for row in (await tasks.results())["o"]) >= least:
                return
            await asyncio.sleep(0.01)
        raise AssertionError("the tasks do not catch up")

    at = {"ts": "2018-01-01T00:00:00.000"}
    tasks.start()
    await send(log, [("t", {"id": n, "c": n, **at}) for n in range(16)])
    await shown(16, from_c=0)
    await tasks.kill(f"produce#1.{late}")  # what it takes back comes after what the other one brings
    await send(log, [("t", {"id": n, "c": n + 100, **at}) for n in range(16)])
    await shown(1, from_c=100)
    await asyncio.sleep(0.1)
    tasks.start(f"produce#1.{late}")
    await tasks.complete(FAR_MS)
    results = await tasks.results()
    await tasks.stop()
    await log.close()
    assert sorted(row[:3] for row in results["o"]) == [(n, n + 100, None) for n in range(16)]


@pytest.mark.parametrize(
    ("query", "key", "wanted"),
    [
        (MOVES, "id", True),
        ("SELECT a.id, a.c, b.x FROM a JOIN b ON a.c = b.c", "id, c", False),
        (MOVES, "id, x", True),
        (f"SELECT p.id, p.c, b.x FROM ({MOVES}) AS p LEFT JOIN b ON p.id = b.c", "id", True),
        ("SELECT id, c, 0 FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY c ORDER BY id) AS n FROM a) WHERE n < 3",
         "id", True),
        ("SELECT a.id, a.c, b.x FROM a LEFT JOIN b ON a.id = b.c", "id", False),
        ("SELECT id, MAX(c), 0 FROM t GROUP BY id", "id", False),
        ("SELECT id, c, n FROM (SELECT *, CAST(ROW_NUMBER() OVER (PARTITION BY id ORDER BY ts) AS INT) AS n FROM t) "
         "WHERE n = 1", "id", False),
    ],
)  # fmt: skip
def test_only_tables_whose_keys_move_keep_their_rows(query: str, key: str, wanted: bool) -> None:
    stages = stages_of(plan_app("produce", app(query, key)))
    tops = [s.plan for stage in stages for s in stage.statements if s.target == "o"]
    assert [isinstance(top, TopN) and not top.order for top in tops] == [wanted]
