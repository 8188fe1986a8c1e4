"""Positions and cursors. A position names the *next* event to read; a cursor is one position a partition, as text."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass

from penstock.errors import PenstockError

__all__ = ["Cursor", "Position"]

CURSOR_CHARS_MAX = 200


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """(epoch, partition, next offset). `epoch` changes only when a stream is recreated or restored."""

    epoch: int
    partition: int
    next: int


@dataclass(frozen=True, slots=True)
class Cursor:
    """The place *after* an event of a topic, over all its partitions (`next[i]` belongs to partition i).

    Text form: base64url of `1.<crc of the topic name, hex>.<epoch>.<next>.<next>...`, at most 200 characters.
    """

    topic: str
    epoch: int
    next: tuple[int, ...]

    def text(self) -> str:
        """The opaque text that clients keep."""
        body = ".".join(["1", _mark(self.topic), f"{self.epoch:x}", *(f"{n:x}" for n in self.next)])
        return base64.urlsafe_b64encode(body.encode()).rstrip(b"=").decode()

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
        if version != "1" or mark != _mark(topic) or not offsets or min(cursor.next) < 0 or cursor.text() != text:
            raise bad
        return cursor


def _mark(topic: str) -> str:
    return f"{binascii.crc32(topic.encode()):08x}"
