"""The page of the language is made of the code, and every example on it passes the check and runs."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import msgspec
import pytest

from penstock.codecs.json_values import reader, wire_type
from penstock.expressions.bind import AGGREGATES
from penstock.expressions.tokens import NOT_SQL
from penstock.model.types import Kind
from penstock_app.language_page import sql_page
from penstock_processor.compile.build import build_engine
from penstock_processor.logical.plan_app import check_app, plan_app
from penstock_processor.reference.aggregates import AGGREGATE_NOTES, places_of_aggregate, takes_distinct
from penstock_processor.reference.codes import CODES
from penstock_processor.reference.query_forms import QUERY_FORMS, QueryForm, app_of
from penstock_processor.reference.types import TYPE_NOTES, TypeNote

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "sql.md"
WITH = "WITH ('connector' = 'penstock')"
#: Where findings are made, and at which argument their code stands.
FINDERS = {"refusal": 1, "add": 1, "_bad": 1, "_error": 1, "SqlError": 2, "Mismatch": 2}


def blocks() -> list[str]:
    found: list[str] = re.findall(r"```sql\n(.*?)```", PAGE.read_text(), re.S)
    return found


def runs_to_the_end_of_an_empty_input(sql: str) -> bool:
    engine = build_engine(plan_app("page", sql))
    return not engine.step([], now_ms=1_514_764_800_000).problems and not engine.finish().problems


def used_codes() -> set[str]:
    """Codes that stand as constants where findings are made."""
    found = {code for code, _, _ in NOT_SQL.values()}
    folders = ["processor/src/penstock_processor/logical", "processor/src/penstock_processor/sql",
               "core/src/penstock/expressions"]  # fmt: skip
    for path in (p for folder in folders for p in sorted((ROOT / folder).rglob("*.py"))):
        for call in (n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call)):
            name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
            place = FINDERS.get(name)
            arguments = [] if place is None else call.args[place : place + 1]
            for argument in arguments:
                if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                    found.add(argument.value)
                elif isinstance(argument, ast.JoinedStr):
                    found |= {f"{start}{argument.values[-1].value}" for start in ("early", "late")}  # type: ignore[attr-defined]
    return found


def test_the_page_says_that_it_is_generated_and_is_what_the_code_makes() -> None:
    first, _, rest = PAGE.read_text().partition("\n\n")
    assert "Generated" in first
    assert rest == sql_page()


def test_the_examples_of_the_page_pass_the_check_and_run() -> None:
    assert len(blocks()) > 10
    for block in blocks():
        assert check_app("page", block) == []
        assert runs_to_the_end_of_an_empty_input(block)


@pytest.mark.parametrize("form", QUERY_FORMS, ids=lambda form: form.name)
def test_every_form_of_query_runs_as_its_example_says(form: QueryForm) -> None:
    assert f"`{form.query}`".replace("|", "\\|") in PAGE.read_text()
    assert runs_to_the_end_of_an_empty_input(app_of(form))


def test_every_aggregate_function_is_on_the_page() -> None:
    assert set(AGGREGATE_NOTES) == AGGREGATES


@pytest.mark.parametrize("name", sorted(AGGREGATES))
def test_an_aggregate_function_stands_where_the_page_says(name: str) -> None:
    argument = {"LISTAGG": "note", "COLLECT": "note"}.get(name, "amount")
    options = {"PERCENTILE": ", 0.5", "APPROX_QUANTILE": ", 0.5", "APPROX_TOP_K": ", 3"}.get(name, "")
    tables = f"""SET 'table.exec.state.ttl' = '1 d';
CREATE TABLE t (k STRING, note STRING, amount DOUBLE, ts TIMESTAMP(3), WATERMARK FOR ts AS ts) {WITH};
CREATE TABLE r (PRIMARY KEY (k) NOT ENFORCED) {WITH} AS """
    call = f"{name}({argument}{options})"
    distinct = f"{name}(DISTINCT {argument}{options})"
    windowed = "FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '1' HOUR)) GROUP BY k, window_start, window_end"
    queries = {
        "windows": f"SELECT k, {call} AS x {windowed}",
        "DISTINCT": f"SELECT k, {distinct} AS x {windowed}",
        "rows that change": f"SELECT k, {call} AS x FROM (SELECT k, note, MAX(amount) AS amount FROM t "
        "GROUP BY k, note) GROUP BY k",
        "OVER": f"SELECT k, {call} OVER (PARTITION BY k ORDER BY ts) AS x FROM t",
        "MATCH_RECOGNIZE": f"SELECT k, x FROM t MATCH_RECOGNIZE (PARTITION BY k ORDER BY ts MEASURES "
        f"{name}(A.{argument}{options}) AS x PATTERN (A B) WITHIN INTERVAL '1' HOUR DEFINE B AS B.amount > 1)",
    }
    passed = {place for place, query in queries.items() if check_app("page", tables + query) == []}
    same = {"DISTINCT"} if name in ("MIN", "MAX", "FIRST_VALUE", "LAST_VALUE") else set()  # taken, without effect
    distinct_place = {"DISTINCT"} if takes_distinct(name) else same
    assert passed == {"windows", *places_of_aggregate(name)} | distinct_place


def test_every_type_that_a_column_may_have_is_on_the_page() -> None:
    assert set(TYPE_NOTES) == set(Kind) - {Kind.INTERVAL, Kind.NULL}


@pytest.mark.parametrize("kind", list(TYPE_NOTES), ids=str)
def test_a_value_of_a_type_is_read_as_the_page_says(kind: Kind) -> None:
    note: TypeNote = TYPE_NOTES[kind]
    plan = plan_app("page", f"CREATE TABLE t (c {note.example}) {WITH}; CREATE TABLE r {WITH} AS SELECT c FROM t;")
    (column,) = plan.sources["t"].spec.columns
    assert column.type.kind is kind
    read = reader(column.type)
    value = msgspec.json.decode(note.value, type=wire_type(column.type))
    assert (value if read is None else read(value)) is not None


def test_every_code_of_a_finding_is_on_the_page_and_no_other() -> None:
    assert used_codes() == set(CODES)


def test_every_code_that_a_wrong_app_gives_is_on_the_page() -> None:
    heads = [p.read_text().partition("\n")[0] for p in (ROOT / "tests/processor/sql/errors").glob("*.sql")]
    given = {code for head in heads for code in re.findall(r"\d+:\d+ (\w+)", head)}
    assert given and given <= set(CODES)
