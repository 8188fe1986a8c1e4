"""Whatever the checker lets through only reads: the database's files stay what they were, byte by byte."""

from __future__ import annotations

import datetime as dt
import hashlib
from pathlib import Path

from data_harness import DAILY, LOTS, Harness, inserted
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.dialects import sqlite
from sqlglot import exp

from penstock.errors import PenstockError, SqlErrors
from penstock.model.batch import Op
from penstock.model.stream import StreamSpec
from penstock_data.queries.refusals import refused
from penstock_data.queries.translate import Translated, translate
from penstock_data.settings import SqlSettings

ATTACKS = [
    "; DROP TABLE r_lots", "-- x", "/* x", "' OR 1 = 1", "load_extension('x')", "pg_sleep(9)", "sqlite_master",
    "INTO x", "RETURNING *", "`r_lots`", '"r_lots"', "PRAGMA query_only = 0", "WITH x AS (DELETE FROM lots)", ")",
    "lots", "UNION SELECT name FROM sqlite_master", "x FROM lots; DELETE FROM lots", "REPEAT('x', 99999999)",
]  # fmt: skip
VALUES = [
    "market", "bags", "tonnes", "price", "ts", "1", "2.5", "'x'", "NULL", "TRUE", "?", "bags + 1", "price * 2",
    "tonnes / bags", "market || 'x'", "UPPER(market)", "CAST(bags AS DOUBLE)", "CAST(price AS STRING)",
    "FLOOR(ts TO DAY)", "CASE WHEN bags > 1 THEN 'a' ELSE 'b' END", "(SELECT MAX(bags) FROM lots)", "COUNT(*)",
    "SUM(bags)", "AVG(price)", "ROW_NUMBER() OVER (ORDER BY bags)", "SUM(tonnes) OVER (PARTITION BY market)",
    "bags IN (1, 2)", "market LIKE '%a%'", "bags IN (SELECT `limit` FROM daily)", "COALESCE(bags, 0)",
    "bags IS NULL", "YEAR(ts)", "NOT organic", "state", "nope",
]  # fmt: skip
CLAUSES = [
    "", "", "WHERE bags > 1", "WHERE organic OR tonnes < 3", "JOIN daily ON bags = `limit`",
    "CROSS JOIN daily AS d", "LEFT JOIN daily AS d ON d.state = market", "GROUP BY market",
    "GROUP BY market HAVING COUNT(*) > 1", "ORDER BY 1", "ORDER BY bags DESC LIMIT 2", "LIMIT 1 OFFSET 1",
    "UNION ALL SELECT market AS a, 'x' AS b FROM lots", "EXCEPT SELECT 'a' AS a, 'x' AS b",
    "WHERE EXISTS (SELECT 1 AS x FROM daily)",
]  # fmt: skip
SHAPES = [
    "SELECT {0} AS a, {1} AS b FROM lots {2}",
    "SELECT DISTINCT {0} AS a, {1} AS b FROM lots {2}",
    "SELECT {0} AS a, COUNT(*) AS b FROM lots GROUP BY {0}",
    "WITH q AS (SELECT {0} AS a, {1} AS b FROM lots {2}) SELECT * FROM q",
    "SELECT l.market AS a, 1 AS b FROM lots AS l {2}",
    "SELECT a, b FROM (SELECT {0} AS a, {1} AS b FROM lots) AS t {2}",
    "SELECT market AS a, 1 AS b FROM lots WHERE {0} = {1}",
]


class Stored:
    """Implements `scope.Relations`."""

    def spec(self, name: str, at: exp.Expr) -> StreamSpec:
        found = {"lots": LOTS, "daily": DAILY}.get(name)
        if found is None:
            raise refused(at, "unknown_relation", "no", "no")
        return found


def fingerprint(folder: Path) -> dict[str, str]:
    # The index of the write-ahead log is memory that readers share, and no data.
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.iterdir())
        if path.is_file() and not path.name.endswith("-shm")
    }


async def test_whatever_is_let_through_leaves_the_database_as_it_was(harness: Harness, tmp_path: Path) -> None:
    """Over PostgreSQL, too, where it at least runs: every part is good SQL there as well."""
    await harness.deploy(LOTS, DAILY)
    rows = [(name, 1.0, None, i, None, None, None) for i, name in enumerate(("a", "b", "c"))]
    await harness.derive(LOTS, inserted(*rows))
    await harness.derive(DAILY, [("Goa", dt.datetime(2018, 1, 1), 2.0, 1, Op.INSERT, True)])
    await harness.catch_up(harness.role())
    before = fingerprint(tmp_path)
    ran: list[tuple[str, Translated]] = []
    refusals: list[PenstockError] = []

    def some(sensible: list[str]) -> st.SearchStrategy[str]:
        return st.one_of(*[st.sampled_from(sensible)] * 5, st.sampled_from(ATTACKS))

    @settings(max_examples=200, database=None, deadline=None, derandomize=True,
              suppress_health_check=[HealthCheck.function_scoped_fixture])  # fmt: skip
    @given(st.sampled_from(SHAPES), some(VALUES), some(VALUES), some(CLAUSES))
    def draw(shape: str, first: str, second: str, clause: str) -> None:
        sql = shape.format(first, second, clause)
        try:
            ran.append((sql, translate(sql, [1] * sql.count("?"), Stored(), limits=SqlSettings(), now_ms=0)))
        except PenstockError as error:
            refusals.append(error)

    draw()
    assert len(ran) > 25
    assert {error.code for error in refusals} <= {"sql_error", "bad_request", "too_large"}
    assert all(f.message and f.remedy for error in refusals if isinstance(error, SqlErrors) for f in error.errors)
    for sql, found in ran:
        text = str(found.select.compile(dialect=sqlite.dialect()))
        assert not any(word in text for word in ("DROP", "DELETE", "PRAGMA", "pg_sleep", "sqlite", "load_")), sql
        await harness.store.query(found.select, found.columns, row_limit=100, size_limit_bytes=10**6, timeout_s=5.0)
    assert fingerprint(tmp_path) == before
