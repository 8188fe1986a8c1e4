"""Functions of time: before the epoch, at borders, by Java patterns."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta

import pytest
from core.expression_eval import evaluate, one
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.errors import SqlErrors
from penstock.expressions.bind import bind_text
from penstock.model import types
from penstock.model.stream import Column

AT = datetime(2018, 3, 4, 5, 6, 7, 89_000)  # a Sunday
BEFORE = datetime(1969, 12, 31, 23, 59, 59, 999_000)
TABLE = {
    "ts": (types.TIMESTAMP, [AT, BEFORE, None]),
    "lt": (types.TIMESTAMP_LTZ, [AT.replace(tzinfo=UTC), BEFORE.replace(tzinfo=UTC), None]),
    "d": (types.DATE, [AT.date(), BEFORE.date(), None]),
}


@pytest.mark.parametrize(
    ("unit", "expected"),
    [
        ("YEAR", [2018, 1969]), ("QUARTER", [1, 4]), ("MONTH", [3, 12]), ("WEEK", [9, 1]), ("DAY", [4, 31]),
        ("DOY", [63, 365]), ("DOW", [1, 4]), ("ISODOW", [7, 3]), ("ISOYEAR", [2018, 1970]), ("DECADE", [201, 196]),
        ("CENTURY", [21, 20]), ("MILLENNIUM", [3, 2]), ("HOUR", [5, 23]), ("MINUTE", [6, 59]), ("SECOND", [7, 59]),
        ("MILLISECOND", [89, 999]), ("EPOCH", [1_520_139_967, -1]),
    ],
)  # fmt: skip
def test_extract(unit: str, expected: list[int]) -> None:
    assert evaluate(f"EXTRACT({unit} FROM ts)", TABLE) == [*expected, None]
    assert evaluate(f"EXTRACT({unit} FROM lt)", TABLE) == [*expected, None]


@pytest.mark.parametrize(
    ("unit", "floor", "ceil"),
    [
        ("SECOND", datetime(2018, 3, 4, 5, 6, 7), datetime(2018, 3, 4, 5, 6, 8)),
        ("MINUTE", datetime(2018, 3, 4, 5, 6), datetime(2018, 3, 4, 5, 7)),
        ("HOUR", datetime(2018, 3, 4, 5), datetime(2018, 3, 4, 6)),
        ("DAY", datetime(2018, 3, 4), datetime(2018, 3, 5)),
        ("WEEK", datetime(2018, 3, 4), datetime(2018, 3, 11)),
        ("MONTH", datetime(2018, 3, 1), datetime(2018, 4, 1)),
        ("QUARTER", datetime(2018, 1, 1), datetime(2018, 4, 1)),
        ("YEAR", datetime(2018, 1, 1), datetime(2019, 1, 1)),
    ],
)
def test_floor_and_ceil_to_a_unit(unit: str, floor: datetime, ceil: datetime) -> None:
    assert evaluate(f"FLOOR(ts TO {unit})", TABLE)[0] == floor
    assert evaluate(f"CEIL(ts TO {unit})", TABLE)[0] == ceil
    assert evaluate(f"CEIL(FLOOR(ts TO {unit}) TO {unit})", TABLE)[0] == floor
    assert evaluate(f"FLOOR(lt TO {unit})", TABLE)[0] == floor.replace(tzinfo=UTC)
    assert evaluate(f"FLOOR(ts TO {unit})", TABLE)[2] is None


def test_a_date_rounded_to_a_unit_stays_a_date() -> None:
    assert evaluate("FLOOR(d TO MONTH)", TABLE) == [date(2018, 3, 1), date(1969, 12, 1), None]
    assert evaluate("CEIL(d TO YEAR)", TABLE) == [date(2019, 1, 1), date(1970, 1, 1), None]


@settings(max_examples=60, deadline=None)
@given(
    st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1)), st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1))
)
def test_timestampdiff_counts_whole_units_toward_zero(a: datetime, b: datetime) -> None:
    a, b = (t.replace(microsecond=t.microsecond // 1000 * 1000) for t in (a, b))
    table = {"a": (types.TIMESTAMP, [a]), "b": (types.TIMESTAMP, [b])}
    for unit, size in (("SECOND", 1), ("HOUR", 3600), ("DAY", 86400), ("WEEK", 604800)):
        whole = int(abs(b - a) // timedelta(seconds=size)) * (1 if b >= a else -1)
        expected = (whole + 2**31) % 2**32 - 2**31
        assert evaluate(f"TIMESTAMPDIFF({unit}, a, b)", table) == [expected]
    months = evaluate("TIMESTAMPDIFF(MONTH, a, b)", table)[0]
    assert isinstance(months, int)
    reached = evaluate(f"TIMESTAMPADD(MONTH, {months}, a)", table)[0]
    following = evaluate(f"TIMESTAMPADD(MONTH, {months + (1 if b >= a else -1)}, a)", table)[0]
    assert (reached <= b < following) if b >= a else (following < b <= reached)  # type: ignore[operator]
    assert evaluate("TIMESTAMPDIFF(YEAR, a, b)", table) == [int(months / 12)]


def test_timestampadd_keeps_the_day_where_it_can_and_bounds_the_count() -> None:
    table = {"t": (types.TIMESTAMP, [datetime(2020, 2, 29)] * 3), "n": (types.BIGINT, [12, 2**62, None])}
    assert evaluate("TIMESTAMPADD(MONTH, n, t)", table) == [datetime(2021, 2, 28), "error: overflow", None]
    assert evaluate("TIMESTAMPADD(SECOND, n, t)", table) == [datetime(2020, 2, 29, 0, 0, 12), "error: overflow", None]
    assert one("TIMESTAMPADD(HOUR, 1, DATE '2018-01-01')") == datetime(2018, 1, 1, 1)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("yyyy-MM-dd", "2018-03-04"),
        ("yy/M/d", "18/3/4"),
        ("HH:mm:ss.SSS", "05:06:07.089"),
        ("h:mm a", "5:06 AM"),
        ("EEE, dd MMM yyyy", "Sun, 04 Mar 2018"),
        ("EEEE MMMM", "Sunday March"),
        ("D", "63"),
        ("SS SSSSSS S", "08 089000 0"),
        ("kk k K KK", "05 5 5 05"),
        ("Q QQ QQQ q", "1 01 Q1 1"),
        ("LLLL L A", "March 3 18367089"),
        ("yyyyMMdd'T'HHmm", "20180304T0506"),
        ("''yy'' 'o''clock' 100%", "'18' o'clock 100%"),
    ],
)
def test_java_patterns_format(pattern: str, expected: str) -> None:
    text = pattern.replace("'", "''")
    assert evaluate(f"DATE_FORMAT(ts, '{text}')", TABLE)[0] == expected
    assert evaluate(f"DATE_FORMAT(lt, '{text}')", TABLE)[0] == expected


@pytest.mark.parametrize(
    ("text", "pattern", "expected"),
    [
        ("2018-03-04", "yyyy-MM-dd", datetime(2018, 3, 4)),
        ("20180304 05", "yyyyMMdd HH", datetime(2018, 3, 4, 5)),
        ("04/03/2018 05:06", "dd/MM/yyyy HH:mm", datetime(2018, 3, 4, 5, 6)),
        ("2018-03-04T05:06:07.089", "yyyy-MM-dd''T''HH:mm:ss.SSS", AT),
        ("04 Mar 2018", "dd MMM yyyy", datetime(2018, 3, 4)),
        ("2018-03-04 rest", "yyyy-MM-dd", None),
        ("2018-13-04", "yyyy-MM-dd", None),
        ("2018-00-04", "yyyy-MM-dd", None),
        ("2018-3-4", "yyyy-MM-dd", datetime(2018, 3, 4)),
        ("2018-02-31", "yyyy-MM-dd", datetime(2018, 2, 28)),
        ("2018-02-32", "yyyy-MM-dd", None),
        ("2018", "yyyy", datetime(2018, 1, 1)),
        ("03-04", "MM-dd", datetime(1970, 3, 4)),
        ("05:06", "HH:mm", datetime(1970, 1, 1, 5, 6)),
        ("6", "m", datetime(1970, 1, 1, 0, 6)),
        ("18-03-04 24:00:00", "yy-MM-dd HH:mm:ss", datetime(2018, 3, 5)),
        ("2018-03-04 24:00:01", "yyyy-MM-dd HH:mm:ss", None),
        ("2018-03-04 05:60:00", "yyyy-MM-dd HH:mm:ss", None),
        ("20180304050607089", "yyyyMMddHHmmssSSS", AT),
        ("2018-03-04 05:06:07", "yyyy-MM-dd HH:mm:ss.SSS", datetime(2018, 3, 4, 5, 6, 7)),
        ("2018-03-04 05:06:07.1234", "yyyy-MM-dd HH:mm:ss.SSS", datetime(2018, 3, 4, 5, 6, 7, 123_000)),
        ("2018-03-04 05:06:07.5", "yyyy-MM-dd HH:mm:ss.S", datetime(2018, 3, 4, 5, 6, 7, 500_000)),
        ("2018-03-04 5:06 PM", "yyyy-MM-dd h:mm a", datetime(2018, 3, 4, 17, 6)),
        ("2018-03-04 12:06 AM", "yyyy-MM-dd h:mm a", datetime(2018, 3, 4, 0, 6)),
        ("2018-03-04 13:06 AM", "yyyy-MM-dd h:mm a", None),
        ("Mar 4, 2018", "MMM d, yyyy", datetime(2018, 3, 4)),
        ("4 March 2018", "d MMMM yyyy", datetime(2018, 3, 4)),
        ("4 march 2018", "d MMMM yyyy", None),
        ("", "yyyy-MM-dd", None),
    ],
)
def test_java_patterns_read(text: str, pattern: str, expected: datetime | None) -> None:
    table = {"s": (types.STRING, [text, None])}
    assert evaluate(f"TO_TIMESTAMP(s, '{pattern}')", table) == [expected, None]
    assert evaluate(f"TO_DATE(s, '{pattern}')", table) == [expected.date() if expected else None, None]


@pytest.mark.parametrize("pattern", ["YYYY", "ww", "SSSSSSSSSS", "n", "", "'open", "yyyyy"])
def test_patterns_without_a_counterpart_are_refused(pattern: str) -> None:
    text = pattern.replace("'", "''")
    with pytest.raises(SqlErrors, match="DATE_FORMAT"):
        bind_text(f"DATE_FORMAT(TIMESTAMP '2018-01-01 00:00:00', '{text}')", [])


def test_hours_of_a_clock_that_begins_at_one() -> None:
    table = {"ts": (types.TIMESTAMP, [datetime(2018, 1, 1), datetime(2018, 1, 1, 12), None])}
    assert evaluate("DATE_FORMAT(ts, 'kk K h')", table) == ["24 0 12", "12 0 12", None]


def test_epoch_numbers() -> None:
    table = {"n": (types.BIGINT, [0, -1, 1_514_764_800, 2**62, None])}
    assert evaluate("TO_TIMESTAMP_LTZ(n, 0)", table)[:3] == [
        datetime(1970, 1, 1, tzinfo=UTC),
        datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC),
        datetime(2018, 1, 1, tzinfo=UTC),
    ]
    assert evaluate("TO_TIMESTAMP_LTZ(n, 0)", table)[3:] == ["error: bad_argument", None]
    assert evaluate("FROM_UNIXTIME(n)", table)[1:] == [
        "1969-12-31 23:59:59",
        "2018-01-01 00:00:00",
        "error: bad_argument",
        None,
    ]
    assert evaluate("UNIX_TIMESTAMP(FROM_UNIXTIME(n))", {"n": (types.BIGINT, [-5, 1])}) == [-5, 1]


def test_times_compare_with_constant_texts() -> None:
    assert evaluate("ts >= '2018-03-04 05:06:07.089'", TABLE) == [True, False, None]
    assert evaluate("d = '2018-03-04'", TABLE) == [True, False, None]
    assert evaluate("lt BETWEEN '2018-01-01' AND '2019-01-01'", TABLE) == [True, False, None]
    assert evaluate("d < ts", TABLE) == [True, True, None]
    assert one("TIME '10:00:00' > TIME '09:59:59.999'") is True
    assert one("EXTRACT(MINUTE FROM TIME '10:20:00')") == 20
    assert one("CAST(TIME '10:20:00.5' AS STRING)") == "10:20:00.500"
    assert time(1) > time(0)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("('2018-01-01', '2018-01-03')", "('2018-01-02', '2018-01-05')", True),
        ("('2018-01-03', '2018-01-01')", "('2018-01-05', '2018-01-02')", True),
        ("('2018-01-01', '2018-01-02')", "('2018-01-02', '2018-01-03')", True),
        ("('2018-01-01', '2018-01-02')", "('2018-01-03', '2018-01-04')", False),
        ("('2018-01-05', INTERVAL '-2' DAY)", "('2018-01-01', INTERVAL '2' DAY)", True),
        ("('2018-01-01', INTERVAL '1' MONTH)", "('2018-02-01', INTERVAL '1' DAY)", True),
        ("('2018-01-01', CAST(NULL AS DATE))", "('2018-01-01', '2018-02-02')", None),
    ],
)
def test_overlapping_spans(first: str, second: str, expected: bool | None) -> None:
    sql = f"{first} OVERLAPS {second}".replace("'2018", "DATE '2018")
    assert one(sql) is expected
    assert one(f"NOT ({sql})") is (None if expected is None else not expected)
    table = {"a": (types.TIMESTAMP, [datetime(2018, 1, 1), None]), "b": (types.TIMESTAMP, [datetime(2018, 1, 2)] * 2)}
    assert evaluate("(a, b) OVERLAPS (b, INTERVAL '1' HOUR) AND TRUE", table) == [True, None]


@pytest.mark.parametrize(
    ("sql", "remedy"),
    [
        ("(1, 2) OVERLAPS (2, 3)", "OVERLAPS"),
        ("ts OVERLAPS ts", "OVERLAPS"),
        ("(ts, ts) OVERLAPS (ts, ts, ts)", "OVERLAPS"),
        ("(ts, ts) OVERLAPS (lt, lt)", "CAST"),
    ],
)
def test_spans_that_are_none_have_a_remedy(sql: str, remedy: str) -> None:
    with pytest.raises(SqlErrors) as caught:
        bind_text(sql, [Column("ts", types.TIMESTAMP), Column("lt", types.TIMESTAMP_LTZ)])
    (error,) = caught.value.errors
    assert remedy in error.remedy
