"""What was looked up and is kept for a while: by key, the rows as JSON lines. Pure; time is passed in."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from penstock.lookups.options import LookupOptions
from penstock.ports.lookup import Key

__all__ = ["LookupCache"]

Lines = tuple[bytes, ...]


@dataclass(slots=True)
class _Kept:
    lines: Lines
    written_s: float
    used_s: float


class LookupCache:
    """Keeps the keys that were used last, up to the options' bound; nothing if they ask for no cache."""

    def __init__(self, options: LookupOptions) -> None:
        self._options = options
        self._rows_max = (options.cache_rows_max or 0) if options.cache == "PARTIAL" else 0
        self._kept: OrderedDict[Key, _Kept] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: Key, now_s: float) -> Lines | None:
        """The rows of a key; None if it must be asked for."""
        kept = self._kept.get(key)
        if kept is None:
            return None
        write_s, access_s = self._options.expire_after_write_s, self._options.expire_after_access_s
        old = write_s is not None and now_s - kept.written_s >= write_s
        if old or (access_s is not None and now_s - kept.used_s >= access_s):
            del self._kept[key]
            return None
        kept.used_s = now_s
        self._kept.move_to_end(key)
        return kept.lines

    def put(self, key: Key, lines: Lines, now_s: float) -> None:
        """Keep what was found for a key."""
        if self._rows_max == 0 or (not lines and not self._options.cache_missing):
            return
        self._kept[key] = _Kept(lines, now_s, now_s)
        self._kept.move_to_end(key)
        while len(self._kept) > self._rows_max:
            self._kept.popitem(last=False)
