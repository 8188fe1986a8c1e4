"""Tables that are delivered to systems of others: what `penstock check` says of their options, and where."""

from __future__ import annotations

import pytest

from penstock.errors import SqlError
from penstock.feeds.open import FEED_OPTIONS_OF_OURS
from penstock.outlets.open import OUR_OPTIONS
from penstock_processor.logical.options import KNOWN
from penstock_processor.logical.plan_app import check_app, plan_app

SOURCE = "CREATE TABLE lots (id BIGINT, market STRING) WITH ('connector' = 'penstock');\n"
GOOD: dict[str, dict[str, str]] = {
    "http": {"url": "https://example.org/hook", "format": "json"},
    "websocket": {"url": "wss://example.org/rows", "format": "json"},
    "file": {"path": "/var/lib/lots", "format": "parquet"},
    "filesystem": {"path": "file:///var/lib/lots", "format": "csv"},
    "jdbc": {"url": "jdbc:postgresql://db:5432/shop", "table-name": "public.lots"},
    "kafka": {"topic": "theirs", "properties.bootstrap.servers": "one:9092, two:9092", "format": "json"},
    "upsert-kafka": {
        "topic": "theirs",
        "properties.bootstrap.servers": "one:9092",
        "key.format": "json",
        "value.format": "json",
    },
}


def app(connector: str, *, key: bool = False, **changes: str | None) -> str:
    given = {"connector": connector, **GOOD[connector], **{n.replace("__", "."): v for n, v in changes.items()}}
    key = key or connector == "upsert-kafka"
    options = ",\n".join(f"'{name}' = '{value}'" for name, value in given.items() if value is not None)
    columns = "id BIGINT, market STRING" + (", PRIMARY KEY (id) NOT ENFORCED" if key else "")
    table = f"CREATE TABLE `out` ({columns}) WITH (\n{options}\n);"
    return f"{SOURCE}{table}\nINSERT INTO `out` SELECT id, market FROM lots;"


def finding(sql: str) -> SqlError:
    (error,) = check_app("app", sql)
    return error


@pytest.mark.parametrize("connector", GOOD)
def test_a_table_with_what_its_connector_needs_is_fine(connector: str):
    assert check_app("app", app(connector)) == []
    spec = plan_app("app", app(connector, scope="out:read", publish="true")).sources["out"].spec
    assert (spec.publish, spec.store, spec.scope) == (True, False, "out:read")


@pytest.mark.parametrize(("connector", "name"), [(c, name) for c, given in GOOD.items() for name in given])
def test_what_a_connector_lacks_is_named_with_what_it_means(connector: str, name: str):
    error = finding(app(connector, **{name: None}))
    assert (error.code, error.line) == ("missing_option", 2)
    assert f"'{name}'" in error.message
    assert error.remedy


@pytest.mark.parametrize(
    ("connector", "name", "value"),
    [
        ("http", "url", "ftp://example.org"),
        ("http", "url", "https://user:password@example.org"),
        ("http", "format", "avro"),
        ("http", "method", "GET"),
        ("http", "body", "xml"),
        ("http", "request.timeout", "soon"),
        ("http", "request.timeout", "2 h"),
        ("http", "sink.buffer-flush.max-rows", "0"),
        ("http", "sink.buffer-flush.interval", "1 week"),
        ("http", "sink.max-retries", "-1"),
        ("http", "header.Content-Length", "5"),
        ("http", "header.two words", "5"),
        ("websocket", "url", "https://example.org"),
        ("websocket", "body", "binary"),
        ("file", "path", "s3://bucket/lots"),
        ("file", "format", "orc"),
        ("file", "sink.rolling-policy.rollover-interval", "often"),
        ("file", "sink.rolling-policy.max-rows", "0"),
        ("jdbc", "url", "jdbc:oracle:thin:@db:1521"),
        ("jdbc", "url", "jdbc:postgresql://user:secret@db/shop"),
        ("jdbc", "table-name", "a.b.c"),
        ("jdbc", "connection.max-retry-timeout", "0 s"),
        ("kafka", "topic", "two words"),
        ("kafka", "properties.bootstrap.servers", "nowhere"),
        ("kafka", "format", "avro"),
        ("kafka", "sink.delivery-guarantee", "none"),
        ("kafka", "properties.security.protocol", "TLS"),
        ("kafka", "key.fields", "market"),
        ("upsert-kafka", "value.format", "csv"),
    ],
)
def test_a_wrong_value_is_refused_at_its_place(connector: str, name: str, value: str):
    sql = app(connector, **{name.replace(".", "__"): value})
    error = finding(sql)
    assert error.code == "bad_option"
    line = sql.splitlines()[error.line - 1]
    assert line.startswith(f"'{name}'")
    assert line[error.column - 1 :].startswith(f"'{value}'")
    assert error.remedy


def test_rows_that_change_do_not_fit_a_topic_that_is_only_appended_to():
    error = finding(app("kafka", key=True))
    assert (error.code, "'upsert-kafka'" in error.remedy) == ("bad_option", True)
    error = finding(app("upsert-kafka").replace(", PRIMARY KEY (id) NOT ENFORCED", ""))
    assert (error.code, "PRIMARY KEY" in error.remedy) == ("bad_option", True)
    both = {"key__format": "json", "key__fields": "marked"}
    assert "no column" in finding(app("kafka", **both)).message
    assert check_app("app", app("kafka", **{**both, "key__fields": "market;id"})) == []


def test_an_unknown_option_is_refused_with_the_nearest_one():
    error = finding(app("http", methode="POST"))
    assert (error.code, error.remedy) == ("unknown_option", "Did you mean 'method'?")


def test_options_of_sources_belong_to_sources():
    assert finding(app("http", dedupe="id")).code == "unknown_option"


def test_an_option_is_given_once():
    sql = app("http").replace("'format' = 'json'", "'format' = 'json', 'format' = 'json'")
    assert finding(sql).code == "duplicate_option"


FEEDS = {
    "file": {"path": "/var/lib/lots", "format": "json", "source.monitor-interval": "5 s"},
    "websocket": {"url": "wss://example.org/lots", "format": "json", "subscribe": "go", "header.X-Key": "${key}"},
}


def feed(connector: str, **changes: str | None) -> str:
    given = {"connector": connector, **FEEDS[connector], **{n.replace("__", "."): v for n, v in changes.items()}}
    options = ",\n".join(f"'{name}' = '{value}'" for name, value in given.items() if value is not None)
    return f"CREATE TABLE lots (id BIGINT, market STRING) WITH (\n{options}\n);"


@pytest.mark.parametrize("connector", FEEDS)
def test_a_source_of_others_is_a_source_with_its_options(connector: str):
    spec = plan_app("app", feed(connector, dedupe="id", key="market", archive="false")).sources["lots"].spec
    assert (spec.dedupe, spec.key, spec.archive) == (("id",), ("market",), False)
    assert finding(feed(connector, format=None)).code == "missing_option"
    assert finding(feed(connector, format="avro")).code == "bad_option"
    assert finding(feed(connector, subscribed="x")).code == "unknown_option"


def test_a_table_that_nothing_writes_cannot_be_a_way_out():
    sql = (
        "CREATE TABLE `out` (id BIGINT) WITH ('connector' = 'http', 'url' = 'http://example.org', 'format' = 'json');"
    )
    assert check_app("app", sql)


def test_options_of_ours_apply_to_tables_of_others_as_well():
    theirs = {"connector", "scan.watermark.idle-timeout"}
    derived = {name for name, option in KNOWN.items() if option.on != "source"} - theirs
    assert derived <= OUR_OPTIONS
    assert set(KNOWN) - {"connector"} <= FEED_OPTIONS_OF_OURS
