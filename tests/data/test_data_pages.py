"""Pages of stored relations: every row once, in order, whatever is written in between."""

from __future__ import annotations

import datetime as dt
import itertools
from dataclasses import replace
from decimal import Decimal
from operator import itemgetter
from typing import Any

import pytest
from data_harness import DAILY, LOTS, inserted
from hypothesis import given
from hypothesis import strategies as st

from penstock.errors import PenstockError
from penstock.model.batch import Op
from penstock.model.stream import Column, Relation, StreamSpec
from penstock.model.types import BIGINT, BOOLEAN, BYTES, DOUBLE, STRING, TIMESTAMP, decimal
from penstock.testing.store_contract import refused
from penstock_data.cursors import cursor_text, read_cursor
from penstock_data.reader import DataReader
from penstock_data.settings import QuerySettings

DAY = dt.datetime(2018, 1, 1)
MIXED = replace(
    DAILY,
    name="mixed",
    columns=(
        Column("k", STRING, nullable=False),
        Column("n", BIGINT),
        Column("d", DOUBLE),
        Column("p", decimal(10, 2)),
        Column("at", TIMESTAMP),
    ),
    primary_key=("k",),
    emit="final",
)


def reader(harness: Any, **limits: int) -> DataReader:
    return DataReader(harness.log, harness.store, QuerySettings(**limits))


async def walk(source: DataReader, relation: str, *pairs: tuple[str, str]) -> list[dict[str, Any]]:
    """All rows by following the cursors."""
    found: list[dict[str, Any]] = []
    cursor: list[tuple[str, str]] = []
    while True:
        page = await source.page(relation, [*pairs, *cursor])
        found += page.frame.to_dicts()
        if page.next is None:
            return found
        cursor = [("cursor", page.next)]


async def fill_mixed(harness: Any) -> list[tuple[Any, ...]]:
    numbers, doubles = [3, None, 1, 3, None, 2], [0.1, None, -5.0, 0.30000000000000004]
    typed = [
        (
            f"k{i:03d}",
            numbers[i % 6],
            doubles[i % 4],
            Decimal(f"{i % 5}.25") if i % 3 else None,
            DAY + dt.timedelta(hours=i % 7) if i % 4 else None,
        )
        for i in range(60)
    ]
    await harness.deploy(MIXED)
    await harness.derive(MIXED, inserted(*typed))
    await harness.catch_up(harness.role())
    return typed


@pytest.mark.parametrize("size", ["1", "7", "59", "60", "61"])
async def test_pages_in_key_order_give_every_row_once(harness: Any, size: str) -> None:
    rows = await fill_mixed(harness)
    found = await walk(reader(harness), "mixed", ("limit", size))
    assert [tuple(row.values()) for row in found] == rows


@pytest.mark.parametrize(
    "order",
    [",".join(o) for columns in itertools.permutations("ndp", 2) for o in [(f"{columns[0]}.desc", columns[1])]]
    + ["k.desc", "n", "at.desc,n.desc", "p.asc,k.desc"],
)
async def test_pages_in_any_order_give_every_row_once_with_null_as_the_least(harness: Any, order: str) -> None:
    rows = await fill_mixed(harness)
    found = await walk(reader(harness), "mixed", ("limit", "7"), ("order", order))
    expected = [dict(zip([c.name for c in MIXED.columns], row, strict=True)) for row in rows]
    for item in reversed([*order.split(","), *([] if "k" in order else ["k.asc"])]):
        name, _, direction = item.partition(".")
        nulls = [row for row in expected if row[name] is None]
        rest = sorted(
            (row for row in expected if row[name] is not None), key=itemgetter(name), reverse=direction == "desc"
        )
        expected = rest + nulls if direction == "desc" else nulls + rest
    assert found == expected


async def test_a_stream_is_in_order_of_its_positions_over_partitions(harness: Any) -> None:
    spec = StreamSpec("s", "markets", Relation.STREAM, (Column("v", BIGINT),), store=True, partitions=2)
    await harness.deploy(spec)
    for i in range(10):
        await harness.derive(spec, inserted((i,)), partition=i % 2)
    await harness.catch_up(harness.role())
    found = await walk(reader(harness), "s", ("limit", "3"))
    assert [row["v"] for row in found] == [0, 2, 4, 6, 8, 1, 3, 5, 7, 9]


async def test_rows_that_do_not_change_are_neither_skipped_nor_repeated_under_writes(harness: Any) -> None:
    """Between two pages other keys appear, change and go: before, at and after the cursor."""
    spec = replace(MIXED, columns=MIXED.columns[:2])
    await harness.deploy(spec)
    role, source = harness.role(), reader(harness)
    kept = [f"k{i:03d}" for i in range(0, 200, 2)]
    await harness.derive(spec, inserted(*[(key, 0) for key in kept]))
    await harness.catch_up(role)
    seen: list[str] = []
    cursor: list[tuple[str, str]] = []
    for turn in range(1000):
        page = await source.page("mixed", [("limit", "9"), *cursor])
        seen += page.frame["k"].to_list()
        if page.next is None:
            break
        cursor = [("cursor", page.next)]
        noise = [(f"k{(turn * 37 + j * 11) % 200 // 2 * 2 + 1:03d}", turn, Op.INSERT) for j in range(20)]
        noise += [(f"k{(turn * 53 + j * 7) % 200 // 2 * 2 + 1:03d}", None, Op.DELETE) for j in range(10)]
        await harness.derive(spec, noise)
        await harness.catch_up(role)
    assert seen == sorted(seen)
    assert [key for key in seen if key in set(kept)] == kept


async def test_selected_columns_come_in_the_order_asked_for(harness: Any) -> None:
    await fill_mixed(harness)
    page = await reader(harness).page("mixed", [("select", "n,k"), ("limit", "2"), ("order", "d")])
    assert page.frame.columns == ["n", "k"]
    assert [c.name for c in page.columns] == ["n", "k"]


async def test_rows_of_an_early_table_say_whether_they_are_complete(harness: Any) -> None:
    await harness.deploy(DAILY)
    await harness.derive(DAILY, [("Goa", DAY, 1.0, 5, Op.INSERT, False), ("Kerala", DAY, 2.0, 6, Op.INSERT, True)])
    await harness.catch_up(harness.role())
    source = reader(harness)
    page = await source.page("daily", [])
    assert page.frame["complete"].to_list() == [True, False]
    for text, state in (("is.true", "Goa"), ("eq.false", "Kerala")):
        page = await source.page("daily", [("complete", text)])
        assert page.frame["state"].to_list() == [state]
    page = await source.page("daily", [('col."limit"', "gt.5"), ("select", "state,complete")])
    assert page.frame.rows() == [("Kerala", False)]


async def test_a_cursor_of_another_relation_order_or_maker_is_refused(harness: Any) -> None:
    await fill_mixed(harness)
    source = reader(harness)
    cursor = (await source.page("mixed", [("limit", "1")])).next
    assert cursor is not None
    for pairs in (
        [("cursor", cursor), ("order", "n")],
        [("cursor", cursor[:-2])],
        [("cursor", cursor[:10] + ("A" if cursor[10] != "A" else "B") + cursor[11:])],
        [("cursor", "not a cursor")],
        [("cursor", "AAAA")],
    ):
        with refused("bad_cursor"):
            await source.page("mixed", pairs)


async def test_what_cannot_be_read_says_what_to_do(harness: Any) -> None:
    source_spec = StreamSpec("arrivals", "markets", Relation.SOURCE, (Column("v", BIGINT),))
    off = StreamSpec("off", "markets", Relation.STREAM, (Column("v", BIGINT),))
    await harness.deploy(source_spec, off, LOTS)
    source = reader(harness)
    with refused("not_ready"):
        await source.page("lots", [])
    await harness.catch_up(harness.role())
    for relation, remedy in (
        ("arrivals", "raw.arrivals"),
        ("off", "'store' = 'true'"),
        ("nothing", "GET /v1/data"),
        ("raw.nothing", "GET /v1/data"),
        ("raw.lots", "derived"),
        ("penstock_applied", "GET /v1/data"),
        ('lots"; DROP TABLE penstock_applied; --', "GET /v1/data"),
    ):
        with pytest.raises(PenstockError, match="unknown_relation") as caught:
            await source.page(relation, [])
        assert remedy in caught.value.detail


_TYPES = [BIGINT, STRING, DOUBLE, BOOLEAN, BYTES, decimal(38, 10)]
_VALUES = st.tuples(
    st.none() | st.integers(-(2**63), 2**63 - 1),
    st.none() | st.text(),
    st.none() | st.floats(allow_nan=False),
    st.none() | st.booleans(),
    st.none() | st.binary(),
    st.none() | st.decimals(allow_nan=False, allow_infinity=False, places=10),
)


@given(_VALUES)
def test_cursors_give_back_their_values_exactly(values: tuple[Any, ...]) -> None:
    assert read_cursor("scope", cursor_text("scope", values), _TYPES) == list(values)


@given(st.text(max_size=60) | st.binary(max_size=60).map(lambda b: b.hex()))
def test_text_that_is_no_cursor_is_refused(text: str) -> None:
    with refused("bad_cursor"):
        read_cursor("scope", text, _TYPES)
