"""Positions and cursors. A position names the *next* event to read; a cursor is one position a partition, as text."""

from __future__ import annotations

import base64
import binascii
from binascii import b2a_base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from penstock.errors import PenstockError

__all__ = ["Cursor", "Position"]

CURSOR_CHARS_MAX = 200
_NUMBER_MAX = 2**63 - 1  # logs keep offsets in 64 bits


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """(epoch, partition, next offset). `epoch` changes only when a stream is recreated or restored."""

    epoch: int
    partition: int
    next: int
    offsets: tuple[int, ...] = field(default=(), compare=False, repr=False)  # of the batch's events, if not adjoining

    def last(self, count: int) -> Sequence[int]:
        """The next offsets after each of the last `count` events of the batch that ends here."""
        if self.offsets:
            return [offset + 1 for offset in self.offsets[-count:]]
        return range(self.next - count + 1, self.next + 1)


@dataclass(frozen=True, slots=True)
class Cursor:
    """The place *after* an event of a topic, over all its partitions (`next[i]` belongs to partition i).

    Text form: base64url of `1.<crc of the topic name, hex>.<epoch>.<next>.<next>...`, at most 200 characters: with
    offsets below 2^32 there is room for 15 partitions.
    """

    topic: str
    epoch: int
    next: tuple[int, ...]

    def text(self) -> str:
        """The opaque text that clients keep. ValueError if the topic has too many partitions for it."""
        body = ".".join(["1", _mark(self.topic), f"{self.epoch:x}", *(f"{n:x}" for n in self.next)])
        text = base64.urlsafe_b64encode(body.encode()).rstrip(b"=").decode()
        if len(text) > CURSOR_CHARS_MAX:
            raise ValueError(f"{len(self.next)} partitions of '{self.topic}' do not fit into a cursor; declare fewer")
        return text

    def texts(self, partition: int, offsets: Iterable[int]) -> list[bytes]:
        """`text()` of this cursor with each of `offsets` as the next one of `partition`; four times as fast."""
        before = ".".join(["1", _mark(self.topic), f"{self.epoch:x}", *(f"{n:x}" for n in self.next[:partition]), ""])
        after = "".join(f".{n:x}" for n in self.next[partition + 1 :])
        # Digits, letters a to f and dots never give '+' or '/', so plain base64 is base64url here.
        return [b2a_base64(f"{before}{n:x}{after}".encode(), newline=False).rstrip(b"=") for n in offsets]

    @classmethod
    def parse(cls, topic: str, text: str) -> Cursor:
        """Read a cursor for `topic`; `bad_cursor` if it is garbled or belongs to another topic."""
        bad = PenstockError("bad_cursor", f"'{text[:40]}' is not a cursor of {topic}; use one from its events, "
                                          "'earliest' or 'latest'")  # fmt: skip
        if not text or len(text) > CURSOR_CHARS_MAX:
            raise bad
        try:
            raw = base64.urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4)).decode("ascii")
            version, mark, epoch, *offsets = raw.split(".")
            cursor = cls(topic, int(epoch, 16), tuple(int(o, 16) for o in offsets))
        except (ValueError, UnicodeError, binascii.Error):
            raise bad from None
        if version != "1" or mark != _mark(topic) or not offsets:
            raise bad
        numbers = (cursor.epoch, *cursor.next)
        if min(numbers) < 0 or max(numbers) > _NUMBER_MAX or cursor.text() != text:
            raise bad
        return cursor


def _mark(topic: str) -> str:
    return f"{binascii.crc32(topic.encode()):08x}"
