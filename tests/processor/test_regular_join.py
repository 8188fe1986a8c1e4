"""Joins without bounds in time: every cycle's changes, added up, give the join of what both sides have then."""

from __future__ import annotations

import random
from collections import Counter

import polars as pl
import pytest
from processor.keyed_rig import WAYS, app, blocks, end_of

from penstock.errors import SqlErrors
from penstock.expressions.nodes import Call, ColumnRef
from penstock.model.batch import Op
from penstock.model.types import BOOLEAN, INT
from penstock.ports.log import DeltaKind
from penstock_processor.compile.build import build_engine
from penstock_processor.compile.keyed import regular_join
from penstock_processor.logical.plan import Field, Filter, JoinKind, Scan
from penstock_processor.logical.plan_keyed import RegularJoin, TopN
from penstock_processor.operators.interface import SourceBlock
from penstock_processor.operators.pairing import key_name
from penstock_processor.operators.step import AT, CHANGE, NOWHERE, Flow, Step

LARGER = Call(BOOLEAN, function=">", args=(ColumnRef(INT, name="v"), ColumnRef(INT, name="w")))


class Given:
    """A source that gives what a test sets."""

    def __init__(self):
        self.frame = None

    def run(self, step):
        return Flow(self.frame, None, None)


def side(*names, updating):
    """A plan node with INT columns whose rows can be taken back, or not."""
    fields = tuple(Field(name, INT) for name in names)
    scan = Scan(fields, "t")
    return TopN(fields, scan, (), (), 1, ranked=False) if updating else Filter(fields, scan, LARGER)


class Join:
    """The operator over two sources: rows (key, value), results as a multiset of rows."""

    def __init__(self, kind, *, residual=None, updating=True, ttl_ms=None):
        left, right = side("k", "v", updating=updating), side("h", "w", updating=updating)
        fields = left.fields if kind.left_alone else (*left.fields, *right.fields)
        keys = (ColumnRef(INT, name="k"),), (ColumnRef(INT, name="h"),)
        self.node = RegularJoin(fields, left, right, ("k", "v"), ("h", "w"), *keys, residual, kind, ttl_ms)
        self.result = Counter()
        self.log = []
        self.restart()

    def restart(self):
        self.sources = Given(), Given()
        self.operator = regular_join(self.node, *self.sources, operator="join")
        self.operator.restore(self.log)

    def compact(self):
        self.log = [self.operator.compact()]

    def step(self, left, right, now_ms=0):
        """`left`, `right`: (operation, key, value). Returns the changes as text."""
        step = Step(now_ms=now_ms)
        for source, which, rows in zip(self.sources, ("l", "r"), (left, right), strict=True):
            names = ("k", "v") if which == "l" else ("h", "w")
            frame = pl.DataFrame([row[1:] for row in rows], schema=dict.fromkeys(names, pl.Int32), orient="row")
            beside = [pl.Series(AT, [NOWHERE] * len(rows), pl.Int64),
                      pl.Series(CHANGE, [int(row[0]) for row in rows], pl.Int8)]  # fmt: skip
            source.frame = frame.with_columns(frame[names[0]].alias(key_name(which, 0))).hstack(beside)
        flow = self.operator.run(step)
        self.log += step.deltas
        if flow.frame is None:
            return []
        rows = flow.frame.select(f.name for f in self.node.fields).rows()
        ops = [Op(op) for op in flow.frame[CHANGE]] if CHANGE in flow.frame.columns else [Op.INSERT] * len(rows)
        for op, row in zip(ops, rows, strict=True):
            self.result[row] += 1 if op in (Op.INSERT, Op.UPDATE_AFTER) else -1
        assert all(count >= 0 for count in self.result.values())
        self.result = +self.result
        return [(op.text, *row) for op, row in zip(ops, rows, strict=True)]


def joined(kind, left, right, matches):
    """The definition."""
    pairs = [(a, b) for a in left for b in right if a[0] is not None and a[0] == b[0] and matches(a, b)]
    if kind.left_alone:
        wanted = kind is JoinKind.SEMI
        return Counter(a for a in left if any(a is p[0] for p in pairs) == wanted)
    found = Counter((*a, *b) for a, b in pairs)
    if kind.pads_left_rows:
        found.update((*a, None, None) for a in left if not any(a is p[0] for p in pairs))
    if kind.pads_right_rows:
        found.update((None, None, *b) for b in right if not any(b is p[1] for p in pairs))
    return found


def some_changes(chance, rows, *, updating):
    """Some rows go, then some come; `rows` are changed. Rows are lists, so that equal ones are told apart."""
    gone = (
        [rows.pop(chance.randrange(len(rows))) for _ in range(chance.randint(0, min(3, len(rows))))]
        if updating
        else []
    )
    come = [Row((chance.choice([None, 0, 1, 2]), chance.randint(0, 2))) for _ in range(chance.randint(0, 4))]
    rows += come
    return [(chance.choice([Op.DELETE, Op.UPDATE_BEFORE]), *row) for row in gone] + [
        (chance.choice([Op.INSERT, Op.UPDATE_AFTER]), *row) for row in come
    ]


class Row(tuple):
    """A row with an identity of its own."""


@pytest.mark.parametrize("updating", [True, False])
@pytest.mark.parametrize("residual", [None, LARGER])
@pytest.mark.parametrize("kind", JoinKind)
def test_changes_add_up_to_the_join_of_what_is_there(kind, residual, updating):
    chance = random.Random(f"{kind}{residual is None}{updating}")
    join = Join(kind, residual=residual, updating=updating)
    left, right = [], []
    for _ in range(30 if updating else 12):
        join.step(some_changes(chance, left, updating=updating), some_changes(chance, right, updating=updating))
        wanted = joined(kind, left, right, lambda a, b: residual is None or a[1] > b[1])
        assert join.result == wanted
        if chance.random() < 0.15:
            join.compact()
        if chance.random() < 0.2:
            join.restart()


def test_a_padded_row_is_taken_back_when_its_first_match_comes_and_given_again_when_the_last_goes():
    join = Join(JoinKind.LEFT)
    assert join.step([(Op.INSERT, 1, 10)], []) == [("+I", 1, 10, None, None)]
    assert join.step([], [(Op.INSERT, 1, 5)]) == [("-D", 1, 10, None, None), ("+I", 1, 10, 1, 5)]
    assert join.step([], [(Op.INSERT, 1, 6)]) == [("+I", 1, 10, 1, 6)]
    assert join.step([], [(Op.DELETE, 1, 5)]) == [("-D", 1, 10, 1, 5)]
    assert join.step([], [(Op.DELETE, 1, 6)]) == [("-D", 1, 10, 1, 6), ("+I", 1, 10, None, None)]
    assert join.step([(Op.DELETE, 1, 10)], []) == [("-D", 1, 10, None, None)]
    assert join.operator.size() == 0


def test_a_row_and_its_match_of_one_cycle_give_the_pair_alone():
    join = Join(JoinKind.FULL)
    assert join.step([(Op.INSERT, 1, 10)], [(Op.INSERT, 1, 5)]) == [("+I", 1, 10, 1, 5)]
    assert join.step([(Op.UPDATE_BEFORE, 1, 10), (Op.UPDATE_AFTER, 2, 10)], []) == [
        ("-D", 1, 10, 1, 5), ("+I", 2, 10, None, None), ("+I", None, None, 1, 5)]  # fmt: skip


def test_what_was_not_written_for_long_is_forgotten_and_not_taken_back():
    join = Join(JoinKind.LEFT, ttl_ms=100)
    join.step([(Op.INSERT, 1, 10)], [], now_ms=1000)
    assert join.step([], [(Op.INSERT, 1, 5)], now_ms=1099) != []  # the match writes the left row again
    assert join.step([], [(Op.INSERT, 1, 6)], now_ms=1198) == [("+I", 1, 10, 1, 6)]
    assert join.step([], [(Op.INSERT, 1, 7)], now_ms=1298) == []
    assert join.step([(Op.INSERT, 1, 11)], [], now_ms=1398) == [("+I", 1, 11, None, None)]


def test_a_restart_keeps_what_deltas_say_of_matches():
    join = Join(JoinKind.LEFT)
    join.step([(Op.INSERT, 1, 10)], [(Op.INSERT, 1, 5)])
    join.restart()
    assert all(delta.kind is DeltaKind.APPEND for delta in join.log)
    assert join.step([], [(Op.DELETE, 1, 5)]) == [("-D", 1, 10, 1, 5), ("+I", 1, 10, None, None)]


def random_rows(seed, count=50):
    chance = random.Random(seed)
    return [(chance.choice([None, 0, 1, 2, 3]), chance.randint(0, 5), chance.randint(0, 9)) for _ in range(count)]


LATEST = """CREATE VIEW {name} AS SELECT k, v FROM (
  SELECT *, ROW_NUMBER() OVER (PARTITION BY k ORDER BY ts DESC) AS n FROM {table}) WHERE n = 1;
"""


def latest(rows):
    kept = {}
    for k, v, ts in rows:
        if k is not None and (k not in kept or ts >= kept[k][1]):
            kept[k] = (v, ts)
    return {k: v for k, (v, _) in kept.items()}


@pytest.mark.parametrize("way", WAYS)
def test_the_last_rows_of_two_streams_side_by_side(way):
    rows = {"l": random_rows(1), "r": random_rows(2, 5)}
    plan = app("k INT, a INT, b INT, PRIMARY KEY (k) NOT ENFORCED",
               "SELECT a.k, a.v, b.v FROM a LEFT JOIN b ON a.k = b.k WHERE a.k IS NOT NULL",
               views=LATEST.format(name="a", table="l") + LATEST.format(name="b", table="r"))  # fmt: skip
    left, right = latest(rows["l"]), latest(rows["r"])
    assert end_of(plan, rows, way) == sorted(((k, v, right.get(k)) for k, v in left.items()), key=repr)


def test_an_inner_join_of_streams_is_a_stream():
    plan = app("k INT, a INT, b INT", "SELECT l.k, l.v, r.v FROM l JOIN r ON l.k = r.k AND l.v <> r.v")
    engine = build_engine(plan)
    frames = blocks(
        plan, {"l": [(1, 1, 0), (None, 1, 0), (2, 2, 0)], "r": [(1, 2, 0), (1, 1, 0), (None, 3, 0), (1, 5, 0)]}
    )
    found = []
    for name in ("l", "r"):
        for output in engine.step([SourceBlock(name, 0, frames[name])]).outputs:
            found += output.frame.rows()
    assert found == [(1, 1, 2, int(Op.INSERT)), (1, 1, 5, int(Op.INSERT))]


@pytest.mark.parametrize(("query", "ttl", "code"), [
    ("SELECT l.k, l.v, r.v FROM l JOIN r ON l.k = r.k", "0", "unbounded_state"),
    ("SELECT l.k, l.v, r.v FROM l LEFT JOIN r ON l.k = r.k", "1 h", "update_without_key"),
])  # fmt: skip
def test_joins_that_cannot_be_kept_are_refused(query, ttl, code):
    with pytest.raises(SqlErrors) as refused:
        app("k INT, a INT, b INT", query, ttl=ttl)
    assert [error.code for error in refused.value.errors] == [code]
