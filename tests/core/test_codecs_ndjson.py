"""NDJSON payloads: the bytes of each event survive, one a line."""

from __future__ import annotations

import msgspec
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from penstock.codecs.ndjson import decode_lines, encode_lines

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(st.dictionaries(st.text(max_size=4), values, max_size=4), min_size=1, max_size=5))
def test_objects_come_back_byte_for_byte_in_order(objects: list[dict[str, object]]) -> None:
    lines = [msgspec.json.encode(o) for o in objects]
    assert decode_lines(encode_lines(lines)).split(b"\n") == lines


def test_a_pretty_printed_object_takes_one_line_and_keeps_its_meaning() -> None:
    pretty = b'{\r\n  "a": "x\\ny",\n  "a": 2\n}'
    lines = decode_lines(encode_lines([b'{"b":1}', pretty])).split(b"\n")
    assert lines[0] == b'{"b":1}'
    assert len(lines) == 2
    assert msgspec.json.decode(lines[1]) == msgspec.json.decode(pretty)
    assert lines[1].count(b'"a"') == 2


def test_a_damaged_payload_is_an_error() -> None:
    with pytest.raises(zstandard.ZstdError):
        decode_lines(b"not zstd at all")
