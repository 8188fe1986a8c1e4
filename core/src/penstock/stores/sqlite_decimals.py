"""DECIMAL arithmetic for queries in SQLite, which has none: functions over the texts of `stores.tables.ExactDecimal`.

Exact to 38 digits, HALF_UP; what has too many digits is NULL, as a division by 0 is. A text of p + 1 digits holds the
unscaled value plus 10^p, so its precision can be seen; scales are told.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from decimal import ROUND_HALF_UP, Context, Decimal
from typing import Final

from penstock.stores.tables import decimal_text, read_decimal_text

__all__ = ["AGGREGATE", "DECIMAL_FUNCTIONS", "add_decimal_functions"]

#: Sum of decimals of one scale, as DECIMAL(38, s).
AGGREGATE = "penstock_decimal_sum"
#: Name -> number of arguments.
DECIMAL_FUNCTIONS: Final = {
    "penstock_decimal": 3,
    "penstock_decimal_cast": 4,
    "penstock_decimal_number": 2,
    "penstock_decimal_integer": 2,
    "penstock_decimal_print": 2,
    "penstock_decimal_add": 6,
    "penstock_decimal_subtract": 6,
    "penstock_decimal_multiply": 6,
    "penstock_decimal_divide": 6,
    "penstock_decimal_modulo": 6,
    AGGREGATE: 1,
}

_DIGITS_MAX = 38
_WIDE = Context(prec=160)
#: Digits of a DOUBLE that become decimal ones: what PostgreSQL's cast keeps.
_DOUBLE_DIGITS = 15


def add_decimal_functions(connection: sqlite3.Connection) -> None:
    """Make the functions of DECIMAL_FUNCTIONS known to the connection."""
    made: dict[str, Callable[..., str | int | float | None]] = {
        "penstock_decimal": _from_number,
        "penstock_decimal_cast": _rescaled,
        "penstock_decimal_number": lambda text, scale: None if text is None else float(_read(text, scale)),
        "penstock_decimal_integer": lambda text, scale: None if text is None else int(_read(text, scale)),
        "penstock_decimal_print": lambda text, scale: None if text is None else f"{_read(text, scale):f}",
        "penstock_decimal_add": _operation(_WIDE.add),
        "penstock_decimal_subtract": _operation(_WIDE.subtract),
        "penstock_decimal_multiply": _operation(_WIDE.multiply),
        "penstock_decimal_divide": _operation(_WIDE.divide, divides=True),
        "penstock_decimal_modulo": _operation(_WIDE.remainder, divides=True),
    }
    for name, function in made.items():
        connection.create_function(name, DECIMAL_FUNCTIONS[name], function, deterministic=True)
    connection.create_window_function(AGGREGATE, 1, _Sum)


def _read(text: str, scale: int) -> Decimal:
    return read_decimal_text(text, len(text) - 1, scale)


def _fitted(value: Decimal, precision: int, scale: int) -> str | None:
    rounded = value.quantize(Decimal(1).scaleb(-scale), ROUND_HALF_UP, _WIDE)
    if rounded and rounded.adjusted() >= precision - scale:
        return None
    return decimal_text(rounded, precision, scale)


def _from_number(value: float | None, precision: int, scale: int) -> str | None:
    if value is None or value in (float("inf"), float("-inf")):
        return None
    exact = Decimal(value) if isinstance(value, int) else Decimal(f"{value:.{_DOUBLE_DIGITS}g}")
    if exact and exact.adjusted() >= precision - scale:
        return None
    return _fitted(exact, precision, scale)


def _rescaled(text: str | None, own_scale: int, precision: int, scale: int) -> str | None:
    return None if text is None else _fitted(_read(text, own_scale), precision, scale)


def _operation(compute: Callable[[Decimal, Decimal], Decimal], *, divides: bool = False) -> Callable[..., str | None]:
    def run(
        left: str | None, left_scale: int, right: str | None, right_scale: int, precision: int, scale: int
    ) -> str | None:
        if left is None or right is None:
            return None
        divisor = _read(right, right_scale)
        if divides and not divisor:
            return None
        return _fitted(compute(_read(left, left_scale), divisor), precision, scale)

    return run


class _Sum:
    """Aggregate and window function."""

    def __init__(self) -> None:
        self._total = self._count = 0

    def step(self, text: str | None) -> None:
        if text is not None:
            self._total += _unscaled(text)
            self._count += 1

    def inverse(self, text: str | None) -> None:
        if text is not None:
            self._total -= _unscaled(text)
            self._count -= 1

    def value(self) -> str | None:
        if not self._count or abs(self._total) >= 10**_DIGITS_MAX:
            return None
        return decimal_text(Decimal(self._total), _DIGITS_MAX, 0)

    def finalize(self) -> str | None:
        return self.value()


def _unscaled(text: str) -> int:
    bias: int = 10 ** (len(text) - 1)
    return int(text) - bias
