"""LIKE patterns of the URL: `%` or `*` any text, `_` one character, a backslash takes the next one literally."""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["LIKE_ESCAPE", "LikePattern", "read_like"]

LIKE_ESCAPE = "\\"
_WILD = {"%": "%", "*": "%", "_": "_"}


@dataclass(frozen=True, slots=True)
class LikePattern:
    """A pattern as (wildcard, literal) parts: exactly one of the two is not empty."""

    parts: tuple[tuple[str, str], ...]

    def sql(self) -> str:
        """For `LIKE ... ESCAPE '\\'`."""
        return "".join(
            wild or "".join(LIKE_ESCAPE + c if c in "%_\\" else c for c in literal) for wild, literal in self.parts
        )

    def regex(self) -> str:
        """The same for Polars (Rust's regex crate): anchored to the whole text."""
        body = "".join({"%": ".*", "_": "."}.get(wild) or re.escape(literal) for wild, literal in self.parts)
        return rf"(?s)\A{body}\z"


def read_like(text: str) -> LikePattern:
    """The pattern of a filter value; ValueError when it ends with a lone backslash."""
    parts: list[tuple[str, str]] = []
    i = 0
    while i < len(text):
        c = text[i]
        if c == LIKE_ESCAPE:
            i += 1
            if i == len(text):
                raise ValueError("a pattern must not end with a single backslash")
            parts.append(("", text[i]))
        elif c in _WILD:
            if not (_WILD[c] == "%" and parts and parts[-1][0] == "%"):  # %% is %
                parts.append((_WILD[c], ""))
        else:
            parts.append(("", c))
        i += 1
    return LikePattern(tuple(parts))
