"""What a stream or table is: its columns, keys, time attribute and the options of `'connector' = 'penstock'`."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

from penstock.model.types import DataType

__all__ = ["Column", "Relation", "StreamSpec"]


@dataclass(frozen=True, slots=True)
class Column:
    """A physical column: stored in batches, seen by subscribers. Computed columns are the processor's affair."""

    name: str
    type: DataType
    nullable: bool = True


class Relation(StrEnum):
    """SOURCE: no writer, events come from ingest. STREAM: append-only output. TABLE: changelog by primary key."""

    SOURCE = "source"
    STREAM = "stream"
    TABLE = "table"


@dataclass(frozen=True, slots=True)
class StreamSpec:
    """One entry of the catalog: everything ingest, publish and data must know about a stream or table.

    Written by the processor when an app is deployed, read by every role (`Log.catalog`). Physical columns only;
    statements, watermark expressions and computed columns stay in the processor.
    """

    name: str
    app: str
    relation: Relation
    columns: tuple[Column, ...]
    primary_key: tuple[str, ...] = ()
    time_column: str | None = None  # event time: the rowtime column where it is a physical one
    key: tuple[str, ...] = ()  # partition key; envelope key `k` (the primary key for tables)
    partitions: int = 1
    publish: bool = False
    store: bool = False
    scope: str = ""  # needed by a subscriber; `<name>:read` by default
    retention_s: float | None = None  # None: the log's default
    dedupe: tuple[str, ...] = ()  # columns; empty: no dedupe
    unknown: Literal["ignore", "reject"] = "ignore"
    emit: Literal["final", "early"] = "final"
    max_ahead_s: float = 86_400.0  # an event time further in the future is `time_out_of_range`
    options: dict[str, str] = field(default_factory=dict)  # as written in WITH (...)
    internal: Literal["", "repartition", "watermarks"] = ""  # between the tasks of a parallel app; not for others
    topic: str = ""  # sources only: a topic of the log's brokers that others fill, read where it lies
    startup: Literal["earliest", "latest"] = "earliest"  # of such a topic: where it begins when it is declared
    archive: bool = True  # sources only: raw events go to Parquet files before the log lets go of them

    @property
    def read_scope(self) -> str:
        """The scope that a reader needs."""
        return self.scope or f"{self.name}:read"

    def column(self, name: str) -> Column:
        """The column by name; KeyError if there is none."""
        for c in self.columns:
            if c.name == name:
                return c
        raise KeyError(name)
