"""The text of a case file as values that know their place. YAML 1.2's plain values only: dates and times stay text.

PyYAML finds the structure and the places; what a plain scalar means is decided here, as its own resolver would make a
date of `2026-01-05`, a number of `1:30` and a boolean of `no`. A number keeps its digits: `12.50` is sent as `12.50`.
Its parser in Python is used, not libyaml: that one is twice as fast and ends the process on deeply nested text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import yaml

from penstock.errors import PenstockError
from penstock_app.cases.settings import CaseSettings

__all__ = ["Fields", "Finding", "Items", "NumberText", "Scalar", "Value", "WrongFile", "json_text", "kind_of",
           "read_document"]  # fmt: skip

_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLEANS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_TAGS = frozenset({"tag:yaml.org,2002:str", "tag:yaml.org,2002:seq", "tag:yaml.org,2002:map"})


class NumberText(str):
    """A number as it is written, in JSON's form."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Scalar:
    """NULL, a boolean, a number or a text. `literal`: a block whose first line is the one below `line`."""

    line: int
    column: int
    value: bool | str | None
    literal: bool = False


@dataclass(frozen=True, slots=True)
class Items:
    """A sequence."""

    line: int
    column: int
    items: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Fields:
    """A mapping; keys are texts and occur once."""

    line: int
    column: int
    entries: tuple[tuple[Scalar, Value], ...]

    def get(self, name: str) -> Value | None:
        """The value of a key; None if there is none."""
        return next((value for key, value in self.entries if key.value == name), None)


Value = Scalar | Items | Fields


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong with a case file: 1-based place, what it is, what to write instead."""

    line: int
    column: int
    message: str
    remedy: str


class WrongFile(PenstockError):
    """A case file that cannot be run; every finding, not just the first."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        first = findings[0]
        super().__init__("bad_request", f"line {first.line}, column {first.column}: {first.message} {first.remedy}")
        self.findings = tuple(findings)


def read_document(text: str, limits: CaseSettings) -> Value:
    """The one document of a YAML text. WrongFile with the place."""
    try:
        node = yaml.compose(text, Loader=yaml.BaseLoader)
    except yaml.MarkedYAMLError as error:
        raise _not_yaml(error) from None
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        line, column = before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1
        message = f"The character {error.character!r} is not allowed in YAML."
        raise WrongFile([Finding(line, column, message, 'Write it in a quoted text as "\\u....".')]) from None
    except RecursionError:
        raise WrongFile([_too_deep(1, 1, limits)]) from None
    if node is None:
        raise WrongFile([Finding(1, 1, "The file is empty.", "Begin with `cases:`; see docs/guides/test-an-app.md.")])
    return _Reading(limits).value(node, depth=1)


def json_text(value: Value) -> bytes:
    """The value as JSON on one line."""
    return msgspec.json.encode(_jsonable(value))


def kind_of(value: Value) -> str:
    """What a value is, for people."""
    match value:
        case Items():
            return "a list"
        case Fields():
            return "a mapping"
        case Scalar(value=None):
            return "nothing"
        case Scalar(value=bool()):
            return "a boolean"
        case Scalar(value=NumberText()):
            return "a number"
    return "a text"


class _Reading:
    """Makes values of nodes; an alias is read anew each time, so that the number of values is bounded."""

    def __init__(self, limits: CaseSettings) -> None:
        self._limits = limits
        self._count = 0

    def value(self, node: Any, *, depth: int) -> Value:
        line, column = node.start_mark.line + 1, node.start_mark.column + 1
        self._count += 1
        if self._count > self._limits.values_max:
            message = f"The file has more than {self._limits.values_max} values, those of aliases counted each time."
            raise WrongFile([Finding(line, column, message, "Divide it, or raise test.values_max.")])
        if depth > self._limits.depth_max:
            raise WrongFile([_too_deep(line, column, self._limits)])
        if node.tag not in _TAGS:
            remedy = "Write the value without it; a text that looks like something else goes into quotes."
            raise WrongFile([Finding(line, column, f"The tag {node.tag} is not taken.", remedy)])
        if isinstance(node, yaml.SequenceNode):
            return Items(line, column, tuple(self.value(item, depth=depth + 1) for item in node.value))
        if isinstance(node, yaml.MappingNode):
            return Fields(line, column, tuple(self._entries(node, depth=depth)))
        return Scalar(line, column, _meaning(node.value) if node.style is None else node.value, node.style == "|")

    def _entries(self, node: Any, *, depth: int) -> list[tuple[Scalar, Value]]:
        entries: list[tuple[Scalar, Value]] = []
        seen: dict[object, int] = {}
        for key_node, value_node in node.value:
            key = self.value(key_node, depth=depth + 1)
            if not isinstance(key, Scalar):
                remedy = 'A text that begins with { or [ goes into quotes: "{...}".'
                raise WrongFile([Finding(key.line, key.column, f"{kind_of(key).capitalize()} is no name.", remedy)])
            key = Scalar(key.line, key.column, key_node.value)
            if key.value in seen:
                message = f"'{key.value}' is given twice, first in line {seen[key.value]}."
                raise WrongFile([Finding(key.line, key.column, message, "Keep one of them.")])
            seen[key.value] = key.line
            entries.append((key, self.value(value_node, depth=depth + 1)))
        return entries


def _meaning(text: str) -> bool | str | None:
    """A plain scalar under YAML 1.2's core schema, with JSON's numbers."""
    if text in _NULLS:
        return None
    if text in _BOOLEANS:
        return _BOOLEANS[text]
    return NumberText(text) if _NUMBER.fullmatch(text) else text


def _jsonable(value: Value) -> object:
    match value:
        case Items():
            return [_jsonable(item) for item in value.items]
        case Fields():
            return {key.value: _jsonable(inner) for key, inner in value.entries}
        case Scalar(value=NumberText() as number):
            return msgspec.Raw(number.encode())
    return value.value


def _not_yaml(error: yaml.MarkedYAMLError) -> WrongFile:
    mark = error.problem_mark or error.context_mark
    line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    message = f"This is not YAML: {', '.join(filter(None, (error.context, error.problem)))}."
    remedy = "Check the indentation and the quotes here and in the line above; a text with ': ' or ' #' needs quotes."
    return WrongFile([Finding(line, column, message, remedy)])


def _too_deep(line: int, column: int, limits: CaseSettings) -> Finding:
    return Finding(line, column, f"Values are nested more than {limits.depth_max} deep.", "Write them flatter.")
