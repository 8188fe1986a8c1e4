"""Typed expressions as SQL of the store: values in stored form (`stores.tables`), constants as parameters only.

A whitelist: what is not listed is refused with its place. Constants are computed here, by the engine of apps.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import polars as pl
import sqlalchemy as sa

from penstock.expressions.compile import compile_expression
from penstock.expressions.nodes import Call, Case, Cast, ColumnRef, Expr, Literal, walk
from penstock.model.types import DataType, Kind
from penstock.stores.tables import column_type
from penstock_data.queries.casts import cast_value
from penstock_data.queries.forks import Element, Elements, Part
from penstock_data.queries.functions import FUNCTIONS
from penstock_data.queries.refusals import refused_at
from penstock_data.stored_values import stored_of

__all__ = ["Values", "constant", "stored_literal"]


#: Functions that are computed here where all their arguments are constants: none makes a long text, or wraps.
_COMPUTED = frozenset(["TIMESTAMPADD", "TO_TIMESTAMP", "TO_DATE"])


class Values:
    """Writes expressions as SQL; `elements`: what stands behind each ColumnRef, by its name."""

    def __init__(self, elements: Elements, *, parts_max: int) -> None:
        """`parts_max`: see `forks.Part`."""
        self._elements, self._parts_max = elements, parts_max

    def of(self, expr: Expr) -> Element:
        """The SQL of an expression. Raises SqlErrors for what queries have not."""
        return Part(self._written(expr), parts_max=self._parts_max)

    def _written(self, expr: Expr) -> Element:
        found = constant(expr)
        if found is not None:
            return stored_literal(found)
        match expr:
            case ColumnRef():
                element = self._elements[expr.name]
                return element if isinstance(element, sa.ColumnElement) else element()
            case Cast():
                return cast_value(expr, self.of(expr.arg))
            case Case():
                return self._case(expr)
            case Call():
                build = FUNCTIONS.get(expr.function)
                if build is None:
                    raise refused_at(
                        expr.span,
                        "unsupported",
                        f"{expr.function} of a column is not available in queries.",
                        "Compute it in the app, as a column; docs/query.md lists what queries have.",
                    )
                return build(expr, [self.of(arg) for arg in expr.args])
        raise refused_at(expr.span, "unsupported", "This is not available in queries.", "See docs/query.md.")

    def _case(self, expr: Case) -> Element:
        branches: Sequence[tuple[Element, Element]] = [(self.of(when), self.of(then)) for when, then in expr.branches]
        otherwise = stored_literal(Literal(expr.type)) if expr.otherwise is None else self.of(expr.otherwise)
        return sa.type_coerce(sa.case(*branches, else_=otherwise), column_type(expr.type))


def constant(expr: Expr) -> Literal | None:
    """The value of a constant that only the engine of apps can compute; None for other expressions.

    That is text read by CAST, and times. Raises SqlErrors where it has none.
    """
    if isinstance(expr, Literal):
        return expr
    if not all(_is_computed(part) for part in walk(expr)):
        return None
    compiled = compile_expression(expr)
    error = pl.lit(None, dtype=pl.String) if compiled.error is None else compiled.error
    value, code = pl.DataFrame({"$one": [0]}).select(value=compiled.value, error=error).row(0)
    if code is not None:
        raise refused_at(expr.span, str(code), "This constant cannot be computed.", "Check its parts.")
    if isinstance(value, dt.datetime) and value.tzinfo is not None:
        value = value.astimezone(dt.UTC).replace(tzinfo=None)
    if expr.type.kind is Kind.INTERVAL and isinstance(value, dt.timedelta):
        value = value // dt.timedelta(milliseconds=1)
    return Literal(expr.type, value=value, span=expr.span)


def _is_computed(part: Expr) -> bool:
    match part:
        case Literal():
            return True
        case Cast():
            return Kind.STRING in (part.arg.type.kind, part.type.kind)
        case Call():
            return part.function in _COMPUTED
    return False


def stored_literal(literal: Literal) -> Element:
    """A constant as a parameter of its type. Raises SqlErrors for arrays, maps and rows."""
    value, kind = literal.value, literal.type.kind
    if value is None:
        return sa.literal(None, _parameter_type(literal.type))
    if isinstance(value, list | dict):
        raise refused_at(literal.span, "unsupported", "Arrays, maps and rows cannot be made in queries.",
                         "Write plain values.")  # fmt: skip
    stored = stored_of(value)
    if kind in (Kind.FLOAT, Kind.DOUBLE):
        stored = float(stored) if isinstance(stored, int | float | Decimal) else stored
    return sa.literal(stored, _parameter_type(literal.type))


def _parameter_type(data_type: DataType) -> sa.types.TypeEngine[Any]:
    return sa.Text() if data_type.kind is Kind.NULL else column_type(data_type)
