"""From SQL text to rows: what the front makes of an app, the engine runs."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest

from penstock.codecs.frames import empty_frame, polars_schema
from penstock_processor.compile.build import build_engine
from penstock_processor.logical.plan_app import plan_app
from penstock_processor.operators.interface import SourceBlock

EXAMPLES = Path(__file__).parents[2] / "examples"

SOURCE = """
CREATE TABLE lots (
  market STRING, kind STRING, tonnes DOUBLE, price DECIMAL(10, 2), n INT, ts TIMESTAMP(3),
  ts_date AS CAST(ts AS DATE),
  WATERMARK FOR ts AS ts - INTERVAL '1' MINUTE
) WITH ('connector' = 'penstock');
CREATE TABLE calls (market STRING, who STRING, rung TIMESTAMP(3), WATERMARK FOR rung AS rung)
WITH ('connector' = 'penstock');
"""

T0 = datetime(2024, 1, 1)


def _at(minutes):
    return T0 + timedelta(minutes=minutes)


def _lots(*rows):
    """(market, kind, tonnes, price, n, minutes)"""
    return {"lots": [(*row[:3], Decimal(row[3]), row[4], _at(row[5])) for row in rows]}


def _run(sql, *steps):
    """Rows per target, in order, after all steps and the end; and the codes of problems."""
    plan = plan_app("app", SOURCE + sql)
    engine = build_engine(plan)
    found, problems = {}, []
    for step in [*steps, None]:
        blocks = [] if step is None else [_block(plan, relation, rows) for relation, rows in step.items()]
        result = engine.finish() if step is None else engine.step(blocks)
        for output in result.outputs:
            found.setdefault(output.target, []).extend(output.frame.select(pl.exclude("$op", "$pending")).rows())
        problems += [p.code for p in result.problems]
    return found, problems


def _block(plan, relation, rows):
    schema = polars_schema(plan.sources[relation].spec.columns)
    return SourceBlock(relation, 0, pl.DataFrame(rows, schema=schema, orient="row"))


def test_filter_case_and_computed_column():
    sql = """CREATE TABLE `out` WITH ('connector' = 'penstock') AS
        SELECT market, CASE WHEN tonnes / n > 2 THEN 'big' ELSE 'small' END AS size, ts_date FROM lots WHERE n <> 0"""
    rows, problems = _run(sql, _lots(("a", "x", 10.0, 1, 2, 0), ("b", "x", 1.0, 1, 2, 1), ("c", "x", 1.0, 1, 0, 1)))
    assert rows["out"] == [("a", "big", T0.date()), ("b", "small", T0.date())]
    assert problems == []


def test_window_aggregate_with_having_and_expressions_over_groups():
    sql = """CREATE TABLE `out` WITH ('connector' = 'penstock') AS
        SELECT UPPER(market) AS m, window_start, SUM(tonnes * 1000) AS kg, COUNT(*) AS lots, SUM(price) AS paid,
               AVG(n) AS n, SUM(price) / COUNT(*) AS per_lot
        FROM TABLE(TUMBLE(TABLE lots, DESCRIPTOR(ts), INTERVAL '1' HOUR))
        WHERE tonnes > 0
        GROUP BY UPPER(market), window_start, window_end
        HAVING COUNT(*) > 1"""
    rows, _ = _run(sql, _lots(("a", "x", 1.5, "1.10", 3, 0), ("A", "x", 2.0, "2.20", 4, 30)),
                   _lots(("b", "x", 1.0, "9", 1, 40), ("a", "x", -1.0, "9", 1, 50)))  # fmt: skip
    ((market, start, kg, lots, paid, n, per_lot),) = rows["out"]
    assert (market, start, kg, lots, str(paid), n) == ("A", T0, 3500.0, 2, "3.30", 3)
    assert float(per_lot) == 1.65


def test_hop_with_an_argument_that_sees_its_window():
    sql = """CREATE TABLE `out` WITH ('connector' = 'penstock') AS
        SELECT window_start, SUM(CASE WHEN ts < window_start + INTERVAL '30' MINUTE THEN 1 ELSE 0 END) AS first_half
        FROM TABLE(HOP(TABLE lots, DESCRIPTOR(ts), INTERVAL '30' MINUTE, INTERVAL '1' HOUR))
        GROUP BY window_start, window_end"""
    rows, _ = _run(sql, _lots(("a", "x", 1.0, 1, 1, 40)))
    assert rows["out"] == [(T0, 0), (_at(30), 1)]


def test_views_unions_and_tables_that_read_tables():
    sql = """
        CREATE VIEW big AS SELECT market, n, ts FROM lots WHERE n > 5;
        CREATE TABLE both_ends (market STRING, n INT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts)
        WITH ('connector' = 'penstock');
        INSERT INTO both_ends SELECT market, n, ts FROM big UNION ALL SELECT market, -n, ts FROM lots WHERE n < 2;
        CREATE TABLE per_hour WITH ('connector' = 'penstock') AS
        SELECT window_end, SUM(n) AS n, COUNT(DISTINCT market) AS markets
        FROM TABLE(TUMBLE(TABLE both_ends, DESCRIPTOR(ts), INTERVAL '1' HOUR)) GROUP BY window_start, window_end"""
    rows, problems = _run(sql, _lots(("a", "x", 1.0, 1, 9, 0), ("b", "x", 1.0, 1, 1, 5)),
                          _lots(("a", "x", 1.0, 1, 7, 61), ("c", "x", 1.0, 1, 3, 62)))  # fmt: skip
    assert [row[:2] for row in rows["both_ends"]] == [("a", 9), ("b", -1), ("a", 7)]
    assert rows["per_hour"] == [(_at(60), 8, 2), (_at(120), 7, 1)]
    assert problems == []


def test_windows_over_a_view_of_windows():
    sql = """
        CREATE VIEW minutely AS
        SELECT market, window_time AS t, COUNT(*) AS c
        FROM TABLE(TUMBLE(TABLE lots, DESCRIPTOR(ts), INTERVAL '1' MINUTE))
        GROUP BY market, window_start, window_end, window_time;
        CREATE TABLE peaks WITH ('connector' = 'penstock') AS
        SELECT window_start, MAX(c) AS c FROM TABLE(TUMBLE(TABLE minutely, DESCRIPTOR(t), INTERVAL '1' HOUR))
        GROUP BY window_start, window_end"""
    rows, _ = _run(sql, _lots(*[("a", "x", 1.0, 1, 1, m) for m in (0, 0, 0, 1, 70)]))
    assert rows["peaks"] == [(T0, 3), (_at(60), 1)]


def test_interval_join():
    sql = """CREATE TABLE `out` WITH ('connector' = 'penstock') AS
        SELECT l.market, c.who, c.rung FROM lots AS l JOIN calls AS c
        ON l.market = c.market AND c.rung BETWEEN l.ts AND l.ts + INTERVAL '10' MINUTE AND c.who <> l.kind"""
    first = _lots(("a", "x", 1.0, 1, 1, 0), (None, "x", 1.0, 1, 1, 0))
    second = {"calls": [("a", "ann", _at(10)), ("a", "x", _at(1)), ("a", "bob", _at(11)), (None, "eve", _at(1))]}
    rows, _ = _run(sql, first, second)
    assert rows["out"] == [("a", "ann", _at(10))]


def test_bad_rows_of_each_kind_are_problems():
    sql = """CREATE TABLE `out` WITH ('connector' = 'penstock') AS
        SELECT window_start, SUM(10 / n) AS x FROM TABLE(TUMBLE(TABLE lots, DESCRIPTOR(ts), INTERVAL '1' HOUR))
        GROUP BY window_start, window_end"""
    late = {"lots": [("a", "x", 1.0, 1, 1, _at(-600)), ("a", "x", 1.0, 1, 1, None), ("a", "x", 1.0, 1, 5, _at(1))]}
    rows, problems = _run(sql, _lots(("a", "x", 1.0, 1, 0, 0), ("a", "x", 1.0, 1, 2, 0)), late)
    assert rows["out"] == [(T0, 7)]
    assert sorted(problems) == ["division_by_zero", "late", "no_event_time"]


@pytest.mark.parametrize("name", ["produce-markets", "earthquakes"])
def test_the_example_apps_compile_and_run_over_nothing(name):
    plan = plan_app("app", (EXAMPLES / name / "app.sql").read_text())
    engine = build_engine(plan)
    blocks = [SourceBlock(n, 0, empty_frame(s.spec.columns)) for n, s in plan.sources.items() if s.watermark]
    assert engine.step(blocks).problems == []
    assert all(output.frame.height == 0 for output in engine.finish().outputs)
    assert len(engine.operators) >= 2
