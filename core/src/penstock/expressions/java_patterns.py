"""Java's date patterns (DateTimeFormatter, as Flink's functions of time have them): times as text, texts as times."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Literal

import polars as pl

from penstock.expressions.coercion import Mismatch

__all__ = ["Fields", "formatted", "read_pattern"]

#: What a pattern reads.
Fields = Literal[
    "year", "year2", "month", "month_name", "day", "hour", "hour12", "minute", "second", "fraction", "half"
]

_CHRONO = {
    "yyyy": "%Y", "uuuu": "%Y", "yyy": "%Y", "y": "%Y", "u": "%Y", "yy": "%y", "uu": "%y", "MM": "%m", "M": "%-m",
    "MMM": "%b", "MMMM": "%B", "LL": "%m", "L": "%-m", "LLL": "%b", "LLLL": "%B", "dd": "%d", "d": "%-d", "HH": "%H",
    "H": "%-H", "hh": "%I", "h": "%-I", "mm": "%M", "m": "%-M", "ss": "%S", "s": "%-S", "SSS": "%3f", "a": "%p",
    "E": "%a", "EE": "%a", "EEE": "%a", "EEEE": "%A", "DDD": "%j", "D": "%-j",
}  # fmt: skip
_READ: dict[str, tuple[Fields, int]] = {
    "y": ("year", 4), "u": ("year", 4), "M": ("month", 2), "L": ("month", 2), "d": ("day", 2), "H": ("hour", 2),
    "h": ("hour12", 2), "m": ("minute", 2), "s": ("second", 2),
}  # fmt: skip
_NAMES = "(Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"
_FULL_NAMES = "(January|February|March|April|May|June|July|August|September|October|November|December)"
_PIECE = re.compile(r"'((?:[^']|'')*)'|(([A-Za-z])\3*)|([^A-Za-z'])")


def _padded(value: pl.Expr, width: int) -> pl.Expr:
    return value.cast(pl.String).str.zfill(width)


#: Letters that chrono has not: letter -> most of them, and their text.
_OWN: dict[str, tuple[int, Callable[[pl.Expr, int], pl.Expr]]] = {
    "S": (9, lambda t, n: t.dt.to_string("%9f").str.slice(0, n)),
    "k": (2, lambda t, n: _padded((t.dt.hour().cast(pl.Int64) + 23) % 24 + 1, n)),
    "K": (2, lambda t, n: _padded(t.dt.hour().cast(pl.Int64) % 12, n)),
    "Q": (3, lambda t, n: _quarter(t, n)),
    "q": (3, lambda t, n: _quarter(t, n)),
    "A": (1, lambda t, _: (t.cast(pl.Datetime("ms")).to_physical() % 86_400_000).cast(pl.String)),
}


def _quarter(time: pl.Expr, count: int) -> pl.Expr:
    quarter = time.dt.quarter()
    return pl.lit("Q") + quarter.cast(pl.String) if count == 3 else _padded(quarter, count)


def formatted(value: pl.Expr, pattern: str) -> pl.Expr:
    """A TIMESTAMP (or TIMESTAMP_LTZ, in UTC) as text. Mismatch for letters without a counterpart."""
    parts: list[pl.Expr] = []
    chrono = ""
    for quoted, field in _pieces(pattern):
        own = _OWN.get(field[:1])
        if field and field not in _CHRONO and own is not None and len(field) <= own[0]:
            if chrono:
                parts.append(value.dt.to_string(chrono))
            parts.append(own[1](value, len(field)))
            chrono = ""
        elif field:
            if field not in _CHRONO:
                raise _unknown(field, pattern)
            chrono += _CHRONO[field]
        else:
            chrono += quoted.replace("%", "%%")
    if chrono:
        parts.append(value.dt.to_string(chrono))
    return parts[0] if len(parts) == 1 else pl.concat_str(parts)


def read_pattern(pattern: str) -> tuple[str, tuple[Fields, ...]]:
    """(a regular expression for whole texts, what its groups are). Mismatch for letters that cannot be read."""
    pieces = list(_pieces(pattern))
    regex, fields = "", list[Fields]()
    for i, (quoted, field) in enumerate(pieces):
        if not field:
            fraction = quoted == "." and i + 1 < len(pieces) and pieces[i + 1][1].startswith("S")
            regex += "" if fraction else re.escape(quoted)
            continue
        adjacent = i + 1 < len(pieces) and pieces[i + 1][1][:1] in (*_READ, "S")
        group, name = _group(field, pattern, adjacent=adjacent, point=i > 0 and pieces[i - 1][0] == ".")
        if name in fields:
            raise Mismatch(f"has '{field}' twice in the pattern '{pattern[:40]}'.", "Leave one out.")
        regex += group
        fields.append(name)
    return f"^{regex}$", tuple(fields)


def _group(field: str, pattern: str, *, adjacent: bool, point: bool) -> tuple[str, Fields]:
    letter, count = field[0], len(field)
    if letter == "S" and count <= 9:
        return (r"(?:\.([0-9]{1,9}))?" if point else f"([0-9]{{{count}}})"), "fraction"
    if field == "a":
        return "(AM|PM)", "half"
    if letter in "ML" and count in (3, 4):
        return (_NAMES if count == 3 else _FULL_NAMES), "month_name"
    if letter in "yu" and count == 2:
        return "([0-9]{2})", "year2"
    if letter not in _READ or count > _READ[letter][1]:
        raise _unknown(field, pattern)
    name, width = _READ[letter]
    if name == "year":
        return "([0-9]{4})", name
    return (f"([0-9]{{{width}}})" if adjacent and count == width else "([0-9]{1,2})"), name


def _pieces(pattern: str) -> Iterator[tuple[str, str]]:
    """(plain text, "") or ("", letters)."""
    at = 0
    if not pattern:
        raise Mismatch("has an empty pattern.", "Write 'yyyy-MM-dd', for example.")
    while at < len(pattern):
        piece = _PIECE.match(pattern, at)
        if piece is None:
            raise Mismatch(f"has an open quote in the pattern '{pattern[:40]}'.", "Close it with '.")
        quoted, field, _, other = piece.groups()
        if quoted is not None:
            yield quoted.replace("''", "'") or "'", ""
        elif field is not None:
            yield "", field
        else:
            yield other, ""
        at = piece.end()


def _unknown(field: str, pattern: str) -> Mismatch:
    return Mismatch(f"does not know '{field}' in the pattern '{pattern[:40]}'.",
                    "Use yyyy MM dd HH mm ss SSS, and 'quotes' around text.")  # fmt: skip
