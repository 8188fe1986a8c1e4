"""The token pass and the grammar: what Flink would not accept is refused with its place, and nothing crashes."""

from __future__ import annotations

import importlib.util
import re
import sys
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.errors import PenstockError, SqlErrors
from penstock.expressions import dialect
from penstock.expressions.bind import bind_text
from penstock.expressions.compile import compile_expression
from penstock.expressions.dialect import parse_expression, parse_statements, span_of, statement_text
from penstock.expressions.settings import ExpressionSettings
from penstock.expressions.tokens import scan
from penstock.model import types
from penstock.model.stream import Column

REFUSED = [
    ("a::int", 1, 2, "cast_operator"),
    ("a == b", 1, 3, "double_equals"),
    ("a != b", 1, 3, "bang_equals"),
    ('"a"', 1, 1, "double_quote"),
    ("a +\n'open", 2, 1, "open_string"),
    ("a /* open", 1, 3, "open_comment"),
    ("`open", 1, 1, "open_name"),
    ("f(a, )", 1, 4, "stray_comma"),
    ("f(, a)", 1, 3, "stray_comma"),
    ("f(a,, b)", 1, 4, "stray_comma"),
    ("{{ x }}", 1, 1, "unexpected_character"),
    ("a ? b", 1, 3, "unexpected_character"),
    ("a\x00b", 1, 2, "unexpected_character"),
    ("a\u00a0b", 1, 2, "unexpected_character"),
    ("a & b", 1, 3, "unexpected_character"),
    ("a ILIKE 'x'", 1, 3, "unsupported"),
    ("a RLIKE 'x'", 1, 3, "unsupported"),
    ("a NOT NULL", 1, 7, "syntax"),
    ("a BETWEEN 1 2", 1, 13, "syntax"),
    ("CASE WHEN a 1 END", 1, 13, "syntax"),
    ("CASE WHEN a THEN 1", 1, 18, "syntax"),
    ("CAST(a INT)", 1, 8, "syntax"),
    ("INTERVAL '1'", 1, 10, "syntax"),
    ("INTERVAL 1 DAY", 1, 10, "syntax"),
    ("a IS 1", 1, 6, "syntax"),
    ("a b", 1, 3, "syntax"),
    ("a; b", 1, 2, "syntax"),
    ("", 1, 1, "empty"),
    ("-- only a comment", 1, 1, "empty"),
    ("(" * 33 + "a" + ")" * 33, 1, 33, "too_deep"),
    ("NOT " * 40 + "a", 1, 129, "too_deep"),
    ("- " * 40 + "a", 1, 65, "too_deep"),
]


@pytest.mark.parametrize(("text", "line", "column", "code"), REFUSED, ids=[t[:20] for t, *_ in REFUSED])
def test_what_flink_would_not_accept_is_refused_where_it_stands(text: str, line: int, column: int, code: str) -> None:
    with pytest.raises(SqlErrors) as caught:
        parse_expression(text)
    first = caught.value.errors[0]
    assert (first.line, first.column, first.code) == (line, column, code)
    assert first.message
    assert first.remedy


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("FROM t SELECT a", "unsupported_statement"),
        ("DROP TABLE t", "unsupported_statement"),
        ("CREATE CATALOG c", "syntax"),
        ("SELECT a, FROM t", "stray_comma"),
        ("SELECT a FROM t QUALIFY x = 1", "unsupported"),
        ("SELECT a FROM t EXCEPT SELECT b FROM u", "unsupported"),
        ("SELECT /*+ OPTIONS('a'='b') */ a FROM t", "hint"),
        ("SET a = b", "syntax"),
        ("CREATE TABLE t (k STRING METADATA FROM 'key')", "syntax"),
        ("CREATE TABLE t (ts TIMESTAMP(3), WATERMARK ts AS ts)", "syntax"),
    ],
)
def test_statements_beyond_the_subset_are_refused(text: str, code: str) -> None:
    with pytest.raises(SqlErrors) as caught:
        parse_statements(text)
    assert caught.value.errors[0].code == code


def test_every_statement_reports_its_own_error() -> None:
    with pytest.raises(SqlErrors) as caught:
        parse_statements("DROP TABLE t;\nSET 'a' = 'b';\nSELECT FROM WHERE;\nUPDATE t")
    assert [(e.line, e.code) for e in caught.value.errors][:1] == [(1, "unsupported_statement")]
    assert caught.value.errors[-1].line == 4


def test_statements_know_their_place_and_text() -> None:
    text = "SET 'a' = 'b;c'; -- remark\n\nCREATE VIEW v AS\n  SELECT `x y`, 'it''s' FROM t;"
    first, second = parse_statements(text)
    assert (span_of(first).line, span_of(first).column) == (1, 1)
    assert (span_of(second).line, span_of(second).column) == (3, 1)
    assert statement_text(second) == "CREATE VIEW v AS\n  SELECT `x y`, 'it''s' FROM t"


def test_a_statement_set_is_its_statements() -> None:
    found = parse_statements(
        "EXECUTE STATEMENT SET BEGIN INSERT INTO a SELECT * FROM b; INSERT INTO c SELECT 1; END;"
    )
    assert [statement_text(s)[:13] for s in found] == ["INSERT INTO a", "INSERT INTO c"]


def test_tokens_are_placed_by_their_first_character() -> None:
    tokens = scan("a\n  <> 'x y'")
    assert [(t.text, t.line, t.col) for t in tokens] == [("a", 1, 1), ("<>", 2, 3), ("x y", 2, 6)]


def test_texts_are_bounded() -> None:
    with pytest.raises(SqlErrors, match="100,000 characters"):
        scan("a" * 100_000, ExpressionSettings(text_chars_max=1000))


@pytest.mark.parametrize(
    "text",
    [
        " OR ".join(f"a = {i}" for i in range(300)),
        " || ".join(["'x'"] * 400),
        "+".join(["a"] * 95),
        "a IN (" + ", ".join(str(i) for i in range(900)) + ")",
        "(" * 31 + "a" + ")" * 31,
        "COALESCE(" * 31 + "a" + ")" * 31,
        "CASE WHEN TRUE THEN " * 31 + "a" + " END" * 31,
    ],
    ids=lambda t: t[:12],
)
def test_long_and_deep_expressions_within_the_limits_compile(text: str) -> None:
    made = compile_expression(bind_text(text, [Column("a", types.INT)]))
    assert made.value is not None


@pytest.mark.parametrize(
    "text", ["+".join(["a"] * 20_000), "a OR " * 5_000 + "a", "a" + "[1]" * 100, "a" + ".b" * 300]
)
def test_expressions_beyond_the_limits_are_refused_and_not_a_crash(text: str) -> None:
    with pytest.raises(SqlErrors):
        bind_text(text, [Column("a", types.BOOLEAN)])


def test_deep_expressions_parse_on_a_thread_and_from_a_deep_stack() -> None:
    found: list[object] = []

    def deeper(levels: int) -> None:
        if levels:
            deeper(levels - 1)
        else:
            found.append(parse_expression("f(" * 31 + "a" + ")" * 31))

    thread = threading.Thread(target=deeper, args=(200,))
    thread.start()
    thread.join()
    assert len(found) == 1


_WORDS = st.sampled_from(
    re.findall(
        r"\S+",
        "a b ( ) ( ) , . + - * / % = <> < > || 'x' 1 1.5 1e3 NOT AND OR IS NULL CASE WHEN THEN ELSE END BETWEEN "
        "IN LIKE CAST AS INT INTERVAL DAY TO EXTRACT FROM FLOOR TRIM SELECT WHERE `q` ESCAPE DISTINCT UPPER "
        "FILTER OVER TABLE",
    )
)


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text(max_size=60), st.lists(_WORDS, max_size=25).map(" ".join)))
def test_any_text_gives_a_tree_or_findings(text: str) -> None:
    for parse in (parse_expression, parse_statements):
        found = []
        try:
            parse(text)
        except SqlErrors as error:
            found = error.errors
        assert all(f.line >= 1 and f.column >= 1 and f.message and f.remedy for f in found)


@settings(max_examples=300, deadline=None)
@given(st.lists(_WORDS, max_size=20).map(" ".join))
def test_any_words_bind_or_give_findings(text: str) -> None:
    columns, found = [Column("a", types.INT), Column("b", types.STRING)], []
    try:
        compile_expression(bind_text(text, columns))
    except SqlErrors as error:
        found = error.errors
    assert all(f.message and f.remedy for f in found)


def test_the_compiled_parser_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: object() if name == "sqlglotc" else real(name, *a)
    )
    dialect.refuse_compiled_build.cache_clear()
    try:
        with pytest.raises(PenstockError, match="sqlglotc"):
            parse_expression("a")
    finally:
        monkeypatch.undo()
        dialect.refuse_compiled_build.cache_clear()
    assert "sqlglotc" not in sys.modules
