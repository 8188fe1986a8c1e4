"""Summaries: buckets, groups and exact sums, against the csv module and Decimal."""

from __future__ import annotations

import csv
import datetime as dt
import gzip
import math
from collections import defaultdict
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from data_harness import DAILY, JAN_1_MS, LOTS, inserted
from hypothesis import given
from hypothesis import strategies as st

from penstock.model.batch import Op
from penstock.model.stream import Column
from penstock.model.types import BIGINT, DATE, DOUBLE, STRING, TIMESTAMP, TIMESTAMP_LTZ, decimal
from penstock.testing.store_contract import refused
from penstock_data.reader import DataReader, Rows
from penstock_data.settings import QuerySettings
from penstock_data.statements import columns_of
from penstock_data.summaries import columns_read, parse_summary_query, summarise

DAY = dt.datetime(2018, 1, 1)
HOUR = dt.timedelta(hours=1)


def lot(market: str | None, tonnes: float | None, at: dt.datetime | None, **other: Any) -> tuple[Any, ...]:
    return (
        market,
        tonnes,
        other.get("price"),
        other.get("bags"),
        other.get("organic"),
        other.get("harvested"),
        at,
    )


async def summary(harness: Any, relation: str, *pairs: tuple[str, str], **limits: int) -> Rows:
    return await DataReader(harness.log, harness.store, QuerySettings(**limits)).summary(relation, list(pairs))


async def fill(harness: Any, *rows: tuple[Any, ...], watermark_ms: int | None = None) -> None:
    await harness.deploy(LOTS, DAILY)
    await harness.derive(LOTS, inserted(*rows), watermark_ms=watermark_ms)
    await harness.catch_up(harness.role())


async def test_rows_fall_into_buckets_from_the_epoch_in_utc(harness: Any) -> None:
    times = [dt.datetime(1969, 12, 31, 23, 59), dt.datetime(1970, 1, 1), DAY, DAY + HOUR * 23, DAY + HOUR * 24]
    await fill(harness, *[lot("a", 1.0, at) for at in times])
    found = await summary(harness, "lots", ("bucket", "1d"))
    assert found.frame.rows() == [
        (dt.datetime(1969, 12, 31), 1),
        (dt.datetime(1970, 1, 1), 1),
        (DAY, 2),
        (DAY + HOUR * 24, 1),
    ]
    weeks = await summary(harness, "lots", ("bucket", "7d"), ("from", "2018-01-01"))
    assert weeks.frame["bucket"].to_list() == [dt.datetime(2017, 12, 28)]  # a Thursday, as the epoch was


async def test_the_range_takes_its_start_and_leaves_its_end(harness: Any) -> None:
    await fill(harness, *[lot("a", float(i), DAY + HOUR * i) for i in range(5)])
    for low, high in (("2018-01-01T01:00", "2018-01-01T03:00"), (str(JAN_1_MS + 3_600_000), "1514775600000")):
        found = await summary(harness, "lots", ("from", low), ("to", high), ("agg", "sum(tonnes),count(*)"))
        assert found.frame.rows() == [(3.0, 2)]


async def test_every_aggregate_has_its_name_and_type_and_skips_null(harness: Any) -> None:
    rows = [
        lot("a", 1.5, DAY, price=Decimal("0.10"), bags=3),
        lot("a", 2.0, DAY, price=Decimal("0.20"), bags=4),
        lot("a", None, DAY),
        lot(None, None, DAY),
    ]
    await fill(harness, *rows)
    names = "sum(tonnes),avg(tonnes),min(tonnes),max(tonnes),count(tonnes),count(*)"
    names += ",sum(price),avg(price),sum(bags),avg(bags)"
    found = await summary(harness, "lots", ("group", "market"), ("agg", names), ("bucket", "1h"))
    assert found.frame.columns == [
        "bucket", "market", "sum_tonnes", "avg_tonnes", "min_tonnes", "max_tonnes", "count_tonnes", "count",
        "sum_price", "avg_price", "sum_bags", "avg_bags",
    ]  # fmt: skip
    nothing = (DAY, None, None, None, None, None, 0, 1, None, None, None, None)
    something = (DAY, "a", 3.5, 1.75, 1.5, 2.0, 2, 3, Decimal("0.30"), Decimal("0.150000"), 7, 3.5)
    assert found.frame.rows() == [nothing, something]


async def test_filters_apply_to_summaries_too(harness: Any) -> None:
    await fill(harness, lot("a", 1.0, DAY), lot("b", 2.0, DAY), lot("c", 4.0, DAY))
    found = await summary(harness, "lots", ("agg", "sum(tonnes)"), ("market", "in.(b,c)"))
    assert found.frame.rows() == [(6.0,)]


async def test_complete_to_is_the_watermark_of_what_was_applied(harness: Any) -> None:
    await fill(harness, lot("a", 1.0, DAY))
    assert (await summary(harness, "lots")).complete_to_ms is None
    await harness.derive(LOTS, [], watermark_ms=JAN_1_MS)
    await harness.catch_up(harness.role())
    assert (await summary(harness, "lots")).complete_to_ms == JAN_1_MS


async def test_a_bucket_of_an_early_table_is_complete_when_all_its_rows_are(harness: Any) -> None:
    await harness.deploy(DAILY)
    rows = [
        ("Goa", DAY, 1.0, 1, Op.INSERT, False),
        ("Kerala", DAY, 2.0, 1, Op.INSERT, False),
        ("Goa", DAY + HOUR * 24, 4.0, 1, Op.INSERT, False),
        ("Kerala", DAY + HOUR * 24, 8.0, 1, Op.INSERT, True),
    ]
    await harness.derive(DAILY, rows)
    await harness.catch_up(harness.role())
    found = await summary(harness, "daily", ("bucket", "1d"), ("agg", "sum(tonnes)"))
    assert [c.name for c in found.columns] == ["bucket", "sum_tonnes", "complete"]
    assert found.frame.rows() == [(DAY, 3.0, True), (DAY + HOUR * 24, 12.0, False)]


async def test_a_date_can_be_the_time(harness: Any) -> None:
    days = [dt.date(2018, 1, 1), dt.date(2018, 1, 2), dt.date(2018, 1, 3)]
    await fill(harness, *[lot("a", 1.0, DAY, harvested=day) for day in days])
    pairs = [("time", "harvested"), ("bucket", "1d"), ("from", "2018-01-01T12:00"), ("to", "2018-01-03")]
    assert (await summary(harness, "lots", *pairs)).frame.rows() == [(DAY + HOUR * 24, 1)]


def test_the_time_column_is_the_keys_first_timestamp_else_the_time_attribute() -> None:
    columns = (Column("k", STRING), Column("a", TIMESTAMP), Column("b", TIMESTAMP_LTZ))
    spec = replace(DAILY, columns=columns, primary_key=("k", "b"), time_column="a", emit="final")

    def time_of(changed: Any, *pairs: tuple[str, str]) -> str:
        return parse_summary_query(changed, columns_of(changed), pairs, limits=QuerySettings()).time.name

    assert time_of(spec) == "b"
    assert time_of(replace(spec, primary_key=("k",))) == "a"
    assert time_of(spec, ("time", "a")) == "a"
    with refused("bad_request"):
        time_of(replace(spec, primary_key=("k",), time_column=None))
    with refused("bad_request"):
        time_of(spec, ("time", "k"))


@pytest.mark.parametrize(
    ("pair", "code"),
    [
        (("bucket", "1 hour"), "bad_request"),
        (("bucket", "0d"), "bad_request"),
        (("agg", "median(tonnes)"), "bad_request"),
        (("agg", "sum(*)"), "bad_request"),
        (("agg", ""), "bad_request"),
        (("agg", "sum(market)"), "bad_request"),
        (("agg", "max(organic)"), "bad_request"),
        (("agg", "sum(tonnes),sum(tonnes)"), "bad_request"),
        (("agg", "sum(tons)"), "unknown_column"),
        (("group", "markets"), "unknown_column"),
        (("time", "when"), "unknown_column"),
        (("from", "yesterday"), "bad_request"),
        (("nothing", "eq.1"), "unknown_column"),
    ],
)
async def test_a_summary_that_makes_no_sense_is_refused(harness: Any, pair: tuple[str, str], code: str) -> None:
    await fill(harness)
    with refused(code):
        await summary(harness, "lots", pair)


async def test_the_limits_of_a_summary_are_named(harness: Any) -> None:
    await fill(harness, *[lot(str(i), 1.0, DAY) for i in range(20)])
    with refused("too_large"):
        await summary(harness, "lots", summary_rows_max=19)
    with refused("too_large"):
        await summary(harness, "lots", ("group", "market"), summary_groups_max=19)
    with refused("bad_request"):
        await summary(harness, "lots", ("agg", "count(*),sum(tonnes)"), aggregates_max=1)


async def test_a_sum_beyond_bigint_is_refused_and_not_wrapped(harness: Any) -> None:
    await fill(harness, lot("a", 1.0, DAY, bags=2**63 - 1), lot("a", 1.0, DAY, bags=1))
    with refused("too_large"):
        await summary(harness, "lots", ("agg", "sum(bags)"))


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False, width=32) | st.none(), max_size=30))
def test_sums_of_doubles_are_exactly_rounded(values: list[float | None]) -> None:
    spec = replace(LOTS, columns=(Column("v", DOUBLE), Column("ts", TIMESTAMP)))
    query = parse_summary_query(spec, columns_of(spec), [("agg", "sum(v)")], limits=QuerySettings())
    frame = pl.DataFrame({"v": values}, schema={"v": pl.Float64()})
    found = summarise(query, frame.select([c.name for c in columns_read(query)]), groups_max=10)
    known = [v for v in values if v is not None]
    exact = sum((Decimal(v) for v in known), Decimal(0)) if len(known) < 30 else None
    if not values:
        assert found.height == 0
    elif not known:
        assert found.rows() == [(None,)]
    else:
        assert found.rows() == [(math.fsum(known),)]
        if exact is not None and exact and abs(exact) > Decimal("1e-20"):
            assert abs(Decimal(found.item()) - exact) <= abs(exact) * Decimal("1e-12")


async def test_a_year_of_arrivals_equals_the_csv_module_and_decimal(harness: Any, shared_data: Path) -> None:
    """Sums per month and state of 60,000 rows: DOUBLE at 1e-12 relative, DECIMAL and counts exactly."""
    spec = replace(
        LOTS,
        columns=(
            Column("day", DATE),
            Column("state", STRING),
            Column("tonnes", DOUBLE),
            Column("exact", decimal(20, 6)),
            Column("price", BIGINT),
            Column("ts", TIMESTAMP),
        ),
    )
    sums: dict[tuple[str, str], Decimal] = defaultdict(Decimal)
    counts: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0, 0])
    rows = []
    with gzip.open(shared_data / "mandi_arrivals_2018.csv.gz", "rt", encoding="utf-8") as lines:
        for i, line in enumerate(csv.DictReader(lines)):
            if i % 4:
                continue
            day = dt.date.fromisoformat(line["date"])
            tonnes, price = Decimal(line["arrivals_tonnes"] or 0), line["modal_price"]
            key = (line["date"], line["state"])
            sums[key] += tonnes
            counts[key][0] += 1
            if price:
                counts[key][1] += 1
                counts[key][2] += int(Decimal(price))
            at = dt.datetime.combine(day, dt.time(i % 24))
            rows.append((day, line["state"], float(tonnes), tonnes, int(Decimal(price)) if price else None, at))
    await harness.deploy(spec)
    for first in range(0, len(rows), 10_000):
        await harness.derive(spec, inserted(*rows[first : first + 10_000]))
    await harness.catch_up(harness.role())
    found = await summary(
        harness,
        "lots",
        ("bucket", "1d"),
        ("group", "state"),
        ("agg", "sum(tonnes),sum(exact),count(*),count(price),sum(price)"),
    )
    assert found.frame.height == len(sums) > 1000
    for bucket, state, tonnes, exact, count, priced, total in found.frame.iter_rows():
        key = (bucket.date().isoformat(), state)
        assert exact == sums[key]
        assert abs(Decimal(tonnes) - sums[key]) <= abs(sums[key]) * Decimal("1e-12")
        assert [count, priced, total or 0] == counts[key]
