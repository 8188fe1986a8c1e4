"""Outer interval joins and window joins: what is padded and when, what is late, and the definition itself."""

from __future__ import annotations

import random

from engine_plans import MINUTE, SECOND, block, rows_of

from penstock.model.types import DOUBLE, INT, STRING, TIMESTAMP
from penstock_processor.compile.build import build_engine
from penstock_processor.logical.plan_app import plan_app

HEAD = """
CREATE TABLE orders (id INT, item STRING, ts TIMESTAMP(3), WATERMARK FOR ts AS ts) WITH ('connector' = 'penstock');
CREATE TABLE shipments (id INT, cost DOUBLE, ts TIMESTAMP(3), WATERMARK FOR ts AS ts) WITH ('connector' = 'penstock');
"""
ORDERS = {"id": INT, "item": STRING, "ts": TIMESTAMP}
SHIPMENTS = {"id": INT, "cost": DOUBLE, "ts": TIMESTAMP}
INTERVAL = """SELECT o.item, s.cost FROM orders AS o {kind} JOIN shipments AS s
  ON o.id = s.id AND s.ts BETWEEN o.ts AND o.ts + INTERVAL '10' SECOND"""
WINDOWS = """SELECT o.item, s.cost FROM
  (SELECT * FROM TABLE({window}(TABLE orders, DESCRIPTOR(ts), {sizes}))) AS o {kind} JOIN
  (SELECT * FROM TABLE({window}(TABLE shipments, DESCRIPTOR(ts), {sizes}))) AS s
  ON o.id = s.id AND o.window_start = s.window_start AND o.window_end = s.window_end"""
TUMBLE = {"window": "TUMBLE", "sizes": "INTERVAL '1' MINUTE"}
HOP = {"window": "HOP", "sizes": "INTERVAL '30' SECOND, INTERVAL '1' MINUTE"}


def _engine(query):
    return build_engine(plan_app("app", f"{HEAD} CREATE TABLE o WITH ('connector' = 'penstock') AS {query};"))


def _orders(*rows):
    return block(rows, "orders", columns=ORDERS)


def _shipments(*rows):
    return block(rows, "shipments", columns=SHIPMENTS)


def _size(engine):
    return sum(size for name, size in engine.state_sizes().items() if not name.startswith("watermark"))


def test_a_row_is_padded_once_the_watermark_has_passed_its_bound_and_not_before():
    engine = _engine(INTERVAL.format(kind="LEFT"))
    step = engine.step([_orders((1, "tea", 0), (2, "jam", 0)), _shipments((1, 1.0, 5 * SECOND))])
    assert rows_of(step.outputs) == [("tea", 1.0)]
    at_bound = engine.step([_orders((3, "oil", 10 * SECOND)), _shipments((9, 0.0, 10 * SECOND))])
    assert rows_of(at_bound.outputs) == []
    passed = engine.step([_orders((4, "salt", 10 * SECOND + 1)), _shipments((9, 0.0, 10 * SECOND + 1))])
    assert rows_of(passed.outputs) == [("jam", None)]


def test_a_full_join_gives_each_row_at_least_once_and_a_null_key_alone():
    engine = _engine(INTERVAL.format(kind="FULL"))
    step = engine.step([_orders((None, "salt", 0), (1, "tea", 0)), _shipments((None, 7.0, 0), (2, 2.0, 0))])
    assert rows_of(step.outputs) == [("salt", None), (None, 7.0)]
    assert sorted(map(repr, rows_of(engine.finish().outputs))) == ["('tea', None)", "(None, 2.0)"]


def test_a_late_row_without_a_match_is_padded_at_once():
    engine = _engine(INTERVAL.format(kind="LEFT"))
    engine.step([_orders((1, "tea", MINUTE)), _shipments((9, 0.0, MINUTE))])
    assert rows_of(engine.step([_orders((2, "jam", 0))]).outputs) == [("jam", None)]


def test_the_event_time_behind_an_outer_join_lies_below_the_rows_to_come():
    engine = _engine("""SELECT o.item, o.ts FROM orders AS o LEFT JOIN shipments AS s
        ON o.id = s.id AND s.ts BETWEEN o.ts AND o.ts + INTERVAL '10' SECOND""")
    step = engine.step([_orders((1, "tea", MINUTE)), _shipments((9, 0.0, MINUTE))])
    assert [o.watermark_ms for o in step.outputs] == [50 * SECOND - 1]


def test_a_window_join_gives_nothing_before_its_window_ends_and_keeps_nothing_after():
    engine = _engine(WINDOWS.format(kind="INNER", **TUMBLE))
    first = engine.step([_orders((1, "tea", 0)), _shipments((1, 1.0, MINUTE - 1))])
    assert rows_of(first.outputs) == []
    fired = engine.step([_orders((2, "jam", MINUTE - 1))])
    assert rows_of(fired.outputs) == [("tea", 1.0)]
    assert _size(engine) == 0


def test_a_row_of_a_window_that_has_fired_is_late_once_however_many_windows_held_it():
    engine = _engine(WINDOWS.format(kind="LEFT", **HOP))
    engine.step([_orders((1, "tea", 2 * MINUTE)), _shipments((1, 1.0, 2 * MINUTE))])
    late = engine.step([_orders((5, "old", 30 * SECOND), (5, "half", 100 * SECOND))])
    assert [(p.relation, p.row, p.code) for p in late.problems] == [("orders", 0, "late")]
    found = rows_of(engine.finish().outputs)
    assert sorted(map(repr, found)) == ["('half', None)", "('tea', 1.0)", "('tea', 1.0)"]


def test_outer_joins_give_what_their_definition_says_however_batches_are_cut():
    rng = random.Random(5)
    orders = [(rng.choice([*range(9), None]), f"i{n}", n * 700) for n in range(150)]
    shipments = [(rng.choice([*range(9), None]), float(n), n * 700 + rng.randint(0, 600)) for n in range(150)]
    near = {(o, s) for o in orders for s in shipments if o[0] == s[0] is not None and 0 <= s[2] - o[2] <= 10_000}
    same = {
        (o, s) for o in orders for s in shipments if o[0] == s[0] is not None and o[2] // MINUTE == s[2] // MINUTE
    }
    for query, pairs in ((INTERVAL.format(kind="FULL"), near), (WINDOWS.format(kind="FULL", **TUMBLE), same)):
        expected = [(o[1], s[1]) for o, s in pairs]
        expected += [(o[1], None) for o in orders if all(o is not left for left, _ in pairs)]
        expected += [(None, s[1]) for s in shipments if all(s is not right for _, right in pairs)]
        for size in (13, 150):
            engine, found = _engine(query), []
            for n in range(0, 150, size):
                found += rows_of(
                    engine.step([_orders(*orders[n : n + size]), _shipments(*shipments[n : n + size])]).outputs
                )
            found += rows_of(engine.finish().outputs)
            assert sorted(map(repr, found)) == sorted(map(repr, expected))
            assert _size(engine) == 0
