"""Matches that have begun, of all keys: when each is due, and how they are written to the log and read back."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from heapq import heappop, heappush

import polars as pl

from penstock.model.types import BIGINT, DataType
from penstock_processor.operators.pattern.begun import Begun, KeyMatches, Row
from penstock_processor.operators.pattern.values import series_of, values_of
from penstock_processor.operators.slots import hashable_keys, key_columns

__all__ = ["Keys"]

_FROM, _NEXT, _LAST_MS, _ANEW = "$from", "$next", "$last", "$anew"
_KEY, _NUMBER = "$key", "$number"
_MATCH = ("$state", "$first", "$first_ms", "$end")
_BLOCKS, _COMPLETE = "$blocks", "$complete"


class Keys:
    """`open`: keys of which something has begun. `names`, `types`: of the key's columns.

    `kept`: types of the rows' columns but the last one, their time, which is BIGINT.
    """

    def __init__(self, names: Sequence[str], types: Sequence[DataType], kept: Sequence[DataType]) -> None:
        self.open: dict[Hashable, KeyMatches] = {}
        self._names, self._types = tuple(names), tuple(types)
        self._kept = [(f"$v{n}", data_type) for n, data_type in enumerate((*kept, BIGINT))]
        self._dues: list[tuple[int, int, Hashable]] = []  # a heap: not later than when the key is due
        self._scheduled: set[Hashable] = set()  # each key is in the heap once
        self._logged: set[Hashable] = set()  # keys that the log has
        self._pushed = 0

    def schedule(self, name: Hashable, due_ms: Callable[[KeyMatches], int | None]) -> None:
        """See to it that a key is looked at when it is due. A key is never due earlier than it was."""
        key = self.open.get(name)
        if key is None or name in self._scheduled:
            return
        at_ms = due_ms(key)
        if at_ms is not None:
            self._pushed += 1  # keys need not compare with each other
            heappush(self._dues, (at_ms, self._pushed, name))
            self._scheduled.add(name)

    def due(self, through_ms: int, due_ms: Callable[[KeyMatches], int | None]) -> Iterator[Hashable]:
        """Keys that are due; whoever takes one schedules it again."""
        while self._dues and self._dues[0][0] <= through_ms:
            name = heappop(self._dues)[2]
            self._scheduled.discard(name)
            key = self.open.get(name)
            at_ms = None if key is None else due_ms(key)
            if at_ms is not None and at_ms <= through_ms:
                yield name
            else:
                self.schedule(name, due_ms)

    def columns(self, names: Sequence[Hashable]) -> list[pl.Series]:
        """The key's columns."""
        return key_columns(names, self._names, self._types)

    def save(self, names: Iterable[Hashable], *, whole: bool) -> list[pl.DataFrame]:
        """Keys as they are now: keys, their matches, rows that are not in the log yet (or all); gone ones alone."""
        listed = [name for name in names if name in self.open or name in self._logged]
        heads: list[tuple[int | None, int, int, bool]] = []
        matches: list[tuple[int, int, int, int, int, list[int], bool]] = []
        places: list[int] = []
        numbers: list[int] = []
        rows: list[Row] = []
        for place, name in enumerate(listed):
            key = self.open.get(name)
            if key is None:
                heads.append((None, 0, 0, True))
                self._logged.discard(name)
                continue
            self._logged.add(name)
            first = key.first
            heads.append((first, key.next, key.last_ms, whole or key.stored == 0))
            for run, complete in (*((m, False) for m in key.open), *((m, True) for m in key.complete)):
                flat = [part for block in run.blocks for part in block]
                matches.append((place, run.state, run.first, run.first_ms, run.end, flat, complete))
            for number in range(first if whole else max(first, key.stored), key.next):
                places.append(place)
                numbers.append(number)
                rows.append(key.row(number))
            if not whole:
                key.stored = key.next
        return [self._heads(listed, heads), _matches(matches), self._rows(places, numbers, rows)]

    def load(self, saved: Sequence[pl.DataFrame]) -> None:
        """Keys as `save` wrote them."""
        heads, matches, rows = saved
        names = list(hashable_keys([heads[name] for name in self._names], heads.height))
        shown = heads.select(_FROM, _NEXT, _LAST_MS, _ANEW).rows()
        for name, (first, _, last_ms, anew) in zip(names, shown, strict=True):
            if first is None:
                self.open.pop(name, None)
                self._logged.discard(name)
                continue
            self._logged.add(name)
            key = KeyMatches() if anew else self.open.get(name) or KeyMatches()
            self.open[name] = key
            gone = max(0, min(first - key.base, len(key.rows)))
            del key.rows[:gone]
            key.base, key.last_ms = first, last_ms
            key.open, key.complete = [], []
        for place, state, first, first_ms, end, flat, complete in matches.select(
            _KEY, *_MATCH, _BLOCKS, _COMPLETE
        ).rows():
            blocks = tuple(zip(flat[::2], flat[1::2], strict=True))
            key = self.open[names[place]]
            (key.complete if complete else key.open).append(Begun(state, first, first_ms, end, blocks))
        columns = [values_of(rows[column]) for column, _ in self._kept]
        for place, *row in zip(rows[_KEY].to_list(), *columns, strict=True):
            self.open[names[place]].rows.append(tuple(row))
        for name, (first, following, _, _) in zip(names, shown, strict=True):
            if first is not None:
                assert self.open[name].next == following
                self.open[name].stored = following

    def clear(self) -> None:
        """Forget everything."""
        self.open = {}
        self._dues, self._scheduled, self._logged = [], set(), set()

    def _heads(self, names: list[Hashable], heads: list[tuple[int | None, int, int, bool]]) -> pl.DataFrame:
        schema = {_FROM: pl.Int64, _NEXT: pl.Int64, _LAST_MS: pl.Int64, _ANEW: pl.Boolean}
        told = pl.DataFrame(heads, schema=schema, orient="row")
        return pl.DataFrame([*self.columns(names), *told.get_columns()])

    def _rows(self, places: list[int], numbers: list[int], rows: list[Row]) -> pl.DataFrame:
        values = list(zip(*rows, strict=True)) or [()] * len(self._kept)
        columns = [series_of(name, list(v), t) for (name, t), v in zip(self._kept, values, strict=True)]
        ordered = [pl.Series(_KEY, places, dtype=pl.Int64), pl.Series(_NUMBER, numbers, dtype=pl.Int64)]
        return pl.DataFrame([*ordered, *columns])


def _matches(matches: list[tuple[int, int, int, int, int, list[int], bool]]) -> pl.DataFrame:
    schema: dict[str, pl.DataType] = dict.fromkeys((_KEY, *_MATCH), pl.Int64())
    schema |= {_BLOCKS: pl.List(pl.Int64), _COMPLETE: pl.Boolean()}
    return pl.DataFrame(matches, schema=schema, orient="row")
