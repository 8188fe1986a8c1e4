"""Rankings of rows that can be taken back: small heads before large rests give what sorting everything gives."""

from __future__ import annotations

import random
from collections import Counter

import polars as pl
import pytest

from penstock.model.batch import Op
from penstock_processor.operators import changing_top_n
from penstock_processor.operators.changing_top_n import ChangingTopNOperator
from penstock_processor.operators.ranking import Ranking
from penstock_processor.operators.step import AT, CHANGE, NOWHERE, Flow, Step

SCHEMA = {"k": pl.Int64, "v": pl.Int64}


class Given:
    """A source that gives what a test sets."""

    def __init__(self):
        self.frame = None

    def run(self, step):
        return Flow(self.frame, None, None)


class Top:
    """The operator, its log, and the rows that its changes have left."""

    def __init__(self, limit, *, partition=("k",), rank="rn", ttl_ms=None):
        self.ranking = Ranking(("k", "v"), partition, (("v", True, True),), limit, rank, latest=False)
        self.ttl_ms = ttl_ms
        self.rows = Counter()
        self.log = []
        self.restart()

    def restart(self):
        self.source = Given()
        self.operator = ChangingTopNOperator(self.source, self.ranking, ttl_ms=self.ttl_ms, operator="top")
        self.operator.restore(self.log)

    def compact(self):
        self.log = [self.operator.compact()]

    def step(self, changes, now_ms=0):
        """`changes`: (operation, k, v)."""
        frame = pl.DataFrame([row[1:] for row in changes], schema=SCHEMA, orient="row")
        beside = [pl.Series(AT, [NOWHERE] * len(changes), pl.Int64),
                  pl.Series(CHANGE, [int(row[0]) for row in changes], pl.Int8)]  # fmt: skip
        self.source.frame = frame.hstack(beside)
        step = Step(now_ms=now_ms)
        flow = self.operator.run(step)
        self.log += step.deltas
        if flow.frame is None:
            return []
        rows = flow.frame.drop(AT, CHANGE).rows()
        ops = [Op(op) for op in flow.frame[CHANGE]]
        for op, row in zip(ops, rows, strict=True):
            self.rows[row] += 1 if op in (Op.INSERT, Op.UPDATE_AFTER) else -1
        assert all(count >= 0 for count in self.rows.values())
        self.rows = +self.rows
        return [(op.text, *row) for op, row in zip(ops, rows, strict=True)]


def best(rows, limit, *, partition, rank):
    """The definition; `rows` in order of arrival."""
    groups = {}
    for k, v in rows:
        groups.setdefault(k if partition else None, []).append((k, v))
    found = Counter()
    for each in groups.values():
        each.sort(key=lambda row: (row[1] is None, -(row[1] or 0)))
        found.update((*row, n) if rank else row for n, row in enumerate(each[:limit], 1))
    return found


@pytest.mark.parametrize("partition", [("k",), ()])
@pytest.mark.parametrize(("limit", "rank"), [(1, None), (2, "rn"), (3, None)])
def test_changes_add_up_to_the_first_rows_of_what_is_there(limit, rank, partition, monkeypatch):
    monkeypatch.setattr(changing_top_n, "HEAD_MIN", 4)
    chance = random.Random(f"{limit}{rank}{partition}")
    top, rows = Top(limit, partition=partition, rank=rank), []
    for _ in range(60):
        most = chance.choice([0, 3, 12])
        gone = chance.sample(rows, min(len(rows), chance.randint(0, most)))
        for row in gone:
            rows.remove(row)  # the oldest of equal ones
        come = [(chance.choice([None, 1, 2]), chance.choice([None, *range(30)])) for _ in range(chance.randint(0, 8))]
        top.step([(Op.DELETE, *row) for row in gone] + [(Op.INSERT, *row) for row in come])
        rows += come
        wanted = best(rows, limit, partition=partition, rank=rank)
        assert top.rows == wanted
        assert top.operator.size() == len(rows)
        if chance.random() < 0.15:
            top.compact()
        if chance.random() < 0.2:
            top.restart()


def test_a_row_that_ranks_behind_moves_up_when_those_before_it_go():
    top = Top(2)
    top.step([(Op.INSERT, 1, v) for v in range(500)])
    assert top.step([(Op.DELETE, 1, 499)]) == [
        ("-U", 1, 499, 1), ("-U", 1, 498, 2), ("+U", 1, 498, 1), ("+U", 1, 497, 2)]  # fmt: skip
    top.step([(Op.DELETE, 1, v) for v in range(3, 499)])
    assert +top.rows == Counter([(1, 2, 1), (1, 1, 2)])


def test_what_was_not_written_for_long_does_not_move_up():
    top = Top(1, rank=None, ttl_ms=100)
    top.step([(Op.INSERT, 1, v) for v in range(300)], now_ms=1000)
    top.step([(Op.INSERT, 1, 1000), (Op.INSERT, 1, 999)], now_ms=1050)
    assert top.step([(Op.DELETE, 1, 1000)], now_ms=1120) == [("-U", 1, 1000), ("+U", 1, 999)]
    assert top.step([(Op.DELETE, 1, 999)], now_ms=1121) == [("-D", 1, 999)]
