"""The first rows of each group, held against sorting them all: cut, resumed, taken back, forgotten."""

from __future__ import annotations

import random

import pytest
from processor.keyed_rig import WAYS, app, blocks, end_of

from penstock.errors import SqlErrors
from penstock.model.batch import Op
from penstock_processor.compile.build import build_engine
from penstock_processor.operators.interface import SourceBlock

RANKED = "SELECT {out} FROM (SELECT *, ROW_NUMBER() OVER ({by} ORDER BY {order}) AS rn FROM l) WHERE {where}"


def random_rows(seed, count=60):
    chance = random.Random(seed)
    return [(chance.randint(0, 4), chance.choice([None, *range(6)]), chance.randint(0, 9)) for _ in range(count)]


def ranked(rows, key, group=lambda row: row[0]):
    """(rank, row) of each row."""
    groups = {}
    for row in rows:
        groups.setdefault(group(row), []).append(row)
    return [(n, row) for each in groups.values() for n, row in enumerate(sorted(each, key=key), 1)]


def low(v):
    """NULL is the least value."""
    return (v is not None, v or 0)


def high(v):
    return (v is None, -(v or 0))


ORDERS = {
    "v": lambda row: low(row[1]),
    "v DESC": lambda row: high(row[1]),
    "v DESC NULLS FIRST": lambda row: (row[1] is not None, -(row[1] or 0)),
    "v NULLS LAST, ts DESC": lambda row: (row[1] is None, row[1] or 0, -row[2]),
    "v + 1 DESC, ts": lambda row: (*high(row[1]), row[2]),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("order", ORDERS)
def test_the_best_of_each_group_are_those_of_sorting_everything(order, way):
    rows = random_rows(order)
    query = RANKED.format(out="k, rn, v", by="PARTITION BY k", order=order, where="rn <= 3")
    plan = app("k INT, rn BIGINT, v INT, PRIMARY KEY (k, rn) NOT ENFORCED", query)
    expected = [(row[0], n, row[1]) for n, row in ranked(rows, ORDERS[order]) if n <= 3]
    assert end_of(plan, {"l": rows}, way) == sorted(expected, key=repr)


@pytest.mark.parametrize("way", WAYS)
def test_without_partition_there_is_one_group(way):
    rows = random_rows(5)
    plan = app("rn BIGINT, k INT, PRIMARY KEY (rn) NOT ENFORCED",
               RANKED.format(out="rn, k", by="", order="v DESC", where="rn BETWEEN 2 AND 4"))  # fmt: skip
    best = ranked(rows, ORDERS["v DESC"], group=lambda row: 0)
    assert end_of(plan, {"l": rows}, way) == [(n, row[0]) for n, row in best[1:4]]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("order", "last"), [("ts DESC", True), ("ts", False)])
def test_deduplication_keeps_the_first_or_the_last_row_of_a_key_by_event_time(order, last, way):
    rows = random_rows(7)
    plan = app("k INT, v INT, PRIMARY KEY (k) NOT ENFORCED",
               RANKED.format(out="k, v", by="PARTITION BY k", order=order, where="rn = 1"))  # fmt: skip
    kept = {}
    for k, v, ts in rows:
        if k not in kept or (ts >= kept[k][1] if last else ts < kept[k][1]):
            kept[k] = (v, ts)
    assert end_of(plan, {"l": rows}, way) == sorted((k, v) for k, (v, _) in kept.items())


@pytest.mark.parametrize("way", WAYS)
def test_a_ranking_of_rows_that_change_brings_up_those_behind(way):
    rows = random_rows(11)
    latest = (
        "SELECT k, v FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY k ORDER BY ts DESC) AS n FROM l) WHERE n = 1"
    )
    query = (
        f"SELECT rn, k, v FROM (SELECT *, ROW_NUMBER() OVER (ORDER BY v DESC, k) AS rn FROM ({latest})) WHERE rn < 4"
    )
    plan = app("rn BIGINT, k INT, v INT, PRIMARY KEY (rn) NOT ENFORCED", query)
    kept = {}
    for k, v, ts in rows:
        if k not in kept or ts >= kept[k][1]:
            kept[k] = (v, ts)
    order = sorted(kept.items(), key=lambda item: (*high(item[1][0]), item[0]))
    assert end_of(plan, {"l": rows}, way) == [(n, k, v) for n, (k, (v, _)) in enumerate(order[:3], 1)]


def changes(engine, plan, rows, now_ms=0):
    frame = blocks(plan, {"l": rows})["l"]
    outputs = engine.step([SourceBlock("l", 0, frame)], now_ms=now_ms).outputs
    return [
        (Op(row["$op"]).text, *(row[name] for name in ("k", "v")))
        for o in outputs
        for row in o.frame.rows(named=True)
    ]


def latest_app():
    return app("k INT, v INT, PRIMARY KEY (k) NOT ENFORCED",
               RANKED.format(out="k, v", by="PARTITION BY k", order="ts DESC", where="rn = 1"))  # fmt: skip


def test_a_cycle_gives_what_changed_and_nothing_else():
    plan = latest_app()
    engine = build_engine(plan)
    assert changes(engine, plan, [(1, 10, 0), (1, 11, 5), (2, 20, 0)]) == [("+I", 1, 11), ("+I", 2, 20)]
    assert changes(engine, plan, [(1, 12, 4)]) == []
    assert changes(engine, plan, [(1, 13, 5)]) == [("+U", 1, 13)]
    assert sum(n for name, n in engine.state_sizes().items() if "watermark" not in name) == 2


def test_a_group_that_nobody_touched_for_long_is_forgotten():
    plan = latest_app()
    engine = build_engine(plan)
    hour = 3_600_000
    changes(engine, plan, [(1, 10, 50), (2, 20, 50)], now_ms=hour)
    assert changes(engine, plan, [(1, 11, 40)], now_ms=2 * hour - 1) == []
    assert changes(engine, plan, [(1, 11, 40)], now_ms=2 * hour) == [("+I", 1, 11)]


@pytest.mark.parametrize(("query", "code"), [
    ("SELECT k, ROW_NUMBER() OVER (PARTITION BY k ORDER BY v) AS rn FROM l", "unbounded_state"),
    (RANKED.format(out="k, v", by="PARTITION BY k", order="v", where="rn <= 0"), "never_true"),
    (RANKED.format(out="k, v", by="PARTITION BY k", order="v", where="rn >= 2"), "unbounded_state"),
    (RANKED.format(out="k, v", by="PARTITION BY k", order="v", where="rn <= 2"), "update_key"),
    ("SELECT k, v FROM (SELECT *, RANK() OVER (PARTITION BY k ORDER BY v) AS n FROM l) WHERE n = 1", "unsupported"),
    ("SELECT k, v FROM (SELECT k, v, ROW_NUMBER() OVER (PARTITION BY k) AS rn FROM l) WHERE rn = 1", "syntax"),
])  # fmt: skip
def test_rankings_that_cannot_be_kept_are_refused(query, code):
    with pytest.raises(SqlErrors) as refused:
        app("k INT, v BIGINT, PRIMARY KEY (k) NOT ENFORCED", query)
    assert [error.code for error in refused.value.errors] == [code]


def test_a_ranking_needs_a_time_to_live_unless_its_state_is_bounded():
    best = RANKED.format(out="rn, v", by="", order="v DESC", where="rn <= 2")
    app("rn BIGINT, v INT, PRIMARY KEY (rn) NOT ENFORCED", best)
    of_each = RANKED.format(out="k, rn", by="PARTITION BY k", order="v DESC", where="rn <= 2")
    with pytest.raises(SqlErrors) as refused:
        app("k INT, rn BIGINT, PRIMARY KEY (k, rn) NOT ENFORCED", of_each, ttl="0")
    assert [error.code for error in refused.value.errors] == ["unbounded_state"]
