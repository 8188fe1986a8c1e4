"""Functions of an app's own, in Python: declared in SQL, checked like any, vectorised; their errors are of rows."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.errors import SqlErrors
from penstock.expressions.nodes import Call
from penstock.expressions.table import Compiled
from penstock.model.types import BIGINT
from penstock.python_functions import entry_of, scalar
from penstock_processor.eval import run_eval
from penstock_processor.function_files import FunctionFiles
from penstock_processor.logical.plan_app import check_app, plan_app

UNITS = '''"""Units of readings."""
import polars as pl
from penstock.python_functions import aggregate, scalar, table

calls = []

@scalar(arguments=["DOUBLE", "STRING"], returns="DOUBLE")
def celsius(degrees: pl.Series, unit: pl.Series) -> pl.Series:
    calls.append(len(degrees))
    if not set(unit.drop_nulls()) <= {"F", "C"}:
        raise ValueError("what unit is this?")
    return pl.select(pl.when(unit == "F").then((degrees - 32) / 1.8).otherwise(degrees)).to_series()

@scalar(arguments=["INT"], returns="STRING")
def short(n: pl.Series) -> pl.Series:
    return pl.Series(["x"])

@table(arguments=["STRING"], returns="ROW<word STRING, place INT>")
def words(text: pl.Series) -> pl.Series:
    return pl.Series([[{"word": w, "place": n} for n, w in enumerate((t or "").split())] for t in text.to_list()])

@aggregate(arguments=["DOUBLE", "DOUBLE"], returns="DOUBLE")
def weighted(value: pl.Series, weight: pl.Series) -> float:
    if weight.sum() == 0:
        raise ZeroDivisionError
    return (value * weight).sum() / weight.sum()

@aggregate(arguments=["INT"], returns="ROW<least INT, most INT>")
def span(n: pl.Series) -> dict:
    return {"least": n.min(), "most": n.max()}

without_types = len
'''
APP = """CREATE FUNCTION celsius AS 'units.celsius' LANGUAGE PYTHON;
CREATE TABLE readings (
  id INT, degrees DOUBLE, unit STRING, ts AS Celsius(degrees, unit)
) WITH ('connector' = 'penstock', 'dedupe' = 'none');
CREATE TABLE warm WITH ('connector' = 'penstock') AS
SELECT id, CELSIUS(degrees, unit) AS c FROM readings WHERE celsius(degrees, unit) > 20;
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "units.py").write_text(UNITS)
    return tmp_path


def run(folder: Path, sql: str, table: str, target: str) -> tuple[list[dict[str, Any]], int]:
    """Rows of a target over `table`.ndjson, and how many were rejected."""
    (folder / "app.sql").write_text(sql)
    out, err = io.BytesIO(), io.StringIO()
    inputs, outputs = [f"{table}={folder / table}.ndjson"], [f"{target}=-"]
    run_eval(folder / "app.sql", inputs, outputs, final=False, strict=False, stats=True, stdout=out, stderr=err)
    return [json.loads(line) for line in out.getvalue().splitlines()], json.loads(err.getvalue())["rejected"]


def findings(folder: Path, sql: str) -> list[tuple[int, int, str]]:
    return [(e.line, e.column, e.code) for e in check_app("app", sql, functions=FunctionFiles([folder]))]


def test_a_function_is_called_for_batches_and_the_rows_it_cannot_take_are_rejected_alone(folder: Path) -> None:
    rows = [(n, 50.0 + n, "K" if n == 7 else "F" if n % 2 else "C") for n in range(40)]
    lines = [json.dumps({"id": n, "degrees": degrees, "unit": unit}) for n, degrees, unit in rows]
    lines.append('{"id": 99, "degrees": null, "unit": "C"}')
    (folder / "readings.ndjson").write_text("\n".join(lines))
    found, rejected = run(folder, APP, "readings", "warm")
    expected = {n: (d - 32) / 1.8 if unit == "F" else d for n, d, unit in rows if unit != "K"}
    assert {row["id"]: row["c"] for row in found} == pytest.approx({n: c for n, c in expected.items() if c > 20})
    assert rejected == 1


def test_a_rejected_row_is_told_with_itself_and_what_the_function_raised(folder: Path) -> None:
    (folder / "readings.ndjson").write_text('{"id":1,"degrees":50,"unit":"C"}\n{"id":2,"degrees":51.5,"unit":"K"}\n')
    (folder / "app.sql").write_text(APP)
    out, err = io.BytesIO(), io.StringIO()
    given = [f"readings={folder / 'readings'}.ndjson"]
    run_eval(folder / "app.sql", given, ["warm=-"], final=False, strict=False, stats=False, stdout=out, stderr=err)
    assert err.getvalue().splitlines() == [
        'rejected: readings {"id":2,"degrees":51.5,"unit":"K"}: function_failed: warm: an expression of warm has no '
        "value for this row: CELSIUS: ValueError: what unit is this?",
        "1 rows rejected, 0 late",
    ]


def test_a_correct_use_is_an_app_and_a_changed_file_is_read_again(folder: Path) -> None:
    source = FunctionFiles([folder])
    assert check_app("app", APP, functions=source) == []
    (folder / "units.py").write_text(UNITS.replace('"DOUBLE", "STRING"', '"DOUBLE"'))
    [error, *_] = check_app("app", APP, functions=source)
    assert (error.line, error.code) == (3, "type_mismatch")
    assert "takes 1 arguments, not 2" in error.message


def test_calls_of_what_does_not_load_add_no_findings(folder: Path) -> None:
    sql = """CREATE FUNCTION f AS 'nowhere.f' LANGUAGE PYTHON;
CREATE TABLE t (a INT, b AS f(a)) WITH ('connector' = 'penstock');
CREATE VIEW v AS SELECT f(a) AS x FROM t;
CREATE TABLE o WITH ('connector' = 'penstock') AS SELECT x FROM v;
CREATE TABLE p WITH ('connector' = 'penstock') AS SELECT a FROM t WHERE f(a) > 1;
CREATE TABLE q WITH ('connector' = 'penstock') AS SELECT a FROM t WHERE a > 'x';"""
    assert [(line, code) for line, _, code in findings(folder, sql)] == [(1, "unusable_function")]
    assert [line for line, _, _ in findings(folder, sql.replace("b AS f(a)", "b AS a"))] == [1, 6]


@pytest.mark.parametrize(
    ("declared", "place", "said"),
    [
        ("celsius AS 'units.kelvin'", (1, 28), "has no 'kelvin'"),
        ("celsius AS 'nowhere.celsius'", (1, 28), "no nowhere.py"),
        ("celsius AS 'units'", (1, 28), "no place of a function"),
        ("celsius AS 'units.without_types'", (1, 28), "has no types"),
        ("celsius AS 'broken.f'", (1, 28), "broken.py:2 does not load: NameError"),
        ("reverse AS 'units.celsius'", (1, 17), "There is a function REVERSE already"),
    ],
)
def test_what_is_wrong_with_a_function_is_said_where_it_is_declared(
    folder: Path, declared: str, place: tuple[int, int], said: str
) -> None:
    (folder / "broken.py").write_text("import os\nf = undefined_name; g = 1\n")
    sql = f"CREATE FUNCTION {declared} LANGUAGE PYTHON;\nCREATE TABLE t (a INT) WITH ('connector' = 'penstock');\n"
    with pytest.raises(SqlErrors) as refused:
        plan_app("app", sql, functions=FunctionFiles([folder]))
    [error] = refused.value.errors
    assert (error.line, error.column) == place
    assert said in error.message
    assert error.remedy


def test_wrong_arguments_have_their_place(folder: Path) -> None:
    assert findings(folder, APP.replace("CELSIUS(degrees, unit)", "CELSIUS(unit, unit)")) == [
        (6, 12, "type_mismatch")
    ]
    other = APP.replace("CREATE FUNCTION celsius", "CREATE FUNCTION other")
    assert findings(folder, other) == [(3, 46, "unknown_function")]


def test_without_folders_the_error_names_the_setting() -> None:
    [error, *_] = check_app("app", APP)
    assert "processor.functions_folders" in error.remedy


@pytest.mark.parametrize("call", ["short(id)", "short(CAST(NULL AS INT))"])
def test_a_result_of_another_length_fails_the_batch_and_rows_are_tried_alone(folder: Path, call: str) -> None:
    (folder / "readings.ndjson").write_text('{"id": 1}\n{"id": 2}\n{"id": 3}\n')
    sql = f"""CREATE FUNCTION short AS 'units.short' LANGUAGE PYTHON;
CREATE TABLE readings (id INT) WITH ('connector' = 'penstock', 'dedupe' = 'none');
CREATE TABLE o WITH ('connector' = 'penstock') AS SELECT id, {call} AS s FROM readings;"""
    found, _ = run(folder, sql, "readings", "o")
    assert [(row["id"], row["s"]) for row in found] == [(1, "x"), (2, "x"), (3, "x")]


@pytest.mark.parametrize(
    ("join", "empty"),
    [
        ("reports CROSS JOIN LATERAL TABLE(words(note)) AS w(word, place)", []),
        ("reports, LATERAL TABLE(words(note)) AS w(word, place)", []),
        ("reports CROSS JOIN UNNEST(words(note)) AS w(word, place)", []),
        (
            "reports LEFT JOIN LATERAL TABLE(words(note)) AS w(word, place) ON TRUE",
            [(2, None, None), (3, None, None)],
        ),
    ],
)
def test_a_table_function_gives_any_number_of_rows_for_each_row(
    folder: Path, join: str, empty: list[tuple[int, None, None]]
) -> None:
    rows = [{"id": 1, "note": "two words"}, {"id": 2, "note": ""}, {"id": 3, "note": None}, {"id": 4, "note": "x"}]
    (folder / "reports.ndjson").write_text("\n".join(map(json.dumps, rows)))
    sql = f"""CREATE FUNCTION words AS 'units.words' LANGUAGE PYTHON;
CREATE TABLE reports (id INT, note STRING) WITH ('connector' = 'penstock', 'dedupe' = 'none');
CREATE TABLE o WITH ('connector' = 'penstock') AS SELECT id, word, place FROM {join};"""
    found, rejected = run(folder, sql, "reports", "o")
    expected = [(1, "two", 0), (1, "words", 1), *empty, (4, "x", 0)]
    assert [(row["id"], row["word"], row["place"]) for row in found] == expected
    assert rejected == 0


LOTS = """CREATE FUNCTION weighted AS 'units.weighted' LANGUAGE PYTHON;
CREATE FUNCTION span AS 'units.span' LANGUAGE PYTHON;
CREATE TABLE lots (market STRING, n INT, price DOUBLE, tonnes DOUBLE, ts TIMESTAMP(3), WATERMARK FOR ts AS ts)
WITH ('connector' = 'penstock', 'dedupe' = 'none');
"""


@pytest.mark.parametrize("function", ["TUMBLE", "SESSION"])
def test_an_aggregate_gets_all_values_of_its_group_and_a_group_it_cannot_take_is_rejected(
    folder: Path, function: str
) -> None:
    rows = [("a", 1, 10.0, 1.0, 0), ("b", 2, 5.0, 0.0, 1), ("a", 3, 20.0, 3.0, 2), ("a", 4, 7.0, 1.0, 4000)]
    names = ("market", "n", "price", "tonnes", "ts")
    (folder / "lots.ndjson").write_text("\n".join(json.dumps(dict(zip(names, row, strict=True))) for row in rows))
    partition = " PARTITION BY market" if function == "SESSION" else ""
    sql = f"""{LOTS}CREATE TABLE o WITH ('connector' = 'penstock') AS
SELECT market, WEIGHTED(price, tonnes) AS mean, span(n).most - span(n).least AS width, SUM(n) AS total,
  span(n) FILTER (WHERE n > 3) AS late
FROM TABLE({function}(TABLE lots{partition}, DESCRIPTOR(ts), INTERVAL '1' SECOND))
GROUP BY market, window_start, window_end;"""
    found, rejected = run(folder, sql, "lots", "o")
    assert sorted(((r["market"], r["mean"], r["width"], r["total"]) for r in found), key=lambda r: r[3]) == [
        ("a", 17.5, 2, 4), ("a", 7.0, 0, 4),
    ]  # fmt: skip
    assert [row["late"] for row in found] == [None, {"least": 4, "most": 4}]
    assert rejected == 1


@pytest.mark.parametrize(
    ("call", "code"),
    [
        ("WEIGHTED(price)", "type_mismatch"),
        ("WEIGHTED(price, market)", "type_mismatch"),
        ("SPAN(WEIGHTED(price, tonnes))", "misplaced_aggregate"),
    ],
)
def test_a_wrong_call_of_an_aggregate_has_its_place(folder: Path, call: str, code: str) -> None:
    sql = f"""{LOTS}CREATE TABLE o WITH ('connector' = 'penstock') AS
SELECT {call} AS x
FROM TABLE(TUMBLE(TABLE lots, DESCRIPTOR(ts), INTERVAL '1' DAY)) GROUP BY window_start, window_end;"""
    [(line, _, found)] = findings(folder, sql)
    assert (line, found) == (6, code)


def test_an_aggregate_has_no_place_among_rows(folder: Path) -> None:
    sql = LOTS + "CREATE TABLE o WITH ('connector' = 'penstock') AS SELECT n FROM lots WHERE SPAN(n).most > 1;"
    assert [code for _, _, code in findings(folder, sql)] == ["misplaced_aggregate"]


def test_a_type_that_is_none_is_refused_where_the_function_is_defined() -> None:
    with pytest.raises(ValueError, match="'NUMBER' is no type"):
        scalar(arguments=["NUMBER"], returns="INT")
    with pytest.raises(ValueError, match="at least one argument"):
        scalar(arguments=[], returns="INT")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(-5, 5), st.booleans()), min_size=1, max_size=40))
def test_rows_that_fail_do_not_touch_the_others(rows: list[tuple[int, bool]]) -> None:
    @scalar(arguments=["BIGINT", "BOOLEAN"], returns="BIGINT")
    def doubled(n: pl.Series, fails: pl.Series) -> pl.Series:
        if fails.any():
            raise RuntimeError
        return n * 2

    entry = entry_of("DOUBLED", doubled)
    frame = pl.DataFrame({"n": [n for n, _ in rows], "f": [f for _, f in rows]})
    call = Call(BIGINT, function=entry.name)
    made = entry.build(call, [Compiled(pl.col("n")), Compiled(pl.col("f"))])
    assert made.error is not None
    found = frame.select(made.value.alias("v"), made.error.alias("e")).rows()
    assert found == [
        (None, "function_failed: DOUBLED: RuntimeError") if fails else (n * 2, None) for n, fails in rows
    ]
