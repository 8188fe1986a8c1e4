"""Waiting rows of a join: what is found, how segments stay few, and when rows go."""

from __future__ import annotations

import random

import polars as pl

from penstock_processor.operators import segments
from penstock_processor.operators.segments import Segments


def _segments():
    return Segments(keys=["k"], time="t", expiry="x")


def _frame(rows):
    return pl.DataFrame({"k": [k for k, _ in rows], "t": [t for _, t in rows], "x": [t + 10 for _, t in rows]})


def _pairs(left, right):
    found = []
    for mine, other in left.pairs(right):
        found += zip(left.frame[mine].rows(), right.frame[other].rows(), strict=True)
    return sorted(found)


def test_all_pairs_with_equal_keys_are_found_in_bounded_portions(monkeypatch):
    monkeypatch.setattr(segments, "PAIRS_MAX", 50)
    rng = random.Random(5)
    a, b = ([(rng.randint(0, 9), n) for n in range(200)] for _ in "ab")
    waiting = _segments()
    left, right = waiting.make(_frame(a)), waiting.make(_frame(b))
    expected = sorted((x, y) for x in _frame(a).rows() for y in _frame(b).rows() if x[0] == y[0])
    assert _pairs(left, right) == expected
    assert max(len(mine) for mine, _ in left.pairs(right)) <= 50


def test_segments_stay_few_and_lose_nothing():
    waiting = _segments()
    for n in range(500):
        waiting.add(_frame([(n % 7, n)]))
    assert len(waiting) == 500
    assert len(list(waiting)) < 12
    rows = waiting.frame()
    assert rows is not None
    assert sorted(rows["t"].to_list()) == list(range(500))


def test_rows_go_once_most_of_their_segment_is_dead():
    waiting = _segments()
    waiting.add(_frame([(1, t) for t in range(100)]))
    waiting.purge(50)
    assert len(waiting) == 100
    waiting.purge(69)
    assert len(waiting) == 40
    waiting.purge(200)
    assert len(waiting) == 0
    assert waiting.frame() is None
