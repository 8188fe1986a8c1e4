"""ARRAY, MAP and ROW from JSON to columns and back, through every form in which they are kept."""

from __future__ import annotations

import datetime as dt
import json
from decimal import Decimal

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.codecs.arrow import decode_frame, encode_frame
from penstock.codecs.frames import polars_type
from penstock.codecs.json_values import OutOfRange, reader
from penstock.codecs.nested import series_of_texts
from penstock.codecs.rows import json_frame, rows_to_lines, rows_to_ndjson
from penstock.logs.kafka_rows import rows_from_texts, rows_to_texts
from penstock.model.batch import OP_COLUMN
from penstock.model.stream import Column, Relation, StreamSpec
from penstock.model.types import (
    BOOLEAN,
    BYTES,
    DATE,
    FLOAT,
    INT,
    STRING,
    TIME,
    TIMESTAMP,
    TIMESTAMP_LTZ,
    array_of,
    decimal,
    map_of,
    row_of,
)

PLAIN = {
    BOOLEAN: st.booleans(),
    INT: st.integers(-(2**31), 2**31 - 1),
    FLOAT: st.floats(width=32, allow_nan=False, allow_infinity=False),
    STRING: st.text(st.characters(exclude_categories=["Cs"]), max_size=4),
    BYTES: st.binary(max_size=3),
    DATE: st.dates(),
    TIME: st.times().map(lambda t: t.replace(microsecond=t.microsecond // 1000 * 1000)),
    TIMESTAMP: st.datetimes().map(lambda t: t.replace(microsecond=t.microsecond // 1000 * 1000)),
    TIMESTAMP_LTZ: st.datetimes().map(lambda t: t.replace(microsecond=t.microsecond // 1000 * 1000, tzinfo=dt.UTC)),
    decimal(5, 2): st.decimals(-999, 999, places=2),
}
NAMES = st.text("abc", min_size=1, max_size=2)


def _array(pair):
    return array_of(pair[0]), st.none() | st.lists(pair[1], max_size=3)


def _map(pair):
    pairs = st.dictionaries(NAMES, pair[1], max_size=3)
    return map_of(STRING, pair[0]), st.none() | pairs.map(lambda d: [{"key": k, "value": v} for k, v in d.items()])


def _row(pairs):
    values = st.fixed_dictionaries({name: value for name, (_, value) in pairs.items()})
    return row_of(*((name, part) for name, (part, _) in pairs.items())), st.none() | values


TYPES = st.recursive(
    st.sampled_from([(kind, st.none() | values) for kind, values in PLAIN.items()]),
    lambda below: (
        below.map(_array) | below.map(_map) | st.dictionaries(NAMES, below, min_size=1, max_size=3).map(_row)
    ),
    max_leaves=4,
).filter(lambda pair: pair[0].is_nested)


@settings(max_examples=60)
@given(st.data())
def test_values_come_back_from_json_from_arrow_and_from_a_kafka_record(data):
    data_type, values = data.draw(TYPES)
    listed = data.draw(st.lists(values, min_size=1, max_size=4))
    column = Column("v", data_type)
    frame = pl.DataFrame([pl.Series("v", listed, dtype=polars_type(data_type))])
    assert decode_frame(encode_frame(frame)).equals(frame)
    texts = json_frame(frame, [column])["v"].to_list()
    assert series_of_texts("v", texts, data_type).equals(frame["v"])
    lines = rows_to_lines(frame, [column])
    assert rows_to_ndjson(frame, [column]) == b"".join(line + b"\n" for line in lines)
    assert [json.loads(line)["v"] for line in lines] == [None if t is None else json.loads(t) for t in texts]
    spec = StreamSpec("s", "a", Relation.STREAM, (column,))
    changes = frame.with_columns(pl.lit(0, pl.Int8).alias(OP_COLUMN))
    assert rows_from_texts(*rows_to_texts(changes, spec), spec).equals(changes)


@pytest.mark.parametrize(
    ("data_type", "text", "place"),
    [
        (array_of(DATE), '["2018-01-01", "x"]', "in [1]: 'x' is not a date"),
        (map_of(STRING, array_of(TIME)), '{"k": ["25:00"]}', "in [k]: in [0]: '25:00' is not a time"),
        (row_of(("a", INT), ("b", BYTES)), '{"b": "?"}', "in [b]: '?' is not base64"),
    ],
)
def test_a_wrong_part_is_named_with_its_place(data_type, text, place):
    with pytest.raises(ValueError, match="in ") as refused:
        series_of_texts("v", [text], data_type)
    assert str(refused.value).startswith(place)


def test_a_part_that_does_not_fit_is_out_of_range():
    read = reader(array_of(decimal(5, 2)))
    assert read is not None
    with pytest.raises(OutOfRange, match=r"in \[1\]: '1.005' does not fit DECIMAL\(5, 2\)"):
        read([Decimal("1.00"), Decimal("1.005")])
