"""Rows of two inputs side by side: which of them are pairs, and what a join gives for rows that found none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from penstock_processor.operators.chain import Chain
from penstock_processor.operators.segments import Flags, Ints, Segment
from penstock_processor.operators.step import AT, NOWHERE, Operator, Step

__all__ = ["KeyedSide", "Padding", "Pairing", "column_name", "key_name", "time_name", "unmatched"]

_LEFT_ROW, _RIGHT_ROW = "$li", "$ri"


@dataclass(frozen=True, slots=True)
class KeyedSide:
    """One input: its columns under the join's names, `time_name`, and one `key_name` per key."""

    side: str  # "l" or "r"
    source: Operator
    keys: int


@dataclass(frozen=True, slots=True)
class Padding:
    """Which sides' rows are given, padded with NULL, if they match nothing. `left`, `right`: columns of the sides."""

    of_left: bool
    of_right: bool
    left: Mapping[str, pl.DataType]
    right: Mapping[str, pl.DataType]

    @property
    def any(self) -> bool:
        """Whether it matters which rows have matched."""
        return self.of_left or self.of_right

    def padded_left(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Rows of the left side with NULL for the columns of the right one."""
        return _with_nulls(rows.select(*self.left), self.right)

    def padded_right(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Rows of the right side with NULL for the columns of the left one."""
        return _with_nulls(rows.select(*self.right), self.left).select(*self.left, *self.right)


class Pairing:
    """Candidates (equal hashes) become pairs. `condition`: equal keys and what else must be true; `tail`: what is
    left to do with rows of the join.
    """

    def __init__(self, condition: Chain, tail: Chain, padding: Padding, *, marks: bool) -> None:
        self.padding = padding
        self._condition, self._tail = condition, tail
        self._marks = marks

    def pairs(self, left: Segment, right: Segment, mine: Ints, other: Ints, step: Step) -> pl.DataFrame | None:
        """Those of these row numbers that are pairs, side by side; both of their rows are marked as matched."""
        rows = left.frame[mine].hstack(right.frame[other]).with_columns(pl.lit(NOWHERE, pl.Int64).alias(AT))
        if self._marks:
            rows = rows.with_columns(pl.Series(_LEFT_ROW, mine), pl.Series(_RIGHT_ROW, other))
        found = self._condition.apply(rows, step)
        if found is None or not self._marks:
            return found
        left.matched[found[_LEFT_ROW].to_numpy()] = True
        right.matched[found[_RIGHT_ROW].to_numpy()] = True
        return found.drop(_LEFT_ROW, _RIGHT_ROW)

    def checked(self, rows: pl.DataFrame, step: Step) -> pl.DataFrame | None:
        """Those of these rows, already side by side, for which the condition is true."""
        return self._condition.apply(rows.with_columns(pl.lit(NOWHERE, pl.Int64).alias(AT)), step)

    def results(self, pairs: pl.DataFrame | None, left: pl.DataFrame | None, right: pl.DataFrame | None, step: Step
                ) -> pl.DataFrame | None:  # fmt: skip
        """Rows of the join: pairs, then rows of either side that have none."""
        padding = self.padding
        parts = []
        if pairs is not None:
            parts.append(pairs.select(*padding.left, *padding.right))
        if left is not None and left.height:
            parts.append(padding.padded_left(left))
        if right is not None and right.height:
            parts.append(padding.padded_right(right))
        if not parts:
            return None
        rows = parts[0] if len(parts) == 1 else pl.concat(parts)
        return self._tail.apply(rows.with_columns(pl.lit(NOWHERE, pl.Int64).alias(AT)), step)


def column_name(side: str, what: str) -> str:
    """Hidden column of a side (`l` or `r`)."""
    return f"${side}{what}"


def key_name(side: str, number: int) -> str:
    """Hidden column of a join key."""
    return f"${side}k{number}"


def time_name(side: str) -> str:
    """Hidden column of the event time in epoch milliseconds."""
    return f"${side}t"


def unmatched(segment: Segment, rows: Ints) -> pl.DataFrame:
    """Those of these rows of the segment that have found no match."""
    flags: Flags = segment.matched[rows]
    return segment.frame[rows[~flags]]


def _with_nulls(rows: pl.DataFrame, columns: Mapping[str, pl.DataType]) -> pl.DataFrame:
    return rows.with_columns(pl.lit(None, dtype).alias(name) for name, dtype in columns.items())
