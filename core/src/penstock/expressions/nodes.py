"""Typed expressions: what binding makes of SQL text, and what compilation to Polars reads. sqlglot stops before here.

A node knows its SQL type and where it stood in the text. Columns are named as in the frame that the expression is
evaluated on (joins rename on purpose), so compilation needs no scope.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from penstock.model.types import DataType, Kind

__all__ = ["Call", "Case", "Cast", "ColumnRef", "Expr", "Literal", "Span", "walk"]


@dataclass(frozen=True, slots=True)
class Span:
    """1-based place of the first character in the app's text."""

    line: int
    column: int


NOWHERE = Span(1, 1)


@dataclass(frozen=True, slots=True)
class Expr:
    """Any expression. Equality ignores the place, so equal text at two places is one state."""

    type: DataType
    span: Span = field(default=NOWHERE, compare=False, kw_only=True)


@dataclass(frozen=True, slots=True)
class ColumnRef(Expr):
    """A column of the input frame."""

    name: str = ""


@dataclass(frozen=True, slots=True)
class Literal(Expr):
    """A constant: bool, int, float, Decimal, str, bytes, date, datetime (naive UTC), int milliseconds for INTERVAL,
    None.
    """

    value: object = None


@dataclass(frozen=True, slots=True)
class Call(Expr):
    """A function or operator of the function table by its SQL name ('+', 'AND', 'IS NULL', 'UPPER', ...)."""

    function: str = ""
    args: tuple[Expr, ...] = ()


@dataclass(frozen=True, slots=True)
class Cast(Expr):
    """CAST (an error rejects the row) or TRY_CAST (an error is NULL).

    `length`: of CHAR, VARCHAR, BINARY and VARBINARY; the first and the third are `padded` to it.
    """

    arg: Expr = None  # type: ignore[assignment]  # dataclass inheritance asks for a default; always given
    lenient: bool = False
    length: int | None = None
    padded: bool = False

    @property
    def target(self) -> str:
        """The type as it was written."""
        if self.length is None:
            return str(self.type)
        text = self.type.kind is Kind.STRING
        name = ("CHAR" if text else "BINARY") if self.padded else ("VARCHAR" if text else "VARBINARY")
        return f"{name}({self.length})"


@dataclass(frozen=True, slots=True)
class Case(Expr):
    """Searched CASE; the simple form is rewritten to it. Only the branch taken may raise."""

    branches: tuple[tuple[Expr, Expr], ...] = ()
    otherwise: Expr | None = None


def walk(expr: Expr) -> list[Expr]:
    """The expression and everything below it, parents first."""
    found = [expr]
    match expr:
        case Call():
            children: tuple[Expr, ...] = expr.args
        case Cast():
            children = (expr.arg,)
        case Case():
            children = tuple(e for pair in expr.branches for e in pair)
            children += () if expr.otherwise is None else (expr.otherwise,)
        case _:
            children = ()
    for child in children:
        found.extend(walk(child))
    return found
