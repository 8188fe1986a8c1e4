"""`POST /v1/query`: what queries mean, the same over both databases; scalars are held against the engine of apps."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import polars as pl
import pytest
from data_harness import ARRIVALS, DAILY, JAN_1_MS, LOTS, Harness, inserted

from penstock.codecs.frames import polars_schema
from penstock.expressions.bind import bind_text
from penstock.expressions.compile import compile_expression
from penstock.model.batch import Op

DAY = dt.datetime(2018, 1, 1)
ROWS: list[tuple[Any, ...]] = [
    ("Bagepalli, ä", 1.5, Decimal("12.50"), 3, True, DAY.date(), DAY),
    ("Goa", 2.25, Decimal("-99.99"), 7, False, dt.date(1969, 12, 31), dt.datetime(1969, 12, 31, 23, 59, 59, 999000)),
    ("Onion_x", -0.5, Decimal("7"), 1, None, dt.date(2020, 2, 29), dt.datetime(2020, 2, 29, 12, 30, 15, 123000)),
    ("", 40.0, None, None, None, None, None),
]

#: Scalar expressions over LOTS that the store must compute as the engine of apps does, in every row.
EXPRESSIONS = """
price * 2 | price + 0.005 | price - bags | price / 3 | price / 7.5 | price % 5 | -price | ABS(-price)
ROUND(price, 1) | CAST(price AS DOUBLE) | CAST(price AS INT) | CAST(price AS STRING)
CAST(price AS DECIMAL(4, 1)) | CAST(bags AS DOUBLE) | CAST(bags AS STRING) | CAST(bags AS DECIMAL(10, 2))
CAST(tonnes AS DECIMAL(8, 3)) | CAST(tonnes AS INT) | CAST(tonnes AS BIGINT) | CAST(organic AS INT)
CAST(bags AS BOOLEAN) | CAST(ts AS DATE) | CAST(harvested AS TIMESTAMP(3)) | CAST(market AS VARCHAR(3)) | bags + 1
bags - 4 | bags * -3 | bags / 2 | -bags / 2 | bags % 2 | MOD(-bags, 4) | -bags | tonnes + bags | tonnes * tonnes
tonnes / 2 | -tonnes | ABS(tonnes) | ABS(-bags) | SIGN(tonnes) | SIGN(bags) | CEIL(tonnes) | FLOOR(tonnes)
CEIL(bags) | ROUND(tonnes, 1) | ROUND(bags) | EXP(tonnes) | POWER(tonnes, 2) | SQRT(ABS(tonnes)) | LN(ABS(tonnes))
LOG10(ABS(tonnes)) | price > 7 | price >= 7.0 | price = 7 | price <> 12.5 | bags < 3 | bags <= 3.5 | tonnes = 1.5
market < 'Goa' | organic = TRUE | price BETWEEN 0 AND 10 | bags NOT BETWEEN 2 AND 5 | bags IN (1, 2, 3)
bags NOT IN (1, NULL) | market IN ('Goa', '') | ts > '2018-01-01 00:00:00' | ts >= TIMESTAMP '2018-01-01 00:00:00'
harvested < DATE '2018-01-01' | harvested = '2020-02-29' | bags IS NULL | bags IS NOT NULL | organic IS TRUE
organic IS NOT TRUE | organic IS FALSE | organic IS UNKNOWN | bags IS DISTINCT FROM 3
bags IS NOT DISTINCT FROM NULL | NOT organic | organic AND bags > 1 | organic OR bags > 1 | NULL AND organic
NOT (bags = 3 OR market = 'Goa') | market LIKE 'B%' | market LIKE '%i%' | market LIKE 'G_a'
market LIKE '%!_x' ESCAPE '!' | market NOT LIKE '%a' | market LIKE '' | market || '!'
CONCAT(market, '-', market) | CHAR_LENGTH(market) | TRIM(market) | TRIM(BOTH 'a' FROM market)
TRIM(LEADING 'B' FROM market) | TRIM(TRAILING 'a' FROM market) | LTRIM(market) | RTRIM(market)
SUBSTRING(market, 2) | SUBSTRING(market FROM 2 FOR 3) | LEFT(market, 2) | RIGHT(market, 2) | LEFT(market, 0)
REPLACE(market, 'a', 'b') | REPLACE(market, 'Go', '') | POSITION('n' IN market) | LOCATE('a', market)
INSTR(market, 'x') | COALESCE(bags, -1) | COALESCE(price, 0) | IFNULL(bags, 0) | NULLIF(bags, 3)
IF(bags > 2, 'big', 'small') | GREATEST(bags, 2) | LEAST(bags, 2, 1) | GREATEST(price, 8) | GREATEST(tonnes, 2e0)
CASE market WHEN 'Goa' THEN 1 ELSE 2 END | CASE WHEN bags > 2 THEN price ELSE 0 END
CASE WHEN organic THEN 'y' END | YEAR(ts) | QUARTER(ts) | MONTH(ts) | DAYOFMONTH(ts) | DAYOFYEAR(ts)
DAYOFWEEK(ts) | HOUR(ts) | MINUTE(ts) | SECOND(ts) | EXTRACT(YEAR FROM harvested) | EXTRACT(DOW FROM harvested)
EXTRACT(ISODOW FROM ts) | EXTRACT(MILLISECOND FROM ts) | EXTRACT(EPOCH FROM ts) | EXTRACT(DOY FROM harvested)
EXTRACT(MONTH FROM harvested) | FLOOR(ts TO YEAR) | FLOOR(ts TO MONTH) | FLOOR(ts TO WEEK) | FLOOR(ts TO DAY)
FLOOR(ts TO HOUR) | FLOOR(ts TO SECOND) | FLOOR(harvested TO MONTH) | FLOOR(harvested TO WEEK)
FLOOR(harvested TO YEAR) | ts + INTERVAL '1' DAY | ts - INTERVAL '90' MINUTE | harvested + INTERVAL '2' DAY
TIMESTAMPADD(HOUR, bags, ts) | TIMESTAMPDIFF(HOUR, ts, TIMESTAMP '2018-01-03 00:00:00')
TIMESTAMPDIFF(DAY, harvested, DATE '2018-03-01') | TIMESTAMPDIFF(SECOND, ts, ts + INTERVAL '1' HOUR)
""".replace("\n", " | ")

#: (query, rows as lists of values), in order where the query has one.
QUERIES: list[tuple[str, list[list[Any]]]] = [
    (
        "SELECT COUNT(*) AS n, COUNT(bags) AS b, SUM(tonnes) AS t, AVG(bags) AS a, SUM(price) AS p, "
        "AVG(price) AS ap, MIN(price) AS mi, MAX(market) AS ma, MAX(ts) AS mt, COUNT(DISTINCT organic) AS o "
        "FROM lots",
        [[4, 3, 43.25, 3, "-80.49", "-26.830000", "-99.99", "Onion_x", "2020-02-29T12:30:15.123", 2]],
    ),
    (
        "SELECT market, COUNT(*) FILTER (WHERE bags > 1) AS n, SUM(DISTINCT bags) AS s FROM lots GROUP BY market "
        "ORDER BY market DESC",
        [["Onion_x", 0, 1], ["Goa", 1, 7], ["Bagepalli, ä", 1, 3], ["", 0, None]],
    ),
    (
        "SELECT bags > 2 AS many, SUM(tonnes) / COUNT(*) AS average FROM lots GROUP BY bags > 2 "
        "HAVING COUNT(*) > 1 AND MAX(tonnes) > 1",
        [[True, 1.875]],
    ),
    ("SELECT 'none' AS x, SUM(bags) AS s, COUNT(*) AS n FROM lots WHERE FALSE", [["none", None, 0]]),
    ("SELECT MAX(bags) - MIN(bags) AS spread FROM lots HAVING COUNT(*) = 0", []),
    (
        "SELECT FLOOR(ts TO YEAR) AS y, SUM(bags) AS b FROM lots GROUP BY FLOOR(ts TO YEAR) ORDER BY y DESC",
        [
            ["2020-01-01T00:00:00.000", 1],
            ["2018-01-01T00:00:00.000", 3],
            ["1969-01-01T00:00:00.000", 7],
            [None, None],
        ],
    ),
    (
        "SELECT market, ROW_NUMBER() OVER (ORDER BY tonnes DESC) AS rn, SUM(bags) OVER (ORDER BY market ROWS "
        "BETWEEN 1 PRECEDING AND CURRENT ROW) AS two, LAG(market) OVER (ORDER BY market) AS lg, LAG(bags, 1, 0) "
        "OVER w AS lb, SUM(price) OVER w AS sp FROM lots WINDOW w AS (ORDER BY market) ORDER BY market",
        [
            ["", 1, None, None, 0, None],
            ["Bagepalli, ä", 3, 3, "", None, "12.50"],
            ["Goa", 2, 10, "Bagepalli, ä", 3, "-87.49"],
            ["Onion_x", 4, 8, "Goa", 7, "-80.49"],
        ],
    ),
    (
        "SELECT organic, RANK() OVER (ORDER BY SUM(bags) DESC) AS r, SUM(SUM(bags)) OVER () AS total FROM lots "
        "GROUP BY organic ORDER BY r",
        [[False, 1, 11], [True, 2, 11], [None, 3, 11]],
    ),
    (
        "WITH known AS (SELECT market, bags FROM lots WHERE bags IS NOT NULL), most AS (SELECT MAX(bags) AS m FROM "
        "known) SELECT k.market, m.m FROM known AS k CROSS JOIN most AS m ORDER BY 1",
        [["Bagepalli, ä", 7], ["Goa", 7], ["Onion_x", 7]],
    ),
    (
        "SELECT l.market, d.tonnes, d.complete FROM lots AS l LEFT JOIN daily AS d ON l.bags = d.`limit` "
        "ORDER BY l.market",
        [["", None, None], ["Bagepalli, ä", 3.0, True], ["Goa", None, None], ["Onion_x", 2.0, False]],
    ),
    (
        "SELECT d.state, l.market FROM lots l RIGHT JOIN daily d ON l.bags = d.`limit` AND l.bags > 2 ORDER BY 1",
        [["Goa", None], ["Kerala", "Bagepalli, ä"]],
    ),
    ("SELECT * FROM (SELECT market FROM lots) a JOIN (SELECT market FROM lots) b USING (market) ORDER BY 1 LIMIT 2",
     [[""], ["Bagepalli, ä"]]),
    ("SELECT state FROM daily, lots WHERE `limit` = bags ORDER BY state", [["Goa"], ["Kerala"]]),
    ("SELECT market FROM lots WHERE bags IN (SELECT `limit` FROM daily) ORDER BY 1", [["Bagepalli, ä"], ["Onion_x"]]),
    ("SELECT market FROM lots WHERE market NOT IN (SELECT state FROM daily) AND NOT EXISTS (SELECT 1 AS x FROM daily "
     "WHERE tonnes > 3) ORDER BY market", [[""], ["Bagepalli, ä"], ["Onion_x"]]),
    ("SELECT hit, COUNT(*) AS n FROM (SELECT bags IN (SELECT `limit` FROM daily) AS hit FROM lots) AS t GROUP BY hit "
     "HAVING COUNT(*) IN (SELECT 2 AS two) ORDER BY n", [[True, 2]]),
    ("SELECT (SELECT MAX(tonnes) FROM daily) AS m, 1 AS i, 'x' AS t, NULL AS n, TRUE AS b, 1.5 AS d, "
     "DATE '2018-01-01' AS day_", [[3.0, 1, "x", None, True, "1.5", "2018-01-01"]]),
    ("SELECT market FROM lots UNION SELECT state FROM daily ORDER BY market DESC LIMIT 2", [["Onion_x"], ["Kerala"]]),
    ("SELECT bags FROM lots UNION ALL SELECT 3.5 AS x ORDER BY 1 DESC LIMIT 3", [["7.0"], ["3.5"], ["3.0"]]),
    ("(SELECT bags FROM lots ORDER BY bags DESC LIMIT 1) INTERSECT SELECT 7 AS x", [[7]]),
    ("SELECT bags FROM lots EXCEPT SELECT `limit` FROM daily ORDER BY bags", [[None], [7]]),
    ("SELECT bags FROM lots UNION ALL SELECT NULL AS x ORDER BY 1 LIMIT 3", [[None], [None], [1]]),
    ("SELECT x, x + 1 AS y, x IS NULL AS z FROM (SELECT NULL AS x) AS t", [[None, None, True]]),
    ("SELECT CAST('12.5' AS DECIMAL(10, 2)) AS d, CAST('7' AS INT) AS i, CAST('2018-01-02' AS DATE) AS t, "
     "TO_TIMESTAMP('04.03.2018', 'dd.MM.yyyy') AS s, TIMESTAMPADD(MONTH, 1, DATE '2018-01-31') AS m, "
     "CAST(300 AS TINYINT) AS n, 2147483647 + 1 AS w",
     [["12.50", 7, "2018-01-02", "2018-03-04T00:00:00.000", "2018-02-28", None, 2147483648]]),
    ("SELECT market FROM lots WHERE ts > LOCALTIMESTAMP - INTERVAL '1' HOUR", []),
    ("SELECT 5 AS x FROM lots HAVING TRUE", [[5]]),
    ("SELECT 1 AS x FROM lots GROUP BY market, bags HAVING market = 'Goa'", [[1]]),
    ("SELECT bags + 1 AS x, SUM(bags) + 1 AS y FROM lots GROUP BY bags + 1 ORDER BY x DESC LIMIT 1", [[8, 8]]),
    ("SELECT DISTINCT organic FROM lots ORDER BY organic", [[None], [False], [True]]),
    ("SELECT market FROM lots ORDER BY bags NULLS LAST LIMIT 2 OFFSET 1", [["Bagepalli, ä"], ["Goa"]]),
    ("SELECT market FROM lots ORDER BY bags DESC, tonnes LIMIT 1", [["Goa"]]),
    ("SELECT state, `limit`, complete FROM daily WHERE NOT complete", [["Goa", 1, False]]),
    ("SELECT bags / 0 AS a, bags % 0 AS b, price / 0 AS c, tonnes / 0 AS d, LN(-tonnes) AS e, SQRT(-1e0 * tonnes) AS "
     "f, CAST(1e300 * tonnes AS INT) AS g, CAST(price * 100000000 AS DECIMAL(9, 0)) AS h FROM lots WHERE bags = 3",
     [[None] * 8]),
]  # fmt: skip


async def started(harness: Harness, serve: Any) -> Any:
    """A client over four lots and an early table."""
    await harness.deploy(LOTS, DAILY, ARRIVALS)
    await harness.derive(LOTS, inserted(*ROWS), watermark_ms=JAN_1_MS)
    rows = [("Goa", DAY, 2.0, 1, Op.INSERT, True), ("Kerala", DAY, 3.0, 3, Op.INSERT, False)]
    await harness.derive(DAILY, rows)
    role = harness.role()
    await harness.catch_up(role)
    return await serve(role)


async def test_queries_mean_the_same_over_both_databases(harness: Harness, serve: Any) -> None:
    client = await started(harness, serve)
    for sql, expected in QUERIES:
        reply = await client.post("/v1/query", json={"sql": sql})
        answer = await reply.json()
        assert reply.status == 200, (sql, answer)
        names = [column["name"] for column in answer["columns"]]
        assert [list(row) for row in answer["rows"]] == [names] * len(expected), sql
        assert [list(row.values()) for row in answer["rows"]] == expected, sql
        assert answer["truncated"] is False


async def test_expressions_give_what_the_engine_of_apps_gives(harness: Harness, serve: Any) -> None:
    client = await started(harness, serve)
    texts = [text.strip() for text in EXPRESSIONS.split(" | ") if text.strip()]
    assert len(texts) == 150
    frame = pl.DataFrame(ROWS, schema=polars_schema(LOTS.columns), orient="row")
    apps = frame.select(
        compile_expression(bind_text(text, LOTS.columns)).value.alias(str(i)) for i, text in enumerate(texts)
    )
    shown = ", ".join(f"{text} AS x{i}" for i, text in enumerate(texts))
    reply = await client.post("/v1/query", json={"sql": f"SELECT market, {shown} FROM lots"})
    answer = await reply.json()
    assert reply.status == 200, answer
    order = {row[0]: i for i, row in enumerate(ROWS)}
    rows = sorted(answer["rows"], key=lambda row: order[row["market"]])
    others = [
        (text, row["market"], row[f"x{i}"], wanted)
        for i, text in enumerate(texts)
        for row, wanted in zip(rows, apps[str(i)].to_list(), strict=True)
        if not _same(row[f"x{i}"], wanted)
    ]
    assert others == []


def _same(found: Any, wanted: Any) -> bool:
    match wanted:
        case dt.datetime():
            return bool(found == wanted.isoformat(timespec="milliseconds"))
        case dt.date():
            return bool(found == wanted.isoformat())
        case Decimal():
            return Decimal(found) == wanted
        case float():
            return bool(found == pytest.approx(wanted, rel=1e-12))
    return bool(found == wanted and isinstance(found, bool) == isinstance(wanted, bool))


async def test_columns_have_the_types_of_apps(harness: Harness, serve: Any) -> None:
    client = await started(harness, serve)
    sql = (
        "SELECT market, tonnes, price, bags, organic, harvested, ts, price * bags AS d, bags + 1 AS i, COUNT(*) "
        "OVER () AS n, CURRENT_TIMESTAMP AS at_, CAST(bags AS INT) AS c, ts - INTERVAL '1' DAY AS t FROM lots"
    )
    answer = await (await client.post("/v1/query", json={"sql": sql})).json()
    assert {column["name"]: column["type"] for column in answer["columns"]} == {
        "market": "STRING", "tonnes": "DOUBLE", "price": "DECIMAL(10, 2)", "bags": "BIGINT", "organic": "BOOLEAN",
        "harvested": "DATE", "ts": "TIMESTAMP(3)", "d": "DECIMAL(30, 2)", "i": "BIGINT", "n": "BIGINT",
        "at_": "TIMESTAMP_LTZ(3)", "c": "INT", "t": "TIMESTAMP(3)",
    }  # fmt: skip
    rows = answer["rows"]
    stored = (await (await client.get("/v1/data/lots")).json())["rows"]
    plain = [{name: row[name] for name in stored[0]} for row in rows]
    assert sorted(plain, key=str) == sorted(stored, key=str)


async def test_parameters_stand_where_values_stand(harness: Harness, serve: Any) -> None:
    client = await started(harness, serve)

    async def rows(sql: str, params: Any) -> Any:
        answer = await (await client.post("/v1/query", json={"sql": sql, "params": params})).json()
        return [list(row.values()) for row in answer["rows"]] if "rows" in answer else answer["detail"]

    assert await rows("SELECT bags FROM lots WHERE market = ? AND price > ?", ["Goa", -100]) == [[7]]
    named = "SELECT bags FROM lots WHERE market = :m AND tonnes < :t OR market = :m"
    assert await rows(named, {"m": "Goa", "t": 9.5}) == [[7]]
    attack = "' OR 1=1; DROP TABLE r_lots; --"
    assert await rows("SELECT COUNT(*) AS n, ? AS text_ FROM lots WHERE market = ?", [attack, attack]) == [
        [0, attack]
    ]
    assert "line 1, column 42: IS takes NULL" in await rows("SELECT market FROM lots WHERE organic IS ?", [None])
    assert await rows("SELECT market FROM lots WHERE ts >= ? AND ? LIMIT ?", ["2020-01-01", True, 1]) == [["Onion_x"]]
    assert await rows("SELECT bags + ? AS x FROM lots GROUP BY bags + ? ORDER BY 1 DESC LIMIT 1", [1, 1]) == [[8]]
    assert await rows("SELECT market LIKE ? AS x FROM lots WHERE bags = 7", ["G%"]) == [[True]]
    assert "parameter 2" in await rows("SELECT ? AS a, ? AS b", [1])
    assert "1 parameters" in await rows("SELECT ? AS a", [1, 2])
    assert "':b'" in await rows("SELECT :b AS a", {"a": 1})
    assert "':c'" in await rows("SELECT :b AS a", {"b": 1, "c": 2})
    assert "params[0]" in await rows("SELECT ? AS a", [[1, 2]])


async def test_what_does_not_fit_bigint_is_refused_and_not_rounded(harness: Harness, serve: Any) -> None:
    client = await started(harness, serve)
    for sql in (
        "SELECT bags * 9223372036854775807 AS x FROM lots WHERE bags = 3",
        "SELECT SUM(bags + 9223372036854775800) AS x FROM lots",
        "SELECT 9223372036854775807 * 3 AS x",
    ):
        reply = await client.post("/v1/query", json={"sql": sql})
        assert (reply.status, (await reply.json())["code"]) == (422, "out_of_range"), sql


async def test_the_time_is_one_in_a_query(harness: Harness, serve: Any) -> None:
    client = await started(harness, serve)
    sql = (
        "SELECT COUNT(*) AS n FROM lots WHERE CURRENT_TIMESTAMP = NOW() AND ts < LOCALTIMESTAMP "
        "AND CURRENT_DATE > harvested"
    )
    answer = await (await client.post("/v1/query", json={"sql": sql})).json()
    assert answer["rows"] == [{"n": 3}]
