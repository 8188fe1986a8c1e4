"""Filters and projections: what passes, what is a problem, and how statements hang together."""

from __future__ import annotations

import json

from engine_plans import (
    app,
    block,
    call,
    changes,
    column,
    literal,
    project,
    rows_of,
    scan,
    source,
    statement,
    where,
)

from penstock.model.batch import Op
from penstock.model.types import BOOLEAN, DOUBLE, INT, STRING, TIMESTAMP
from penstock_processor.compile.build import build_engine
from penstock_processor.logical.plan import Named

HIGH = call(">", column("value", DOUBLE), literal(10.0, DOUBLE))
RATIO = call("/", literal(100, INT), column("n", INT), returns=INT)


def _alarms():
    kept = where(scan(), HIGH)
    return statement("alarms", project(kept, device=column("device", STRING), value=column("value", DOUBLE)))


def test_a_filter_keeps_rows_that_are_true_not_false_not_null():
    engine = build_engine(app([source()], _alarms()))
    result = engine.step([block([("a", 1, 11.0, 0), ("b", 1, 9.0, 1), ("c", 1, None, 2), ("d", 1, 12.0, 3)])])
    assert changes(result) == [("a", 11.0, Op.INSERT), ("d", 12.0, Op.INSERT)]
    assert result.problems == []


def test_large_batches_give_what_small_ones_give():
    rows = [("a", n, float(n % 20), n) for n in range(30_000)]
    large = build_engine(app([source()], _alarms())).step([block(rows)])
    engine = build_engine(app([source()], _alarms()))
    small = [row for n in range(0, 30_000, 1000) for row in rows_of(engine.step([block(rows[n : n + 1000])]).outputs)]
    assert rows_of(large.outputs) == small
    assert len(small) == 30_000 // 20 * 9


def test_a_row_that_an_expression_cannot_take_is_a_problem_and_the_others_go_on():
    plan = project(scan(), device=column("device", STRING), ratio=RATIO)
    engine = build_engine(app([source(partitions=2)], statement("ratios", plan)))
    first = block([("a", 5, 1.0, 0), ("b", 0, 1.0, 1)])
    second = block([("c", 0, 1.0, 2), ("d", 3, 1.0, 3)], partition=1)
    result = engine.step([first, second])
    assert rows_of(result.outputs) == [("a", 20), ("d", 33)]
    where_found = [(p.relation, p.partition, p.row, p.statement, p.code) for p in result.problems]
    assert where_found == [("readings", 0, 1, "ratios", "division_by_zero"),
                           ("readings", 1, 0, "ratios", "division_by_zero")]  # fmt: skip


def test_only_rows_that_reach_an_expression_can_fail_in_it():
    plan = project(where(scan(), HIGH), ratio=RATIO)
    engine = build_engine(app([source()], statement("ratios", plan)))
    result = engine.step([block([("a", 0, 9.0, 0), ("b", 0, 11.0, 1), ("c", 4, 11.0, 2)])])
    assert rows_of(result.outputs) == [(25,)]
    assert [p.row for p in result.problems] == [1]


def test_a_filter_that_fails_rejects_its_row_even_where_a_later_stage_would_drop_it():
    kept = where(where(scan(), call(">", RATIO, literal(0, INT))), HIGH)
    engine = build_engine(app([source()], statement("kept", project(kept, n=column("n", INT)))))
    result = engine.step([block([("a", 0, 9.0, 0), ("b", 2, 11.0, 1), ("c", 2, 1.0, 2)])])
    assert rows_of(result.outputs) == [(2,)]
    assert [(p.row, p.code) for p in result.problems] == [(0, "division_by_zero")]


def test_a_failing_computed_column_only_concerns_statements_that_read_it():
    columns = {"device": STRING, "n": INT, "value": DOUBLE, "ts": TIMESTAMP, "ratio": INT}
    reads = statement("reads", project(scan(columns=columns), ratio=column("ratio", INT)))
    ignores = statement("ignores", project(scan(columns=columns), n=column("n", INT)))
    engine = build_engine(app([source(computed=(Named("ratio", RATIO),))], reads, ignores))
    result = engine.step([block([("a", 0, 1.0, 0), ("b", 10, 1.0, 1)])])
    assert rows_of(result.outputs, "reads") == [(10,)]
    assert rows_of(result.outputs, "ignores") == [(0,), (10,)]
    assert [(p.row, p.statement) for p in result.problems] == [(0, "reads")]


def test_a_constant_predicate_and_a_constant_column():
    plan = project(where(scan(), literal(True, BOOLEAN)), one=literal(1, INT))
    engine = build_engine(app([source()], statement("ones", plan)))
    assert rows_of(engine.step([block([("a", 1, 1.0, 0), ("b", 1, 1.0, 1)])]).outputs) == [(1,), (1,)]


def test_statements_read_each_other_within_one_step():
    first = statement("alarms", project(where(scan(), HIGH), device=column("device", STRING), n=column("n", INT)))
    columns = {"device": STRING, "n": INT}
    second = statement("ratios", project(scan("alarms", columns), device=column("device", STRING), ratio=RATIO))
    engine = build_engine(app([source()], second, first))
    result = engine.step([block([("a", 1, 9.0, 0), ("b", 2, 11.0, 1), ("c", 0, 11.0, 2)])])
    assert rows_of(result.outputs, "alarms") == [("b", 2), ("c", 0)]
    assert rows_of(result.outputs, "ratios") == [("b", 50)]
    (problem,) = result.problems
    assert (problem.relation, problem.partition, problem.row) == ("alarms", None, None)
    assert json.loads(problem.values or "") == {"device": "c", "n": 0}


def test_rows_without_a_key_do_not_reach_a_table_and_others_are_upserts():
    plan = project(scan(), device=column("device", STRING), value=column("value", DOUBLE))
    engine = build_engine(app([source()], statement("latest", plan), primary_keys={"latest": ["device"]}))
    result = engine.step([block([("a", 1, 1.0, 0), (None, 1, 1.0, 1), ("a", 1, 2.0, 2)])])
    assert changes(result) == [("a", 1.0, Op.UPDATE_AFTER), ("a", 2.0, Op.UPDATE_AFTER)]
    assert [(p.row, p.code) for p in result.problems] == [(1, "null_value")]


def test_a_step_without_rows_for_a_statement_has_no_output():
    engine = build_engine(app([source(lag_ms=None)], _alarms()))
    assert engine.step([]).outputs == []
    assert engine.step([block([("a", 1, 1.0, 0)])]).outputs == []
