"""The tail cache: recent batches of each partition in memory, so that live readers do not touch the disk."""

from __future__ import annotations

from collections import deque

from penstock.model.batch import Batch

__all__ = ["TailCache"]

StreamPartition = tuple[str, int]


class TailCache:
    """Holds the newest batches of all partitions within one byte limit; the oldest go first, whosever they are."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._size_bytes = 0
        self._tails: dict[StreamPartition, deque[Batch]] = {}
        self._order: deque[Batch] = deque()

    @property
    def size_bytes(self) -> int:
        """Payload bytes held."""
        return self._size_bytes

    def add(self, batch: Batch) -> None:
        """Remember a batch that has just been committed; batches of a partition come in order."""
        self._tails.setdefault((batch.stream, batch.partition), deque()).append(batch)
        self._order.append(batch)
        self._size_bytes += len(batch.payload)
        while self._size_bytes > self._limit_bytes and self._order:
            self._evict(self._order.popleft())

    def read(
        self, stream: str, partition: int, *, offset: int, max_bytes: int, max_batches: int
    ) -> list[Batch] | None:
        """Batches from `offset` on, or None if what is at `offset` is not held (any more).

        Where other processes write to the same partition, the batches that this one has added have gaps between
        them: what is held across a gap is not given.
        """
        tail = self._tails.get((stream, partition))
        if not tail or tail[0].first > offset:
            return None
        newest_first: list[Batch] = []
        for batch in reversed(tail):
            if batch.next <= offset:
                break
            if newest_first and batch.next != newest_first[-1].first:
                return None
            newest_first.append(batch)
        if not newest_first or newest_first[-1].first > offset:
            return None
        out: list[Batch] = []
        size_bytes = 0
        for batch in reversed(newest_first):
            size_bytes += len(batch.payload)
            if out and (size_bytes > max_bytes or len(out) >= max_batches):
                break
            out.append(batch)
        return out

    def end(self, stream: str, partition: int) -> int | None:
        """Where the newest batch that is held ends; None if none is."""
        tail = self._tails.get((stream, partition))
        return tail[-1].next if tail else None

    def forget(self, stream: str) -> None:
        """Drop what is held of a stream: it was recreated or removed."""
        for key in [key for key in self._tails if key[0] == stream]:
            del self._tails[key]
        kept = [batch for batch in self._order if batch.stream != stream]
        self._order = deque(kept)
        self._size_bytes = sum(len(batch.payload) for batch in kept)

    def trim(self, stream: str, partition: int, *, first: int) -> None:
        """Drop batches below `first`, which the log has deleted."""
        tail = self._tails.get((stream, partition))
        if not tail or tail[0].first >= first:
            return
        gone = {id(batch) for batch in tail if batch.next <= first}
        self._tails[stream, partition] = deque(batch for batch in tail if id(batch) not in gone)
        self._order = deque(batch for batch in self._order if id(batch) not in gone)
        self._size_bytes = sum(len(batch.payload) for batch in self._order)

    def _evict(self, batch: Batch) -> None:
        self._size_bytes -= len(batch.payload)
        key = (batch.stream, batch.partition)
        tail = self._tails[key]
        tail.popleft()
        if not tail:
            del self._tails[key]
