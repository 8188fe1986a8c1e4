"""Complete matches of a cycle as a frame: the key, what measures reach for, and the time."""

from __future__ import annotations

from collections.abc import Hashable

import polars as pl

from penstock.model.types import TIMESTAMP, TIMESTAMP_LTZ
from penstock_processor.operators.pattern.aggregates import EMPTY, result_of
from penstock_processor.operators.pattern.begun import Begun, KeyMatches, block_of
from penstock_processor.operators.pattern.keys import Keys
from penstock_processor.operators.pattern.matching import Found
from penstock_processor.operators.pattern.shape import Shape
from penstock_processor.operators.pattern.values import series_of
from penstock_processor.operators.step import AT, NOWHERE, Step

__all__ = ["Told"]

TIME, INSTANT = "$match_time", "$match_instant"
_DETAIL = ("AFTER MATCH SKIP goes to a variable that has no row in this match, or to its first row; the match is not "
           "told, and the next one may begin at the row behind its first one")  # fmt: skip


class Told:
    """Rows of one cycle."""

    def __init__(self, shape: Shape) -> None:
        self._shape = shape
        self._names: list[Hashable] = []
        self._times: list[int] = []
        self._reached: list[list[object]] = [[] for _ in shape.reaches]
        self._added: list[list[object]] = [[] for _ in shape.aggregates]
        self._endless: list[Hashable] = []

    def add(self, name: Hashable, key: KeyMatches, found: list[Found]) -> None:
        """Matches of a key, whose rows are still there; empties the list."""
        for each in found:
            if each.resumes:
                self._add(name, key, each.match, each.at_ms)
            else:
                self._endless.append(name)
        found.clear()

    def frame(self, keys: Keys) -> pl.DataFrame | None:
        """All of them in order of time; None if there is none."""
        if not self._names:
            return None
        shape = self._shape
        columns = keys.columns(self._names)
        columns += [series_of(r.name, v, r.type) for r, v in zip(shape.reaches, self._reached, strict=True)]
        columns += [series_of(a.name, v, a.type) for a, v in zip(shape.aggregates, self._added, strict=True)]
        columns.append(series_of(TIME, self._times, TIMESTAMP))
        if shape.zoned:
            columns.append(series_of(INSTANT, self._times, TIMESTAMP_LTZ))
        columns.append(pl.Series(AT, [NOWHERE], dtype=pl.Int64).new_from_index(0, len(self._names)))
        return pl.DataFrame(columns).sort(TIME, maintain_order=True)

    def report(self, keys: Keys, step: Step) -> None:
        """Matches behind which there is nothing to go on from are problems."""
        if self._endless:
            at = pl.Series(AT, [NOWHERE], dtype=pl.Int64).new_from_index(0, len(self._endless))
            rows = pl.DataFrame([*keys.columns(self._endless), at])
            step.reject(rows, "skip_target", _DETAIL)

    def _add(self, name: Hashable, key: KeyMatches, match: Begun, at_ms: int) -> None:
        self._names.append(name)
        self._times.append(at_ms)
        for reached, values in zip(self._shape.reaches, self._reached, strict=True):
            block = block_of(match.first, match.end, match.blocks, reached.variable)
            number = None if block is None else reached.place(*block)
            values.append(None if number is None else key.row(number)[reached.column])
        for each, values in zip(self._shape.aggregates, self._added, strict=True):
            block = block_of(match.first, match.end, match.blocks, each.variable)
            kept = EMPTY if block is None else key.total(each.number, each.column, each.function, *block)
            values.append(result_of(kept, each.function, each.type))
