"""Files and databases whose deliveries are killed between the delivery and its commit: each row is there once."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from processor.delivery_rig import SOURCE, CutLog, processor, until
from prometheus_client import REGISTRY

from penstock_processor.runtime.delivery import DeliveryState

FILES = """CREATE TABLE cheap WITH ('connector' = 'filesystem', 'path' = '{path}', 'format' = 'parquet',
  'sink.rolling-policy.rollover-interval' = '0 s') AS SELECT id, price FROM lots WHERE price < 100;
"""
ROWS = """CREATE TABLE cheap (id BIGINT, price DOUBLE) WITH
  ('connector' = 'jdbc', 'url' = 'jdbc:sqlite:{path}', 'table-name' = 'cheap');
INSERT INTO cheap SELECT id, price FROM lots WHERE price < 100;
"""


def lots(first: int, count: int) -> list[dict[str, object]]:
    return [{"id": n, "market": "m", "price": float(n % 90)} for n in range(first, first + count)]


def in_files(path: Path) -> list[int]:
    files = sorted(path.glob("*.parquet"))
    return [n for file in files for n in pl.read_parquet(file)["id"].to_list()]


def in_database(path: Path) -> list[int]:
    with sqlite3.connect(path) as connection:
        found = [n for (n,) in connection.execute("SELECT id FROM cheap ORDER BY rowid").fetchall()]
    connection.close()
    return found


@pytest.fixture(params=["files", "database"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Any, Path]:
    """(app, how to read what arrived, where)"""
    if request.param == "files":
        return SOURCE + FILES.format(path=tmp_path / "out"), in_files, tmp_path / "out"
    database = tmp_path / "theirs.db"
    with sqlite3.connect(database) as connection:
        connection.execute("CREATE TABLE cheap (id INTEGER, price REAL)")
    connection.close()
    return SOURCE + ROWS.format(path=database), in_database, database


async def test_kills_between_delivery_and_commit_double_nothing(place: tuple[str, Any, Path]):
    sql, read, where = place
    log = CutLog()
    async with processor(sql, log) as rig:
        for first in range(0, 60, 10):
            log.cuts = 1
            await rig.send(lots(first, 10))
            await rig.caught_up("cheap")
        assert log.cuts == 0
    assert read(where) == list(range(60))


async def test_restarts_go_on_where_the_other_side_is(place: tuple[str, Any, Path]):
    sql, read, where = place
    log = CutLog()
    for first in (0, 7, 14):
        async with processor(sql, log) as rig:
            await rig.send(lots(first, 7))
            await rig.caught_up("cheap")
            assert rig.delivery.guarantee == "exactly-once"
    assert read(where) == list(range(21))


async def test_a_place_that_another_log_filled_is_refused_with_the_remedy(place: tuple[str, Any, Path]):
    sql, read, where = place
    async with processor(sql) as rig:
        await rig.send(lots(0, 5))
        await rig.caught_up("cheap")
    async with processor(sql) as rig:  # a new log: what it counts is not what was counted before
        await rig.send(lots(100, 9))
        await until(lambda: rig.delivery.state is DeliveryState.WAITING)
        assert "another log" in rig.delivery.detail
    assert read(where) == list(range(5))


async def test_a_database_without_the_table_gets_its_rows_once_it_is_there(tmp_path: Path):
    database = tmp_path / "theirs.db"

    def waiting() -> float | None:
        of = {"app": "shop", "stream": "cheap", "connector": "jdbc", "partition": "0"}
        return REGISTRY.get_sample_value("penstock_processor_delivery_lag_events", of)

    async with processor(SOURCE + ROWS.format(path=database)) as rig:
        await rig.send(lots(0, 3))
        await until(lambda: rig.delivery.state is DeliveryState.WAITING)
        await until(lambda: rig.delivery.waiting == waiting() == 3)
        with sqlite3.connect(database) as connection:
            connection.execute("CREATE TABLE cheap (id INTEGER PRIMARY KEY, price REAL)")
        connection.close()
        await rig.caught_up("cheap")
        assert await rig.rejected() == []
        await until(lambda: waiting() == 0)
    assert waiting() is None
    assert in_database(database) == [0, 1, 2]


@pytest.mark.parametrize("place", ["jdbc", "websocket"])
async def test_rows_for_a_place_that_cannot_be_opened_are_rejected_after_the_retries(tmp_path: Path, place: str):
    there = {"jdbc": f"'url' = 'jdbc:sqlite:{tmp_path}/theirs.db', 'table-name' = 'cheap'",
             "websocket": "'url' = 'ws://127.0.0.1:9/', 'format' = 'json'"}[place]  # fmt: skip
    options = f"'connector' = '{place}', {there}, 'sink.max-retries' = '2', 'sink.buffer-flush.max-rows' = '2'"
    sql = f"{SOURCE}CREATE TABLE cheap WITH ({options}) AS SELECT id, price FROM lots;\n"
    async with processor(sql) as rig:
        await rig.send(lots(0, 3))
        await rig.caught_up("cheap")
        events = await rig.rejected()
    assert sorted(event.position for event in events if event.position) == [(0, 0), (0, 1), (0, 2)]
    assert {event.code for event in events} == {"delivery_failed"}
    assert all("after 2 retries" in event.detail for event in events)


async def test_a_row_that_the_database_refuses_is_rejected_and_the_others_are_there(tmp_path: Path):
    database = tmp_path / "theirs.db"
    with sqlite3.connect(database) as connection:
        connection.execute("CREATE TABLE cheap (id INTEGER PRIMARY KEY, price REAL CHECK (price <> 13))")
    connection.close()
    async with processor(SOURCE + ROWS.format(path=database)) as rig:
        await rig.send(lots(0, 40))
        await rig.caught_up("cheap")
        (event,) = await rig.rejected()
    assert event.code == "delivery_refused"
    assert event.position == (0, 13)
    assert "CHECK" in event.detail
    assert in_database(database) == [n for n in range(40) if n != 13]


async def test_a_query_whose_rows_change_keeps_a_table_of_others_as_it_is(tmp_path: Path):
    database = tmp_path / "theirs.db"
    with sqlite3.connect(database) as connection:
        connection.execute("CREATE TABLE totals (market TEXT PRIMARY KEY, lots INTEGER, highest REAL)")
    connection.close()
    sql = f"""{SOURCE}SET 'table.exec.state.ttl' = '1 h';
CREATE TABLE totals (market STRING, lots BIGINT, highest DOUBLE, PRIMARY KEY (market) NOT ENFORCED) WITH
  ('connector' = 'jdbc', 'url' = 'jdbc:sqlite:{database}', 'table-name' = 'totals');
INSERT INTO totals SELECT market, COUNT(*), MAX(price) FROM lots GROUP BY market HAVING COUNT(*) < 5;
"""
    async with processor(sql) as rig:
        for count in (3, 3):
            await rig.send([{"id": n, "market": f"m{min(n, 1)}", "price": float(n)} for n in range(count)])
            await rig.caught_up("totals")
        with sqlite3.connect(database) as connection:
            assert connection.execute("SELECT * FROM totals ORDER BY 1").fetchall() == [
                ("m0", 2, 0.0),
                ("m1", 4, 2.0),
            ]
        connection.close()
        await rig.send([{"id": 9, "market": "m1", "price": 9.0}])
        await rig.caught_up("totals")
    with sqlite3.connect(database) as connection:
        assert connection.execute("SELECT * FROM totals").fetchall() == [("m0", 2, 0.0)]
    connection.close()
