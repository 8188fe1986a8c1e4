"""The store over PostgreSQL: the contract, and what only this adapter promises."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence

import psycopg
import pytest
import sqlalchemy as sa
from postgres_server import PostgresServer

from penstock.errors import PenstockError
from penstock.model.batch import Op
from penstock.model.stream import Column
from penstock.model.types import BIGINT
from penstock.ports.clock import SystemClock
from penstock.ports.store import Apply, Store
from penstock.stores.metrics import LONG_KEYS
from penstock.stores.migrate import HEAD, VERSION_TABLE
from penstock.stores.open import open_store
from penstock.stores.settings import StoreSettings
from penstock.stores.tables import table_of
from penstock.testing.store_contract import StoreContract, changes_frame, refused, stream_spec, table_spec
from penstock.testing.store_contract_queries import StoreQueries


class TestPostgresStore(StoreContract, StoreQueries):
    """The suite over a fresh database for each test."""

    @pytest.fixture(autouse=True)
    def _database(self, postgres_url: str) -> None:
        self.url = postgres_url

    def open_store(self, *, writable: bool = True) -> Store:
        return open_store(self.url, clock=SystemClock(), writable=writable)

    def other_writers(self) -> Sequence[Store]:
        return [self.open_store()]


@pytest.fixture
def own_server(need) -> Iterator[PostgresServer]:
    """A server that a test may crash."""
    need("postgres", PostgresServer.programs() is not None, "apt-get install postgresql")
    with PostgresServer() as server:
        yield server


def lots(first: int, count: int) -> Apply:
    spec = stream_spec()
    frame = changes_frame(spec, [(f"k{i}", i, Op.INSERT) for i in range(first, first + count)])
    return Apply("lots", 0, 1, first or None, first, first + count, frame, None)


async def test_what_decides_about_durability_is_read_back(postgres_url: str) -> None:
    store = open_store(postgres_url, clock=SystemClock())
    found = store.describe()
    await store.close()
    assert (found["fsync"], found["synchronous_commit"], found["format"]) == ("on", "on", HEAD)
    assert found["engine"].startswith("PostgreSQL ")


async def test_a_database_that_may_lose_commits_is_refused(postgres_url: str) -> None:
    with refused("store_unavailable"):
        open_store(f"{postgres_url}?options=-c%20synchronous_commit%3Doff", clock=SystemClock())


async def test_a_crash_of_the_server_is_store_unavailable_and_passes(own_server: PostgresServer) -> None:
    store = open_store(own_server.database("crash"), clock=SystemClock())
    await store.prepare([stream_spec()], 1)
    await store.apply([lots(0, 10)])
    own_server.kill()
    for _ in range(2):
        with refused("store_unavailable"):
            await store.apply([lots(10, 10)])
        with refused("store_unavailable"):
            await store.applied("lots")
    own_server.start()
    for attempt in range(3):  # the writing connection may notice at its first use only that its server is another one
        try:
            await store.apply([lots(10, 10)])
            break
        except PenstockError as error:
            if attempt == 2 or error.code != "store_unavailable" or not error.retryable:
                raise
    applied = await store.applied("lots")
    assert applied is not None
    assert dict(applied.next) == {0: 20}
    await store.close()


async def test_a_read_stops_at_its_deadline_and_when_its_caller_leaves(postgres_url: str) -> None:
    store = open_store(postgres_url, clock=SystemClock(), settings=StoreSettings(readers=1))
    await store.prepare([stream_spec()], 1)
    await store.apply([lots(0, 10)])
    asleep = sa.select(sa.func.pg_sleep(60), table_of(stream_spec()).c.v)
    columns = [Column("s", BIGINT), Column("v", BIGINT)]
    with refused("query_timeout"):
        await store.select("lots", asleep, columns, row_limit=1, timeout_s=0.1)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(store.select("lots", asleep, columns, row_limit=1, timeout_s=60), 0.3)
    # The one reading connection is free again long before the minute is over.
    async with asyncio.timeout(20):
        assert await store.applied("lots") is not None
    await store.close()


async def test_several_that_open_and_prepare_at_once_make_one_store(postgres_url: str) -> None:
    def opened() -> Store:
        return open_store(postgres_url, clock=SystemClock())

    stores = await asyncio.gather(*(asyncio.to_thread(opened) for _ in range(4)))
    await asyncio.gather(*(store.prepare([stream_spec(), table_spec()], 1) for store in stores))
    await stores[0].apply([lots(0, 3)])
    for store in stores:
        assert sorted(await store.relations()) == ["lots", "totals"]
        assert (await store.applied_all())["lots"].next == {0: 3}
        await store.close()


async def test_a_reader_waits_for_the_format_and_refuses_a_newer_one(postgres_url: str) -> None:
    reader = open_store(postgres_url, clock=SystemClock(), writable=False)
    with refused("not_ready"):
        await reader.relations()
    await open_store(postgres_url, clock=SystemClock()).close()
    assert await reader.relations() == {}
    await reader.close()
    with psycopg.connect(postgres_url) as connection:
        connection.execute(f"UPDATE penstock_store.{VERSION_TABLE} SET version_num = '9999'".encode())
    late = open_store(postgres_url, clock=SystemClock(), writable=False)
    with refused("store_too_new"):
        await late.relations()
    await late.close()
    with refused("store_too_new"):
        open_store(postgres_url, clock=SystemClock())


async def test_a_writer_stopped_in_the_middle_holds_up_nobody_for_long(postgres_url: str) -> None:
    limits = StoreSettings(idle_transaction_s=1)
    store = open_store(postgres_url, clock=SystemClock(), settings=limits)
    await store.prepare([stream_spec()], 1)
    await store.apply([lots(0, 1)])
    with psycopg.connect(postgres_url, options="-c idle_in_transaction_session_timeout=1s") as stopped:
        stopped.execute("UPDATE penstock_store.penstock_applied SET next = 99 WHERE relation = 'lots'")
        await store.apply([lots(1, 1)])  # waits until the server has ended the other's session
        with pytest.raises(psycopg.Error, match="idle-in-transaction"):
            stopped.commit()
    assert (await store.applied_all())["lots"].next == {0: 2}
    await store.close()


async def test_a_key_that_no_index_takes_is_left_out_and_counted(postgres_url: str) -> None:
    store = open_store(postgres_url, clock=SystemClock())
    spec = table_spec()
    await store.prepare([spec], 1)
    rows = [("short", 1, Op.INSERT), ("x" * 100_000, 2, Op.INSERT), ("y" * 2400, 3, Op.INSERT)]
    before = LONG_KEYS.labels("r_totals")._value.get()
    await store.apply([Apply("totals", 0, 1, None, 0, 3, changes_frame(spec, rows), None)])
    assert (await store.snapshot("totals")).frame["v"].to_list() == [1, 3]
    assert LONG_KEYS.labels("r_totals")._value.get() == before + 1
    await store.close()


async def test_more_rows_than_are_fetched_at_once_come_whole(postgres_url: str) -> None:
    store = open_store(postgres_url, clock=SystemClock(), settings=StoreSettings(fetch_rows=100))
    spec = table_spec()
    await store.prepare([spec], 1)
    rows = [(f"{i:05d}", i, Op.INSERT) for i in range(1050)]
    await store.apply([Apply("totals", 0, 1, None, 0, 1050, changes_frame(spec, rows), None)])
    assert (await store.snapshot("totals")).frame["v"].to_list() == list(range(1050))
    await store.close()


async def test_queries_run_as_a_role_of_their_own_that_may_read_and_nothing_else(
    postgres_server: PostgresServer, postgres_url: str
) -> None:
    """As docs/query.md sets it up: relations are read; other tables, and all writing, are refused by the server."""
    spec, role = stream_spec(), "penstock_query_test"
    database = postgres_url.rpartition("/")[2]
    await open_store(postgres_url, clock=SystemClock()).close()
    with psycopg.connect(postgres_server.admin_url(database), autocommit=True) as admin:
        admin.execute(f"DROP ROLE IF EXISTS {role}")
        admin.execute(f"CREATE ROLE {role} NOLOGIN")
        admin.execute(f"GRANT {role} TO {postgres_server.owner}")
        admin.execute(f"GRANT USAGE ON SCHEMA penstock_store TO {role}")
        admin.execute(
            f"ALTER DEFAULT PRIVILEGES FOR ROLE {postgres_server.owner} IN SCHEMA penstock_store "
            f"GRANT SELECT ON TABLES TO {role}"
        )
        admin.execute("CREATE TABLE public.secrets (a INT)")
    store = open_store(postgres_url, clock=SystemClock(), settings=StoreSettings(query_role=role))
    try:
        await store.prepare([spec], 1)
        await store.apply([lots(0, 3)])

        async def ask(text: str) -> object:
            columns = [Column("n", BIGINT)]
            select = sa.select(sa.literal_column(text).label("c0"))
            return (await store.query(select, columns, row_limit=1, size_limit_bytes=100, timeout_s=5.0)).frame.item()

        assert await ask('(SELECT COUNT(*) FROM "r_lots")') == 3
        for text in ("(SELECT COUNT(*) FROM public.secrets)", "pg_read_file('/etc/passwd')::bigint"):
            with pytest.raises(PenstockError):
                await ask(text)
        assert await ask("(current_user = 'penstock_query_test')::int") == 1
    finally:
        await store.close()
        with psycopg.connect(postgres_server.admin_url(database), autocommit=True) as admin:
            admin.execute(f"DROP OWNED BY {role}")
            admin.execute(f"DROP ROLE {role}")
