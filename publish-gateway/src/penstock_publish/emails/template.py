"""Texts with `{column}` in them. Pure.

Not `str.format`: its fields reach into attributes and items, and are padded to any width. A name between braces is
that of the column called exactly so, and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping

import msgspec

from penstock.errors import PenstockError

__all__ = ["check_template", "fill", "value_text"]

_PART = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")


def check_template(template: str, columns: Collection[str], *, field: str, chars_max: int) -> None:
    """`bad_request` says what is wrong with a template of that field of the request."""
    if len(template) > chars_max:
        raise PenstockError("bad_request", f"{field} has at most {chars_max} characters")
    for part in _PART.finditer(template):
        if part[0] in ("{{", "}}"):
            continue
        if part[1] is None:
            raise PenstockError("bad_request", f"{field} has a lone '{part[0]}': write it twice for one")
        if part[1] not in columns:
            known = ", ".join(sorted(columns)[:20])
            raise PenstockError(
                "bad_request", f"{field} has {{{part[1][:60]}}}; there are {known}, and nothing else in braces"
            )


def fill(template: str, row: Mapping[str, object], *, shown: Callable[[object], str]) -> str:
    """The text for a row; columns that it lacks are empty. What a value says is not looked at for braces again."""

    def put(part: re.Match[str]) -> str:
        if part[0] in ("{{", "}}"):
            return part[0][0]
        return part[0] if part[1] is None else shown(row.get(part[1]))

    return _PART.sub(put, template)


def value_text(value: object, *, chars_max: int) -> str:
    """A value as text for people: JSON unless it is text, without control characters, cut to a length."""
    text = "" if value is None else value if isinstance(value, str) else msgspec.json.encode(value).decode()
    if len(text) > chars_max:
        text = text[: chars_max - 1] + "…"
    return "".join(char if char.isprintable() or char == "\n" else " " for char in text)
