"""Which rules are alike: predicates that are comparisons with constants, as a shape and the constants in it.

`device = 'a' AND temp > 30` and `device = 'b' AND temp > 40` have one shape, so that thousands of such rules are one
lookup and one comparison of columns. What cannot fail only: an index does not evaluate what it passes over.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from penstock.expressions.compile import compile_expression
from penstock.expressions.nodes import Call, ColumnRef, Expr, walk
from penstock.model.types import Kind

__all__ = ["EQUAL_VALUES_MAX", "Comparison", "Shape", "comparisons", "shape_of"]

#: Combinations of values under which one rule is entered in an index; one with more is evaluated on every row.
EQUAL_VALUES_MAX = 64

_MIRRORED = {"=": "=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
_ORDERED = frozenset({Kind.TINYINT, Kind.SMALLINT, Kind.INT, Kind.BIGINT, Kind.FLOAT, Kind.DOUBLE, Kind.DATE,
                      Kind.TIMESTAMP, Kind.TIMESTAMP_LTZ})  # fmt: skip
_EQUAL = _ORDERED | {Kind.STRING}

#: What two rules must have in common: the compared expressions and the operators, in order.
Shape = tuple[tuple[Expr, str], ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """`subject` (an expression over columns) compared with constants; more than one for = only (IN)."""

    subject: Expr
    operator: str
    constants: tuple[Expr, ...]


def comparisons(predicate: Expr) -> list[Comparison] | None:
    """The predicate as comparisons that must all hold; None if it is anything else or can fail."""
    if compile_expression(predicate).error is not None:
        return None
    found: list[Comparison] = []
    combinations = 1
    for operand in _operands(predicate):
        comparison = _comparison(operand)
        if comparison is None:
            return None
        combinations *= len(comparison.constants)
        found.append(comparison)
    return found if combinations <= EQUAL_VALUES_MAX else None


def shape_of(found: Sequence[Comparison]) -> Shape:
    """The shape of comparisons."""
    return tuple((each.subject, each.operator) for each in found)


def _operands(predicate: Expr) -> list[Expr]:
    if isinstance(predicate, Call) and predicate.function == "AND":
        return [operand for arg in predicate.args for operand in _operands(arg)]
    return [predicate]


def _comparison(operand: Expr) -> Comparison | None:
    if not isinstance(operand, Call):
        return None
    subject, *others = operand.args
    if operand.function == "IN" and not any(_reads(other) for other in others):
        return _compared(subject, "=", tuple(others))
    if operand.function not in _MIRRORED or len(others) != 1:
        return None
    if not _reads(others[0]):
        return _compared(subject, operand.function, (others[0],))
    return None if _reads(subject) else _compared(others[0], _MIRRORED[operand.function], (subject,))


def _compared(subject: Expr, operator: str, constants: tuple[Expr, ...]) -> Comparison | None:
    kinds = _EQUAL if operator == "=" else _ORDERED
    alike = subject.type.kind in kinds and all(each.type == subject.type for each in constants)
    return Comparison(subject, operator, constants) if alike and _reads(subject) else None


def _reads(expr: Expr) -> bool:
    return any(isinstance(each, ColumnRef) for each in walk(expr))
