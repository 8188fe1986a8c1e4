"""Patterns over random rows, cut and restarted at random, give the matches that a plain reading gives."""

from __future__ import annotations

import random
from collections import defaultdict

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from processor.pattern_oracle import Item, Row, matches
from processor.window_rig import Restarting

from penstock.codecs.frames import polars_schema
from penstock_processor.logical.plan_app import plan_app
from penstock_processor.operators.interface import SourceBlock

WITHIN_MS = 8_000
LAG_MS = 3_000
SOURCE = """CREATE TABLE marks (k STRING, n INT, v INT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '3' SECOND)
WITH ('connector' = 'penstock');
"""


def _is(*values):
    return lambda row, before: row.value in values


def _rises(row, before):
    return row.value is not None and before[-1].value is not None and row.value > before[-1].value


def _sums(row, before):
    values = [each.value for each in (*before, row) if each.value is not None]
    return bool(values) and sum(values) < 9


def _any(row, before):
    return True


#: PATTERN, DEFINE, and what they mean.
PATTERNS = {
    "A B": ("A B", "A AS A.v = 1, B AS B.v IN (1, 2)", [
        Item(1, 1, False, _is(1)), Item(1, 1, False, _is(1, 2))]),
    "greedy star": ("A B* C", "A AS A.v = 1, B AS B.v IN (2, 3), C AS C.v IN (1, 3)", [
        Item(1, 1, False, _is(1)), Item(0, None, True, _is(2, 3)), Item(1, 1, False, _is(1, 3))]),
    "reluctant star": ("A B*? C", "A AS A.v = 1, B AS B.v IN (2, 3), C AS C.v IN (1, 3)", [
        Item(1, 1, False, _is(1)), Item(0, None, False, _is(2, 3)), Item(1, 1, False, _is(1, 3))]),
    "rising": ("A B{2,3}?", "B AS v > LAST(v, 1)", [Item(1, 1, False, _any), Item(2, 3, False, _rises)]),
    "greedy counts": ("A{1,2} B{2} C", "A AS A.v IN (1, 2), B AS B.v <> 1, C AS C.v > 0", [
        Item(1, 2, True, _is(1, 2)), Item(2, 2, False, _is(2, 3, 4)), Item(1, 1, False, _is(1, 2, 3, 4))]),
    "optional": ("A? B C{0,2}? D", "A AS A.v = 4, B AS B.v IN (2, 4), C AS C.v = 2, D AS D.v IN (1, 3)", [
        Item(0, 1, False, _is(4)), Item(1, 1, False, _is(2, 4)), Item(0, 2, False, _is(2)),
        Item(1, 1, False, _is(1, 3))]),
    "at least": ("A{2,} B+?", "A AS SUM(v) < 9, B AS B.v = 4", [
        Item(2, None, True, _sums), Item(1, None, False, _is(4))]),
}  # fmt: skip
SKIPS = {"PAST LAST ROW": True, "TO NEXT ROW": False}
ROWS = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", None]),
        st.sampled_from([1, 2, 2, 3, 4, None]),
        st.integers(0, 2),
        st.integers(0, 2),
    ),
    max_size=30,
)


def _plan(pattern, define, skip):
    return plan_app(
        "app",
        f"""{SOURCE}CREATE TABLE found WITH ('connector' = 'penstock') AS SELECT * FROM marks
MATCH_RECOGNIZE (PARTITION BY k ORDER BY ts MEASURES FIRST(n) AS first_n, LAST(n) AS last_n
  ONE ROW PER MATCH AFTER MATCH SKIP {skip} PATTERN ({pattern}) WITHIN INTERVAL '8' SECOND DEFINE {define});""",
    )


PLANS = {(name, skip): _plan(*PATTERNS[name][:2], skip) for name in PATTERNS for skip in SKIPS}


def _timed(rows):
    """(key, number, value, milliseconds): out of order by at most the lag, so that no row is late in any cut."""
    at_ms, found = 0, []
    for number, (key, value, step_s, back_s) in enumerate(rows):
        at_ms += step_s * 1000
        found.append((key, number, value, max(0, at_ms - min(back_s * 1000, LAG_MS - 1))))
    return found


def _expected(rows, name, skip):
    of_key = defaultdict(list)
    for key, number, value, at_ms in rows:
        of_key[key].append(Row(number, value, at_ms))
    found = []
    for key, own in of_key.items():
        own.sort(key=lambda row: row.at_ms)
        spans = matches(own, PATTERNS[name][2], within_ms=WITHIN_MS, past_last=SKIPS[skip])
        found += [(key, first, last) for first, last in spans]
    return sorted(found, key=repr)


@pytest.mark.parametrize("skip", SKIPS)
@pytest.mark.parametrize("name", PATTERNS)
@settings(max_examples=20, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(rows=ROWS, cuts=st.lists(st.integers(0, 30), max_size=4), seed=st.integers(0, 9))
def test_a_pattern_finds_what_a_plain_reading_finds(name, skip, rows, cuts, seed):
    timed = _timed(rows)
    plan = PLANS[name, skip]
    schema = polars_schema(plan.sources["marks"].spec.columns)
    engine = Restarting(plan, random.Random(seed))
    outputs = []
    for start, end in zip([0, *sorted(cuts)], [*sorted(cuts), len(timed)], strict=True):
        frame = pl.DataFrame(timed[start:end], schema=dict.fromkeys(schema, None), orient="row")
        frame = frame.cast({"k": pl.String, "n": pl.Int32, "v": pl.Int32, "ts": pl.Int64}).cast(schema)
        result = engine.step([SourceBlock("marks", 0, frame)])
        assert not result.problems
        outputs += result.outputs
    outputs += engine.finish().outputs
    found = [
        row
        for output in outputs
        if output.frame.height
        for row in output.frame.select("k", "first_n", "last_n").rows()
    ]
    assert sorted(found, key=repr) == _expected(timed, name, skip)
