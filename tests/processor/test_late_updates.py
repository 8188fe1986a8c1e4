"""'late' = 'update': windows that have fired still take rows for a while and update what they gave."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence

import polars as pl
import pytest
from processor.window_oracle import Row, steps_of, watermarks
from processor.window_rig import ALIGNED, LAG, PARTITIONS, SECOND, Restarting, blocks_of

from penstock.errors import SqlErrors
from penstock.model.batch import OP_COLUMN, PENDING_COLUMN, Op
from penstock_processor.compile.build import build_engine
from penstock_processor.logical.plan import AppPlan
from penstock_processor.logical.plan_app import plan_app
from penstock_processor.operators.interface import Engine

APP = """CREATE TABLE readings (
  device STRING, n BIGINT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '7' SECOND
) WITH ('connector' = 'penstock', 'partitions' = '2');
CREATE TABLE totals (device STRING, s TIMESTAMP(3), e TIMESTAMP(3), c BIGINT, n BIGINT, kinds BIGINT,
  PRIMARY KEY (device, s, e) NOT ENFORCED
) WITH ('connector' = 'penstock', 'emit' = '{emit}', 'late' = 'update', 'lateness' = '{lateness} s');
INSERT INTO totals SELECT COALESCE(device, 'none'), window_start, window_end, COUNT(*), SUM(n), {call}
FROM TABLE({window}) GROUP BY COALESCE(device, 'none'), window_start, window_end;
"""
WINDOWS = list(ALIGNED)[::3]
Key = tuple[str, int, int]


#: The last call, and what it gives for the numbers of a group.
CALLS = {
    "COUNT(n)": lambda numbers: sum(n is not None for n in numbers),
    "COUNT(DISTINCT n)": lambda numbers: len({n for n in numbers if n is not None}),
    "CAST(CHAR_LENGTH(LISTAGG('x', '')) AS BIGINT)": len,
}


def _plan(window: str, lateness_s: int, emit: str = "final", *, call: str = "COUNT(n)") -> AppPlan:
    return plan_app("app", APP.format(window=window, lateness=lateness_s, emit=emit, call=call))


def _expected(window: str, steps: Sequence[Sequence[Row]], lateness_s: int, *, call: str
              ) -> tuple[dict[Key, tuple[int, int | None, int]], int]:  # fmt: skip
    rows: dict[Key, list[int | None]] = defaultdict(list)
    late = 0
    for step, watermark in zip(steps, watermarks(steps, lag=LAG, partitions=PARTITIONS), strict=True):
        for _, device, n, at in step:
            held = ALIGNED[window](at)
            takes = [(start, end) for start, end in held if end - 1 > watermark - lateness_s * SECOND]
            late += bool(held) and not takes
            for start, end in takes:
                rows[device or "none", start, end].append(n)
    found = {}
    for key, numbers in rows.items():
        known = [n for n in numbers if n is not None]
        found[key] = len(numbers), sum(known) if known else None, CALLS[call](numbers)
    return found, late


def _end_state(plan: AppPlan, engine: Engine | Restarting, steps: Sequence[Sequence[Row]], *, early: bool
               ) -> tuple[dict[Key, tuple[int, int | None, int]], int]:  # fmt: skip
    state: dict[Key, tuple[int, int | None, int]] = {}
    pending: dict[Key, bool] = {}
    late = 0
    for result in [*(engine.step(blocks_of(plan, each)) for each in steps), engine.finish()]:
        late += sum(problem.code == "late" for problem in result.problems)
        for output in result.outputs:
            for row in output.frame.with_columns(pl.col(pl.Datetime).dt.timestamp("ms")).iter_rows(named=True):
                key = row["device"], row["s"], row["e"]
                assert row[OP_COLUMN] == (Op.UPDATE_AFTER if key in state else Op.INSERT)
                assert early or PENDING_COLUMN not in row
                assert not (early and row[PENDING_COLUMN] and pending.get(key) is False)
                pending[key] = early and row[PENDING_COLUMN]
                state[key] = row["c"], row["n"], row["kinds"]
    assert not any(pending.values())
    return state, late


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("lateness_s", [1, 12, 1_000])
def test_a_window_counts_late_rows_for_as_long_as_it_was_told_to(window: str, lateness_s: int) -> None:
    for seed, (call, emit) in enumerate(zip(CALLS, ["final", "early", "final"], strict=True)):
        chance = random.Random(seed)
        steps = steps_of(chance, partitions=PARTITIONS, tick=SECOND, rows=60)
        plan = _plan(window, lateness_s, emit, call=call)
        expected = _expected(window, steps, lateness_s, call=call)
        assert _end_state(plan, build_engine(plan), steps, early=emit == "early") == expected
        assert _end_state(plan, Restarting(plan, chance), steps, early=emit == "early") == expected


def test_windows_leave_the_state_when_no_row_can_come_for_them_any_more() -> None:
    plan = _plan(WINDOWS[0], 30)
    engine = build_engine(plan)
    sizes = []
    for minute in range(20):
        engine.step(blocks_of(plan, [(n % 2, "a", n, minute * 60 * SECOND + n * SECOND) for n in range(60)]))
        sizes.append(sum(size for name, size in engine.state_sizes().items() if "watermark" not in name))
    assert sizes[1:] == [sizes[1]] * 19


def test_a_table_that_late_rows_update_is_not_read_as_a_stream() -> None:
    sql = APP.format(window=WINDOWS[0], lateness=30, emit="final", call="COUNT(n)")
    with pytest.raises(SqlErrors) as refused:
        plan_app("app", f"{sql} CREATE TABLE copies WITH ('connector' = 'penstock') AS SELECT c FROM totals;")
    assert [error.code for error in refused.value.errors] == ["reads_updates"]


def test_tasks_that_share_an_app_do_not_update_rows_of_each_other() -> None:
    sql = "SET 'parallelism.default' = '2';\n" + APP.format(
        window=WINDOWS[0], lateness=30, emit="final", call="COUNT(n)"
    )
    with pytest.raises(SqlErrors) as refused:
        plan_app("app", sql)
    assert [error.code for error in refused.value.errors] == ["parallel_late"]
