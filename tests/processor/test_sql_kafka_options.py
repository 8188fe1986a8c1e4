"""`'connector' = 'kafka'`: which of Flink's options are understood, and what is said of the others."""

from __future__ import annotations

import pytest

from penstock.errors import SqlError, SqlErrors
from penstock_processor.logical.kafka_options import check_brokers
from penstock_processor.logical.outlet_options import check_topics
from penstock_processor.logical.plan_app import check_app, plan_app

GOOD = {
    "connector": "kafka",
    "topic": "orders",
    "properties.bootstrap.servers": "one:9092,two:9092",
    "format": "json",
}


def table(**changes: str | None) -> str:
    options = {name.replace("__", "."): value for name, value in changes.items()}
    named = {name: value for name, value in {**GOOD, **options}.items() if value is not None}
    listed = ",\n".join(f"'{name}' = '{value}'" for name, value in named.items())
    return f"CREATE TABLE orders (id BIGINT, placed TIMESTAMP(3)) WITH (\n{listed}\n);"


def finding(sql: str) -> SqlError:
    (error,) = check_app("app", sql)
    return error


def test_a_topic_of_others_is_a_source_without_dedupe_and_archive() -> None:
    spec = plan_app("app", table(publish="true", scan__startup__mode="latest-offset")).sources["orders"].spec
    assert (spec.topic, spec.startup, spec.publish) == ("orders", "latest", True)
    assert (spec.dedupe, spec.archive, spec.partitions) == ((), False, 1)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("format", "avro"),
        ("scan.startup.mode", "group-offsets"),
        ("scan.startup.mode", "timestamp"),
        ("scan.startup.timestamp-millis", "1"),
        ("properties.group.id", "mine"),
        ("properties.security.protocol", "SSL"),
        ("topic-pattern", "o.*"),
        ("scan.bounded.mode", "latest-offset"),
        ("value.format", "json"),
        ("key.format", "json"),
        ("json.ignore-parse-errors", "true"),
        ("sink.parallelism", "2"),
        ("dedupe", "id"),
        ("retention", "1 d"),
    ],
)
def test_what_is_not_done_of_flinks_options_is_refused_at_its_place(name: str, value: str) -> None:
    sql = table(**{name.replace(".", "__"): value})
    error = finding(sql)
    assert error.code == "unsupported"
    assert f"'{name}'" in sql.splitlines()[error.line - 1]
    assert error.remedy


@pytest.mark.parametrize("name", ["topic", "format", "properties.bootstrap.servers"])
def test_what_is_missing_is_named(name: str) -> None:
    error = finding(table(**{name.replace(".", "__"): None}))
    assert (error.code, name in error.message) == ("missing_option", True)


def test_garbled_values_and_unknown_options_are_refused() -> None:
    assert finding(table(topic="a b")).code == "bad_option"
    assert finding(table(properties__bootstrap__servers="nowhere")).code == "bad_option"
    assert finding(table(colour="red")).code == "unknown_option"


def test_rows_are_delivered_to_a_topic_but_not_into_one_of_the_log() -> None:
    source = "\nCREATE TABLE a (id BIGINT, placed TIMESTAMP(3)) WITH ('connector' = 'penstock');"
    sql = table() + source + "\nINSERT INTO orders SELECT id, placed FROM a;"
    specs = [source.spec for source in plan_app("app", sql).sources.values()]
    check_topics(sql, specs, {"three:9092"})
    check_topics(table(topic="theirs") + source, specs, set())
    with pytest.raises(SqlErrors) as refused:
        check_topics(sql, specs, {"two:9092"})
    (error,) = refused.value.errors
    assert sql.splitlines()[error.line - 1].startswith("'topic'")
    assert "another topic" in error.remedy


def test_brokers_must_be_those_of_the_log() -> None:
    sql = table()
    specs = [source.spec for source in plan_app("app", sql).sources.values()]
    check_brokers(sql, specs, {"two:9092"})
    with pytest.raises(SqlErrors) as refused:
        check_brokers(sql, specs, {"three:9092"})
    assert "three:9092" in refused.value.errors[0].remedy
    assert sql.splitlines()[refused.value.errors[0].line - 1].startswith("'properties.bootstrap.servers'")
    with pytest.raises(SqlErrors) as refused:
        check_brokers(sql, specs, set())
    assert "--log kafka://" in refused.value.errors[0].remedy
    assert sql.splitlines()[refused.value.errors[0].line - 1].startswith("'connector'")
