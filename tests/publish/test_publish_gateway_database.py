"""The gateway's database: the same for the file and for PostgreSQL."""

from __future__ import annotations

import asyncio
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
