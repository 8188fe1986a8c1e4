"""Findings of the SQL front: a place, a code, what is wrong, what to write instead."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from penstock.errors import SqlError, SqlErrors
from penstock.expressions.nodes import Span

__all__ = ["Findings", "closest", "refusal"]


def refusal(at: Span, code: str, *, message: str, remedy: str) -> SqlErrors:
    """One finding, ready to raise: what is being bound cannot go on."""
    return SqlErrors([SqlError(at.line, at.column, code, message, remedy)])


def closest(name: str, known: Iterable[str], *, otherwise: str) -> str:
    """The remedy for a name that is not known: the nearest known one, or `otherwise`."""
    near = difflib.get_close_matches(name.lower(), {k.lower(): k for k in known}, n=1, cutoff=0.6)
    for k in known if near else ():
        if k.lower() == near[0]:
            return f"Did you mean '{k}'?"
    return otherwise


class Findings:
    """Collects findings so that one run reports all of them; binding goes on with the next piece."""

    def __init__(self) -> None:
        self._errors: list[SqlError] = []

    def add(self, at: Span, code: str, *, message: str, remedy: str) -> None:
        """Note one finding and go on."""
        self._errors.append(SqlError(at.line, at.column, code, message, remedy))

    def extend(self, errors: Iterable[SqlError]) -> None:
        """Note findings of another stage."""
        self._errors.extend(errors)

    @contextmanager
    def collecting(self) -> Iterator[None]:
        """Notes SqlErrors raised inside and leaves the block."""
        try:
            yield
        except SqlErrors as refused:
            self.extend(refused.errors)

    def sorted(self) -> list[SqlError]:
        """Each finding once, in text order."""
        return sorted(set(self._errors), key=lambda e: (e.line, e.column, e.code, e.message))

    def __len__(self) -> int:
        return len(self._errors)
