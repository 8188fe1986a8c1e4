"""The gateway's database: the same for the file and for PostgreSQL."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from penstock.errors import PenstockError
from penstock_publish.gateway_database import DATABASE_FILE, GatewayDatabase, open_gateway_database

_metadata = sa.MetaData()
NOTES = sa.Table("test_notes", _metadata, sa.Column("id", sa.Text, primary_key=True), sa.Column("n", sa.BigInteger))


@pytest.fixture(params=["file", "postgres"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[GatewayDatabase]:
    url = request.getfixturevalue("postgres_url") if request.param == "postgres" else None
    opened = open_gateway_database(tmp_path, url)
    yield opened
    opened.close()


def put(name: str, n: int):
    return lambda connection: connection.execute(sa.insert(NOTES).values(id=name, n=n))


def numbers(connection: sa.Connection) -> list[int]:
    return list(connection.execute(sa.select(NOTES.c.n).order_by(NOTES.c.n)).scalars())


async def test_tables_are_made_once_and_what_is_written_is_read(database):
    database.create(NOTES)
    database.create(NOTES)
    await asyncio.gather(*(database.run("writing", put(str(n), n)) for n in range(20)))
    assert await database.run("reading", numbers) == list(range(20))


async def test_a_transaction_that_fails_leaves_nothing(database):
    database.create(NOTES)

    def half(connection: sa.Connection) -> None:
        connection.execute(sa.insert(NOTES).values(id="a", n=1))
        raise PenstockError("bad_request", "stop")

    with pytest.raises(PenstockError, match="stop"):
        await database.run("writing", half)
    assert await database.run("reading", numbers) == []


async def test_rows_outlive_the_process(tmp_path):
    first = open_gateway_database(tmp_path)
    first.create(NOTES)
    await first.run("writing", put("a", 1))
    first.close()
    again = open_gateway_database(tmp_path)
    assert await again.run("reading", numbers) == [1]
    again.close()
    assert (tmp_path / DATABASE_FILE).stat().st_mode & 0o777 == 0o600


async def test_a_file_that_cannot_be_read_says_what_was_wanted(tmp_path):
    database = open_gateway_database(tmp_path)
    with pytest.raises(PenstockError) as caught:
        await database.run("reading notes", numbers)  # the table is missing
    assert caught.value.code == "store_unavailable"
    assert caught.value.detail.startswith("reading notes: ")
    database.close()


async def test_closing_waits_for_a_thread_that_is_at_it_and_refuses_those_that_come_after(tmp_path):
    database = open_gateway_database(tmp_path)
    database.create(NOTES)
    inside, go_on = threading.Event(), threading.Event()

    def slow() -> int:
        with database.transaction("writing slowly") as connection:
            inside.set()
            go_on.wait(10)
            connection.execute(sa.insert(NOTES).values(id="a", n=1))
            return len(numbers(connection))

    writing = asyncio.create_task(asyncio.to_thread(slow))
    await asyncio.to_thread(inside.wait, 10)
    closing = asyncio.create_task(asyncio.to_thread(database.close))
    await asyncio.sleep(0.05)
    assert not closing.done()
    go_on.set()
    assert await writing == 1
    await closing
    with pytest.raises(PenstockError, match="stopping"), database.transaction("making tables"):
        raise AssertionError("it is closed")
