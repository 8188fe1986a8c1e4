"""The store over SQLite: the contract, and what only this adapter promises."""

from __future__ import annotations

import sqlite3
from decimal import Decimal
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from penstock.errors import PenstockError
from penstock.model.batch import Op
from penstock.model.stream import Column, Relation, StreamSpec
from penstock.model.types import BIGINT, STRING, decimal
from penstock.ports.clock import SystemClock
from penstock.ports.store import Apply, Store
from penstock.stores.database import ReadDeadline
from penstock.stores.migrate import HEAD, VERSION_TABLE
from penstock.stores.open import STORE_FILE, open_store
from penstock.stores.settings import StoreSettings
from penstock.stores.sqlite import SqliteDatabase
from penstock.stores.tables import SYSTEM, decimal_text, read_decimal_text, stored_name, table_of
from penstock.testing.store_contract import StoreContract, changes_frame, refused, stream_spec, table_spec
from penstock.testing.store_contract_queries import StoreQueries


class TestSqliteStore(StoreContract, StoreQueries):
    """The suite over a file of its own for each test."""

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path

    def open_store(self, *, writable: bool = True) -> Store:
        return open_store(f"sqlite:///{self.folder}", clock=SystemClock(), writable=writable)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}"


async def test_commits_are_synced_and_written_ahead_as_read_back(url: str) -> None:
    store = open_store(url, clock=SystemClock())
    found = store.describe()
    await store.close()
    assert (found["journal_mode"], found["synchronous"], found["format"]) == ("wal", "FULL", HEAD)


async def test_a_newer_format_is_refused_and_left_alone(url: str, tmp_path: Path) -> None:
    await open_store(url, clock=SystemClock()).close()
    with sqlite3.connect(tmp_path / STORE_FILE) as raw:
        raw.execute(f"UPDATE {VERSION_TABLE} SET version_num = '9999'")
    raw.close()
    with refused("store_too_new"):
        open_store(url, clock=SystemClock())


async def test_migrations_make_exactly_the_tables_that_are_read(url: str, tmp_path: Path) -> None:
    await open_store(url, clock=SystemClock()).close()
    engine = sa.create_engine(f"sqlite:///{tmp_path / STORE_FILE}")
    found = sa.inspect(engine)
    assert set(found.get_table_names()) == {*SYSTEM.tables, VERSION_TABLE}
    for name, table in SYSTEM.tables.items():
        assert [c["name"] for c in found.get_columns(name)] == [c.name for c in table.columns]
        assert found.get_pk_constraint(name)["constrained_columns"] == [c.name for c in table.primary_key]
    engine.dispose()


@pytest.mark.parametrize("bad", ["mysql://host/db", "sqlite:store.db", "store.db", "sqlite://host/dir"])
def test_a_url_of_another_kind_is_refused_with_what_to_write(bad: str) -> None:
    with pytest.raises(PenstockError, match="sqlite:///DIRECTORY"):
        open_store(bad, clock=SystemClock())


async def test_a_read_stops_at_its_deadline_and_the_store_goes_on(url: str) -> None:
    spec = stream_spec()
    store = open_store(url, clock=SystemClock(), settings=StoreSettings(progress_steps=1000))
    await store.prepare([spec], 1)
    frame = changes_frame(spec, [(str(i), i, Op.INSERT) for i in range(300)])
    await store.apply([Apply("lots", 0, 1, None, 0, 300, frame, None)])
    tables = [table_of(spec).alias(f"t{i}") for i in range(4)]
    every = tables[0].join(tables[1], sa.true()).join(tables[2], sa.true()).join(tables[3], sa.true())
    product = sa.select(sa.func.count()).select_from(every)
    with refused("query_timeout"):
        await store.select("lots", product, [Column("n", BIGINT)], row_limit=1, timeout_s=0.05)
    one = sa.select(sa.func.count()).select_from(tables[0])
    found = await store.select("lots", one, [Column("n", BIGINT)], row_limit=1, timeout_s=5)
    assert found.frame.rows() == [(300,)]
    await store.close()


async def test_a_statement_that_writes_is_refused_by_a_reader(url: str) -> None:
    store = open_store(url, clock=SystemClock())
    await store.prepare([table_spec()], 1)
    with pytest.raises(TypeError):
        await store.select("totals", sa.text("DROP TABLE r_totals"), [], row_limit=1, timeout_s=1)
    sneaky = sa.select(sa.literal_column("1 FROM r_totals; DROP TABLE r_totals"))
    with refused("store_unavailable"):
        await store.select("totals", sneaky, [Column("n", BIGINT)], row_limit=1, timeout_s=1)
    assert "totals" in await store.relations()
    await store.close()


async def test_rows_without_a_key_are_left_out(url: str) -> None:
    spec = table_spec()
    store = open_store(url, clock=SystemClock())
    await store.prepare([spec], 1)
    frame = changes_frame(spec, [(None, 1, Op.INSERT), ("a", 2, Op.INSERT)])
    await store.apply([Apply("totals", 0, 1, None, 0, 2, frame, None)])
    assert (await store.snapshot("totals")).frame.rows() == [("a", 2)]
    await store.close()


async def test_a_table_of_key_columns_only_is_kept(url: str) -> None:
    spec = StreamSpec("seen", "demo", Relation.TABLE, (Column("k", STRING),), primary_key=("k",), store=True)
    store = open_store(url, clock=SystemClock())
    await store.prepare([spec], 1)
    for expected in (None, 2):
        frame = changes_frame(spec, [("b", Op.INSERT), ("a", Op.INSERT)])
        await store.apply([Apply("seen", 0, 1, expected, expected or 0, (expected or 0) + 2, frame, None)])
    assert (await store.snapshot("seen")).frame.rows() == [("a",), ("b",)]
    await store.close()


async def test_pages_in_key_order_need_no_sort(url: str, tmp_path: Path) -> None:
    spec = table_spec()
    store = open_store(url, clock=SystemClock())
    await store.prepare([spec], 1)
    await store.close()
    table = table_of(spec)
    page = sa.select(table).where(sa.tuple_(table.c.k) > sa.tuple_(sa.literal("m"))).order_by(table.c.k).limit(10)
    engine = sa.create_engine(f"sqlite:///{tmp_path / STORE_FILE}")
    with engine.connect() as connection:
        text = str(page.compile(engine, compile_kwargs={"literal_binds": True}))
        plan = " ".join(str(row) for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}"))
    engine.dispose()
    assert "SEARCH" in plan
    assert "TEMP B-TREE" not in plan


_DECIMALS = st.decimals(min_value=-999, max_value=999, places=2, allow_nan=False)


@given(_DECIMALS, st.decimals(min_value=-1200, max_value=1200, places=4, allow_nan=False))
def test_stored_decimals_compare_as_numbers_do(stored: Decimal, value: Decimal) -> None:
    left, right = decimal_text(stored, 5, 2), decimal_text(value, 5, 2)
    assert (left < right, left == right, left > right) == (stored < value, stored == value, stored > value)


@given(st.integers(min_value=-(10**38) + 1, max_value=10**38 - 1), st.integers(min_value=0, max_value=38))
def test_stored_decimals_are_exact(unscaled: int, scale: int) -> None:
    number = Decimal(f"{unscaled}e-{scale}")
    assert read_decimal_text(decimal_text(number, 38, scale), 38, scale) == number


@given(st.lists(st.text(min_size=1, max_size=70), unique=True, min_size=2, max_size=2))
def test_two_names_are_never_stored_as_one(names: list[str]) -> None:
    left, right = (stored_name(name.replace("\ud800", "")) for name in names)
    assert left.lower() != right.lower()
    assert max(len(left), len(right)) <= 48
    assert not left.startswith("_")


async def test_decimals_filter_as_numbers_in_sql(url: str) -> None:
    column = Column("price", decimal(5, 2))
    spec = StreamSpec("prices", "demo", Relation.STREAM, (column,), store=True)
    store = open_store(url, clock=SystemClock())
    await store.prepare([spec], 1)
    values = [Decimal(text) for text in ("-10.50", "-9.00", "0.00", "2.00", "10.01")]
    await store.apply(
        [Apply("prices", 0, 1, None, 0, 5, changes_frame(spec, [(v, Op.INSERT) for v in values]), None)]
    )
    stored = table_of(spec).c.price
    for bound in ("-9.001", "-9", "0", "2.005", "10.01", "5000", "-5000"):
        statement = sa.select(stored).where(stored > Decimal(bound)).order_by(stored)
        found = await store.select("prices", statement, [column], row_limit=10, timeout_s=5)
        assert found.frame["price"].to_list() == [v for v in values if v > Decimal(bound)]
    await store.close()


async def test_rows_that_a_query_makes_long_are_fetched_no_further_than_the_limit(url: str) -> None:
    """A text of a megabyte in each of 500 rows, which are fetched at once, would be half a gigabyte."""
    spec = stream_spec()
    store = open_store(url, clock=SystemClock())
    await store.prepare([spec], 1)
    rows = [("x", i, Op.INSERT) for i in range(500)]
    await store.apply([Apply("lots", 0, 1, None, 0, 500, changes_frame(spec, rows), None)])
    select = sa.select(sa.literal("y" * 1_000_000).label("c0")).select_from(table_of(spec))
    found = await store.query(
        select, [Column("a", STRING)], row_limit=1000, size_limit_bytes=3_000_000, timeout_s=10.0
    )
    assert (found.frame.height, found.truncated) == (4, True)
    await store.close()


async def test_a_query_of_few_but_long_steps_is_asked_for_its_deadline(url: str, tmp_path: Path) -> None:
    spec = stream_spec()
    store = open_store(url, clock=SystemClock())
    await store.prepare([spec], 1)
    rows = [("x", i, Op.INSERT) for i in range(60)]
    await store.apply([Apply("lots", 0, 1, None, 0, 60, changes_frame(spec, rows), None)])
    await store.close()
    database = SqliteDatabase(tmp_path / STORE_FILE, StoreSettings())
    engine = database.querying_engine()
    deadline = ReadDeadline(SystemClock(), 0)
    with (
        refused("query_timeout"),
        engine.connect() as connection,
        database.translated("a query"),
        database.bounded(connection, deadline),
    ):
        connection.execute(sa.select(sa.func.max(table_of(spec).c.k + "x"))).all()
    engine.dispose()
