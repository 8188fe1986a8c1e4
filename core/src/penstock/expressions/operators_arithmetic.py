"""Arithmetic: + - * / % and the sign. Integers wrap and divide toward zero as in Java, decimals round HALF_UP, times
move by intervals.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import polars as pl

from penstock.codecs.frames import polars_type
from penstock.expressions import decimals
from penstock.expressions.coercion import (
    INTERVAL,
    Mismatch,
    addition_type,
    as_decimal,
    division_type,
    modulo_type,
    multiplication_type,
)
from penstock.expressions.nodes import Call, Expr, Literal
from penstock.expressions.table import Compiled, Function, Typing, failing, typed
from penstock.model.types import BIGINT, DATE, DataType, Kind, decimal

__all__ = ["FUNCTIONS", "quotient", "remainder", "truncated"]

_DAY_MS = 86_400_000


def _number_check(result_of: Callable[[DataType, DataType], DataType]) -> Callable[[Sequence[Expr]], Typing]:
    def check(args: Sequence[Expr]) -> Typing:
        if len(args) != 2:
            raise Mismatch("needs two operands.", "Write a + b, for example.")
        left, right = (a.type for a in args)
        if left.kind is Kind.NULL:
            left = right
        if right.kind is Kind.NULL:
            right = left
        for one in (left, right):
            if not one.is_numeric:
                raise Mismatch(f"needs numbers, not {one}.", _remedy(one))
        result = result_of(left, right)
        if result.kind is Kind.DECIMAL:
            return Typing((decimal(*as_decimal(left)), decimal(*as_decimal(right))), result)
        if result.is_integer and result_of is modulo_type:  # computed in the wider type, given in the divisor's
            wide = addition_type(left, right)
            return Typing((wide, wide), result)
        return Typing((result, result), result)

    return check


def _remedy(data_type: DataType) -> str:
    if data_type.kind is Kind.STRING:
        return "Write CAST(x AS DOUBLE), or || to join texts."
    if data_type.is_timestamp or data_type.kind in (Kind.DATE, Kind.TIME):
        return "Add an INTERVAL, or write TIMESTAMPDIFF(SECOND, a, b) for the time between two."
    return "Write CAST(x AS DOUBLE)."


def _plus(args: Sequence[Expr]) -> Typing:
    return _moved(args, symmetric=True) or _number_check(addition_type)(args)


def _minus(args: Sequence[Expr]) -> Typing:
    return _moved(args, symmetric=False) or _number_check(addition_type)(args)


def _moved(args: Sequence[Expr], *, symmetric: bool) -> Typing | None:
    """Times and intervals; None if neither operand is an interval."""
    if len(args) != 2 or Kind.INTERVAL not in (args[0].type.kind, args[1].type.kind):
        return None
    left, right = (a.type for a in args)
    if left.kind is right.kind:
        return Typing((INTERVAL, INTERVAL), INTERVAL)
    if left.kind is Kind.INTERVAL and not symmetric:
        raise Mismatch(f"cannot take {right} from an INTERVAL.", "Write the time first: ts - INTERVAL '1' DAY.")
    time, span = (args[1], args[0]) if left.kind is Kind.INTERVAL else (args[0], args[1])
    if time.type.is_timestamp:
        return Typing((left, right), time.type)
    if time.type.kind is Kind.DATE:
        if isinstance(span, Literal) and isinstance(span.value, int) and span.value % _DAY_MS == 0:
            return Typing((left, right), DATE)
        raise Mismatch("moves a DATE by whole days only.", "Write CAST(d AS TIMESTAMP(3)) + INTERVAL '1' HOUR.")
    raise Mismatch(f"cannot move {time.type} by an INTERVAL.", "Write CAST(x AS TIMESTAMP(3)).")


def _times(args: Sequence[Expr]) -> Typing:
    kinds = [a.type.kind for a in args]
    if len(args) == 2 and Kind.INTERVAL in kinds:
        other = args[1 - kinds.index(Kind.INTERVAL)].type
        if not other.is_integer:
            raise Mismatch(f"cannot multiply an INTERVAL with {other}.", "Multiply it with an integer.")
        return Typing(tuple(INTERVAL if a.type.kind is Kind.INTERVAL else BIGINT for a in args), INTERVAL)
    return _number_check(multiplication_type)(args)


def _add(call: Call, values: Sequence[pl.Expr]) -> Compiled:
    a, b = values
    if call.type.kind is Kind.DECIMAL:
        return Compiled(_decimal_sum(call, a, b, sign=1))
    return Compiled(a + b)


def _subtract(call: Call, values: Sequence[pl.Expr]) -> Compiled:
    a, b = values
    if call.type.kind is Kind.DECIMAL:
        return Compiled(_decimal_sum(call, a, b, sign=-1))
    return Compiled(a - b)


def _decimal_sum(call: Call, a: pl.Expr, b: pl.Expr, *, sign: int) -> pl.Expr:
    (p1, s1), (p2, s2) = (as_decimal(arg.type) for arg in call.args)
    precision, scale = as_decimal(call.type)
    if max(p1 - s1, p2 - s2) + max(s1, s2) + 1 <= 38:
        return (a + b if sign > 0 else a - b).cast(pl.Decimal(precision, scale))
    right = b if sign > 0 else -b
    return decimals.exactly(decimals.add, a, right, precision=precision, scale=scale)


def _multiply(call: Call, values: Sequence[pl.Expr]) -> Compiled:
    a, b = values
    if call.type.kind is not Kind.DECIMAL:
        return Compiled(a * b)
    (p1, _), (p2, _) = (as_decimal(arg.type) for arg in call.args)
    precision, scale = as_decimal(call.type)
    if p1 + p2 + 1 <= 38:
        product = decimals.unscaled(a) * decimals.unscaled(b)
        return Compiled(decimals.from_unscaled(product, precision, scale))
    return Compiled(decimals.exactly(decimals.multiply, a, b, precision=precision, scale=scale))


def _divide(call: Call, values: Sequence[pl.Expr]) -> Compiled:
    a, b = values
    if call.type.kind in (Kind.FLOAT, Kind.DOUBLE):
        return Compiled(quotient(a, b))
    error = _by_zero(call, a, b)
    if call.type.is_integer:
        return Compiled(truncated(a, b), error)
    (p1, s1), (_, s2) = (as_decimal(arg.type) for arg in call.args)
    precision, scale = as_decimal(call.type)
    shift = scale - s1 + s2
    if shift >= 0 and p1 + shift <= 37:
        ratio = decimals.divide_half_up(decimals.unscaled(a) * decimals.power(shift), decimals.unscaled(b))
        return Compiled(decimals.from_unscaled(ratio, precision, scale), error)
    return Compiled(decimals.exactly(decimals.divide, a, b, precision=precision, scale=scale), error)


def _modulo(call: Call, values: Sequence[pl.Expr]) -> Compiled:
    a, b = values
    if call.type.kind in (Kind.FLOAT, Kind.DOUBLE):
        return Compiled(_float_remainder(a, b, call.type))
    error = _by_zero(call, a, b)
    if call.type.is_integer:
        return Compiled(remainder(a, b).cast(polars_type(call.type)), error)
    precision, scale = as_decimal(call.type)
    (p1, s1), (p2, s2) = (as_decimal(arg.type) for arg in call.args)
    if max(p1 - s1, p2 - s2) + max(s1, s2) <= 38:
        left, right = (decimals.unscaled(v) * decimals.power(max(s1, s2) - s) for v, s in ((a, s1), (b, s2)))
        rest = left - decimals.divide_down(left, right) * right
        return Compiled(decimals.rescale(rest, from_scale=max(s1, s2), precision=precision, scale=scale), error)
    return Compiled(decimals.exactly(decimals.modulo, a, b, precision=precision, scale=scale), error)


def quotient(a: pl.Expr, b: pl.Expr) -> pl.Expr:
    """a / b of floating numbers, correctly rounded.

    Polars divides a column by a single value by multiplying with its reciprocal, which is one bit off for a third of
    all quotients; the divisor therefore becomes a column of the same length. (Adding 0 would lose the sign of -0.)
    """
    return a / (b * (a.is_null().cast(pl.Float32) * 0.0 + 1.0))


def truncated(a: pl.Expr, b: pl.Expr) -> pl.Expr:
    """Integer quotient toward zero (Polars floors); NULL for a divisor of 0."""
    floored = a // b
    return pl.when(((a < 0) != (b < 0)) & (floored * b != a)).then(floored + 1).otherwise(floored)


def remainder(a: pl.Expr, b: pl.Expr) -> pl.Expr:
    """Integer remainder with the sign of the dividend; NULL for a divisor of 0."""
    return a - truncated(a, b) * b


def _float_remainder(a: pl.Expr, b: pl.Expr, data_type: DataType) -> pl.Expr:
    """C's fmod, exact; Polars' own % loses digits."""

    def batch(pair: pl.Series) -> pl.Series:
        left, right = pair.struct.field("a"), pair.struct.field("b")
        with np.errstate(invalid="ignore"):
            rest = np.fmod(left.to_numpy(), right.to_numpy())
        found = pl.Series(rest, dtype=polars_type(data_type))
        return found.set(left.is_null() | right.is_null(), None)

    pair = pl.struct(a.alias("a"), b.alias("b"))
    return pair.map_batches(batch, return_dtype=polars_type(data_type), is_elementwise=True)


def _by_zero(call: Call, a: pl.Expr, b: pl.Expr) -> pl.Expr | None:
    divisor = call.args[1]
    if isinstance(divisor, Literal) and divisor.value:
        return None
    return failing("division_by_zero", (b == 0) & a.is_not_null())


def _sign_check(args: Sequence[Expr]) -> Typing:
    found = args[0].type
    if not (found.is_numeric or found.kind is Kind.INTERVAL):
        raise Mismatch(f"needs a number, not {found}.", _remedy(found))
    return Typing((found,), found)


FUNCTIONS = (
    Function("+", "a + b", "Sum. Integers wrap at the end of their range, as in Java. A time and an INTERVAL give a "
             "time.", _plus, typed(_add),
             (("1 + 2", "3"), ("1.5 + 2", '"3.5"'), ("2147483647 + 1", "-2147483648"), ("0.1 + 0.2", '"0.3"'),
              ("TIMESTAMP '2018-01-01 00:00:00' + INTERVAL '90' MINUTE", '"2018-01-01T01:30:00.000"'))),
    Function("-", "a - b", "Difference.", _minus, typed(_subtract),
             (("1 - 2", "-1"), ("DATE '2018-03-01' - INTERVAL '1' DAY", '"2018-02-28"'))),
    Function("*", "a * b", "Product. DECIMALs keep all digits of the product up to 38.", _times, typed(_multiply),
             (("3 * 4", "12"), ("1.25 * 0.5", '"0.625"'), ("2 * CAST(NULL AS INT)", "null"))),
    Function("/", "a / b", "Quotient. Integers divide toward zero and fail for a divisor of 0; DOUBLE gives "
             "Infinity or "
             "NaN (shown as null in JSON); DECIMAL rounds HALF_UP.", _number_check(division_type), typed(_divide),
             (("7 / 2", "3"), ("-7 / 2", "-3"), ("1 / 0", "error: division_by_zero"), ("7e0 / 2", "3.5"),
              ("1.0 / 3", '"0.333333333333"'))),
    Function("%", "a % b", "Remainder with the sign of a; also MOD(a, b).", _number_check(modulo_type),
             typed(_modulo),
             (("7 % 3", "1"), ("-7 % 3", "-1"), ("7 % -3", "1"), ("5.5 % 2", '"1.5"'), ("1 % 0",
             "error: division_by_zero"))),
    Function("NEGATE", "-a", "The number with its sign turned.", _sign_check,
             typed(lambda _, v: Compiled(-v[0])), (("-(1 + 2)", "-3"), ("- INTERVAL '1' DAY IS NULL", "false"))),
)  # fmt: skip
