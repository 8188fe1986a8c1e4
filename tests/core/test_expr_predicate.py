"""Predicates over the columns of a topic: true rows, bounded texts, clear refusals."""

from __future__ import annotations

import polars as pl
import pytest

from penstock.errors import SqlErrors
from penstock.expressions.predicate import compile_predicate
from penstock.expressions.settings import ExpressionSettings
from penstock.model import types
from penstock.model.stream import Column

COLUMNS = [Column("market", types.STRING), Column("price", types.DOUBLE), Column("lots", types.INT)]
FRAME = pl.DataFrame(
    {"market": ["Agra", "Bhuj", None], "price": [450.0, 900.0, None], "lots": [3, 0, 1], "$op": [0, 0, 0]},
    schema_overrides={"lots": pl.Int32},
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("price < 500", [True, False, False]),
        ("market = 'Agra' OR price > 800", [True, True, False]),
        ("NOT (price < 500)", [False, True, False]),
        ("10 / lots > 2", [True, False, True]),
        ("TRUE", [True, True, True]),
        ("price IS NULL", [False, False, True]),
        ("market LIKE 'A%' AND lots IN (1, 3)", [True, False, False]),
    ],
)
def test_rows_match_where_the_predicate_is_true(text: str, expected: list[bool]) -> None:
    found = compile_predicate(text, COLUMNS)(FRAME)
    assert found.to_list() == expected
    assert found.dtype == pl.Boolean
    assert compile_predicate(text, COLUMNS)(FRAME.clear()).to_list() == []


@pytest.mark.parametrize(
    ("text", "code", "column"),
    [
        ("price", "type_mismatch", 1),
        ("prise < 500", "unknown_column", 1),
        ("price <", "syntax", 7),
        ("price < 500; DROP", "syntax", 12),
        ("SUM(price) > 1", "unsupported", 1),
        ("price < (SELECT 1)", "unsupported", 17),
        ("NULL", "type_mismatch", 1),
        ("x" * 5000, "text_too_long", 1),
    ],
)
def test_what_is_no_predicate_is_refused_with_its_place(text: str, code: str, column: int) -> None:
    with pytest.raises(SqlErrors) as caught:
        compile_predicate(text, COLUMNS)
    assert (caught.value.errors[0].code, caught.value.errors[0].column) == (code, column)
    assert caught.value.status == 422


def test_the_limit_is_a_setting() -> None:
    with pytest.raises(SqlErrors, match="At most 5"):
        compile_predicate("price < 500", COLUMNS, limits=ExpressionSettings(predicate_chars_max=5))
