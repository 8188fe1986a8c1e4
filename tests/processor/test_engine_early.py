"""Early results: a table that is updated while its windows are open."""

from __future__ import annotations

from engine_plans import (
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
from penstock.model.types import BIGINT, INT, STRING, TIMESTAMP
from penstock_processor.compile.build import build_engine
from penstock_processor.logical.plan import AggregateCall

NEW, UPDATED, GONE = Op.INSERT, Op.UPDATE_AFTER, Op.DELETE
KEY = ["device", "window_start"]


def _early(slide_ms=None, predicate=None, calls=None):
    window = windowed(scan(), MINUTE, slide_ms=slide_ms)
    node = aggregate(window, calls or [count("c")], keys=[named("device", STRING)], early=True)
    kept = node if predicate is None else where(node, predicate)
    plan = project(kept, device=column("device", STRING), window_start=column("window_start", TIMESTAMP),
                   c=column("c", BIGINT))  # fmt: skip
    return app([source()], statement("totals", plan), primary_keys={"totals": KEY}, emit="early")


def test_each_step_updates_its_keys_and_the_end_of_the_window_is_final():
    engine = build_engine(_early())
    assert changes(engine.step([block([("a", 1, 1.0, 0), ("a", 1, 1.0, 1), ("b", 1, 1.0, 2)])])) == [
        ("a", 0, 2, NEW, True),
        ("b", 0, 1, NEW, True),
    ]
    assert changes(engine.step([block([("a", 1, 1.0, 3)])])) == [("a", 0, 3, UPDATED, True)]
    assert changes(engine.step([block([("a", 1, 1.0, MINUTE)])])) == [
        ("a", 0, 3, UPDATED, False),
        ("b", 0, 1, UPDATED, False),
        ("a", MINUTE, 1, NEW, True),
    ]


def test_a_window_that_opens_and_fires_in_one_step_is_inserted_once():
    engine = build_engine(_early())
    assert changes(engine.step([block([("a", 1, 1.0, 0), ("a", 1, 1.0, 2 * MINUTE)])])) == [
        ("a", 0, 1, NEW, False),
        ("a", 2 * MINUTE, 1, NEW, True),
    ]


def test_early_results_of_hop_windows():
    engine = build_engine(_early(slide_ms=30 * SECOND))
    assert changes(engine.step([block([("a", 1, 1.0, 40 * SECOND)])])) == [
        ("a", 0, 1, NEW, True),
        ("a", 30 * SECOND, 1, NEW, True),
    ]
    assert changes(engine.step([block([("a", 1, 1.0, 65 * SECOND)])])) == [
        ("a", 0, 1, UPDATED, False),
        ("a", 30 * SECOND, 2, UPDATED, True),
        ("a", 60 * SECOND, 1, NEW, True),
    ]


def test_a_row_that_no_longer_passes_having_is_deleted():
    sum_n = AggregateCall("c", "SUM", column("n", INT), BIGINT)
    engine = build_engine(_early(predicate=call(">", column("c", BIGINT), literal(5, BIGINT)), calls=[sum_n]))
    seen = [changes(engine.step([block([("a", n, 1.0, at)])])) for at, n in enumerate([3, 4, -4, 4, -1])]
    assert seen == [
        [],
        [("a", 0, 7, NEW, True)],
        [("a", 0, 3, GONE, True)],
        [("a", 0, 7, NEW, True)],
        [("a", 0, 6, UPDATED, True)],
    ]
    engine.step([block([("a", -6, 1.0, 9)])])
    assert changes(engine.step([block([("b", 1, 1.0, MINUTE)])])) == []


def test_readers_of_an_early_table_see_what_stands():
    plan = _early()
    columns = {"device": STRING, "window_start": TIMESTAMP, "c": BIGINT}
    copy = statement(
        "copies", project(scan("totals", columns), device=column("device", STRING), c=column("c", BIGINT))
    )
    both = app([source(), plan.sources["totals"]], *plan.statements, copy)
    engine = build_engine(both)
    first = engine.step([block([("a", 1, 1.0, 0), ("a", 1, 1.0, 1)])])
    assert rows_of(first.outputs, "copies") == []
    assert rows_of(engine.finish().outputs, "copies") == [("a", 2)]


def test_what_is_visible_survives_a_restart():
    first = build_engine(_early())
    deltas = first.step([block([("a", 1, 1.0, 0)])]).deltas
    second = build_engine(_early())
    second.restore({name: [d for d in deltas if d.operator == name] for name in second.operators})
    assert changes(second.step([block([("a", 1, 1.0, 1)])])) == [("a", 0, 2, UPDATED, True)]
