"""The function table: every example holds, over constants and over columns, and NULL goes through."""

from __future__ import annotations

import json

import polars as pl
import pytest
from core.expression_eval import evaluate_bound

from penstock.codecs.frames import polars_type
from penstock.codecs.rows import json_value
from penstock.expressions.bind import bind_text
from penstock.expressions.functions import ALIASES, FAMILIES, FUNCTIONS, function_named
from penstock.expressions.nodes import Call, Case, Cast, ColumnRef, Expr, Literal
from penstock.expressions.reference import functions_page
from penstock.model.types import Kind

EXAMPLES = [(entry.name, sql, result) for entry in FUNCTIONS.values() for sql, result in entry.examples]

#: Arguments that must stay constants: function -> places.
CONSTANT_PLACES = {
    "LIKE": (1, 2), "SIMILAR TO": (1, 2), "REGEXP_COUNT": (1,), "REGEXP_INSTR": (1,), "REGEXP_SUBSTR": (1,),
    "REGEXP": (1,), "REGEXP_REPLACE": (1, 2), "REGEXP_EXTRACT": (1, 2), "LTRIM": (1,), "RTRIM": (1,),
    "BTRIM": (1,), "EXTRACT": (0,), "TIMESTAMPADD": (0,), "TIMESTAMPDIFF": (0,), "DATE_FORMAT": (1,), "ROUND": (1,),
    "TRUNCATE": (1,), "TO_TIMESTAMP": (1,), "TO_DATE": (1,), "UNIX_TIMESTAMP": (1,), "FROM_UNIXTIME": (1,),
    "TO_TIMESTAMP_LTZ": (1, 2), "FLOOR": (1,), "CEIL": (1,), "ENCODE": (1,), "DECODE": (1,),
    "JSON_VALUE": (1, 2, 3, 5), "JSON_QUERY": (1, 2, 3, 4, 5), "JSON_EXISTS": (1, 2), "IS JSON": (1,),
    "JSON_OBJECT": (0, *range(1, 20, 2)), "JSON_ARRAY": (0,), ".": (1,),
}  # fmt: skip
#: Functions that give a value for NULL.
NOT_STRICT = {"IS NULL", "IS NOT NULL", "IS TRUE", "IS FALSE", "IS DISTINCT FROM", "IS NOT DISTINCT FROM",
              "IS_ALPHA", "IS_DIGIT", "IS_DECIMAL", "IS JSON", "JSON_OBJECT", "JSON_ARRAY",
              "ARRAY", "MAP", "ROW"}  # fmt: skip


def _shown(value: object) -> str:
    if isinstance(value, str) and value.startswith("error: "):
        return value
    return json.dumps(json_value(value), ensure_ascii=False)


class _Lifted:
    """An expression whose constants became columns of a frame."""

    def __init__(self, expr: Expr, *, null: bool = False) -> None:
        self.columns: dict[str, pl.Series] = {}
        self._null = null
        self.expr = self._lift(expr)
        self.frame = pl.DataFrame(self.columns) if self.columns else pl.DataFrame({"$": [1, 1]})

    def _lift(self, expr: Expr) -> Expr:
        match expr:
            case Literal() if expr.type.kind is not Kind.NULL:
                name = f"c{len(self.columns)}"
                value = None if self._null else expr.value
                if expr.type.kind in (Kind.INTERVAL, Kind.TIMESTAMP_LTZ):
                    return expr
                self.columns[name] = pl.Series([value, value], dtype=polars_type(expr.type))
                return ColumnRef(expr.type, name=name)
            case Call():
                fixed = CONSTANT_PLACES.get(expr.function, ())
                if expr.function == "TRIM" and len(expr.args) == 3:
                    fixed = (0, 1)
                args = tuple(a if i in fixed else self._lift(a) for i, a in enumerate(expr.args))
                return Call(expr.type, function=expr.function, args=args)
            case Cast():
                return Cast(expr.type, arg=self._lift(expr.arg), lenient=expr.lenient)
            case Case():
                return Case(
                    expr.type,
                    branches=tuple((self._lift(c), self._lift(v)) for c, v in expr.branches),
                    otherwise=None if expr.otherwise is None else self._lift(expr.otherwise),
                )
        return expr


@pytest.mark.parametrize(("name", "sql", "expected"), EXAMPLES, ids=[sql for _, sql, _ in EXAMPLES])
def test_the_example_in_the_reference_holds(name: str, sql: str, expected: str) -> None:
    expr = bind_text(sql, [])
    assert _shown(evaluate_bound(expr, pl.DataFrame({"$": [1]}))[0]) == expected


@pytest.mark.parametrize(("name", "sql", "expected"), EXAMPLES, ids=[sql for _, sql, _ in EXAMPLES])
def test_the_example_holds_over_columns_and_over_no_rows(name: str, sql: str, expected: str) -> None:
    lifted = _Lifted(bind_text(sql, []))
    assert [_shown(v) for v in evaluate_bound(lifted.expr, lifted.frame)] == [expected, expected]
    assert evaluate_bound(lifted.expr, lifted.frame.clear()) == []


@pytest.mark.parametrize(("name", "sql", "expected"), EXAMPLES, ids=[sql for _, sql, _ in EXAMPLES])
def test_nulls_everywhere_give_null_and_no_error(name: str, sql: str, expected: str) -> None:
    lifted = _Lifted(bind_text(sql, []), null=True)
    if not lifted.columns or any(isinstance(e, Call) and e.function in NOT_STRICT for e in _calls(lifted.expr)):
        return
    assert evaluate_bound(lifted.expr, lifted.frame) == [None, None]


def _calls(expr: Expr) -> list[Expr]:
    found = [expr]
    for child in expr.args if isinstance(expr, Call) else ():
        found += _calls(child)
    return found


def test_every_entry_has_an_example_a_usage_and_a_sentence() -> None:
    for entry in FUNCTIONS.values():
        assert entry.examples, entry.name
        assert entry.usage
        assert entry.doc.endswith("."), entry.name
    assert sum(len(entries) for entries in FAMILIES.values()) == len(FUNCTIONS) >= 80


def test_aliases_lead_to_entries_and_names_are_not_case_sensitive() -> None:
    for alias, name in ALIASES.items():
        assert function_named(alias) is FUNCTIONS[name]
        assert alias not in FUNCTIONS
    assert function_named("upper") is FUNCTIONS["UPPER"]


def test_the_reference_page_names_every_entry() -> None:
    page = functions_page()
    for entry in FUNCTIONS.values():
        assert entry.usage.replace("|", "\\|") in page
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    assert all(line.replace("\\|", "").count("|") == 4 for line in rows if "→" in line)
