"""Options of `WITH ('option' = 'value')`: which exist, where they apply, what they mean. Pure text work.

One table (`KNOWN`) names them all; docs/sql.md and the error messages come from it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from penstock.expressions.nodes import Span
from penstock.model.stream import Relation
from penstock_processor.logical.durations import duration_ms
from penstock_processor.logical.kafka_options import ForeignTopic, is_kafka, read_kafka_options
from penstock_processor.logical.outlet_options import is_feed, is_outlet, read_feed, read_outlet
from penstock_processor.sql.findings import Findings, closest
from penstock_processor.sql.statements import OptionText

__all__ = ["KNOWN", "Option", "TableOptions", "read_options"]

PARTITIONS_MAX = 256
_SCOPE = re.compile(r"[!#-\[\]-~]{1,128}")  # RFC 6749 section 3.3, one scope-token
_LATER_CONNECTORS = ("upsert-kafka", "filesystem", "jdbc", "http", "websocket", "print", "datagen", "mqtt")


@dataclass(frozen=True, slots=True)
class Option:
    """`on`: what it applies to. `meaning` is one line of the documentation."""

    on: Literal["any", "source", "derived"]
    meaning: str


KNOWN: dict[str, Option] = {
    "connector": Option("any", "'penstock', or a system of others: see docs/connectors.md."),
    "key": Option("any", "Columns of the partition key, also the envelope's `k`; the primary key for tables."),
    "partitions": Option(
        "source",
        "Number of partitions, fixed at creation; 1 by default. With 'parallelism.default' a multiple of it, and it "
        "by default; derived tables have just as many.",
    ),
    "publish": Option("derived", "'true' (default): subscribers may read it as a topic."),
    "store": Option("derived", "'true' (default): kept in the store and served by the data service."),
    "scope": Option("any", "Scope that a subscriber needs; `<name>:read` by default."),
    "retention": Option("any", "How long events stay in the log, such as '7 d'; the log's default otherwise."),
    "dedupe": Option("source", "Columns that identify an event, or 'none'; `id` where such a column exists."),
    "unknown": Option("source", "Fields that are no column: 'ignore' (default) or 'reject' the event."),
    "emit": Option("derived", "'final' (default), or 'early': also update the table while a window is open."),
    "late": Option("any", "'reject' (default), or 'update': late rows still count in windows that have ended."),
    "lateness": Option("derived", "Of 'late' = 'update': how long after the end of a window, such as '1 h'."),
    "archive": Option("source", "'true' (default): events go to Parquet files before the log lets go of them."),
    "max-ahead": Option("source", "An event time further in the future is rejected; '1 d' by default."),
    "scan.watermark.idle-timeout": Option("any", "A partition without events for so long no longer holds time back."),
}


@dataclass(frozen=True, slots=True)
class TableOptions:
    """The options of one table, read; None: not given."""

    key: tuple[str, ...] | None = None
    partitions: int = 1
    publish: bool | None = None
    store: bool | None = None
    scope: str | None = None
    retention_s: float | None = None
    dedupe: tuple[str, ...] | None = None
    unknown: Literal["ignore", "reject"] = "ignore"
    emit: Literal["final", "early"] = "final"
    max_ahead_s: float | None = None
    idle_timeout_ms: int | None = None
    lateness_ms: int = 0
    archive: bool | None = None
    foreign: ForeignTopic | None = None
    outlet: bool = False  # delivered to a system of others


def read_options(
    written: tuple[OptionText, ...],
    *,
    at: Span,
    relation: Relation,
    columns: Mapping[str, object],
    primary_key: tuple[str, ...],
    findings: Findings,
    parallelism: int = 1,
) -> TableOptions:
    """Reads and checks the options of one table; what is wrong is noted in `findings` and left at its default.

    `parallelism`: tasks that share the app, each with partitions of its own.
    """
    reader = _Reader(relation, columns, primary_key, findings, parallelism)
    foreign = None
    outlet = is_outlet(written, relation)
    if outlet:
        written = read_outlet(written, at=at, relation=relation, columns=columns, findings=findings)
        reader.is_theirs = True
    elif is_feed(written, relation):
        written = read_feed(written, at=at, findings=findings)
        reader.is_theirs = True
    elif is_kafka(written):
        foreign, written = read_kafka_options(written, at=at, findings=findings)
        reader.is_foreign = True
    given: dict[str, OptionText] = {}
    for option in written:
        if option.name in given:
            findings.add(
                option.span,
                "duplicate_option",
                message=f"Option '{option.name}' is given twice.",
                remedy="Keep one of them.",
            )
        elif reader.applies(option):
            given[option.name] = option
    reader.connector(given.get("connector"), at=at, any_written=bool(written))
    return TableOptions(
        key=reader.key(given.get("key")),
        partitions=reader.partitions(given.get("partitions")),
        publish=reader.flag(given.get("publish")),
        store=reader.flag(given.get("store")),
        scope=reader.scope(given.get("scope")),
        retention_s=_seconds(reader.duration(given.get("retention"))),
        dedupe=reader.dedupe(given.get("dedupe")),
        unknown="reject" if reader.choice(given.get("unknown"), ("ignore", "reject")) == "reject" else "ignore",
        emit="early" if reader.emit(given.get("emit")) else "final",
        max_ahead_s=_seconds(reader.duration(given.get("max-ahead"))),
        idle_timeout_ms=reader.duration(given.get("scan.watermark.idle-timeout")),
        lateness_ms=reader.lateness(given.get("late"), given.get("lateness")),
        archive=reader.flag(given.get("archive")),
        foreign=foreign,
        outlet=outlet,
    )


class _Reader:
    """Reads one value each; a wrong one is noted at its place and becomes None."""

    def __init__(
        self,
        relation: Relation,
        columns: Mapping[str, object],
        primary_key: tuple[str, ...],
        findings: Findings,
        parallelism: int,
    ) -> None:
        self._relation = relation
        self._parallelism = parallelism
        self._columns = columns
        self._primary_key = primary_key
        self._findings = findings
        self.is_foreign = False  # a topic that others fill
        self.is_theirs = False  # delivered to a system of others, or fetched from one; its connector is known

    def applies(self, option: OptionText) -> bool:
        """Whether the option exists, is supported, and belongs to this kind of table."""
        known = KNOWN.get(option.name)
        if known is None:
            self._findings.add(
                option.span,
                "unknown_option",
                message=f"There is no option '{option.name}'.",
                remedy=closest(option.name, KNOWN, otherwise=f"Options are {', '.join(KNOWN)}."),
            )
            return False
        source = self._relation is Relation.SOURCE
        if self.is_foreign and option.name == "publish":
            return True
        if known.on == "derived" and source and option.value.lower() != "false":
            self._findings.add(
                option.span,
                "option_misplaced",
                message=f"'{option.name}' belongs to a table that is written to; nothing writes to this one.",
                remedy="Give it to a derived table: CREATE TABLE name WITH (...) AS SELECT * FROM this one.",
            )
            return False
        if option.name == "partitions" and not source:
            return self._derived_partitions(option)
        if known.on == "source" and not source:
            self._findings.add(
                option.span,
                "option_misplaced",
                message=f"'{option.name}' belongs to a source in this version; a statement writes this table.",
                remedy=f"Remove '{option.name}' here, or give it to the source that events come into.",
            )
            return False
        return True

    def _derived_partitions(self, option: OptionText) -> bool:
        """Each task writes one partition of a derived table."""
        if option.value != str(self._parallelism):
            self._findings.add(
                option.span,
                "option_misplaced",
                message=f"A table that statements write has as many partitions as tasks write it: "
                f"{self._parallelism}.",
                remedy="Remove 'partitions' here, or set the number of tasks with SET 'parallelism.default' = "
                f"'{option.value[:9]}' if its sources are to be shared as well.",
            )
            return False
        return True

    def connector(self, option: OptionText | None, *, at: Span, any_written: bool) -> None:
        if option is None:
            self._findings.add(
                at,
                "no_connector",
                message="The table names no connector." if any_written else "The table has no options.",
                remedy="Write WITH ('connector' = 'penstock').",
            )
        elif option.value == "kafka" or self.is_theirs:
            pass
        elif option.value in _LATER_CONNECTORS:
            self._bad(
                option,
                "unsupported",
                f"The connector '{option.value}' is not in this version.",
                "Use 'penstock' and send events to the ingest gateway.",
            )
        elif option.value != "penstock":
            self._bad(option, "unknown_connector", f"There is no connector '{option.value}'.", "Write 'penstock'.")

    def key(self, option: OptionText | None) -> tuple[str, ...] | None:
        names = self._names(option)
        if names and self._primary_key and option is not None and names != self._primary_key:
            self._bad(
                option,
                "bad_option",
                "The key of a table is its primary key.",
                f"Remove 'key', or write '{','.join(self._primary_key)}'.",
            )
            return None
        return names

    def dedupe(self, option: OptionText | None) -> tuple[str, ...] | None:
        return () if option is not None and option.value == "none" else self._names(option)

    def partitions(self, option: OptionText | None) -> int:
        if option is None:
            return self._parallelism
        if (
            not option.value.isascii()
            or not option.value.isdigit()
            or not 1 <= int(option.value[:9]) <= PARTITIONS_MAX
        ):
            self._bad(
                option,
                "bad_option",
                f"'{option.value}' is not a number of partitions.",
                f"Write a number from 1 to {PARTITIONS_MAX}.",
            )
            return self._parallelism
        if int(option.value) % self._parallelism:
            more = -(-int(option.value) // self._parallelism) * self._parallelism
            self._bad(
                option,
                "bad_option",
                f"{option.value} partitions cannot be shared evenly by {self._parallelism} tasks "
                "('parallelism.default').",
                f"Write '{more}' or another multiple of {self._parallelism}, or change 'parallelism.default'.",
            )
            return self._parallelism
        return int(option.value)

    def flag(self, option: OptionText | None) -> bool | None:
        chosen = self.choice(option, ("true", "false"))
        return None if chosen is None else chosen == "true"

    def scope(self, option: OptionText | None) -> str | None:
        if option is not None and not _SCOPE.fullmatch(option.value):
            self._bad(
                option,
                "bad_option",
                f"'{option.value}' is not one scope.",
                "Write one word without spaces, quotes or backslashes, such as 'lots:read'.",
            )
            return None
        return None if option is None else option.value

    def duration(self, option: OptionText | None) -> int | None:
        if option is None:
            return None
        found = duration_ms(option.value)
        if not found:
            self._bad(
                option,
                "bad_option",
                f"'{option.value}' is not a duration.",
                "Write a number and a unit, such as '7 d', '24 h', '10 min', '30 s'.",
            )
        return found or None

    def choice(self, option: OptionText | None, choices: tuple[str, ...]) -> str | None:
        if option is None:
            return None
        if option.value.lower() not in choices:
            self._bad(
                option,
                "bad_option",
                f"'{option.value}' is no value of '{option.name}'.",
                closest(option.value, choices, otherwise=f"Write {' or '.join(repr(c) for c in choices)}."),
            )
            return None
        return option.value.lower()

    def emit(self, option: OptionText | None) -> bool:
        early = self.choice(option, ("final", "early")) == "early"
        if early and option is not None and not self._primary_key:
            self._bad(
                option,
                "early_needs_key",
                "'emit' = 'early' updates rows, so the table needs a primary key.",
                "Add PRIMARY KEY (<the GROUP BY columns>) NOT ENFORCED, or remove 'emit'.",
            )
            return False
        return early

    def lateness(self, late: OptionText | None, lateness: OptionText | None) -> int:
        """How long late rows may update the table, in milliseconds; 0: not at all."""
        update = self.choice(late, ("reject", "update")) == "update"
        if update and late is not None and self._relation is Relation.SOURCE:
            self._bad(
                late,
                "option_misplaced",
                "'late' = 'update' belongs to the table that windows are written to.",
                "Give it to that table, with 'lateness'.",
            )
        elif update and late is not None and lateness is None:
            self._bad(
                late,
                "unbounded_state",
                "'late' = 'update' without 'lateness' would keep every window for ever.",
                "Add 'lateness' = '1 h': how long after its end a window still counts rows.",
            )
        elif lateness is not None and not update:
            self._bad(lateness, "bad_option", "'lateness' belongs to 'late' = 'update'.", "Add that, or remove it.")
        elif update and late is not None and not self._primary_key:
            self._bad(
                late,
                "late_needs_key",
                "'late' = 'update' updates rows, so the table needs a primary key.",
                "Add PRIMARY KEY (<the GROUP BY columns>) NOT ENFORCED, or remove 'late'.",
            )
        elif update:
            return self.duration(lateness) or 0
        return 0

    def _names(self, option: OptionText | None) -> tuple[str, ...] | None:
        if option is None:
            return None
        names = tuple(name.strip() for name in option.value.split(","))
        for name in names:
            if name not in self._columns:
                self._bad(
                    option,
                    "unknown_column",
                    f"'{option.name}' names '{name}', which is no physical column.",
                    closest(name, self._columns, otherwise=f"Columns are {', '.join(self._columns)}."),
                )
                return None
        if len(set(names)) != len(names):
            self._bad(option, "bad_option", f"'{option.name}' names a column twice.", "Name each once.")
            return None
        return names

    def _bad(self, option: OptionText, code: str, message: str, remedy: str) -> None:
        self._findings.add(option.value_span, code, message=message, remedy=remedy)


def _seconds(ms: int | None) -> float | None:
    return None if ms is None else ms / 1000
