"""JSON values as columns: what fits, what does not, and that nothing is rounded or coerced in silence."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.codecs.json_values import (
    TIMESTAMP_MAX_MS,
    OutOfRange,
    json_type_name,
    read_bytes,
    read_date_days,
    read_decimal,
    read_time_ms,
    read_timestamp_ms,
    wire_type,
    write_timestamp,
)
from penstock.model.types import BIGINT, BOOLEAN, DOUBLE, FLOAT, INT, STRING, TIMESTAMP, decimal

_DAY_MS = 1_514_764_800_000  # 2018-01-01T00:00:00Z


@pytest.mark.parametrize(
    "text",
    [
        "2018-01-01",
        "2018-01-01 00:00",
        "2018-01-01 00:00:00",
        "2018-01-01T00:00:00.000Z",
        "2018-01-01t00:00:00z",
        "2018-01-01T05:30:00+05:30",
        "2017-12-31T18:30:00-0530",
        "2018-01-01T00:00:00.000999999",
        _DAY_MS,
    ],
)
def test_every_accepted_form_of_one_moment_is_the_same_number(text: str | int) -> None:
    assert read_timestamp_ms(text) == _DAY_MS


@pytest.mark.parametrize(
    "text",
    [
        "", "1514764800000", "2018", "2018-1-1", "2018-02-30", "2018-01-01T24:00:00", "2018-01-01T23:59:60",
        "2018-01-01T00:00:00,5", "2018-01-01T00:00:00+24:00", "2018-01-01T00:00:00 Z", " 2018-01-01", "2018-01-01\n",
        "٢٠١٨-01-01", "0000-01-01", "9999-12-31T23:59:59-01:00", TIMESTAMP_MAX_MS + 1,
    ],
)  # fmt: skip
def test_text_that_is_no_timestamp_is_refused_with_the_value_named(text: str | int) -> None:
    with pytest.raises(ValueError) as caught:
        read_timestamp_ms(text)
    assert str(text).strip()[:10] in str(caught.value)


@given(st.datetimes(min_value=dt.datetime(1, 1, 1), max_value=dt.datetime(9999, 12, 31)))
def test_a_timestamp_written_by_python_is_read_to_the_millisecond(moment: dt.datetime) -> None:
    expected = (moment - dt.datetime(1970, 1, 1)) // dt.timedelta(milliseconds=1)
    assert read_timestamp_ms(moment.isoformat()) == expected
    assert read_timestamp_ms(moment.isoformat(sep=" ")) == expected
    assert read_timestamp_ms(write_timestamp(expected)) == expected
    assert read_timestamp_ms(write_timestamp(expected, zoned=True)) == expected


@given(st.decimals(allow_nan=False, allow_infinity=False, places=2, min_value=-99_999_999, max_value=99_999_999))
def test_a_decimal_that_fits_keeps_its_value_and_takes_the_columns_scale(number: Decimal) -> None:
    for given_as in (number, str(number)):
        read = read_decimal(given_as, 12, 4)
        assert read == number and read.as_tuple().exponent == -4


@pytest.mark.parametrize("text", ["12.345", "123456789", "1e9", "1e999999999", "-1e-3", Decimal("1e5000")])
def test_a_decimal_with_too_many_digits_is_out_of_range(text: str | Decimal) -> None:
    with pytest.raises(OutOfRange):
        read_decimal(text, 10, 2)


@pytest.mark.parametrize("text", ["NaN", "Infinity", "", " 1", "1_0", "0x1", "one"])
def test_text_that_is_no_decimal_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        read_decimal(text, 10, 2)


def test_dates_times_and_bytes_are_read_strictly() -> None:
    assert read_date_days("1970-01-02") == 1
    assert read_time_ms("23:59:59.999") == 86_399_999
    assert read_bytes("AAEC") == b"\x00\x01\x02"
    for read, text in (
        (read_date_days, "2018-02-30"),
        (read_date_days, "2018-01-01T00:00:00"),
        (read_time_ms, "24:00:00"),
        (read_bytes, "AAE"),
        (read_bytes, "AAEC===="),
        (read_bytes, "\u00e4AEC"),
        (read_bytes, "A-_C"),
    ):
        with pytest.raises(ValueError):
            read(text)


@pytest.mark.parametrize(
    ("data_type", "good", "bad"),
    [
        (BOOLEAN, [b"true"], [b"1", b'"true"']),
        (INT, [b"2147483647", b"-2147483648"], [b"2147483648", b"1.0", b'"1"', b"true"]),
        (BIGINT, [b"9223372036854775807"], [b"9223372036854775808", b"1e3"]),
        (FLOAT, [b"1.5", b"3e38"], [b"1e39", b"-1e39"]),
        (DOUBLE, [b"1", b"1.5", b"-1e300"], [b"1e400", b'"1.5"', b"NaN"]),
        (STRING, [b'"a"'], [b"1", b"{}"]),
        (TIMESTAMP, [b"1", b'"2018-01-01"'], [b"1.5", b"true"]),
        (decimal(10, 2), [b"1.10", b'"1.10"'], [b"true", b"[]"]),
    ],
)
def test_json_types_are_not_coerced(data_type: object, good: list[bytes], bad: list[bytes]) -> None:
    decoder = msgspec.json.Decoder(wire_type(data_type))  # type: ignore[arg-type] # parametrised
    for text in good:
        decoder.decode(text)
    for text in bad:
        with pytest.raises(msgspec.MsgspecError):
            decoder.decode(text)


def test_json_types_have_their_names() -> None:
    texts = [b"null", b"true", b"false", b"1", b"-1.5", b'"a"', b"[]", b"{}"]
    names = ["null", "boolean", "boolean", "number", "number", "string", "array", "object"]
    assert [json_type_name(text) for text in texts] == names
