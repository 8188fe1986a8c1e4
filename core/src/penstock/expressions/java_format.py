"""Java's format strings (java.util.Formatter with Locale.US), as far as Flink's PRINTF can meet them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Context, Decimal

__all__ = ["Argument", "java_printf"]

_SPECIFIER = re.compile(r"%([0-9]{1,6}\$|<)?([-#+ 0,(]*)([1-9][0-9]{0,5})?(?:\.([0-9]{1,6}))?([a-zA-Z%])")
_FLAGS = {"d": "-+ 0,(", "x": "-#0", "o": "-#0", "e": "-+ 0(", "f": "-+ 0,(", "g": "-+ 0(", "s": "-", "b": "-",
          "c": "-"}  # fmt: skip
_MADE_CHARS_MAX = 1_048_576
_PRECISION_MAX = 400
_WIDE = Context(prec=1_200)


@dataclass(frozen=True, slots=True)
class Argument:
    """A value (str, bool, int, float, None, or what has only a text), its text as %s shows it, and the bits of its
    integer type.
    """

    value: object
    text: str
    bits: int


@dataclass(frozen=True, slots=True)
class _Spec:
    flags: str
    width: str
    precision: str
    conversion: str


class _RefusedError(Exception):
    """What Java's formatter throws."""


def java_printf(form: str, arguments: Sequence[Argument]) -> str | None:
    """The formatted text; None where Java's formatter fails, for %a, %h and %t, and beyond 1,048,576 characters."""
    made: list[str] = []
    at = ordinary = last = size = 0
    try:
        while at < len(form) and size <= _MADE_CHARS_MAX:
            end = form.find("%", at) if form[at] != "%" else at
            if end != at:
                end = len(form) if end < 0 else end
                made.append(form[at:end])
            else:
                found = _SPECIFIER.match(form, at)
                if found is None:
                    return None
                end = found.end()
                spec = _Spec(*(found[i] or "" for i in (2, 3, 4, 5)))
                if spec.conversion in "n%":
                    made.append(_plain(spec))
                else:
                    last = ordinary if found[1] is None else last if found[1] == "<" else int(found[1][:-1]) - 1
                    ordinary += found[1] is None
                    if not 0 <= last < len(arguments):
                        return None
                    made.append(_shown(spec, arguments[last]))
            size += len(made[-1])
            at = end
    except _RefusedError:
        return None
    return None if size > _MADE_CHARS_MAX else "".join(made)


def _plain(spec: _Spec) -> str:
    if spec.conversion == "n":
        if spec.flags or spec.width or spec.precision:
            raise _RefusedError
        return "\n"
    if spec.precision or spec.flags.strip("-") or (spec.flags and not spec.width):
        raise _RefusedError
    return _padded("%", spec)


def _padded(text: str, spec: _Spec) -> str:
    if not spec.width:
        return text
    return text.ljust(int(spec.width)) if "-" in spec.flags else text.rjust(int(spec.width))


def _shown(spec: _Spec, argument: Argument) -> str:
    _check(spec)
    text = _converted(spec, argument)
    return _padded(text.upper() if spec.conversion.isupper() else text, spec)


def _check(spec: _Spec) -> None:
    kind = spec.conversion.lower()
    flags = spec.flags
    if kind not in _FLAGS or (spec.conversion.isupper() and kind in "dof"):
        raise _RefusedError
    if len(set(flags)) < len(flags) or set(flags) - set(_FLAGS[kind]) or {"+", " "} <= set(flags):
        raise _RefusedError
    if (
        {"-", "0"} <= set(flags)
        or (set(flags) & {"-", "0"} and not spec.width)
        or (spec.precision and kind in "dxoc")
    ):
        raise _RefusedError


def _converted(spec: _Spec, argument: Argument) -> str:
    kind, value = spec.conversion.lower(), argument.value
    if kind == "b":
        return _cut("false" if value is None or value is False else "true", spec)
    if kind == "s":
        return _cut("null" if value is None else argument.text, spec)
    if value is None:
        return "null"
    if kind in "fge":
        if not isinstance(value, float):
            raise _RefusedError
        return _real(spec, argument.text)
    if not isinstance(value, int) or isinstance(value, bool):
        raise _RefusedError
    if kind == "c":
        if argument.bits > 32 or not 0 <= value <= 0x10FFFF:
            raise _RefusedError
        return chr(value)
    if kind == "d":
        return _signed(f"{abs(value):,}" if "," in spec.flags else str(abs(value)), spec, negative=value < 0)
    digits = format(value % 2**argument.bits, kind)
    prefix = {"x": "0x", "o": "0"}[kind] if "#" in spec.flags else ""
    return prefix + _filled(digits, spec, len(prefix))


def _cut(text: str, spec: _Spec) -> str:
    return text[: int(spec.precision)] if spec.precision else text


def _signed(digits: str, spec: _Spec, *, negative: bool) -> str:
    if negative:
        before, behind = ("(", ")") if "(" in spec.flags else ("-", "")
    else:
        before, behind = "+" if "+" in spec.flags else " " if " " in spec.flags else "", ""
    return before + _filled(digits, spec, len(before + behind)) + behind


def _filled(digits: str, spec: _Spec, taken: int) -> str:
    return digits.rjust(int(spec.width) - taken, "0") if "0" in spec.flags else digits


def _real(spec: _Spec, text: str) -> str:
    """Rounded half up from the shortest decimal digits of the number, as Java does it."""
    negative = text.startswith("-")
    digits = text.lstrip("-")
    if digits in ("NaN", "Infinity"):
        before = "" if digits == "NaN" else "-" if negative else "+" if "+" in spec.flags else ""
        return f"({digits})" if before == "-" and "(" in spec.flags else before + digits
    number, kind = Decimal(digits), spec.conversion.lower()
    precision = int(spec.precision) if spec.precision else 6
    if precision > _PRECISION_MAX:
        raise _RefusedError
    if kind == "g":
        precision = max(precision, 1)
        rounded = _rounded(number, number.adjusted() - precision + 1) if number else number
        if rounded and not Decimal("1e-4") <= rounded < Decimal(10) ** precision:
            kind, precision = "e", precision - 1
        else:
            kind, precision = "f", precision - 1 - (rounded.adjusted() if rounded else 0)
    if kind == "f":
        shown = format(_rounded(number, -precision), "f")
        whole, point, fraction = shown.partition(".")
        grouped = f"{int(whole):,}" if "," in spec.flags else whole
        return _signed(grouped + point + fraction, spec, negative=negative)
    if number:
        number = _rounded(number, number.adjusted() - precision)
    power = number.adjusted() if number else 0
    mantissa = format(_rounded(number.scaleb(-power, _WIDE), -precision), "f")
    return _signed(f"{mantissa}e{'-' if power < 0 else '+'}{abs(power):02d}", spec, negative=negative)


def _rounded(number: Decimal, exponent: int) -> Decimal:
    return number.quantize(Decimal(1).scaleb(exponent, _WIDE), ROUND_HALF_UP, _WIDE)
