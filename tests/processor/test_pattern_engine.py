"""MATCH_RECOGNIZE in the engine: rows that are late or have no answer, what is kept and how long, what is told."""

from __future__ import annotations

import json
from datetime import datetime, timedelta

import polars as pl
import pytest
from engine_rig import DeltaLog

from penstock.codecs.frames import polars_schema
from penstock.ports.log import DeltaKind
from penstock_processor.compile.build import build_engine
from penstock_processor.logical.explain import explain_json
from penstock_processor.logical.plan_app import plan_app
from penstock_processor.operators.interface import SourceBlock
from penstock_processor.sql.limits import SqlLimits

T0 = datetime(2024, 1, 1)
SOURCE = """CREATE TABLE t (k STRING, n INT, v INT, p DECIMAL(6, 2), d DATE, ts TIMESTAMP(3),
  WATERMARK FOR ts AS ts - INTERVAL '2' SECOND) WITH ('connector' = 'penstock');
"""


def _plan(clauses, *, limits=None, before=""):
    target = "CREATE TABLE o WITH ('connector' = 'penstock')"
    sql = f"{SOURCE}{before}{target} AS SELECT * FROM t MATCH_RECOGNIZE ({clauses});"
    return plan_app("app", sql, **({} if limits is None else {"limits": limits}))


def _block(plan, rows):
    """(key, n, v, second)"""
    made = [(k, n, v, None if v is None else f"{v}.50", None, None if at is None else T0 + timedelta(seconds=at))
            for k, n, v, at in rows]  # fmt: skip
    schema = polars_schema(plan.sources["t"].spec.columns)
    return SourceBlock("t", 0, pl.DataFrame(made, schema={**schema, "p": pl.String}, orient="row").cast(schema))


def _rows(result):
    frames = [o.frame.select(pl.exclude("$op")) for o in result.outputs if o.target == "o" and o.frame.height]
    return [row for frame in frames for row in frame.rows()]


def _run(plan, *steps):
    """Rows, and (code, number of the row) of problems, over steps and the end."""
    engine = build_engine(plan)
    results = [engine.step([_block(plan, rows)]) for rows in steps] + [engine.finish()]
    rows = [row for result in results for row in _rows(result)]
    return rows, [(p.code, p.row) for result in results for p in result.problems]


PAIR = """PARTITION BY k ORDER BY ts MEASURES A.n AS a, B.n AS b PATTERN (A B) WITHIN INTERVAL '1' MINUTE
DEFINE A AS A.v = 1, B AS B.v > 1"""


def test_a_match_is_told_once_the_watermark_has_passed_it():
    plan = _plan(PAIR)
    engine = build_engine(plan)
    assert _rows(engine.step([_block(plan, [("x", 1, 1, 0), ("x", 2, 2, 1)])])) == []
    assert _rows(engine.step([_block(plan, [("y", 3, 1, 2.5)])])) == []
    assert _rows(engine.step([_block(plan, [("y", 4, 1, 3)])])) == [("x", 1, 2)]


def test_rows_wait_while_a_partition_has_not_been_heard_of():
    source = SOURCE.replace("'penstock')", "'penstock', 'partitions' = '2')")
    target = "CREATE TABLE o WITH ('connector' = 'penstock')"
    plan = plan_app("app", f"{source}{target} AS SELECT * FROM t MATCH_RECOGNIZE ({PAIR});")
    engine, other = build_engine(plan), _block(plan, [("y", 3, 1, 9)])
    assert _rows(engine.step([_block(plan, [("x", 1, 1, 0), ("x", 2, 2, 1)])])) == []
    assert _rows(engine.step([_block(plan, [("x", 4, 1, 9)]), SourceBlock("t", 1, other.frame)])) == [("x", 1, 2)]


@pytest.mark.parametrize(("measures", "seconds"), [("MATCH_ROWTIME() AS t", 8), ("A.ts AS t, B.ts AS u", -52)])
def test_a_result_with_earlier_times_is_complete_only_so_far_as_a_match_reaches_back(measures, seconds):
    plan = _plan(PAIR.replace("A.n AS a, B.n AS b", measures))
    [output] = build_engine(plan).step([_block(plan, [("x", 1, 1, 10)])]).outputs
    epoch = datetime(1970, 1, 1)
    assert epoch + timedelta(milliseconds=output.watermark_ms) == T0 + timedelta(seconds=seconds)


def test_rows_that_the_pattern_has_passed_are_late_and_those_without_time_are_problems():
    rows, problems = _run(
        _plan(PAIR), [("x", 1, 1, 0), ("x", 2, 0, 10)], [("x", 3, 2, 8), ("x", 4, 2, None), ("x", 5, 2, 9)]
    )
    assert rows == [("x", 1, 5)]
    assert problems == [("no_event_time", 1), ("late", 0)]


def test_rows_out_of_order_are_put_in_order_until_the_watermark_passes_them():
    rows, problems = _run(_plan(PAIR), [("x", 2, 2, 1.5)], [("x", 1, 1, 1), ("x", 3, 3, 2)])
    assert (rows, problems) == ([("x", 1, 2)], [])


def test_a_row_without_an_answer_is_rejected_and_the_others_go_on_as_if_it_were_not_there():
    plan = _plan("""ORDER BY ts MEASURES A.n AS a, B.n AS b PATTERN (A B) WITHIN INTERVAL '1' MINUTE
      DEFINE A AS A.v = 1, B AS 10 / (B.v - 2) > A.v""")
    rows, problems = _run(plan, [("x", 1, 1, 0), ("x", 2, 2, 1), ("x", 3, 3, 2)])
    assert rows == [(1, 3)]
    assert problems == [("division_by_zero", None)]  # it had waited for its turn


def test_a_condition_that_is_never_asked_rejects_nothing():
    plan = _plan("""ORDER BY ts MEASURES A.n AS a PATTERN (A B) WITHIN INTERVAL '1' MINUTE
      DEFINE A AS A.v = 9, B AS 10 / B.v > 1""")
    assert _run(plan, [("x", 1, 0, 0), ("x", 2, 0, 1)]) == ([], [])


def test_a_measure_without_a_value_rejects_its_match():
    plan = _plan("ORDER BY ts MEASURES 1 / (A.v - 1) AS a PATTERN (A) DEFINE A AS A.v > 0")
    rows, problems = _run(plan, [("x", 1, 1, 0), ("x", 2, 2, 1)])
    assert (rows, problems) == ([(1,)], [("division_by_zero", None)])


def test_a_match_that_cannot_say_where_to_go_on_is_a_problem_and_the_next_row_begins():
    plan = _plan("""ORDER BY ts MEASURES A.n AS a, C.n AS c AFTER MATCH SKIP TO FIRST B PATTERN (A B*? C)
      WITHIN INTERVAL '1' MINUTE DEFINE A AS A.v = 1, B AS B.v = 2, C AS C.v = 3""")
    rows, problems = _run(plan, [("x", 1, 1, 0), ("x", 2, 3, 1), ("x", 3, 1, 2), ("x", 4, 2, 3), ("x", 5, 3, 4)])
    assert (rows, problems) == ([(3, 5)], [("skip_target", None)])


def test_too_many_matches_that_have_begun_are_given_up_and_said():
    plan = _plan("ORDER BY ts MEASURES A.n AS a PATTERN (A B*? C) WITHIN INTERVAL '1' DAY DEFINE C AS C.v = 9",
                 limits=SqlLimits(pattern_matches_max=3))  # fmt: skip
    rows, problems = _run(plan, [("x", n, 1, n) for n in range(6)] + [("x", 6, 9, 6)])
    assert [code for code, _ in problems] == ["pattern_too_long"] * 3
    assert rows == [(3,), (4,), (5,)]


def test_a_match_of_too_many_rows_is_given_up_and_said():
    plan = _plan("ORDER BY ts MEASURES A.n AS a PATTERN (A B*? C) WITHIN INTERVAL '1' DAY "
                 "DEFINE A AS A.v = 2, C AS C.v = 9",
                 limits=SqlLimits(pattern_rows_max=4))  # fmt: skip
    rows, problems = _run(plan, [("x", 0, 2, 0)] + [("x", n, 1, n) for n in range(1, 6)] + [("x", 6, 9, 6)])
    assert (rows, [code for code, _ in problems]) == ([], ["pattern_too_long"])


def test_a_match_that_waits_for_an_earlier_one_is_told_when_that_takes_too_long():
    plan = _plan("""PARTITION BY k ORDER BY ts MEASURES A.n AS a, LAST(B.n) AS b, MATCH_ROWTIME() AS t
      PATTERN (A B+? C) WITHIN INTERVAL '10' SECOND DEFINE A AS A.v > 0, B AS B.v > 0, C AS C.v < A.v""")
    steps = [("x", 1, 1, 0), ("x", 2, 3, 1), ("x", 3, 3, 2), ("x", 4, 2, 3)]
    rows, _ = _run(plan, [*steps, ("y", 5, 1, 30)])
    assert rows == [("x", 2, 3, T0 + timedelta(seconds=10))]


def test_a_key_that_has_been_silent_for_the_ttl_is_forgotten_also_when_its_next_row_comes_first():
    plan = _plan("PARTITION BY k ORDER BY ts MEASURES A.n AS a, B.n AS b PATTERN (A B) "
                 "DEFINE A AS A.v = 1, B AS B.v > 1",
                 before="SET 'table.exec.state.ttl' = '10 s';")  # fmt: skip
    late, early = [("x", 2, 2, 12)], [("x", 2, 2, 9)]
    assert _run(plan, [("x", 1, 1, 0), *late])[0] == []
    assert _run(plan, [("x", 1, 1, 0), ("y", 9, 0, 30)], [("x", 2, 2, 31)])[0] == []
    assert _run(plan, [("x", 1, 1, 0), *early])[0] == [("x", 1, 2)]
    engine = build_engine(plan)
    engine.step([_block(plan, [("x", 1, 1, 0), ("y", 3, 5, 3)])])
    assert sum(engine.state_sizes().values()) == 3
    engine.step([_block(plan, [("y", 9, 0, 30)])])
    assert sum(engine.state_sizes().values()) == 2


def test_aggregates_have_the_types_of_flink_and_wrap_around_in_them():
    plan = _plan("""ORDER BY ts MEASURES SUM(A.p) AS sp, AVG(A.p) AS ap, MIN(A.p) AS lp, AVG(A.n) AS an,
      COUNT(A.d) AS c, MAX(A.ts) AS t, SUM(A.n * 2000000000) AS w, SUM(B.n) AS nothing, COUNT(B.n) AS zero
      PATTERN (A{3} B*? C) WITHIN INTERVAL '1' DAY DEFINE B AS B.v = 0""")
    types = [str(f.type) for f in plan.statements[0].plan.fields]
    assert types == [
        "DECIMAL(38, 2)",
        "DECIMAL(38, 6)",
        "DECIMAL(6, 2)",
        "INT",
        "BIGINT",
        "TIMESTAMP(3)",
        "INT",
        "INT",
        "BIGINT",
    ]
    rows, _ = _run(plan, [("x", -1, 1, 0), ("x", -2, 1, 1), ("x", -2, 2, 2), ("x", 7, 7, 3)])
    last = str(T0 + timedelta(seconds=2))
    assert [str(v) for v in rows[0]] == ["5.50", "1.833333", "1.50", "-1", "0", last, "-1410065408", "None", "0"]


@pytest.mark.parametrize("condition", ["B.v > LAST(B.v, 1) + 1", "ABS(B.v - LAST(v, 1)) > 1 AND B.v > 1",
                                       "B.ts <= LAST(ts, 1) + INTERVAL '1' SECOND AND B.v - LAST(v, 1) > 1",
                                       "NOT (B.v IS NULL OR LAST(v, 1) * 2 > B.v)"])  # fmt: skip
def test_conditions_over_other_rows_hold_whichever_way_they_are_computed(condition):
    first = condition.replace("LAST(B.v, 1)", "LAST(v, 1)")
    plan = _plan(f"ORDER BY ts MEASURES A.n AS a, B.n AS b PATTERN (A B) WITHIN INTERVAL '1' DAY DEFINE B AS {first}")
    rows, _ = _run(plan, [("x", 1, 1, 0), ("x", 2, 3, 1), ("x", 3, None, 2), ("x", 4, 1, 3), ("x", 5, 2, 4)])
    assert rows == ([(1, 2), (4, 5)] if condition.startswith("NOT") else [(1, 2)])


def test_all_rows_of_a_match_are_counted():
    plan = _plan(
        "ORDER BY ts MEASURES COUNT(*) AS c PATTERN (A B{2}) WITHIN INTERVAL '1' DAY DEFINE A AS COUNT(*) = A.v"
    )
    assert _run(plan, [("x", 1, 1, 0), ("x", 2, None, 1), ("x", 3, 2, 2)])[0] == [(3,)]


def test_a_snapshot_is_the_state_and_deltas_are_as_large_as_what_was_touched():
    plan = _plan("PARTITION BY k ORDER BY ts MEASURES A.n AS a, C.n AS c PATTERN (A B*? C) WITHIN INTERVAL '1' DAY "
                 "DEFINE A AS A.v = 1, B AS B.n > A.n, C AS C.v = 3")  # fmt: skip
    engine, log = build_engine(plan), DeltaLog()
    many = [(f"k{n}", 0, 1, 0) for n in range(3000)]
    log.write(engine.step([_block(plan, [*many, ("other", 0, 0, 5)])]).deltas)
    large = sum(len(delta.payload) for deltas in log.deltas.values() for delta in deltas)
    small = engine.step([_block(plan, [("k7", 1, 2, 6), ("other", 0, 0, 9)])]).deltas
    log.write(small)
    assert sum(len(delta.payload) for delta in small) < large / 3
    operator = next(name for name in engine.operators if not name.startswith("watermark"))
    for deltas in (log.deltas[operator], [engine.compact(operator)]):
        again = build_engine(plan)
        again.restore({**log.deltas, operator: deltas})
        assert again.state_sizes() == engine.state_sizes()
        assert again.compact(operator).kind is DeltaKind.REPLACE
        assert _rows(again.step([_block(plan, [("k7", 2, 3, 10), ("other", 0, 0, 20)])])) == [("k7", 0, 2)]


def test_a_step_without_news_makes_no_deltas():
    plan = _plan(PAIR)
    engine = build_engine(plan)
    engine.step([_block(plan, [("x", 1, 1, 0), ("x", 2, 5, 9)])])
    assert engine.step([]).deltas == []


def test_explain_tells_the_pattern_as_json():
    plan = _plan("""PARTITION BY k ORDER BY ts, n DESC MEASURES LAST(B.n, 1) AS b, SUM(A.v) AS s
      AFTER MATCH SKIP TO LAST B PATTERN (A B{2,3} C+? D?) WITHIN INTERVAL '1' HOUR DEFINE B AS B.v > A.v""")
    node = explain_json(plan)["statements"][0]["plan"]
    while node["node"] != "MatchRecognize":
        [node] = node["inputs"]
    assert json.loads(json.dumps(node))["pattern"] == "A B{2,3} C+? D?"
    assert node["reaches"] == ["$reach0 = LAST(A.v)", "$reach1 = LAST(B.n, 1)"]
    assert node["within_ms"] == 3_600_000 and node["skip"] == "TO LAST" and node["skip_to"] == "B"
