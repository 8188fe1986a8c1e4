"""The shape of the function table: what an entry says, and small builders for entries."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import polars as pl

from penstock.expressions.coercion import INTERVAL, Mismatch
from penstock.expressions.nodes import Call, Expr, Literal
from penstock.model.types import BIGINT, BOOLEAN, DOUBLE, INT, STRING, DataType, Kind

__all__ = ["Compiled", "Function", "OwnCall", "Parameter", "Typing", "failing", "merge_errors", "plain", "takes"]


@dataclass(frozen=True, slots=True)
class Compiled:
    """An expression over a frame's columns. `error`: a String expression, the code of what failed in a row (`code:
    what is to be said of it`, where there is more), else null; None: cannot fail. Where `error` is set, `value` means
    nothing. Neither ever raises for a batch.
    """

    value: pl.Expr
    error: pl.Expr | None = None


@dataclass(frozen=True, slots=True)
class Typing:
    """What arguments are converted to, and the type of the result."""

    arguments: tuple[DataType, ...]
    result: DataType


Check = Callable[[Sequence[Expr]], Typing]
Build = Callable[[Call, Sequence[Compiled]], Compiled]


@dataclass(frozen=True, slots=True)
class Function:
    """One entry: a function or operator by its SQL name."""

    name: str
    usage: str
    doc: str
    check: Check  # raises Mismatch
    build: Build
    examples: tuple[tuple[str, str], ...]  # (SQL, the value as JSON text, or `error: code`)


@dataclass(frozen=True, slots=True)
class OwnCall(Call):
    """A call of a function that the app brings along: its entry is in no table."""

    entry: Function = None  # type: ignore[assignment]  # dataclass inheritance asks for a default; always given


def merge_errors(errors: Iterable[pl.Expr | None]) -> pl.Expr | None:
    """The first error of each row, in order of the arguments."""
    present = [e for e in errors if e is not None]
    if not present:
        return None
    return present[0] if len(present) == 1 else pl.coalesce(present)


def failing(code: str, where: pl.Expr) -> pl.Expr:
    """`code` in the rows where `where` is true."""
    return pl.when(where).then(pl.lit(code))


def plain(build: Callable[..., pl.Expr]) -> Build:
    """A function of the arguments' values that cannot fail by itself; fails where an argument fails."""

    def apply(_: Call, args: Sequence[Compiled]) -> Compiled:
        return Compiled(build(*(a.value for a in args)), merge_errors(a.error for a in args))

    return apply


def typed(build: Callable[[Call, Sequence[pl.Expr]], Compiled]) -> Build:
    """A function that looks at the types and may fail; fails first where an argument fails."""

    def apply(call: Call, args: Sequence[Compiled]) -> Compiled:
        made = build(call, [a.value for a in args])
        return Compiled(made.value, merge_errors([*(a.error for a in args), made.error]))

    return apply


@dataclass(frozen=True, slots=True)
class Parameter:
    """What an argument may be: `accepts(expr)` gives the type it is converted to, or None."""

    name: str
    accepts: Callable[[Expr], DataType | None]
    remedy: str


def _one_of(name: str, kinds: set[Kind], target: DataType | None, remedy: str) -> Parameter:
    def accepts(expr: Expr) -> DataType | None:
        if expr.type.kind is Kind.NULL:
            return target
        if expr.type.kind in kinds:
            return target or expr.type
        return None

    return Parameter(name, accepts, remedy)


_INTEGERS = {Kind.TINYINT, Kind.SMALLINT, Kind.INT, Kind.BIGINT}
_NUMBERS = _INTEGERS | {Kind.FLOAT, Kind.DOUBLE, Kind.DECIMAL}

TEXT = _one_of("STRING", {Kind.STRING}, STRING, "Write CAST(x AS STRING).")
BOOL = _one_of("BOOLEAN", {Kind.BOOLEAN}, BOOLEAN, "Write a comparison, or CAST(x AS BOOLEAN).")
INTEGER = _one_of("INT", _INTEGERS - {Kind.BIGINT}, INT, "Write CAST(x AS INT).")
LONG = _one_of("BIGINT", _INTEGERS, BIGINT, "Write CAST(x AS BIGINT).")
NUMBER = _one_of("a number", _NUMBERS, None, "Write CAST(x AS DOUBLE).")
REAL = _one_of("a number", _NUMBERS, DOUBLE, "Write CAST(x AS DOUBLE).")
SPAN = _one_of("INTERVAL", {Kind.INTERVAL}, INTERVAL, "Write INTERVAL '10' MINUTE.")


def _literal_text(expr: Expr) -> DataType | None:
    return STRING if isinstance(expr, Literal) and isinstance(expr.value, str) else None


CONSTANT_TEXT = Parameter("a constant STRING", _literal_text, "Write the text itself, in 'single quotes'.")


def takes(result: DataType | int, *parameters: Parameter, optional: int = 0, more: bool = False) -> Check:
    """A check for fixed parameters. `result`: the type, or the index of the argument whose (converted) type it is.

    The last `optional` parameters may be left out; with `more` the last one may be repeated.
    """

    def check(args: Sequence[Expr]) -> Typing:
        least = len(parameters) - optional
        if len(args) < least or (len(args) > len(parameters) and not more):
            most = "or more" if more else "" if not optional else f"to {len(parameters)}"
            count = f"{least} {most}".strip()
            raise Mismatch(f"takes {count} arguments, not {len(args)}.", "Check the arguments.")
        targets = []
        for i, arg in enumerate(args):
            parameter = parameters[min(i, len(parameters) - 1)]
            target = parameter.accepts(arg)
            if target is None:
                raise Mismatch(f"takes {parameter.name} as argument {i + 1}, not {arg.type}.", parameter.remedy)
            targets.append(target)
        return Typing(tuple(targets), targets[result] if isinstance(result, int) else result)

    return check
