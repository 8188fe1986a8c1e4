"""Window functions from SQL to rows, held against their definition; cut, killed and restored at random places."""

from __future__ import annotations

import random
from collections.abc import Sequence

import polars as pl
import pytest
from processor.window_oracle import Expected, Row, aligned, sessions, steps_of
from processor.window_rig import ALIGNED, LAG, PARTITIONS, SECOND, SESSIONS, Restarting, blocks_of

from penstock.model.batch import OP_COLUMN, PENDING_COLUMN, Op
from penstock_processor.compile.build import build_engine
from penstock_processor.logical.plan import AppPlan, Part
from penstock_processor.logical.plan_app import plan_app
from penstock_processor.logical.stages import task_plans
from penstock_processor.operators.interface import Engine, SourceBlock

APP = """CREATE TABLE readings (
  device STRING, n BIGINT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '7' SECOND
) WITH ('connector' = 'penstock', 'partitions' = '2');
CREATE TABLE totals (
  device STRING, s TIMESTAMP(3), e TIMESTAMP(3), c BIGINT, total BIGINT, {distinct}best BIGINT{key}
) WITH ('connector' = 'penstock', 'emit' = '{emit}');
INSERT INTO totals SELECT device, window_start, window_end, COUNT(*), SUM(n), {count}MAX(n)
FROM TABLE({window}) GROUP BY device, window_start, window_end;
"""


def _plan(window: str, *, distinct: bool, emit: str = "final", key: str = "device, s, e") -> AppPlan:
    key = f", PRIMARY KEY ({key}) NOT ENFORCED" if emit == "early" else ""
    more = (
        {"distinct": "kinds BIGINT, ", "count": "COUNT(DISTINCT n), "} if distinct else {"distinct": "", "count": ""}
    )
    return plan_app("app", APP.format(window=window, key=key, emit=emit, **more))


def _outcome(
    plan: AppPlan, engine: Engine | Restarting, steps: Sequence[Sequence[Row]], *, alone: bool = False
) -> Expected:
    """What the table `totals` ends with (each final row written once), and the number of late rows."""
    key = plan.sources["totals"].spec.primary_key
    rows: list[tuple[object, ...]] = []
    table: dict[tuple[object, ...], tuple[object, ...]] = {}
    late = 0
    for result in [*(engine.step(blocks_of(plan, each, alone=alone)) for each in steps), engine.finish()]:
        late += sum(problem.code == "late" for problem in result.problems)
        for output in result.outputs:
            for row in output.frame.with_columns(pl.col("s", "e").dt.timestamp("ms")).iter_rows(named=True):
                op, pending = row.pop(OP_COLUMN), row.pop(PENDING_COLUMN, False)
                if key:
                    _apply(table, tuple(row[name] for name in key), (*row.values(), pending), op=op)
                else:
                    rows.append(tuple(row.values()))
    assert not any(row[-1] for row in table.values()), "something is still pending"
    return sorted([*rows, *(row[:-1] for row in table.values())], key=repr), late  # type: ignore[arg-type]  # checked by equality


def _apply(table: dict[tuple[object, ...], tuple[object, ...]], key: tuple[object, ...], row: tuple[object, ...], *,
           op: int) -> None:  # fmt: skip
    """A change must fit what it changes: only a new key is inserted, and nothing that was final changes."""
    assert (op == Op.INSERT) == (key not in table), (key, op)
    assert key not in table or table[key][-1], "a final row was changed"
    table[key] = row
    if op == Op.DELETE:
        del table[key]


def _without_distinct(expected: Expected) -> Expected:
    rows, late = expected
    return sorted(((*row[:5], row[6]) for row in rows), key=repr), late  # type: ignore[misc]  # one column less


@pytest.mark.parametrize("distinct", [False, True], ids=["by slice", "by window"])
@pytest.mark.parametrize("window", ALIGNED)
def test_windows_have_the_rows_of_their_definition_wherever_the_engine_restarts(window: str, distinct: bool) -> None:
    plan = _plan(window, distinct=distinct)
    lates = 0
    for seed in range(3):
        chance = random.Random(seed)
        steps = steps_of(chance, partitions=PARTITIONS, tick=SECOND)
        expected = aligned(ALIGNED[window], steps, lag=LAG, partitions=PARTITIONS)
        lates += expected[1]
        expected = expected if distinct else _without_distinct(expected)
        assert _outcome(plan, build_engine(plan), steps) == expected
        assert _outcome(plan, Restarting(plan, chance), steps) == expected
    assert lates > 0


@pytest.mark.parametrize("window", ALIGNED)
def test_early_results_end_as_the_final_ones(window: str) -> None:
    plan = _plan(window, distinct=True, emit="early")
    for seed in range(2):
        chance = random.Random(seed)
        steps = steps_of(chance, partitions=PARTITIONS, tick=SECOND)
        steps = [[row for row in step if row[1] is not None] for step in steps]  # a primary key has no NULL
        expected = aligned(ALIGNED[window], steps, lag=LAG, partitions=PARTITIONS)
        assert _outcome(plan, build_engine(plan), steps) == expected
        assert _outcome(plan, Restarting(plan, chance), steps) == expected


@pytest.mark.parametrize("window", ALIGNED)
def test_rows_in_order_of_time_are_cut_anywhere_with_the_same_results(window: str) -> None:
    plan = _plan(window, distinct=False)
    for seed in (0,):
        chance = random.Random(seed)
        rows = sorted(
            (row for step in steps_of(chance, partitions=1, tick=SECOND) for row in step), key=lambda r: r[3]
        )
        found = []
        for size in (1, 7, len(rows)):
            steps = [rows[n : n + size] for n in range(0, len(rows), size)]
            found.append(_outcome(plan, build_engine(plan), steps, alone=True))
        assert found[0] == found[1] == found[2]
        assert found[0][1] == 0 and found[0][0]


@pytest.mark.parametrize("distinct", [False, True], ids=["plain", "distinct"])
@pytest.mark.parametrize("window", SESSIONS)
def test_sessions_merge_as_their_rows_arrive_wherever_the_engine_restarts(window: str, distinct: bool) -> None:
    plan = _plan(window, distinct=distinct)
    gap, by_key = SESSIONS[window]
    lates = 0
    for seed in range(4):
        chance = random.Random(seed)
        steps = steps_of(chance, partitions=PARTITIONS, tick=SECOND)
        expected = sessions(gap, steps, lag=LAG, partitions=PARTITIONS, by_key=by_key)
        lates += expected[1]
        assert len(expected[0]) > 5
        expected = expected if distinct else _without_distinct(expected)
        assert _outcome(plan, build_engine(plan), steps) == expected
        assert _outcome(plan, Restarting(plan, chance), steps) == expected
    assert lates > 0


@pytest.mark.parametrize("key", ["device, s, e", "device, s", "device, e"])
@pytest.mark.parametrize("window", SESSIONS)
def test_early_results_of_sessions_move_with_their_bounds_and_end_as_the_final_ones(window: str, key: str) -> None:
    plan = _plan(window, distinct=True, emit="early", key=key)
    gap, by_key = SESSIONS[window]
    for seed in range(3):
        chance = random.Random(seed)
        steps = steps_of(chance, partitions=PARTITIONS, tick=SECOND)
        steps = [[row for row in step if row[1] is not None] for step in steps]  # a primary key has no NULL
        expected = sessions(gap, steps, lag=LAG, partitions=PARTITIONS, by_key=by_key)
        assert _outcome(plan, build_engine(plan), steps) == expected
        assert _outcome(plan, Restarting(plan, chance), steps) == expected


@pytest.mark.parametrize("window", SESSIONS)
def test_sessions_of_rows_in_order_of_time_do_not_depend_on_how_batches_are_cut(window: str) -> None:
    plan = _plan(window, distinct=True)
    gap, by_key = SESSIONS[window]
    for seed in (0,):
        chance = random.Random(seed)
        rows = sorted(
            (row for step in steps_of(chance, partitions=1, tick=SECOND) for row in step), key=lambda r: r[3]
        )
        expected = sessions(gap, [rows], lag=LAG, partitions=1, by_key=by_key)
        for size in (1, 9, len(rows)):
            steps = [rows[n : n + size] for n in range(0, len(rows), size)]
            assert _outcome(plan, build_engine(plan), steps, alone=True) == expected


def test_a_late_row_of_a_session_behind_a_repartition_stream_is_told_by_its_values() -> None:
    text = APP.format(window=next(iter(SESSIONS)), key="", emit="final", distinct="", count="")
    plan = plan_app("app", text + "SET 'parallelism.default' = '2';")
    (reader,) = [task for task in task_plans(plan) if task.part == Part(1, 0, 2)]
    engine = build_engine(reader)
    (moved,) = [name for name, source in reader.sources.items() if source.spec.internal == "repartition"]
    problems = []
    for at, through in ((100_000, 200_000), (10_000, 200_000)):
        frame = pl.DataFrame({"device": ["a"], "n": [1], "ts": [at]}).cast({"ts": pl.Datetime("ms")})
        blocks = [
            SourceBlock(moved, 0, frame, through_ms=through),
            SourceBlock(moved, 1, frame[:0], through_ms=through),
        ]
        problems += engine.step(blocks).problems
    (problem,) = problems
    assert (problem.code, problem.statement, problem.relation, problem.row) == ("late", "totals", None, None)
    assert problem.values == '{"device":"a","n":1,"ts":"1970-01-01T00:00:10"}'
