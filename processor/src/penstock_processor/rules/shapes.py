"""Which rules are alike: predicates that differ in their constants only, as a shape and the constants in it.

`device = 'a' AND temp > 30` and `device = 'b' AND temp > 40` have one shape, so that thousands of such rules are one
lookup and one comparison of columns. What cannot fail only: an index does not evaluate what it passes over.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from penstock.expressions.compile import compile_expression
from penstock.expressions.nodes import Call, ColumnRef, Expr, walk
from penstock.model.types import Kind

__all__ = ["EQUAL_VALUES_MAX", "Both", "Comparison", "Either", "Formula", "Not", "Whole", "conjunction", "divided",
           "formula_of", "has_whole", "shape_of"]  # fmt: skip

#: Combinations of values under which one rule is entered in an index, and values of IN that are compared one by one;
#: a rule with more is evaluated as it is written.
EQUAL_VALUES_MAX = 64

_MIRRORED = {"=": "=", "<>": "<>", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
_ORDERED = frozenset({Kind.TINYINT, Kind.SMALLINT, Kind.INT, Kind.BIGINT, Kind.FLOAT, Kind.DOUBLE, Kind.DATE,
                      Kind.TIMESTAMP, Kind.TIMESTAMP_LTZ})  # fmt: skip
_EQUAL = _ORDERED | {Kind.STRING}


@dataclass(frozen=True, slots=True)
class Comparison:
    """`subject` (an expression over columns) compared with constants; more than one for = only (IN)."""

    subject: Expr
    operator: str
    constants: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class Whole:
    """Any other condition, as it is written."""

    expr: Expr


@dataclass(frozen=True, slots=True)
class Not:
    """NOT."""

    of: Formula


@dataclass(frozen=True, slots=True)
class Both:
    """AND."""

    of: tuple[Formula, ...]


@dataclass(frozen=True, slots=True)
class Either:
    """OR."""

    of: tuple[Formula, ...]


#: A predicate taken apart at AND, OR and NOT, down to comparisons with constants.
Formula = Comparison | Whole | Not | Both | Either


def formula_of(predicate: Expr) -> Formula | None:
    """The predicate taken apart; None if a row can fail in it."""
    return _taken_apart(predicate) if compile_expression(predicate).error is None else None


def conjunction(formula: Formula) -> list[Comparison] | None:
    """Comparisons that must all hold, none of them <>; None if the formula is anything else."""
    found: list[Comparison] = []
    for part in formula.of if isinstance(formula, Both) else (formula,):
        inner = conjunction(part) if isinstance(part, Both) else None
        if inner is not None:
            found += inner
        elif isinstance(part, Comparison) and part.operator != "<>":
            found.append(part)
        else:
            return None
    combinations = 1
    for comparison in found:
        combinations *= len(comparison.constants)
    return found if combinations <= EQUAL_VALUES_MAX else None


def divided(formula: Formula) -> tuple[Formula, tuple[Expr, ...]] | None:
    """Formula AND conditions that are as they are written, all of which must hold; None if it is not of that form."""
    if not isinstance(formula, Both):
        return None
    wholes = tuple(part.expr for part in formula.of if isinstance(part, Whole))
    others = tuple(part for part in formula.of if not isinstance(part, Whole))
    if not wholes or not others or any(has_whole(part) for part in others):
        return None
    return (others[0] if len(others) == 1 else Both(others)), wholes


def has_whole(formula: Formula) -> bool:
    """Whether a part of it is evaluated as it is written."""
    match formula:
        case Whole():
            return True
        case Not():
            return has_whole(formula.of)
        case Both() | Either():
            return any(has_whole(part) for part in formula.of)
    return False


def shape_of(formula: Formula) -> object:
    """What two formulas that differ in constants only have in common. Hashable."""
    match formula:
        case Comparison():
            return formula.subject, formula.operator, len(formula.constants)
        case Whole():
            return formula
        case Not():
            return "NOT", shape_of(formula.of)
        case Both():
            return "AND", tuple(shape_of(part) for part in formula.of)
        case Either():
            return "OR", tuple(shape_of(part) for part in formula.of)


def _taken_apart(expr: Expr) -> Formula:
    if isinstance(expr, Call):
        comparison = _comparison(expr)
        if comparison is not None:
            return comparison
        if expr.function in ("AND", "OR"):
            parts = tuple(_taken_apart(arg) for arg in expr.args)
            return Both(parts) if expr.function == "AND" else Either(parts)
        if expr.function == "NOT":
            return Not(_taken_apart(expr.args[0]))
    return Whole(expr)


def _comparison(call: Call) -> Comparison | None:
    if not call.args:
        return None
    subject, *others = call.args
    if call.function == "IN" and len(others) <= EQUAL_VALUES_MAX and not any(_reads(other) for other in others):
        return _compared(subject, "=", others)
    if call.function not in _MIRRORED or len(others) != 1:
        return None
    if not _reads(others[0]):
        return _compared(subject, call.function, others)
    return None if _reads(subject) else _compared(others[0], _MIRRORED[call.function], [subject])


def _compared(subject: Expr, operator: str, constants: Sequence[Expr]) -> Comparison | None:
    kinds = _EQUAL if operator in ("=", "<>") else _ORDERED
    alike = subject.type.kind in kinds and all(each.type == subject.type for each in constants)
    return Comparison(subject, operator, tuple(constants)) if alike and _reads(subject) else None


def _reads(expr: Expr) -> bool:
    return any(isinstance(each, ColumnRef) for each in walk(expr))
