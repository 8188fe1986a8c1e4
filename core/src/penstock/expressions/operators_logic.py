"""Comparison and logic: three-valued, lazy from left to right, NaN as in Java."""

from __future__ import annotations

import re
from collections.abc import Sequence

import polars as pl

from penstock.codecs.frames import polars_type
from penstock.expressions.coercion import Mismatch, common_type
from penstock.expressions.nodes import Call, Expr, Literal
from penstock.expressions.table import (
    BOOL,
    CONSTANT_TEXT,
    TEXT,
    Compiled,
    Function,
    Typing,
    merge_errors,
    plain,
    takes,
    typed,
)
from penstock.model.types import BOOLEAN, DataType, Kind

__all__ = ["FUNCTIONS", "like_pattern"]

_TIMES = (Kind.DATE, Kind.TIME, Kind.TIMESTAMP, Kind.TIMESTAMP_LTZ)
_FLOATS = (Kind.FLOAT, Kind.DOUBLE)
#: What a constant on the left becomes on the right: Polars 2.1 gives `constant = CASE ...` one row where every row of
#: a batch takes the same branch.
_MIRRORED = {"=": "=", "<>": "<>", "<": ">", "<=": ">=", ">": "<", ">=": "<="}


def comparable_type(args: Sequence[Expr]) -> DataType:
    """The type that operands of a comparison are converted to; a text constant beside a time becomes a time."""
    kinds = [a.type for a in args if not (isinstance(a, Literal) and isinstance(a.value, str))]
    times = [t for t in kinds if t.kind in _TIMES]
    found = common_type(kinds) if times else common_type(a.type for a in args)
    if found is None:
        shown = " with ".join(dict.fromkeys(str(a.type) for a in args))
        target = next((a.type for a in args if a.type.kind not in (Kind.STRING, Kind.NULL)), "STRING")
        raise Mismatch(f"cannot compare {shown}.", f"Write CAST(x AS {target}) around one of them.")
    if found.is_nested:
        raise Mismatch(f"cannot compare {found} as a whole.", "Compare elements or fields: a[1] = 5.")
    return found


def _compare(args: Sequence[Expr]) -> Typing:
    if len(args) < 2:
        raise Mismatch("needs two operands.", "Write a = b, for example.")
    target = comparable_type(args)
    return Typing((target,) * len(args), BOOLEAN)


def _nan(expr: Expr, value: pl.Expr) -> pl.Expr | None:
    """Where `value` is NaN; None when it cannot be."""
    if expr.type.kind not in _FLOATS or isinstance(expr, Literal):
        return None
    return value.is_nan()


def equal(left: Expr, right: Expr, a: pl.Expr, b: pl.Expr) -> pl.Expr:
    """a = b, where NaN equals nothing."""
    if not a.meta.root_names():
        left, right, a, b = right, left, b, a
    nan = _nan(left, a)
    return a == b if nan is None or isinstance(right, Literal) else (a == b) & (~nan | b.is_null())


def _comparison(call: Call, values: Sequence[pl.Expr]) -> Compiled:
    (left, right), (a, b), function = call.args, values, call.function
    if not a.meta.root_names():
        left, right, a, b, function = right, left, b, a, _MIRRORED[function]
    left_nan, right_nan = _nan(left, a), _nan(right, b)
    match function:
        case "=":
            found = equal(left, right, a, b)
        case "<>":
            found = a != b if left_nan is None else (a != b) | (left_nan & b.is_not_null())
        case "<":
            found = a < b if right_nan is None else (a < b) & (~right_nan | a.is_null())
        case "<=":
            found = a <= b if right_nan is None else (a <= b) & (~right_nan | a.is_null())
        case ">":
            found = a > b if left_nan is None else (a > b) & (~left_nan | b.is_null())
        case _:
            found = a >= b if left_nan is None else (a >= b) & (~left_nan | b.is_null())
    return Compiled(found)


def _same(call: Call, values: Sequence[pl.Expr]) -> pl.Expr:
    """IS NOT DISTINCT FROM: never NULL."""
    (left, right), (a, b) = call.args, values
    return equal(left, right, a, b).fill_null(value=False) | (a.is_null() & b.is_null())


def _booleans(args: Sequence[Expr]) -> Typing:
    for arg in args:
        if BOOL.accepts(arg) is None:
            raise Mismatch(f"needs BOOLEAN operands, not {arg.type}.", BOOL.remedy)
    return Typing((BOOLEAN,) * len(args), BOOLEAN)


def _and(_: Call, args: Sequence[Compiled]) -> Compiled:
    return _lazy(args, stop=False)


def _or(_: Call, args: Sequence[Compiled]) -> Compiled:
    return _lazy(args, stop=True)


def _lazy(args: Sequence[Compiled], *, stop: bool) -> Compiled:
    """Operands from left to right; one that equals `stop` decides, and what stands behind it is not evaluated."""
    value = args[0].value
    errors = [args[0].error]
    for arg in args[1:]:
        if arg.error is not None:
            reached = ~value if stop else value
            errors.append(pl.when(reached.fill_null(value=True)).then(arg.error))
        value = (value | arg.value) if stop else (value & arg.value)
    return Compiled(value, merge_errors(errors))


def _in(call: Call, args: Sequence[Compiled]) -> Compiled:
    """x IN (...): NULL if there is no match and a NULL among the operands."""
    probe, items = call.args[0], call.args[1:]
    x = args[0].value
    if x.meta.root_names() and all(isinstance(item, Literal) for item in items):  # Polars: no `is_in` of a constant
        values = [item.value for item in items if isinstance(item, Literal)]
        kept = pl.Series([v for v in values if v is not None], dtype=polars_type(probe.type))
        found = x.is_in(kept.implode())
        if len(kept) < len(values):
            found = pl.when(found).then(statement=True)
        return Compiled(found, args[0].error)
    found = pl.lit(value=False)
    for item, arg in zip(items, args[1:], strict=True):
        found = found | equal(probe, item, x, arg.value)
    return Compiled(found, merge_errors(a.error for a in args))


def like_pattern(pattern: str, escape: str | None) -> tuple[str, str]:
    """('equal' | 'prefix' | 'suffix' | 'contains' | 'regex', text) of a LIKE pattern. Mismatch for a stray escape."""
    if escape is not None and len(escape) != 1:
        raise Mismatch("takes one character as ESCAPE.", "Write ESCAPE '!'.")
    parts: list[str] = [""]  # text between wildcards; '%' and '_' are kept as own elements
    at = 0
    while at < len(pattern):
        character = pattern[at]
        if character == escape:
            at += 1
            if at == len(pattern) or pattern[at] not in ("%", "_", escape):
                raise Mismatch("has an escape character that escapes nothing.", f"Escape only %, _ and {escape}.")
            parts[-1] += pattern[at]
        elif character in "%_":
            parts += [character, ""] if character == "_" else ["%%", ""]
        else:
            parts[-1] += character
        at += 1
    match parts:
        case [text]:
            return "equal", text
        case [text, "%%", ""]:
            return "prefix", text
        case ["", "%%", text]:
            return "suffix", text
        case ["", "%%", text, "%%", ""]:
            return "contains", text
    wild = {"%%": ".*", "_": "."}
    body = "".join(wild[p] if i % 2 else re.escape(p) for i, p in enumerate(parts))
    return "regex", f"(?s)^{body}$"


def _like_check(args: Sequence[Expr]) -> Typing:
    typing = takes(BOOLEAN, TEXT, CONSTANT_TEXT, CONSTANT_TEXT, optional=1)(args)
    like_pattern(*_like_texts(args))
    return typing


def _like_texts(args: Sequence[Expr]) -> tuple[str, str | None]:
    texts = [str(a.value) for a in args[1:] if isinstance(a, Literal)]
    return texts[0], texts[1] if len(texts) > 1 else None


def _like(call: Call, values: Sequence[pl.Expr]) -> Compiled:
    kind, text = like_pattern(*_like_texts(call.args))
    match kind:
        case "equal":
            return Compiled(values[0] == pl.lit(text))
        case "prefix":
            return Compiled(values[0].str.starts_with(text))
        case "suffix":
            return Compiled(values[0].str.ends_with(text))
        case "contains":
            return Compiled(values[0].str.contains(text, literal=True))
        case _:
            return Compiled(values[0].str.contains(text))


def _any_value(args: Sequence[Expr]) -> Typing:
    if len(args) != 1:
        raise Mismatch("needs one operand.", "Write x IS NULL.")
    return Typing((args[0].type,), BOOLEAN)


def _comparison_entry(name: str, doc: str, *examples: tuple[str, str]) -> Function:
    return Function(name, f"a {name} b", doc, _compare, typed(_comparison), examples)


FUNCTIONS = (
    _comparison_entry("=", "True if both are equal; NULL if one is NULL. NaN equals nothing, itself included.",
                      ("1 = 1.0", "true"), ("NULL = 1", "null"), ("'a' = 'A'", "false")),
    _comparison_entry("<>", "True if both differ; NULL if one is NULL.", ("1 <> 2", "true"), ("1 <> NULL", "null")),
    _comparison_entry("<", "Less than. Text compares by its UTF-8 bytes.", ("1 < 2", "true"), ("'Z' < 'a'", "true")),
    _comparison_entry("<=", "Less than or equal.", ("2 <= 2", "true")),
    _comparison_entry(">", "Greater than.", ("2 > 2", "false"),
                      ("TIMESTAMP '2018-01-02 00:00:00' > '2018-01-01 00:00:00'", "true")),
    _comparison_entry(">=", "Greater than or equal.", ("2 >= 2", "true")),
    Function("IS DISTINCT FROM", "a IS DISTINCT FROM b", "As <>, but NULL counts as a value: never NULL.",
             _compare, typed(lambda call, v: Compiled(~_same(call, v))),
             (("1 IS DISTINCT FROM NULL", "true"), ("NULL IS DISTINCT FROM NULL", "false"))),
    Function("IS NOT DISTINCT FROM", "a IS NOT DISTINCT FROM b", "As =, but NULL counts as a value: never NULL.",
             _compare, typed(lambda call, v: Compiled(_same(call, v))),
             (("NULL IS NOT DISTINCT FROM NULL", "true"), ("1 IS NOT DISTINCT FROM 2", "false"))),
    Function("AND", "a AND b", "False if one is false, else NULL if one is NULL. What stands behind a false "
             "operand is "
             "not evaluated.", _booleans, _and,
             (("NULL AND FALSE", "false"), ("NULL AND TRUE", "null"), ("FALSE AND 1 / 0 = 1", "false"))),
    Function("OR", "a OR b", "True if one is true, else NULL if one is NULL. What stands behind a true operand is "
             "not "
             "evaluated.", _booleans, _or,
             (("NULL OR TRUE", "true"), ("NULL OR FALSE", "null"), ("TRUE OR 1 / 0 = 1", "true"))),
    Function("NOT", "NOT a", "NULL if a is NULL.", _booleans, plain(lambda a: ~a),
             (("NOT TRUE", "false"), ("NOT NULL IS NULL", "false"))),
    Function("IS NULL", "a IS NULL", "True if a is NULL. An empty text is not NULL.", _any_value,
             plain(lambda a: a.is_null()), (("NULL IS NULL", "true"), ("'' IS NULL", "false"))),
    Function("IS NOT NULL", "a IS NOT NULL", "True if a is not NULL.", _any_value, plain(lambda a: a.is_not_null()),
             (("1 IS NOT NULL", "true"),)),
    Function("IS TRUE", "a IS TRUE", "True if a is true, false if it is false or NULL.", takes(BOOLEAN, BOOL),
             plain(lambda a: a.fill_null(value=False)), (("(NULL = 1) IS TRUE", "false"), ("TRUE IS TRUE", "true"))),
    Function("IS FALSE", "a IS FALSE", "True if a is false, false if it is true or NULL.", takes(BOOLEAN, BOOL),
             plain(lambda a: ~a.fill_null(value=True)), (("(NULL = 1) IS FALSE", "false"), ("FALSE IS FALSE",
             "true"))),
    Function("IN", "a IN (b, c, ...)", "True if a equals one of the values; NULL if none is equal and a or one of "
             "them "
             "is NULL.", _compare, _in,
             (("2 IN (1, 2)", "true"), ("2 NOT IN (1, NULL)", "null"), ("NULL IN (1)", "null"))),
    Function("LIKE", "text LIKE 'pattern' [ESCAPE 'c']", "True if the whole text matches: % stands for any text, "
             "_ for "
             "one character. The pattern is a constant.", _like_check, typed(_like),
             (("'Onion Red' LIKE 'Onion%'", "true"), ("'100%' LIKE '100!%' ESCAPE '!'", "true"),
              ("'abc' NOT LIKE 'a_'", "true"), ("CAST(NULL AS STRING) LIKE 'a'", "null"))),
)  # fmt: skip
