"""Functions of numbers. Roots, powers and logarithms are DOUBLE; rounding is HALF_UP, as Java's BigDecimal."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import polars as pl

from penstock.codecs.frames import polars_type
from penstock.expressions import decimals
from penstock.expressions.by_row import by_row
from penstock.expressions.coercion import NULL, Mismatch, as_decimal, round_type
from penstock.expressions.functions_time import ceil_time, floor_time, time_rounding_check
from penstock.expressions.nodes import Call, Expr, Literal
from penstock.expressions.rounding import round_double
from penstock.expressions.table import (
    INTEGER,
    LONG,
    NUMBER,
    REAL,
    Compiled,
    Function,
    Typing,
    plain,
    takes,
    typed,
)
from penstock.model.types import DOUBLE, INT, STRING, Kind, decimal

__all__ = ["FUNCTIONS"]


def _real(name: str, usage: str, doc: str, build: Callable[..., pl.Expr], *examples: tuple[str, str]) -> Function:
    count = usage.count(",") + 1
    return Function(name, usage, doc, takes(DOUBLE, *[REAL] * count), plain(build), examples)


def _whole_check(args: Sequence[Expr]) -> Typing:
    """FLOOR and CEIL of numbers, or of a time to a unit."""
    if len(args) == 2:
        return time_rounding_check(args)
    typing = takes(0, NUMBER)(args)
    found = typing.result
    if found.kind is Kind.DECIMAL:
        return Typing(typing.arguments, decimal(as_decimal(found)[0], 0))
    return typing


def _floor(call: Call, values: Sequence[pl.Expr]) -> Compiled:
    return _whole(call, values, up=False)


def _ceil(call: Call, values: Sequence[pl.Expr]) -> Compiled:
    return _whole(call, values, up=True)


def _whole(call: Call, values: Sequence[pl.Expr], *, up: bool) -> Compiled:
    value = values[0]
    if len(call.args) == 2:
        unit = call.args[1]
        assert isinstance(unit, Literal)
        moved = ceil_time if up else floor_time
        return Compiled(moved(value, call.args[0].type, str(unit.value)))
    if call.type.is_integer:
        return Compiled(value)
    if call.type.kind is not Kind.DECIMAL:
        return Compiled(value.ceil() if up else value.floor())
    scale = as_decimal(call.args[0].type)[1]
    raw, unit_size = decimals.unscaled(value), decimals.power(scale)
    floored = raw // unit_size
    whole = pl.when(floored * unit_size != raw).then(floored + 1).otherwise(floored) if up else floored
    return Compiled(decimals.from_unscaled(whole, *as_decimal(call.type)))


def _digits(args: Sequence[Expr]) -> int | None:
    if len(args) < 2:
        return 0
    digits = args[1]
    return digits.value if isinstance(digits, Literal) and isinstance(digits.value, int) else None


def _round_check(args: Sequence[Expr]) -> Typing:
    typing = takes(0, NUMBER, INTEGER, optional=1)(args)
    digits = _digits(args)
    if digits is None:
        raise Mismatch("takes a constant number of digits.", "Write ROUND(x, 2).")
    return Typing(typing.arguments, round_type(typing.result, digits))


def _round(call: Call, values: Sequence[pl.Expr]) -> Compiled:
    return Compiled(_rounded(call, values[0], half_up=True))


def _truncate(call: Call, values: Sequence[pl.Expr]) -> Compiled:
    return Compiled(_rounded(call, values[0], half_up=False))


def _rounded(call: Call, value: pl.Expr, *, half_up: bool) -> pl.Expr:
    digits = _digits(call.args) or 0
    kind = call.type.kind
    if kind in (Kind.FLOAT, Kind.DOUBLE):
        exact = value.cast(pl.String).cast(pl.Float64) if kind is Kind.FLOAT else value
        return round_double(exact, digits, half_up=half_up).cast(polars_type(call.type))
    divide = decimals.divide_half_up if half_up else decimals.divide_down
    if call.type.is_integer:
        if digits >= 0:
            return value
        step = decimals.power(min(-digits, 20))
        return (divide(value.cast(pl.Int128), step) * step).cast(polars_type(call.type), wrap_numerical=True)
    scale = as_decimal(call.args[0].type)[1]
    if digits >= scale:
        return value
    step = decimals.power(min(scale - digits, 38))
    kept = divide(decimals.unscaled(value), step)
    if digits < 0:
        kept = kept * decimals.power(-digits)
    return decimals.from_unscaled(kept, *as_decimal(call.type))


def _same_number(args: Sequence[Expr]) -> Typing:
    if len(args) == 1 and args[0].type == NULL:
        return Typing((INT,), INT)
    return takes(0, NUMBER)(args)


def _absolute(call: Call, values: Sequence[pl.Expr]) -> Compiled:
    value = values[0]
    if call.type.is_integer:
        return Compiled(pl.when(value < 0).then(-value).otherwise(value))  # the least integer stays, as in Java
    return Compiled(value.abs())


def _sign(call: Call, values: Sequence[pl.Expr]) -> Compiled:
    value = values[0]
    if call.type.kind is Kind.DECIMAL:
        raw = decimals.unscaled(value).sign()
        return Compiled(decimals.rescale(raw, from_scale=0, precision=as_decimal(call.type)[0],
                                         scale=as_decimal(call.type)[1]))  # fmt: skip
    return Compiled(value.sign().cast(polars_type(call.type)))


def _log10(value: pl.Expr) -> pl.Expr:
    """Exact at powers of ten, as Java's."""

    def batch(values: pl.Series) -> pl.Series:
        with np.errstate(divide="ignore", invalid="ignore"):
            return pl.Series(np.log10(values.to_numpy())).set(values.is_null(), None)

    return value.map_batches(batch, return_dtype=pl.Float64, is_elementwise=True)


def _logarithm(first: pl.Expr, second: pl.Expr | None = None) -> pl.Expr:
    """LOG(base, x) is the quotient of two natural logarithms, with its rounding: LOG(10, 1000) is below 3."""
    return first.log() if second is None else second.log() / first.log()


FUNCTIONS = (
    Function("ABS", "ABS(x)", "The size of x.", _same_number, typed(_absolute),
             (("ABS(-3)", "3"), ("ABS(-1.5)", '"1.5"'), ("ABS(CAST(NULL AS INT))", "null"))),
    Function("SIGN", "SIGN(x)", "-1, 0 or 1, in the type of x.", _same_number, typed(_sign),
             (("SIGN(-7)", "-1"), ("SIGN(0)", "0"), ("SIGN(2.5e0)", "1.0"))),
    Function("CEIL", "CEIL(x) or CEIL(ts TO unit)", "The least whole number that is not below x; for a time: the "
             "next "
             "start of a unit.", _whole_check, typed(_ceil),
             (("CEIL(1.2)", '"2"'), ("CEIL(-1.7e0)", "-1.0"),
              ("CEIL(TIMESTAMP '2018-01-01 10:20:00' TO HOUR)", '"2018-01-01T11:00:00.000"'))),
    Function("FLOOR", "FLOOR(x) or FLOOR(ts TO unit)", "The greatest whole number that is not above x; for a "
             "time: the "
             "start of its YEAR, QUARTER, MONTH, WEEK (Sunday), DAY, HOUR, MINUTE or SECOND.", _whole_check,
             typed(_floor),
             (("FLOOR(1.7)", '"1"'), ("FLOOR(-1.2e0)", "-2.0"),
              ("FLOOR(TIMESTAMP '2018-01-01 10:20:00' TO DAY)", '"2018-01-01T00:00:00.000"'))),
    Function("ROUND", "ROUND(x[, digits])", "x at a constant number of decimal digits, ties away from zero.",
             _round_check, typed(_round),
             (("ROUND(2.5)", '"3"'), ("ROUND(-2.5e0)", "-3.0"), ("ROUND(1.005e0, 2)", "1.01"), ("ROUND(125, -1)",
             "130"))),
    Function("TRUNCATE", "TRUNCATE(x[, digits])", "x cut at a constant number of decimal digits.", _round_check,
             typed(_truncate), (("TRUNCATE(42.376, 2)", '"42.37"'), ("TRUNCATE(-1.9e0)", "-1.0"))),
    _real("POWER", "POWER(x, y)", "x raised to y.", lambda x, y: x.pow(y), ("POWER(2, 10)", "1024.0")),
    _real("SQRT", "SQRT(x)", "The square root; NaN for a negative x.", lambda x: x.sqrt(), ("SQRT(2.25)", "1.5")),
    _real("EXP", "EXP(x)", "e raised to x.", lambda x: x.exp(), ("EXP(0)", "1.0")),
    _real("LN", "LN(x)", "The natural logarithm.", lambda x: x.log(), ("LN(1)", "0.0")),
    _real("LOG10", "LOG10(x)", "The logarithm to base 10.", _log10, ("LOG10(1000)", "3.0")),
    _real("LOG2", "LOG2(x)", "The logarithm to base 2.", lambda x: x.log(2), ("LOG2(8)", "3.0")),
    _real("SIN", "SIN(x)", "The sine of x in radians.", lambda x: x.sin(), ("SIN(0)", "0.0")),
    _real("COS", "COS(x)", "The cosine of x in radians.", lambda x: x.cos(), ("COS(0)", "1.0")),
    _real("TAN", "TAN(x)", "The tangent of x in radians.", lambda x: x.tan(), ("TAN(0)", "0.0")),
    _real("ASIN", "ASIN(x)", "The angle whose sine is x.", lambda x: x.arcsin(), ("ASIN(0)", "0.0")),
    _real("ACOS", "ACOS(x)", "The angle whose cosine is x.", lambda x: x.arccos(), ("ACOS(1)", "0.0")),
    _real("ATAN", "ATAN(x)", "The angle whose tangent is x.", lambda x: x.arctan(), ("ATAN(0)", "0.0")),
    _real("ATAN2", "ATAN2(y, x)", "The angle of the point (x, y).", pl.arctan2, ("ATAN2(0, 1)", "0.0")),
    _real("RADIANS", "RADIANS(x)", "Degrees to radians.", lambda x: x.radians(), ("RADIANS(0)", "0.0")),
    _real("DEGREES", "DEGREES(x)", "Radians to degrees.", lambda x: x.degrees(), ("DEGREES(0)", "0.0")),
    _real("SINH", "SINH(x)", "The hyperbolic sine of x.", lambda x: x.sinh(), ("SINH(0)", "0.0")),
    _real("COSH", "COSH(x)", "The hyperbolic cosine of x.", lambda x: x.cosh(), ("COSH(0)", "1.0")),
    _real("TANH", "TANH(x)", "The hyperbolic tangent of x.", lambda x: x.tanh(), ("TANH(0)", "0.0")),
    _real("COT", "COT(x)", "The cotangent of x in radians; Infinity for 0.", lambda x: 1.0 / x.tan(),
          ("ROUND(COT(0.25) * TAN(0.25), 9)", "1.0")),
    Function("LOG", "LOG(x) or LOG(base, x)", "The natural logarithm, or the one to a base.",
             takes(DOUBLE, REAL, REAL, optional=1), plain(_logarithm),
             (("LOG(1)", "0.0"), ("LOG(2, 8)", "3.0"), ("LOG(CAST(NULL AS DOUBLE), 8)", "null"))),
    Function("PI", "PI()", "The number pi.", takes(DOUBLE), plain(lambda: pl.lit(math.pi)),
             (("PI()", "3.141592653589793"),)),
    Function("E", "E()", "Euler's number, the base of natural logarithms.", takes(DOUBLE),
             plain(lambda: pl.lit(math.e)), (("E()", "2.718281828459045"),)),
    Function("BIN", "BIN(n)", "An integer in binary digits; a negative one in 64 of them.", takes(STRING, LONG),
             plain(by_row(lambda n: format(n % 2**64, "b"), pl.String())),
             (("BIN(12)", '"1100"'), ("BIN(0)", '"0"'), ("CHAR_LENGTH(BIN(-1))", "64"))),
)  # fmt: skip
