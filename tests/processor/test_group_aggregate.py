"""GROUP BY without a window, held against a plain reading: cut, resumed, rows taken back, groups forgotten."""

from __future__ import annotations

import random
import statistics

import polars as pl
import pytest
from engine_rig import DeltaLog
from processor.keyed_rig import WAYS, app, blocks, end_of

from penstock.errors import SqlErrors
from penstock.model.batch import Op
from penstock_processor.compile.build import build_engine
from penstock_processor.logical.explain import explain_json
from penstock_processor.logical.plan_app import check_app, plan_app
from penstock_processor.operators.changes import MOVED_CHANGE, settled
from penstock_processor.operators.elapsed import Elapsed
from penstock_processor.operators.interface import SourceBlock
from penstock_processor.operators.step import AT

HOUR = 3_600_000
COUNTS = "SELECT COALESCE(k, -1), COUNT(*) FROM l GROUP BY COALESCE(k, -1)"
COUNTS_COLUMNS = "k INT, c BIGINT, PRIMARY KEY (k) NOT ENFORCED"


def random_rows(seed, count=60):
    chance = random.Random(seed)
    return [(chance.randint(0, 5), chance.choice([None, *range(-3, 4)]), at) for at in range(count)]


def by_key(rows):
    groups = {}
    for k, v, _ in rows:
        groups.setdefault(k, []).append(v)
    return groups


def counts_of(groups):
    """Times a group has so many rows -> sums of v of these groups, in order of size."""
    found = {}
    for values in groups.values():
        some = [v for v in values if v is not None]
        found.setdefault(len(values), []).append(sum(some) if some else None)
    return found


def summary(values):
    some = [v for v in values if v is not None]
    return (min(some), max(some), sum(some), len(set(some))) if some else (None, None, None, 0)


def changes(engine, plan, rows, now_ms=0):
    """(columns..., operation) of what a step writes."""
    frames = blocks(plan, {"l": rows})
    result = engine.step([SourceBlock("l", 0, frames["l"])], now_ms=now_ms)
    return [
        (*row[:-1], Op(row[-1]).text)
        for output in result.outputs
        if output.frame.height
        for row in output.frame.rows()
    ], result


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("seed", range(4))
def test_groups_are_what_their_rows_give(seed, way):
    rows = random_rows(seed)
    query = (
        "SELECT k, COUNT(*), MIN(v), MAX(v), SUM(v), COUNT(DISTINCT v), FIRST_VALUE(v), LISTAGG(CAST(v AS STRING)) "
    )
    columns = "k INT, c BIGINT, lo INT, hi INT, s INT, d BIGINT, f INT, l STRING, PRIMARY KEY (k) NOT ENFORCED"
    plan = app(columns, query + "FROM l GROUP BY k")
    expected = []
    for k, values in by_key(rows).items():
        some = [v for v in values if v is not None]
        expected.append((k, len(values), *summary(values), some[0], ",".join(map(str, some))))
    assert end_of(plan, {"l": rows}, way, seed=seed) == sorted(expected, key=repr)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("seed", range(4))
def test_groups_of_groups_take_back_what_was_counted_before(seed, way):
    rows = random_rows(seed)
    plan = app(
        "c BIGINT, n BIGINT, lo INT, hi INT, s INT, d BIGINT, sd DOUBLE, PRIMARY KEY (c) NOT ENFORCED",
        "SELECT c, COUNT(*), MIN(s), MAX(s), SUM(s), COUNT(DISTINCT s), STDDEV_POP(CAST(s AS DOUBLE)) "
        "FROM (SELECT k, COUNT(*) AS c, SUM(v) AS s FROM l GROUP BY k) GROUP BY c",
    )
    found = end_of(plan, {"l": rows}, way, seed=seed)
    expected = []
    for c, sums in counts_of(by_key(rows)).items():
        some = [s for s in sums if s is not None]
        expected.append((c, len(sums), *summary(sums), statistics.pstdev(some) if some else None))
    expected.sort(key=repr)
    assert [row[:-1] for row in found] == [row[:-1] for row in expected]
    assert [row[-1] for row in found] == pytest.approx([row[-1] for row in expected])


@pytest.mark.parametrize("way", WAYS)
def test_extremes_of_all_groups_follow_values_that_go(way):
    rows = random_rows("extremes", 200)
    plan = app(
        "g STRING, lo BIGINT, hi BIGINT, n BIGINT, PRIMARY KEY (g) NOT ENFORCED",
        "SELECT 'all', MIN(c), MAX(c), COUNT(*) FROM (SELECT k, v, COUNT(*) AS c FROM l GROUP BY k, v)",
    )
    sizes = {}
    for k, v, _ in rows:
        sizes[k, v] = sizes.get((k, v), 0) + 1
    expected = [("all", min(sizes.values()), max(sizes.values()), len(sizes))]
    assert end_of(plan, {"l": rows}, way, seed=3) == expected


def test_a_cycle_tells_the_net_change_of_each_key():
    plan = app(
        "k INT, c BIGINT, PRIMARY KEY (k) NOT ENFORCED", "SELECT k, COUNT(*) FROM l GROUP BY k HAVING MAX(v) < 5"
    )
    engine = build_engine(plan)
    assert changes(engine, plan, [(1, 0, 0), (1, 1, 0), (2, 0, 0), (3, 9, 0)])[0] == [(1, 2, "+I"), (2, 1, "+I")]
    assert changes(engine, plan, [(1, 2, 0), (2, 7, 0), (3, 1, 0)])[0] == [(1, 3, "+U"), (2, 1, "-D")]
    assert changes(engine, plan, [(2, 1, 0)])[0] == []


def test_a_group_that_gives_what_it_gave_is_not_told_again():
    plan = app("k INT, m INT, PRIMARY KEY (k) NOT ENFORCED", "SELECT k, MAX(v) FROM l GROUP BY k")
    engine = build_engine(plan)
    assert changes(engine, plan, [(1, 5, 0)])[0] == [(1, 5, "+I")]
    assert changes(engine, plan, [(1, 3, 0)])[0] == []


def test_distinct_rows_come_once_and_go_into_a_stream():
    plan = plan_app(
        "once",
        """SET 'table.exec.state.ttl' = '1 h';
        CREATE TABLE l (k INT, v INT, ts TIMESTAMP(3)) WITH ('connector' = 'penstock');
        CREATE TABLE o WITH ('connector' = 'penstock') AS SELECT DISTINCT k FROM l;""",
    )
    engine = build_engine(plan)
    assert changes(engine, plan, [(1, 0, 0), (1, 1, 0), (None, 1, 0)])[0] == [(1, "+I"), (None, "+I")]
    assert changes(engine, plan, [(2, 0, 0), (1, 1, 0), (None, 1, 0)])[0] == [(2, "+I")]


def test_a_group_that_no_row_has_touched_for_its_time_to_live_is_forgotten():
    plan = app(COUNTS_COLUMNS, COUNTS)
    engine = build_engine(plan)
    assert changes(engine, plan, [(1, 0, 0), (2, 0, 0)], now_ms=HOUR)[0] == [(1, 1, "+I"), (2, 1, "+I")]
    assert changes(engine, plan, [(1, 0, 0)], now_ms=2 * HOUR - 1)[0] == [(1, 2, "+U")]
    assert changes(engine, plan, [(1, 0, 0), (2, 0, 0)], now_ms=2 * HOUR)[0] == [(1, 3, "+U"), (2, 1, "+I")]
    assert sum(engine.state_sizes().values()) == 3  # and the watermark
    assert changes(engine, plan, [(5, 0, 0)], now_ms=9 * HOUR)[0] == [(5, 1, "+I")]
    assert sum(engine.state_sizes().values()) == 2


@pytest.mark.parametrize("compacted", [False, True])
def test_what_was_forgotten_stays_so_after_a_restart(compacted):
    plan = app(
        "k INT, c BIGINT, d BIGINT, l STRING, PRIMARY KEY (k) NOT ENFORCED",
        "SELECT k, COUNT(*), COUNT(DISTINCT v), LISTAGG(CAST(v AS STRING)) FROM l GROUP BY k",
    )
    engine, log = build_engine(plan), DeltaLog()
    for rows, now_ms in [([(1, 0, 0), (2, 0, 0)], HOUR), ([(2, 1, 0)], HOUR + 5), ([(1, 7, 0)], 2 * HOUR + 1)]:
        log.write(changes(engine, plan, rows, now_ms=now_ms)[1].deltas)
    if compacted:
        log.write([engine.compact(operator) for operator in sorted(engine.operators)])
    again = build_engine(plan)
    again.restore(log.deltas)
    assert again.state_sizes() == engine.state_sizes()
    expected = [(1, 2, 2, "7,8", "+U"), (2, 3, 2, "0,1,1", "+U")]
    assert changes(again, plan, [(1, 8, 0), (2, 1, 0)], now_ms=2 * HOUR + 4)[0] == expected


def test_groups_of_groups_stay_in_use_while_what_they_count_is_touched():
    plan = app(
        "m INT, n BIGINT, PRIMARY KEY (m) NOT ENFORCED",
        "SELECT m, COUNT(*) FROM (SELECT k, MAX(v) AS m FROM l GROUP BY k) GROUP BY m",
    )
    engine = build_engine(plan)
    assert changes(engine, plan, [(1, 5, 0), (2, 5, 0)], now_ms=HOUR)[0] == [(5, 2, "+I")]
    for n in range(1, 5):  # nothing changes, and both are in use
        assert changes(engine, plan, [(1, 0, 0), (2, 0, 0)], now_ms=HOUR + n * HOUR // 2)[0] == []
    assert changes(engine, plan, [(1, 6, 0)], now_ms=3 * HOUR + HOUR // 4)[0] == [(5, 1, "+U"), (6, 1, "+I")]


def test_a_row_that_is_taken_back_from_a_forgotten_group_is_ignored():
    plan = app(
        "k INT, n BIGINT, s BIGINT, PRIMARY KEY (k) NOT ENFORCED",
        "SELECT k, COUNT(*), SUM(c) FROM (SELECT k, v, COUNT(*) AS c FROM l GROUP BY k, v) GROUP BY k",
    )
    engine, log = build_engine(plan), DeltaLog()
    log.write(changes(engine, plan, [(1, 0, 0)], now_ms=HOUR)[1].deltas)
    outer = min((name for name in log.deltas if name != Elapsed.id), key=len)
    lost = {operator: deltas for operator, deltas in log.deltas.items() if operator != outer}
    assert len(lost) < len(log.deltas)
    engine = build_engine(plan)
    engine.restore(lost)
    assert changes(engine, plan, [(1, 0, 0)], now_ms=HOUR + 1)[0] == [(1, 1, 2, "+I")]


def test_deltas_grow_with_the_groups_that_were_touched():
    plan = app(COUNTS_COLUMNS, COUNTS)
    engine = build_engine(plan)
    large = changes(engine, plan, [(k, 0, 0) for k in range(5000)])[1].deltas
    small = changes(engine, plan, [(7, 0, 0)])[1].deltas
    assert sum(len(d.payload) for d in small) < sum(len(d.payload) for d in large) / 5


def test_a_value_that_a_row_has_not_is_rejected_once():
    plan = app(
        "k INT, r INT, PRIMARY KEY (k) NOT ENFORCED",
        "SELECT k, 10 / c FROM (SELECT k, CAST(SUM(v) AS INT) AS c FROM l GROUP BY k)",
    )
    engine = build_engine(plan)
    _, result = changes(engine, plan, [(1, 0, 0)])
    assert [problem.code for problem in result.problems] == ["division_by_zero"]
    found, result = changes(engine, plan, [(1, 5, 0)])
    assert [found, result.problems] == [[(1, 2, "+U")], []]


def test_changes_of_several_cycles_are_settled_as_those_of_one():
    told = [
        "+I a",
        "-U a",
        "+U b",
        "+I c",
        "-U b",
        "+U d",
        "-U e",
        "+U e",
        "-D f",
        "+I g",
        "+I g",
        "-U h",
        "+U h",
        "-D h",
    ]
    ops, rows = zip(*(each.split() for each in told), strict=True)
    kinds = [op.text for op in Op]
    frame = pl.DataFrame({"v": rows, AT: range(len(rows)), MOVED_CHANGE: [kinds.index(op) for op in ops]})
    found = settled(frame.cast({MOVED_CHANGE: pl.Int8}))
    shown = [f"{kinds[op]} {row}" for row, _, op in found.rows()]
    assert shown == ["-U e", "-D f", "-D h", "+I c", "+U d", "+U e", "+I g", "+I g"]


def test_the_plan_as_json_names_keys_calls_and_how_long_groups_are_kept():
    plan = app("k INT, c BIGINT, PRIMARY KEY (k) NOT ENFORCED", "SELECT k, COUNT(*) FROM l GROUP BY k")
    [statement] = explain_json(plan)["statements"]
    [group] = statement["plan"]["inputs"]
    assert (group["keys"], group["ttl_ms"], group["updating"]) == ([{"name": "k", "expr": "k"}], HOUR, True)
    assert [call["function"] for call in group["calls"]] == ["COUNT"]


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("SELECT k, FIRST_VALUE('') FROM (SELECT k, COUNT(*) AS c FROM l GROUP BY k) GROUP BY k", "reads_updates"),
        ("SELECT CAST(c AS INT), CAST(k AS STRING) FROM (SELECT k, COUNT(*) AS c FROM l GROUP BY k)", "update_key"),
        ("SELECT k + 1, 'x' FROM (SELECT k, COUNT(*) AS c FROM l GROUP BY k)", "update_key"),
    ],
)  # fmt: skip
def test_what_cannot_be_followed_is_refused(query, code):
    with pytest.raises(SqlErrors) as refused:
        app("k INT, c STRING, PRIMARY KEY (k) NOT ENFORCED", query)
    assert [error.code for error in refused.value.errors] == [code]


@pytest.mark.parametrize(
    ("shown", "groups", "tells"),
    [
        ("CASE WHEN GROUPING(k) = 1 THEN 7 ELSE k END", "ROLLUP (k)", True),
        ("CASE GROUPING(k) WHEN 0 THEN k END", "ROLLUP (k)", True),
        ("CASE WHEN GROUPING(k) = 0 THEN 7 ELSE k END", "ROLLUP (k)", False),  # 7 in all groups of k
        ("CASE WHEN GROUPING(l) = 1 THEN 7 ELSE k END", "ROLLUP (k, l)", False),  # (k) has no l
        ("CASE WHEN GROUPING_ID(k, l) = 3 THEN 7 ELSE k END", "ROLLUP (k, l)", True),
    ],
)
def test_a_case_over_groupings_is_a_key_only_where_it_is_the_key_in_all_that_have_it(
    shown: str, groups: str, tells: bool
) -> None:
    two = "(k, l)" in groups
    keys, second = ("k, l", "CASE WHEN GROUPING(l) = 1 THEN 0 ELSE l END AS l,") if two else ("k", "")
    sql = f"""SET 'table.exec.state.ttl' = '1 d';
CREATE TABLE src (k INT, l INT) WITH ('connector' = 'penstock');
CREATE TABLE counted (PRIMARY KEY (g, shown{", l" if two else ""}) NOT ENFORCED) WITH ('connector' = 'penstock') AS
SELECT GROUPING_ID({keys}) AS g, {shown} AS shown, {second} COUNT(*) AS n FROM src GROUP BY {groups};"""
    assert [error.code for error in check_app("app", sql)] == ([] if tells else ["update_key"])
