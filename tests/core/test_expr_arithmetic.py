"""Arithmetic: wrapping integers, division toward zero, decimals HALF_UP, doubles bit for bit, times."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime
from decimal import ROUND_DOWN, ROUND_HALF_UP, Context, Decimal

import pytest
from core.expression_eval import evaluate, one
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from penstock.model import types
from penstock.model.types import DataType, decimal

INTS = {types.TINYINT: 8, types.SMALLINT: 16, types.INT: 32, types.BIGINT: 64}
WIDE = Context(prec=200)


def _wrapped(value: int, bits: int) -> int:
    return (value + 2 ** (bits - 1)) % 2**bits - 2 ** (bits - 1)


def _java(operator: str, a: int | None, b: int | None, bits: int) -> object:
    if a is None or b is None:
        return None
    if operator in "/%" and b == 0:
        return "error: division_by_zero"
    match operator:
        case "+":
            return _wrapped(a + b, bits)
        case "-":
            return _wrapped(a - b, bits)
        case "*":
            return _wrapped(a * b, bits)
        case "/":
            return _wrapped(abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1), bits)
        case _:
            return abs(a) % abs(b) * (-1 if a < 0 else 1)


@pytest.mark.parametrize("kind", list(INTS), ids=str)
@pytest.mark.parametrize("operator", ["+", "-", "*", "/", "%"])
def test_integers_compute_as_in_java(kind: DataType, operator: str) -> None:
    bits = INTS[kind]
    values = [0, 1, -1, 2, -2, 3, 7, -7, 2 ** (bits - 1) - 1, -(2 ** (bits - 1)), None]
    pairs = [(a, b) for a in values for b in values]
    table = {"a": (kind, [a for a, _ in pairs]), "b": (kind, [b for _, b in pairs])}
    assert evaluate(f"a {operator} b", table) == [_java(operator, a, b, bits) for a, b in pairs]


def test_the_sign_and_the_size_of_the_least_integer_stay_as_in_java() -> None:
    table = {"a": (types.INT, [-(2**31), 5, None])}
    assert evaluate("-a", table) == [-(2**31), -5, None]
    assert evaluate("ABS(a)", table) == [-(2**31), 5, None]
    assert one("-2147483648") == -(2**31)


@settings(max_examples=200, deadline=None)
@given(st.floats(width=64), st.floats(width=64), st.sampled_from("+-*/%"))
@example(1.0, -0.0, "/")
def test_doubles_are_bit_for_bit_those_of_ieee_754(a: float, b: float, operator: str) -> None:
    def expected() -> float:
        match operator:
            case "+":
                return a + b
            case "-":
                return a - b
            case "*":
                return a * b
            case "/":
                if b == 0:
                    return math.nan if a == 0 or math.isnan(a) else math.copysign(math.inf, a) * math.copysign(1, b)
                return a / b
            case _:
                return math.nan if math.isinf(a) or b == 0 or math.isnan(a) or math.isnan(b) else math.fmod(a, b)

    found = evaluate(f"a {operator} b", {"a": (types.DOUBLE, [a, a]), "b": (types.DOUBLE, [b, 1.0])})[0]
    assert (math.isnan(found) and math.isnan(expected())) or found.hex() == expected().hex()  # type: ignore[attr-defined, arg-type]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=30))
def test_division_by_a_constant_is_correctly_rounded(values: list[float]) -> None:
    assert evaluate("a / 3", {"a": (types.DOUBLE, values)}) == [v / 3 for v in values]
    assert evaluate("a / 0.7e0", {"a": (types.DOUBLE, values)}) == [v / 0.7 for v in values]


@st.composite
def _decimals(draw: st.DrawFn) -> tuple[DataType, Decimal]:
    precision = draw(st.sampled_from([1, 5, 10, 18, 25, 38]))
    scale = draw(st.integers(0, precision))
    digits = draw(st.integers(-(10**precision) + 1, 10**precision - 1))
    return decimal(precision, scale), WIDE.scaleb(Decimal(digits), -scale)


def _decimal_result(operator: str, a: Decimal, b: Decimal, kind: DataType) -> object:
    if b == 0 and operator in "/%":
        return "error: division_by_zero"
    exact = {
        "+": lambda: WIDE.add(a, b),
        "-": lambda: WIDE.subtract(a, b),
        "*": lambda: WIDE.multiply(a, b),
        "/": lambda: WIDE.divide(a, b),
        "%": lambda: a - WIDE.multiply(WIDE.divide(a, b).to_integral_value(ROUND_DOWN), b),
    }[operator]
    value = exact() if operator != "%" else WIDE.remainder(a, b)
    rounded = value.quantize(Decimal(1).scaleb(-(kind.scale or 0)), ROUND_HALF_UP, WIDE)
    # abs() would round to the 28 digits of the default context.
    return rounded if rounded.scaleb(kind.scale or 0, WIDE).copy_abs() < 10 ** (kind.precision or 0) else None


@settings(max_examples=300, deadline=None)
@given(_decimals(), _decimals(), st.sampled_from("+-*/%"))
def test_decimals_keep_flinks_digits_and_round_half_up(
    left: tuple[DataType, Decimal], right: tuple[DataType, Decimal], operator: str
) -> None:
    from penstock.expressions.bind import bind_text
    from penstock.model.stream import Column

    (p, a), (q, b) = left, right
    kind = bind_text(f"a {operator} b", [Column("a", p), Column("b", q)]).type
    found = evaluate(f"a {operator} b", {"a": (p, [a, None]), "b": (q, [b, b])})
    assert found[0] == _decimal_result(operator, a, b, kind)
    assert found[1] is None


def test_a_decimal_division_by_zero_fails_and_a_double_one_does_not() -> None:
    table = {"n": (decimal(10, 2), [Decimal(1), None]), "z": (decimal(10, 2), [Decimal(0), Decimal(0)])}
    assert evaluate("n / z", table) == ["error: division_by_zero", None]
    assert evaluate("n % z", table) == ["error: division_by_zero", None]
    assert one("1e0 / 0") == math.inf
    assert math.isnan(one("0e0 / 0"))  # type: ignore[arg-type]


@settings(max_examples=200, deadline=None)
@given(st.floats(-1e9, 1e9), st.integers(-4, 6))
def test_round_and_truncate_of_doubles_follow_their_shortest_text(value: float, digits: int) -> None:
    text = Decimal(repr(value))
    unit = Decimal(1).scaleb(-digits)
    rounded = float(text.quantize(unit, ROUND_HALF_UP, WIDE))
    cut = float(text.quantize(unit, ROUND_DOWN, WIDE))
    table = {"a": (types.DOUBLE, [value, value])}
    assume(abs(value) * 10.0**digits < 2**51)
    assert evaluate(f"ROUND(a, {digits})", table)[0] == rounded
    assert evaluate(f"TRUNCATE(a, {digits})", table)[0] == cut


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("ROUND(CAST('2.345' AS DECIMAL(10, 3)), 2)", Decimal("2.35")),
        ("ROUND(CAST('-2.345' AS DECIMAL(10, 3)), 2)", Decimal("-2.35")),
        ("ROUND(CAST('2.345' AS DECIMAL(10, 3)), 5)", Decimal("2.345")),
        ("ROUND(CAST('155.5' AS DECIMAL(10, 1)), -1)", Decimal("160")),
        ("TRUNCATE(CAST('-2.349' AS DECIMAL(10, 3)), 2)", Decimal("-2.34")),
        ("CEIL(CAST('-2.5' AS DECIMAL(10, 1)))", Decimal("-2")),
        ("FLOOR(CAST('-2.5' AS DECIMAL(10, 1)))", Decimal("-3")),
        ("CEIL(CAST('9.5' AS DECIMAL(2, 1)))", Decimal("10")),
        ("FLOOR(7)", 7),
        ("ROUND(-155, -1)", -160),
        ("ROUND(2147483647, -1)", -2147483646),
        ("SIGN(CAST('-0.50' AS DECIMAL(10, 2)))", Decimal("-1.00")),
        ("ABS(CAST('-0.50' AS DECIMAL(10, 2)))", Decimal("0.50")),
        ("-CAST('0.50' AS DECIMAL(10, 2))", Decimal("-0.50")),
        ("POWER(0, 0)", 1.0),
        ("LN(0)", -math.inf),
        ("LOG10(0)", -math.inf),
    ],
)
def test_rounding_and_signs(sql: str, expected: object) -> None:
    assert one(sql) == expected


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("ts + INTERVAL '1' DAY", datetime(2018, 2, 1, 10)),
        ("ts - INTERVAL '1 02:03:04.5' DAY TO SECOND", datetime(2018, 1, 30, 7, 56, 55, 500_000)),
        ("ts + INTERVAL '1' MONTH", datetime(2018, 2, 28, 10)),
        ("ts - INTERVAL '1' YEAR", datetime(2017, 1, 31, 10)),
        ("INTERVAL '1' HOUR + ts", datetime(2018, 1, 31, 11)),
        ("ts + INTERVAL '1' MINUTE * 90", datetime(2018, 1, 31, 11, 30)),
        ("ts + INTERVAL '0.5' SECOND", datetime(2018, 1, 31, 10, 0, 0, 500_000)),
        ("ts - INTERVAL -'1' DAY", datetime(2018, 2, 1, 10)),
        ("lt + INTERVAL '1' DAY", datetime(2018, 2, 1, 10, tzinfo=UTC)),
        ("d + INTERVAL '1' WEEK", date(2018, 2, 7)),
        ("d - INTERVAL '1' MONTH", date(2017, 12, 31)),
        ("ts - INTERVAL '1' DAY < ts", True),
    ],
)
def test_times_move_by_intervals(sql: str, expected: object) -> None:
    table = {
        "ts": (types.TIMESTAMP, [datetime(2018, 1, 31, 10), None]),
        "lt": (types.TIMESTAMP_LTZ, [datetime(2018, 1, 31, 10, tzinfo=UTC), None]),
        "d": (types.DATE, [date(2018, 1, 31), None]),
    }
    assert evaluate(sql, table) == [expected, None]
