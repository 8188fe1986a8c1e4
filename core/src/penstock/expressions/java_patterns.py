"""Java's date patterns (DateTimeFormatter, as Flink's DATE_FORMAT has them) as chrono formats."""

from __future__ import annotations

import re

from penstock.expressions.coercion import Mismatch

__all__ = ["chrono_format"]

_FIELDS = {
    "yyyy": "%Y", "uuuu": "%Y", "y": "%Y", "u": "%Y", "yy": "%y", "MM": "%m", "M": "%-m", "MMM": "%b", "MMMM": "%B",
    "dd": "%d", "d": "%-d", "HH": "%H", "H": "%-H", "hh": "%I", "h": "%-I", "mm": "%M", "m": "%-M", "ss": "%S",
    "s": "%-S", "SSS": "%3f", "a": "%p", "E": "%a", "EE": "%a", "EEE": "%a", "EEEE": "%A", "DDD": "%j", "D": "%-j",
}  # fmt: skip
_PIECE = re.compile(r"'((?:[^']|'')*)'|(([A-Za-z])\3*)|([^A-Za-z'])")


def chrono_format(pattern: str, *, parsing: bool) -> str:
    """The format of a pattern; Mismatch for letters without a counterpart, or (parsing) names of days."""
    found, at = [], 0
    while at < len(pattern):
        piece = _PIECE.match(pattern, at)
        if piece is None:
            raise Mismatch(f"has an open quote in the pattern '{pattern[:40]}'.", "Close it with '.")
        quoted, field, _, other = piece.groups()
        if quoted is not None:
            found.append((quoted.replace("''", "'") or "'").replace("%", "%%"))
        elif field is not None:
            if field not in _FIELDS or (parsing and field[0] in "ED"):
                raise Mismatch(f"does not know '{field}' in the pattern '{pattern[:40]}'.",
                               "Use yyyy MM dd HH mm ss SSS, and 'quotes' around text.")  # fmt: skip
            found.append(_FIELDS[field])
        else:
            found.append(other.replace("%", "%%"))
        at = piece.end()
    if not found:
        raise Mismatch("has an empty pattern.", "Write 'yyyy-MM-dd', for example.")
    return "".join(found)
