"""CAST among all types: Java's narrowing, texts that are values and texts that are not."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, time
from decimal import ROUND_HALF_UP, Context, Decimal
from itertools import product

import pytest
from core.expression_eval import evaluate, one
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.errors import SqlErrors
from penstock.expressions.bind import bind_text
from penstock.expressions.casts import cast_value, check_cast
from penstock.expressions.coercion import Mismatch
from penstock.model import types
from penstock.model.stream import Column
from penstock.model.types import DataType, decimal

FAILED = "error: cast_failed"
ALL = [types.BOOLEAN, types.TINYINT, types.SMALLINT, types.INT, types.BIGINT, types.FLOAT, types.DOUBLE, decimal(10,
     2),
       types.STRING, types.BYTES, types.DATE, types.TIME, types.TIMESTAMP, types.TIMESTAMP_LTZ]  # fmt: skip

CASES: list[tuple[DataType, list[object], str, list[object]]] = [
    (types.STRING, [" 5 ", "-12", "+3", "1.9", "", "x", "1e3", "2147483648", None], "INT",
     [5, -12, 3, 1, FAILED, FAILED, FAILED, FAILED, None]),
    (types.STRING, ["127", "128", "-128"], "TINYINT", [127, FAILED, -128]),
    (types.STRING, [" 1.5 ", "1e3", "-.5", "abc", "", "Infinity", "inf"], "DOUBLE",
     [1.5, 1000.0, -0.5, FAILED, FAILED, math.inf, FAILED]),
    (types.STRING, ["1.005", "1.004", "-1.005", "1e2", " 7 ", "x", "123456789", None], "DECIMAL(10, 2)",
     [Decimal("1.01"), Decimal("1.00"), Decimal("-1.01"), Decimal("100.00"), Decimal("7.00"), FAILED, FAILED, None]),
    (types.STRING, ["true", "TRUE", "t", "yes", "1", "false", "No", "0", "maybe", "", None], "BOOLEAN",
     [True, True, True, True, True, False, False, False, FAILED, FAILED, None]),
    (types.STRING, ["2018-01-31", " 2018-1-3 ", "2018-02-30", "x", "2018-01-31 10:00:00"], "DATE",
     [date(2018, 1, 31), date(2018, 1, 3), FAILED, FAILED, date(2018, 1, 31)]),
    (types.STRING, ["10:20:30", "1:02:03.5", "25:00:00", ""], "TIME", [time(10, 20, 30), time(1, 2, 3, 500_000),
     FAILED,
                                                                       FAILED]),
    (types.STRING, ["2018-01-31 10:20:30", "2018-01-31T10:20:30.123456", "2018-01-31", "31.01.2018",
     "1969-12-31 23:59:59.9"],
     "TIMESTAMP(3)", [datetime(2018, 1, 31, 10, 20, 30), datetime(2018, 1, 31, 10, 20, 30, 123_000), datetime(2018,
     1, 31),
                      FAILED, datetime(1969, 12, 31, 23, 59, 59, 900_000)]),
    (types.STRING, ["2018-01-31 10:20:30", "2018-01-31T10:20:30Z", "x"], "TIMESTAMP_LTZ(3)",
     [datetime(2018, 1, 31, 10, 20, 30, tzinfo=UTC), datetime(2018, 1, 31, 10, 20, 30, tzinfo=UTC), FAILED]),
    (types.STRING, ["é", ""], "BYTES", ["é".encode(), b""]),
    (types.BYTES, ["é".encode(), b"\xff", None], "STRING", ["é", "\ufffd", None]),
    (types.BIGINT, [2**31, -(2**31) - 1, 300, None], "INT", [-(2**31), 2**31 - 1, 300, None]),
    (types.INT, [300, -129, 5], "TINYINT", [44, 127, 5]),
    (types.INT, [5, -7, None], "DECIMAL(3, 1)", [Decimal("5.0"), Decimal("-7.0"), None]),
    (types.INT, [123, 99], "DECIMAL(3, 1)", [None, Decimal("99.0")]),
    (types.INT, [0, 5, None], "BOOLEAN", [False, True, None]),
    (types.BOOLEAN, [True, False, None], "INT", [1, 0, None]),
    (types.BOOLEAN, [True, False, None], "STRING", ["TRUE", "FALSE", None]),
    (types.BOOLEAN, [True, False, None], "DECIMAL(3, 1)", [Decimal("1.0"), Decimal("0.0"), None]),
    (types.DOUBLE, [2.9, -2.9, math.nan, math.inf, -math.inf, 3e9, -3e9, None], "INT",
     [2, -2, 0, 2**31 - 1, -(2**31), 2**31 - 1, -(2**31), None]),
    (types.DOUBLE, [1e30, -1e30, 9.3e18, math.nan], "BIGINT", [2**63 - 1, -(2**63), 2**63 - 1, 0]),
    (types.DOUBLE, [300.7, 1e20, -129.0], "TINYINT", [44, -1, 127]),
    (types.DOUBLE, [1.005, -0.125, 2.5, 1e-7, math.nan, math.inf, 1e12, None], "DECIMAL(10, 2)",
     [Decimal("1.01"), Decimal("-0.13"), Decimal("2.50"), Decimal("0.00"), FAILED, FAILED, None, None]),
    (types.DOUBLE, [1e300, -0.1, None], "FLOAT", [math.inf, -0.10000000149011612, None]),
    (types.DOUBLE, [1.0, 0.001, 0.0001, 1e7, 123456789.125, -1.5e-10, math.nan, -math.inf, 0.0, -0.0, 9999999.0,
     None],
     "STRING", ["1.0", "0.001", "1.0E-4", "1.0E7", "1.23456789125E8", "-1.5E-10", "NaN", "-Infinity", "0.0", "-0.0",
                "9999999.0", None]),
    (types.FLOAT, [0.1, 1e10], "STRING", ["0.1", "1.0E10"]),
    (decimal(10, 2), [Decimal("2.99"), Decimal("-2.99"), None], "INT", [2, -2, None]),
    (decimal(38, 0), [Decimal(2**63), Decimal(2**32 + 5)], "INT", [0, 5]),
    (decimal(10, 2), [Decimal("2.55"), Decimal("-2.55"), Decimal("99999.99"), None], "DECIMAL(5, 1)",
     [Decimal("2.6"), Decimal("-2.6"), None, None]),
    (decimal(10, 2), [Decimal("2.50"), None], "DECIMAL(20, 4)", [Decimal("2.5000"), None]),
    (decimal(10, 2), [Decimal("-0.50")], "STRING", ["-0.50"]),
    (decimal(10, 2), [Decimal("0.10")], "DOUBLE", [0.1]),
    (decimal(10, 2), [Decimal("0.10"), Decimal(0)], "BOOLEAN", [True, False]),
    (types.DATE, [date(2018, 1, 31), None], "TIMESTAMP(3)", [datetime(2018, 1, 31), None]),
    (types.DATE, [date(2018, 1, 31)], "STRING", ["2018-01-31"]),
    (types.TIMESTAMP, [datetime(2018, 1, 31, 10, 0, 0, 5000), None], "STRING", ["2018-01-31 10:00:00.005", None]),
    (types.TIMESTAMP, [datetime(1969, 12, 31, 23)], "DATE", [date(1969, 12, 31)]),
    (types.TIMESTAMP, [datetime(2018, 1, 31, 10, 20, 30, 5000)], "TIME", [time(10, 20, 30)]),
    (types.TIMESTAMP, [datetime(2018, 1, 31)], "TIMESTAMP_LTZ(3)", [datetime(2018, 1, 31, tzinfo=UTC)]),
    (types.TIMESTAMP_LTZ, [datetime(2018, 1, 31, tzinfo=UTC)], "TIMESTAMP(3)", [datetime(2018, 1, 31)]),
    (types.TIMESTAMP_LTZ, [datetime(2018, 1, 31, tzinfo=UTC)], "STRING", ["2018-01-31 00:00:00.000"]),
    (types.TIME, [time(1, 2, 3)], "STRING", ["01:02:03"]),
]  # fmt: skip


@pytest.mark.parametrize(("source", "values", "target", "expected"), CASES, ids=lambda v: str(v)[:24])
def test_cast(source: DataType, values: list[object], target: str, expected: list[object]) -> None:
    assert evaluate(f"CAST(a AS {target})", {"a": (source, values)}) == expected
    lenient = [None if e == FAILED else e for e in expected]
    assert evaluate(f"TRY_CAST(a AS {target})", {"a": (source, values)}) == lenient


@pytest.mark.parametrize(("source", "target"), list(product(ALL, ALL)), ids=lambda t: str(t))
def test_every_pair_casts_nulls_or_is_refused(source: DataType, target: DataType) -> None:
    try:
        check_cast(source, target)
    except Mismatch:
        with pytest.raises(SqlErrors, match="cannot convert"):
            bind_text(f"CAST(a AS {target})", [Column("a", source)])
        return
    assert evaluate(f"CAST(a AS {target})", {"a": (source, [None, None])}) == [None, None]


def test_a_cast_to_the_same_type_changes_nothing() -> None:
    from polars import col

    assert cast_value(col("a"), types.INT, types.INT).error is None


@settings(max_examples=200, deadline=None)
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_double_as_text_reads_back(value: float) -> None:
    text = evaluate("CAST(a AS STRING)", {"a": (types.DOUBLE, [value])})[0]
    assert float(str(text)) == value
    assert evaluate("CAST(CAST(a AS STRING) AS DOUBLE)", {"a": (types.DOUBLE, [value])}) == [value]


@settings(max_examples=200, deadline=None)
@given(st.decimals(-(10**7), 10**7, places=6), st.integers(0, 6))
def test_text_and_decimals_round_half_up(value: Decimal, scale: int) -> None:
    expected = value.quantize(Decimal(1).scaleb(-scale), ROUND_HALF_UP, Context(prec=60))
    assert evaluate(f"CAST(a AS DECIMAL(20, {scale}))", {"a": (types.STRING, [f"{value:f}"])}) == [expected]
    assert evaluate(f"CAST(a AS DECIMAL(20, {scale}))", {"a": (decimal(20, 6), [value])}) == [expected]


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=12))
def test_any_text_is_a_value_or_fails_and_never_raises(text: str) -> None:
    for target in ("INT", "DOUBLE", "DECIMAL(10, 2)", "BOOLEAN", "DATE", "TIME", "TIMESTAMP(3)"):
        found = evaluate(f"CAST(a AS {target})", {"a": (types.STRING, [text, None])})
        assert found[0] is not None
        assert found[1] is None


def test_casts_of_constants_work_as_those_of_columns() -> None:
    assert one("CAST('12' AS INT)") == 12
    assert one("CAST('x' AS INT)") == FAILED
    assert one("TRY_CAST('x' AS INT)") is None
    assert one("CAST(NULL AS INT)") is None
    assert one("CAST(2.5 AS INT)") == 2
    assert one("COALESCE(TRY_CAST('x' AS INT), 7)") == 7
