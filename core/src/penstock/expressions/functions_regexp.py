r"""Functions of regular expressions and SIMILAR TO. Patterns are constants, written as in Java (`java_regex`).

Semantics: Flink 2.3, "System (Built-in) Functions", string and comparison functions
(https://nightlies.apache.org/flink/flink-docs-release-2.3/docs/sql/functions/built-in-functions/). Places count
characters; an empty match right behind another match is not found.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from penstock.expressions.coercion import Mismatch
from penstock.expressions.java_regex import group_count, polars_pattern, similar_pattern
from penstock.expressions.nodes import Call, Expr, Literal
from penstock.expressions.table import (
    CONSTANT_TEXT,
    INTEGER,
    TEXT,
    Check,
    Compiled,
    Function,
    Typing,
    takes,
    typed,
)
from penstock.model.types import BOOLEAN, INT, STRING, DataType

__all__ = ["FUNCTIONS"]


def _constant(expr: Expr) -> object:
    return expr.value if isinstance(expr, Literal) else None


def _pattern(args: Sequence[Expr]) -> str:
    return polars_pattern(str(_constant(args[1])))


def _check(result: DataType, *more: object) -> Check:
    """(text, 'pattern', more...); the pattern is one that can be translated."""
    base = takes(result, TEXT, CONSTANT_TEXT, *more)  # type: ignore[arg-type]  # passed through unchanged

    def check(args: Sequence[Expr]) -> Typing:
        typing = base(args)
        _pattern(args)
        return typing

    return check


def _regexp(call: Call, values: Sequence[pl.Expr]) -> Compiled:
    if not _constant(call.args[1]):  # an empty pattern matches nothing here, unlike elsewhere
        return Compiled(pl.when(values[0].is_not_null()).then(statement=False))
    return Compiled(values[0].str.contains(_pattern(call.args)))


def _replace(call: Call, values: Sequence[pl.Expr]) -> Compiled:
    new = str(_constant(call.args[2]))
    return Compiled(values[0].str.replace_all(_pattern(call.args), new.replace("$", "$$")))


def _extract(call: Call, values: Sequence[pl.Expr]) -> Compiled:
    group = _constant(call.args[2]) if len(call.args) > 2 else 0
    return Compiled(values[0].str.extract(_pattern(call.args), int(str(group))))


def _extract_check(args: Sequence[Expr]) -> Typing:
    typing = takes(STRING, TEXT, CONSTANT_TEXT, INTEGER, optional=1)(args)
    pattern = _pattern(args)
    if len(args) > 2:
        group = _constant(args[2])
        if not isinstance(group, int) or group < 0:
            raise Mismatch("takes a constant group number.", "Write REGEXP_EXTRACT(text, 'a(b)', 1).")
        if group > group_count(pattern):
            raise Mismatch(f"has no group {group} in its pattern.", "Count the opening parentheses.")
    return typing


def _instr(call: Call, values: Sequence[pl.Expr]) -> Compiled:
    text = values[0]
    at = text.str.find(_pattern(call.args))  # in bytes
    before = text.cast(pl.Binary).bin.slice(0, at).cast(pl.String, strict=False).str.len_chars().cast(pl.Int32)
    found = pl.when(at.is_null()).then(pl.lit(0, dtype=pl.Int32)).otherwise(before + 1)
    return Compiled(pl.when(text.is_not_null()).then(found))


def _similar_check(args: Sequence[Expr]) -> Typing:
    typing = takes(BOOLEAN, TEXT, CONSTANT_TEXT, CONSTANT_TEXT, optional=1)(args)
    _similar_pattern(args)
    return typing


def _similar_pattern(args: Sequence[Expr]) -> str:
    escape = str(_constant(args[2])) if len(args) > 2 else None
    return polars_pattern(similar_pattern(str(_constant(args[1])), escape))


FUNCTIONS = (
    Function("SIMILAR TO", "text SIMILAR TO 'pattern' [ESCAPE 'c']", "True if the whole text matches: % stands for "
             "any text, _ for one character, and | * + ? {n} ( ) [ ] are those of regular expressions.",
             _similar_check, typed(lambda call, v: Compiled(v[0].str.contains(_similar_pattern(call.args)))),
             (("'lot 42' SIMILAR TO '(lot|bag) [0-9]+'", "true"), ("'lot 42' SIMILAR TO 'lot'", "false"),
              ("'a7' NOT SIMILAR TO '[[:ALPHA:]]_'", "false"), ("'5%' SIMILAR TO '_!%' ESCAPE '!'", "true"))),
    Function("REGEXP", "REGEXP(text, 'pattern')", "True if a part of the text matches; false for an empty pattern.",
             _check(BOOLEAN), typed(_regexp),
             (("REGEXP('lot 42', '[0-9]+')", "true"), ("REGEXP('lot', '^\\d')", "false"),
              ("REGEXP('lot', '')", "false"))),
    Function("REGEXP_COUNT", "REGEXP_COUNT(text, 'pattern')", "How often the pattern is found.", _check(INT),
             typed(lambda call, v: Compiled(v[0].str.count_matches(_pattern(call.args)).cast(pl.Int32))),
             (("REGEXP_COUNT('a1b22c', '\\d+')", "2"), ("REGEXP_COUNT('abc', '\\d')", "0"))),
    Function("REGEXP_EXTRACT", "REGEXP_EXTRACT(text, 'pattern'[, group])",
             "The first match, or a group of it; NULL if there is none.", _extract_check, typed(_extract),
             (("REGEXP_EXTRACT('foothebar', 'foo(.*?)(bar)', 2)", '"bar"'), ("REGEXP_EXTRACT('x', 'y')", "null"))),
    Function("REGEXP_INSTR", "REGEXP_INSTR(text, 'pattern')", "The place of the first match, from 1; 0 if there is "
             "none.", _check(INT), typed(_instr),
             (("REGEXP_INSTR('né 42', '\\d')", "4"), ("REGEXP_INSTR('abc', '\\d')", "0"))),
    Function("REGEXP_REPLACE", "REGEXP_REPLACE(text, 'pattern', 'new')",
             "Every match replaced by new, taken literally.", _check(STRING, CONSTANT_TEXT), typed(_replace),
             (("REGEXP_REPLACE('a1b22', '[0-9]+', '#')", '"a#b#"'),
              ("REGEXP_REPLACE('ab', '(a)', '$1$1')", '"$1$1b"'))),
    Function("REGEXP_SUBSTR", "REGEXP_SUBSTR(text, 'pattern')", "The first match; NULL if there is none.",
             _check(STRING), typed(lambda call, v: Compiled(v[0].str.extract(_pattern(call.args), 0))),
             (("REGEXP_SUBSTR('lot 42, bag 7', '[a-z]+ \\d+')", '"lot 42"'), ("REGEXP_SUBSTR('x', 'y')", "null"))),
)  # fmt: skip
