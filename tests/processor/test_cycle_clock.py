"""CURRENT_TIMESTAMP and its like: the clock of the cycle, the same for all rows, and as the clock is moved."""

from __future__ import annotations

import datetime as dt

import polars as pl
import pytest

from penstock.codecs.frames import polars_schema
from penstock.errors import SqlErrors
from penstock_processor.compile.build import build_engine
from penstock_processor.logical.plan_app import plan_app
from penstock_processor.operators.interface import SourceBlock

NOON = dt.datetime(2018, 1, 1, 12, 0, 0, 250_000, tzinfo=dt.UTC)
SOURCE = """CREATE TABLE readings (n INT, ts TIMESTAMP(3), seen AS CURRENT_TIMESTAMP,
  WATERMARK FOR ts AS ts) WITH ('connector' = 'penstock');
"""
TIMES = """CREATE TABLE times WITH ('connector' = 'penstock') AS
SELECT n, CURRENT_TIMESTAMP AS a, NOW() AS b, LOCALTIMESTAMP AS c, CURRENT_DATE AS d, CURRENT_TIME AS e, seen,
  CURRENT_ROW_TIMESTAMP() AS f, LOCALTIME AS g FROM readings WHERE ts < LOCALTIMESTAMP;
"""


def _block(plan, *times: dt.datetime) -> SourceBlock:
    schema = polars_schema(plan.sources["readings"].spec.columns)
    rows = [(n, time.replace(tzinfo=None)) for n, time in enumerate(times)]
    return SourceBlock("readings", 0, pl.DataFrame(rows, schema=schema, orient="row"))


def _ms(time: dt.datetime) -> int:
    return round(time.timestamp() * 1000)


def test_all_rows_of_a_cycle_have_the_time_that_its_clock_shows() -> None:
    plan = plan_app("app", SOURCE + TIMES)
    engine = build_engine(plan)
    for now in (NOON, NOON + dt.timedelta(days=1, minutes=1), NOON - dt.timedelta(hours=3)):
        past, future = now - dt.timedelta(hours=1), now + dt.timedelta(hours=1)
        (output,) = engine.step([_block(plan, past, future, past)], now_ms=_ms(now)).outputs
        local = now.replace(tzinfo=None)
        second = local.time().replace(microsecond=0)
        times = (now, now, local, local.date(), second, now, now, second)
        assert output.frame.select(pl.exclude("^[$].*$")).rows() == [(0, *times), (2, *times)]


def test_two_engines_have_clocks_of_their_own() -> None:
    plan = plan_app("app", SOURCE + TIMES)
    one, other = build_engine(plan), build_engine(plan)
    later = NOON + dt.timedelta(hours=2)
    one.step([_block(plan)], now_ms=_ms(NOON))
    other.step([_block(plan)], now_ms=_ms(later))
    (output,) = one.step([_block(plan, NOON - dt.timedelta(hours=1))], now_ms=_ms(NOON)).outputs
    assert output.frame["a"].to_list() == [NOON]


def test_groups_have_the_time_at_which_their_window_gives_them() -> None:
    plan = plan_app(
        "app",
        SOURCE
        + """CREATE TABLE counts WITH ('connector' = 'penstock') AS
        SELECT window_start, COUNT(*) AS c, CURRENT_TIMESTAMP AS given
        FROM TABLE(TUMBLE(TABLE readings, DESCRIPTOR(ts), INTERVAL '1' HOUR)) GROUP BY window_start, window_end;""",
    )
    engine = build_engine(plan)
    engine.step([_block(plan, NOON, NOON)], now_ms=_ms(NOON))
    later = NOON + dt.timedelta(hours=2)
    (output,) = engine.step([_block(plan, later)], now_ms=_ms(later)).outputs
    assert output.frame.select("c", "given").rows() == [(2, later)]


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT n, COUNT(*) AS c, MAX(CURRENT_TIMESTAMP) AS x FROM readings GROUP BY n",
        "SELECT n, x FROM (SELECT n, LOCALTIMESTAMP AS x, ROW_NUMBER() OVER (PARTITION BY n ORDER BY ts DESC) AS r "
        "FROM readings) WHERE r = 1",
    ],
)
def test_rows_that_are_taken_back_later_do_not_hold_the_time(statement: str) -> None:
    sql = f"SET 'table.exec.state.ttl' = '1 h';\n{SOURCE}"
    columns = "n INT, c BIGINT, x TIMESTAMP_LTZ(3)" if "COUNT" in statement else "n INT, x TIMESTAMP(3)"
    target = f"CREATE TABLE t ({columns}, PRIMARY KEY (n) NOT ENFORCED) WITH ('connector' = 'penstock');\n"
    with pytest.raises(SqlErrors) as refused:
        plan_app("app", f"{sql}{target}INSERT INTO t {statement};")
    assert [error.code for error in refused.value.errors] == ["unsupported"]
    assert "CURRENT_TIMESTAMP" in refused.value.errors[0].message
