"""Temporal joins: which version a row finds, when, what is late, and how long versions are kept."""

from __future__ import annotations

import random

import pytest
from engine_plans import MINUTE, SECOND, block, rows_of
from engine_rig import run_with_restarts

from penstock.errors import SqlErrors
from penstock.model.types import INT, STRING, TIMESTAMP
from penstock_processor.compile.build import build_engine
from penstock_processor.logical.plan_app import plan_app

HEAD = """
CREATE TABLE orders (id INT, k STRING, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '1' SECOND)
  WITH ('connector' = 'penstock');
CREATE TABLE rates (k STRING, rate INT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '1' SECOND,
  PRIMARY KEY (k) NOT ENFORCED) WITH ('connector' = 'penstock');
CREATE TABLE plain (k STRING, rate INT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts) WITH ('connector' = 'penstock');
"""
JOIN = """SELECT o.id, r.rate FROM orders AS o {kind} JOIN {table} FOR SYSTEM_TIME AS OF o.ts AS r ON {on}"""
ORDERS = {"id": INT, "k": STRING, "ts": TIMESTAMP}
RATES = {"k": STRING, "rate": INT, "ts": TIMESTAMP}


def _plan(kind="LEFT", table="rates", on="o.k = r.k", head=HEAD):
    query = JOIN.format(kind=kind, table=table, on=on)
    return plan_app("app", f"{head} CREATE TABLE o WITH ('connector' = 'penstock') AS {query};")


def _orders(*rows):
    return block(rows, "orders", columns=ORDERS)


def _rates(*rows, table="rates"):
    return block(rows, table, columns=RATES)


def _size(engine):
    return sum(size for name, size in engine.state_sizes().items() if not name.startswith("watermark"))


def test_a_row_waits_until_both_watermarks_have_reached_its_time():
    engine = build_engine(_plan())
    assert rows_of(engine.step([_rates(("a", 1, 0)), _orders((1, "a", 10 * SECOND))]).outputs) == []
    assert rows_of(engine.step([_rates(("a", 2, 8 * SECOND)), _orders((2, "a", 60 * SECOND))]).outputs) == []
    found = engine.step([_rates(("a", 3, 10 * SECOND), ("b", 9, 11 * SECOND))])
    assert rows_of(found.outputs) == [(1, 3)]


def test_a_row_at_or_before_the_watermark_is_late_and_a_late_version_counts_from_then_on():
    engine = build_engine(_plan())
    engine.step([_rates(("a", 1, MINUTE)), _orders((1, "a", MINUTE))])
    late = engine.step([_orders((2, "a", MINUTE - SECOND), (3, "a", MINUTE - SECOND + 1)), _rates(("a", 0, SECOND))])
    assert [(p.relation, p.row, p.code) for p in late.problems] == [("orders", 0, "late")]
    assert sorted(rows_of(engine.finish().outputs)) == [(1, 1), (3, 0)]


def test_versions_go_when_no_row_on_time_can_ask_for_them():
    engine = build_engine(_plan())
    for n in range(400):
        engine.step([_rates(*[(k, n, n * SECOND) for k in "abc"]), _orders((n, "a", n * SECOND))])
    assert _size(engine) < 60
    assert rows_of(engine.step([_orders((999, "c", 1000 * SECOND)), _rates(("z", 0, 1000 * SECOND))]).outputs)


def test_a_view_that_keeps_the_last_row_forgets_versions_that_came_too_late_for_it():
    view = """SET 'table.exec.state.ttl' = '1 d';
      CREATE VIEW kept AS SELECT k, rate, ts FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY k ORDER BY ts DESC) AS rn
      FROM rates) WHERE rn = 1;"""
    rows = [("a", 1, 10 * SECOND), ("a", 2, 20 * SECOND), ("a", 3, 15 * SECOND), ("a", 4, 20 * SECOND)]
    for table, at_17, head in (("rates", 3, HEAD), ("kept", 1, HEAD + view)):
        engine = build_engine(_plan(table=table, head=head))
        for each in rows:
            engine.step([_rates(each)])
        outputs = engine.step([_orders((1, "a", 17 * SECOND), (2, "a", 20 * SECOND))]).outputs
        assert rows_of([*outputs, *engine.finish().outputs]) == [(1, at_17), (2, 4)]


def test_a_table_that_statements_upsert_has_versions_too_and_is_not_read_otherwise():
    derived = """CREATE TABLE kept (k STRING, rate INT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts,
      PRIMARY KEY (k) NOT ENFORCED) WITH ('connector' = 'penstock');
      INSERT INTO kept SELECT k, rate * 10, ts FROM plain WHERE rate > 0;"""
    engine = build_engine(_plan(table="kept", head=HEAD + derived))
    for rate, at in ((1, 1), (2, 5), (-3, 6), (4, 9)):
        engine.step([_rates(("a", rate, at * SECOND), table="plain")])
    outputs = engine.step([_orders((1, "a", 7 * SECOND), (2, "b", 7 * SECOND), (3, "a", 20 * SECOND))]).outputs
    assert rows_of([*outputs, *engine.finish().outputs], "o") == [(1, 20), (2, None), (3, 40)]
    with pytest.raises(SqlErrors, match="updated by its primary key"):
        plan_app("app", f"{HEAD}{derived} CREATE TABLE o WITH ('connector' = 'penstock') AS SELECT k FROM kept;")


@pytest.mark.parametrize("kind", ["INNER", "LEFT"])
def test_rows_find_the_versions_that_the_definition_says_however_batches_are_cut_and_restarted(kind):
    rng = random.Random(11)
    keys = ["a", "b", "c", "d"]
    orders = [(n, rng.choice([*keys, None]), n * 300 + rng.randint(0, 900)) for n in range(120)]
    rates = [(rng.choice(keys[:3]), n, n * 500 + rng.randint(0, 900)) for n in range(80)]
    expected = []
    for number, key, at in orders:
        valid = [(then, n) for k, n, then in rates if k == key and then <= at]
        if valid or kind == "LEFT":
            expected.append((number, max(valid)[1] if valid else None))
    for size in (7, 120):
        steps = [[_orders(*orders[n : n + size]), _rates(*rates[n : n + size])] for n in range(0, 120, size)]
        results = run_with_restarts(_plan(kind), steps, random.Random(size))
        assert sorted(row for result in results for row in rows_of(result.outputs)) == expected


@pytest.mark.parametrize(
    ("code", "parts"),
    [
        ("no_versions", {"table": "plain"}),
        ("no_join_key", {"on": "o.id = r.rate"}),
        ("unsupported", {"kind": "FULL"}),
        ("no_event_time", {"on": "o.k = r.k", "as_of": "o.id"}),
    ],
)
def test_a_temporal_join_that_has_no_meaning_is_refused(code, parts):
    query = JOIN.format(**{"kind": "", "table": "rates", "on": "o.k = r.k"} | parts)
    query = query.replace("OF o.ts", f"OF {parts.get('as_of', 'o.ts')}")
    with pytest.raises(SqlErrors) as refused:
        plan_app("app", f"{HEAD} CREATE TABLE o WITH ('connector' = 'penstock') AS {query};")
    assert [error.code for error in refused.value.errors] == [code]
