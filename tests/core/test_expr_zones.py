"""Time zones: Java's names, hours that a clock change skips or repeats, texts that are no time."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from core.expression_eval import evaluate
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.errors import SqlErrors
from penstock.expressions.bind import bind_text
from penstock.expressions.time_zones import zone_of
from penstock.model import types

BAD = "error: bad_argument"


@pytest.mark.parametrize(
    ("text", "source", "target", "expected"),
    [
        ("1970-01-01 00:00:00", "UTC", "America/Los_Angeles", "1969-12-31 16:00:00"),
        ("1970-01-01 00:00:00", "UTC", "GMT-08:00", "1969-12-31 16:00:00"),
        ("1970-01-01 00:00:00", "UTC", "PST", "1969-12-31 16:00:00"),
        ("2020-07-01 00:00:00", "EST", "UTC", "2020-07-01 05:00:00"),
        ("2020-07-01 00:00:00", "BST", "GMT+0530", "2020-06-30 23:30:00"),
        ("2020-07-01 00:00:00", "Etc/GMT+8", "UTC", "2020-07-01 08:00:00"),
        ("2020-03-29 02:30:00", "Europe/Berlin", "UTC", "2020-03-29 01:30:00"),
        ("2020-10-25 02:30:00", "Europe/Berlin", "UTC", "2020-10-25 01:30:00"),
        ("2020-13-01 00:00:00", "UTC", "UTC", "2021-01-01 00:00:00"),
        ("2020-1-1 1:2:3", "UTC", "UTC", "2020-01-01 01:02:03"),
        ("1970-01-01 00:00:00.5 and more", "UTC", "UTC", "1970-01-01 00:00:00"),
        ("2020-01-01 00:00:00", "Nowhere", "+08:00", "2020-01-01 00:00:00"),
        ("1970-01-01", "UTC", "UTC", None),
        ("2020-01-01T00:00:00", "UTC", "UTC", None),
        ("", "UTC", "UTC", None),
        ("999999-01-01 00:00:00", "UTC", "UTC", None),
    ],
)
def test_a_time_of_one_zone_in_another(text: str, source: str, target: str, expected: str | None) -> None:
    table = {"s": (types.STRING, [text, None, text]), "a": (types.STRING, [source, source, None]),
             "b": (types.STRING, [target] * 3)}  # fmt: skip
    assert evaluate("CONVERT_TZ(s, a, b)", table) == [expected, None, None]
    if zone_of(source) is not None and zone_of(target) is not None:
        assert evaluate(f"CONVERT_TZ(s, '{source}', '{target}')", table) == [expected, None, expected]


def test_rows_of_a_batch_have_their_own_zones() -> None:
    zones = ["UTC", "Asia/Kolkata", None, "UTC", "Nowhere", "GMT-01:00"]
    table = {"s": (types.STRING, ["2020-01-01 12:00:00"] * 6), "z": (types.STRING, zones)}
    hours = ["12:00", "06:30", None, "12:00", "12:00", "13:00"]
    expected = [None if hour is None else f"2020-01-01 {hour}:00" for hour in hours]
    assert evaluate("CONVERT_TZ(s, z, 'UTC')", table) == expected
    moments = evaluate("TO_TIMESTAMP_LTZ(s, 'yyyy-MM-dd HH:mm:ss', z)", table)
    assert [m and f"{m:%Y-%m-%d %H:%M:%S}" for m in moments] == expected  # type: ignore[str-format]  # times


def test_texts_as_moments() -> None:
    table = {"s": (types.STRING, ["2020-01-01 00:00:00.123456", "2020-01-01", "2020-1-1 01:02:03", "x", "", None])}
    found = evaluate("TO_TIMESTAMP_LTZ(s)", table)
    assert found[:2] == [datetime(2020, 1, 1, 0, 0, 0, 123_000, tzinfo=UTC), datetime(2020, 1, 1, tzinfo=UTC)]
    assert found[2:] == [datetime(2020, 1, 1, 1, 2, 3, tzinfo=UTC), BAD, BAD, None]
    day = datetime(2020, 1, 1, tzinfo=UTC)
    assert evaluate("TO_TIMESTAMP_LTZ(s, 'yyyy-MM-dd')", table) == [None, day, None, None, None, None]


@pytest.mark.parametrize(
    ("sql", "remedy"),
    [
        ("CONVERT_TZ('2020-01-01 00:00:00', 'Berlin', 'UTC')", "Europe/Berlin"),
        ("CONVERT_TZ('2020-01-01 00:00:00', 'UTC', '+08:00')", "GMT+08:00"),
        ("CONVERT_TZ(TIMESTAMP '2020-01-01 00:00:00', 'UTC', 'UTC')", "CAST(x AS STRING)"),
        ("TO_TIMESTAMP_LTZ('2020', 'yyyy', 'Mars')", "Europe/Berlin"),
        ("TO_TIMESTAMP_LTZ('2020', 'YYYY')", "yyyy"),
        ("TO_TIMESTAMP_LTZ(1, 9)", "3"),
        ("CONVERT_TZ('2020-01-01 00:00:00', 'UTC')", "arguments"),
    ],
)
def test_wrong_zones_and_arguments_have_a_place_and_a_remedy(sql: str, remedy: str) -> None:
    with pytest.raises(SqlErrors) as caught:
        bind_text(" " + sql, [])
    (error,) = caught.value.errors
    assert (error.line, error.column, remedy in error.remedy) == (1, 2, True)


ZONES = st.sampled_from(
    ["Europe/Berlin", "America/Los_Angeles", "Australia/Lord_Howe", "Asia/Kathmandu", "Asia/Tokyo"]
)


@settings(max_examples=50, deadline=None)
@given(st.datetimes(datetime(1975, 1, 1), datetime(2035, 1, 1)), ZONES)
def test_zones_agree_with_the_standard_library(moment: datetime, name: str) -> None:
    moment = moment.replace(microsecond=0)
    zone = ZoneInfo(name)
    text = f"{moment:%Y-%m-%d %H:%M:%S}"
    there = moment.replace(tzinfo=UTC).astimezone(zone)
    assert evaluate(f"CONVERT_TZ(s, 'UTC', '{name}')", {"s": (types.STRING, [text])}) == [
        f"{there:%Y-%m-%d %H:%M:%S}"
    ]
    offsets = [moment.replace(tzinfo=zone, fold=fold).utcoffset() for fold in (0, 1)]
    back = moment - min(o for o in offsets if o is not None)
    assert evaluate(f"CONVERT_TZ(s, '{name}', 'UTC')", {"s": (types.STRING, [text])}) == [f"{back:%Y-%m-%d %H:%M:%S}"]
