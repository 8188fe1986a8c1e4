"""Wrong apps: each file says in its first line where the findings are and what they are called."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from penstock.errors import SqlErrors
from penstock_processor.logical.plan_app import check_app, plan_app
from penstock_processor.sql.limits import SqlLimits

HERE = Path(__file__).parent / "sql"
PRELUDE = (HERE / "prelude.sql").read_text()
WRONG = sorted((HERE / "errors").glob("*.sql"))
OPTIONS = "WITH ('connector' = 'penstock')"


def text_of(path: Path) -> str:
    text = path.read_text()
    return text if "-- alone" in text else text + PRELUDE


def expected_of(path: Path) -> list[tuple[int, int, str]]:
    header = path.read_text().splitlines()[0].removeprefix("-- expect: ")
    found = [re.fullmatch(r"(\d+):(\d+) (\w+)", part.strip()) for part in header.split("|")]
    return [(int(m[1]), int(m[2]), m[3]) for m in found if m is not None]


@pytest.mark.parametrize("path", WRONG, ids=lambda p: p.stem)
def test_a_wrong_app_is_refused_at_the_place_with_code_and_remedy(path: Path) -> None:
    expected = expected_of(path)
    assert expected, "the first line of the file says what to expect"
    found = check_app("app", text_of(path))
    assert [(e.line, e.column, e.code) for e in found] == expected
    for error in found:
        assert error.message.endswith(".") and len(error.message) > 10
        assert error.remedy and error.remedy != error.message


def test_enough_wrong_apps_are_covered() -> None:
    assert len(WRONG) >= 45


def test_all_findings_are_told_at_once_in_text_order() -> None:
    text = (HERE / "errors" / "two_statements_wrong.sql").read_text() + PRELUDE
    with pytest.raises(SqlErrors) as refused:
        plan_app("app", text)
    assert [(e.line, e.code) for e in refused.value.errors] == [(2, "unknown_column"), (3, "unknown_table")]
    assert refused.value.detail.startswith("line 2, column 58: There is no column 'nope'. Did you mean 'note'?")


def test_who_takes_a_sources_key_for_unique_is_told_how_to_read_its_last_rows() -> None:
    head = f"""SET 'table.exec.state.ttl' = '1 d';
CREATE TABLE a (k STRING, x INT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts, PRIMARY KEY (k) NOT ENFORCED) {OPTIONS};
CREATE TABLE b (k STRING, y INT) {OPTIONS};
CREATE TABLE o (k STRING, x INT, y INT, PRIMARY KEY (k) NOT ENFORCED) {OPTIONS};
INSERT INTO o SELECT a.k, a.x, g.y FROM """
    joined = " LEFT JOIN (SELECT k, SUM(y) AS y FROM b GROUP BY k) AS g ON a.k = g.k;"
    [error] = check_app("app", f"{head} a {joined}")
    assert (error.line, error.code) == (5, "update_key")
    assert (
        form := "(SELECT *, ROW_NUMBER() OVER (PARTITION BY k ORDER BY ts DESC) AS n FROM t) WHERE n = 1"
    ) in error.remedy
    assert check_app("app", f"{head} (SELECT * FROM {form.replace('FROM t', 'FROM a')}) AS a {joined}") == []


def test_what_reads_a_wrong_table_adds_no_findings_of_its_own() -> None:
    text = f"""CREATE TABLE a (x INTEGERS) {OPTIONS};
CREATE VIEW v AS SELECT x FROM a;
CREATE TABLE b {OPTIONS} AS SELECT x FROM v WHERE x > 1;
INSERT INTO b SELECT x FROM a;"""
    assert [(e.line, e.code) for e in check_app("app", text)] == [(1, "unsupported_type")]


def test_an_unused_view_is_checked_too() -> None:
    assert [e.code for e in check_app("app", "CREATE VIEW v AS SELECT nothing FROM trades;" + PRELUDE)] == [
        "unknown_column"
    ]


def test_an_empty_app_says_what_to_write() -> None:
    for text in ("", "  \n-- nothing\n", ";;"):
        (error,) = check_app("app", text)
        assert error.code == "empty" and "CREATE TABLE" in error.remedy


def test_views_that_double_each_other_are_refused_before_they_fill_memory() -> None:
    text = "CREATE VIEW v0 AS SELECT symbol FROM trades;" + "".join(
        f"CREATE VIEW v{i} AS SELECT symbol FROM v{i - 1} UNION ALL SELECT symbol FROM v{i - 1};"
        for i in range(1, 40)
    )
    found = check_app("app", text + PRELUDE)
    assert [e.code for e in found] == ["too_large"]


def test_a_long_chain_of_views_is_refused_and_a_long_chain_of_tables_is_not() -> None:
    views = "".join(f"CREATE VIEW v{i} AS SELECT * FROM v{i + 1} WHERE symbol > '{i}';" for i in range(300))
    assert {e.code for e in check_app("app", views + "CREATE VIEW v300 AS SELECT symbol FROM trades;" + PRELUDE)} == {
        "too_large"
    }
    tables = "CREATE VIEW t0 AS SELECT symbol FROM trades;" + "".join(
        f"CREATE TABLE t{i + 1} {OPTIONS} AS SELECT * FROM t{i};" for i in range(300)
    )
    assert check_app("app", tables + PRELUDE) == []


def test_a_union_of_very_many_inputs_is_refused() -> None:
    text = (
        f"CREATE TABLE o {OPTIONS} AS SELECT symbol FROM trades"
        + " UNION ALL SELECT symbol FROM trades" * 2_500
        + ";"
    )
    assert [e.code for e in check_app("app", text + PRELUDE)] == ["too_deep"]


def test_too_many_statements_are_refused() -> None:
    found = check_app("app", "SET 'pipeline.name' = 'x';" * 11, limits=SqlLimits(statements_max=10))
    assert [e.code for e in found] == ["too_many_statements"]


def test_too_many_columns_are_refused() -> None:
    columns = ", ".join(f"c{i} INT" for i in range(501))
    assert [e.code for e in check_app("app", f"CREATE TABLE o ({columns}) {OPTIONS};")] == ["too_many_columns"]
