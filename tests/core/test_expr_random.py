"""Random expressions over random tables against a plain reading of the semantics, one row at a time.

A tree is its SQL text and a Python function of a row. The readings know three-valued logic, that AND, OR, CASE and
COALESCE compute only what they need, from left to right, that integers wrap around in 64 bits and divide towards
zero, and that a division by zero fails its row and no other.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from core.expression_eval import Table, evaluate
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.model import types

Row = dict[str, Any]


@dataclass(frozen=True)
class Tree:
    """An expression; `of` raises ZeroDivisionError where its row fails."""

    sql: str
    of: Callable[[Row], Any]

    def __repr__(self) -> str:
        return self.sql


def _strict(rule: Callable[..., Any]) -> Callable[..., Callable[[Row], Any]]:
    """NULL where an argument is NULL; every argument is computed."""

    def reading(*trees: Tree) -> Callable[[Row], Any]:
        def of(row: Row) -> Any:
            values = [tree.of(row) for tree in trees]
            return None if None in values else rule(*values)

        return of

    return reading


def _wrapped(value: int) -> int:
    return (value + 2**63) % 2**64 - 2**63


def _divided(a: int, b: int) -> int:
    return _wrapped(abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1))


def _and(a: Tree, b: Tree) -> Callable[[Row], Any]:
    def of(row: Row) -> Any:
        left = a.of(row)
        if left is False:
            return False
        right = b.of(row)
        return False if right is False else None if left is None or right is None else True

    return of


def _or(a: Tree, b: Tree) -> Callable[[Row], Any]:
    def of(row: Row) -> Any:
        left = a.of(row)
        if left is True:
            return True
        right = b.of(row)
        return True if right is True else None if left is None or right is None else False

    return of


def _case(condition: Tree, yes: Tree, no: Tree) -> Tree:
    return Tree(
        f"CASE WHEN {condition} THEN {yes} ELSE {no} END",
        lambda row: yes.of(row) if condition.of(row) is True else no.of(row),
    )


def _coalesce(a: Tree, b: Tree) -> Tree:
    def of(row: Row) -> Any:
        first = a.of(row)
        return b.of(row) if first is None else first

    return Tree(f"COALESCE({a}, {b})", of)


def _nullif(a: Tree, b: Tree) -> Tree:
    def of(row: Row) -> Any:
        first, second = a.of(row), b.of(row)
        return None if first is not None and first == second else first

    return Tree(f"NULLIF({a}, {b})", of)


def _call(form: str, rule: Callable[..., Any], *trees: Tree) -> Tree:
    return Tree(form.format(*trees), _strict(rule)(*trees))


def _column(name: str) -> Tree:
    return Tree(name, lambda row: row[name])


def _like(pattern: str) -> Callable[[str], bool]:
    parts = {"%": ".*", "_": "."}
    compiled = re.compile("".join(parts.get(c, re.escape(c)) for c in pattern), re.DOTALL)
    return lambda text: compiled.fullmatch(text) is not None


_ARITHMETIC: list[tuple[str, Callable[[int, int], int]]] = [
    ("({} + {})", lambda a, b: _wrapped(a + b)),
    ("({} - {})", lambda a, b: _wrapped(a - b)),
    ("({} * {})", lambda a, b: _wrapped(a * b)),
    ("({} / {})", _divided),
    ("MOD({}, {})", lambda a, b: _wrapped(a - b * _divided(a, b))),
]
_COMPARISONS: list[tuple[str, Callable[[Any, Any], bool]]] = [
    ("({} = {})", lambda a, b: a == b),
    ("({} <> {})", lambda a, b: a != b),
    ("({} < {})", lambda a, b: a < b),
    ("({} >= {})", lambda a, b: a >= b),
]
_PATTERNS = ["%", "a%", "%b_", "_", "A", ""]


def integers(depth: int) -> st.SearchStrategy[Tree]:
    """Of BIGINT."""
    leaves = st.one_of(
        st.sampled_from([_column("i"), _column("j")]),
        st.integers(-9, 9).map(lambda n: Tree(f"CAST({n} AS BIGINT)", lambda _: n)),
    )
    if depth == 0:
        return leaves
    below = integers(depth - 1)
    return st.one_of(
        leaves,
        st.builds(lambda form, a, b: _call(form[0], form[1], a, b), st.sampled_from(_ARITHMETIC), below, below),
        st.builds(lambda a: _call("(- {})", lambda x: _wrapped(-x), a), below),
        st.builds(_case, booleans(depth - 1), below, below),
        st.builds(_coalesce, below, below),
        st.builds(_nullif, below, below),
        st.builds(lambda s: _call("CAST(CHAR_LENGTH({}) AS BIGINT)", len, s), texts(depth - 1)),
    )


def texts(depth: int) -> st.SearchStrategy[Tree]:
    """Of STRING."""
    leaves = st.one_of(
        st.sampled_from([_column("s"), _column("t")]),
        st.sampled_from(["", "a", "it's", "Zé"]).map(
            lambda text: Tree("CAST('" + text.replace("'", "''") + "' AS STRING)", lambda _: text)
        ),
    )
    if depth == 0:
        return leaves
    below = texts(depth - 1)
    return st.one_of(
        leaves,
        st.builds(lambda a, b: _call("({} || {})", lambda x, y: x + y, a, b), below, below),
        st.builds(lambda a: _call("UPPER({})", str.upper, a), below),
        st.builds(lambda a, n: _call(f"SUBSTRING({{}}, {n})", lambda x: x[n - 1 :], a), below, st.integers(1, 4)),
        st.builds(lambda n: _call("CAST({} AS STRING)", str, n), integers(depth - 1)),
        st.builds(_case, booleans(depth - 1), below, below),
        st.builds(_coalesce, below, below),
    )


def booleans(depth: int) -> st.SearchStrategy[Tree]:
    """Of BOOLEAN."""
    leaves = st.sampled_from(
        [_column("p"), _column("q"), Tree("TRUE", lambda _: True), Tree("FALSE", lambda _: False)]
    )
    if depth == 0:
        return leaves
    below, numbers, words = booleans(depth - 1), integers(depth - 1), texts(depth - 1)
    return st.one_of(
        leaves,
        st.builds(lambda a, b: Tree(f"({a} AND {b})", _and(a, b)), below, below),
        st.builds(lambda a, b: Tree(f"({a} OR {b})", _or(a, b)), below, below),
        st.builds(lambda a: _call("(NOT {})", lambda x: not x, a), below),
        st.builds(lambda a: Tree(f"({a} IS NULL)", lambda row: a.of(row) is None), numbers),
        st.builds(lambda a: Tree(f"({a} IS NOT TRUE)", lambda row: a.of(row) is not True), below),
        st.builds(lambda form, a, b: _call(form[0], form[1], a, b), st.sampled_from(_COMPARISONS), numbers, numbers),
        st.builds(lambda form, a, b: _call(form[0], form[1], a, b), st.sampled_from(_COMPARISONS), words, words),
        st.builds(lambda a: _call("({} IN (-1, 0, 2))", lambda x: x in (-1, 0, 2), a), numbers),
        st.builds(lambda a, p: _call(f"({{}} LIKE '{p}')", _like(p), a), words, st.sampled_from(_PATTERNS)),
    )


ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "i": st.one_of(st.none(), st.integers(-3, 3), st.sampled_from([2**40, -(2**62)])),
            "j": st.one_of(st.none(), st.integers(-3, 3)),
            "s": st.one_of(st.none(), st.sampled_from(["", "a", "ab", "Abc", "b%", "é😀"])),
            "t": st.one_of(st.none(), st.sampled_from(["", "a", "abc"])),
            "p": st.sampled_from([True, False, None]),
            "q": st.sampled_from([True, False, None]),
        }
    ),
    min_size=1,
    max_size=12,
)
KINDS = {"i": types.BIGINT, "j": types.BIGINT, "s": types.STRING, "t": types.STRING, "p": types.BOOLEAN,
         "q": types.BOOLEAN}  # fmt: skip


def _expected(tree: Tree, row: Row) -> object:
    try:
        return tree.of(row)
    except ZeroDivisionError:
        return "error: division_by_zero"


@settings(max_examples=400, deadline=None)
@given(st.one_of(integers(3), texts(3), booleans(3)), ROWS)
def test_a_random_expression_gives_what_a_plain_reading_gives_for_every_row(tree: Tree, rows: list[Row]) -> None:
    table: Table = {name: (kind, [row[name] for row in rows]) for name, kind in KINDS.items()}
    assert evaluate(tree.sql, table) == [_expected(tree, row) for row in rows]
