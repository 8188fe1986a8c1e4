"""Topics that others fill: read where they lie, never made, changed or emptied."""

from __future__ import annotations

from collections.abc import Sequence

from penstock.errors import PenstockError
from penstock.logs.catalog_change import CatalogChange, CatalogState
from penstock.logs.kafka_client import Cluster
from penstock.logs.kafka_names import Names
from penstock.model.stream import StreamSpec

__all__ = ["begins_of"]


async def begins_of(
    cluster: Cluster, names: Names, before: CatalogState, change: CatalogChange
) -> dict[str, Sequence[int]]:
    """Where the topics begin that are declared by this change; [] for those that it drops.

    `bad_request` if there is no such topic, or with another number of partitions, or if it is one of this log's own;
    `conflict` if two tables name the same.
    """
    _check_owners(names, change.state)
    streams = change.state.catalog.streams
    begins: dict[str, Sequence[int]] = {name: [] for name in change.dropped if before.stream(name).topic}
    declared = [streams[name] for name in change.renewed if streams[name].topic]
    topics = await cluster.topics() if declared else {}
    for spec in declared:
        _check(spec, topics.get(spec.topic))
        parts = [(spec.topic, partition) for partition in range(spec.partitions)]
        begins[spec.name] = await (cluster.ends(parts) if spec.startup == "latest" else cluster.starts(parts))
    return begins


def _check_owners(names: Names, state: CatalogState) -> None:
    """A topic is followed for one stream; ours are not foreign, whoever was declared first."""
    specs = state.catalog.streams.values()
    foreign: dict[str, str] = {}
    for spec in [spec for spec in specs if spec.topic]:
        if spec.topic in foreign:
            raise PenstockError(
                "conflict",
                f"table '{spec.name}': topic '{spec.topic}' is table '{foreign[spec.topic]}' already; read that one",
            )
        foreign[spec.topic] = spec.name
        if spec.topic.startswith(names.own):
            raise PenstockError("bad_request", f"table '{spec.name}': '{spec.topic}' belongs to Penstock itself")
    for spec in [spec for spec in specs if not spec.topic]:
        for topic in (names.stream(spec.name), names.inlet(spec.name)):
            if topic in foreign:
                raise PenstockError(
                    "conflict",
                    f"topic '{topic}' of table '{foreign[topic]}' is that of '{spec.name}'; rename one, or give "
                    "the log a prefix: --log kafka://host:port/prefix",
                )


def _check(spec: StreamSpec, partitions: int | None) -> None:
    if partitions is None:
        raise PenstockError(
            "bad_request",
            f"table '{spec.name}': the brokers have no topic '{spec.topic}'; make it, or correct 'topic'",
        )
    if partitions != spec.partitions:
        raise PenstockError(
            "bad_request",
            f"table '{spec.name}': topic '{spec.topic}' has {partitions} partitions, not {spec.partitions}; "
            f"write 'partitions' = '{partitions}'",
        )
