"""Hashes of dedupe keys as they are read back: for a gateway that starts, and for one that learns of another's."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from penstock.logs.kafka_client import Cluster
from penstock.logs.kafka_names import Names
from penstock.logs.kafka_reader import RangeReader
from penstock.logs.kafka_records import Record
from penstock.logs.kafka_streams import KafkaStreams
from penstock.logs.settings import LogSettings

__all__ = ["KafkaIds"]

Entries = list[tuple[int, bytes]]


class KafkaIds:
    """The topics of hashes. A mark (`Log.ids_after`) is an offset in a stream's topic."""

    def __init__(
        self, cluster: Cluster, names: Names, *, streams: KafkaStreams, reader: RangeReader, settings: LogSettings
    ) -> None:
        self._cluster, self._names, self._streams, self._reader = cluster, names, streams, reader
        self._limit_bytes = settings.ids_read_max_bytes
        self._existing: set[str] = set()

    async def since(self, stream: str, since_ms: int) -> Entries:
        """See `Log.ids`."""
        end = await self.end(stream)
        return [entry for entry in await self._read(stream, 0, end) if entry[0] >= since_ms] if end else []

    async def after(self, stream: str, mark: int | None) -> tuple[Entries, int]:
        """See `Log.ids_after`; those of this process are among them."""
        end = await self.end(stream)
        if mark is None or end <= mark:
            return [], end
        return await self._read(stream, mark, end), end

    async def end(self, stream: str) -> int:
        """Where a stream's hashes end; 0 if there never were any."""
        self._streams.catalog.state.stream(stream)
        topic = self._names.ids(stream)
        if topic not in self._existing:
            if topic not in await self._cluster.topics():
                return 0
            self._existing.add(topic)
        return await self._streams.settled_end((topic, 0))

    async def _read(self, stream: str, start: int, end: int) -> Entries:
        part = (self._names.ids(stream), 0)
        (first,), epoch = await self._cluster.starts([part]), self._streams.catalog.state.epochs[stream]
        records = await self._reader.all_of(part, max(first, start), end)
        return _newest(await asyncio.to_thread(_entries_of, records, b"%d" % epoch), self._limit_bytes)


def _entries_of(records: Sequence[Record], epoch: bytes) -> Entries:
    entries = []
    for record in records:
        stamp = dict(record.headers or ())
        if stamp.get("epoch") == epoch and record.value:
            entries.append((int(stamp.get("at_ms") or 0), record.value))
    return entries


def _newest(entries: list[tuple[int, bytes]], limit_bytes: int) -> list[tuple[int, bytes]]:
    size_bytes = 0
    for i in range(len(entries) - 1, -1, -1):
        size_bytes += len(entries[i][1])
        if size_bytes > limit_bytes:
            return entries[i + 1 :]
    return entries
