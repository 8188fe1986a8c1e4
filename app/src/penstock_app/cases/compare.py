"""Expected rows against those that came: which are missing, which are extra, which differ and where. Pure.

An expected row names some columns; the others may hold anything. So several rows may fit one that came, and which
belongs to which is decided by a maximum matching, not by the first that fits.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import msgspec
import numpy as np

from penstock.codecs.json_values import reader, wire_type
from penstock.model.types import DataType, Kind

__all__ = ["ColumnReading", "Difference", "ExpectedRow", "GotRow", "Wanted", "compare", "matched"]

#: Rows that are left over are paired by what they have in common only as far as anybody would read.
_PAIRED_ROWS_MAX = 100


class ColumnReading:
    """Reads JSON texts as values of a column, as admission reads an event's; equal values are equal in Python."""

    def __init__(self, data_type: DataType) -> None:
        try:
            wire: Any = wire_type(data_type)
        except KeyError:  # not of the simple types: compared as the JSON that it is
            wire = Any
        self._decoder = msgspec.json.Decoder(wire)
        self._read = None if wire is Any else reader(data_type)
        self._is_float = data_type.kind is Kind.FLOAT

    def read(self, json: bytes) -> Any:
        """The value; None for null. ValueError says what is wrong with it."""
        if json == b"null":
            return None
        try:
            value = self._decoder.decode(json)
        except msgspec.MsgspecError as error:
            raise ValueError(str(error)) from None
        if self._read is not None:
            value = self._read(value)
        if self._is_float:
            return float(np.float32(value))
        return value + 0.0 if isinstance(value, float) else value  # the two zeros are equal, and so are their keys


@dataclass(frozen=True, slots=True)
class Wanted:
    """One column of an expected row: its value, how far a number may be away, and its text in the file."""

    value: Any
    within: float
    json: bytes


@dataclass(frozen=True, slots=True)
class ExpectedRow:
    """A row as the case names it, and where."""

    line: int
    columns: Mapping[str, Wanted]

    def misses(self, got: GotRow) -> list[str]:
        """Columns in which a row that came is another."""
        return [name for name, wanted in self.columns.items() if not _fits(wanted, got.values[name])]


@dataclass(frozen=True, slots=True)
class GotRow:
    """A row that came: values to be compared, and their JSON texts."""

    values: Mapping[str, Any]
    texts: Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class Difference:
    """Empty where all is as expected. `differing`: pairs that agree in part, with the columns in which they do not.

    `disordered`: all rows came, but in another order; the first one that is not in its place, and what is there.
    """

    missing: Sequence[ExpectedRow] = ()
    extra: Sequence[GotRow] = ()
    differing: Sequence[tuple[ExpectedRow, GotRow, Sequence[str]]] = ()
    disordered: tuple[ExpectedRow, GotRow] | None = None
    named: Sequence[str] = field(default_factory=tuple)  # columns that any expected row names

    def __bool__(self) -> bool:
        return bool(self.missing or self.extra or self.differing or self.disordered)


def compare(expected: Sequence[ExpectedRow], got: Sequence[GotRow], *, ordered: bool, exact: bool) -> Difference:
    """What is not as expected. `exact` False: further rows may come."""
    in_order = list(zip(expected, got, strict=False))
    if ordered and len(expected) == len(got) and not any(row.misses(other) for row, other in in_order):
        return Difference()
    partners = matched(_candidates(expected, got))
    missing = [row for row, partner in zip(expected, partners, strict=True) if partner is None]
    taken = {partner for partner in partners if partner is not None}
    extra = [row for number, row in enumerate(got) if number not in taken]
    if ordered and not missing and not extra:
        row, other = next((row, other) for row, other in in_order if row.misses(other))
        return Difference(disordered=(row, other))
    differing = _paired(missing, extra)
    for row, other, _ in differing:
        missing.remove(row)
        extra = [one for one in extra if one is not other]
    named = list(dict.fromkeys(name for row in expected for name in row.columns))
    return Difference(missing, extra if exact else (), differing, None, named)


def matched(candidates: Sequence[Iterable[int]]) -> list[int | None]:
    """A partner for as many as can have one, each partner once (augmenting paths, breadth first)."""
    choices = [list(each) for each in candidates]
    partner: list[int | None] = [None] * len(choices)
    owner: dict[int, int] = {}
    for start in range(len(choices)):
        came_from: dict[int, int] = {}  # partner -> who reached it first
        queue = deque([start])
        free: int | None = None
        while queue and free is None:
            row = queue.popleft()
            for choice in choices[row]:
                if choice in came_from:
                    continue
                came_from[choice] = row
                if choice not in owner:
                    free = choice
                    break
                queue.append(owner[choice])
        while free is not None:  # back along the path: everybody gives up a partner for the next one
            row = came_from[free]
            owner[free] = row
            free, partner[row] = partner[row], free
    return partner


def _candidates(expected: Sequence[ExpectedRow], got: Sequence[GotRow]) -> list[list[int]]:
    """Rows that came and fit, of each expected one; looked up by the columns that must be equal."""
    indexes: dict[tuple[str, ...], dict[tuple[str, ...], list[int]]] = {}
    found = []
    for row in expected:
        names = tuple(name for name, wanted in row.columns.items() if not wanted.within)
        if names not in indexes:
            index = indexes[names] = {}
            for number, other in enumerate(got):
                index.setdefault(_key(other.values[name] for name in names), []).append(number)
        fitting = indexes[names].get(_key(row.columns[name].value for name in names), [])
        found.append([number for number in fitting if not row.misses(got[number])])
    return found


def _key(values: Iterable[Any]) -> tuple[str, ...]:
    return tuple(map(repr, values))


def _fits(wanted: Wanted, value: Any) -> bool:
    if wanted.value is None or value is None:
        return wanted.value is value
    if wanted.within:
        return bool(abs(Decimal(value) - Decimal(wanted.value)) <= Decimal(repr(wanted.within)))
    return bool(wanted.value == value)


def _paired(
    missing: Sequence[ExpectedRow], extra: Sequence[GotRow]
) -> list[tuple[ExpectedRow, GotRow, Sequence[str]]]:
    """Missing and extra rows that agree in some columns, those that agree in most first."""
    chances = []
    for left, row in enumerate(missing[:_PAIRED_ROWS_MAX]):
        for right, other in enumerate(extra[:_PAIRED_ROWS_MAX]):
            misses = row.misses(other)
            if len(misses) < len(row.columns):
                chances.append((len(misses), left, right, misses))
    pairs: list[tuple[ExpectedRow, GotRow, Sequence[str]]] = []
    used_left: set[int] = set()
    used_right: set[int] = set()
    for _, left, right, misses in sorted(chances, key=lambda chance: chance[:3]):
        if left not in used_left and right not in used_right:
            used_left.add(left)
            used_right.add(right)
            pairs.append((missing[left], extra[right], misses))
    return sorted(pairs, key=lambda pair: pair[0].line)
