"""Typed expressions to Polars: a value and an error mask each, so that a bad row is rejected and not its batch.

Only branches that SQL evaluates may fail: CASE, AND, OR and COALESCE mask what they do not reach.
"""

from __future__ import annotations

from decimal import Decimal

import polars as pl

from penstock.codecs.frames import polars_type
from penstock.expressions.casts import cast_value, fitted
from penstock.expressions.cycle_clock import NOW, now
from penstock.expressions.functions import function_named
from penstock.expressions.nodes import Call, Case, Cast, ColumnRef, Expr, Literal
from penstock.expressions.table import Compiled, OwnCall
from penstock.model.types import Kind

__all__ = ["Compiled", "compile_expression"]


def compile_expression(expr: Expr) -> Compiled:
    """The value (a Polars expression of `polars_type(expr.type)`) and the error mask of a bound expression.

    The mask is a String expression: a code such as `division_by_zero` or `cast_failed` in rows that fail, else null;
    None if no row can fail. Where a row fails, its value means nothing. A constant expression is one value long:
    broadcast it (`with_columns`, or beside a column in `select`).
    """
    match expr:
        case ColumnRef():
            return Compiled(pl.col(expr.name))
        case Literal():
            return Compiled(_literal(expr))
        case Cast():
            return _cast(expr)
        case Case():
            return _case(expr)
        case OwnCall():
            return expr.entry.build(expr, [compile_expression(a) for a in expr.args])
        case Call(function=function) if function == NOW:
            return Compiled(now())
        case Call():
            return function_named(expr.function).build(expr, [compile_expression(a) for a in expr.args])
    raise TypeError(f"{type(expr).__name__} cannot be compiled")


def _literal(expr: Literal) -> pl.Expr:
    wanted = polars_type(expr.type)
    if expr.value is None:
        return pl.lit(None, dtype=wanted)
    if expr.type.kind is Kind.DECIMAL:
        return pl.lit(Decimal(str(expr.value)), dtype=wanted)
    if expr.type.kind is Kind.INTERVAL:
        return pl.lit(expr.value, dtype=pl.Int64).cast(wanted)
    if expr.type.kind is Kind.TIMESTAMP_LTZ:
        return pl.lit(expr.value, dtype=pl.Datetime("ms")).dt.replace_time_zone("UTC")
    return pl.lit(expr.value, dtype=wanted)


def _cast(expr: Cast) -> Compiled:
    arg = compile_expression(expr.arg)
    made = cast_value(arg.value, expr.arg.type, expr.type)
    if expr.length is not None:
        made = Compiled(fitted(made.value, expr.type.kind, expr.length, padded=expr.padded), made.error)
    if made.error is None:
        return Compiled(made.value, arg.error)
    if expr.lenient:
        return Compiled(pl.when(made.error.is_null()).then(made.value), arg.error)
    return Compiled(made.value, made.error if arg.error is None else pl.coalesce(arg.error, made.error))


def _case(expr: Case) -> Compiled:
    branches = [(compile_expression(c), compile_expression(v)) for c, v in expr.branches]
    last = compile_expression(expr.otherwise) if expr.otherwise is not None else None
    value = last.value if last is not None else pl.lit(None, dtype=polars_type(expr.type))
    error = last.error if last is not None else None
    for condition, result in reversed(branches):
        value = pl.when(condition.value).then(result.value).otherwise(value)
        if error is not None or result.error is not None:
            taken = pl.lit(None, dtype=pl.String) if result.error is None else result.error
            missed = pl.lit(None, dtype=pl.String) if error is None else error
            error = pl.when(condition.value).then(taken).otherwise(missed)
        if condition.error is not None:
            error = condition.error if error is None else pl.coalesce(condition.error, error)
    return Compiled(value, error)
