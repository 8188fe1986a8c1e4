"""Durations as Flink's configuration writes them: `7 d`, `24h`, `1min`, `500 ms` (Flink: "TimeUtils")."""

from __future__ import annotations

import re

__all__ = ["duration_ms"]

_UNITS_MS = {
    "d": 86_400_000,
    "day": 86_400_000,
    "days": 86_400_000,
    "h": 3_600_000,
    "hour": 3_600_000,
    "hours": 3_600_000,
    "min": 60_000,
    "m": 60_000,
    "minute": 60_000,
    "minutes": 60_000,
    "s": 1_000,
    "sec": 1_000,
    "secs": 1_000,
    "second": 1_000,
    "seconds": 1_000,
    "ms": 1,
    "milli": 1,
    "millis": 1,
    "millisecond": 1,
    "milliseconds": 1,
}
_DURATION = re.compile(r"\s*(\d{1,12})\s*([a-zA-Z]*)\s*", re.ASCII)


def duration_ms(text: str) -> int | None:
    """Milliseconds of `<number> <unit>` (no unit: milliseconds, as in Flink); None if it is not a duration."""
    match = _DURATION.fullmatch(text)
    if match is None:
        return None
    unit = _UNITS_MS.get(match[2].lower() or "ms")
    return None if unit is None else int(match[1]) * unit
