"""The catalog as records of one topic: each holds all of it; the newest is in force. Pure.

Beside streams and apps: where the epoch in force of each stream begins in each partition, and at which version of the
catalog each app was deployed first: state of an app that had the same name before is not its state.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from penstock.logs.catalog_change import CatalogChange, CatalogState
from penstock.logs.kafka_client import TopicPart
from penstock.logs.kafka_names import Names
from penstock.logs.kafka_records import Record
from penstock.logs.settings import LogSettings
from penstock.model.stream import Relation, StreamSpec
from penstock.ports.log import AppRecord, Catalog

__all__ = ["CATALOG_KEY", "ClusterCatalog", "after_change", "catalog_text", "newest_catalog", "topics_of"]

CATALOG_KEY = b"catalog"


@dataclass(frozen=True, slots=True)
class ClusterCatalog:
    """The catalog and what only this adapter knows of it."""

    state: CatalogState = field(default_factory=CatalogState)
    starts: Mapping[str, Sequence[int]] = field(default_factory=dict)  # first offset of the epoch, by partition
    born: Mapping[str, int] = field(default_factory=dict)  # app -> catalog version of its first deployment

    def start(self, stream: str, partition: int) -> int:
        """First offset of the stream's epoch."""
        starts = self.starts.get(stream, ())
        return starts[partition] if partition < len(starts) else 0


class _Text(msgspec.Struct):
    version: int
    streams: list[StreamSpec]
    apps: list[AppRecord]
    epochs: dict[str, int]
    starts: dict[str, list[int]]
    born: dict[str, int]


_decoder = msgspec.json.Decoder(_Text)


def catalog_text(catalog: ClusterCatalog) -> bytes:
    """The value of the catalog's record."""
    state = catalog.state
    return msgspec.json.encode(
        _Text(
            state.catalog.version,
            list(state.catalog.streams.values()),
            list(state.catalog.apps.values()),
            dict(state.epochs),
            {name: list(starts) for name, starts in catalog.starts.items()},
            dict(catalog.born),
        )
    )


def newest_catalog(records: Sequence[Record]) -> ClusterCatalog | None:
    """The catalog of the last record; None if there is none."""
    values = [record.value for record in records if record.value is not None]
    if not values:
        return None
    text = _decoder.decode(values[-1])
    streams = {spec.name: spec for spec in text.streams}
    catalog = Catalog(text.version, streams, {app.name: app for app in text.apps})
    return ClusterCatalog(CatalogState(catalog, text.epochs), text.starts, text.born)


def after_change(
    before: ClusterCatalog,
    change: CatalogChange,
    ends: Mapping[TopicPart, int],
    *,
    begins: Mapping[str, Sequence[int]],
) -> ClusterCatalog:
    """The catalog after a change.

    `ends`: where events of changed streams end, by (stream, partition); `begins`: where topics of others begin that
    are declared now.
    """
    starts = {name: list(offsets) for name, offsets in before.starts.items()}
    for name in change.changed:
        known = starts.setdefault(name, [])
        count = max([len(known), *(partition + 1 for stream, partition in ends if stream == name)])
        known.extend([0] * (count - len(known)))
        for partition in range(count):
            known[partition] = max(known[partition], ends.get((name, partition), 0))
    starts.update({name: list(offsets) for name, offsets in begins.items()})
    version, apps = change.state.catalog.version, change.state.catalog.apps
    born = {name: before.born.get(name, version) for name in apps}
    return ClusterCatalog(change.state, starts, born)


def topics_of(
    streams: Sequence[StreamSpec], names: Names, settings: LogSettings
) -> dict[str, tuple[int, dict[str, str]]]:
    """Topics of streams: number of partitions and settings. Brokers keep events by their own clock."""
    topics = {}
    for spec in streams:
        if spec.topic:
            continue  # others made it
        retention_s = settings.retention_s if spec.retention_s is None else spec.retention_s
        config = {
            "retention.ms": str(round(retention_s * 1000)),
            "cleanup.policy": "delete",
            "message.timestamp.type": "LogAppendTime",
        }
        topics[names.stream(spec.name)] = (spec.partitions, config)
        if spec.relation is Relation.SOURCE:
            topics[names.inlet(spec.name)] = (spec.partitions, config)
    return topics
