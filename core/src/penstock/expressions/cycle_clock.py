"""The time of CURRENT_TIMESTAMP: what a clock shows at the start of a cycle, the same for all of its rows.

An expression is compiled once and asked in every cycle, so it reads a cell that whoever runs the cycles sets.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import polars as pl

__all__ = ["NOW", "CycleClock", "compiled_with", "now"]

#: The function that CURRENT_TIMESTAMP and its like are bound to: no arguments, TIMESTAMP_LTZ(3).
NOW = "CURRENT_TIMESTAMP"


@dataclass(slots=True)
class CycleClock:
    """`now_ms`: the time of the cycle, epoch milliseconds."""

    now_ms: int = 0


_clock: ContextVar[CycleClock] = ContextVar("cycle clock of what is being compiled")


@contextmanager
def compiled_with(clock: CycleClock) -> Iterator[None]:
    """What is compiled in this block reads this clock."""
    token = _clock.set(clock)
    try:
        yield
    finally:
        _clock.reset(token)


def now() -> pl.Expr:
    """One value of `polars_type(TIMESTAMP_LTZ)`: what the clock shows when it is computed. LookupError: no clock."""
    clock = _clock.get()

    def read(_: pl.Series) -> pl.Series:
        return pl.Series([clock.now_ms], dtype=pl.Int64)

    shown = pl.lit(0, dtype=pl.Int64).map_batches(read, return_dtype=pl.Int64(), returns_scalar=True)
    return shown.cast(pl.Datetime("ms")).dt.replace_time_zone("UTC")
