"""Three-valued logic, comparison and laziness, case by case and against a plain reading."""

from __future__ import annotations

from itertools import product

import polars as pl
import pytest
from core.expression_eval import evaluate, evaluate_bound, one
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.expressions.bind import bind_text
from penstock.model import types
from penstock.model.stream import Column

TRUTH = [True, False, None]
PAIRS = list(product(TRUTH, TRUTH))
BOOLEANS = {"a": (types.BOOLEAN, [a for a, _ in PAIRS]), "b": (types.BOOLEAN, [b for _, b in PAIRS])}


def _and(a: bool | None, b: bool | None) -> bool | None:
    return False if a is False or b is False else None if a is None or b is None else True


def _or(a: bool | None, b: bool | None) -> bool | None:
    return True if a is True or b is True else None if a is None or b is None else False


def _not(a: bool | None) -> bool | None:
    return None if a is None else not a


@pytest.mark.parametrize(
    ("sql", "rule"),
    [
        ("a AND b", _and),
        ("a OR b", _or),
        ("NOT a", lambda a, b: _not(a)),
        ("a = b", lambda a, b: None if a is None or b is None else a == b),
        ("a <> b", lambda a, b: None if a is None or b is None else a != b),
        ("a IS DISTINCT FROM b", lambda a, b: a is not b),
        ("a IS NOT DISTINCT FROM b", lambda a, b: a is b),
        ("a IS TRUE", lambda a, b: a is True),
        ("a IS NOT TRUE", lambda a, b: a is not True),
        ("a IS FALSE", lambda a, b: a is False),
        ("a IS NOT FALSE", lambda a, b: a is not False),
        ("a IS NULL", lambda a, b: a is None),
        ("a IS UNKNOWN", lambda a, b: a is None),
        ("a IS NOT NULL", lambda a, b: a is not None),
        ("CASE WHEN a THEN 1 WHEN b THEN 2 ELSE 3 END", lambda a, b: 1 if a else 2 if b else 3),
        ("CASE WHEN a THEN 1 WHEN b THEN 2 END", lambda a, b: 1 if a else 2 if b else None),
        ("IF(a, b, NOT b)", lambda a, b: b if a else _not(b)),
        ("COALESCE(a, b)", lambda a, b: b if a is None else a),
        ("NULLIF(a, b)", lambda a, b: None if a is not None and a == b else a),
    ],
)
def test_truth_table(sql: str, rule: object) -> None:
    assert evaluate(sql, BOOLEANS) == [rule(a, b) for a, b in PAIRS]  # type: ignore[operator]


NAN = float("nan")
NUMBERS = [NAN, 1.0, 2.0, float("inf"), None]
DOUBLES = list(product(NUMBERS, NUMBERS))


@pytest.mark.parametrize("operator", ["=", "<>", "<", "<=", ">", ">="])
@pytest.mark.parametrize("kind", [types.DOUBLE, types.FLOAT])
def test_nan_compares_as_in_java_and_null_as_in_sql(operator: str, kind: types.DataType) -> None:
    rules = {"=": float.__eq__, "<>": float.__ne__, "<": float.__lt__, "<=": float.__le__, ">": float.__gt__,
             ">=": float.__ge__}  # fmt: skip
    table = {"a": (kind, [a for a, _ in DOUBLES]), "b": (kind, [b for _, b in DOUBLES])}
    expected = [None if a is None or b is None else rules[operator](a, b) for a, b in DOUBLES]
    assert evaluate(f"a {operator} b", table) == expected
    with_constant = [None if a is None else rules[operator](a, 1.0) for a, _ in DOUBLES]
    assert evaluate(f"a {operator} 1", table) == with_constant


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("a IN (1, 2)", [True, True, False, None]),
        ("a NOT IN (1, 2)", [False, False, True, None]),
        ("a IN (1, NULL)", [True, None, None, None]),
        ("a NOT IN (1, NULL)", [False, None, None, None]),
        ("a IN (b, 2)", [True, True, None, None]),
        ("a IN (1.0, 2.5)", [True, False, False, None]),
        ("a BETWEEN 1 AND 2", [True, True, False, None]),
        ("a NOT BETWEEN 2 AND NULL", [True, None, None, None]),
        ("a BETWEEN SYMMETRIC 2 AND 1", [True, True, False, None]),
    ],
)
def test_in_and_between_with_null(sql: str, expected: list[object]) -> None:
    table = {"a": (types.INT, [1, 2, 3, None]), "b": (types.INT, [1, None, None, 1])}
    assert evaluate(sql, table) == expected


FAILS = {"a": (types.INT, [1, 0]), "b": (types.INT, [1, 0])}


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("a <> 0 AND 10 / b > 5", [True, False]),
        ("a = 0 OR 10 / b > 5", [True, True]),
        ("10 / b > 5 AND a <> 0", [True, "error: division_by_zero"]),
        ("CASE WHEN b = 0 THEN -1 ELSE 10 / b END", [10, -1]),
        ("CASE WHEN 10 / b > 5 THEN 1 ELSE 2 END", [1, "error: division_by_zero"]),
        ("CASE WHEN a = 1 THEN 0 WHEN 10 / b > 5 THEN 1 END", [0, "error: division_by_zero"]),
        ("CASE WHEN b <> 0 THEN 10 / b END", [10, None]),
        ("COALESCE(a, 10 / b)", [1, 0]),
        ("COALESCE(NULLIF(a, 0), 10 / b)", [1, "error: division_by_zero"]),
        ("IF(b = 0, 0, 10 / b)", [10, 0]),
        ("IFNULL(a, 10 / b)", [1, 0]),
        ("10 / b IS NULL", [False, "error: division_by_zero"]),
        ("TRY_CAST(10 / b AS STRING)", ["10", "error: division_by_zero"]),
        ("(a = 1 OR 1 / b = 1) AND (a = 0 OR 1 / b = 1)", [True, "error: division_by_zero"]),
    ],
)
def test_only_what_is_evaluated_can_fail(sql: str, expected: list[object]) -> None:
    assert evaluate(sql, FAILS) == expected


@pytest.mark.parametrize(
    ("pattern", "matching", "other"),
    [
        ("abc", ["abc"], ["ab", "abcd", ""]),
        ("a%", ["a", "abc", "a\nb"], ["ba", ""]),
        ("%c", ["c", "abc"], ["cb"]),
        ("%b%", ["b", "abc"], ["ac", ""]),
        ("a_c", ["abc", "aéc", "a\nc"], ["ac", "abbc"]),
        ("a%c_", ["abcd", "acd"], ["abc"]),
        ("%", ["", "x", "\n"], []),
        ("a.c", ["a.c"], ["abc"]),
        ("%(%", ["x(y"], ["xy"]),
        ("_", ["😀", "é"], ["", "ab"]),
    ],
)
def test_like_matches_whole_texts(pattern: str, matching: list[str], other: list[str]) -> None:
    table = {"s": (types.STRING, [*matching, *other, None])}
    assert evaluate(f"s LIKE '{pattern}'", table) == [True] * len(matching) + [False] * len(other) + [None]


def test_like_escapes() -> None:
    table = {"s": (types.STRING, ["100%", "100x", "a_b", "axb", "a!"])}
    assert evaluate("s LIKE '%!%' ESCAPE '!'", table) == [True, False, False, False, False]
    assert evaluate("s LIKE 'a!_b' ESCAPE '!'", table) == [False, False, True, False, False]
    assert evaluate("s LIKE 'a!!' ESCAPE '!'", table) == [False, False, False, False, True]


def test_text_compares_by_bytes_and_the_empty_text_is_a_value() -> None:
    assert one("'' = ''") is True
    assert one("'' IS NULL") is False
    assert one("'é' > 'z'") is True


def test_greatest_and_least_of_every_kind() -> None:
    table = {"a": (types.STRING, ["x", None]), "d": (types.DATE, [None, None])}
    assert evaluate("GREATEST(a, 'y', 'b')", table) == ["y", None]
    assert evaluate("LEAST(a, 'y', 'b')", table) == ["b", None]
    assert evaluate("GREATEST(d, DATE '2018-01-01')", table) == [None, None]
    assert one("LEAST(1, 2.5, 0)") is not None
    assert one("GREATEST(TRUE, FALSE)") is True


# Random logic over columns against a plain reading of three-valued logic.


@st.composite
def _logic(draw: st.DrawFn, depth: int = 3) -> tuple[str, object]:
    if depth == 0 or draw(st.booleans()):
        name = draw(st.sampled_from(["a", "b", "TRUE", "FALSE", "(NULL = 1)"]))
        fixed = {"TRUE": True, "FALSE": False, "(NULL = 1)": None}
        return name, (lambda row, n=name: row[n] if n in row else fixed[n])
    left, f = draw(_logic(depth=depth - 1))
    right, g = draw(_logic(depth=depth - 1))
    kind = draw(st.sampled_from(["AND", "OR", "NOT", "IS TRUE", "IS NULL", "=", "CASE"]))
    match kind:
        case "AND":
            return f"({left} AND {right})", lambda row: _and(f(row), g(row))
        case "OR":
            return f"({left} OR {right})", lambda row: _or(f(row), g(row))
        case "NOT":
            return f"(NOT {left})", lambda row: _not(f(row))
        case "IS TRUE":
            return f"({left} IS TRUE)", lambda row: f(row) is True
        case "IS NULL":
            return f"({left} IS NULL)", lambda row: f(row) is None
        case "=":
            return f"({left} = {right})", lambda row: None if f(row) is None or g(row) is None else f(row) == g(row)
        case _:
            return f"CASE WHEN {left} THEN {right} ELSE a END", lambda row: g(row) if f(row) else row["a"]


@settings(max_examples=150, deadline=None)
@given(_logic())
def test_random_logic_reads_as_three_valued_logic(made: tuple[str, object]) -> None:
    sql, rule = made
    rows = [{"a": a, "b": b} for a, b in PAIRS]
    assert evaluate(sql, BOOLEANS) == [rule(row) for row in rows]  # type: ignore[operator]


def test_a_constant_condition_holds_for_every_row() -> None:
    expr = bind_text("1 < 2", [Column("a", types.INT)])
    assert evaluate_bound(expr, pl.DataFrame({"a": [1, 2, 3]})) == [True] * 3
