"""Admission without a socket: types, times, required and unknown columns, and that both reading paths agree."""

from __future__ import annotations

import json
from dataclasses import replace

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from ingest_edge import ARRIVALS

from penstock.codecs.ndjson import decode_lines
from penstock.errors import PenstockError
from penstock.model.stream import Column, Relation, StreamSpec
from penstock.model.types import (
    BIGINT,
    BOOLEAN,
    BYTES,
    DATE,
    DOUBLE,
    FLOAT,
    INT,
    SMALLINT,
    STRING,
    TIME,
    TIMESTAMP,
    TIMESTAMP_LTZ,
    TINYINT,
    DataType,
    array_of,
    decimal,
    map_of,
    row_of,
)
from penstock_ingest.admit import RAW_MAX_BYTES, Admission, admit, read
from penstock_ingest.body import Form, form_of
from penstock_ingest.reading import BLOCK_BYTES, EARLIEST_TIME_MS
from penstock_ingest.record import Record
from penstock_ingest.settings import IngestSettings

NOW_MS = 1_514_764_800_000
LIMITS = IngestSettings()


def admitted(
    body: bytes, spec: StreamSpec, *, form: Form = Form.NDJSON, limits: IngestSettings = LIMITS
) -> Admission:
    """What admission makes of a body when no id has been seen before."""
    reading = read(body, form, Record(spec), now_ms=NOW_MS, limits=limits)
    return admit(reading, spec, fresh=None, now_ms=NOW_MS, errors_max=limits.errors_max)


def one_column(data_type: DataType, *, nullable: bool = True) -> StreamSpec:
    """A stream with the column v beside a time."""
    return StreamSpec("s", "app", Relation.SOURCE, (Column("v", data_type, nullable), Column("ts", TIMESTAMP)),
                      time_column="ts")  # fmt: skip


def outcome(data_type: DataType, text: str) -> str:
    """`ok`, or the code for `v`, which must be the same alone and beside a bad line."""
    event = f'{{"v":{text},"ts":0}}'.encode()
    spec = one_column(data_type)
    alone = admitted(event, spec)
    beside = admitted(event + b"\nbad", spec)
    codes = [error["code"] for error in alone.errors] or ["ok"]
    assert codes == ([error["code"] for error in beside.errors if error["index"] == 0] or ["ok"])
    return str(codes[0])


@pytest.mark.parametrize(
    ("data_type", "text", "expected"),
    [
        (DOUBLE, "12.5", "ok"), (DOUBLE, "12", "ok"), (DOUBLE, "null", "ok"), (DOUBLE, '"12.5"', "wrong_type"),
        (DOUBLE, "true", "wrong_type"), (DOUBLE, "1e400", "out_of_range"), (DOUBLE, "NaN", "bad_json"),
        (DOUBLE, "-Infinity", "bad_json"), (DOUBLE, '"NaN"', "wrong_type"), (FLOAT, "1e39", "out_of_range"),
        (INT, "2147483647", "ok"), (INT, "2147483648", "out_of_range"), (INT, "1.0", "wrong_type"),
        (INT, "1e2", "wrong_type"), (TINYINT, "-128", "ok"), (TINYINT, "128", "out_of_range"),
        (SMALLINT, "32768", "out_of_range"), (BIGINT, "9223372036854775807", "ok"),
        (BIGINT, "9223372036854775808", "out_of_range"), (BIGINT, "9" * 5000, "out_of_range"),
        (BIGINT, '"1"', "wrong_type"), (BOOLEAN, "true", "ok"), (BOOLEAN, "1", "wrong_type"),
        (STRING, '"\\u00e9"', "ok"), (STRING, "5", "wrong_type"), (STRING, "{}", "wrong_type"),
        (decimal(10, 2), "1.10", "ok"), (decimal(10, 2), '"1.10"', "ok"), (decimal(10, 2), "1.105", "out_of_range"),
        (decimal(10, 2), '"1,10"', "wrong_type"), (decimal(10, 2), '"NaN"', "wrong_type"),
        (decimal(10, 2), "1e999999999999999999999", "out_of_range"), (decimal(10, 2), "true", "wrong_type"),
        (DATE, '"2018-02-28"', "ok"), (DATE, '"2018-02-29"', "wrong_type"),
        (DATE, '"2018-02-28 00:00:00"', "wrong_type"),
        (DATE, "17000", "wrong_type"), (TIME, '"12:30:00"', "ok"), (TIME, '"24:30:00"', "wrong_type"),
        (TIME, '"12:30:00Z"', "wrong_type"), (BYTES, '"AAEC"', "ok"), (BYTES, '"AAE"', "wrong_type"),
        (BYTES, "[0]", "wrong_type"), (TIMESTAMP, '"2018-01-01"', "ok"), (TIMESTAMP, "1.5", "wrong_type"),
        (TIMESTAMP, '"1514764800000"', "wrong_type"), (TIMESTAMP, "253402300800000", "out_of_range"),
        (TIMESTAMP_LTZ, '"2018-01-01T00:00:00+05:30"', "ok"), (TIMESTAMP, "true", "wrong_type"),
        (TIMESTAMP_LTZ, '"0001-01-01T00:00:00+05:30"', "out_of_range"), (TIMESTAMP, '"9999-12-31"', "ok"),
    ],
)  # fmt: skip
def test_values_are_taken_as_they_are_or_refused(data_type: DataType, text: str, expected: str) -> None:
    assert outcome(data_type, text) == expected


def test_a_wrong_type_names_the_column_and_the_json_type_found() -> None:
    (error,) = admitted(b'{"v":"12.5","ts":0}', one_column(DOUBLE)).errors
    assert "'v' is DOUBLE, found string" in str(error["detail"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('"2018-01-01T00:00:00"', NOW_MS), ('"2018-01-01 00:00:00"', NOW_MS), ('"2018-01-01"', NOW_MS),
        ('"2018-01-01T00:00:00.123Z"', NOW_MS + 123), ('"2018-01-01T05:30:00+05:30"', NOW_MS),
        ("1514764800000", NOW_MS), ('"2018-01-02T00:00:00"', NOW_MS + 86_400_000), ('"1969-07-20"', -14_256_000_000),
        ("null", "no_event_time"), ('"2018-01-02T00:00:00.001"', "time_out_of_range"),
        ('"2099-01-01"', "time_out_of_range"), ('"1899-12-30"', "time_out_of_range"),
        (str(EARLIEST_TIME_MS), EARLIEST_TIME_MS), (str(EARLIEST_TIME_MS - 1), "time_out_of_range"),
        ('"yesterday"', "wrong_type"), ("1514764800", 1514764800), ("99999999999999999999", "out_of_range"),
    ],
)  # fmt: skip
def test_event_times_are_read_in_every_form_and_kept_in_range(text: str, expected: int | str) -> None:
    event = f'{{"id":"1","ts":{text}}}'.encode()
    for body in (event, event + b"\nbad"):
        admission = admitted(body, ARRIVALS)
        if isinstance(expected, int):
            (batch,) = admission.batches
            assert (batch.min_time_ms, batch.max_time_ms) == (expected, expected)
        else:
            assert admission.errors[0]["code"] == expected


def test_times_of_mixed_kinds_in_one_body_are_all_read() -> None:
    texts = ["1514764800001", '"2018-01-01T00:00:00.005"', '"2018-01-01T00:00:00.009Z"', '"2018-01-01"', "null"]
    body = "\n".join(f'{{"id":"{n}","ts":{text}}}' for n, text in enumerate(texts)).encode()
    admission = admitted(body, ARRIVALS)
    assert (admission.batches[0].min_time_ms, admission.batches[0].max_time_ms) == (NOW_MS, NOW_MS + 9)
    assert [(error["index"], error["code"]) for error in admission.errors] == [(4, "no_event_time")]


def test_a_stream_without_event_time_needs_none() -> None:
    spec = replace(one_column(STRING), time_column=None)
    (batch,) = admitted(b'{"v":"a"}\n{"v":"b","ts":"2099-01-01"}', spec).batches
    assert (batch.count, batch.min_time_ms, batch.max_time_ms) == (2, None, None)


def test_required_columns_must_be_there_and_others_may_be_missing() -> None:
    spec = replace(one_column(STRING, nullable=False))
    for text in (b'{"ts":0}', b'{"v":null,"ts":0}'):
        assert admitted(text, spec).errors[0]["code"] == "missing_column"
    keyed = replace(ARRIVALS, dedupe=("id",))
    assert admitted(b'{"ts":0}', keyed).errors[0]["code"] == "missing_column"
    assert admitted(b'{"id":"1","ts":0}', keyed).accepted == 1


def test_unknown_fields_are_noticed_or_refused() -> None:
    body = b'{"id":"1","ts":0}\n{"id":"2","ts":0,"colour":"red"}'
    reading = read(body, Form.NDJSON, Record(ARRIVALS), now_ms=NOW_MS, limits=LIMITS)
    assert reading.unknown_fields and reading.count == 2
    assert not read(body[:17], Form.NDJSON, Record(ARRIVALS), now_ms=NOW_MS, limits=LIMITS).unknown_fields
    refused = admitted(body, replace(ARRIVALS, unknown="reject"))
    assert refused.accepted == 1 and "colour" in str(refused.errors[0]["detail"])
    assert refused.errors[0]["code"] == "unknown_field"


def test_the_payload_is_the_body_byte_for_byte() -> None:
    lines = [b'{"id":"%d" , "ts":0, "id":"%d","n":1.0e-0}' % (n, n) for n in range(3)]
    (batch,) = admitted(b"\n".join(lines) + b"\n", ARRIVALS).batches
    assert decode_lines(batch.payload) == b"\n".join(lines)
    assert len(batch.ids) == 3 * 16


@pytest.mark.parametrize("body", [b'{"id":"1","ts":0}{"id":"2","ts":0}', b'{"id":"1","ts":0} {"id":"2","ts":\n0 }',
                                  b'{"id":"1","ts":0,"x":[{\n}]}', b'{"id":"1","ts":0},'])  # fmt: skip
def test_a_line_is_one_event_and_an_event_is_one_line(body: bytes) -> None:
    admission = admitted(body, ARRIVALS)
    assert admission.accepted == 0 and {error["code"] for error in admission.errors} == {"bad_json"}


def test_a_bad_line_in_a_long_body_spares_the_other_blocks() -> None:
    lines = [b'{"id":"%06d","ts":%d,"market":"%s"}' % (n, n, b"m" * 60) for n in range(8000)]
    lines[4000] = b'{"id":"x"}'
    lines[4001] = b'{"id":"y","ts":0,"market":"%s"}' % (b"m" * (BLOCK_BYTES + 5))
    body = b"\n".join(lines)
    assert len(body) > 3 * BLOCK_BYTES
    admission = admitted(body, ARRIVALS)
    assert [(error["index"], error["code"]) for error in admission.errors] == [(4000, "no_event_time")]
    (batch,) = admission.batches
    assert decode_lines(batch.payload) == b"\n".join(lines[:4000] + lines[4001:])
    assert (batch.count, batch.max_time_ms) == (7999, 7999)


def test_raw_bytes_of_rejected_events_and_listed_errors_are_capped() -> None:
    body = b"\n".join([b"x" * (RAW_MAX_BYTES + 1)] + [b"bad"] * 20)
    admission = admitted(body, ARRIVALS, limits=IngestSettings(errors_max=5))
    assert len(admission.rejected[0].raw) == RAW_MAX_BYTES
    assert len(admission.errors) == 5 and len(admission.rejected) == 21


def test_ids_differ_between_streams_and_columns() -> None:
    def ids(spec: StreamSpec) -> bytes:
        return admitted(b'{"id":"1","market":"1","ts":0}', spec).batches[0].ids

    specs = [ARRIVALS, replace(ARRIVALS, name="other"), replace(ARRIVALS, dedupe=("market",))]
    assert len({ids(spec) for spec in specs}) == 3


_TYPES = [BOOLEAN, TINYINT, INT, BIGINT, FLOAT, DOUBLE, decimal(10, 2), STRING, BYTES, DATE, TIME, TIMESTAMP,
          TIMESTAMP_LTZ]  # fmt: skip
_scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=12),
    st.decimals(allow_nan=False, allow_infinity=False).map(str),
    st.datetimes().map(lambda t: t.isoformat()),
    st.datetimes().map(lambda t: t.isoformat(sep=" ") + "+05:30"),
    st.dates().map(lambda t: t.isoformat()),
    st.times().map(lambda t: t.isoformat()),
    st.binary(max_size=9).map(lambda b: msgspec.json.encode(b).decode().strip('"')),
)
_values = st.recursive(
    _scalars, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner, max_size=2)
)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(_TYPES), st.lists(_values, min_size=1, max_size=4), st.booleans())
@example(TIMESTAMP, ["0001-01-01T00:00:00+05:30"], False)
@example(TIMESTAMP, ["2018-01-01T00:00:00.9999999"], True)
def test_a_block_read_at_once_and_line_by_line_agree(data_type: DataType, values: list[object], keyed: bool) -> None:
    spec = one_column(data_type)
    if keyed:
        spec = replace(spec, dedupe=("v",), key=("v",), partitions=3)
    lines = [json.dumps({"v": value, "ts": number}).encode() for number, value in enumerate(values)]
    together = admitted(b"\n".join(lines), spec)
    isolated = admitted(b"\n".join([*lines, b"bad"]), spec)
    assert together.batches == isolated.batches
    assert together.errors == isolated.errors[:-1]
    assert together.accepted + len(together.rejected) == len(lines)


_PIECES = [b'{"id":"1","ts":0}', b'{"id":"2","ts":0,"x":[', b"\n", b"{", b"}", b"[", b"]", b",", b'"', b"\\", b"\xff",
           b" ", b"\r\n", b"\x00", b"5"]  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(
    st.binary(max_size=200) | st.lists(st.sampled_from(_PIECES), max_size=20).map(b"".join),
    st.sampled_from(["application/json", "application/x-ndjson", ""]),
    st.integers(1, 3),
)
def test_arbitrary_bytes_are_counted_or_refused_and_never_crash(body: bytes, kind: str, partitions: int) -> None:
    spec = replace(ARRIVALS, partitions=partitions)
    try:
        admission = admitted(body, spec, form=form_of(body, kind), limits=IngestSettings(event_max_bytes=64))
    except PenstockError as error:
        refused = error
    else:
        refused = None
    if refused is not None:
        assert refused.status in (400, 413)
        return
    stored = sum(batch.count for batch in admission.batches)
    assert stored == admission.accepted
    assert [len(decode_lines(batch.payload).split(b"\n")) for batch in admission.batches] == [
        batch.count for batch in admission.batches
    ]
    for batch in admission.batches:
        assert len(batch.ids) == 16 * batch.count
        for text in decode_lines(batch.payload).split(b"\n"):
            assert isinstance(json.loads(text), dict)
    if kind == "application/x-ndjson":
        text = body.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n")
        events = sum(1 for line in text.split(b"\n") if line.strip(b" \t\r"))
        assert admission.accepted + admission.duplicate + len(admission.rejected) == events


def test_arrays_maps_and_rows_are_admitted_as_declared_and_refused_with_the_place_of_what_is_wrong() -> None:
    inner = row_of(("x", INT), ("m", map_of(STRING, decimal(5, 2))))
    spec = StreamSpec("s", "app", Relation.SOURCE, (Column("a", array_of(DATE)), Column("r", inner)))
    good = b'{"a":["2018-01-01",null],"r":{"x":1,"m":{"k":1.5}}}\n{"a":[],"r":{}}\n{"a":null}'
    assert admitted(good, spec).accepted == 3
    wrong = [
        (b'{"a":["2018-01-01","x"]}', "wrong_type", "in [1]: 'x' is not a date"),
        (b'{"a":"x"}', "wrong_type", "found string"),
        (b'{"r":{"x":"no"}}', "wrong_type", "`$.x`"),
        (b'{"r":{"m":{"k":1.555}}}', "out_of_range", "in [m]: in [k]: '1.555'"),
    ]
    for line, code, place in wrong:
        (error,) = admitted(line, spec).errors
        assert error["code"] == code
        assert place in str(error["detail"])
