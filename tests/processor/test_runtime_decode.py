"""Payloads to columns: the fast path reads what msgspec reads, or leaves the row to it."""

from __future__ import annotations

import datetime as dt
import json
import tarfile
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.model.stream import Column
from penstock.model.types import (
    BIGINT,
    BOOLEAN,
    BYTES,
    DATE,
    DOUBLE,
    FLOAT,
    INT,
    STRING,
    TIME,
    TIMESTAMP,
    TIMESTAMP_LTZ,
    TINYINT,
    decimal,
)
from penstock_processor.runtime.decode import Decoded, RowDecoder
from penstock_processor.runtime.decode_fast import read_fast

COLUMNS = (
    Column("market", STRING),
    Column("price", DOUBLE),
    Column("weight", FLOAT),
    Column("lots", BIGINT),
    Column("small", TINYINT),
    Column("open", BOOLEAN),
    Column("day", DATE),
    Column("ts", TIMESTAMP),
    Column("at", TIMESTAMP_LTZ),
)
NEVER = 1 << 60


def both(text: bytes) -> tuple[Decoded, Decoded]:
    return RowDecoder(COLUMNS, small_bytes=0).decode(text), RowDecoder(COLUMNS, small_bytes=NEVER).decode(text)


def assert_same(text: bytes) -> Decoded:
    fast, exact = both(text)
    assert fast.bad == exact.bad
    assert fast.frame.schema == exact.frame.schema
    assert fast.frame.equals(exact.frame)
    assert [fast.line_of(i) for i in range(fast.frame.height)] == [
        exact.line_of(i) for i in range(exact.frame.height)
    ]
    return fast


json_text = st.text(alphabet=st.characters(codec="utf-8"), max_size=6) | st.sampled_from(
    ["2018-01-01T00:00:00", "2018-01-01 00:00:00.123", "2018-01-01T00:00:00.000Z", "2018-01-01T10:00:00+05:30",
     "2018-02-30", "2018-02-28", "+2018-1-01T00:00:00", "2018-01-01T00:00:60", '":', "\ud83d\ude00", "1514764800000",
     "12.5", "0000-01-01", "0001-01-01T00:00:00.000", "9999-12-31", "market"]
)  # fmt: skip
numbers = (
    st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from([1514764800000, -5, 0, 127, 128, 2**63 - 1, -(2**63), 2**63, 1.0, -0.0, 3.5e38, 1e300])
)
anything = (
    st.none() | st.booleans() | numbers | json_text | st.lists(numbers, max_size=2)
    | st.dictionaries(st.sampled_from(["market", "x"]), numbers, max_size=2)
)  # fmt: skip
fitting: dict[str, st.SearchStrategy[Any]] = {
    "market": json_text,
    "price": numbers,
    "weight": st.floats(width=32, allow_nan=False, allow_infinity=False),
    "lots": st.integers(-(2**63), 2**63 - 1),
    "small": st.integers(-128, 127),
    "open": st.booleans(),
    "day": st.dates().map(str),
    "ts": st.datetimes().map(lambda t: t.isoformat(timespec="milliseconds")),
    "at": st.integers(-62_135_596_800_000, 253_402_300_799_999),
}
names = st.sampled_from([*fitting, "unknown"])


@st.composite
def lines(draw: st.DrawFn) -> bytes:
    """One JSON object as text, so that keys may stand twice and white space may be anywhere."""
    shape = draw(st.integers(0, 3))
    pairs: list[tuple[str, Any]] = [(n, draw(s)) for n, s in fitting.items()]
    if shape == 1:
        pairs = [p for p in pairs if draw(st.booleans())]
    elif shape == 2:
        pairs.append((draw(names), draw(anything)))
    elif shape == 3:
        pairs = draw(st.lists(st.tuples(names, anything), max_size=8))
    separator, colon = draw(st.sampled_from([(",", ":"), (", ", ": "), (" , ", " : "), (",", ":  ")]))
    ascii_only = draw(st.booleans())
    body = separator.join(
        json.dumps(name).replace("market", draw(st.sampled_from(["market", "m\\u0061rket"])))
        + colon
        + json.dumps(value, ensure_ascii=ascii_only)
        for name, value in pairs
    )
    return ("{" + body + "}").encode("utf-8", "surrogatepass")


@settings(max_examples=300, deadline=None)
@given(st.lists(lines(), min_size=1, max_size=12))
def test_the_fast_path_equals_the_exact_one_on_any_lines(rows: list[bytes]) -> None:
    assert_same(b"\n".join(rows))


def test_ordinary_rows_take_the_fast_path_with_proof() -> None:
    row = b'{"market":"Agra","price":1,"lots":3,"ts":"2018-01-01T00:00:00.000","at":1514764800000}'
    spaced = row.replace(b":", b": ").replace(b"00: 00: 00", b"00:00:00")
    for line in (row, spaced):
        found = read_fast(b"\n".join([line] * 5), COLUMNS, count=5)
        assert found is not None
        frame, unproven = found
        assert unproven is None
        assert frame["ts"].to_list() == [dt.datetime(2018, 1, 1)] * 5
        assert frame["price"].to_list() == [1.0] * 5


def test_the_last_of_two_equal_keys_wins() -> None:
    text = b'{"lots":1}\n{"lots":1,"lots":2}\n{"lots":3,"lots":null}\n{"l\\u006fts":4,"lots":5}'
    assert assert_same(text).frame["lots"].to_list() == [1, 2, None, 5]


def test_a_number_is_not_text_and_the_good_lines_around_it_stay() -> None:
    decoded = assert_same(b'{"market":"a"}\n{"market":5}\n{"market":"b"}\n{"market":{"x":1}}\n{"market":"c"}')
    assert decoded.frame["market"].to_list() == ["a", "b", "c"]
    assert [(b.row, b.code) for b in decoded.bad] == [(1, "wrong_type"), (3, "wrong_type")]
    assert "market" in decoded.bad[0].detail
    assert decoded.line_of(2) == 4


def test_broken_lines_are_named_and_the_others_are_read() -> None:
    decoded = assert_same(b'{"lots":1}\n{"lots":\n[1]\n{"lots":99999999999999999999}\n\xff\xfe\n{"lots":2}')
    assert decoded.frame["lots"].to_list() == [1, 2]
    assert [b.row for b in decoded.bad] == [1, 2, 3, 4]


def test_mixed_forms_of_time_in_one_batch_are_all_read() -> None:
    forms = ["2018-01-01T00:00:00", "2018-01-01 00:00:00", "2018-01-01", "2018-01-01T05:30:00+05:30",
             "2018-01-01T00:00:00.000999Z"]  # fmt: skip
    text = b"\n".join(json.dumps({"ts": f}).encode() for f in forms) + b'\n{"ts":1514764800000}'
    assert assert_same(text).frame["ts"].to_list() == [dt.datetime(2018, 1, 1)] * 6


def test_exact_types_are_read_exactly() -> None:
    columns = (Column("amount", decimal(10, 2)), Column("body", BYTES), Column("t", TIME), Column("n", INT))
    decoded = RowDecoder(columns, small_bytes=0).decode(
        b'{"amount":12.10,"body":"AAE=","t":"10:30","n":1}\n{"amount":"0.3"}\n{"amount":1.005}'
    )
    assert decoded.frame["amount"].to_list() == [Decimal("12.10"), Decimal("0.30")]
    assert decoded.frame["body"].to_list() == [b"\x00\x01", None]
    assert decoded.frame["t"].to_list() == [dt.time(10, 30), None]
    assert decoded.frame.schema["amount"] == pl.Decimal(10, 2)
    assert [(b.row, b.code) for b in decoded.bad] == [(2, "out_of_range")]


def test_a_stream_whose_rows_are_seldom_proven_is_read_the_same_text_after_text() -> None:
    decoder = RowDecoder(COLUMNS, small_bytes=0)
    texts = [b"\n".join(b'{"lots":%d,"x":{"lots":0}}' % (i * 10 + j) for j in range(10)) for i in range(40)]
    found = [value for text in texts for value in decoder.decode(text).frame["lots"].to_list()]
    assert found == list(range(400))


def test_no_text_is_an_empty_frame_of_the_right_types() -> None:
    frame = RowDecoder(COLUMNS).decode(b"").frame
    assert frame.height == 0
    assert frame.schema["at"] == pl.Datetime("ms", "UTC")


def test_texts_of_the_json_test_suite_are_read_alike_by_both_paths(json_suite: list[tuple[str, bytes]]) -> None:
    assert len(json_suite) > 300
    for _name, value in json_suite:
        line = b'{"lots":1,"x":' + value.replace(b"\n", b" ").replace(b"\r", b" ") + b"}"
        assert_same(b"\n".join([b'{"lots":0}', line, b'{"lots":2}']))


@pytest.fixture
def json_suite(shared_data: Path) -> list[tuple[str, bytes]]:
    with tarfile.open(shared_data / "json_test_suite.tar.gz") as tar:
        members = [m for m in tar.getmembers() if m.isfile() and m.name.endswith(".json") and m.size < 100_000]
        return [(m.name, f.read()) for m in members if (f := tar.extractfile(m)) is not None]
