"""Binding: names, types, conversions, and what is refused with which remedy."""

from __future__ import annotations

import re

import pytest

from penstock.errors import SqlErrors
from penstock.expressions.bind import AGGREGATES, ColumnScope, bind, bind_text
from penstock.expressions.dialect import parse_expression
from penstock.expressions.functions import ALIASES, FUNCTIONS
from penstock.expressions.functions_elsewhere import ELSEWHERE
from penstock.expressions.nodes import Call, Cast, ColumnRef, Expr, Literal, walk
from penstock.model import types
from penstock.model.stream import Column
from penstock.model.types import DataType, Kind, decimal

COLUMNS = [
    Column("b", types.BOOLEAN),
    Column("t", types.TINYINT),
    Column("i", types.INT),
    Column("l", types.BIGINT),
    Column("f", types.FLOAT),
    Column("d", types.DOUBLE),
    Column("n", decimal(10, 2)),
    Column("s", types.STRING),
    Column("ts", types.TIMESTAMP),
    Column("lt", types.TIMESTAMP_LTZ),
    Column("dt", types.DATE),
    Column("Price", types.DOUBLE),
    Column("value", types.DOUBLE),
]

TYPES = [
    ("1", types.INT),
    ("2147483648", types.BIGINT),
    ("-2147483648", types.INT),
    ("9223372036854775808", decimal(19, 0)),
    ("1.50", decimal(3, 2)),
    ("1e3", types.DOUBLE),
    ("t + t", types.TINYINT),
    ("i + l", types.BIGINT),
    ("i + f", types.FLOAT),
    ("i / l", types.BIGINT),
    ("n + f", types.DOUBLE),
    ("n + n", decimal(11, 2)),
    ("n * n", decimal(21, 4)),
    ("n / n", decimal(23, 13)),
    ("n % n", decimal(10, 2)),
    ("n + i", decimal(13, 2)),
    ("i * 1.5", decimal(13, 1)),
    ("l % 2", types.INT),
    ("CAST(1 AS DECIMAL(38, 10)) * CAST(1 AS DECIMAL(38, 10))", decimal(38, 6)),
    ("CASE WHEN b THEN i ELSE n END", decimal(12, 2)),
    ("COALESCE(i, d)", types.DOUBLE),
    ("CASE WHEN b THEN NULL ELSE 'x' END", types.STRING),
    ("ts + INTERVAL '1' DAY", types.TIMESTAMP),
    ("INTERVAL '1' DAY + lt", types.TIMESTAMP_LTZ),
    ("dt - INTERVAL '1' DAY", types.DATE),
    ("ts + INTERVAL '1' MONTH", types.TIMESTAMP),
    ("INTERVAL '1' DAY * 2", DataType(Kind.INTERVAL)),
    ("CHAR_LENGTH(s)", types.INT),
    ("EXTRACT(HOUR FROM ts)", types.BIGINT),
    ("ROUND(n, 1)", decimal(10, 1)),
    ("FLOOR(n)", decimal(10, 0)),
    ("CAST(s AS VARCHAR(10))", types.STRING),
    ("CAST(ts AS TIMESTAMP)", types.TIMESTAMP),
    ("X'00ff'", types.BYTES),
]


@pytest.mark.parametrize(("text", "expected"), TYPES, ids=[t for t, _ in TYPES])
def test_expressions_have_flinks_types(text: str, expected: DataType) -> None:
    assert bind_text(text, COLUMNS).type == expected


REFUSED = [
    ("i + pricee", 5, "unknown_column", "Price"),
    ("i + price", 5, "unknown_column", "Did you mean Price?"),
    ("x.i", 1, "unknown_table", "Write i alone."),
    ("value > 1", 1, "reserved_word", "`value`"),
    ("s > 5", 1, "type_mismatch", "CAST"),
    ("s + 1", 1, "type_mismatch", "CAST"),
    ("ts > lt", 1, "type_mismatch", "CAST(x AS TIMESTAMP(3))"),
    ("ts - ts", 1, "type_mismatch", "TIMESTAMPDIFF"),
    ("ts > 'yesterday'", 6, "type_mismatch", "'2018-01-31 10:00:00'"),
    ("b AND i", 1, "type_mismatch", "comparison"),
    ("UPPER(i)", 1, "type_mismatch", "CAST(x AS STRING)"),
    ("UPPER(s, s)", 1, "type_mismatch", "arguments"),
    ("UPER(s)", 1, "unknown_function", "UPPER"),
    ("SUM(i)", 1, "unsupported", "GROUP BY"),
    ("CURRENT_TIMESTAMP", 1, "unsupported", "event's own time"),
    ("RAND()", 1, "unsupported", "event's own time"),
    ("i IN (SELECT 1)", 1, "unsupported", "join"),
    ("i IN (1, 'x')", 1, "type_mismatch", "CAST"),
    ("i = (SELECT 1)", 13, "unsupported", "join"),
    ("(i, l) = (1, 2)", 2, "unsupported", "one by one"),
    ("s[1]", 1, "type_mismatch", "a[1]"),
    ("f(i) OVER (PARTITION BY l)", 1, "unsupported", "OVER"),
    ("CAST(i AS FOO)", 1, "type_mismatch", "BOOLEAN"),
    ("CAST(ts AS TIMESTAMP(6))", 1, "type_mismatch", "TIMESTAMP(3)"),
    ("CAST(ts AS BIGINT)", 1, "type_mismatch", "EPOCH"),
    ("CAST(l AS TIMESTAMP(3))", 1, "type_mismatch", "TO_TIMESTAMP_LTZ"),
    ("CAST(i AS DECIMAL(39, 2))", 1, "type_mismatch", "DECIMAL"),
    ("CASE WHEN i THEN 1 END", 11, "type_mismatch", "WHEN a = b"),
    ("CASE WHEN b THEN 1 ELSE 'x' END", 1, "type_mismatch", "CAST"),
    ("REGEXP(s, '(?=x)')", 1, "type_mismatch", "simpler"),
    ("REGEXP(s, '(a)\\1')", 1, "type_mismatch", "simpler"),
    ("REGEXP(s, '(')", 1, "type_mismatch", "brackets"),
    ("REGEXP(s, s)", 1, "type_mismatch", "quotes"),
    ("REGEXP_EXTRACT(s, 'a(b)', 2)", 1, "type_mismatch", "parentheses"),
    ("s LIKE '!x' ESCAPE '!'", 1, "type_mismatch", "Escape only"),
    ("s LIKE s", 1, "type_mismatch", "quotes"),
    ("DATE_FORMAT(ts, 'yyyy-ww')", 1, "type_mismatch", "yyyy MM dd"),
    ("EXTRACT(YEAR FROM TIME '10:00:00')", 1, "type_mismatch", "HOUR"),
    ("DATE '2018-02-30'", 6, "type_mismatch", "'2018-01-31'"),
    ("INTERVAL '1 day' DAY", 1, "type_mismatch", "INTERVAL '10' MINUTE"),
    ("dt + INTERVAL '1' HOUR", 1, "type_mismatch", "CAST(d AS TIMESTAMP(3))"),
    ("1e999", 1, "type_mismatch", "smaller"),
    ("12345678901234567890123456789012345678901", 1, "type_mismatch", "38"),
    ("a.b.c.i", 1, "unknown_column", ""),
    ("X'0'", 1, "type_mismatch", "X'0aff'"),
    ("TO_TIMESTAMP_LTZ(l, 6)", 1, "type_mismatch", "3"),
    ("ROUND(d, i)", 1, "type_mismatch", "ROUND(x, 2)"),
    ("COUNT(*)", 1, "unsupported", "GROUP BY"),
]


@pytest.mark.parametrize(("text", "column", "code", "remedy"), REFUSED, ids=[t for t, *_ in REFUSED])
def test_what_cannot_be_bound_is_refused_with_its_place_and_a_remedy(
    text: str, column: int, code: str, remedy: str
) -> None:
    with pytest.raises(SqlErrors) as caught:
        bind_text(text, COLUMNS)
    error = caught.value.errors[0]
    assert (error.line, error.column, error.code) == (1, column, code)
    assert remedy in error.remedy
    assert "penstock" not in error.message
    assert error.message.endswith(".")


def test_names_are_case_sensitive_and_functions_are_not() -> None:
    assert bind_text("Price", COLUMNS) == ColumnRef(types.DOUBLE, name="Price")
    assert bind_text("upper(s)", COLUMNS) == bind_text("UPPER(s)", COLUMNS)
    assert bind_text("`value` > 1e0", COLUMNS).type == types.BOOLEAN


def test_a_qualifier_names_the_relation() -> None:
    scope = ColumnScope([("i", types.INT)], "lots")
    assert bind(parse_expression("lots.i"), scope) == ColumnRef(types.INT, name="i")
    with pytest.raises(SqlErrors, match=r"lots\.i"):
        bind(parse_expression("lot.i"), scope)


def test_conversions_become_casts_and_constants_are_converted_at_once() -> None:
    widened = bind_text("i + l", COLUMNS)
    assert isinstance(widened, Call)
    assert widened.args[0] == Cast(types.BIGINT, arg=ColumnRef(types.INT, name="i"))
    compared = bind_text("d > 1", COLUMNS)
    assert isinstance(compared, Call)
    assert compared.args[1] == Literal(types.DOUBLE, value=1.0)
    at = bind_text("ts > '2018-01-01'", COLUMNS)
    assert not any(isinstance(e, Cast) for e in walk(at))


def test_equal_text_at_two_places_is_equal_and_places_are_kept() -> None:
    first, second = bind_text("i + 1", COLUMNS), bind_text("\n\n   i   +   1", COLUMNS)
    assert first == second
    assert (second.span.line, second.span.column) == (3, 4)


def test_a_hook_stands_in_for_nodes_that_the_caller_owns() -> None:
    def hook(node: object) -> Expr | None:
        return ColumnRef(types.BIGINT, name="agg0") if getattr(node, "name", "") == "COUNT" else None

    found = bind(parse_expression("COUNT(*) + 1"), ColumnScope([]), hook=hook)
    assert isinstance(found, Call)
    assert found.args[0] == ColumnRef(types.BIGINT, name="agg0")


def test_chains_are_flat() -> None:
    found = bind_text("b AND b AND b AND (b AND b)", COLUMNS)
    assert isinstance(found, Call)
    assert len(found.args) == 4


def test_functions_of_elsewhere_are_none_here_and_their_remedies_name_those_that_are() -> None:
    known = {*FUNCTIONS, *ALIASES, *AGGREGATES}
    forms = {"TUMBLE", "TABLE", "DESCRIPTOR", "OVER", "LAG", "ROW_NUMBER", "CAST"}
    assert not ELSEWHERE.keys() & known
    for name, remedy in ELSEWHERE.items():
        written = set(re.findall(r"\b([A-Z_0-9]{2,})\(", remedy))
        assert written <= known | forms, name
    with pytest.raises(SqlErrors) as refused:
        bind_text("LEAD(s)", COLUMNS)
    assert "LAG(x)" in refused.value.errors[0].remedy
