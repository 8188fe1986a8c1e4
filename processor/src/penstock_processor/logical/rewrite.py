"""Rewriting of expressions and plans: which columns are read, columns replaced, conjuncts split and joined again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from penstock.expressions.nodes import Call, Case, Cast, ColumnRef, Expr, Literal, walk
from penstock.model.types import BOOLEAN
from penstock_processor.logical.bounded_joins import TemporalJoin, WindowJoin
from penstock_processor.logical.plan import (
    Aggregate,
    Expand,
    Filter,
    FinalAggregate,
    GroupAggregate,
    IntervalJoin,
    Node,
    PartialAggregate,
    Project,
    Repartition,
    Union,
    WindowAssign,
)
from penstock_processor.logical.plan_keyed import Ranked, RegularJoin, TopN
from penstock_processor.logical.plan_lookup import LookupJoin
from penstock_processor.logical.plan_match import MatchRecognize
from penstock_processor.logical.plan_over import OverAggregate, WindowTopN
from penstock_processor.logical.plan_proctime import ProcessingTime
from penstock_processor.logical.plan_unnest import Unnest

__all__ = ["all_of", "columns_read", "conjuncts", "inputs_of", "is_plain", "replace_columns", "with_inputs"]


def columns_read(*exprs: Expr | None) -> set[str]:
    """Names of the columns that the expressions read."""
    return {e.name for expr in exprs if expr is not None for e in walk(expr) if isinstance(e, ColumnRef)}


def is_plain(expr: Expr) -> bool:
    """True for what costs nothing to compute twice."""
    return isinstance(expr, ColumnRef | Literal)


def replace_columns(expr: Expr, by: Mapping[str, Expr]) -> Expr:
    """`expr` with column references replaced; columns that `by` does not name stay."""
    return _rewritten(expr, lambda e: by.get(e.name) if isinstance(e, ColumnRef) else None)


def conjuncts(expr: Expr | None) -> tuple[Expr, ...]:
    """The terms of a (nested) AND, in order; a single term for anything else, none for None."""
    if expr is None:
        return ()
    if isinstance(expr, Call) and expr.function == "AND":
        return tuple(term for arg in expr.args for term in conjuncts(arg))
    return (expr,)


def all_of(terms: Iterable[Expr]) -> Expr | None:
    """The terms joined by one flat AND, in order; None for no term."""
    flat = [part for term in terms for part in conjuncts(term)]
    if len(flat) < 2:
        return flat[0] if flat else None
    return Call(BOOLEAN, function="AND", args=tuple(flat), span=flat[0].span)


def inputs_of(node: Node) -> tuple[Node, ...]:
    """The nodes that `node` reads, left to right."""
    match node:
        case (
            Filter() | Project() | WindowAssign() | Aggregate() | GroupAggregate() | Repartition() | FinalAggregate()
        ):
            return (node.input,)
        case Ranked() | TopN() | MatchRecognize() | Unnest() | ProcessingTime():
            return (node.input,)
        case OverAggregate() | WindowTopN() | Expand():
            return (node.input,)
        case PartialAggregate():
            return (node.of.input,)
        case RegularJoin():
            return (node.left, node.right)
        case LookupJoin():
            return (node.left,)
        case Union():
            return node.inputs
        case IntervalJoin() | TemporalJoin() | WindowJoin():
            return (node.left, node.right)
        case _:
            return ()


def with_inputs(node: Node, inputs: tuple[Node, ...]) -> Node:
    """`node` over other inputs with the same fields; the same object if nothing changed."""
    if all(new is old for new, old in zip(inputs, inputs_of(node), strict=True)):
        return node
    match node:
        case Unnest() | ProcessingTime():
            return replace(node, input=inputs[0])
        case Filter() | Project() | WindowAssign() | GroupAggregate() | Ranked() | TopN() | MatchRecognize():
            return replace(node, input=inputs[0])
        case Aggregate():
            if not isinstance(inputs[0], WindowAssign):
                raise TypeError(f"an Aggregate reads a WindowAssign, not {type(inputs[0]).__name__}")
            return replace(node, input=inputs[0])
        case OverAggregate() | WindowTopN() | Expand():
            return replace(node, input=inputs[0])
        case Union():
            return replace(node, inputs=inputs)
        case RegularJoin():
            return replace(node, left=inputs[0], right=inputs[1])
        case LookupJoin():
            return replace(node, left=inputs[0])
        case IntervalJoin() | TemporalJoin() | WindowJoin():
            return replace(node, left=inputs[0], right=inputs[1])
        case _:
            return node


def _rewritten(expr: Expr, new: Callable[[Expr], Expr | None]) -> Expr:
    found = new(expr)
    if found is not None:
        return found
    match expr:
        case Call():
            return replace(expr, args=tuple(_rewritten(a, new) for a in expr.args))
        case Cast():
            arg = _rewritten(expr.arg, new)
            if isinstance(arg, Literal) and arg.value is None:
                return Literal(expr.type, value=None, span=expr.span)
            return replace(expr, arg=arg)
        case Case():
            return replace(
                expr,
                branches=tuple((_rewritten(when, new), _rewritten(then, new)) for when, then in expr.branches),
                otherwise=None if expr.otherwise is None else _rewritten(expr.otherwise, new),
            )
        case _:
            return expr
