"""Replays of corrected rows: to one statement, judged by watermarks that stay."""

from __future__ import annotations

import pytest
from engine_plans import (
    MINUTE,
    aggregate,
    app,
    block,
    call,
    column,
    count,
    literal,
    named,
    project,
    rows_of,
    scan,
    source,
    statement,
    windowed,
)

from penstock.errors import PenstockError
from penstock.model.types import INT, STRING, TIMESTAMP
from penstock_processor.compile.build import build_engine

RATIO = call("/", literal(100, INT), column("n", INT), returns=INT)
COLUMNS = {"device": STRING, "ratio": INT, "ts": TIMESTAMP}


def _engine():
    ratios = statement("ratios", project(scan(), device=column("device", STRING), ratio=RATIO,
                                         ts=column("ts", TIMESTAMP)))  # fmt: skip
    plan = app([source()], ratios)
    target = plan.sources["ratios"]
    watermark = plan.sources["readings"].watermark
    timed = type(target)(target.spec, (), watermark)
    window = windowed(scan("ratios", COLUMNS), MINUTE)
    counts = statement("counts", aggregate(window, [count("c")], keys=[named("device", STRING)]))
    others = statement("others", project(scan(), device=column("device", STRING)))
    return build_engine(app([source(), timed], ratios, counts, others))


def test_a_replayed_row_goes_to_its_statement_and_on_to_the_readers_of_its_target():
    engine = _engine()
    engine.step([block([("a", 0, 1.0, 1), ("b", 5, 1.0, 2)])])
    result = engine.replay("ratios", block([("a", 4, 1.0, 1)]))
    assert rows_of(result.outputs, "ratios") == [("a", 25, 1)]
    assert rows_of(result.outputs, "others") == []
    assert {d.operator.startswith("watermark") for d in result.deltas} == {False}
    assert rows_of(engine.finish().outputs, "counts") == [("a", 0, MINUTE, 1), ("b", 0, MINUTE, 1)]


def test_a_replayed_row_does_not_move_the_watermark_and_may_be_late():
    engine = _engine()
    engine.step([block([("a", 1, 1.0, 10)])])
    engine.replay("ratios", block([("z", 1, 1.0, 90 * MINUTE)]))
    engine.step([block([("b", 1, 1.0, 2 * MINUTE)])])
    result = engine.replay("ratios", block([("c", 1, 1.0, 20)]))
    assert [(p.statement, p.code, p.relation, p.row) for p in result.problems] == [("counts", "late", "ratios", None)]


def test_a_derived_row_is_replayed_to_the_reader_that_refused_it():
    engine = _engine()
    engine.step([block([("a", 1, 1.0, 10)])])
    engine.replay("counts", block([("q", 1, 20)], "ratios", columns=COLUMNS))
    assert rows_of(engine.finish().outputs, "counts") == [("a", 0, MINUTE, 1), ("q", 0, MINUTE, 1)]


@pytest.mark.parametrize(("name", "relation"), [("nobody", "readings"), ("ratios", "elsewhere")])
def test_a_replay_to_an_unknown_place_is_refused(name, relation):
    with pytest.raises(PenstockError, match="not_found"):
        _engine().replay(name, block([("a", 4, 1.0, 1)], relation))
