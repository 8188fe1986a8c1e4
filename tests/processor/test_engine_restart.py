"""A restart changes nothing: snapshot and deltas bring back exactly the state, also in the middle of windows."""

from __future__ import annotations

import pytest
from engine_plans import (
    MINUTE,
    SECOND,
    aggregate,
    app,
    block,
    call,
    column,
    count,
    named,
    project,
    rows_of,
    scan,
    source,
    statement,
    windowed,
)
from engine_rig import DeltaLog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penstock.model.types import BIGINT, DOUBLE, INT, STRING, TIMESTAMP
from penstock_processor.compile.build import build_engine
from penstock_processor.logical.bounded_joins import TemporalJoin, WindowJoin
from penstock_processor.logical.plan import AggregateCall, Field, IntervalJoin, JoinKind, Union

DEVICE = named("device", STRING)
CALLS = [
    count("c"),
    AggregateCall("s", "SUM", column("value", DOUBLE), DOUBLE),
    AggregateCall("a", "AVG", column("n", INT), INT),
    AggregateCall("m", "MAX", column("device", STRING), STRING),
    AggregateCall("l", "MIN", column("n", INT), INT),
]
DISTINCT = [count("c"), AggregateCall("d", "COUNT", column("value", DOUBLE), BIGINT, distinct=True)]


def _windowed(calls, *, slide_ms=None, early=False):
    plan = aggregate(windowed(scan(), MINUTE, slide_ms=slide_ms), calls, keys=[DEVICE], early=early)
    return app([source(partitions=2)], statement("totals", plan), emit="early" if early else "final",
               primary_keys={"totals": ["device", "window_start"]})  # fmt: skip


def _cascade():
    inner = aggregate(windowed(scan(), 20 * SECOND), [count("c")], keys=[DEVICE],
                      columns=("window_start", "window_end", "window_time"))  # fmt: skip
    times = project(inner, c=column("c", BIGINT), t=column("window_time", TIMESTAMP))
    outer = aggregate(windowed(times, MINUTE, time="t"), [AggregateCall("m", "SUM", column("c", BIGINT), BIGINT)])
    flat = project(scan(), device=column("device", STRING), n=column("n", INT))
    both = Union(flat.fields, (flat, project(scan(), device=column("device", STRING), n=column("n", INT))))
    return app([source(partitions=2)], statement("peaks", outer), statement("twice", both))


def _join(kind=JoinKind.INNER):
    made = tuple(
        Field(name + end, field.type) for end in ("", "0") for name, field in ((f.name, f) for f in scan().fields)
    )
    names = tuple(f.name for f in scan().fields), tuple(f.name + "0" for f in scan().fields)
    key = (column("device", STRING),)
    join = IntervalJoin(made, scan(), scan(), *names, key, key, "ts", "ts", -10 * SECOND, 5 * SECOND, None, kind)
    return app([source(partitions=2)], statement("pairs", join))


def _window_join(kind, *, slide_ms=None):
    """Rows of the same window and device, the left one with the greater number."""
    side = windowed(scan(), 20 * SECOND, slide_ms=slide_ms)
    names = tuple(f.name for f in side.fields), tuple(f.name + "0" for f in side.fields)
    made = tuple(Field(name, field.type) for end in names for name, field in zip(end, side.fields, strict=True))
    made = made[: len(side.fields)] if kind.left_alone else made
    keys = (column("window_start", TIMESTAMP), column("window_end", TIMESTAMP), column("device", STRING))
    more = call(">", column("n", INT), column("n0", INT))
    join = WindowJoin(made, side, side, *names, keys, keys, "window_end", "window_end", more, kind)
    return app([source(partitions=2)], statement("pairs", join))


def _temporal_join():
    """Each row with the version of its device at its time, of which only those count that come in order."""
    fields = scan().fields
    names = tuple(f.name for f in fields), tuple(f.name + "0" for f in fields)
    made = tuple(Field(name, field.type) for end in names for name, field in zip(end, fields, strict=True))
    key = (column("device", STRING),)
    more = call(">", column("n", INT), column("n0", INT))
    join = TemporalJoin(made, scan(), scan(), *names, key, key, "ts", "ts", more, JoinKind.LEFT, in_order=True)
    return app([source(partitions=2)], statement("versions", join))


PLANS = {
    "tumble": lambda: _windowed(CALLS),
    "hop": lambda: _windowed(CALLS, slide_ms=20 * SECOND),
    "distinct": lambda: _windowed(DISTINCT),
    "distinct hop": lambda: _windowed(DISTINCT, slide_ms=20 * SECOND),
    "early": lambda: _windowed(CALLS, early=True),
    "early hop": lambda: _windowed(DISTINCT, slide_ms=20 * SECOND, early=True),
    "windows over windows": _cascade,
    "join": _join,
    "full join": lambda: _join(JoinKind.FULL),
    "hopping left window join": lambda: _window_join(JoinKind.LEFT, slide_ms=10 * SECOND),
    "window anti join": lambda: _window_join(JoinKind.ANTI),
    "temporal join": _temporal_join,
}

ROWS = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "c", None]),
        st.one_of(st.none(), st.integers(-9, 9)),
        st.one_of(st.none(), st.sampled_from([0.1, 0.2, 0.3, 1e16, -1e16, 7.7])),
        st.integers(0, 12).map(lambda n: n * 5 * SECOND),
        st.integers(0, 1),
    ),
    max_size=12,
)
#: Steps of rows (times relative to a clock that goes on); whether to restart before, and to compact before that.
STEPS = st.lists(st.tuples(ROWS, st.booleans(), st.booleans()), min_size=2, max_size=8)


def _blocks(rows, clock):
    made = []
    for partition in (0, 1):
        own = [(device, n, value, clock + at) for device, n, value, at, p in rows if p == partition]
        made.append(block(own, partition=partition))
    return made


def _shown(result):
    frames = [(o.statement, o.watermark_ms, o.frame.rows()) for o in result.outputs]
    return frames, result.problems


@pytest.mark.parametrize("name", PLANS)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(steps=STEPS)
def test_restarts_and_snapshots_change_no_result(name, steps):
    plan = PLANS[name]()
    straight, restarted, log = build_engine(plan), build_engine(plan), DeltaLog()
    for number, (rows, restart, compact) in enumerate(steps):
        if compact:
            log.write([restarted.compact(operator) for operator in sorted(restarted.operators)])
        if restart:
            restarted = build_engine(plan)
            restarted.restore(log.deltas)
            if "join" not in name:  # rows that are dead go in time, and not at the same time
                assert restarted.state_sizes() == straight.state_sizes()
        blocks = _blocks(rows, number * 25 * SECOND)
        expected, result = straight.step(blocks), restarted.step(blocks)
        log.write(result.deltas)
        assert _shown(result) == _shown(expected)
    assert _shown(restarted.finish()) == _shown(straight.finish())


@pytest.mark.parametrize(
    "name",
    [
        "tumble",
        "hop",
        "distinct",
        "distinct hop",
        "windows over windows",
        "join",
        "full join",
        "hopping left window join",
    ],
)
@settings(max_examples=15, deadline=None, derandomize=True)
@given(rows=st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 400), st.integers(-9, 9)), max_size=60),
       cuts=st.lists(st.integers(0, 60), max_size=6))  # fmt: skip
def test_results_do_not_depend_on_how_batches_are_cut(name, rows, cuts):
    """In order of time no row is late."""
    ordered = sorted(((d, n, n / 4, at * SECOND) for d, at, n in rows), key=lambda row: row[3])
    found = []
    for bounds in ([], sorted(cuts)):
        engine = build_engine(PLANS[name]())
        outputs = []
        for start, end in zip([0, *bounds], [*bounds, len(ordered)], strict=True):
            blocks = [block(ordered[start:end]), block([], partition=1, idle=True)]
            outputs += engine.step(blocks).outputs
        outputs += engine.finish().outputs
        found.append(sorted(map(repr, rows_of(outputs))))
    assert found[0] == found[1]


def test_an_unchanged_statement_keeps_its_state_when_others_change():
    plan = _windowed(CALLS)
    engine = build_engine(plan)
    log = DeltaLog()
    log.write(engine.step(_blocks([("a", 1, 1.0, 0, 0)], 0)).deltas)
    wider = app([source(partitions=2)], statement("new", project(scan(), n=column("n", INT))), *plan.statements,
                primary_keys={"totals": ["device", "window_start"]})  # fmt: skip
    second = build_engine(wider)
    assert engine.operators <= second.operators
    second.restore(log.deltas)
    assert [row[:4] for row in rows_of(second.finish().outputs, "totals")] == [("a", 0, MINUTE, 1)]


def test_two_equal_statements_have_state_of_their_own():
    plan = aggregate(windowed(scan(), MINUTE), [count("c")])
    first = statement("totals", plan)
    second = type(first)("totals#2", "totals", plan, "", first.identity, first.span)
    engine = build_engine(app([source()], first, second))
    assert len(engine.operators) == 3
    engine.step([block([("a", 1, 1.0, 0)])])
    assert rows_of(engine.finish().outputs) == [(0, MINUTE, 1), (0, MINUTE, 1)]


def test_an_engine_that_is_not_durable_makes_no_deltas():
    engine = build_engine(_windowed(CALLS), durable=False)
    assert engine.step(_blocks([("a", 1, 1.0, 0, 0)], 0)).deltas == []


def test_a_step_without_news_makes_no_deltas():
    engine = build_engine(_windowed(CALLS))
    engine.step(_blocks([("a", 1, 1.0, 0, 0), ("a", 1, 1.0, 0, 1)], 0))
    assert engine.step([]).deltas == []


def test_the_deltas_of_a_step_are_as_large_as_what_it_touched():
    engine = build_engine(_windowed(CALLS))
    many = [(f"d{n}", 1, 1.0, 0, 0) for n in range(5000)]
    large = sum(len(d.payload) for d in engine.step(_blocks(many, 0)).deltas)
    small = sum(len(d.payload) for d in engine.step(_blocks([("d1", 1, 1.0, 1, 0)], 0)).deltas)
    assert small < 3000 < large
