"""Ids of rejected events: sortable by time, unique in a log, also over a restart within the same millisecond."""

from __future__ import annotations

import re

__all__ = ["RejectedIds"]

_SEQUENCE_MAX = 0xFFFFF


class RejectedIds:
    """Gives out `<milliseconds, 12 hex digits><sequence, 5 hex digits><suffix>`, each greater than the last.

    `suffix` is one letter past `f` that tells the writing roles apart; `last` is the greatest id given out before.
    """

    def __init__(self, suffix: str, last: str | None = None) -> None:
        self._suffix = suffix
        self._ms = 0
        self._sequence = -1
        if last is not None and re.fullmatch(self.pattern(suffix), last):
            self._ms = int(last[:12], 16)
            self._sequence = int(last[12:17], 16)

    @staticmethod
    def pattern(suffix: str) -> str:
        """A regular expression for ids with this suffix."""
        return f"[0-9a-f]{{17}}{suffix}"

    def next(self, now_ms: int) -> str:
        """The next id; time that goes back is held at the last."""
        if now_ms > self._ms:
            self._ms, self._sequence = now_ms, -1
        elif self._sequence == _SEQUENCE_MAX:
            self._ms, self._sequence = self._ms + 1, -1
        self._sequence += 1
        return f"{self._ms:012x}{self._sequence:05x}{self._suffix}"
