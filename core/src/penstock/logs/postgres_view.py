"""What a process knows of the PostgreSQL log: catalog, heads, recent batches. Its own commits and news move it on."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence

from penstock.logs.admissible import raised
from penstock.logs.catalog_change import CatalogState
from penstock.logs.tail import TailCache
from penstock.logs.ticks import CATALOG, Ticks
from penstock.model.batch import Batch
from penstock.ports.log import Head

__all__ = ["View"]

StreamPartition = tuple[str, int]


class View:
    """Knows of nothing that is not committed, and never goes back: news may overtake each other.

    `on_void` is called when batches of a stream have become void.
    """

    def __init__(self, *, tail_cache_bytes: int, on_void: Callable[[], None]) -> None:
        self.state = CatalogState()
        self.writer = ""  # identity of this process as an appender of ids
        self.heads: dict[StreamPartition, Head] = {}
        self.tail = TailCache(tail_cache_bytes)
        self.ticks = Ticks()
        self._on_void = on_void
        self.rename()

    def rename(self) -> None:
        """Take a new identity: what was appended under the old one counts as another writer's."""
        self.writer = secrets.token_hex(6)

    def head(self, stream: str, partition: int) -> Head:
        """The head in the epoch of the catalog; raises as `CatalogState.partition`."""
        self.state.partition(stream, partition)
        epoch = self.state.epochs[stream]
        head = self.heads.get((stream, partition))
        if head is None:
            return Head(epoch, 0, 0, None)
        return head if head.epoch >= epoch else Head(epoch, head.next, head.next, None)

    def adopt(self, state: CatalogState) -> None:
        """Take over a catalog, unless it is older than the one that is known."""
        before = self.state
        if state.catalog.version <= before.catalog.version:
            return
        self.state = state
        renewed = {name for name, epoch in state.epochs.items() if before.epochs.get(name) != epoch}
        gone = before.catalog.streams.keys() - state.catalog.streams.keys()
        for stream in renewed | gone:
            self.tail.forget(stream)
        self.ticks.bump({CATALOG, *renewed, *gone})
        if before.catalog.version:
            self._on_void()

    def learn(self, heads: Mapping[StreamPartition, Head], batches: Sequence[Batch] = ()) -> bool:
        """Take over heads, and batches that this process has just committed. Whether anything is new."""
        changed = {key[0] for key, head in heads.items() if self._take(key, head)}
        for batch in batches:
            if batch.epoch == self.state.epochs.get(batch.stream):
                self.tail.add(batch)
        self.ticks.bump(changed)
        return bool(changed)

    def lost(self, before: Mapping[StreamPartition, Head], told: Mapping[StreamPartition, Head]) -> list[str]:
        """Partitions that end earlier than was known `before` the database was asked: it forgot what it had."""
        return [
            f"{stream}/{partition}"
            for (stream, partition), head in before.items()
            if (now := told.get((stream, partition))) is None or now.next < head.next
        ]

    def _take(self, key: StreamPartition, head: Head) -> bool:
        known = self.heads.get(key)
        if known is not None:
            if known.epoch > head.epoch:
                return False
            if known.epoch == head.epoch:
                first, next_offset = max(known.first, head.first), max(known.next, head.next)
                head = Head(head.epoch, first, next_offset, raised(known.watermark_ms, head.watermark_ms))
            if known.first != head.first:
                self.tail.trim(*key, first=head.first)
        self.heads[key] = head
        return known != head
