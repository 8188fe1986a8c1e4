"""How far the inlets are taken: records of one topic, each with all positions, written with what was admitted."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import msgspec

from penstock.logs.kafka_client import Cluster
from penstock.logs.kafka_names import Names
from penstock.logs.kafka_producer import Portion
from penstock.logs.kafka_reader import RangeReader
from penstock.logs.kafka_records import Outgoing
from penstock.logs.kafka_streams import KafkaStreams

__all__ = ["InletPositions"]

_FIRST_SPAN = 8  # records read back from the end for the newest; grows by this factor

StreamPartition = tuple[str, int]

_entries = msgspec.json.Decoder(list[tuple[str, int, int]])


class InletPositions:
    """The positions in force, for the one process that may write them. A consumer group's would expire."""

    def __init__(self, cluster: Cluster, names: Names, *, streams: KafkaStreams, reader: RangeReader) -> None:
        self._cluster, self._names, self._streams, self._reader = cluster, names, streams, reader
        self._offset: int | None = None
        self.positions: Mapping[StreamPartition, int] = {}

    async def read(self) -> None:
        """Learn the newest committed ones."""
        part = (self._names.inlets, 0)
        (first,), end = await asyncio.gather(self._cluster.starts([part]), self._streams.settled_end(part))
        span = _FIRST_SPAN
        while True:
            start = max(first, end - span)
            records = [r for r in await self._reader.all_of(part, start, end) if r.value]
            if records or start <= first:
                break
            span *= _FIRST_SPAN
        self.positions, self._offset = {}, None
        if records:
            entries = _entries.decode(records[-1].value or b"[]")
            self.positions = {(stream, partition): offset for stream, partition, offset in entries}
            self._offset = records[-1].offset

    def portion(self, positions: Mapping[StreamPartition, int]) -> Portion:
        """The record of these positions, for the transaction that moves them."""
        value = msgspec.json.encode([(*key, offset) for key, offset in sorted(positions.items())])
        return Portion((self._names.inlets, 0), [Outgoing(None, value, None)])

    def moved(self, positions: Mapping[StreamPartition, int], offset: int) -> None:
        """They are committed, at this offset."""
        self.positions, self._offset = positions, offset

    async def trim(self) -> None:
        """Delete what is older than the newest."""
        if self._offset is not None:
            await self._cluster.delete_before({(self._names.inlets, 0): self._offset})
