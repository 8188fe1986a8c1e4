"""What a gateway says beside a record that it leaves in the inlet: the header `penstock`, as JSON. Pure.

A record without it is an event. With it, it is an event that the gateway has refused already (`code`, `detail`), a
corrected event that replaces a rejected one (`replays`), or the word that a stream is complete (`through_ms`), which
holds once every partition of the inlet has been taken up to `after`.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

__all__ = ["NOTE_HEADER", "Note", "note_of"]

NOTE_HEADER = "penstock"


class Note(msgspec.Struct, frozen=True, omit_defaults=True):
    """See the module; of the three kinds one."""

    code: str = ""
    detail: str = ""
    replays: str = ""
    through_ms: int | None = None
    after: tuple[int, ...] = ()

    @property
    def is_order(self) -> bool:
        """Whether it is more than an event: it is dealt with alone."""
        return bool(self.replays) or self.through_ms is not None

    def header(self) -> Mapping[str, bytes]:
        """As the record's header."""
        return {NOTE_HEADER: msgspec.json.encode(self)}


_notes = msgspec.json.Decoder(Note)


def note_of(headers: Mapping[str, bytes]) -> Note | None:
    """The note of a record; None if it has none, or somebody else's header of that name."""
    text = headers.get(NOTE_HEADER)
    if text is None:
        return None
    try:
        return _notes.decode(text)
    except msgspec.MsgspecError:
        return None
