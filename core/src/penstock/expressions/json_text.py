"""JSON as Flink reads and writes it: lenient behind the first value, numbers exact, keys sorted, no blanks.

Flink reads with Jackson (no trailing check, doubles as BigDecimal) and writes maps with ordered keys.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from decimal import Decimal

__all__ = ["quoted", "read_json", "shown", "unquoted", "write_json"]

_BLANKS = " \t\n\r"
_ESCAPES = str.maketrans(
    {chr(code): f"\\u{code:04X}" for code in range(32)}
    | {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
)
_SHORT = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_LONG = {character: "\\" + short for short, character in _SHORT.items()}


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is no JSON")


_DECODER: Callable[[str, int], tuple[object, int]] = json.JSONDecoder(
    parse_float=Decimal, parse_constant=_no_constant
).raw_decode


def read_json(text: str) -> object:
    """The first JSON value of `text`: dict, list, str, int, Decimal, bool or None. ValueError if there is none."""
    start = len(text) - len(text.lstrip(_BLANKS))
    try:
        value, end = _DECODER(text, start)
    except (ArithmeticError, RecursionError) as error:
        raise ValueError("too deep, or a number too large") from error
    if end < len(text) and not isinstance(value, dict | list | str):
        behind = text[end]
        if behind not in _BLANKS and (isinstance(value, int | Decimal) and not isinstance(value, bool)):
            raise ValueError("a number ends at a blank")
        if behind.isalnum() or behind in "_$":
            raise ValueError("a word ends at a blank")
    return value


def shown(value: object) -> str:
    """A scalar as SQL text: a string itself, `true`, `1.10`, `1E+2`."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Decimal):
        return str(value.copy_abs() if value.is_zero() else value)  # Java's BigDecimal has no negative zero
    return str(value)


def write_json(value: object) -> str:
    """Compact JSON of what `read_json` returns. RecursionError if it is nested too deep."""
    if value is None:
        return "null"
    if isinstance(value, str):
        return f'"{value.translate(_ESCAPES)}"'
    if isinstance(value, dict):
        members = sorted(value.items(), key=lambda member: member[0].encode("utf-16-be", "surrogatepass"))
        return "{" + ",".join(f"{write_json(key)}:{write_json(item)}" for key, item in members) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(write_json, value)) + "]"
    return shown(value)


def quoted(text: str) -> str:
    """JSON_QUOTE: what is not ASCII is escaped, a slash as well, other control characters are not."""
    found = []
    for character in text:
        if character in _LONG:
            found.append(_LONG[character])
        elif ord(character) < 128:
            found.append(character)
        else:
            units = character.encode("utf-16-be", "surrogatepass").hex()
            found.append("".join(f"\\u{units[i : i + 4]}" for i in range(0, len(units), 4)))
    return f'"{"".join(found)}"'


def unquoted(text: str) -> str:
    """JSON_UNQUOTE: the text in a JSON string; other texts as they are."""
    if len(text) < 2 or text[0] != '"' or text[-1] != '"':
        return text
    try:
        read_json(text)
    except ValueError:
        return text
    body = re.sub(r"\\u([0-9A-Fa-f]{4})|\\(.)", _unescaped, text[1:-1], flags=re.DOTALL)
    return body.encode("utf-16", "surrogatepass").decode(
        "utf-16", "surrogatepass"
    )  # pairs of escapes are one character


def _unescaped(match: re.Match[str]) -> str:
    if match[1] is not None:
        return chr(int(match[1], 16))
    return _SHORT.get(match[2], match[0])
