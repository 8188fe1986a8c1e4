"""Raw events: exactly as received, with filters, in pages that go on where the scan stopped."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from data_harness import ARRIVALS, JAN_1_MS, Harness, ndjson
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.logs.memory import MemoryLog
from penstock.logs.settings import LogSettings
from penstock.model.stream import Column
from penstock.model.types import BIGINT, BYTES, DATE
from penstock.testing.clock import ManualClock
from penstock.testing.store_contract import refused
from penstock_data.query import parse_page_query
from penstock_data.raw import raw_page
from penstock_data.raw_columns import raw_columns
from penstock_data.settings import QuerySettings

HOUR_MS = 3_600_000


async def walk(log: Any, spec: Any, *pairs: tuple[str, str], **limits: int) -> tuple[list[dict[str, Any]], int]:
    """(all rows, number of pages) by following the cursors."""
    found: list[dict[str, Any]] = []
    cursor: list[tuple[str, str]] = []
    for pages in range(1, 10_000):
        bounds = QuerySettings(**limits)
        page = await raw_page(log, spec, parse_page_query([*pairs, *cursor], raw_columns(spec), bounds), bounds)
        found += page.frame.to_dicts()
        if page.next is None:
            return found, pages
        cursor = [("cursor", page.next)]
    raise AssertionError("the pages do not end")


def event(i: int) -> bytes:
    return ndjson({"id": f"e{i}", "market": f"m{i % 3}", "tonnes": i / 4, "price": i, "ts": JAN_1_MS + i * HOUR_MS})


async def fill(harness: Any, count: int, *, batch: int = 10, partitions: int = 1) -> Any:
    spec = replace(ARRIVALS, partitions=partitions)
    await harness.deploy(spec)
    for first in range(0, count, batch):
        events = [event(i) for i in range(first, min(first + batch, count))]
        await harness.receive(spec, events, partition=first // batch % partitions)
    return spec


async def test_an_event_is_shown_as_received_and_as_columns(harness: Any) -> None:
    await harness.deploy(ARRIVALS)
    bodies = [
        b'{"id":"a", "market":"M\xc3\xa4rkt","tonnes":1.10,"price":12.50,"ts":"2018-01-01T00:00","more":[1, 2]}',
        b'{"market":null,"ts":1514764800000,"tonnes":1,"tonnes":2,"id":7}',
        b'{"ts":"2018-01-01 05:30:00+05:30"}',
    ]
    await harness.receive(ARRIVALS, bodies)
    found, _ = await walk(harness.log, ARRIVALS)
    assert [row["_body"].encode() for row in found] == bodies
    assert [row["_position"] for row in found] == ["0:0", "0:1", "0:2"]
    assert [row["_id"] for row in found] == ["a", "7", None]
    assert [row["_key"] for row in found] == ["Märkt", None, None]
    assert {row["_time"] for row in found} == {dt.datetime(2018, 1, 1)} == {row["ts"] for row in found}
    assert [row["tonnes"] for row in found] == [1.1, 2.0, None]
    assert [row["price"] for row in found] == [Decimal("12.50"), None, None]
    assert all(row["_received_at"].tzinfo is not None for row in found)


async def test_a_composite_key_is_a_json_array_and_a_declared_id_is_the_id(harness: Any) -> None:
    columns = (*ARRIVALS.columns, Column("id", BIGINT), Column("day", DATE), Column("photo", BYTES))
    spec = replace(ARRIVALS, columns=columns, key=("market", "id"), time_column=None)
    await harness.deploy(spec)
    await harness.receive(spec, [b'{"id":5,"market":"x","day":"2018-01-02","photo":"AP8="}'])
    (row,), _ = await walk(harness.log, spec)
    assert (row["_id"], row["_key"], row["_time"], row["id"]) == ("5", '["x",5]', None, 5)
    assert (row["day"], row["photo"]) == (dt.date(2018, 1, 2), b"\x00\xff")


@pytest.mark.parametrize("direction", ["asc", "desc"])
@pytest.mark.parametrize(("limit", "scan"), [("1", 200_000), ("7", 200_000), ("1000", 13), ("7", 5)])
@pytest.mark.parametrize("partitions", [1, 3])
async def test_pages_give_every_event_once_in_order(
    harness: Any, direction: str, limit: str, scan: int, partitions: int
) -> None:
    spec = await fill(harness, 95, partitions=partitions)
    order = ("order", f"_position.{direction}")
    found, pages = await walk(harness.log, spec, order, ("limit", limit), scan_rows_max=scan)
    positions = [tuple(map(int, row["_position"].split(":"))) for row in found]
    assert positions == sorted(positions, reverse=direction == "desc")
    assert sorted(row["_id"] for row in found) == sorted(f"e{i}" for i in range(95))
    assert pages >= 95 // min(int(limit), scan)


async def test_a_scan_that_finds_nothing_goes_on_from_its_cursor(harness: Any) -> None:
    spec = await fill(harness, 100)
    found, pages = await walk(harness.log, spec, ("_id", "eq.e99"), scan_rows_max=30)
    assert [row["_id"] for row in found] == ["e99"]
    assert pages == 4


@pytest.mark.parametrize(
    ("pairs", "wanted"),
    [
        ([("_position", "gte.0:90")], range(90, 100)),
        ([("_position", "gt.0:10"), ("_position", "lt.0:13")], range(11, 13)),
        ([("_position", "eq.0:42")], [42]),
        ([("_position", "in.(0:3,0:97,5:1)")], [3, 97]),
        ([("_position", "neq.0:0"), ("_position", "lte.0:2")], [1, 2]),
        ([("_position", "not.lt.0:98")], [98, 99]),
        ([("_position", "gt.1:0")], []),
        ([("_time", "gte.2018-01-05")], range(96, 100)),
        ([("ts", "lt.2018-01-01T02:00:00")], [0, 1]),
        ([("_time", "not.gte.2018-01-01T01:00")], [0]),
        ([("market", "eq.m1"), ("tonnes", "lt.2")], [1, 4, 7]),
        ([("_key", "like.m2"), ("price", "gt.97")], [98]),
        ([("_body", 'like.%"id":"e77"%')], [77]),
        ([("_received_at", "lt.2001-01-01")], []),
        ([("price", "is.null")], []),
    ],
)
async def test_filters_look_at_the_fields_of_an_event(harness: Any, pairs: Any, wanted: Any) -> None:
    spec = await fill(harness, 100)
    found, _ = await walk(harness.log, spec, ("select", "_id"), *pairs)
    assert [row["_id"] for row in found] == [f"e{i}" for i in wanted]


async def test_only_positions_order_raw_events(harness: Any) -> None:
    spec = await fill(harness, 1)
    with refused("bad_request"):
        await walk(harness.log, spec, ("order", "tonnes"))


async def test_a_page_goes_on_behind_what_retention_has_deleted(harness: Any) -> None:
    clock = ManualClock(JAN_1_MS)
    harness.log = MemoryLog(clock=clock, settings=LogSettings(retention_s=10))
    spec = await fill(harness, 20)
    await clock.advance(60)
    limits = QuerySettings()
    first = await raw_page(harness.log, spec, parse_page_query([("limit", "3")], raw_columns(spec), limits), limits)
    await harness.log.trim({})
    await harness.receive(spec, [event(20)])
    assert first.next is not None
    found, _ = await walk(harness.log, spec, ("cursor", first.next))
    assert [row["_id"] for row in found] == ["e20"]


async def test_a_value_that_no_longer_fits_its_column_is_null_and_stays_in_the_body(harness: Any) -> None:
    await harness.deploy(ARRIVALS)
    await harness.receive(ARRIVALS, [b'{"tonnes":"many","market":"x"}', b'{"tonnes":2}'])
    found, _ = await walk(harness.log, ARRIVALS)
    assert [row["tonnes"] for row in found] == [None, 2.0]
    assert found[0]["_body"] == '{"tonnes":"many","market":"x"}'


@given(
    cut=st.lists(st.integers(1, 12), min_size=1, max_size=8),
    low=st.integers(0, 60),
    high=st.integers(0, 60),
    limit=st.integers(1, 20),
    descending=st.booleans(),
)
@settings(max_examples=40, deadline=None)
async def test_any_cut_into_batches_gives_the_same_pages(
    cut: list[int], low: int, high: int, limit: int, descending: bool
) -> None:
    harness = Harness(None, "")  # type: ignore[arg-type]  # the log alone is used
    await harness.deploy(ARRIVALS)
    first = 0
    for size in cut:
        await harness.receive(ARRIVALS, [event(i) for i in range(first, first + size)])
        first += size
    pairs = [("tonnes", f"gte.{low / 4}"), ("_position", f"lt.0:{high}"), ("limit", str(limit))]
    if descending:
        pairs.append(("order", "_position.desc"))
    found, _ = await walk(harness.log, ARRIVALS, *pairs, scan_rows_max=17)
    expected = [f"e{i}" for i in range(low, min(high, first))]
    assert [row["_id"] for row in found] == (expected[::-1] if descending else expected)
