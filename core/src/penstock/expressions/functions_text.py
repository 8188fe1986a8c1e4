"""Functions of text. Lengths and places count characters (Unicode code points), the first is 1. NULL in, NULL out."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import zip_longest

import polars as pl

from penstock.expressions.by_row import by_row
from penstock.expressions.nodes import Call, Expr, Literal
from penstock.expressions.table import (
    CONSTANT_TEXT,
    INTEGER,
    LONG,
    TEXT,
    Compiled,
    Function,
    Typing,
    failing,
    plain,
    takes,
    typed,
)
from penstock.model.types import BOOLEAN, INT, STRING

__all__ = ["FUNCTIONS"]

#: Longest text that REPEAT, LPAD and RPAD make; a row that asks for more is rejected.
MADE_CHARS_MAX = 1_048_576


def _slice(value: pl.Expr, first: pl.Expr, length: pl.Expr | None = None) -> pl.Expr:
    """SUBSTRING: 1-based; 0 reads as 1, a negative start counts from the end; NULL for a negative length."""
    size = value.str.len_chars().cast(pl.Int64)
    start = first.cast(pl.Int64)
    offset = (
        pl.when(start > 0).then(start - 1).when(start == 0).then(pl.lit(0, dtype=pl.Int64)).otherwise(start + size)
    )
    if length is None:
        kept = pl.when(offset >= 0).then(value.str.slice(offset.clip(lower_bound=0)))
    else:
        wanted = length.cast(pl.Int64)
        kept = pl.when((offset >= 0) & (wanted >= 0)).then(
            value.str.slice(offset.clip(lower_bound=0), wanted.clip(lower_bound=0))
        )
    known = value.is_not_null() & first.is_not_null()
    empty = known & (offset < 0) if length is None else known & (offset < 0) & (length >= 0)
    return pl.when(empty).then(pl.lit("")).otherwise(kept)


def _left(value: pl.Expr, count: pl.Expr) -> pl.Expr:
    cut = value.str.slice(0, count.cast(pl.Int64).clip(lower_bound=0))
    return pl.when(count.is_not_null()).then(cut)


def _right(value: pl.Expr, count: pl.Expr) -> pl.Expr:
    size = value.str.len_chars().cast(pl.Int64)
    start = (size - count.cast(pl.Int64).clip(lower_bound=0)).clip(lower_bound=0)
    return pl.when(count.is_not_null()).then(value.str.slice(start))


def _pad(text: str, size: int, fill: str, *, left: bool) -> str | None:
    if size < 0 or not fill:
        return None
    missing = size - len(text)
    if missing <= 0:
        return text[:size]
    padding = (fill * (missing // len(fill) + 1))[:missing]
    return padding + text if left else text + padding


def _split_index(text: str, separator: str, index: int) -> str | None:
    if index < 0:
        return None
    if not text:  # as Java splits: an empty text has no parts, and no separator means each blank
        return None
    parts = text.split(separator) if separator else re.split(r"\s", text)
    return parts[index] if index < len(parts) else None


def _split(call: Call, args: Sequence[Compiled]) -> Compiled:
    """SPLIT_INDEX; where separator and index are constants, as they mostly are, Polars splits."""
    separator, index = call.args[1:]
    by, at = _constant(separator), _constant(index)
    if not isinstance(by, str) or not by or not isinstance(at, int) or at < 0:
        return plain(by_row(_split_index, pl.String()))(call, args)
    text = args[0].value
    part = text.str.split(by).list.get(at, null_on_oob=True)
    return Compiled(pl.when(text != "").then(part), args[0].error)


def _overlay(text: str, new: str, start: int, length: int | None = None) -> str:
    count = len(new) if length is None else length
    if start <= 0 or start > len(text):
        return text
    rest = text[start - 1 + count :] if count > 0 else ""  # Flink drops what follows where nothing is replaced
    return text[: start - 1] + new + rest


def _locate(part: pl.Expr, text: pl.Expr, start: pl.Expr | None = None) -> pl.Expr:
    """LOCATE from a place on: a place below 1 is 1; an empty part is always at 1."""
    if start is None:
        return _instr(text, part)
    skipped = (start.cast(pl.Int64) - 1).clip(lower_bound=0)
    at = _instr(text.str.slice(skipped), part)
    found = pl.when(at == 0).then(at).otherwise(at + skipped.cast(pl.Int32))
    return pl.when((part == "") & found.is_not_null()).then(pl.lit(1, dtype=pl.Int32)).otherwise(found)


def _instr(text: pl.Expr, part: pl.Expr) -> pl.Expr:
    """1-based place in characters; 0 if there is none. Polars finds bytes."""
    at = text.str.find(part, literal=True)
    characters = (text.cast(pl.Binary).bin.slice(0, at)).cast(pl.String, strict=False).str.len_chars()
    found = pl.when(at.is_null()).then(pl.lit(0, dtype=pl.Int32)).otherwise(characters.cast(pl.Int32) + 1)
    return pl.when(text.is_not_null() & part.is_not_null()).then(found)


def _trim(call: Call, values: Sequence[pl.Expr]) -> Compiled:
    if len(values) == 1:
        return Compiled(values[0].str.strip_chars(" "))
    side, characters = (str(a.value) for a in call.args[:2] if isinstance(a, Literal))
    return Compiled(_stripped(values[2], side, characters))


def _stripped(value: pl.Expr, side: str, characters: str) -> pl.Expr:
    if not characters:
        return value
    if side == "LEADING":
        return value.str.strip_chars_start(characters)
    if side == "TRAILING":
        return value.str.strip_chars_end(characters)
    return value.str.strip_chars(characters)


def _trim_check(args: Sequence[Expr]) -> Typing:
    if len(args) == 3:
        return takes(STRING, CONSTANT_TEXT, CONSTANT_TEXT, TEXT)(args)
    return takes(STRING, TEXT)(args)


def _side(side: str) -> Callable[[Call, Sequence[pl.Expr]], Compiled]:
    def build(call: Call, values: Sequence[pl.Expr]) -> Compiled:
        characters = call.args[1] if len(call.args) > 1 else None
        text = str(characters.value) if isinstance(characters, Literal) else " "
        return Compiled(_stripped(values[0], side, text))

    return build


def _constant(expr: Expr) -> object:
    return expr.value if isinstance(expr, Literal) else None


def _replace(call: Call, args: Sequence[Compiled]) -> Compiled:
    old, new = (_constant(a) for a in call.args[1:])
    if isinstance(old, str) and isinstance(new, str) and old:
        return Compiled(args[0].value.str.replace_all(old, new, literal=True), args[0].error)
    return plain(by_row(str.replace, pl.String()))(call, args)


def _joined(values: Sequence[pl.Expr]) -> pl.Expr:
    return pl.concat_str(list(values), ignore_nulls=False)


def _with_separator(_: Call, values: Sequence[pl.Expr]) -> Compiled:
    """Skips NULL parts; NULL if the separator is."""
    joined = pl.concat_list(list(values[1:])).list.drop_nulls().list.join(values[0])
    return Compiled(joined)


def _initcap(text: str) -> str:
    """Words are ASCII letters and digits; other characters stay as they are, and end words."""
    return re.sub("[A-Za-z0-9]+", lambda word: word[0].capitalize(), text)


def _repeat(_: Call, values: Sequence[pl.Expr]) -> Compiled:
    text, count = values
    too_long = text.str.len_chars().cast(pl.Int64) * count.cast(pl.Int64) > MADE_CHARS_MAX
    made = by_row(lambda t, n: t * n, pl.String())(text, pl.when(~too_long).then(count))
    return Compiled(made, failing("overflow", too_long))


def _padded(call: Call, values: Sequence[pl.Expr]) -> Compiled:
    text, size, fill = values
    left = call.function == "LPAD"
    kept = pl.when(size <= MADE_CHARS_MAX).then(size)
    made = by_row(lambda t, n, f: _pad(t, n, f, left=left), pl.String())(text, kept, fill)
    too_long = (size > MADE_CHARS_MAX) & text.is_not_null() & (fill != "")
    return Compiled(made, failing("overflow", too_long))


def _translate(text: str | None, old: str | None, new: str | None) -> str | None:
    """Character by character; the first of a character that stands twice in `old` counts."""
    if not text or not old:
        return text
    return text.translate(
        {ord(o): n for o, n in reversed(list(zip_longest(old, (new or "")[: len(old)], fillvalue="")))}
    )


def _elt(index: pl.Expr, *texts: pl.Expr) -> pl.Expr:
    found: pl.Expr = pl.lit(None, dtype=pl.String)
    for place, text in enumerate(texts, start=1):
        found = pl.when(index == place).then(text).otherwise(found)
    return found


#: What Java's Double.parseDouble reads, with the blanks around it, and any digits that are a BIGINT.
_NUMBER = re.compile(
    r"[\0- ]*[+-]?(?:NaN|Infinity|(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"
    r"|0[xX](?:[0-9a-fA-F]+\.?[0-9a-fA-F]*|\.[0-9a-fA-F]+)[pP][+-]?[0-9]+)[fFdD]?)[\0- ]*"
)


def _is_decimal(text: str) -> bool:
    if _NUMBER.fullmatch(text):
        return True
    digits = text[1:] if text[:1] in ("+", "-") else text
    return digits.isdecimal() and -(2**63) <= int(text) < 2**63


def _told(test: Callable[[pl.Expr], pl.Expr]) -> Callable[[Call, Sequence[pl.Expr]], Compiled]:
    """A test that is false for NULL."""
    return lambda _, values: Compiled(test(values[0]).fill_null(value=False))


def _text(name: str, usage: str, doc: str, build: Callable[..., pl.Expr], *examples: tuple[str, str]) -> Function:
    return Function(name, usage, doc, takes(STRING, TEXT), plain(build), examples)


FUNCTIONS = (
    Function("||", "a || b", "Both texts joined.", takes(STRING, TEXT, TEXT, more=True),
             typed(lambda _, v: Compiled(_joined(v))),
             (("'a' || 'b' || ''", '"ab"'), ("'a' || CAST(NULL AS STRING)", "null"))),
    Function("CONCAT", "CONCAT(a, b, ...)", "The texts joined; NULL if one is NULL.", takes(STRING, TEXT, more=True),
             typed(lambda _, v: Compiled(_joined(v))), (("CONCAT('a', 'b', 'c')", '"abc"'), ("CONCAT('a', NULL)",
             "null"))),
    Function("CONCAT_WS", "CONCAT_WS(separator, a, b, ...)", "The texts joined with the separator between; NULLs "
             "are left "
             "out.", takes(STRING, TEXT, TEXT, more=True), typed(_with_separator),
             (("CONCAT_WS('-', 'a', NULL, 'b')", '"a-b"'), ("CONCAT_WS(NULL, 'a')", "null"))),
    _text("UPPER", "UPPER(text)", "In upper case.", lambda v: v.str.to_uppercase(), ("UPPER('aß')", '"ASS"')),
    _text("LOWER", "LOWER(text)", "In lower case.", lambda v: v.str.to_lowercase(), ("LOWER('ABC')", '"abc"')),
    _text("INITCAP", "INITCAP(text)", "Each word (of ASCII letters and digits) with a capital first letter, the rest "
          "in lower case.", by_row(_initcap, pl.String()),
          ("INITCAP('new DELHI')", '"New Delhi"')),
    Function("CHAR_LENGTH", "CHAR_LENGTH(text), LENGTH(text)", "The number of characters.", takes(INT, TEXT),
             plain(lambda v: v.str.len_chars().cast(pl.Int32)), (("CHAR_LENGTH('né😀')", "3"), ("CHAR_LENGTH('')",
             "0"))),
    Function("TRIM", "TRIM([BOTH | LEADING | TRAILING] [characters FROM] text)",
             "Without the blanks (or the constant "
             "characters) around it.", _trim_check, typed(_trim),
             (("TRIM('  a ')", '"a"'), ("TRIM(LEADING 'x' FROM 'xxax')", '"ax"'), ("TRIM(BOTH 'xy' FROM 'xyay')",
             '"a"'))),
    Function("LTRIM", "LTRIM(text[, characters])", "Without the blanks (or constant characters) before it.",
             takes(STRING, TEXT, CONSTANT_TEXT, optional=1), typed(_side("LEADING")), (("LTRIM('  a ')", '"a "'),)),
    Function("RTRIM", "RTRIM(text[, characters])", "Without the blanks (or constant characters) behind it.",
             takes(STRING, TEXT, CONSTANT_TEXT, optional=1), typed(_side("TRAILING")), (("RTRIM('  a ')", '"  a"'),)),
    Function("BTRIM", "BTRIM(text[, characters])", "Without the blanks (or constant characters) on both sides.",
             takes(STRING, TEXT, CONSTANT_TEXT, optional=1), typed(_side("BOTH")), (("BTRIM('--a-', '-')", '"a"'),)),
    Function("SUBSTRING", "SUBSTRING(text, start[, length]) or SUBSTRING(text FROM start [FOR length])",
             "The part from a place on; a negative start counts from the end. NULL for a negative length.",
             takes(STRING, TEXT, INTEGER, INTEGER, optional=1), plain(_slice),
             (("SUBSTRING('abcdef', 2, 3)", '"bcd"'), ("SUBSTRING('abcdef' FROM 4)", '"def"'),
              ("SUBSTRING('abcdef', -2)", '"ef"'), ("SUBSTRING('abc', 1, -1)", "null"))),
    Function("LEFT", "LEFT(text, n)", "The first n characters.", takes(STRING, TEXT, INTEGER), plain(_left),
             (("LEFT('abc', 2)", '"ab"'), ("LEFT('abc', -1)", '""'))),
    Function("RIGHT", "RIGHT(text, n)", "The last n characters.", takes(STRING, TEXT, INTEGER), plain(_right),
             (("RIGHT('abc', 2)", '"bc"'), ("RIGHT('abc', 9)", '"abc"'))),
    Function("REPLACE", "REPLACE(text, old, new)", "Every occurrence of old replaced.", takes(STRING, TEXT, TEXT,
             TEXT),
             _replace,
             (("REPLACE('a-b-c', '-', '+')", '"a+b+c"'), ("REPLACE('abc', 'b', '')", '"ac"'))),
    Function("LPAD", "LPAD(text, n, fill)", "Filled on the left, or cut, to n characters. NULL for a negative n "
             "or an empty "
             "fill.", takes(STRING, TEXT, INTEGER, TEXT), typed(_padded),
             (("LPAD('7', 3, '0')", '"007"'), ("LPAD('abc', 2, '0')", '"ab"'), ("LPAD('a', -1, '0')", "null"))),
    Function("RPAD", "RPAD(text, n, fill)", "Filled on the right, or cut, to n characters.",
             takes(STRING, TEXT, INTEGER, TEXT), typed(_padded),
             (("RPAD('ab', 5, '.-')", '"ab.-."'),)),
    Function("REPEAT", "REPEAT(text, n)", "The text n times; empty for n below 1.", takes(STRING, TEXT, INTEGER),
             typed(_repeat),
             (("REPEAT('ab', 3)", '"ababab"'), ("REPEAT('ab', -1)", '""'))),
    _text("REVERSE", "REVERSE(text)", "The characters in reverse order.", by_row(lambda t: t[::-1], pl.String()),
          ("REVERSE('abc')", '"cba"')),
    Function("POSITION", "POSITION(part IN text)", "The place of the first occurrence, from 1; 0 if there is none.",
             takes(INT, TEXT, TEXT), plain(lambda part, text: _instr(text, part)),
             (("POSITION('c' IN 'abc')", "3"), ("POSITION('x' IN 'abc')", "0"))),
    Function("LOCATE", "LOCATE(part, text[, start])", "As POSITION, from a place on.",
             takes(INT, TEXT, TEXT, INTEGER, optional=1), plain(_locate),
             (("LOCATE('é', 'aé')", "2"), ("LOCATE('a', 'abca', 2)", "4"))),
    Function("INSTR", "INSTR(text, part)", "As POSITION, with the text first.", takes(INT, TEXT, TEXT), plain(_instr),
             (("INSTR('abc', 'b')", "2"), ("INSTR('éb', 'b')", "2"))),
    Function("SPLIT_INDEX", "SPLIT_INDEX(text, separator, index)",
             "The part at an index, from 0, between separators; NULL "
             "if there are fewer.", takes(STRING, TEXT, TEXT, INTEGER), _split,
             (("SPLIT_INDEX('a/b/c', '/', 1)", '"b"'), ("SPLIT_INDEX('a/b', '/', 5)", "null"),
             ("SPLIT_INDEX('a//b', '/', 1)", '""'))),
    Function("OVERLAY", "OVERLAY(text PLACING new FROM start [FOR length])", "A part replaced by another text.",
             takes(STRING, TEXT, TEXT, INTEGER, INTEGER, optional=1), plain(by_row(_overlay, pl.String())),
             (("OVERLAY('abcdef' PLACING 'XY' FROM 2)", '"aXYdef"'), ("OVERLAY('abcdef' PLACING 'X' FROM 2 FOR 3)",
             '"aXef"'))),
    Function("TRANSLATE", "TRANSLATE(text, old, new)", "Each character of old replaced by the one at its place "
             "in new, or left out; the text itself if old is NULL.", takes(STRING, TEXT, TEXT, TEXT),
             plain(by_row(_translate, pl.String(), nulls=True)),
             (("TRANSLATE('2026-11-21', '-', '/')", '"2026/11/21"'), ("TRANSLATE('abcab', 'ab', 'x')", '"xcx"'))),
    Function("ELT", "ELT(n, a, b, ...)", "The n-th of the texts, from 1; NULL beyond them.",
             takes(STRING, LONG, TEXT, more=True), plain(_elt),
             (("ELT(2, 'a', 'b')", '"b"'), ("ELT(3, 'a', 'b') IS NULL", "true"))),
    Function("IS_ALPHA", "IS_ALPHA(text)", "True if all characters are letters; false for an empty text and NULL.",
             takes(BOOLEAN, TEXT), typed(_told(lambda v: v.str.contains(r"^[\p{L}&&[\x{0}-\x{FFFF}]]+$"))),
             (("IS_ALPHA('Né')", "true"), ("IS_ALPHA('a1')", "false"))),
    Function("IS_DIGIT", "IS_DIGIT(text)", "True if all characters are digits; false for an empty text and NULL.",
             takes(BOOLEAN, TEXT), typed(_told(lambda v: v.str.contains(r"^\p{Nd}+$"))),
             (("IS_DIGIT('042')", "true"), ("IS_DIGIT('-1')", "false"))),
    Function("IS_DECIMAL", "IS_DECIMAL(text)", "True if the text is a number as Java reads DOUBLEs; false for NULL.",
             takes(BOOLEAN, TEXT), typed(_told(by_row(_is_decimal, pl.Boolean()))),
             (("IS_DECIMAL(' -1.5e3')", "true"), ("IS_DECIMAL('1,5')", "false"))),
    Function("STARTSWITH", "STARTSWITH(text, prefix)", "True if the text begins so.", takes(BOOLEAN, TEXT, TEXT),
             plain(lambda v, p: v.str.starts_with(p)), (("STARTSWITH('abc', 'ab')", "true"),
             ("STARTSWITH('abc', NULL)", "null"))),
    Function("ENDSWITH", "ENDSWITH(text, suffix)", "True if the text ends so.", takes(BOOLEAN, TEXT, TEXT),
             plain(lambda v, p: v.str.ends_with(p)), (("ENDSWITH('abc', 'bc')", "true"), ("ENDSWITH('abc', '')",
             "true"))),
    Function("ASCII", "ASCII(text)", "The code of the first character as a byte; 0 for an empty text.", takes(INT,
             TEXT),
             plain(by_row(lambda t: (t.encode() or b"\0")[0] - (256 if (t.encode() or b"\0")[0] > 127 else 0),
             pl.Int32())),
             (("ASCII('abc')", "97"), ("ASCII('')", "0"))),
    Function("CHR", "CHR(n)", "The character with this code (modulo 256); empty for a negative one.", takes(STRING,
             INTEGER),
             plain(by_row(lambda n: "" if n < 0 else chr(n % 256), pl.String())), (("CHR(97)", '"a"'), ("CHR(-1)",
             '""'))),
)  # fmt: skip
