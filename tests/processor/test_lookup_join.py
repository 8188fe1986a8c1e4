"""Lookup joins against real places: a SQLite file, a PostgreSQL server, an HTTP endpoint."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from decimal import Decimal
from io import BytesIO, StringIO
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
from aiohttp import web

from penstock.codecs.arrow import decode_frame
from penstock.codecs.ndjson import encode_lines
from penstock.errors import SqlErrors
from penstock.logs.memory import MemoryLog
from penstock.lookups.http import HttpLookup
from penstock.lookups.jdbc import JdbcLookup
from penstock.lookups.options import HttpLookupOptions, LookupOptions, read_lookup_options
from penstock.model.batch import Encoding, NewBatch
from penstock.model.stream import Column
from penstock.model.types import INT, STRING, TIMESTAMP, TIMESTAMP_LTZ
from penstock.ports.clock import SystemClock
from penstock.ports.log import RejectedFilter
from penstock.ports.lookup import LookupFailed
from penstock_processor.compile.build import build_engine
from penstock_processor.eval import run_eval
from penstock_processor.logical.plan_app import check_app, plan_app
from penstock_processor.runtime.app_runner import AppRunner, AppState
from penstock_processor.runtime.lookup_cache import LookupCache
from penstock_processor.runtime.rejections import ReplayItem, replay_id
from penstock_processor.settings import LookupSettings, ProcessorSettings

ORDERS = """CREATE TABLE orders (id INT, user_id INT, amount INT, proc_time AS PROCTIME())
  WITH ('connector' = 'penstock', 'dedupe' = 'none');"""
USERS = "CREATE TABLE users (id INT, name STRING, since TIMESTAMP(3), balance DECIMAL(10, 2), ok BOOLEAN) WITH ({});"
JOIN = """CREATE TABLE o WITH ('connector' = 'penstock') AS SELECT o.id, u.name, u.since, u.balance, u.ok
  FROM orders AS o {} JOIN users FOR SYSTEM_TIME AS OF o.proc_time AS u ON o.user_id = u.id {};"""
ROWS = [(1, "ada", "2020-01-02 03:04:05", "12.50", 1), (2, "ben", None, None, 0), (2, "bob", None, "0.01", None)]
FOUND = [
    (10, "ada", datetime(2020, 1, 2, 3, 4, 5), "12.50", True),
    (11, "ben", None, None, False),
    (11, "bob", None, "0.01", None),
]


def app(options: dict[str, str], *, kind: str = "LEFT", more: str = "") -> str:
    written = ", ".join(f"'{name}' = '{value}'" for name, value in options.items())
    return ORDERS + USERS.format(written) + JOIN.format(kind, more)


class Running:
    """An app on a memory log of its own."""

    def __init__(self, sql: str) -> None:
        self.plan = plan_app("app", sql)
        self.log = MemoryLog(clock=SystemClock())
        settings = ProcessorSettings(wait_s=0.05, retry_min_s=0.05,
                                     lookups=LookupSettings(retry_min_s=0.01, stop_grace_s=0.05))  # fmt: skip
        self.runner = AppRunner(self.plan, log=self.log, clock=SystemClock(), settings=settings,
                                build_engine=build_engine)  # fmt: skip

    async def send(self, *rows: tuple[int, int | None, int]) -> None:
        events = [json.dumps(dict(zip(("id", "user_id", "amount"), row, strict=True))).encode() for row in rows]
        batch = NewBatch("orders", 0, Encoding.NDJSON_ZSTD, encode_lines(events), len(events), ids=b"")
        await self.log.append([batch])

    async def rows(self, count: int) -> list[tuple[object, ...]]:
        """All rows of the result once there are so many."""
        for _ in range(1000):
            batches = await self.log.read("o", 0, 0, 1 << 30, 1 << 20)
            rows = [row for b in batches for row in decode_frame(b.payload).drop("$op").rows()]
            if len(rows) >= count:
                return [tuple(str(v) if isinstance(v, Decimal) else v for v in row) for row in rows]
            await asyncio.sleep(0.01)
        raise AssertionError(f"there are {len(rows)} rows, not {count}: {self.runner.detail}")


@asynccontextmanager
async def running(sql: str) -> AsyncIterator[Running]:
    it = Running(sql)
    await it.log.put_app("app", sql, [s.spec for s in it.plan.sources.values()], 0)
    task = asyncio.create_task(it.runner.run())
    try:
        yield it
    finally:
        it.runner.stop()
        await asyncio.wait_for(task, 10)


class Endpoint:
    """An HTTP endpoint of users; `broken` requests are answered with 500 first."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.broken = 0
        self.url = ""

    async def answer(self, request: web.Request) -> web.Response:
        key = request.match_info["id"]
        self.asked.append(key)
        if self.broken:
            self.broken -= 1
            return web.Response(status=500)
        rows = [
            {"name": name, "since": since, "balance": balance, "ok": None if ok is None else bool(ok), "other": 1}
            for id_, name, since, balance, ok in ROWS
            if str(id_) == key
        ]
        return web.json_response(rows) if rows else web.Response(status=404)


@pytest.fixture
async def endpoint() -> AsyncIterator[Endpoint]:
    it = Endpoint()
    served = web.Application()
    served.router.add_get("/users/{id}", it.answer)
    runner = web.AppRunner(served)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    it.url = f"http://127.0.0.1:{port}/users/{{id}}"
    yield it
    await runner.cleanup()


@pytest.fixture
def sqlite_file(tmp_path: Path) -> Path:
    path = tmp_path / "users.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE users (id INTEGER, name TEXT, since TEXT, balance NUMERIC, ok INTEGER)")
        connection.executemany("INSERT INTO users VALUES (?, ?, ?, ?, ?)", ROWS)
    connection.close()
    return path


async def test_rows_of_a_sqlite_table_are_found_by_key_and_padded_where_there_is_none(sqlite_file):
    sql = app({"connector": "jdbc", "url": f"jdbc:sqlite:{sqlite_file}", "table-name": "users"})
    async with running(sql) as it:
        await it.send((10, 1, 1), (11, 2, 1), (12, 7, 1), (13, None, 1))
        assert await it.rows(5) == [*FOUND, (12, None, None, None, None), (13, None, None, None, None)]
    async with running(sql.replace("LEFT JOIN", "JOIN").replace("u.id ;", "u.id AND u.name <> 'ben';")) as it:
        await it.send((10, 1, 1), (11, 2, 1), (12, 7, 1))
        assert await it.rows(2) == [FOUND[0], FOUND[2]]


@pytest.mark.parametrize(
    "text",
    ["2020-01-02 03:04:05", "2020-01-02T03:04:05.000Z", "2020-01-02 03:04:05.000000", "2020-01-02 05:04:05+02:00"],
)
@pytest.mark.parametrize("kind", ["TIMESTAMP(3)", "TIMESTAMP_LTZ(3)"])
async def test_rows_of_a_sqlite_table_are_found_by_a_time_in_any_form_of_text(tmp_path: Path, kind: str, text: str):
    path = tmp_path / "days.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE days (at_time TEXT, name TEXT)")
        connection.executemany("INSERT INTO days VALUES (?, ?)", [(text, "right"), ("2020-01-02 03:04:06", "wrong")])
    connection.close()
    columns = (Column("at_time", TIMESTAMP if kind == "TIMESTAMP(3)" else TIMESTAMP_LTZ), Column("name", STRING))
    options = read_lookup_options("jdbc", {"url": f"jdbc:sqlite:{path}", "table-name": "days"})
    lookup = JdbcLookup(options, columns, ["at_time"], rows_max=10)
    asked = datetime(2020, 1, 2, 3, 4, 5, tzinfo=None if kind == "TIMESTAMP(3)" else UTC)
    try:
        assert await lookup.find([(asked,)]) == {(asked,): [{"at_time": asked, "name": "right"}]}
    finally:
        await lookup.close()


async def test_a_text_that_is_no_time_is_told(tmp_path: Path):
    path = tmp_path / "days.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE days (id INTEGER, at_time TEXT)")
        connection.execute("INSERT INTO days VALUES (1, 'soon')")
    connection.close()
    options = read_lookup_options("jdbc", {"url": f"jdbc:sqlite:{path}", "table-name": "days"})
    lookup = JdbcLookup(options, (Column("id", INT), Column("at_time", TIMESTAMP)), ["id"], rows_max=10)
    try:
        with pytest.raises(LookupFailed, match="soon"):
            await lookup.find([(1,)])
    finally:
        await lookup.close()


async def test_rows_of_a_postgresql_table_are_found_by_key(postgres_url):
    url = sa.make_url(postgres_url)
    with psycopg.connect(postgres_url) as connection:
        connection.execute("CREATE TABLE users (id int, name text, since timestamp, balance numeric(10, 2), ok bool)")
        with connection.cursor() as cursor:
            values = [(*row[:4], None if row[4] is None else bool(row[4])) for row in ROWS]
            cursor.executemany("INSERT INTO users VALUES (%s, %s, %s, %s, %s)", values)
    place = f"jdbc:postgresql://{url.host}:{url.port}/{url.database}"
    options = {"connector": "jdbc", "url": place, "table-name": "public.users", "username": url.username or ""}
    if url.password:
        options["password"] = str(url.password)
    async with running(app(options)) as it:
        await it.send((10, 1, 1), (11, 2, 1))
        assert await it.rows(3) == FOUND


async def test_rows_of_an_http_endpoint_are_found_and_kept_as_the_cache_says(endpoint):
    options = {"connector": "http", "url": endpoint.url, "lookup.cache": "PARTIAL",
               "lookup.partial-cache.max-rows": "2", "lookup.partial-cache.expire-after-write": "1 h"}  # fmt: skip
    async with running(app(options)) as it:
        await it.send((10, 1, 1), (11, 2, 1), (10, 1, 1))
        assert await it.rows(4) == [*FOUND, FOUND[0]]
        await it.send((10, 1, 1), (12, 7, 1))
        await it.rows(6)
        assert endpoint.asked == ["1", "2", "7"]
        await it.send((11, 2, 1))  # 7 had taken its place
        await it.rows(8)
        assert endpoint.asked == ["1", "2", "7", "2"]


async def test_lookups_go_one_after_the_other_where_one_needs_what_another_found(sqlite_file, endpoint):
    chained = f"""{ORDERS}
      {USERS.format(f"'connector' = 'jdbc', 'url' = 'jdbc:sqlite:{sqlite_file}', 'table-name' = 'users'")}
      CREATE TABLE plans (id INT, name STRING) WITH ('connector' = 'http', 'url' = '{endpoint.url}');
      CREATE TABLE o WITH ('connector' = 'penstock') AS
      SELECT o.id, u.name, p.name AS plan FROM orders AS o
      LEFT JOIN users FOR SYSTEM_TIME AS OF o.proc_time AS u ON o.user_id = u.id AND u.ok
      LEFT JOIN plans FOR SYSTEM_TIME AS OF o.proc_time AS p ON u.id + 1 = p.id;"""
    async with running(chained) as it:
        await it.send((10, 1, 1), (11, 2, 1))
        assert await it.rows(3) == [(10, "ada", "ben"), (10, "ada", "bob"), (11, None, None)]
        assert endpoint.asked == ["2"]


async def test_filters_on_the_source_spare_lookups(endpoint):
    options = {"connector": "http", "url": endpoint.url}
    async with running(app(options, kind="", more="WHERE o.amount > 5")) as it:
        await it.send((9, 7, 1), (10, 1, 6))
        assert await it.rows(1) == FOUND[:1]
        assert endpoint.asked == ["1"]


async def test_a_key_that_would_lead_to_another_place_has_no_row_and_is_not_asked_for(endpoint):
    async def found(url: str, *texts: str) -> list[int]:
        options = read_lookup_options("http", {"url": url})
        assert isinstance(options, HttpLookupOptions)
        lookup = HttpLookup(options, requests_max=2, reply_max_bytes=1000)
        answers = await lookup.find([(text,) for text in texts])
        await lookup.close()
        return [len(answers[text,]) for text in texts]

    assert await found(endpoint.url.replace("{id}", "x/{id}/1"), "..", ".", "", "x") == [0, 0, 0, 0]
    assert await found(endpoint.url.replace("/users/", "/tenants/{tenant}/users/").replace("{id}", "1"), "..") == [0]
    assert await found(endpoint.url.replace("/users/{id}", "/{x}/users/1"), "..", ".", "") == [0, 0, 0]
    assert endpoint.asked == []
    assert await found(endpoint.url, "1", "a/../b", "%2e%2e") == [1, 0, 0]
    assert sorted(endpoint.asked) == ["%2e%2e", "1", "a/../b"]


async def test_a_lookup_that_fails_is_tried_again_and_then_the_app_waits_with_the_reason(endpoint):
    options = {"connector": "http", "url": endpoint.url, "lookup.max-retries": "2"}
    async with running(app(options)) as it:
        endpoint.broken = 2
        await it.send((10, 1, 1))
        assert await it.rows(1) == FOUND[:1]
        endpoint.broken = 10_000
        await it.send((11, 2, 1))
        for _ in range(1000):
            if it.runner.state is AppState.WAITING:
                break
            await asyncio.sleep(0.01)
        assert it.runner.state is AppState.WAITING
        assert "lookup in 'users': GET http" in it.runner.detail and "answers 500" in it.runner.detail
        endpoint.broken = 0
        assert await it.rows(3) == FOUND


async def test_an_app_stops_although_the_other_side_does_not_answer():
    asked = asyncio.Event()

    async def stall(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        await reader.read()
        await reader.read()
        writer.close()

    server = await asyncio.start_server(stall, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/users/{{id}}"
    async with running(app({"connector": "http", "url": url, "request.timeout": "1 min"})) as it:
        await it.send((10, 1, 1))
        await asyncio.wait_for(asked.wait(), 10)
    assert it.runner.state is AppState.STOPPED
    server.close()
    await server.wait_closed()


async def test_a_lookup_that_fails_rejects_its_events_alone_if_the_table_says_so_and_they_can_be_replayed(endpoint):
    options = {"connector": "http", "url": endpoint.url, "lookup.max-retries": "0", "lookup.on-failure": "reject"}
    async with running(app(options)) as it:
        endpoint.broken = 1
        await it.send((10, 1, 1), (13, None, 1))
        assert await it.rows(1) == [(13, None, None, None, None)]
        [event] = await it.log.rejected(RejectedFilter(app="app"))
        assert (event.code, json.loads(event.raw)["id"]) == ("lookup_failed", 10)
        assert await it.runner.replay([ReplayItem(event, event.raw, replay_id(event.id))]) == []
        assert await it.rows(2) == [(13, None, None, None, None), FOUND[0]]


async def test_a_row_that_does_not_fit_rejects_the_events_of_its_key_alone(sqlite_file):
    with sqlite3.connect(sqlite_file) as connection:
        connection.execute("UPDATE users SET balance = 12 WHERE id = 1")
        connection.execute("UPDATE users SET balance = 'much' WHERE name = 'bob'")
    connection.close()
    place = {"connector": "jdbc", "url": f"jdbc:sqlite:{sqlite_file}", "table-name": "users",
             "lookup.max-retries": "0", "lookup.on-failure": "reject"}  # fmt: skip
    async with running(app(place).replace("DECIMAL(10, 2)", "INT")) as it:
        await it.send((10, 1, 1), (11, 2, 1), (12, 7, 1))
        assert [(row[0], row[3]) for row in await it.rows(2)] == [(10, 12), (12, None)]
        [event] = await it.log.rejected(RejectedFilter(app="app"))
    assert (event.code, json.loads(event.raw)["id"]) == ("lookup_failed", 11)
    assert "does not fit the columns of 'users'" in event.detail


async def test_nobody_at_the_other_end_and_a_row_that_does_not_fit_are_failures_with_a_place(tmp_path, endpoint):
    nobody = {"connector": "http", "url": "http://127.0.0.1:1/users/{id}", "lookup.max-retries": "0"}
    missing = {"connector": "jdbc", "url": f"jdbc:sqlite:{tmp_path}/none.db", "table-name": "users",
               "lookup.max-retries": "0"}  # fmt: skip
    wrong = {"connector": "http", "url": endpoint.url, "lookup.max-retries": "0"}
    for options, said in ((nobody, "GET http://127.0.0.1:1/users/{id}"), (missing, "table users at sqlite"),
                          (wrong, "does not fit the columns of 'users'")):  # fmt: skip
        sql = app(options)
        async with running(sql.replace("since TIMESTAMP(3)", "since INT") if options is wrong else sql) as it:
            await it.send((10, 1, 1))
            for _ in range(1000):
                if it.runner.state is AppState.WAITING:
                    break
                await asyncio.sleep(0.01)
            assert said in it.runner.detail
    assert not (tmp_path / "none.db").exists()


def test_a_cache_forgets_by_time_and_by_number_and_keeps_what_is_missing_if_it_may():
    def cache(**more: str) -> LookupCache:
        options = {"url": "http://h/{id}", "lookup.cache": "PARTIAL", "lookup.partial-cache.max-rows": "2", **more}
        found = read_lookup_options("http", options)
        assert isinstance(found, LookupOptions)
        return LookupCache(found)

    by_write = cache(**{"lookup.partial-cache.expire-after-write": "10 s"})
    by_write.put((1,), (b"{}",), 0.0)
    assert by_write.get((1,), 9.0) == (b"{}",)
    assert by_write.get((1,), 10.0) is None
    by_use = cache(**{"lookup.partial-cache.expire-after-access": "10 s"})
    by_use.put((1,), (), 0.0)
    assert (by_use.get((1,), 9.0), by_use.get((1,), 18.0), by_use.get((1,), 28.0)) == ((), (), None)
    for n in (1, 2):
        by_use.put((n,), (), 30.0)
    by_use.get((1,), 31.0)
    by_use.put((3,), (), 32.0)
    assert [by_use.get((n,), 33.0) for n in (1, 2, 3)] == [(), None, ()]
    without = cache(**{"lookup.partial-cache.cache-missing-key": "false"})
    without.put((1,), (), 0.0)
    assert len(without) == 0


@pytest.mark.parametrize(
    ("code", "old", "new"),
    [
        ("bad_option", "/users/{id}", "/users/"),
        ("bad_option", "127.0.0.1", "{id}"),
        ("unknown_column", "/users/{id}", "/users/{key}"),
        ("unknown_option", "'lookup.max-retries'", "'lookup.retries'"),
        ("bad_option", "'lookup.max-retries' = '3'", "'lookup.cache' = 'PARTIAL'"),
        ("no_join_key", "u.id", "u.balance"),
        ("unsupported", "LEFT JOIN", "FULL JOIN"),
        ("no_processing_time", "AS OF o.proc_time", "AS OF o.amount"),
        ("not_a_stream", "FROM orders AS o", "FROM users AS o"),
        ("unsupported", "SELECT o.id", "SELECT o.proc_time"),
    ],
)
def test_a_lookup_join_that_cannot_be_is_refused_with_its_place(code, old, new):
    sql = app({"connector": "http", "url": "http://127.0.0.1:1/users/{id}", "lookup.max-retries": "3"})
    assert check_app("app", sql) == []
    assert old in sql
    with pytest.raises(SqlErrors) as refused:
        plan_app("app", sql.replace(old, new))
    assert code in [error.code for error in refused.value.errors]


def evaluated(folder: Path, sql: str, *events: dict[str, object], secrets: Path | None = None) -> list[dict]:
    """Rows of the result of `penstock eval`."""
    (folder / "app.sql").write_text(sql)
    (folder / "orders.ndjson").write_text("\n".join(map(json.dumps, events)))
    written = BytesIO()
    run_eval(folder / "app.sql", [f"orders={folder}/orders.ndjson"], ["o=-"], final=False, strict=True, stats=False,
             secrets=secrets, stdout=written, stderr=StringIO())  # fmt: skip
    return [json.loads(line) for line in written.getvalue().splitlines()]


def test_a_run_over_files_looks_rows_up_where_they_are(sqlite_file, tmp_path):
    sql = app({"connector": "jdbc", "url": f"jdbc:sqlite:{sqlite_file}", "table-name": "users"})
    found = evaluated(tmp_path, sql, *({"id": i, "user_id": u, "amount": 1} for i, u in ((10, 1), (11, 2), (12, 7))))
    assert [(row["id"], row["name"], row["balance"]) for row in found] == [
        (10, "ada", "12.50"), (11, "ben", None), (11, "bob", "0.01"), (12, None, None)]  # fmt: skip


def test_a_run_over_files_follows_lookups_that_go_by_what_others_found(sqlite_file, tmp_path):
    users = USERS.format(f"'connector' = 'jdbc', 'url' = 'jdbc:sqlite:{sqlite_file}', 'table-name' = 'users'")
    sql = f"""{ORDERS}{users}{users.replace("TABLE users", "TABLE again")}
CREATE TABLE o WITH ('connector' = 'penstock') AS SELECT o.id, v.name AS name FROM orders AS o
  JOIN users FOR SYSTEM_TIME AS OF o.proc_time AS u ON o.user_id = u.id
  JOIN again FOR SYSTEM_TIME AS OF o.proc_time AS v ON u.id = v.id;"""
    assert evaluated(tmp_path, sql, {"id": 10, "user_id": 1}) == [{"id": 10, "name": "ada"}]


def test_a_run_over_files_ends_where_a_place_does_not_answer_or_rejects(tmp_path):
    options = {"connector": "jdbc", "url": f"jdbc:sqlite:{tmp_path}/none.db", "table-name": "users",
               "lookup.max-retries": "0"}  # fmt: skip
    with pytest.raises(LookupFailed, match="lookup in 'users'"):
        evaluated(tmp_path, app(options), {"id": 10, "user_id": 1})
    assert evaluated(tmp_path, app({**options, "lookup.on-failure": "reject"}), {"id": 10, "user_id": 1}) == []
