"""The time by which unused state is forgotten: the app's clock, which here never goes back, restarts included.

What has outlived its time is invisible at once and cleared later, without a word in the log. Were the clock believed
when it is set back, or when a restart finds it behind, rows would be seen again that results were made without.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from penstock.ports.log import DeltaKind, StateDelta

__all__ = ["Elapsed"]


class Elapsed:
    """State is the latest time that a cycle which changed something went by, epoch milliseconds; 0: none yet."""

    id = "elapsed"

    def __init__(self) -> None:
        self._now_ms = 0
        self._told_ms = 0

    def at(self, now_ms: int) -> int:
        """The time to go by when the clock shows `now_ms`; 0 stands still."""
        return max(now_ms, self._now_ms) if now_ms else 0

    def moved(self, now_ms: int) -> None:
        """A cycle went by this time."""
        self._now_ms = max(now_ms, self._now_ms)

    def delta(self) -> StateDelta | None:
        """What to keep of a cycle that changed something; None if the time is that of the last one."""
        if self._now_ms == self._told_ms:
            return None
        self._told_ms = self._now_ms
        return self.compact()

    def restore(self, deltas: Sequence[StateDelta]) -> None:
        """See `Stateful`."""
        if deltas:
            self._now_ms = self._told_ms = msgspec.json.decode(deltas[-1].payload, type=int)

    def compact(self) -> StateDelta:
        """See `Stateful`."""
        return StateDelta(self.id, DeltaKind.REPLACE, msgspec.json.encode(self._now_ms))

    def size(self) -> int:
        """See `Stateful`."""
        return 0  # of rows
