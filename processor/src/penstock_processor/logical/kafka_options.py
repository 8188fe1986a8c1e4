"""Options of `'connector' = 'kafka'` without a writer: a topic that others fill, on the brokers of the log. Names are
Flink's. (With a writer: `outlet_options`.)

What of Flink's options is not done here is refused, with what to write instead.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

from penstock.errors import SqlError, SqlErrors
from penstock.expressions.nodes import Span
from penstock.model.stream import StreamSpec
from penstock_processor.sql.findings import Findings
from penstock_processor.sql.parse import parse_script
from penstock_processor.sql.statements import CreateTable, OptionText

__all__ = ["KAFKA_OPTIONS", "ForeignTopic", "check_brokers", "is_kafka", "read_kafka_options"]

_SERVERS, _TOPIC, _FORMAT, _STARTUP = "properties.bootstrap.servers", "topic", "format", "scan.startup.mode"
_TOPIC_NAME = re.compile(r"[a-zA-Z0-9._-]{1,249}")
_SERVER = re.compile(r"(?:\[[0-9a-fA-F:]+\]|[a-zA-Z0-9._-]+):[0-9]{1,5}")
_STARTUPS: Mapping[str, Literal["earliest", "latest"]] = {"earliest-offset": "earliest", "latest-offset": "latest"}

#: name -> meaning, for documentation and messages.
KAFKA_OPTIONS: Mapping[str, str] = {
    _TOPIC: "The topic; it must exist.",
    _SERVERS: "Its brokers, which must be those of the log.",
    _FORMAT: "'json': one JSON object a record.",
    _STARTUP: "'earliest-offset' (default) or 'latest-offset': where it begins when the table is declared first.",
}
#: Options of ours that mean nothing where others fill the topic, and why.
_NOT_OURS: Mapping[str, str] = {
    "dedupe": "Nothing is deduplicated where others fill the topic.",
    "unknown": "Events of the topic pass no admission; fields that are no column are ignored.",
    "max-ahead": "Events of the topic pass no admission.",
    "retention": "How long the topic is kept is for who made it.",
    "archive": "The topic is read where it lies and not archived.",
    "store": "The topic is read where it lies.",
}
#: Flink's options that are not done here, by how they begin, and what to do.
_REFUSED: Mapping[str, str] = {
    "value.format": "Write 'format' = 'json'.",
    "key.": "Keys of records are not read as columns; the table's columns are those of the value.",
    "value.": "All columns are those of the value: remove it.",
    "json.": "JSON is read as everywhere in Penstock: what is no row of the table goes to the rejected events.",
    "topic-pattern": "Name one topic with 'topic'.",
    "properties.group.id": "No consumer group is used: positions are in the commits of the app. Remove it.",
    "properties.": "The connection is that of the log (--log): set it there and remove the option.",
    "scan.startup.": "Write 'scan.startup.mode' = 'earliest-offset' or 'latest-offset'.",
    "scan.bounded.": "Topics are read without an end; remove it.",
    "scan.topic-partition-discovery.interval": "The number of partitions is fixed by 'partitions'; remove it.",
    "scan.parallelism": "Use SET 'parallelism.default'.",
    "sink.": "It belongs to a table that statements write to; nothing writes to this one.",
}


@dataclass(frozen=True, slots=True)
class ForeignTopic:
    """A topic that others fill."""

    topic: str
    startup: Literal["earliest", "latest"]


def is_kafka(written: tuple[OptionText, ...]) -> bool:
    """Whether a table is a topic that others fill."""
    return any(option.name == "connector" and option.value == "kafka" for option in written)


def read_kafka_options(
    written: tuple[OptionText, ...], *, at: Span, findings: Findings
) -> tuple[ForeignTopic | None, tuple[OptionText, ...]]:
    """The topic (None: findings say why not), and the options that are ours."""
    before = len(findings)
    given: dict[str, OptionText] = {}
    ours: list[OptionText] = []
    for option in written:
        if option.name in KAFKA_OPTIONS and option.name not in given:
            given[option.name] = option
        elif (refused := _refused(option.name)) is not None:
            message = f"'{option.name}' is not supported with 'connector' = 'kafka'."
            findings.add(option.span, "unsupported", message=message, remedy=refused)
        else:
            ours.append(option)
    for name in (_TOPIC, _SERVERS, _FORMAT):
        if name not in given:
            findings.add(
                at, "missing_option", message=f"'connector' = 'kafka' needs '{name}'.", remedy=KAFKA_OPTIONS[name]
            )
    _check_values(given, findings)
    if len(findings) > before:
        return None, tuple(ours)
    startup = _STARTUPS[given[_STARTUP].value] if _STARTUP in given else "earliest"
    return ForeignTopic(given[_TOPIC].value, startup), tuple(ours)


def check_brokers(sql: str, specs: Collection[StreamSpec], brokers: Collection[str]) -> None:
    """SqlErrors if a topic lies on other brokers than the log's (`Capabilities.brokers`, empty: no Kafka)."""
    foreign = {spec.name for spec in specs if spec.topic}
    if not foreign:
        return
    errors = []
    for statement in parse_script(sql).statements:
        if not isinstance(statement, CreateTable) or statement.name.text not in foreign:
            continue
        named = {option.name: option for option in statement.options}
        if not brokers:
            message, place = (
                "The log is not in Kafka, so topics of Kafka cannot be read.",
                named["connector"].value_span,
            )
            remedy = "Start with --log kafka://host:port; connectors to other systems are for a later version."
        elif not set(_servers(named[_SERVERS].value)) & set(brokers):
            message, place = "The topic lies on other brokers than the log.", named[_SERVERS].value_span
            remedy = f"Name those of the log ({', '.join(sorted(brokers))}); others are for a later version."
        else:
            continue
        errors.append(SqlError(place.line, place.column, "unsupported", message, remedy))
    if errors:
        raise SqlErrors(errors)


def _refused(name: str) -> str | None:
    if name in _NOT_OURS:
        return f"{_NOT_OURS[name]} Remove it."
    return next((remedy for start, remedy in _REFUSED.items() if name.startswith(start)), None)


def _check_values(given: Mapping[str, OptionText], findings: Findings) -> None:
    topic, servers, form, startup = (given.get(name) for name in (_TOPIC, _SERVERS, _FORMAT, _STARTUP))
    if topic is not None and not _TOPIC_NAME.fullmatch(topic.value):
        findings.add(
            topic.value_span, "bad_option", message=f"'{topic.value[:80]}' is not one topic.",
            remedy="Name one topic: up to 249 letters, digits, '.', '_' and '-'.",
        )  # fmt: skip
    if servers is not None and not all(_SERVER.fullmatch(one) for one in _servers(servers.value)):
        findings.add(
            servers.value_span, "bad_option", message=f"'{servers.value[:80]}' names no brokers.",
            remedy="Write 'host:port', several with a comma between.",
        )  # fmt: skip
    if form is not None and form.value != "json":
        findings.add(
            form.value_span, "unsupported", message=f"The format '{form.value[:40]}' is not in this version.",
            remedy="Write 'json'.",
        )  # fmt: skip
    if startup is not None and startup.value not in _STARTUPS:
        findings.add(
            startup.value_span, "unsupported",
            message=f"'{startup.value[:40]}' is not in this version: no consumer group keeps positions.",
            remedy="Write 'earliest-offset' or 'latest-offset'.",
        )  # fmt: skip


def _servers(text: str) -> list[str]:
    return [server.strip() for server in text.split(",")]
