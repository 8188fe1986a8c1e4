"""Identity of statements: equal for edits that change nothing of what a statement computes, different otherwise."""

from __future__ import annotations

from pathlib import Path

import pytest

from penstock_processor.logical.plan_app import plan_app

PRELUDE = (Path(__file__).parent / "sql" / "prelude.sql").read_text()
WINDOW = """CREATE TABLE per_day (symbol STRING, day_start TIMESTAMP(3), n BIGINT,
  PRIMARY KEY (symbol, day_start) NOT ENFORCED) WITH ('connector' = 'penstock', 'emit' = 'early');
INSERT INTO per_day SELECT symbol, window_start, COUNT(*)
FROM TABLE(TUMBLE(TABLE trades, DESCRIPTOR(ts), INTERVAL '1' DAY)) GROUP BY symbol, window_start, window_end;
"""


def identity(sql: str, name: str = "per_day") -> str:
    return {s.name: s.identity for s in plan_app("app", sql).statements}[name]


SAME = {
    "layout and comments": lambda t: t.replace("SELECT symbol", "-- daily\nSELECT\n   symbol"),
    "an alias": lambda t: t.replace("'1' DAY)) GROUP BY symbol", "'1' DAY)) AS w GROUP BY w.symbol"),
    "an interval in other units": lambda t: t.replace("INTERVAL '1' DAY", "INTERVAL '24' HOUR"),
    "another statement": lambda t: "CREATE TABLE x WITH ('connector' = 'penstock') AS SELECT note FROM trades;" + t,
    "a new column of the source": lambda t: t.replace("note STRING,", "note STRING, remark STRING,"),
    "a type that is not read": lambda t: t.replace("volume BIGINT", "volume INT"),
    "who may read it": lambda t: t.replace("'emit' = 'early'", "'emit' = 'early', 'scope' = 'all:read'"),
    "retention": lambda t: t.replace("'key' = 'symbol'", "'key' = 'symbol', 'retention' = '3 d'"),
    "a view in between": lambda t: t.replace("TABLE trades,", "TABLE v,") + "CREATE VIEW v AS SELECT * FROM trades;",
}
OTHER = {
    "a filter": lambda t: t.replace("GROUP BY symbol,", "WHERE price > 1 GROUP BY symbol,"),
    "the window": lambda t: t.replace("INTERVAL '1' DAY", "INTERVAL '2' DAY"),
    "the watermark": lambda t: t.replace("ts - INTERVAL '5' SECOND", "ts - INTERVAL '6' SECOND"),
    "the aggregate": lambda t: t.replace("COUNT(*)", "COUNT(note)"),
    "a type that is read": lambda t: t.replace("symbol STRING, price", "symbol INT, price").replace(
        "(symbol STRING, day", "(symbol INT, day"
    ),
    "the primary key": lambda t: t.replace("KEY (symbol, day_start)", "KEY (day_start, symbol)"),
    "when it is emitted": lambda t: t.replace(", 'emit' = 'early'", ""),
    "partitions of the source": lambda t: t.replace("'key' = 'symbol'", "'key' = 'symbol', 'partitions' = '2'"),
}


@pytest.mark.parametrize("edit", SAME)
def test_an_edit_that_changes_no_result_keeps_the_identity(edit: str) -> None:
    before = WINDOW + PRELUDE
    after = SAME[edit](before)
    assert after != before
    assert identity(after) == identity(before)


@pytest.mark.parametrize("edit", OTHER)
def test_an_edit_that_changes_results_changes_the_identity(edit: str) -> None:
    before = WINDOW + PRELUDE
    after = OTHER[edit](before)
    assert after != before
    assert identity(after) != identity(before)


def test_a_computed_column_counts_where_it_is_read() -> None:
    sql = PRELUDE + "CREATE TABLE o WITH ('connector' = 'penstock') AS SELECT symbol, at_time FROM quotes;"
    changed = sql.replace("TO_TIMESTAMP(stamp)", "TO_TIMESTAMP(UPPER(stamp))")
    assert identity(sql, "o") != identity(changed, "o")


def test_statements_that_exchange_places_exchange_names_but_not_identities() -> None:
    head = "CREATE TABLE o (s STRING) WITH ('connector' = 'penstock');"
    first, second = "INSERT INTO o SELECT symbol FROM trades;", "INSERT INTO o SELECT symbol FROM quotes;"
    one = {s.identity for s in plan_app("app", head + first + second + PRELUDE).statements}
    two = {s.identity for s in plan_app("app", head + second + first + PRELUDE).statements}
    assert one == two and len(one) == 2
