"""A ring: the newest events of one topic, filter and encoding as bytes for the wire, bounded in bytes. Pure.

Chunks are numbered. A reader holds the number of the chunk that it needs next; that and the place where the chunk
begins is all there is to a subscriber that keeps up, so a slow one costs no memory but its own send buffer.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

__all__ = ["Chunk", "Place", "Ring"]

#: Next offsets of a topic, one per partition: the vector inside a cursor.
Place = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Chunk:
    """Frames of `count` events; they lie after `start`, up to and with `end`."""

    data: bytes
    count: int
    start: Place
    end: Place


class Ring:
    """Holds chunks `[first, next)`; `end` is how far the topic has been looked at, matches or not."""

    def __init__(self, end: Place, *, limit_bytes: int) -> None:
        self.first = 0
        self.next = 0
        self.end = end
        self._limit_bytes = limit_bytes
        self._size_bytes = 0
        self._chunks: deque[Chunk] = deque()

    @property
    def size_bytes(self) -> int:
        """Bytes held."""
        return self._size_bytes

    def append(self, data: bytes, count: int, end: Place) -> None:
        """Add a chunk that reaches to `end`; without data only the end moves. The newest chunk is always kept."""
        start, self.end = self.end, end
        if not data:
            return
        self._chunks.append(Chunk(data, count, start, end))
        self.next += 1
        self._size_bytes += len(data)
        while self._size_bytes > self._limit_bytes and len(self._chunks) > 1:
            self._size_bytes -= len(self._chunks.popleft().data)
            self.first += 1

    def chunk(self, number: int) -> Chunk:
        """The chunk of that number; IndexError if it is not held."""
        if not self.first <= number < self.next:
            raise IndexError(number)
        return self._chunks[number - self.first]

    def newest(self) -> Chunk:
        """The last chunk; IndexError if there is none."""
        return self._chunks[-1]

    def start_of(self, number: int) -> Place:
        """Where chunk `number` begins; the end for the one that comes next."""
        return self.end if number >= self.next else self.chunk(number).start

    def run(self, number: int, *, limit_bytes: int) -> tuple[bytes, int, int]:
        """Chunks from `number` on as one piece of at least one chunk: (bytes, events, number of the chunk after)."""
        parts: list[bytes] = []
        size_bytes, events = 0, 0
        while number < self.next:
            chunk = self.chunk(number)
            if parts and size_bytes + len(chunk.data) > limit_bytes:
                break
            parts.append(chunk.data)
            size_bytes += len(chunk.data)
            events += chunk.count
            number += 1
        return (parts[0] if len(parts) == 1 else b"".join(parts)), events, number
