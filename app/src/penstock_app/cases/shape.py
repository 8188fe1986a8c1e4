"""What is wrong with the shape of a case file: kinds of values, unknown keys. Findings are collected."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from penstock.codecs.json_values import read_timestamp_ms
from penstock_app.cases.document import Fields, Finding, Items, NumberText, Scalar, Value, WrongFile, kind_of

__all__ = ["Skip", "Wrongs", "near"]


class Skip(Exception):
    """The piece that is being read cannot be read any further."""


class Wrongs:
    """Collects findings. Readers of values note what is wrong and raise Skip; `collecting` goes on after it."""

    def __init__(self) -> None:
        self._findings: list[Finding] = []

    def add(self, at: Value, message: str, remedy: str) -> None:
        """Note a finding."""
        self.add_at(at.line, at.column, message, remedy)

    def add_at(self, line: int, column: int, message: str, remedy: str) -> None:
        """Note a finding at a place."""
        self._findings.append(Finding(line, column, message, remedy))

    def skip(self, at: Value, message: str, remedy: str) -> Skip:
        """Note a finding; raise what is returned."""
        self.add(at, message, remedy)
        return Skip()

    @contextmanager
    def collecting(self) -> Iterator[None]:
        """A piece that may be skipped."""
        try:
            yield
        except Skip:
            pass
        except WrongFile as wrong:
            self._findings += wrong.findings

    @property
    def findings(self) -> list[Finding]:
        """What was noted, in the order of the text."""
        return sorted(self._findings, key=lambda finding: (finding.line, finding.column))

    def raise_if_any(self) -> None:
        """WrongFile with what was noted."""
        if self._findings:
            raise WrongFile(self.findings)

    def keys(self, value: Value, what: str, *, known: Collection[str], needed: Collection[str]) -> dict[str, Value]:
        """The entries of a mapping by key; unknown ones are noted and left out."""
        listed = ", ".join(f"`{name}`" for name in known)
        if not isinstance(value, Fields):
            raise self.skip(value, f"{what} is a mapping, found {kind_of(value)}.", f"Write keys of {listed}.")
        found: dict[str, Value] = {}
        for key, inner in value.entries:
            name = str(key.value)
            if name in known:
                found[name] = inner
            else:
                self.add(key, f"{what} has no key '{name}'.", f"{near(name, known)}The keys are {listed}.")
        for name in needed:
            if name not in found:
                raise self.skip(value, f"{what} needs the key `{name}`.", f"The keys are {listed}.")
        return found

    def items(self, value: Value, name: str, *, most: int, limit: str) -> tuple[Value, ...]:
        """The items of a list of at most so many."""
        if not isinstance(value, Items):
            remedy = "Begin each item on a line of its own with `- `."
            raise self.skip(value, f"`{name}` is a list, found {kind_of(value)}.", remedy)
        if len(value.items) > most:
            message = f"`{name}` has {len(value.items)} items, {most} are allowed."
            raise self.skip(value, message, f"Divide it, or raise {limit}.")
        return value.items

    def text(self, value: Value, name: str) -> str:
        """A text that is not empty."""
        found = value.value if isinstance(value, Scalar) else None
        if not isinstance(found, str) or isinstance(found, NumberText) or not found.strip():
            raise self.skip(value, f"`{name}` is a text, found {kind_of(value)}.", "Quote it if it is one.")
        return found

    def flag(self, value: Value | None, name: str, *, default: bool) -> bool:
        """`true` or `false`."""
        if value is None:
            return default
        if not isinstance(value, Scalar) or not isinstance(value.value, bool):
            raise self.skip(value, f"`{name}` is a boolean, found {kind_of(value)}.", "Write true or false.")
        return value.value

    def time_ms(self, value: Value, name: str, *, remedy: str) -> int:
        """Epoch milliseconds of a point in time, in the forms that an event's time may have."""
        found = value.value if isinstance(value, Scalar) else None
        if isinstance(found, bool) or not isinstance(found, str):
            raise self.skip(value, f"`{name}` is a point in time, found {kind_of(value)}.", remedy)
        try:
            whole = isinstance(found, NumberText) and found.lstrip("-").isdigit()
            return read_timestamp_ms(int(found) if whole else str(found))
        except ValueError as error:
            raise self.skip(value, f"`{name}`: {error}.", remedy) from None


def near(name: str, known: Collection[str]) -> str:
    """`Did you mean ...? ` or nothing."""
    found = difflib.get_close_matches(name, list(known), n=1)
    return f"Did you mean '{found[0]}'? " if found else ""
