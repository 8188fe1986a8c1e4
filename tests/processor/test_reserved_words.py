"""Flink's reserved words are names only in backticks, wherever a name stands."""

from __future__ import annotations

import pytest

from penstock.expressions.reserved import RESERVED
from penstock_processor.logical.plan_app import check_app

WITH = "WITH ('connector' = 'penstock')"
SOURCE = f"""SET 'table.exec.state.ttl' = '1 d';
CREATE TABLE src (id STRING, n INT, items ARRAY<ROW<x INT, y INT>>, ts TIMESTAMP(3), WATERMARK FOR ts AS ts) {WITH};
CREATE TABLE named (`value` STRING, n INT, `timestamp` TIMESTAMP(3), WATERMARK FOR `timestamp` AS `timestamp`) {WITH};
"""
#: A place of a name -> a statement with `{}` there.
PLACES = {
    "table": f"CREATE TABLE {{}} (id STRING) {WITH};",
    "table of a query": f"CREATE TABLE {{}} {WITH} AS SELECT id FROM src;",
    "column": f"CREATE TABLE t ({{}} STRING) {WITH};",
    "computed column": f"CREATE TABLE t (id STRING, {{}} AS id) {WITH};",
    "field of a row": f"CREATE TABLE t (r ROW<{{}} INT>) {WITH};",
    "view": f"CREATE VIEW {{}} AS SELECT id FROM src; CREATE TABLE t {WITH} AS SELECT id FROM {{}};",
    "column of a view": f"CREATE VIEW v ({{}}) AS SELECT id FROM src; CREATE TABLE t {WITH} AS SELECT {{}} FROM v;",
    "query of WITH": f"CREATE TABLE t {WITH} AS WITH {{}} AS (SELECT id FROM src) SELECT id FROM {{}};",
    "name of a value": f"CREATE TABLE t {WITH} AS SELECT id AS {{}} FROM src;",
    "name of a table": f"CREATE TABLE t {WITH} AS SELECT {{}}.id FROM src AS {{}};",
    "name of an element": f"CREATE TABLE t {WITH} AS SELECT s.id, u.x FROM src AS s CROSS JOIN UNNEST(s.items) "
    "AS u(x, {});",
    "measure": f"CREATE TABLE t {WITH} AS SELECT * FROM src MATCH_RECOGNIZE (PARTITION BY id ORDER BY ts MEASURES "
    "A.n AS {} PATTERN (A B) WITHIN INTERVAL '1' HOUR DEFINE B AS B.n > 1);",
    "window": f"CREATE TABLE t {WITH} AS SELECT id, SUM(n) OVER {{}} AS s FROM src WINDOW {{}} AS (PARTITION BY id "
    "ORDER BY ts);",
}


@pytest.mark.parametrize("place", PLACES)
def test_a_reserved_word_is_no_name_unless_in_backticks(place: str) -> None:
    found = check_app("app", SOURCE + PLACES[place].replace("{}", "user"))
    assert found[0].code == "reserved_word"
    assert found[0].remedy == "Write `user` in backticks."
    assert check_app("app", SOURCE + PLACES[place].replace("{}", "`user`")) == []


@pytest.mark.parametrize(
    "statement",
    [
        f"CREATE TABLE t (`value` STRING, PRIMARY KEY (value) NOT ENFORCED, ts TIMESTAMP(3), WATERMARK FOR ts AS ts) "
        f"{WITH};",
        f"CREATE TABLE t (`timestamp` TIMESTAMP(3), WATERMARK FOR timestamp AS `timestamp`) {WITH};",
        f"CREATE TABLE t (`value` STRING) {WITH}; INSERT INTO t (value) SELECT id FROM src;",
        f"CREATE TABLE t {WITH} AS SELECT a.n FROM named AS a JOIN named AS b USING (value);",
        f"CREATE TABLE t {WITH} AS SELECT `value`, window_start FROM TABLE(TUMBLE(TABLE named, "
        "DESCRIPTOR(timestamp), INTERVAL '1' HOUR));",
        f"CREATE TABLE t {WITH} AS SELECT value AS v FROM named;",
        f"CREATE TABLE t {WITH} AS SELECT named.value AS v FROM named;",
    ],
)
def test_a_name_that_is_there_is_asked_for_in_backticks_too(statement: str) -> None:
    assert [error.code for error in check_app("app", SOURCE + statement)] == ["reserved_word"]


def test_every_reserved_word_is_refused_as_a_column_and_taken_in_backticks() -> None:
    for word in sorted(RESERVED):
        statement = f"CREATE TABLE t ({{}} STRING) {WITH};"
        assert check_app("app", statement.replace("{}", word.lower())), word
        assert check_app("app", statement.replace("{}", f"`{word.lower()}`")) == [], word


@pytest.mark.parametrize("word", ["status", "type", "key", "name", "data", "source", "window_start", "ts"])
def test_words_that_flink_does_not_reserve_are_names(word: str) -> None:
    assert check_app("app", f"CREATE TABLE t ({word} TIMESTAMP(3), WATERMARK FOR {word} AS {word}) {WITH};") == []
