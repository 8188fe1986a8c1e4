"""Samples on a moved clock: the past ends now, the present has fresh ids for ever."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta

from penstock_app.samples import iso, past_day, past_lots, past_shift_ms, present_lots

LOTS = [
    {"date": day, "market": f"m{n}"} for n, day in enumerate(["2018-01-01", "2018-01-01", "2018-01-02", "2018-01-02"])
]
NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)


def test_the_newest_day_is_today_and_nothing_lies_in_the_future():
    moved = list(past_lots(LOTS, NOW, "past"))
    assert [row["date"] for row in moved] == [
        "2026-01-04T00:00:00.000",
        "2026-01-04T12:00:00.000",
        "2026-01-05T00:00:00.000",
        "2026-01-05T06:00:00.000",
    ]
    assert [row["id"] for row in moved] == [f"past-{n}" for n in range(4)]
    assert all(row["date"] < iso(NOW) for row in moved)


def test_the_present_begins_with_the_newest_day_and_never_repeats_an_id():
    rows = list(itertools.islice(present_lots(LOTS, "lot"), 11))
    assert [row["market"] for row in rows] == ["m2", "m3", "m0", "m1", "m2", "m3", "m0", "m1", "m2", "m3", "m0"]
    assert len({row["id"] for row in rows}) == 11


def test_a_load_of_the_past_that_was_cut_off_goes_on_with_the_same_ids_and_days():
    begun = list(past_lots(LOTS, NOW, f"past-{NOW:%Y%m%d}"))[:3]
    assert past_day([], NOW) == NOW
    assert past_day(begun, NOW) == NOW
    days_later = past_day(begun, NOW + timedelta(days=3))
    assert days_later is not None
    again = list(past_lots(LOTS, days_later, f"past-{days_later:%Y%m%d}"))
    assert [row["id"] for row in again[:3]] == [row["id"] for row in begun]
    assert [row["date"][:10] for row in again[:3]] == [row["date"][:10] for row in begun]
    assert past_day([{"id": "lot-1-0"}, *begun], NOW) is None
    assert past_day([{"id": "somebody's"}], NOW) is None


def test_quakes_of_a_load_that_was_cut_off_keep_their_times():
    quakes = [{"id": "a", "time": 1_000}, {"id": "b", "time": 5_000}]
    assert past_shift_ms(quakes, [], now_ms=1_000_005_000) == 1_000_000_000
    stored = [{"id": "a", "time": iso(datetime.fromtimestamp(1_000_001, tz=UTC))}]
    assert past_shift_ms(quakes, stored, now_ms=2_000_000_000) == 1_000_000_000
    assert past_shift_ms(quakes, [{"id": "b-1f-0", "time": ""}, *stored], now_ms=0) is None
