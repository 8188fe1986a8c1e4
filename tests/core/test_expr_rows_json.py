"""Typed frames as JSON rows: every type, every awkward character, and reading back what was written."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, time
from decimal import Decimal

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.codecs.frames import empty_frame, polars_schema
from penstock.codecs.metrics import NONFINITE_VALUES
from penstock.codecs.rows import SMALL_ROWS, json_value, rows_to_lines, rows_to_ndjson
from penstock.model import types
from penstock.model.stream import Column

CASES = [
    (types.BOOLEAN, True, "true"),
    (types.TINYINT, -128, "-128"),
    (types.BIGINT, 2**63 - 1, "9223372036854775807"),
    (types.DOUBLE, 0.1, "0.1"),
    (types.DOUBLE, 5e-324, "5e-324"),
    (types.DOUBLE, float("nan"), "null"),
    (types.DOUBLE, float("-inf"), "null"),
    (types.FLOAT, 0.5, "0.5"),
    (types.decimal(10, 2), Decimal("-0.50"), '"-0.50"'),
    (types.decimal(38, 0), Decimal(10**37), '"1' + "0" * 37 + '"'),
    (types.STRING, 'a"\\\n\x01é\u2028😀', None),
    (types.STRING, "", '""'),
    (types.BYTES, b"\x00\xff", '"AP8="'),
    (types.DATE, date(2018, 1, 1), '"2018-01-01"'),
    (types.TIME, time(1, 2, 3), '"01:02:03"'),
    (types.TIME, time(1, 2, 3, 500_000), '"01:02:03.500"'),
    (types.TIMESTAMP, datetime(2018, 1, 1), '"2018-01-01T00:00:00.000"'),
    (types.TIMESTAMP, datetime(1969, 12, 31, 23, 59, 59, 999_000), '"1969-12-31T23:59:59.999"'),
    (types.TIMESTAMP_LTZ, datetime(2018, 1, 1, tzinfo=UTC), '"2018-01-01T00:00:00.000Z"'),
]


def _frame(data_type: types.DataType, values: list[object]) -> tuple[pl.DataFrame, list[Column]]:
    columns = [Column("v", data_type)]
    return pl.DataFrame({"v": values}, schema=polars_schema(columns)), columns


@pytest.mark.parametrize(("data_type", "value", "expected"), CASES, ids=lambda v: str(v)[:20])
def test_each_type_has_one_form_in_json_and_null_is_null(
    data_type: types.DataType, value: object, expected: str | None
) -> None:
    frame, columns = _frame(data_type, [value, None])
    first, second = rows_to_lines(frame, columns)
    assert second == b'{"v":null}'
    if expected is not None:
        assert first == f'{{"v":{expected}}}'.encode()
    assert json.loads(first) == {"v": json_value(frame["v"][0])}


@pytest.mark.parametrize(("data_type", "value", "expected"), CASES, ids=lambda v: str(v)[:20])
def test_few_rows_and_many_are_written_alike(data_type: types.DataType, value: object, expected: str | None) -> None:
    few, columns = _frame(data_type, [value, None])
    many, _ = _frame(data_type, [value, None] * SMALL_ROWS)
    assert [json.loads(line) for line in rows_to_lines(many, columns)[:2]] == [
        json.loads(line) for line in rows_to_lines(few, columns)
    ]
    if expected is not None:
        assert rows_to_lines(many, columns)[:2] == rows_to_lines(few, columns)


def test_columns_keep_their_order_and_others_are_left_out() -> None:
    frame = pl.DataFrame({"a": [1], "b": [2], "c": [3]})
    assert rows_to_ndjson(frame, [Column("c", types.BIGINT), Column("a", types.BIGINT)]) == b'{"c":3,"a":1}\n'


def test_no_rows_are_no_bytes() -> None:
    columns = [Column("a", types.TIMESTAMP)]
    assert rows_to_ndjson(empty_frame(columns), columns) == b""
    assert rows_to_lines(empty_frame(columns), columns) == []


def test_values_that_json_cannot_hold_are_counted() -> None:
    before = NONFINITE_VALUES._value.get()
    frame, columns = _frame(types.DOUBLE, [float("nan"), None, 1.0, float("inf")])
    rows_to_ndjson(frame, columns)
    assert NONFINITE_VALUES._value.get() - before == 2


@given(st.lists(st.text(), min_size=1, max_size=20), st.text(min_size=1, max_size=5))
def test_any_text_and_any_column_name_reads_back(values: list[str], name: str) -> None:
    columns = [Column(name, types.STRING)]
    lines = rows_to_lines(pl.DataFrame({name: values}), columns)
    assert [json.loads(line) for line in lines] == [{name: value} for value in values]


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=2 * SMALL_ROWS))
def test_any_double_reads_back_bit_for_bit(values: list[float]) -> None:
    frame, columns = _frame(types.DOUBLE, list(values))
    read = [json.loads(line)["v"] for line in rows_to_lines(frame, columns)]
    assert [float(v).hex() for v in read] == [v.hex() for v in values]


def test_an_unknown_python_type_is_refused() -> None:
    with pytest.raises(TypeError, match="set is no SQL value"):
        json_value([{1}])
