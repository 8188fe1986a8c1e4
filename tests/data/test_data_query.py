"""The URL's query: every operator by type, and what is refused with which remedy."""

from __future__ import annotations

from decimal import Decimal

import pytest

from penstock.errors import PenstockError
from penstock.model.stream import Column
from penstock.model.types import (
    BIGINT,
    BOOLEAN,
    BYTES,
    DATE,
    DOUBLE,
    FLOAT,
    STRING,
    TIME,
    TIMESTAMP,
    TIMESTAMP_LTZ,
    decimal,
)
from penstock_data.patterns import read_like
from penstock_data.query import Condition, Operator, Order, PageQuery, parse_page_query, split_list
from penstock_data.settings import QuerySettings

NAMED = ("market", "limit", "select", 'quo"te', "a.b", "Ä rea")
COLUMNS = {name: Column(name, STRING) for name in NAMED} | {
    "n": Column("n", BIGINT),
    "d": Column("d", DOUBLE),
    "f": Column("f", FLOAT),
    "price": Column("price", decimal(10, 2)),
    "flag": Column("flag", BOOLEAN),
    "raw": Column("raw", BYTES),
    "day": Column("day", DATE),
    "at": Column("at", TIME),
    "ts": Column("ts", TIMESTAMP),
    "ltz": Column("ltz", TIMESTAMP_LTZ),
}


def parse(*pairs: tuple[str, str], **limits: int) -> PageQuery:
    return parse_page_query(pairs, COLUMNS, QuerySettings(**limits))


def one(name: str, text: str) -> Condition:
    return parse((name, text)).conditions[0]


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("market", "eq.a,b.c", "a,b.c"),
        ("market", "eq.", ""),
        ("n", "gt.-5", -5),
        ("n", "eq.9223372036854775807", 2**63 - 1),
        ("d", "gte.1e3", 1000.0),
        ("f", "eq.0.1", 0.10000000149011612),
        ("price", "lt.12.345", Decimal("12.345")),
        ("flag", "eq.true", True),
        ("raw", "eq.AP8=", b"\x00\xff"),
        ("day", "eq.1970-01-03", 2),
        ("at", "eq.00:00:01.5", 1500),
        ("ts", "gte.2018-01-01", 1_514_764_800_000),
        ("ts", "gte.2018-01-01 00:00:00.5", 1_514_764_800_500),
        ("ltz", "lt.2018-01-01T01:00:00+01:00", 1_514_764_800_000),
        ("ts", "eq.1514764800000", 1_514_764_800_000),
    ],
)
def test_values_are_read_by_the_columns_type(name: str, text: str, value: object) -> None:
    found = one(name, text)
    assert found.value == value
    assert type(found.value) is type(value)


@pytest.mark.parametrize(
    ("text", "operator", "value", "negated"),
    [
        ("in.(a,b)", Operator.IN, ("a", "b"), False),
        ('in.(a,"b,c","d\\"e")', Operator.IN, ("a", "b,c", 'd"e'), False),
        ("in.()", Operator.IN, (), False),
        ("is.null", Operator.IS, None, False),
        ("not.is.null", Operator.IS, None, True),
        ("not.eq.x", Operator.EQ, "x", True),
        ("like.a%_", Operator.LIKE, read_like("a*_"), False),
    ],
)
def test_operators_take_their_operands(text: str, operator: Operator, value: object, negated: bool) -> None:
    found = one("market", text)
    assert (found.operator, found.value, found.negated) == (operator, value, negated)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("n", "gt.5.5"),
        ("n", "gt.9223372036854775808"),
        ("n", "gt.1_000"),
        ("n", "gt.٣"),
        ("d", "gt.nan"),
        ("d", "gt.inf"),
        ("d", "gt."),
        ("price", "eq.1e9999"),
        ("price", "eq.abc"),
        ("flag", "eq.1"),
        ("flag", "gt.true"),
        ("raw", "eq.???"),
        ("day", "eq.2018-02-30"),
        ("at", "eq.25:00"),
        ("ts", "gt.yesterday"),
        ("n", "like.5%"),
        ("n", "is.true"),
        ("market", "is.5"),
        ("market", "like.abc\\"),
        ("market", "in.a,b"),
        ("n", "in.(1,x)"),
        ("market", "abc"),
        ("market", "matches.abc"),
        ("market", ""),
        ("market", "not.not.eq.x"),
    ],
)
def test_a_filter_that_makes_no_sense_is_refused_by_name(name: str, text: str) -> None:
    with pytest.raises(PenstockError) as caught:
        one(name, text)
    assert caught.value.code == "bad_filter"
    assert name in caught.value.detail


@pytest.mark.parametrize(
    ("pairs", "close"),
    [
        ((("markt", "eq.a"),), "market"),
        ((("MARKET", "eq.a"),), "market"),
        ((("select", "market,prise"),), "price"),
        ((("order", "pric.desc"),), "price"),
        ((("zzzzzz", "eq.a"),), "there are: "),
        ((("market; DROP TABLE r_lots", "eq.a"),), "unknown_column"),
        ((('col."nope"', "eq.a"),), "unknown_column"),
    ],
)
def test_an_unknown_column_is_refused_with_the_closest_name(pairs: tuple[tuple[str, str], ...], close: str) -> None:
    with pytest.raises(PenstockError, match="unknown_column") as caught:
        parse(*pairs)
    assert close in str(caught.value)


@pytest.mark.parametrize("name", [n for n in NAMED if n != "market"])
def test_every_name_can_be_filtered_selected_and_ordered(name: str) -> None:
    quoted = name.replace('"', '""')
    assert one(f'col."{quoted}"', "eq.5").column.name == name
    escaped = '"' + name.replace('"', '\\"') + '"'
    found = parse(("select", f"market,{escaped}"), ("order", f"{escaped}.desc,market"))
    assert [c.name for c in found.select] == ["market", name]
    assert found.order == (Order(COLUMNS[name], True), Order(COLUMNS["market"], False))


@pytest.mark.parametrize(
    ("pair", "code"),
    [
        (("limit", "0"), "bad_request"),
        (("limit", "10001"), "bad_request"),
        (("limit", "ten"), "bad_request"),
        (("select", ""), "bad_request"),
        (("select", "market,market"), "bad_request"),
        (("select", '"market'), "bad_request"),
        (("cursor", ""), "bad_cursor"),
        (("cursor", "x" * 7000), "bad_cursor"),
    ],
)
def test_bad_paging_is_refused(pair: tuple[str, str], code: str) -> None:
    with pytest.raises(PenstockError, match=code):
        parse(pair)


def test_a_reserved_parameter_is_given_once() -> None:
    with pytest.raises(PenstockError, match="given twice"):
        parse(("limit", "1"), ("limit", "2"))


def test_the_limits_of_a_query_are_named() -> None:
    with pytest.raises(PenstockError, match="at most 2"):
        parse(*[("n", "gt.1")] * 3, conditions_max=2)
    with pytest.raises(PenstockError, match="at most 2"):
        parse(("n", "in.(1,2,3)"), in_values_max=2)
    with pytest.raises(PenstockError, match="at most 16"):
        parse(("market", "eq." + "x" * 17), value_chars_max=16)
    with pytest.raises(PenstockError, match="at most 5"):
        parse(("market", "like.abcdef"), like_chars_max=5)


def test_without_parameters_all_columns_and_the_default_limit_apply() -> None:
    assert parse() == PageQuery(tuple(COLUMNS.values()), (), (), 100, None)


@pytest.mark.parametrize(
    ("text", "items"),
    [("", []), ("a", ["a"]), ("a,,b", ["a", "", "b"]), ('"a,b",c', ["a,b", "c"]), ('"\\\\","\\""', ["\\", '"'])],
)
def test_lists_are_split_at_commas_outside_of_quotes(text: str, items: list[str]) -> None:
    assert split_list(text) == items
