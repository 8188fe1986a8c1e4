"""Time zones by Java's names (java.util.TimeZone), and times moved between them.

A time that a clock change skips is read with the offset before it, one that occurs twice as the later one (standard
time): Java's rules.
"""

from __future__ import annotations

import re
from functools import lru_cache

import polars as pl

__all__ = ["Zone", "from_zone", "to_zone", "zone_of"]

#: An IANA name, or a fixed offset from UTC in milliseconds.
Zone = str | int

_HOUR_MS = 3_600_000
_SHORT: dict[str, Zone] = {
    "EST": -5 * _HOUR_MS, "MST": -7 * _HOUR_MS, "HST": -10 * _HOUR_MS, "ACT": "Australia/Darwin",
    "AET": "Australia/Sydney", "AGT": "America/Argentina/Buenos_Aires", "ART": "Africa/Cairo",
    "AST": "America/Anchorage",
    "BET": "America/Sao_Paulo", "BST": "Asia/Dhaka", "CAT": "Africa/Harare", "CNT": "America/St_Johns",
    "CST": "America/Chicago", "CTT": "Asia/Shanghai", "EAT": "Africa/Addis_Ababa", "ECT": "Europe/Paris",
    "IET": "America/Indiana/Indianapolis", "IST": "Asia/Kolkata", "JST": "Asia/Tokyo", "MIT": "Pacific/Apia",
    "NET": "Asia/Yerevan", "NST": "Pacific/Auckland", "PLT": "Asia/Karachi", "PNT": "America/Phoenix",
    "PRT": "America/Puerto_Rico", "PST": "America/Los_Angeles", "SST": "Pacific/Guadalcanal",
    "VST": "Asia/Ho_Chi_Minh", "UTC": 0, "GMT": 0,
}  # fmt: skip
_OFFSET = re.compile(r"GMT([+-])([0-9]{1,2})(?::?([0-9]{2}))?")


@lru_cache(maxsize=1024)
def zone_of(name: str) -> Zone | None:
    """The zone of a name such as `Europe/Berlin`, `PST` or `GMT+08:00`; None for others."""
    if name in _SHORT:
        return _SHORT[name]
    offset = _OFFSET.fullmatch(name)
    if offset is not None:
        hours, minutes = int(offset[2]), int(offset[3] or 0)
        if hours > 23 or minutes > 59:
            return None
        return (hours * 60 + minutes) * 60_000 * (-1 if offset[1] == "-" else 1)
    if not re.fullmatch(r"[A-Z][A-Za-z0-9_+-]*(?:/[A-Za-z0-9_+-]+)*", name):
        return None
    try:
        pl.Series([0], dtype=pl.Datetime("ms")).dt.replace_time_zone("UTC").dt.convert_time_zone(name)
    except pl.exceptions.PolarsError:
        return None
    return name


def from_zone(local: pl.Series, zone: Zone) -> pl.Series:
    """Wall clock times in a zone (Datetime in ms) as times in UTC, without a zone."""
    if isinstance(zone, int):
        return local.dt.offset_by(f"{-zone}ms")
    known = _instant(local, zone)
    if known.null_count() == local.null_count():
        return known
    before = local.dt.offset_by("-1d")
    skipped = _instant(before, zone) + (local - before)
    return pl.select(pl.coalesce(pl.lit(known), pl.lit(skipped))).to_series()


def to_zone(instant: pl.Series, zone: Zone) -> pl.Series:
    """Times in UTC (Datetime in ms, without a zone) as wall clock times in a zone."""
    if isinstance(zone, int):
        return instant.dt.offset_by(f"{zone}ms")
    return instant.dt.replace_time_zone("UTC").dt.convert_time_zone(zone).dt.replace_time_zone(None)


def _instant(local: pl.Series, zone: str) -> pl.Series:
    there = local.dt.replace_time_zone(zone, ambiguous="latest", non_existent="null")
    return there.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
