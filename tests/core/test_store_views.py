"""Views for people and other programs: own names, natural types, and they follow a deploy."""

from __future__ import annotations

import datetime as dt
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from decimal import Context, Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest

from penstock.model.batch import Op
from penstock.model.stream import Column, Relation, StreamSpec
from penstock.model.types import BIGINT, INT, STRING, TIMESTAMP, decimal
from penstock.ports.clock import SystemClock
from penstock.ports.store import Apply, Store
from penstock.stores.open import STORE_FILE, open_store
from penstock.testing.store_contract import EVERY_TYPE, changes_frame, stream_spec, table_spec

Query = Callable[[str], list[tuple[Any, ...]]]

JSON_TEXTS = {
    "texts": '["","ä\\u0001\\u0000\'",null]',
    "by_name": '{"x":["-1.50"]}',
    "inner": '{"a":"2018-01-01T00:00:00.000Z","b":{"c":"AP8=","d":"23:59:59.999","e":"1969-12-31"}}',
}
EVERY = StreamSpec(
    "Every type", "demo", Relation.TABLE, tuple(c for c, _ in EVERY_TYPE), primary_key=("k",), store=True
)


async def fill(store: Store, spec: StreamSpec, rows: list[tuple[Any, ...]]) -> None:
    frame = changes_frame(spec, rows)
    await store.apply([Apply(spec.name, 0, 1, None, 0, frame.height, frame, None)])


@pytest.fixture
def query_postgres(postgres_url: str) -> Query:
    def query(statement: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(postgres_url, options="-c search_path=penstock -c timezone=UTC") as connection:
            return connection.execute(statement.encode()).fetchall()

    return query


@pytest.fixture
def query_sqlite(tmp_path: Path) -> Query:
    def query(statement: str) -> list[tuple[Any, ...]]:
        connection = sqlite3.connect(tmp_path / STORE_FILE)
        try:
            return connection.execute(statement).fetchall()
        finally:
            connection.close()

    return query


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Query]:
    """(store's URL, how somebody else reads it)."""
    query = request.getfixturevalue(f"query_{request.param}")
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}", query
    return request.getfixturevalue("postgres_url"), query


async def test_postgres_shows_natural_types(postgres_url: str, query_postgres: Query) -> None:
    store = open_store(postgres_url, clock=SystemClock())
    await store.prepare([EVERY], 1)
    values = tuple(value for _, value in EVERY_TYPE)
    await fill(store, EVERY, [(*values, Op.INSERT), ("none", *[None] * (len(values) - 1), Op.INSERT)])
    shown = tuple(JSON_TEXTS.get(column.name, value) for column, value in EVERY_TYPE)
    assert query_postgres('SELECT * FROM "Every type" ORDER BY k') == [shown, ("none", *[None] * (len(values) - 1))]
    types = query_postgres(
        "SELECT column_name, data_type FROM information_schema.columns "
        "WHERE table_schema = 'penstock' ORDER BY ordinal_position"
    )
    assert dict(types) == {
        "k": "character varying", "t": "smallint", "s": "smallint", "i": "integer", "b": "bigint", "f": "real",
        "d": "double precision", "small": "numeric", "large": "numeric", "flag": "boolean", "raw": "bytea",
        "day": "date", "at": "time without time zone", "ts": "timestamp without time zone",
        "ltz": "timestamp with time zone", **dict.fromkeys(JSON_TEXTS, "character varying"),
    }  # fmt: skip
    await store.close()


async def test_sqlite_shows_times_as_iso_text_and_decimals_as_numbers(tmp_path: Path, query_sqlite: Query) -> None:
    store = open_store(f"sqlite:///{tmp_path}", clock=SystemClock())
    await store.prepare([EVERY], 1)
    await fill(store, EVERY, [(*(value for _, value in EVERY_TYPE), Op.INSERT)])
    found = query_sqlite('SELECT day, at, ts, ltz, small, large, flag, raw, "inner" FROM "Every type"')
    assert found == [
        ("1969-12-31", "23:59:59.999", "1960-01-01T00:00:00.001", "2018-01-01T00:00:00.000Z", -999.99,
         9999999999999999999999999999.0123456789, 1, b"\x00\xff", JSON_TEXTS["inner"])
    ]  # fmt: skip
    await store.close()


@pytest.mark.parametrize("precision", [1, 5, 13, 14, 26, 27, 38])
async def test_decimals_are_numbers_in_both(database: tuple[str, Query], precision: int) -> None:
    url, query = database
    scale = precision // 2
    texts = {0, 1, -1, 5, -5, 10**precision - 1, 1 - 10**precision, 10 ** (precision // 2), -(10 ** (precision // 2))}
    values = [Decimal(n).scaleb(-scale, Context(prec=60)) for n in sorted(n for n in texts if abs(n) < 10**precision)]
    spec = StreamSpec("prices", "demo", Relation.STREAM, (Column("p", decimal(precision, scale)),), store=True)
    store = open_store(url, clock=SystemClock())
    await store.prepare([spec], 1)
    await fill(store, spec, [(value, Op.INSERT) for value in (*values, None)])
    found = [row[0] for row in query("SELECT p FROM prices WHERE p IS NOT NULL ORDER BY p")]
    assert [float(number) for number in found] == pytest.approx([float(value) for value in values], rel=1e-15)
    assert query("SELECT count(*) FROM prices WHERE p IS NULL") == [(1,)]
    await store.close()


async def test_early_tables_say_whether_a_row_is_complete(database: tuple[str, Query]) -> None:
    url, query = database
    spec = table_spec(emit="early")
    store = open_store(url, clock=SystemClock())
    await store.prepare([spec], 1)
    await fill(store, spec, [("a", 1, Op.INSERT, True), ("b", 2, Op.INSERT, False)])
    assert query("SELECT * FROM totals ORDER BY k") == [("a", 1, False), ("b", 2, True)]
    await store.close()


async def test_views_follow_when_an_app_is_deployed_again(database: tuple[str, Query]) -> None:
    url, query = database
    old, kept = table_spec(), stream_spec()
    wider = replace(old, columns=(Column("w", INT), *old.columns))
    store = open_store(url, clock=SystemClock())
    await store.prepare([old, kept], 1)
    await fill(store, kept, [("x", 1, Op.INSERT)])
    await store.prepare([wider, kept], 1)
    await fill(store, wider, [(7, "a", 1, Op.INSERT)])
    assert query("SELECT * FROM totals") == [(7, "a", 1)]
    await store.prepare([kept], 1)
    assert query("SELECT * FROM lots") == [("x", 1)]
    with pytest.raises((sqlite3.OperationalError, psycopg.errors.UndefinedTable)):
        query("SELECT * FROM totals")
    await store.close()


async def test_a_view_follows_a_table_that_was_made_again(database: tuple[str, Query]) -> None:
    url, query = database
    spec = table_spec()
    store = open_store(url, clock=SystemClock())
    await store.prepare([spec], 1)
    await fill(store, spec, [("a", 1, Op.INSERT)])
    beside = await store.begin_rebuild("totals")
    await store.apply_beside(
        beside, [Apply(beside.name, 0, 1, None, 0, 1, changes_frame(spec, [("b", 2, Op.INSERT)]), None)]
    )
    assert query("SELECT * FROM totals") == [("a", 1)]
    assert await store.finish_rebuild("totals", {0: (1, 1)})
    assert query("SELECT * FROM totals") == [("b", 2)]
    await store.close()


async def test_any_name_has_a_view(database: tuple[str, Query]) -> None:
    url, query = database
    names = ["Lots", "lots", "r_lots", "penstock_applied", "select", 'quo"te', "per%cent", "日本", "x" * 80]
    columns = (Column('od"d %s', BIGINT), Column("y" * 80, STRING), Column("y" * 79 + "z", TIMESTAMP))
    specs = [StreamSpec(name, "demo", Relation.STREAM, columns, store=True) for name in names]
    store = open_store(url, clock=SystemClock())
    for _ in range(2):
        await store.prepare(specs, 1)
    for i, spec in enumerate(specs):
        await fill(store, spec, [(i, "t", dt.datetime(2018, 1, 1), Op.INSERT)])
    if url.startswith("sqlite"):
        found = query("SELECT name FROM sqlite_master WHERE type = 'view' ORDER BY name")
    else:
        found = query("SELECT viewname FROM pg_views WHERE schemaname = 'penstock' ORDER BY viewname COLLATE \"C\"")
    assert len(found) == len(names)
    numbers = [query(f'SELECT "od""d %s" FROM "{name.replace(chr(34), chr(34) * 2)}"')[0][0] for (name,) in found]
    assert sorted(numbers) == list(range(len(names)))
    await store.close()
