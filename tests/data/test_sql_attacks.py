"""What a query may not say: it is refused with its place and a remedy before the store sees anything of it; and what
gets past would be refused by the database itself.
"""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest
import sqlalchemy as sa
from data_harness import DAILY, LOTS, Harness, inserted
from sqlalchemy.dialects import postgresql, sqlite
from sqlglot import exp

from penstock.errors import PenstockError, SqlErrors
from penstock.http.listener import HttpSettings, Listener
from penstock.model.stream import Column, StreamSpec
from penstock.model.types import STRING
from penstock_data.metrics import SQL_LEFT
from penstock_data.queries.refusals import refused
from penstock_data.queries.translate import translate
from penstock_data.service import DataRole
from penstock_data.settings import SqlSettings

LIMITS = SqlSettings()
ROWS = [(name, float(i), None, i, None, None, None) for i, name in enumerate(("a", "b", "c", "d"))]

REFUSED = r"""
DROP TABLE lots
DELETE FROM lots
UPDATE lots SET bags = 1
INSERT INTO lots SELECT * FROM lots
INSERT INTO lots VALUES (1)
MERGE INTO lots USING daily ON 1 = 1 WHEN MATCHED THEN DELETE
TRUNCATE TABLE lots
CREATE TABLE x AS SELECT 1 AS a
CREATE VIEW x AS SELECT 1 AS a
CREATE TEMPORARY TABLE x (a INT)
ALTER TABLE lots RENAME TO x
CREATE FUNCTION f AS 'x'
SET 'a' = 'b'
SET ROLE postgres
PRAGMA query_only = 0
PRAGMA table_info(r_lots)
ATTACH DATABASE '/tmp/x.db' AS x
DETACH DATABASE main
VACUUM INTO '/tmp/x.db'
REINDEX
ANALYZE
BEGIN
COMMIT
ROLLBACK; DROP TABLE lots
COPY lots TO '/tmp/x'
COPY (SELECT 1) TO PROGRAM 'id'
EXPLAIN SELECT 1 AS a
DO $$ BEGIN END $$
CALL f()
GRANT ALL ON lots TO public
LISTEN x
LOCK TABLE lots
DECLARE c CURSOR FOR SELECT 1
EXECUTE STATEMENT SET BEGIN SELECT 1; END
VALUES (1)
TABLE lots
FROM lots SELECT *
SELECT 1 AS a; SELECT 2 AS b
SELECT 1 AS a; DROP TABLE lots
SELECT 1 AS a;; DROP TABLE lots; --
SELECT 1 AS a /* ; */ ; DELETE FROM lots
SELECT 1 AS a -- x
SELECT 1 AS a /*! ; DROP TABLE lots */ FROM nothing
SELECT 1 AS a /* never closed
SELECT 'never closed
SELECT `never closed
SELECT 'a'';DROP TABLE lots'; DROP TABLE lots
SELECT "market" FROM lots
SELECT [market] FROM lots
SELECT market FROM "lots"
SELECT market FROM `lots`; DROP TABLE `lots`
SELECT market FROM `r_lots`
SELECT market FROM r_lots
SELECT market FROM `lots" UNION SELECT name FROM sqlite_master --`
SELECT `market" FROM r_lots --` FROM lots
SELECT market AS `x" FROM r_lots; --`, market AS `x" FROM r_lots; --` FROM lots
WITH x AS (DELETE FROM lots RETURNING *) SELECT * FROM x
WITH x AS (INSERT INTO lots SELECT * FROM lots) SELECT 1 AS a
WITH x AS (UPDATE lots SET bags = 1) SELECT * FROM x
WITH RECURSIVE x AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM x) SELECT * FROM x
WITH x AS (SELECT 1 AS n UNION ALL SELECT n + 1 AS n FROM x) SELECT * FROM x
WITH x(n) AS (SELECT 1) SELECT n FROM x
WITH x AS (SELECT 1 AS n), x AS (SELECT 2 AS n) SELECT n FROM x
SELECT CAST('abc' AS INT) AS x
SELECT * FROM (DELETE FROM lots) AS x
SELECT * FROM (SELECT 1 AS a; DROP TABLE lots) AS x
SELECT market INTO other FROM lots
SELECT market FROM lots FOR UPDATE
SELECT * FROM sqlite_master
SELECT * FROM sqlite_schema
SELECT * FROM main.sqlite_master
SELECT * FROM temp.lots
SELECT * FROM pg_catalog.pg_authid
SELECT * FROM pg_shadow
SELECT * FROM information_schema.tables
SELECT * FROM penstock_store.r_lots
SELECT * FROM penstock_auth.client
SELECT * FROM penstock_relation
SELECT * FROM alembic_version
SELECT * FROM a.b.c
SELECT * FROM raw.arrivals
SELECT * FROM arrivals
SELECT _offset FROM lots
SELECT _pending FROM daily
SELECT rowid FROM lots
SELECT oid, ctid, xmin FROM lots
SELECT lots FROM lots
SELECT load_extension('x') AS a
SELECT LOAD_EXTENSION(market) AS a FROM lots
SELECT readfile('/etc/passwd') AS a
SELECT writefile('/tmp/x', market) AS a FROM lots
SELECT edit(market) AS a FROM lots
SELECT fts3_tokenizer('x') AS a
SELECT randomblob(1000000000) AS a
SELECT zeroblob(1000000000) AS a
SELECT sqlite_version() AS a
SELECT pg_sleep(100) AS a
SELECT pg_sleep(tonnes) AS a FROM lots
SELECT pg_read_file('/etc/passwd') AS a
SELECT pg_ls_dir('.') AS a
SELECT lo_import('/etc/passwd') AS a
SELECT lo_export(1, '/tmp/x') AS a
SELECT * FROM dblink('host=x', 'select 1') AS t(a INT)
SELECT dblink_exec('x') AS a
SELECT set_config('transaction_read_only', 'off', FALSE) AS a
SELECT current_setting('data_directory') AS a
SELECT pg_terminate_backend(1) AS a
SELECT pg_advisory_lock(1) AS a
SELECT nextval('x') AS a
SELECT query_to_xml('select 1', TRUE, TRUE, '') AS a
SELECT version() AS a
SELECT current_user AS a
SELECT pg_catalog.pg_sleep(1) AS a
SELECT system.run('id') AS a
SELECT `pg_sleep`(100) AS a
SELECT PG_SLEEP (1) AS a
SELECT * FROM generate_series(1, 1000000000) AS t
SELECT * FROM json_each('[1]')
SELECT * FROM pragma_table_info('r_lots')
SELECT * FROM TABLE(TUMBLE(TABLE lots, DESCRIPTOR(ts), INTERVAL '1' DAY))
SELECT * FROM UNNEST(ARRAY[1, 2]) AS t(a)
SELECT * FROM lots, LATERAL TABLE(f(market)) AS t(a)
SELECT * FROM lots TABLESAMPLE (10)
SELECT * FROM lots FOR SYSTEM_TIME AS OF ts
SELECT * FROM lots MATCH_RECOGNIZE (PATTERN (A) DEFINE A AS bags > 1)
SELECT * FROM ?
SELECT ? FROM lots
SELECT :name AS a
SELECT market FROM lots ORDER BY ?
SELECT market FROM lots LIMIT (SELECT 1 AS a)
SELECT market FROM lots LIMIT -1
SELECT market FROM lots OFFSET 99999999999
SELECT market FROM lots ORDER BY 2
SELECT market FROM lots GROUP BY 1
SELECT market, COUNT(*) AS n FROM lots
SELECT bags FROM lots GROUP BY market
SELECT * FROM lots GROUP BY market
SELECT market FROM lots WHERE COUNT(*) > 1
SELECT market FROM lots WHERE ROW_NUMBER() OVER (ORDER BY bags) = 1
SELECT market FROM lots WHERE bags
SELECT market FROM lots WHERE market = 1
SELECT market FROM lots WHERE EXISTS (SELECT 1 AS x FROM daily WHERE state = market)
SELECT (SELECT state FROM daily) AS s
SELECT market FROM lots WHERE (bags, tonnes) IN (SELECT 1 AS a, 2 AS b)
SELECT market FROM lots WHERE bags = ANY (SELECT 1 AS a)
SELECT market FROM lots NATURAL JOIN daily
SELECT lots.market FROM lots FULL OUTER JOIN daily ON TRUE
SELECT market FROM lots LEFT JOIN daily
SELECT lots.market FROM lots JOIN lots ON TRUE
SELECT market FROM (lots JOIN daily ON TRUE)
SELECT market::TEXT AS a FROM lots
SELECT market FROM lots WHERE market ~ 'x'
SELECT market FROM lots WHERE market REGEXP 'x'
SELECT REGEXP_REPLACE(market, 'a', 'b') AS a FROM lots
SELECT REPEAT(market, 1000000000) AS a FROM lots
SELECT LPAD(market, 1000000000, 'x') AS a FROM lots
SELECT REPLACE(market, 'a', 'aaaaaaaaaaaaaaaa') AS a FROM lots
SELECT REPEAT('x', 2000000000) AS a
SELECT TRIM(BOTH market FROM market) AS a FROM lots
SELECT RTRIM(market, market) AS a FROM lots
SELECT POSITION(market IN market) AS a FROM lots
SELECT INSTR(market, market || 'x') AS a FROM lots
SELECT market FROM lots WHERE market LIKE '%a%a%a%a%a%a%a%a%a%'
SELECT market FROM lots WHERE market LIKE tonnes
SELECT market COLLATE nocase AS a FROM lots
SELECT market FROM lots WHERE market MATCH 'x'
SELECT market -> 'a' AS x FROM lots
SELECT market FROM lots WHERE 1 = 1 == 1
SELECT market FROM lots WHERE bags != 1
SELECT market FROM lots QUALIFY ROW_NUMBER() OVER (ORDER BY bags) = 1
SELECT DISTINCT ON (market) market FROM lots
SELECT * EXCEPT (market) FROM lots
SELECT market, market FROM lots
SELECT market FROM lots UNION SELECT market, bags FROM lots
SELECT market FROM lots UNION SELECT bags FROM lots
SELECT market FROM lots INTERSECT ALL SELECT market FROM lots
SELECT ＊ FROM lots
SELECT market FROM lots WHERE market = ‘x’
SELECT market FROM lots WHERE bags ＝ 1
SELECT market　FROM lots
SELECT market FROM Lots
SELECT MARKET FROM lots
SELECT CAST(market AS REGCLASS) AS a FROM lots
SELECT CAST(market AS INT) AS a FROM lots
SELECT CAST(tonnes AS STRING) AS a FROM lots
SELECT X'00' || market AS a FROM lots
SELECT @@version AS a
SELECT $1 AS a
SELECT %s AS a
SELECT {fn now()} AS a
SELECT \ AS a
""".strip().splitlines()


class Stored:
    """Implements `scope.Relations`: lots and daily."""

    def spec(self, name: str, at: exp.Expr) -> StreamSpec:
        found = {"lots": LOTS, "daily": DAILY}.get(name)
        if found is None:
            raise refused(at, "unknown_relation", f"There is no relation '{name}'.", "GET /v1/data lists them.")
        return found


def made(sql: str, params: Any = ()) -> str:
    """The SQL that a query becomes in PostgreSQL."""
    found = translate(sql, params, Stored(), limits=LIMITS, now_ms=0)
    return str(found.select.compile(dialect=postgresql.dialect()))


@pytest.mark.parametrize("place", range(len(REFUSED)))
def test_a_statement_that_is_no_query_is_refused_with_its_place(place: int) -> None:
    sql = REFUSED[place]
    if sql.endswith("-- x"):
        sql = f"{sql}\n; DROP TABLE lots"
    with pytest.raises(SqlErrors) as caught:
        made(sql)
    for finding in caught.value.errors:
        assert 1 <= finding.line <= 2
        assert finding.column >= 1
        assert finding.message
        assert finding.remedy


def test_there_are_enough_attacks() -> None:
    assert len(set(REFUSED)) == len(REFUSED) >= 180


@pytest.mark.parametrize(
    "text", ["'); DROP TABLE lots; --", '" OR 1=1 --', "\\'; SELECT 1; --", "%s %(a)s :a ?", "\0"]
)
def test_no_character_of_a_value_or_a_name_gets_into_the_statement(text: str) -> None:
    inside = text.replace("'", "''")
    for sql, params in (
        (f"SELECT market AS x FROM lots WHERE market = '{inside}'", ()),
        ("SELECT market AS x FROM lots WHERE market = ?", (text,)),
        (f"SELECT market AS `{text}` FROM lots AS `{text}`", ()),
        (f"SELECT `{text}`.market AS x FROM lots AS `{text}`", ()),
        (f"SELECT market AS x FROM lots WHERE market LIKE '{inside.replace('%', '')}'", ()),
    ):
        assert text not in made(sql, params)
        assert "DROP" not in made(sql, params)


def test_texts_do_not_double_from_step_to_step() -> None:
    """Whatever carries them on: queries in FROM and WITH, groups, windows, values, set operations."""
    for carried in ("x || x", "MAX(x || x)", "LAG(x || x) OVER (ORDER BY x)", "COALESCE(x || x, '')",
                    "CASE WHEN x = '' THEN '' ELSE x || x END", "MAX(x || x) OVER ()"):  # fmt: skip
        sql = "SELECT market AS x FROM lots"
        for n in range(6):
            sql = f"SELECT {carried} AS x FROM ({sql}) AS t{n}"
        made(sql)
        with pytest.raises(SqlErrors) as caught:
            made(f"SELECT {carried} AS x FROM ({sql}) AS t")
        assert caught.value.errors[0].code == "too_large"
    steps = ", ".join(f"a{n + 1} AS (SELECT x || x AS x FROM a{n} UNION SELECT 'y' AS x)" for n in range(7))
    for last in ("SELECT x FROM a7", "SELECT (SELECT MAX(x) FROM a7) AS x"):
        with pytest.raises(SqlErrors) as caught:
            made(f"WITH a0 AS (SELECT market AS x FROM lots), {steps} {last}")
        assert caught.value.errors[0].code == "too_large"


def test_conditions_stay_such_that_an_index_answers_them() -> None:
    found = translate(
        "SELECT l.market FROM lots AS l JOIN daily AS d ON l.bags = d.`limit` WHERE l.ts >= ? AND NOT l.bags IS NULL",
        ["2018-01-01"], Stored(), limits=LIMITS, now_ms=0,
    )  # fmt: skip
    text = str(found.select.compile(dialect=sqlite.dialect()))
    assert '(t1."ts") >= (?)' in text
    assert "= 1" not in text


def test_a_query_that_is_too_large_written_out_is_refused() -> None:
    """Functions that stand several times in the SQL of the store do not make it grow without end."""
    nested = "tonnes"
    for _ in range(20):
        nested = f"SQRT({nested} % 3e0)"
    with pytest.raises(PenstockError) as caught:
        made(f"SELECT {nested} AS x FROM lots")
    assert caught.value.code == "too_large"


@pytest.mark.parametrize(
    ("sql", "code"),
    [
        ("SELECT " + "(" * 40 + "1" + ")" * 40 + " AS a", "too_deep"),
        ("SELECT 1 AS a WHERE " + " AND ".join(["1 = 1"] * 200), "too_deep"),
        (" UNION ALL ".join(["SELECT 1 AS a"] * 200), "too_deep"),
        ("SELECT 1 AS a FROM " + ", ".join(f"lots AS t{i}" for i in range(20)), "too_large"),
        ("WITH " + ", ".join(f"a{i} AS (SELECT 1 AS a)" for i in range(20)) + " SELECT 1 AS a", "too_large"),
        ("SELECT " + ", ".join(f"1 AS a{i}" for i in range(300)), "too_large"),
        ("SELECT 1 AS a WHERE 1 IN (" + ", ".join(["1"] * 2000) + ")", "too_deep"),
        ("SELECT 1 AS a " + " " * 20_000, "text_too_long"),
    ],
    ids=["parentheses", "and", "union", "inputs", "with", "columns", "in", "characters"],
)  # fmt: skip
def test_a_query_beyond_a_limit_is_refused(sql: str, code: str) -> None:
    with pytest.raises(SqlErrors) as caught:
        made(sql)
    assert caught.value.errors[0].code == code


@pytest.mark.parametrize(
    ("call", "most"),
    [("TRIM(BOTH ? FROM market)", 32), ("RTRIM(market, ?)", 32), ("POSITION(? IN market)", 256),
     ("LOCATE(?, market)", 256), ("INSTR(market, ?)", 256), ("REPLACE(market, ?, '')", 256), ("market LIKE ?", 256)],
)  # fmt: skip
def test_what_is_looked_for_in_a_text_is_short_as_one_call_cannot_be_ended(call: str, most: int) -> None:
    made(f"SELECT {call} AS a FROM lots", ["x" * most])
    with pytest.raises(SqlErrors) as caught:
        made(f"SELECT {call} AS a FROM lots", ["x" * (most + 1)])
    assert caught.value.errors[0].code == "too_large"


async def started(harness: Harness, serve: Any, **limits: Any) -> Any:
    await harness.deploy(LOTS, DAILY)
    await harness.derive(LOTS, inserted(*ROWS))
    role = harness.role(SqlSettings(**limits))
    await harness.catch_up(role)
    return await serve(role)


async def test_the_time_limit_ends_what_would_never_end(harness: Harness, serve: Any) -> None:
    client = await started(harness, serve, time_s=0.2)
    many = ", ".join(f"lots AS t{i}" for i in range(15))
    for sql in (
        f"SELECT COUNT(*) AS n FROM {many}",
        f"SELECT t0.market FROM {many} ORDER BY t1.tonnes + t2.tonnes * t3.tonnes",
    ):
        reply = await client.post("/v1/query", json={"sql": sql})
        assert (reply.status, (await reply.json())["code"]) == (503, "query_timeout"), sql
    reply = await client.post("/v1/query", json={"sql": "SELECT COUNT(*) AS n FROM lots"})
    assert (await reply.json())["rows"] == [{"n": 4}]


async def test_a_caller_who_goes_away_takes_the_query_along(harness: Harness) -> None:
    listener = Listener(HttpSettings(port=0))  # as in production: handlers are not told that a caller has gone

    async def serve(role: DataRole) -> aiohttp.ClientSession:
        await listener.serve(list(role.routes()))
        return aiohttp.ClientSession(listener.url)

    client = await started(harness, serve, running_max=1, waiting_max=0, watch_s=0.02, time_s=60)
    many = ", ".join(f"lots AS t{i}" for i in range(15))
    before = SQL_LEFT._value.get()
    long = {"sql": f"SELECT COUNT(*) AS n FROM {many}"}
    asked = asyncio.ensure_future(client.post("/v1/query", json=long))
    for _ in range(500):  # until it runs: then there is no turn for another one
        if asked.done():  # the other one was faster
            asked = asyncio.ensure_future(client.post("/v1/query", json=long))
        reply = await client.post("/v1/query", json={"sql": "SELECT 1 AS a"})
        if reply.status == 429:
            break
        await asyncio.sleep(0.01)
    assert reply.headers["Retry-After"] == "1"
    asked.cancel()
    for _ in range(500):
        reply = await client.post("/v1/query", json={"sql": "SELECT 1 AS a"})
        if reply.status == 200:
            break
        await asyncio.sleep(0.01)
    assert reply.status == 200
    assert SQL_LEFT._value.get() == before + 1
    await client.close()
    await listener.close()


#: Column expressions that the whitelist would never make, one connection away from the rows.
_BEHIND_THE_WALL = {
    "sqlite": [
        "load_extension('x')", "sqlite_version()", "randomblob(10)", "zeroblob(10)", "sqlite_compileoption_get(1)",
        "(SELECT name FROM sqlite_master)", "(SELECT next FROM penstock_applied)",
        "(SELECT spec FROM penstock_relation)",
        "(SELECT name FROM pragma_table_info('r_lots'))", "(SELECT value FROM json_each('[1]'))",
        "(WITH RECURSIVE x AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM x) SELECT n FROM x)",
        "(SELECT market FROM lots)", "printf('%d', 1)", "group_concat('x')", "datetime('now')",
    ],
    "postgres": ["pg_read_file('/etc/passwd')", "(SELECT rolpassword FROM pg_authid LIMIT 1)",
                 "pg_ls_dir('.')", "lo_import('/etc/passwd')"],
}  # fmt: skip


async def test_the_database_refuses_what_the_whitelist_would_never_make(harness: Harness, serve: Any) -> None:
    await started(harness, serve)
    kind = "sqlite" if harness.url.startswith("sqlite") else "postgres"
    for text in _BEHIND_THE_WALL[kind]:
        statement = sa.select(sa.literal_column(text).label("c0"))
        with pytest.raises(PenstockError) as caught:
            await harness.store.query(
                statement, [Column("a", STRING)], row_limit=1, size_limit_bytes=100, timeout_s=0.5
            )
        assert caught.value.code == "store_unavailable", text
