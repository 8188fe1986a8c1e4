"""Rules as an engine: the same hits as one rule after the other, in one pass; errors stay with their rule."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import datetime, timedelta

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penstock.codecs.frames import polars_schema
from penstock.errors import PenstockError, SqlErrors
from penstock.expressions.predicate import compile_predicate
from penstock.model.batch import OP_COLUMN
from penstock.model.stream import Column, Relation, StreamSpec
from penstock.model.types import BIGINT, BOOLEAN, DOUBLE, INT, STRING, TIMESTAMP
from penstock.ports.log import Catalog
from penstock_processor.operators.interface import SourceBlock
from penstock_processor.rules import formulas, matching
from penstock_processor.rules.bind import bind_rule, spelled_out
from penstock_processor.rules.engine import RulesEngine
from penstock_processor.rules.matching import Matcher
from penstock_processor.rules.model import Rule, RuleSet, Severity, read_rule
from penstock_processor.rules.plan import RulesPlan, plan_rules, target_specs

COLUMNS = (
    Column("device", STRING), Column("n", INT), Column("big", BIGINT), Column("x", DOUBLE), Column("on", BOOLEAN),
    Column("ts", TIMESTAMP),
)  # fmt: skip
SPEC = StreamSpec("readings", "demo", Relation.SOURCE, COLUMNS, time_column="ts", publish=True)
CATALOG = Catalog(1, {"readings": SPEC}, {})

PREDICATES = [
    "device = 'a'", "'b' = device", "device = 'a' AND x > 2", "device = 'c' AND x >= -1 AND n < 3",
    "device IN ('a', 'b', 'a')", "device IN ('a', NULL)", "device = 'a' AND n = 2", "device IN ('b') AND n IN (1, 2)",
    "device = NULL", "x > 1", "x >= 1", "x < 1", "x <= 1", "1.5 < x", "x > 0.5", "x < CAST(NULL AS DOUBLE)",
    "n BETWEEN 0 AND 2", "n BETWEEN 1 AND 1 AND x > 0", "big > 3000000000", "big = 4", "n = 2.0", "x = 1", "x = 0.0",
    "x > CAST('NaN' AS DOUBLE)", "x + n > 1.5", "x + n > 2.5", "UPPER(device) = 'B'", "device <> 'a'", "NOT `on`",
    "`on`", "`on` = TRUE", "device LIKE 'a%' OR n IS NULL", "10 / n > 4", "n > 0 AND 10 / n > 4", "TRUE", "1 = 2",
    "CAST(NULL AS BOOLEAN)", "ts > TIMESTAMP '2018-01-01 00:00:02'", "ts = TIMESTAMP '2018-01-01 00:00:01'",
    "CAST(device AS INT) > 1",
    "NOT (x < 1)", "NOT (x < 2)", "NOT (x > 1 OR n = 2)", "x <> 1", "NOT (device <> 'a' AND x > 0)",
    "device = 'a' OR x > 2", "device = 'b' OR x > 0", "device NOT IN ('a', 'b')", "device NOT IN ('a', NULL)",
    "NOT (device IN ('c', 'a') OR x > 1)", "x > 1 OR `on`", "x > 2 OR `on`", "x > 0 AND NOT `on`",
    "device LIKE 'a%' AND x > 0", "device LIKE 'a%' AND x > 1", "device <> NULL OR n > 1", "x * 2 > 3 OR n = 3",
    "CAST(NULL AS BOOLEAN) OR x > 1", "ts <> TIMESTAMP '2018-01-01 00:00:01' OR n = 1", "TRUE AND x > 1",
    "x < 2 AND x > 0", "x < 3 AND x > 1", "device > 'a'", "n IS NOT DISTINCT FROM 1",
    "device = 'a' AND device = 'b'", "device IN ('a', 'b') AND device IN ('b', 'c') AND x > 0", "n = 1 AND n = 1",
]  # fmt: skip


def rule(name: str, predicate: str, **more: object) -> Rule:
    made = {"source": "readings", "target": "alerts", "columns": "*", **more}
    return spelled_out(Rule(name=name, predicate=predicate, **made), SPEC)  # type: ignore[arg-type]  # of a test


def plan_of(rules: Sequence[Rule], spec: StreamSpec = SPEC) -> RulesPlan:
    return plan_rules(RuleSet("readings").put(rules, now_ms=0), Catalog(1, {"readings": spec}, {}), bind_rule)


def frame_of(rows: Sequence[tuple[object, ...]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=polars_schema(COLUMNS), orient="row")


BOUND = {text: bind_rule(rule("r", text), COLUMNS) for text in PREDICATES}
ALONE = {text: compile_predicate(text, COLUMNS) for text in PREDICATES}
ROWS = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "c", "", "3", None]),
        st.sampled_from([0, 1, 2, 3, -1, None]),
        st.sampled_from([4, 3_000_000_001, -(2**63), None]),
        st.sampled_from([0.0, -0.0, 1.0, 1.5, 2.5, float("nan"), float("inf"), None]),
        st.sampled_from([True, False, None]),
        st.sampled_from([datetime(2018, 1, 1) + timedelta(seconds=n) for n in range(5)] + [None]),
    ),
    max_size=12,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    rows=ROWS,
    predicates=st.lists(st.sampled_from(PREDICATES), min_size=1, max_size=12),
    pairs=st.sampled_from([3, 1 << 20]),
    pays=st.sampled_from([1, 4]),
    looked_up=st.sampled_from([0, 32]),
)
def test_all_rules_in_one_pass_hit_what_each_alone_hits(
    rows: list[tuple[object, ...]], predicates: list[str], pairs: int, pays: int, looked_up: int
) -> None:
    frame = frame_of(rows)
    bound = [BOUND[predicate] for predicate in predicates]
    before = formulas.PAIRS_AT_ONCE, formulas.PAYS_FROM, matching.LOOKED_UP_ROWS
    formulas.PAIRS_AT_ONCE, formulas.PAYS_FROM, matching.LOOKED_UP_ROWS = pairs, pays, looked_up
    try:
        hits = Matcher([each.predicate for each in bound]).match(frame)
    finally:
        formulas.PAIRS_AT_ONCE, formulas.PAYS_FROM, matching.LOOKED_UP_ROWS = before
    expected = sorted(
        (row, n) for n, predicate in enumerate(predicates) for row in ALONE[predicate](frame).arg_true().to_list()
    )
    assert list(zip(hits.rows.tolist(), hits.rules.tolist(), strict=True)) == expected


ONE = datetime(2018, 1, 1, 0, 0, 1)
ROW = ("a", 2, 4, 1.5, True, ONE)


def block(rows: Sequence[tuple[object, ...]], at_ms: int | None = None) -> SourceBlock:
    return SourceBlock("readings", 0, frame_of(rows), appended_ms=at_ms)


def test_rows_of_one_target_are_one_output_in_the_order_of_events_and_then_of_rules() -> None:
    engine = RulesEngine(
        plan_of(
            [
                rule("hot", "x > 1", columns="device, x AS v", severity=Severity.CRITICAL),
                rule("any", "TRUE", columns="device, x * 2 AS v"),
                rule("b-only", "device = 'b'", columns="device, x AS v", severity=Severity.INFO),
                rule("elsewhere", "n = 2", columns="n", target="twos"),
                rule("off", "TRUE", columns="device, x AS v", enabled=False),
            ]
        )
    )
    step = engine.step([block([ROW, ("b", 1, 0, 0.5, True, ONE)]), block([("b", 2, 0, 3.0, True, ONE)])])
    outputs = {output.target: output.frame for output in step.outputs}
    assert outputs["alerts"].drop(OP_COLUMN).rows() == [
        ("any", "warning", "a", 3.0),
        ("hot", "critical", "a", 1.5),
        ("any", "warning", "b", 1.0),
        ("b-only", "info", "b", 0.5),
        ("any", "warning", "b", 6.0),
        ("b-only", "info", "b", 3.0),
        ("hot", "critical", "b", 3.0),
    ]
    assert outputs["twos"].rows() == [("elsewhere", "warning", 2, 0)] * 2
    assert step.hits is not None
    assert dict(step.hits.by_severity) == {"warning": 5, "critical": 2, "info": 2}


def test_a_row_that_a_rule_cannot_take_is_rejected_for_that_rule_alone() -> None:
    engine = RulesEngine(
        plan_of(
            [
                rule("divides", "10 / n > 1"),
                rule("guarded", "n <> 0 AND 10 / n > 1"),
                rule("shapes", "x > 0", columns="10 / n AS tenth", target="tenths"),
                rule("takes", "n = 0"),
            ]
        )
    )
    step = engine.step([block([("a", 0, 0, 1.0, True, ONE), ROW])])
    problems = [(p.statement, p.relation, p.partition, p.row, p.code) for p in step.problems]
    assert problems == [
        ("divides", "readings", 0, 0, "division_by_zero"),
        ("shapes", "readings", 0, 0, "division_by_zero"),
    ]
    assert step.hits is not None
    assert {name: each.hits for name, each in step.hits.by_rule.items()} == {
        "divides": 1, "guarded": 1, "shapes": 1, "takes": 1,
    }  # fmt: skip


def test_what_a_derived_relation_rejects_is_shown_by_its_values() -> None:
    derived = StreamSpec("readings", "demo", Relation.STREAM, COLUMNS)
    engine = RulesEngine(plan_of([rule("divides", "10 / n > 1")], derived))
    (problem,) = engine.step([block([("a", 0, 0, 1.0, True, ONE)])]).problems
    assert problem.row is None
    assert problem.values is not None
    assert '"ts":"2018-01-01T00:00:01.000"' in problem.values


@pytest.mark.parametrize("compacted", [False, True])
def test_hits_are_restored_from_deltas_and_a_rule_put_anew_begins_at_none(compacted: bool) -> None:
    rules = RuleSet("readings").put([rule("hot", "x > 1"), rule("cold", "x < 1")], now_ms=0)
    first = RulesEngine(plan_rules(rules, CATALOG, bind_rule))
    deltas = [delta for at_ms in (5, 7) for delta in first.step([block([ROW, ROW], at_ms)]).deltas]
    kept = [first.compact("hits")] if compacted else deltas
    again = rules.without("cold").put([rule("cold", "x < 1"), rule("hot", "x > 1.2")], now_ms=9)
    second = RulesEngine(plan_rules(again, CATALOG, bind_rule))
    second.restore({"hits": kept})
    assert {name: (each.hits, each.last_ms) for name, each in second.rule_hits().items()} == {"hot": (4, 7)}
    other = RulesEngine(plan_rules(rules.without("hot").put([rule("hot", "x > 1")], now_ms=9), CATALOG, bind_rule))
    other.restore({"hits": kept})
    assert other.rule_hits() == {}


def test_a_replay_goes_to_one_rule_only() -> None:
    engine = RulesEngine(plan_of([rule("hot", "x > 1"), rule("any", "TRUE")]))
    step = engine.replay("hot", block([ROW]))
    assert [output.frame["rule"].to_list() for output in step.outputs] == [["hot"]]
    with pytest.raises(PenstockError, match="no rule 'gone'"):
        engine.replay("gone", block([ROW]))


def test_nothing_that_hits_writes_nothing() -> None:
    engine = RulesEngine(plan_of([rule("hot", "x > 100")]))
    step = engine.step([block([ROW])])
    assert (step.outputs, step.deltas, step.problems, step.hits) == ([], [], [], None)
    assert RulesEngine(plan_of([])).step([block([ROW])]).outputs == []


def test_the_target_has_the_rule_its_severity_and_the_columns() -> None:
    (target,) = target_specs(plan_of([rule("hot", "x > 1", columns="device, ts, x + 1 AS more")]))
    assert [(c.name, str(c.type)) for c in target.columns] == [
        ("rule", "STRING"), ("severity", "STRING"), ("device", "STRING"), ("ts", "TIMESTAMP(3)"), ("more", "DOUBLE"),
    ]  # fmt: skip
    assert (target.app, target.time_column, target.key, target.scope) == (
        "rules.readings", "ts", ("rule",), "alerts:read",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("change", "field", "place", "code"),
    [
        ({"predicate": "x > 1 AND\n  xx < 2"}, "predicate", (2, 3), "unknown_column"),
        ({"predicate": "x + 1"}, "predicate", (1, 1), "type_mismatch"),
        ({"predicate": "x >"}, "predicate", (1, 3), "syntax"),
        ({"predicate": ""}, "predicate", (1, 1), "empty"),
        ({"predicate": "COUNT(*) > 1"}, "predicate", (1, 1), "misplaced_aggregate"),
        ({"predicate": "x > 1 AND PROCTIME() IS NULL"}, "predicate", (1, 11), "unsupported"),
        ({"predicate": "ts < CURRENT_TIMESTAMP"}, "predicate", (1, 6), "unsupported"),
        ({"predicate": "x > 1" + " " * 5000}, "predicate", (1, 1), "text_too_long"),
        ({"columns": "device,\n  xx"}, "columns", (2, 3), "unknown_column"),
        ({"columns": "device, x + 1"}, "columns", (1, 9), "unnamed_column"),
        ({"columns": "device, device"}, "columns", (1, 9), "name_taken"),
        ({"columns": "x AS `rule`"}, "columns", (1, 1), "name_taken"),
        ({"columns": "x AS Severity"}, "columns", (1, 1), "name_taken"),
        ({"columns": "x, n AS X"}, "columns", (1, 4), "name_taken"),
        ({"columns": "x, n AS `$op`"}, "columns", (1, 4), "bad_name"),
        ({"columns": "x AS " + "x" * 64}, "columns", (1, 1), "bad_name"),
        ({"columns": "*, x AS y"}, "columns", (1, 1), "unsupported"),
        ({"columns": "device FROM other"}, "columns", (1, 13), "unsupported"),
        ({"columns": "device; DROP TABLE x"}, "columns", (1, 9), "unsupported_statement"),
        ({"columns": "NULL AS nothing"}, "columns", (1, 1), "type_mismatch"),
        ({"columns": ""}, "columns", (1, 1), "syntax"),
    ],
)
def test_a_wrong_rule_is_told_where_it_is_wrong(
    change: dict[str, str], field: str, place: tuple[int, int], code: str
) -> None:
    made = {"name": "hot", "source": "readings", "predicate": "x > 1", "target": "alerts", **change}
    with pytest.raises(SqlErrors) as refused:
        bind_rule(Rule(**made), COLUMNS)  # type: ignore[arg-type]  # of a test
    error = refused.value.errors[0]
    assert ((error.line, error.column), error.code, refused.value.extra["field"]) == (place, code, field)
    assert error.remedy


def test_a_text_that_is_kept_reads_back_equal() -> None:
    rules = RuleSet("readings").put(
        [rule(f"r{n}", f"x > {n}") for n in range(3)], now_ms=random.Random(1).randint(1, 9)
    )
    assert RuleSet.read(rules.text) == rules
    with pytest.raises(PenstockError, match="another version"):
        RuleSet.read(rules.text.replace('"enabled"', '"sometimes"'))
    changed = rules.put([rule("r1", "x > 7"), rule("r2", "x > 2")], now_ms=99)
    assert {n: (k.version, k.changed_at_ms == 99) for n, k in changed.by_name().items()} == {
        "r0": (1, False), "r1": (2, True), "r2": (1, False),
    }  # fmt: skip


@pytest.mark.parametrize("target", ["_alerts", "a" * 64, "7up", "a-b", ""])
def test_a_target_is_named_as_any_stream(target: str) -> None:
    body = {"source": "readings", "predicate": "x > 1", "target": target}
    with pytest.raises(PenstockError, match="no name of a stream"):
        read_rule("hot", body)
    assert read_rule("hot", {**body, "target": "a" * 63}).target == "a" * 63
