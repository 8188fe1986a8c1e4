"""Windowed aggregates: when windows fire, what is late, and what the functions give."""

from __future__ import annotations

import math
import random
from decimal import Decimal

import polars as pl
import pytest
from engine_plans import (
    DAY,
    MINUTE,
    SECOND,
    aggregate,
    app,
    block,
    call,
    changes,
    column,
    count,
    literal,
    named,
    project,
    rows_of,
    scan,
    source,
    statement,
    where,
    windowed,
)

from penstock.model.batch import Op
from penstock.model.types import BIGINT, DATE, DOUBLE, INT, STRING, TIMESTAMP, decimal
from penstock_processor.compile.build import build_engine
from penstock_processor.logical.plan import AggregateCall, Named

DEVICE = named("device", STRING)


def _per_minute(*calls, keys=(DEVICE,), slide_ms=None, size_ms=MINUTE, **options):
    plan = aggregate(windowed(scan(), size_ms, slide_ms=slide_ms), calls or [count()], keys=keys)
    return build_engine(app([source(**options)], statement("totals", plan)))


def _all(engine, *steps):
    """Rows that come out of all steps and the end, and the problems."""
    results = [engine.step(list(blocks)) for blocks in steps]
    results.append(engine.finish())
    return [row for r in results for row in rows_of(r.outputs)], [p for r in results for p in r.problems]


def test_a_window_fires_when_the_watermark_reaches_its_last_millisecond():
    engine = _per_minute()
    assert rows_of(engine.step([block([("a", 1, 1.0, 0), ("a", 1, 1.0, MINUTE - 2)])]).outputs) == []
    fired = engine.step([block([("b", 1, 1.0, MINUTE - 1)])])
    assert rows_of(fired.outputs) == [("a", 0, MINUTE, 2), ("b", 0, MINUTE, 1)]
    assert rows_of(engine.finish().outputs) == []


def test_windows_are_aligned_to_the_epoch_also_before_it():
    rows, _ = _all(_per_minute(), [block([("a", 1, 1.0, -1), ("a", 1, 1.0, -MINUTE), ("a", 1, 1.0, 5 * MINUTE + 1)])])
    assert rows == [("a", -MINUTE, 0, 2), ("a", 5 * MINUTE, 6 * MINUTE, 1)]


def test_lateness_is_judged_by_the_watermark_before_the_batch():
    engine = _per_minute()
    same_batch = engine.step([block([("a", 1, 1.0, 3 * MINUTE), ("a", 1, 1.0, 0)])])
    assert rows_of(same_batch.outputs) == [("a", 0, MINUTE, 1)]
    later = engine.step([block([("b", 1, 1.0, 2 * MINUTE - 1), ("b", 1, 1.0, 3 * MINUTE + 1)])])
    assert [(p.row, p.code, p.partition) for p in later.problems] == [(0, "late", 0)]
    assert rows_of(engine.finish().outputs) == [("a", 3 * MINUTE, 4 * MINUTE, 1), ("b", 3 * MINUTE, 4 * MINUTE, 1)]


def test_a_row_behind_the_watermark_whose_window_is_open_counts():
    engine = _per_minute()
    engine.step([block([("a", 1, 1.0, 50 * SECOND)])])
    assert engine.step([block([("a", 1, 1.0, 10 * SECOND)])]).problems == []
    assert rows_of(engine.finish().outputs) == [("a", 0, MINUTE, 2)]


def test_a_row_without_event_time_is_a_problem():
    rows, problems = _all(_per_minute(), [block([("a", 1, 1.0, None), ("a", 1, 1.0, 5)])])
    assert rows == [("a", 0, MINUTE, 1)]
    assert [(p.row, p.code) for p in problems] == [(0, "no_event_time")]


def test_a_hop_row_counts_in_each_window_that_holds_it():
    rows, _ = _all(
        _per_minute(slide_ms=20 * SECOND), [block([("a", 1, 1.0, 25 * SECOND), ("a", 1, 1.0, 65 * SECOND)])]
    )
    starts = [(row[1] // SECOND, row[3]) for row in rows]
    assert starts == [(-20, 1), (0, 1), (20, 2), (40, 1), (60, 1)]


def test_a_late_hop_row_counts_in_the_windows_that_are_still_open():
    engine = _per_minute(slide_ms=20 * SECOND)
    first = engine.step([block([("a", 1, 1.0, 70 * SECOND)])])
    assert rows_of(first.outputs) == []
    second = engine.step([block([("a", 1, 1.0, 30 * SECOND), ("a", 1, 1.0, 15 * SECOND)])])
    assert [(p.row, p.code) for p in second.problems] == [(1, "late")]
    rows = rows_of(engine.finish().outputs)
    assert [(row[1] // SECOND, row[3]) for row in rows] == [(20, 2), (40, 1), (60, 1)]


def test_a_hop_with_gaps_counts_nothing_between_windows():
    engine = _per_minute(size_ms=10 * SECOND, slide_ms=MINUTE)
    rows, problems = _all(engine, [block([("a", 1, 1.0, 5 * SECOND), ("a", 1, 1.0, 30 * SECOND)])])
    assert rows == [("a", 0, 10 * SECOND, 1)]
    assert problems == []


def test_the_slowest_partition_holds_windows_back_unless_it_is_idle():
    engine = _per_minute(partitions=2)
    assert rows_of(engine.step([block([("a", 1, 1.0, 5 * MINUTE)])]).outputs) == []
    assert rows_of(engine.step([block([("a", 1, 1.0, 10)], partition=1)]).outputs) == []
    woken = engine.step([block([], partition=1, idle=True)])
    assert rows_of(woken.outputs) == [("a", 0, MINUTE, 1)]
    judged = engine.step([block([("b", 1, 1.0, 20)], partition=1)])
    assert [p.code for p in judged.problems] == ["late"]


def test_word_that_a_source_is_complete_fires_its_windows():
    engine = _per_minute()
    engine.step([block([("a", 1, 1.0, 0)])])
    result = engine.step([block([], through_ms=MINUTE)])
    assert rows_of(result.outputs) == [("a", 0, MINUTE, 1)]


def test_word_that_a_source_is_complete_counts_though_all_of_its_partitions_are_idle():
    engine = _per_minute(partitions=2)
    engine.step([block([("a", 1, 1.0, 0)])])
    assert rows_of(engine.step([block([], idle=True), block([], partition=1, idle=True)]).outputs) == []
    result = engine.step([block([], through_ms=MINUTE), block([], partition=1, through_ms=MINUTE)])
    assert rows_of(result.outputs) == [("a", 0, MINUTE, 1)]


def test_the_output_says_how_far_its_windows_are_complete():
    engine = _per_minute()
    outputs = engine.step([block([("a", 1, 1.0, 90 * SECOND)])]).outputs
    assert [(o.frame.height, o.watermark_ms) for o in outputs] == [(0, MINUTE - 1)]


def test_results_do_not_change_with_the_size_of_batches():
    rng = random.Random(1)
    rows = [(rng.choice("abc"), rng.randint(0, 9), rng.random(), n * 100) for n in range(20_000)]
    calls = [count(), AggregateCall("sum", "SUM", column("n", INT), INT)]
    large, _ = _all(_per_minute(*calls), [block(rows)])
    small, _ = _all(_per_minute(*calls), *([block(rows[n : n + 777])] for n in range(0, len(rows), 777)))
    assert sorted(large) == sorted(small)
    assert large == small


@pytest.mark.parametrize(
    ("function", "argument", "returns", "expected"),
    [
        ("COUNT", column("n", INT), BIGINT, 3),
        ("SUM", column("n", INT), INT, -8),
        ("AVG", column("n", INT), INT, -2),  # -8 / 3 truncates
        ("MIN", column("n", INT), INT, -9),
        ("MAX", column("n", INT), INT, 3),
        ("SUM", column("value", DOUBLE), DOUBLE, 4.0),
        ("AVG", column("value", DOUBLE), DOUBLE, 4.0 / 3),
        ("MIN", column("value", DOUBLE), DOUBLE, 0.5),
        ("MAX", column("device", STRING), STRING, "é"),
        ("MIN", column("device", STRING), STRING, "A"),
    ],
)
def test_aggregate_functions_ignore_null(function, argument, returns, expected):
    rows = [("A", 3, 0.5, 0), ("b", -9, 2.5, 1), ("é", -2, 1.0, 2), (None, None, None, 3)]
    engine = _per_minute(AggregateCall("x", function, argument, returns), keys=())
    out, _ = _all(engine, [block(rows[:2])], [block(rows[2:])])
    assert out == [(0, MINUTE, expected)]


@pytest.mark.parametrize("function", ["SUM", "AVG", "MIN", "MAX"])
@pytest.mark.parametrize(("name", "data_type"), [("n", INT), ("value", DOUBLE), ("device", STRING)])
def test_an_aggregate_of_no_value_is_null(function, name, data_type):
    if data_type is STRING and function in ("SUM", "AVG"):
        return
    engine = _per_minute(AggregateCall("x", function, column(name, data_type), data_type), count("c"), keys=())
    out, _ = _all(engine, [block([(None, None, None, 0)])])
    assert out == [(0, MINUTE, None, 1)]


def test_an_integer_sum_wraps_around_as_in_flink():
    engine = _per_minute(AggregateCall("x", "SUM", column("n", INT), INT), keys=())
    out, _ = _all(engine, [block([("a", 2**31 - 1, None, 0), ("a", 1, None, 1)])])
    assert out == [(0, MINUTE, -(2**31))]


def test_filter_and_distinct():
    positive = call(">", column("n", INT), literal(0, INT))
    calls = [
        AggregateCall("kinds", "COUNT", column("n", INT), BIGINT, distinct=True),
        AggregateCall("positive", "COUNT", None, BIGINT, filter=positive),
        AggregateCall("sum_positive", "SUM", column("n", INT), INT, filter=positive),
        AggregateCall("sum_kinds", "SUM", column("n", INT), INT, distinct=True),
    ]
    steps = [[block([("a", 1, 1.0, 0), ("a", 1, 1.0, 1), ("a", -5, 1.0, 2)])],
             [block([("a", 1, 1.0, 3), ("a", 7, 1.0, 4), ("a", None, 1.0, 5)])]]  # fmt: skip
    assert _all(_per_minute(*calls), *steps)[0] == [("a", 0, MINUTE, 3, 4, 10, 3)]


def test_distinct_counts_of_hop_windows_are_those_of_their_rows():
    calls = [AggregateCall("kinds", "COUNT", column("n", INT), BIGINT, distinct=True)]
    engine = _per_minute(*calls, keys=(), slide_ms=30 * SECOND)
    rows, _ = _all(engine, [block([("a", 1, 1.0, 0), ("a", 1, 1.0, 40 * SECOND), ("a", 2, 1.0, 41 * SECOND)])])
    assert [(row[0] // SECOND, row[2]) for row in rows] == [(-30, 1), (0, 2), (30, 2)]


def test_a_late_row_of_a_hop_kept_by_window_is_told_once():
    calls = [AggregateCall("kinds", "COUNT", column("n", INT), BIGINT, distinct=True)]
    engine = _per_minute(*calls, slide_ms=20 * SECOND)
    engine.step([block([("a", 1, 1.0, 70 * SECOND)])])
    second = engine.step([block([("a", 2, 1.0, 30 * SECOND), ("a", 1, 1.0, 15 * SECOND)])])
    assert [(p.row, p.code) for p in second.problems] == [(1, "late")]
    assert [(row[1] // SECOND, row[3]) for row in rows_of(engine.finish().outputs)] == [(20, 2), (40, 1), (60, 1)]


MONEY = {"amount": decimal(10, 2), "day": DATE, "ts": TIMESTAMP}


def _money(*calls, keys=()):
    plan = aggregate(windowed(scan("sales", MONEY), MINUTE), calls, keys=keys)
    return build_engine(app([source("sales", MONEY)], statement("totals", plan)))


def test_decimal_sums_are_exact_and_averages_round_half_up():
    calls = [
        AggregateCall("sum", "SUM", column("amount", decimal(10, 2)), decimal(38, 2)),
        AggregateCall("avg", "AVG", column("amount", decimal(10, 2)), decimal(38, 6)),
        AggregateCall("max", "MAX", column("amount", decimal(10, 2)), decimal(10, 2)),
    ]
    amounts = [
        Decimal("0.10"),
        Decimal("99999999.99"),
        None,
        Decimal("-0.05"),
        Decimal("0.01"),
        Decimal("0.01"),
        Decimal(0),
    ]
    steps = [
        [block([(a, None, n) for n, a in enumerate(part)], "sales", columns=MONEY)]
        for part in (amounts[:2], amounts[2:])
    ]
    total = Decimal("100000000.06")
    assert _all(_money(*calls), *steps)[0] == [
        (0, MINUTE, total, Decimal("16666666.676667"), Decimal("99999999.99")),
    ]


def test_groups_by_every_kind_of_key():
    keys = [named("amount", decimal(10, 2)), named("day", DATE), Named("when", column("ts", TIMESTAMP))]
    rows = [(Decimal("1.50"), 17, 5), (None, None, 7), (Decimal("1.50"), 17, 5)]
    frame = block(rows, "sales", columns=MONEY)
    out, _ = _all(_money(count(), keys=keys), [frame])
    day = frame.frame["day"][0]
    assert out == [(None, None, 7, 0, MINUTE, 1), (Decimal("1.50"), day, 5, 0, MINUTE, 2)]


def test_nan_is_one_group_and_zero_has_no_sign():
    engine = _per_minute(keys=[named("value", DOUBLE)])
    out, _ = _all(
        engine,
        [block([("a", 1, math.nan, 0), ("a", 1, 0.0, 0)])],
        [block([("a", 1, math.nan, 0), ("a", 1, -0.0, 0)])],
    )
    assert [(str(row[0]), row[3]) for row in out] == [("0.0", 2), ("nan", 2)]


def test_double_sums_are_close_to_exact_ones():
    rng = random.Random(7)
    values = [round(rng.uniform(0.01, 90_000), 2) for _ in range(245_880)]
    exact = sum(map(Decimal, map(repr, values)))
    plan = aggregate(windowed(scan(), DAY), [AggregateCall("sum", "SUM", column("value", DOUBLE), DOUBLE)])
    for size in (1_000, 50_000, 245_880):
        engine = build_engine(app([source()], statement("totals", plan)))
        for n in range(0, len(values), size):
            part = values[n : n + size]
            frame = pl.DataFrame(
                {"device": ["a"] * len(part), "n": [1] * len(part), "value": part, "ts": [5] * len(part)}
            )
            frame = frame.with_columns(pl.col("n").cast(pl.Int32), pl.col("ts").cast(pl.Datetime("ms")))
            engine.step([type(block([]))("readings", 0, frame)])
        ((_, _, total),) = rows_of(engine.finish().outputs)
        assert abs(Decimal(total) - exact) / exact < Decimal("1e-13")


def test_having_and_a_projection_over_results():
    totals = aggregate(windowed(scan(), MINUTE), [count("c")], keys=[DEVICE])
    many = where(totals, call(">", column("c", BIGINT), literal(1, BIGINT)))
    plan = project(many, c=column("c", BIGINT), device=column("device", STRING))
    engine = build_engine(app([source()], statement("busy", plan)))
    out, _ = _all(engine, [block([("a", 1, 1.0, 0), ("b", 1, 1.0, 0), ("a", 1, 1.0, 1)])])
    assert out == [(2, "a")]


def test_an_error_over_a_result_names_its_values():
    totals = aggregate(windowed(scan(), MINUTE), [AggregateCall("s", "SUM", column("n", INT), INT)], keys=[DEVICE])
    plan = project(
        totals, device=column("device", STRING), x=call("/", literal(8, INT), column("s", INT), returns=INT)
    )
    engine = build_engine(app([source()], statement("ratio", plan)))
    out, problems = _all(engine, [block([("a", 0, 1.0, 0), ("b", 4, 1.0, 0)])])
    assert out == [("b", 2)]
    (problem,) = problems
    assert (problem.relation, problem.row, problem.code) == (None, None, "division_by_zero")
    assert '"device":"a"' in (problem.values or "")


def test_windows_over_windows():
    inner = aggregate(windowed(scan(), MINUTE), [count("c")], keys=[DEVICE],
                      columns=("window_start", "window_end", "window_time"))  # fmt: skip
    times = project(inner, c=column("c", BIGINT), t=column("window_time", TIMESTAMP))
    outer = aggregate(
        windowed(times, 2 * MINUTE, time="t"), [AggregateCall("most", "MAX", column("c", BIGINT), BIGINT)]
    )
    engine = build_engine(app([source()], statement("peaks", outer)))
    first = engine.step([block([("a", 1, 1.0, 0), ("a", 1, 1.0, 1), ("a", 1, 1.0, 2 * MINUTE)])])
    assert rows_of(first.outputs) == [(0, 2 * MINUTE, 2)]
    assert rows_of(engine.finish().outputs) == [(2 * MINUTE, 4 * MINUTE, 1)]


def test_a_windowed_result_is_an_insert_where_its_groups_are_the_key():
    plan = aggregate(windowed(scan(), MINUTE), [count("c")], keys=[DEVICE])
    for key, op in ((["device", "window_start"], Op.INSERT), (["device"], Op.UPDATE_AFTER)):
        engine = build_engine(app([source()], statement("totals", plan), primary_keys={"totals": key}))
        engine.step([block([("a", 1, 1.0, 0)])])
        assert changes(engine.finish()) == [("a", 0, MINUTE, 1, op)]


def test_a_window_function_without_an_aggregate_multiplies_rows():
    window = windowed(scan(), MINUTE, slide_ms=30 * SECOND)
    plan = project(window, device=column("device", STRING), start=column("window_start", TIMESTAMP))
    engine = build_engine(app([source()], statement("copies", plan)))
    out = engine.step([block([("a", 1, 1.0, 40 * SECOND), ("b", 1, 1.0, None)])])
    assert sorted(rows_of(out.outputs)) == [("a", 0), ("a", 30 * SECOND)]
    assert [(p.row, p.code) for p in out.problems] == [(1, "no_event_time")]
