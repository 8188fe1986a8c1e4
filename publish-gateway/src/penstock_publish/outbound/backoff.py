"""How long to wait before the next try. Pure."""

from __future__ import annotations

import random
from typing import Protocol

__all__ = ["Backoff", "pause_s"]


class Backoff(Protocol):
    """The settings behind pauses."""

    @property
    def backoff_first_s(self) -> float:
        """Of the first pause."""
        ...

    @property
    def backoff_max_s(self) -> float:
        """Of the longest one."""
        ...


def pause_s(failures: int, asked_s: float | None, *, settings: Backoff, chance: random.Random) -> float:
    """Seconds before the next try after so many failures: doubled, half of it random; at least what was asked for."""
    doubled = min(settings.backoff_max_s, settings.backoff_first_s * 2.0 ** min(failures - 1, 30))
    own_s = doubled / 2 + chance.random() * doubled / 2
    return min(settings.backoff_max_s, max(own_s, asked_s or 0.0))
