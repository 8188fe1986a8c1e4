"""Spans of sessions against a plain reading: rows sorted, cut where the pause is longer than the gap."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock_processor.operators.sessions import Session, Sessions
from penstock_processor.operators.step import MAX_WATERMARK

PIECES = st.lists(st.tuples(st.sampled_from("ab"), st.integers(-40, 40), st.integers(0, 9)), max_size=12)


def _spans(rows, gap):
    """[(first, last)] of times."""
    found = []
    for at in sorted(rows):
        if found and at - found[-1][1] <= gap:
            found[-1] = found[-1][0], at
        else:
            found.append((at, at))
    return found


def _held(sessions, key):
    return sorted((s.start, s.last) for s in sessions.open.values() if s.key == key)


@settings(deadline=None, derandomize=True)
@given(pieces=PIECES, gap=st.integers(1, 6))
def test_pieces_in_any_order_become_the_sessions_of_their_rows(pieces, gap):
    sessions, numbers = Sessions(gap), {}
    for key, first, length in pieces:
        number, taken = sessions.extend(key, first, first + length)
        assert number in sessions.open and not set(taken) & sessions.open.keys()
        numbers[key, first, length] = number
    for key in "ab":
        rows = [at for k, first, length in pieces if k == key for at in range(first, first + length + 1)]
        assert _held(sessions, key) == _spans(rows, gap)
    starts = [s.start for s in sessions.open.values()]
    assert sessions.complete_to(1000) == min([*(at - 1 for at in starts), 1000 - gap + 1])
    assert sessions.complete_to(MAX_WATERMARK) == MAX_WATERMARK


@settings(deadline=None, derandomize=True)
@given(pieces=PIECES, gap=st.integers(1, 6), watermarks=st.lists(st.integers(-50, 70), max_size=5))
def test_a_session_ends_once_when_the_watermark_reaches_its_end(pieces, gap, watermarks):
    sessions = Sessions(gap)
    for key, first, length in pieces:
        sessions.extend(key, first, first + length)
    for watermark in sorted(watermarks):
        expected = [n for n, s in sessions.open.items() if s.last + gap - 1 <= watermark]
        due = sessions.due(watermark)
        assert due == sorted(expected)
        for number in due:
            sessions.remove(number)
        assert sessions.due(watermark) == []


def test_a_late_row_counts_where_it_meets_an_open_session_and_not_before_there_is_one():
    sessions = Sessions(10)
    sessions.put(3, Session("a", 100, 120))
    assert sessions.accepted("a", [89, 90, 80, 69, 130], 125) == [False, True, True, False, True]
    assert sessions.accepted("b", [90, 126, 116, 105], 125) == [False, True, True, False]
    assert _held(sessions, "a") == [(100, 120)]


def test_numbers_go_on_after_those_that_were_restored():
    sessions = Sessions(10)
    sessions.put(7, Session("a", 0, 0))
    assert sessions.extend("a", 50, 50) == (8, [])
    assert sessions.extend("a", 10, 40) == (8, [7])


@pytest.mark.parametrize("asked", [True, False])
def test_sessions_that_have_ended_leave_nothing_behind_while_another_one_stays_open(asked):
    sessions, weights = Sessions(5), []
    for at in range(0, 20_000, 2):
        sessions.extend("stays", at, at)
        sessions.extend(at, at, at)
        for number in sessions.due(at + 3):
            sessions.remove(number)
        if asked:
            assert sessions.complete_to(at + 3) == -1
        if at % 100 == 0:
            weights.append(len(pickle.dumps(sessions)))
    assert max(weights[100:]) < 1.5 * max(weights[:100])
    assert sessions.due(30_000) == sorted(sessions.open)
