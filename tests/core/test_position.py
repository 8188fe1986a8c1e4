"""Positions and cursors: text that clients keep and hand back."""

from __future__ import annotations

import base64
import binascii

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.errors import PenstockError
from penstock.model.position import CURSOR_CHARS_MAX, Cursor, Position

TOPICS = st.text(min_size=1, max_size=40)
CURSORS = st.builds(
    Cursor,
    topic=TOPICS,
    epoch=st.integers(0, 2**31),
    next=st.lists(st.integers(0, 2**40), min_size=1, max_size=8).map(tuple),
)


def as_text(body: str) -> str:
    return base64.urlsafe_b64encode(body.encode()).rstrip(b"=").decode()


def mark(topic: str) -> str:
    return f"{binascii.crc32(topic.encode()):08x}"


def assert_cursor_or_refused(topic: str, text: str) -> None:
    refusal = None
    try:
        cursor = Cursor.parse(topic, text)
    except PenstockError as error:
        refusal = (error.code, error.status)
    assert refusal == ("bad_cursor", 400) if refusal else cursor.text() == text


@given(CURSORS)
def test_a_cursor_comes_back_as_it_was(cursor: Cursor):
    assert Cursor.parse(cursor.topic, cursor.text()) == cursor


@given(CURSORS)
def test_a_cursor_can_stand_in_a_url_and_a_header_as_it_is(cursor: Cursor):
    text = cursor.text()
    assert len(text) <= CURSOR_CHARS_MAX
    assert all(c.isascii() and (c.isalnum() or c in "-_") for c in text)


@given(CURSORS, TOPICS)
def test_a_cursor_of_another_topic_is_refused(cursor: Cursor, other: str):
    if mark(other) != mark(cursor.topic):
        with pytest.raises(PenstockError, match="bad_cursor"):
            Cursor.parse(other, cursor.text())


@given(TOPICS, st.text(max_size=300))
def test_any_text_is_a_cursor_or_refused_as_one(topic: str, text: str):
    assert_cursor_or_refused(topic, text)


@given(CURSORS, st.data())
def test_one_changed_character_never_gives_a_cursor_with_other_text(cursor: Cursor, data: st.DataObject):
    text = cursor.text()
    at = data.draw(st.integers(0, len(text) - 1))
    garbled = text[:at] + data.draw(st.characters(codec="utf-8")) + text[at + 1 :]
    assert_cursor_or_refused(cursor.topic, garbled)


@pytest.mark.parametrize(
    "body",
    [
        "",
        "1",
        "1.{mark}",
        "1.{mark}.1",
        "1.{mark}.1.",
        "2.{mark}.1.0",
        "1.00000000.1.0",
        "1.{mark}.1.-1",
        "1.{mark}.-1.0",
        "1.{mark}.1.+1",
        "1.{mark}.1.0x1",
        "1.{mark}.1.1_0",
        "1.{mark}.1. 1",
        "1.{mark}.1.FF",
        "1.{mark}.1.01",
        "1.{mark}.1.\N{ARABIC-INDIC DIGIT ONE}",
        "1.{mark}.1.ffffffffffffffffffffffff",
    ],
)
def test_a_body_that_no_cursor_writes_is_refused(body: str):
    with pytest.raises(PenstockError, match="bad_cursor"):
        Cursor.parse("topic", as_text(body.format(mark=mark("topic"))))


def test_a_cursor_that_is_too_long_or_padded_is_refused():
    text = Cursor("topic", 1, (7,)).text()
    for other in (text + "=", text + "\n", " " + text, "A" * (CURSOR_CHARS_MAX + 1)):
        with pytest.raises(PenstockError, match="bad_cursor"):
            Cursor.parse("topic", other)


def test_a_topic_with_more_partitions_than_a_cursor_can_hold_is_an_error_when_written_and_not_when_read():
    with pytest.raises(ValueError, match="partitions"):
        Cursor("topic", 1, tuple(range(2**40, 2**40 + 40))).text()


def test_the_refusal_says_what_to_use_instead_and_repeats_no_more_than_a_little():
    with pytest.raises(PenstockError) as caught:
        Cursor.parse("prices", "x" * 150)
    assert "earliest" in caught.value.detail
    assert "prices" in caught.value.detail
    assert len(caught.value.detail) < 150


@given(CURSORS, st.data())
def test_many_cursors_at_once_are_the_same_as_one_by_one(cursor: Cursor, data: st.DataObject):
    partition = data.draw(st.integers(0, len(cursor.next) - 1))
    offsets = data.draw(st.lists(st.integers(0, 2**40), max_size=5))
    before, after = cursor.next[:partition], cursor.next[partition + 1 :]
    expected = [Cursor(cursor.topic, cursor.epoch, (*before, n, *after)).text().encode() for n in offsets]
    assert cursor.texts(partition, offsets) == expected


def test_positions_sort_by_epoch_first():
    assert sorted([Position(2, 0, 1), Position(1, 0, 9), Position(1, 0, 3)]) == [
        Position(1, 0, 3),
        Position(1, 0, 9),
        Position(2, 0, 1),
    ]
