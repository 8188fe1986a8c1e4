"""Samples on a moved clock: the past ends now, the present has fresh ids for ever."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime

from penstock_app.samples import iso, past_lots, present_lots

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
