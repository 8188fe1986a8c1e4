"""Functions that choose among their arguments. Arguments that are not chosen are not evaluated."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from penstock.codecs.frames import polars_type
from penstock.expressions.coercion import Mismatch, common_type
from penstock.expressions.nodes import Call, Expr
from penstock.expressions.operators_logic import comparable_type, equal
from penstock.expressions.table import BOOL, Compiled, Function, Typing, merge_errors, typed
from penstock.model.types import BOOLEAN, Kind

__all__ = ["FUNCTIONS"]


def _alike(args: Sequence[Expr], *, least: int) -> Typing:
    if len(args) < least:
        raise Mismatch(f"takes {least} or more arguments, not {len(args)}.", "Check the arguments.")
    found = common_type(a.type for a in args)
    if found is None:
        kinds = ", ".join(dict.fromkeys(str(a.type) for a in args))
        raise Mismatch(f"takes arguments of one type, not {kinds}.", "CAST them to one type.")
    return Typing((found,) * len(args), found)


def _coalesce(_: Call, args: Sequence[Compiled]) -> Compiled:
    errors: list[pl.Expr | None] = []
    empty: pl.Expr | None = None  # rows in which everything so far was NULL
    for arg in args:
        if arg.error is not None:
            errors.append(arg.error if empty is None else pl.when(empty).then(arg.error))
        empty = arg.value.is_null() if empty is None else empty & arg.value.is_null()
    return Compiled(pl.coalesce([a.value for a in args]), merge_errors(errors))


def _ifnull_check(args: Sequence[Expr]) -> Typing:
    if len(args) != 2:
        raise Mismatch(f"takes 2 arguments, not {len(args)}.", "For more write COALESCE(a, b, c).")
    return _alike(args, least=2)


def _if_check(args: Sequence[Expr]) -> Typing:
    if len(args) != 3:
        raise Mismatch(f"takes 3 arguments, not {len(args)}.", "Write IF(condition, a, b).")
    if BOOL.accepts(args[0]) is None:
        raise Mismatch(f"takes a condition first, not {args[0].type}.", BOOL.remedy)
    rest = _alike(args[1:], least=2)
    return Typing((BOOLEAN, *rest.arguments), rest.result)


def _if(call: Call, args: Sequence[Compiled]) -> Compiled:
    condition, yes, no = args
    value = pl.when(condition.value).then(yes.value).otherwise(no.value)
    none = pl.lit(None, dtype=pl.String)
    error = condition.error
    if yes.error is not None or no.error is not None:
        branch = pl.when(condition.value).then(none if yes.error is None else yes.error)
        masked = branch.otherwise(none if no.error is None else no.error)
        error = masked if error is None else pl.coalesce(error, masked)
    return Compiled(value.cast(polars_type(call.type)), error)


def _nullif_check(args: Sequence[Expr]) -> Typing:
    if len(args) != 2:
        raise Mismatch(f"takes 2 arguments, not {len(args)}.", "Write NULLIF(a, b).")
    target, own = comparable_type(args), args[0].type
    # Flink's type is that of `a`; where comparing it as the wider type could lose digits, the wider one stays.
    exact = own.kind is not Kind.NULL and (target.is_integer or target.kind is Kind.DECIMAL)
    return Typing((target, target), own if exact and own.is_numeric else target)


def _nullif(call: Call, values: Sequence[pl.Expr]) -> Compiled:
    (left, right), (a, b) = call.args, values
    same = equal(left, right, a, b).fill_null(value=False)
    return Compiled(pl.when(~same).then(a.cast(polars_type(call.type))))


def _extreme(call: Call, values: Sequence[pl.Expr]) -> Compiled:
    """NULL if any argument is NULL."""
    pick = pl.max_horizontal if call.function == "GREATEST" else pl.min_horizontal
    if call.type.kind.value in ("STRING", "BYTES", "BOOLEAN"):
        return Compiled(_folded(call.function, values))
    missing = pl.any_horizontal([v.is_null() for v in values])
    return Compiled(pl.when(~missing).then(pick(list(values))))


def _folded(function: str, values: Sequence[pl.Expr]) -> pl.Expr:
    best = values[0]
    for value in values[1:]:
        better = best < value if function == "GREATEST" else best > value
        if not best.meta.root_names():  # a constant on the left: see `operators_logic._MIRRORED`
            better = value > best if function == "GREATEST" else value < best
        best = pl.when(better).then(value).when(~better).then(best)
    return best


def _extreme_check(args: Sequence[Expr]) -> Typing:
    typing = _alike(args, least=1)
    if typing.result.is_nested:
        raise Mismatch(f"compares plain values, not {typing.result}.", "Write ARRAY_MAX(a) or ARRAY_MIN(a).")
    return typing


FUNCTIONS = (
    Function("COALESCE", "COALESCE(a, b, ...)", "The first argument that is not NULL.",
             lambda args: _alike(args, least=1), _coalesce,
             (("COALESCE(NULL, 2, 1 / 0)", "2"), ("COALESCE(CAST(NULL AS INT), NULL)", "null"))),
    Function("IFNULL", "IFNULL(a, b)", "b if a is NULL, else a.", _ifnull_check, _coalesce,
             (("IFNULL(NULL, 5)", "5"), ("IFNULL('', 'x')", '""'))),
    Function("IF", "IF(condition, a, b)", "a if the condition is true, else b (also for NULL).", _if_check, _if,
             (("IF(1 > 2, 'a', 'b')", '"b"'), ("IF(NULL, 1 / 0, 2)", "2"))),
    Function("NULLIF", "NULLIF(a, b)", "NULL if a equals b, else a.", _nullif_check, typed(_nullif),
             (("NULLIF(5, 5)", "null"), ("NULLIF(5, 0)", "5"), ("NULLIF(5, NULL)", "5"))),
    Function("GREATEST", "GREATEST(a, b, ...)", "The greatest argument; NULL if one is NULL.", _extreme_check,
             typed(_extreme), (("GREATEST(1, 3, 2)", "3"), ("GREATEST(1, NULL)", "null"), ("GREATEST('a', 'B')",
             '"a"'))),
    Function("LEAST", "LEAST(a, b, ...)", "The least argument; NULL if one is NULL.", _extreme_check, typed(_extreme),
             (("LEAST(1.5, 2)", '"1.5"'), ("LEAST(NULL, 2)", "null"))),
)  # fmt: skip
