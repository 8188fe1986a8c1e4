"""Rows kept by key, held against a plain list of rows: what is found, what goes, what survives a restart."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass

import numpy as np
import polars as pl
import pytest

from penstock_processor.operators import keyed_rows
from penstock_processor.operators.keyed_rows import KeyedRows

SCHEMA = {"k": pl.Int64, "name": pl.String, "x": pl.Float64}


@dataclass
class Kept:
    """A row of the model; `written` and `count` as the store has them."""

    values: tuple
    written: int
    count: int = 0


def frame(rows):
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def random_row(chance):
    return (
        chance.choice([None, *range(6)]),
        chance.choice([None, "", "a", "b"]),
        chance.choice([None, 0.0, float("nan")]),
    )


def plain(values):
    """NaN is equal to NaN here."""
    return tuple("NaN" if v != v else v for v in values)


def found_by_key(store, keys, now_ms):
    found = Counter()
    for mine, positions in store.matches(pl.DataFrame({"k": keys}, schema={"k": pl.Int64}), now_ms):
        for n, row in zip(mine.tolist(), store.rows(positions).rows(), strict=True):
            found[(keys[n], *plain(row))] += 1
    return found


@pytest.mark.parametrize("ttl_ms", [None, 50])
@pytest.mark.parametrize("seed", range(3))
def test_the_store_is_a_list_of_rows_that_is_found_by_key_and_by_value(seed, ttl_ms, monkeypatch):
    monkeypatch.setattr(keyed_rows, "DEAD_MIN", 8)
    chance = random.Random(seed)
    store, model, log = KeyedRows(["k"], whole=list(SCHEMA), ttl_ms=ttl_ms), [], []
    now_ms = 1000
    for _ in range(70):
        now_ms += chance.randint(0, 10)
        live = [row for row in model if ttl_ms is None or row.written > now_ms - ttl_ms]
        keys = [None, *range(7)]
        wanted = Counter((k, *plain(r.values)) for k in keys for r in live if r.values[0] == k)
        assert found_by_key(store, keys, now_ms) == wanted
        gone = [random_row(chance) for _ in range(chance.randint(0, 4))]
        mine, positions = store.equal(frame(gone), now_ms)
        matched = []
        for n, values in enumerate(gone):
            hit = next((r for r in live if plain(r.values) == plain(values)), None)
            if hit is not None:
                live.remove(hit)
                model.remove(hit)
                matched.append(n)
        assert sorted(mine.tolist()) == matched
        store.remove(positions)
        rows = [random_row(chance) for _ in range(chance.randint(0, 5))]
        store.add(frame(rows), now_ms)
        model += [Kept(values, now_ms) for values in rows]
        if chance.random() < 0.3 and live:
            hit = chance.choice(live)
            (found,) = store.equal(frame([hit.values]), now_ms)[1]
            first = next(r for r in live if plain(r.values) == plain(hit.values))
            first.written, first.count = now_ms, chance.randint(1, 9)
            store.write(np.array([found]), np.array([first.count]), now_ms)
        changes = store.changes()
        log += [] if changes is None else [changes]
        store.tidy(now_ms)
        if chance.random() < 0.2:
            log = [store.saved()]
        if chance.random() < 0.2:
            store = KeyedRows(["k"], whole=list(SCHEMA), ttl_ms=ttl_ms)
            for frames in log:
                store.load(frames)
    if ttl_ms is not None:
        store.tidy(now_ms + ttl_ms)
        assert len(store) == 0


def test_equal_rows_go_one_by_one_the_oldest_first():
    store = KeyedRows(["k"], whole=list(SCHEMA))
    store.add(frame([(1, "a", 1.0), (1, "a", 1.0), (1, "a", 1.0)]), 0)
    mine, positions = store.equal(frame([(1, "a", 1.0), (2, "a", 1.0), (1, "a", 1.0)]), 0)
    assert (mine.tolist(), store.numbers(positions).tolist()) == ([0, 2], [0, 1])


def test_numbers_stay_those_of_arrival_when_rows_are_moved_together_and_restored():
    store = KeyedRows(["k"], whole=None)
    for n in range(0, 3000, 100):
        store.add(frame([(m, "a", None) for m in range(n, n + 100)]), 0)
    store.remove(np.arange(2000))
    store.tidy(0)
    kept = [(positions, store.numbers(positions)) for _, positions in store.matches(pl.DataFrame({"k": [2500]}), 0)]
    assert [(len(positions), numbers.tolist()) for positions, numbers in kept] == [(1, [2500])]
    other = KeyedRows(["k"], whole=None)
    other.load(store.saved())
    assert other.numbers(other.add(frame([(1, "b", None)]), 0)).tolist() == [3000]
    assert len(other) == 1001
