"""Interval joins: which pairs match, when rows are let go, and what late rows still find."""

from __future__ import annotations

import random

from engine_plans import MINUTE, app, block, call, column, literal, project, rows_of, scan, source, statement

from penstock.model.types import DOUBLE, INT, STRING, TIMESTAMP
from penstock_processor.compile.build import build_engine
from penstock_processor.logical.plan import Field, IntervalJoin

ORDERS = {"id": INT, "item": STRING, "ts": TIMESTAMP}
SHIPMENTS = {"order_id": INT, "cost": DOUBLE, "ts": TIMESTAMP}
TYPES = [INT, DOUBLE, TIMESTAMP, INT, STRING, TIMESTAMP]
NAMES = ("id", "item", "ts"), ("order_id", "cost", "ts0")


def _plan(*, lower_ms=0, upper_ms=MINUTE, residual=None, keyed=True, lag_ms=0):
    """Shipments within [lower, upper] of their orders (left: shipments)."""
    made = tuple(Field(n, t) for n, t in zip(NAMES[1] + NAMES[0], TYPES, strict=True))
    join = IntervalJoin(
        made, scan("shipments", SHIPMENTS), scan("orders", ORDERS), NAMES[1], NAMES[0],
        (column("order_id", INT),) if keyed else (), (column("id", INT),) if keyed else (),
        "ts", "ts", lower_ms, upper_ms, residual,
    )  # fmt: skip
    plan = project(join, item=column("item", STRING), cost=column("cost", DOUBLE))
    sources = [source("orders", ORDERS, lag_ms=lag_ms), source("shipments", SHIPMENTS, lag_ms=lag_ms)]
    return app(sources, statement("shipped", plan))


def _orders(*rows, **more):
    return block(rows, "orders", columns=ORDERS, **more)


def _shipments(*rows, **more):
    return block(rows, "shipments", columns=SHIPMENTS, **more)


def _size(engine):
    return sum(size for name, size in engine.state_sizes().items() if not name.startswith("watermark"))


def test_a_pair_is_emitted_as_soon_as_both_rows_are_there_whichever_comes_first():
    engine = build_engine(_plan())
    assert rows_of(engine.step([_orders((1, "tea", 0))]).outputs) == []
    assert rows_of(engine.step([_shipments((1, 9.0, 10), (2, 8.0, 10))]).outputs) == [("tea", 9.0)]
    assert rows_of(engine.step([_orders((2, "jam", 5))]).outputs) == [("jam", 8.0)]
    both = engine.step([_orders((3, "oil", 20)), _shipments((3, 7.0, 21))])
    assert rows_of(both.outputs) == [("oil", 7.0)]


def test_both_bounds_are_inclusive():
    engine = build_engine(_plan(lower_ms=10, upper_ms=20, lag_ms=1000))
    engine.step([_orders((1, "tea", 100))])
    rows = [(1, float(at), at) for at in (109, 110, 120, 121)]
    assert rows_of(engine.step([_shipments(*rows)]).outputs) == [("tea", 110.0), ("tea", 120.0)]


def test_a_null_key_matches_nothing_and_a_row_without_time_is_a_problem():
    engine = build_engine(_plan())
    result = engine.step([_orders((None, "tea", 0), (1, "jam", None)), _shipments((None, 1.0, 0), (1, 2.0, 0))])
    assert rows_of(result.outputs) == []
    assert [(p.relation, p.row, p.code) for p in result.problems] == [("orders", 1, "no_event_time")]


def test_the_residual_condition_decides_and_may_fail_for_a_pair():
    ratio = call("/", literal(10, INT), column("id", INT), returns=INT)
    engine = build_engine(_plan(residual=call(">", ratio, literal(4, INT))))
    result = engine.step([_orders((0, "nil", 0), (2, "tea", 0), (5, "jam", 0)),
                          _shipments((0, 1.0, 0), (2, 2.0, 0), (5, 3.0, 0))])  # fmt: skip
    assert rows_of(result.outputs) == [("tea", 2.0)]
    assert [(p.code, p.row) for p in result.problems] == [("division_by_zero", None)]


def test_rows_without_keys_match_by_time_alone():
    engine = build_engine(_plan(keyed=False, upper_ms=5))
    result = engine.step([_orders((1, "tea", 0), (2, "jam", 100)), _shipments((7, 1.0, 3))])
    assert rows_of(result.outputs) == [("tea", 1.0)]


def test_rows_are_let_go_when_nothing_on_time_can_match_them():
    engine = build_engine(_plan())
    for minute in range(50):
        rows = [(n, "tea", minute * MINUTE + n) for n in range(100)]
        engine.step([_orders(*rows), _shipments((1, 1.0, minute * MINUTE))])
    assert _size(engine) < 500


def test_a_late_row_finds_what_still_waits_and_waits_only_if_of_use():
    engine = build_engine(_plan())
    engine.step([_orders((1, "tea", 5 * MINUTE)), _shipments((9, 0.0, 5 * MINUTE))])
    late = engine.step([_orders((2, "jam", 4 * MINUTE + 1)), _shipments((1, 2.0, 5 * MINUTE))])
    assert rows_of(late.outputs) == [("tea", 2.0)]
    assert rows_of(engine.step([_shipments((2, 3.0, 5 * MINUTE))]).outputs) == [("jam", 3.0)]
    useless = engine.step([_orders((3, "oil", MINUTE))])
    assert useless.problems == []
    assert rows_of(engine.step([_shipments((3, 4.0, MINUTE + 5))]).outputs) == []


def test_the_watermark_behind_a_join_trails_by_the_reach_of_the_interval():
    engine = build_engine(_plan(lower_ms=-10, upper_ms=MINUTE))
    result = engine.step([_orders((1, "tea", 2 * MINUTE)), _shipments((1, 1.0, 3 * MINUTE))])
    assert [o.watermark_ms for o in result.outputs] == [MINUTE]


def test_pairs_are_those_of_the_definition_however_batches_are_cut():
    rng = random.Random(3)
    orders = [(rng.randint(0, 30), f"i{n}", n * 50 + rng.randint(0, 400)) for n in range(3000)]
    shipments = [(rng.randint(0, 30), float(n), n * 50 + rng.randint(0, 400)) for n in range(3000)]
    expected = sorted((item, cost) for key, item, at in orders for other, cost, then in shipments
                      if key == other and -500 <= then - at <= 2000)  # fmt: skip
    for size in (97, 3000):
        engine = build_engine(_plan(lower_ms=-500, upper_ms=2000, lag_ms=500))
        found = []
        for n in range(0, 3000, size):
            found += rows_of(
                engine.step([_orders(*orders[n : n + size]), _shipments(*shipments[n : n + size])]).outputs
            )
        assert sorted(found) == expected
        assert len(expected) > 4000


def test_a_key_with_very_many_rows_is_joined_in_portions():
    engine = build_engine(_plan(lag_ms=None))
    rows = [(1, "tea", n) for n in range(1500)]
    result = engine.step([_orders(*rows), _shipments(*[(1, 1.0, n) for n in range(1500)])])
    assert sum(o.frame.height for o in result.outputs) == 1500 * 1501 // 2


def test_a_join_without_watermarks_keeps_its_rows():
    engine = build_engine(_plan(lag_ms=None))
    engine.step([_orders((1, "tea", 0))])
    engine.step([_shipments((2, 1.0, 10**12))])
    assert rows_of(engine.step([_shipments((1, 1.0, 5))]).outputs) == [("tea", 1.0)]
