"""What CREATE TABLE tells ingest, publish and data: the spec of each relation, with its defaults."""

from __future__ import annotations

from pathlib import Path

import pytest

from penstock.model.stream import Relation, StreamSpec
from penstock.model.types import BIGINT, BYTES, DATE, STRING, TIMESTAMP, TIMESTAMP_LTZ, decimal
from penstock_processor.logical.durations import duration_ms
from penstock_processor.logical.implicit_casts import fits
from penstock_processor.logical.plan import SourcePlan
from penstock_processor.logical.plan_app import plan_app
from penstock_processor.logical.topology import topological

PRELUDE = (Path(__file__).parent / "sql" / "prelude.sql").read_text()
OPTIONS = "WITH ('connector' = 'penstock')"


def source_of(sql: str, name: str) -> SourcePlan:
    return plan_app("app", sql + PRELUDE).sources[name]


def spec_of(sql: str, name: str) -> StreamSpec:
    return source_of(sql, name).spec


def test_a_table_that_nobody_writes_to_is_a_source() -> None:
    spec = spec_of("", "trades")
    assert (spec.relation, spec.app, spec.time_column, spec.key, spec.dedupe) == (
        Relation.SOURCE, "app", "ts", ("symbol",), ("id",),
    )  # fmt: skip
    assert (spec.publish, spec.store, spec.scope, spec.partitions) == (False, False, "trades:read", 1)
    assert (spec.retention_s, spec.unknown, spec.emit, spec.max_ahead_s) == (None, "ignore", "final", 86_400.0)
    assert spec.options == {"connector": "penstock", "key": "symbol"}


def test_a_source_without_a_column_id_has_no_dedupe_and_none_switches_it_off() -> None:
    assert spec_of("", "quotes").dedupe == ()
    assert spec_of("CREATE TABLE o (id INT) WITH ('connector' = 'penstock', 'dedupe' = 'none');", "o").dedupe == ()


def test_a_table_that_is_written_to_is_a_stream_or_with_a_key_a_table() -> None:
    stream = spec_of(f"CREATE TABLE o (id STRING) {OPTIONS}; INSERT INTO o SELECT symbol FROM trades;", "o")
    assert (stream.relation, stream.publish, stream.store, stream.key, stream.dedupe) == (
        Relation.STREAM, True, True, (), (),
    )  # fmt: skip
    table = spec_of(
        f"CREATE TABLE o (s STRING PRIMARY KEY NOT ENFORCED, n INT) {OPTIONS};"
        "INSERT INTO o SELECT symbol, size FROM trades;",
        "o",
    )
    assert (table.relation, table.primary_key, table.key) == (Relation.TABLE, ("s",), ("s",))
    assert [c.nullable for c in table.columns] == [False, True]


def test_columns_have_the_declared_types_and_nullability() -> None:
    spec = spec_of(
        f"""CREATE TABLE o (a STRING NOT NULL, b VARCHAR(10), c DECIMAL(12, 3), d BYTES, e DATE, f TIMESTAMP(3),
        g TIMESTAMP_LTZ(3), h BIGINT COMMENT 'how many', i AS a || b) COMMENT 'all kinds' {OPTIONS};""", "o",
    )  # fmt: skip
    assert [c.type for c in spec.columns] == [
        STRING,
        STRING,
        decimal(12, 3),
        BYTES,
        DATE,
        TIMESTAMP,
        TIMESTAMP_LTZ,
        BIGINT,
    ]
    assert [c.name for c in spec.columns if not c.nullable] == ["a"]


def test_a_computed_event_time_is_no_physical_column() -> None:
    quotes = source_of("", "quotes")
    assert quotes.spec.time_column is None
    assert [c.name for c in quotes.computed] == ["at_time"]
    assert quotes.watermark is not None and quotes.watermark.column == "at_time"
    assert "at_time" not in [c.name for c in quotes.spec.columns]


def test_a_derived_table_has_event_time_only_if_it_declares_a_watermark() -> None:
    plain = spec_of(f"CREATE TABLE o {OPTIONS} AS SELECT symbol, ts FROM trades;", "o")
    assert plain.time_column is None
    declared = source_of(f"CREATE TABLE o (WATERMARK FOR ts AS ts) {OPTIONS} AS SELECT symbol, ts FROM trades;", "o")
    assert declared.spec.time_column == "ts"


def test_the_idle_timeout_of_the_app_counts_where_a_table_names_none() -> None:
    sql = f"""SET 'table.exec.source.idle-timeout' = '10 s';
CREATE TABLE a (ts TIMESTAMP(3), WATERMARK FOR ts AS ts) {OPTIONS};
CREATE TABLE b (ts TIMESTAMP(3), WATERMARK FOR ts AS ts)
WITH ('connector' = 'penstock', 'scan.watermark.idle-timeout' = '500 ms');
CREATE TABLE c (n INT) {OPTIONS};"""
    sources = plan_app("app", sql).sources
    assert [sources[n].idle_timeout_ms for n in "abc"] == [10_000, 500, None]


def test_statements_are_ordered_so_that_writers_stand_before_readers() -> None:
    sql = f"""CREATE TABLE c {OPTIONS} AS SELECT * FROM b;
CREATE TABLE b {OPTIONS} AS SELECT * FROM a;
CREATE TABLE a {OPTIONS} AS SELECT symbol FROM trades;
CREATE TABLE z {OPTIONS} AS SELECT symbol FROM trades;"""
    plan = plan_app("app", sql + PRELUDE)
    assert [s.name for s in plan.statements] == ["c", "b", "a", "z"]
    assert [s.name for s in topological(plan)] == ["a", "b", "c", "z"]


def test_a_statement_knows_its_text_and_place() -> None:
    sql = f"CREATE TABLE o (s STRING) {OPTIONS};\n  INSERT INTO o -- why\n  SELECT symbol FROM trades ;\n"
    (statement,) = plan_app("app", sql + PRELUDE).statements
    assert statement.text == "INSERT INTO o -- why\n  SELECT symbol FROM trades"
    assert (statement.span.line, statement.span.column) == (2, 3)


@pytest.mark.parametrize(
    ("text", "ms"),
    [("7 d", 604_800_000), ("24h", 86_400_000), ("1min", 60_000), ("30 s", 30_000), ("500 ms", 500), ("500", 500),
     (" 2 Days ", 172_800_000), ("1 week", None),
     ("-1 s", None), ("1.5 h", None), ("", None), ("s", None), ("٣ s", None)],
)  # fmt: skip
def test_durations_are_read_as_flink_writes_them(text: str, ms: int | None) -> None:
    assert duration_ms(text) == ms


def test_numbers_widen_into_targets_and_never_narrow() -> None:
    from penstock.model.types import DOUBLE, FLOAT, INT, SMALLINT, TINYINT

    widening = [TINYINT, SMALLINT, INT, BIGINT, FLOAT, DOUBLE]
    for i, small in enumerate(widening):
        for j, large in enumerate(widening):
            assert fits(small, large) == (i <= j)
    assert fits(decimal(10, 2), DOUBLE) and fits(decimal(10, 2), FLOAT) and fits(INT, decimal(10, 2))
    assert not fits(decimal(10, 2), BIGINT)
    assert fits(TIMESTAMP, DATE) and fits(TIMESTAMP, TIMESTAMP_LTZ) and not fits(STRING, TIMESTAMP)
    assert not fits(INT, STRING) and not fits(STRING, INT) and not fits(DATE, TIMESTAMP)
