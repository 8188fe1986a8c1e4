r"""Java's regular expressions (java.util.regex.Pattern, as Flink has them) for the regex engine of Polars.

That engine takes linear time whatever the pattern; so there is no look-around, no back-reference and no possessive
quantifier. The rest is translated: classes such as \d, \w and \p{Alpha} are ASCII in Java, . excludes Java's line
ends, \Q...\E quotes. Left as they are: $ is the very end (Java also has it before a last line end), \b and (?i) know
letters beyond ASCII.
"""

from __future__ import annotations

import polars as pl

from penstock.expressions.coercion import Mismatch

__all__ = ["group_count", "polars_pattern", "similar_pattern"]

_SIMPLER = "Write a simpler pattern, or combine several conditions."
_ANY = "[^\\n\\r\\x{85}\\x{2028}\\x{2029}]"
_CLASSES = {
    "d": "0-9", "w": "a-zA-Z0-9_", "s": " \\t\\n\\x0B\\f\\r",
    "h": " \\t\\xA0\\x{1680}\\x{180e}\\x{2000}-\\x{200a}\\x{202f}\\x{205f}\\x{3000}",
}  # fmt: skip
_POSIX = {
    "Lower": "a-z", "Upper": "A-Z", "ASCII": "\\x00-\\x7F", "Alpha": "a-zA-Z", "Digit": "0-9", "Alnum": "a-zA-Z0-9",
    "Punct": "!-/:-@\\[-`{-~", "Graph": "!-~", "Print": " -~", "Blank": " \\t", "Cntrl": "\\x00-\\x1F\\x7F",
    "XDigit": "0-9a-fA-F", "Space": " \\t\\n\\x0B\\f\\r",
}  # fmt: skip
_SIMILAR_SPECIALS = "[]()|^-+*_%?{}"
_SIMILAR_CLASSES = {
    "ALPHA": "\\p{Alpha}", "UPPER": "\\p{Upper}", "LOWER": "\\p{Lower}", "DIGIT": "\\d", "SPACE": " ",
    "WHITESPACE": "\\s", "ALNUM": "\\p{Alnum}",
}  # fmt: skip


def polars_pattern(pattern: str) -> str:
    """The pattern for Polars that means what `pattern` means in Java. Mismatch if there is none, or it is none."""
    made = _Translation(pattern).made()
    try:
        pl.select(pl.lit("").str.contains(made))
    except pl.exceptions.ComputeError:
        raise Mismatch(
            f"cannot read the regular expression '{pattern[:60]}'.", "Check brackets and escapes."
        ) from None
    return made


def group_count(pattern: str) -> int:
    """Capturing groups of a pattern that `polars_pattern` returned."""
    if "(" not in pattern:
        return 0
    groups = pl.Series([""]).str.extract_groups(pattern).dtype
    return len(groups.fields) if isinstance(groups, pl.Struct) else 0


def similar_pattern(pattern: str, escape: str | None) -> str:
    """The Java regular expression of a SIMILAR TO pattern, by Calcite's reading: % any text, _ one character, [...]
    with [:DIGIT:] and its like, and | * + ? {n} ( ) as in regular expressions. Mismatch for a broken one.
    """
    if escape is not None and len(escape) != 1:
        raise Mismatch("takes one character as ESCAPE.", "Write ESCAPE '!'.")
    found, at, inside = [], 0, False
    while at < len(pattern):
        character = pattern[at]
        if character == escape:
            at += 1
            if at == len(pattern) or (pattern[at] != escape and pattern[at] not in _SIMILAR_SPECIALS):
                raise Mismatch("has an escape character that escapes nothing.", f"Escape only {_SIMILAR_SPECIALS}.")
            found.append("\\" + pattern[at] if pattern[at] in _SIMILAR_SPECIALS else pattern[at])
        elif inside and pattern.startswith("[:", at):
            name, end, _ = pattern[at + 2 :].partition(":]")
            if not end or name.upper() not in _SIMILAR_CLASSES or not (name.isupper() or name.islower()):
                raise Mismatch(f"does not know the class '{pattern[at:][:20]}'.",
                               f"Write one of {', '.join(f'[:{c}:]' for c in _SIMILAR_CLASSES)}.")  # fmt: skip
            found.append(_SIMILAR_CLASSES[name.upper()])
            at += len(name) + 3
        elif inside:
            if character in _SIMILAR_SPECIALS and character not in "]-^":
                raise Mismatch(f"has '{character}' in brackets.", "Escape it: ESCAPE '!'.")
            inside = character != "]"
            found.append(character)
        else:
            inside = character == "["
            found.append({"%": "[\\s\\S]*", "_": ".", "\\": "\\\\", "$": "\\$"}.get(character, character))
        at += 1
    return f"^(?:{''.join(found)})$"


class _Translation:
    """One walk over a pattern."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._at = 0
        self._depth = 0  # of character classes
        self._fresh = False  # right behind the [ or [^ of a class
        self._quantified = False
        self._dot_all = False

    def made(self) -> str:
        found = []
        while self._at < len(self._pattern):
            fresh, quantified = self._fresh, self._quantified
            self._fresh = self._quantified = False
            character = self._pattern[self._at]
            self._at += 1
            if character == "\\":
                found.append(self._escape())
            elif self._depth:
                found.append(self._in_class(character, fresh=fresh))
            else:
                found.append(self._plain(character, quantified=quantified))
        return "".join(found)

    def _next(self) -> str:
        return self._pattern[self._at : self._at + 1]

    def _plain(self, character: str, *, quantified: bool) -> str:
        match character:
            case "[":
                return self._open()
            case ".":
                return "." if self._dot_all else _ANY
            case "+" if quantified:
                raise Mismatch("takes regular expressions without possessive quantifiers.", _SIMPLER)
            case "*" | "+" | "?" | "}":
                self._quantified = not (character == "?" and quantified)
            case "(":
                self._group()
        return character

    def _group(self) -> None:
        ahead = self._pattern[self._at : self._at + 3]
        if ahead.startswith(("?=", "?!", "?>", "?<=", "?<!")):
            raise Mismatch("takes regular expressions without look-around and atomic groups.", _SIMPLER)
        flags = self._pattern[self._at + 1 :].partition(")")[0].partition(":")[0].partition("-")[0]
        if ahead.startswith("?") and flags.isalpha() and "s" in flags:
            self._dot_all = True

    def _open(self) -> str:
        self._depth += 1
        self._fresh = True
        negated = self._next() == "^"
        self._at += negated
        return "[^" if negated else "["

    def _in_class(self, character: str, *, fresh: bool) -> str:
        if character == "]" and not fresh:
            self._depth -= 1
        elif character == "[":
            opened = self._open()
            return "[\\:" if opened == "[" and self._next() == ":" and self._skip() else opened
        elif character == "~" or (character == "-" and self._next() == "-") or (character == "]" and fresh):
            return "\\" + character
        return character

    def _skip(self) -> bool:
        self._at += 1
        return True

    def _escape(self) -> str:
        character = self._next()
        self._at += 1
        if not character:
            return "\\"  # refused when it is read
        if character in "123456789k":
            raise Mismatch("takes regular expressions without back-references.", _SIMPLER)
        if character.lower() in _CLASSES:
            return self._set(_CLASSES[character.lower()], negated=character.isupper())
        if character in "pP":
            return self._property(negated=character == "P")
        if character == "Q":
            quoted, _, _ = self._pattern[self._at :].partition("\\E")
            self._at = min(len(self._pattern), self._at + len(quoted) + 2)
            return "".join(_quoted(c) for c in quoted)
        if character == "E":
            return ""
        if character == "e":
            return "\\x1B"
        return "\\" + character if character.isascii() and character.isalnum() else _quoted(character)

    def _property(self, *, negated: bool) -> str:
        name = self._next()
        if name == "{":
            name, _, _ = self._pattern[self._at + 1 :].partition("}")
            self._at += len(name) + 2
        else:
            self._at += 1
        if name in _POSIX:
            return self._set(_POSIX[name], negated=negated)
        return f"\\{'P' if negated else 'p'}{{{name.removeprefix('Is')}}}"

    def _set(self, body: str, *, negated: bool) -> str:
        if negated:
            return f"[^{body}]"
        return body if self._depth else f"[{body}]"


def _quoted(character: str) -> str:
    if character in "<>" or not character.isascii() or character.isalnum():
        return character
    return "\\" + character if character.isprintable() else character
