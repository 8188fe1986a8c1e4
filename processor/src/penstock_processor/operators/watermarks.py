"""Watermarks of one relation: per channel (a partition of a source, a writer of a derived relation), and combined.

The combined watermark is the least over channels that are not idle, and never goes back. An idle channel that wakes
is judged against the combined one. Channels that have not been heard of hold it back. (Flink: "Generating
Watermarks", "Dealing With Idle Sources".)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from penstock.ports.log import DeltaKind, StateDelta
from penstock_processor.operators.step import MAX_WATERMARK

__all__ = ["Watermarks", "greatest", "least"]


class _Saved(msgspec.Struct, frozen=True):
    combined: int | None
    channels: dict[str, int | None]
    idle: list[str]


class Watermarks:
    """See the module. All times are epoch milliseconds; None: nothing known yet."""

    def __init__(self, operator: str, channels: Iterable[str]) -> None:
        self.id = operator
        self.combined: int | None = None
        self._channels: dict[str, int | None] = dict.fromkeys(channels)
        self._idle: set[str] = set()
        self._saved = self._dump()

    def observe(self, channel: str, through_ms: int | None) -> None:
        """The channel has rows, or word, that make it complete up to `through_ms`."""
        self._channels[channel] = greatest(self._channels.get(channel), through_ms)

    def set_idle(self, channel: str, idle: bool) -> None:
        """An idle channel holds nothing back until it wakes."""
        if idle:
            self._idle.add(channel)
        else:
            self._idle.discard(channel)

    def advance(self) -> int | None:
        """Combine at the end of a cycle; returns the new combined watermark."""
        active = [at for channel, at in self._channels.items() if channel not in self._idle]
        if active:
            self.combined = greatest(self.combined, least(active))
        return self.combined

    def least_of(self, channels: Iterable[str]) -> int | None:
        """The least watermark of those of these channels that are not idle; None if it is not known, or all are."""
        return least(self._channels.get(channel) for channel in channels if channel not in self._idle)

    def end(self) -> None:
        """The input has ended."""
        self._channels = dict.fromkeys(self._channels, MAX_WATERMARK)
        self._idle.clear()

    def delta(self) -> StateDelta | None:
        """A REPLACE with the whole (small) state if it has changed since the last call."""
        payload = self._dump()
        if payload == self._saved:
            return None
        self._saved = payload
        return StateDelta(self.id, DeltaKind.REPLACE, payload)

    def restore(self, deltas: Sequence[StateDelta]) -> None:
        """The last delta has everything. Channels that are no longer declared are forgotten."""
        if not deltas:
            return
        self._saved = deltas[-1].payload
        saved = msgspec.json.decode(self._saved, type=_Saved)
        self.combined = saved.combined
        self._channels = {channel: saved.channels.get(channel) for channel in self._channels}
        self._idle = set(saved.idle) & self._channels.keys()

    def compact(self) -> StateDelta:
        """The whole state."""
        return StateDelta(self.id, DeltaKind.REPLACE, self._dump())

    def size(self) -> int:
        """Number of channels."""
        return len(self._channels)

    def _dump(self) -> bytes:
        return msgspec.json.encode(_Saved(self.combined, self._channels, sorted(self._idle)))


def least(times: Iterable[int | None]) -> int | None:
    """The least watermark; None as soon as one is unknown, or if there is none."""
    known: list[int] = []
    for at in times:
        if at is None:
            return None
        known.append(at)
    return min(known, default=None)


def greatest(a: int | None, b: int | None) -> int | None:
    """The greater of two watermarks, of which either may be unknown."""
    if a is None:
        return b
    return a if b is None else max(a, b)
