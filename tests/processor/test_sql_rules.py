"""Rewrite rules, one at a time: the plan before, the plan after."""

from __future__ import annotations

from penstock.expressions.nodes import Call, Cast, ColumnRef, Expr, Literal
from penstock.model.types import BIGINT, BOOLEAN, DOUBLE, INT, STRING, TIMESTAMP, DataType
from penstock_processor.logical.plan import (
    Aggregate,
    AggregateCall,
    Field,
    Filter,
    IntervalJoin,
    Named,
    Node,
    Project,
    Scan,
    Union,
    WindowAssign,
    WindowKind,
)
from penstock_processor.logical.printing import tree_text
from penstock_processor.logical.rules.apply import apply_rules, everywhere
from penstock_processor.logical.rules.merge import merge
from penstock_processor.logical.rules.prune import prune
from penstock_processor.logical.rules.push_filters import push_filters

LOTS = Scan(
    (Field("market", STRING), Field("price", DOUBLE), Field("tonnes", INT), Field("ts", TIMESTAMP, rowtime=True)),
    "lots",
)


def col(name: str, type_: DataType = DOUBLE) -> ColumnRef:
    return ColumnRef(type_, name=name)


def over(left: Expr, number: int) -> Call:
    return Call(BOOLEAN, function=">", args=(left, Literal(DOUBLE, value=float(number))))


def both(*terms: Expr) -> Call:
    return Call(BOOLEAN, function="AND", args=terms)


def where(node: Node, predicate: Expr) -> Filter:
    return Filter(node.fields, node, predicate)


def select(node: Node, **exprs: Expr) -> Project:
    times = {f.name for f in node.fields if f.rowtime}
    return Project(
        tuple(Field(n, e.type, isinstance(e, ColumnRef) and e.name in times) for n, e in exprs.items()),
        node,
        tuple(Named(n, e) for n, e in exprs.items()),
    )


def windowed(node: Node) -> WindowAssign:
    added = (
        Field("window_start", TIMESTAMP),
        Field("window_end", TIMESTAMP),
        Field("window_time", TIMESTAMP, rowtime=True),
    )
    return WindowAssign((*node.fields, *added), node, WindowKind.TUMBLE, "ts", 1000, 1000, 0)


def grouped(node: WindowAssign) -> Aggregate:
    fields = (
        Field("market", STRING),
        Field("window_start", TIMESTAMP),
        Field("window_end", TIMESTAMP),
        Field("n", BIGINT),
    )
    call = AggregateCall("n", "SUM", col("price"), BIGINT)
    return Aggregate(fields, node, (Named("market", col("market", STRING)),), ("window_start", "window_end"), (call,))


def joined() -> IntervalJoin:
    right = Scan((Field("market", STRING), Field("rate", DOUBLE), Field("at", TIMESTAMP, rowtime=True)), "rates")
    names = ("market", "price", "tonnes", "ts"), ("market0", "rate", "at")
    fields = tuple(Field(n, f.type) for side, own in zip((LOTS, right), names, strict=True)
                   for f, n in zip(side.fields, own, strict=True))  # fmt: skip
    key = (col("market", STRING),)
    return IntervalJoin(fields, LOTS, right, *names, key, key, "ts", "at", -1000, 1000, None)


def text(node: Node) -> list[str]:
    return tree_text(node)


def test_two_filters_become_one_in_order() -> None:
    before = where(where(LOTS, over(col("price"), 1)), over(col("tonnes"), 2))
    assert text(merge(before)) == ["Filter ((price > 1.0e0) AND (tonnes > 2.0e0))", "  Scan lots"]


def test_two_projections_become_one() -> None:
    before = select(select(LOTS, p=col("price"), t=col("ts", TIMESTAMP)), q=col("p"), t=col("t", TIMESTAMP))
    after = merge(before)
    assert text(after) == ["Project price AS q, ts AS t", "  Scan lots"]
    assert after.fields == before.fields
    assert after.fields[1].rowtime


def test_projections_stay_apart_where_an_expression_would_be_computed_twice() -> None:
    twice = Call(DOUBLE, function="*", args=(col("price"), Literal(DOUBLE, value=2.0)))
    inner = select(LOTS, p=twice)
    before = select(inner, a=col("p"), b=col("p"))
    assert merge(before) is before
    assert text(merge(select(inner, a=Cast(STRING, arg=col("p"))))) == [
        "Project CAST((price * 2.0e0) AS STRING) AS a", "  Scan lots",
    ]  # fmt: skip


def test_a_projection_that_changes_nothing_goes_and_one_that_renames_stays() -> None:
    same = select(LOTS, **{f.name: col(f.name, f.type) for f in LOTS.fields})
    assert merge(same) is LOTS
    renamed = select(LOTS, **{f.name.upper(): col(f.name, f.type) for f in LOTS.fields})
    assert merge(renamed) is renamed
    fewer = select(LOTS, market=col("market", STRING))
    assert merge(fewer) is fewer


def test_a_filter_moves_below_a_projection_of_plain_columns() -> None:
    before = where(select(LOTS, p=col("price")), over(col("p"), 1))
    assert text(push_filters(before)) == ["Project price AS p", "  Filter (price > 1.0e0)", "    Scan lots"]


def test_a_filter_over_a_computed_column_stays_and_the_rest_of_it_moves() -> None:
    twice = Call(DOUBLE, function="*", args=(col("price"), Literal(DOUBLE, value=2.0)))
    before = where(select(LOTS, p=twice, t=col("tonnes", INT)), both(over(col("p"), 1), over(col("t"), 2)))
    assert text(push_filters(before)) == [
        "Filter (p > 1.0e0)",
        "  Project (price * 2.0e0) AS p, tonnes AS t",
        "    Filter (tonnes > 2.0e0)",
        "      Scan lots",
    ]


def test_a_filter_moves_into_each_input_of_a_union_under_its_names() -> None:
    first, second = select(LOTS, a=col("price")), select(LOTS, b=col("price"))
    before = where(Union(first.fields, (first, second)), over(col("a"), 1))
    assert text(push_filters(before)) == [
        "Union",
        "  Filter (a > 1.0e0)",
        "    Project price AS a",
        "      Scan lots",
        "  Filter (b > 1.0e0)",
        "    Project price AS b",
        "      Scan lots",
    ]


def test_a_filter_over_a_join_filters_the_side_that_it_reads() -> None:
    terms = both(over(col("price"), 1), over(col("rate"), 2),
                 Call(BOOLEAN, function=">", args=(col("price"), col("rate"))))  # fmt: skip
    lines = text(push_filters(where(joined(), terms)))
    assert lines[0].startswith("IntervalJoin on market = market within -1 SECOND <= ts - at <= 1 SECOND ")
    assert "residual (price > rate)" in lines[0]
    assert lines[1:] == ["  Filter (price > 1.0e0)", "    Scan lots", "  Filter (rate > 2.0e0)", "    Scan rates"]


def test_a_filter_on_a_renamed_column_of_the_right_side_gets_its_own_name_back() -> None:
    is_x = Call(BOOLEAN, function="=", args=(col("market0", STRING), Literal(STRING, value="X")))
    after = push_filters(where(joined(), is_x))
    assert text(after)[2:] == ["  Filter (market = 'X')", "    Scan rates"]
    assert isinstance(after, IntervalJoin) and after.residual is None


def test_having_on_keys_moves_below_the_window_and_having_on_aggregates_stays() -> None:
    is_x = Call(BOOLEAN, function="=", args=(col("market", STRING), Literal(STRING, value="X")))
    before = where(grouped(windowed(LOTS)), both(is_x, over(col("n"), 5)))
    assert text(push_filters(before)) == [
        "Filter (n > 5.0e0)",
        "  Aggregate by market, window_start, window_end: SUM(price) AS n",
        "    TUMBLE ts size 1 SECOND",
        "      Filter (market = 'X')",
        "        Scan lots",
    ]


def test_a_scan_is_narrowed_to_what_is_read() -> None:
    before = grouped(windowed(LOTS))
    after = prune(before)
    assert text(after) == [
        "Aggregate by market, window_start, window_end: SUM(price) AS n",
        "  TUMBLE ts size 1 SECOND",
        "    Project market, price, ts",
        "      Scan lots",
    ]
    assert after.fields == before.fields
    assert isinstance(after, Aggregate)
    assert [f.name for f in after.input.fields] == [
        "market",
        "price",
        "ts",
        "window_start",
        "window_end",
        "window_time",
    ]
    assert [f.name for f in after.input.input.fields if f.rowtime] == ["ts"]


def test_a_scan_of_which_everything_is_read_stays_and_a_projection_on_it_is_enough() -> None:
    assert prune(LOTS) is LOTS
    narrow = select(LOTS, p=col("price"))
    assert prune(narrow) == narrow


def test_a_filter_keeps_the_columns_that_it_reads() -> None:
    before = select(where(LOTS, over(col("price"), 1)), market=col("market", STRING))
    assert text(prune(before)) == [
        "Project market",
        "  Filter (price > 1.0e0)",
        "    Project market, price",
        "      Scan lots",
    ]


def test_columns_that_nobody_reads_leave_inner_projections_unions_and_joins() -> None:
    inner = select(LOTS, p=col("price"), q=col("tonnes", INT))
    union = Union(inner.fields, (inner, select(LOTS, r=col("price"), s=col("tonnes", INT))))
    assert text(prune(select(union, p=col("p")))) == [
        "Project p",
        "  Union",
        "    Project price AS p",
        "      Scan lots",
        "    Project price AS r",
        "      Scan lots",
    ]
    join = prune(select(joined(), price=col("price")))
    assert isinstance(join, Project) and isinstance(join.input, IntervalJoin)
    assert join.input.left_names == ("market", "price", "ts")
    assert join.input.right_names == ("market0", "at")


def test_counting_rows_reads_one_column_the_time() -> None:
    count = Aggregate(
        (Field("window_start", TIMESTAMP), Field("window_end", TIMESTAMP), Field("n", BIGINT)),
        windowed(LOTS), (), ("window_start", "window_end"), (AggregateCall("n", "COUNT", None, BIGINT),),
    )  # fmt: skip
    assert text(prune(count))[-2:] == ["    Project ts", "      Scan lots"]


def test_all_rules_together_keep_the_fields_and_reach_an_end() -> None:
    view = where(select(LOTS, m=col("market", STRING), p=col("price"), ts=col("ts", TIMESTAMP)), over(col("p"), 1))
    before = where(where(select(view, m=col("m", STRING), p=col("p")), over(col("p"), 2)), over(col("p"), 3))
    after = apply_rules(before)
    assert text(after) == [
        "Project market AS m, price AS p",
        "  Filter ((price > 1.0e0) AND (price > 2.0e0) AND (price > 3.0e0))",
        "    Project market, price",
        "      Scan lots",
    ]
    assert after.fields == before.fields
    assert apply_rules(after) == after
    assert everywhere(after, lambda node: node) is after
