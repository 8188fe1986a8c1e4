"""Filters move towards the source: below projections, unions, joins and windowed groupings, as far as they only read
what is there unchanged. Fewer rows then reach the state.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from penstock.expressions.nodes import ColumnRef, Expr
from penstock_processor.logical.bounded_joins import BoundedJoin, TemporalJoin, WindowJoin
from penstock_processor.logical.plan import (
    Aggregate,
    Filter,
    GroupAggregate,
    IntervalJoin,
    JoinKind,
    Node,
    Project,
    Union,
    WindowAssign,
    WindowKind,
)
from penstock_processor.logical.plan_keyed import RegularJoin, TopN
from penstock_processor.logical.plan_lookup import LookupJoin
from penstock_processor.logical.plan_match import MatchRecognize
from penstock_processor.logical.rewrite import all_of, columns_read, conjuncts, is_plain, replace_columns

__all__ = ["push_filters"]


def push_filters(node: Node) -> Node:
    """Moves what can move of a Filter (or of a join's residual predicate) one node down."""
    match node:
        case Filter(input=Project() as inner):
            return _below_project(node, inner)
        case Filter(input=Union() as inner):
            return _below_union(node, inner)
        case Filter(input=(IntervalJoin() | TemporalJoin() | WindowJoin()) as inner) if inner.kind is JoinKind.INNER:
            terms = (*conjuncts(inner.residual), *conjuncts(node.predicate))
            return _into_sides(replace(inner, residual=all_of(terms)))
        case Filter(input=(IntervalJoin() | TemporalJoin() | WindowJoin()) as inner):
            return _below_join(node, inner)
        case Filter(input=LookupJoin() as inner):
            return _below_lookup(node, inner)
        case LookupJoin(kind=JoinKind.INNER, residual=Expr() as residual):
            return _below_lookup(Filter(node.fields, node, residual), replace(node, residual=None), within=True)
        case Filter(input=RegularJoin() as inner) if inner.kind is JoinKind.INNER:
            terms = (*conjuncts(inner.residual), *conjuncts(node.predicate))
            return _into_sides(replace(inner, residual=all_of(terms)))
        case Filter(input=RegularJoin() as inner):
            return _below_join(node, inner)
        case RegularJoin():
            return _into_sides(node)
        case Filter(input=TopN() as inner):
            return _below_top(node, inner)
        case Filter(input=Aggregate() as inner):
            return _below_aggregate(node, inner)
        case Filter(input=GroupAggregate() as inner):
            return _below_groups(node, inner)
        case Filter(input=WindowAssign() as inner):
            return _below_window(node, inner)
        case Filter(input=MatchRecognize() as inner):
            return _below_match(node, inner)
        case IntervalJoin() | TemporalJoin() | WindowJoin():
            return _into_sides(node)
        case _:
            return node


def _below_project(node: Filter, inner: Project) -> Node:
    by = {n.name: n.expr for n in inner.exprs}
    down, stay = _split(node.predicate, lambda term: all(is_plain(by[c]) for c in columns_read(term)))
    if not down:
        return node
    moved = replace(inner, input=_filtered(inner.input, [replace_columns(term, by) for term in down]))
    return _filtered(moved, stay)


def _below_union(node: Filter, inner: Union) -> Node:
    moved = []
    for one in inner.inputs:
        by: dict[str, Expr] = {
            outer.name: ColumnRef(f.type, name=f.name) for outer, f in zip(inner.fields, one.fields, strict=True)
        }
        moved.append(_filtered(one, [replace_columns(node.predicate, by)]))
    return replace(inner, inputs=tuple(moved))


def _below_aggregate(node: Filter, inner: Aggregate) -> Node:
    """Terms over grouping keys alone decide on whole groups, so on their rows as well."""
    whole = inner.input.partition if inner.input.kind is WindowKind.SESSION else None
    by = {n.name: n.expr for n in inner.keys if whole is None or n.name in whole}  # other rows make sessions too
    down, stay = _split(node.predicate, lambda term: columns_read(term) <= set(by) and bool(columns_read(term)))
    if not down or any(not is_plain(by[c]) for term in down for c in columns_read(term)):
        return node
    window = inner.input
    rows = _filtered(window.input, [replace_columns(term, by) for term in down])
    return _filtered(replace(inner, input=replace(window, input=rows)), stay)


def _below_groups(node: Filter, inner: GroupAggregate) -> Node:
    """The same without a window. Terms that read no column stay: without rows there is no group of all rows."""
    by = {n.name: n.expr for n in inner.keys}
    down, stay = _split(node.predicate, lambda term: columns_read(term) <= set(by) and bool(columns_read(term)))
    if not down or any(not is_plain(by[c]) for term in down for c in columns_read(term)):
        return node
    rows = _filtered(inner.input, [replace_columns(term, by) for term in down])
    return _filtered(replace(inner, input=rows), stay)


def _below_window(node: Filter, inner: WindowAssign) -> Node:
    """Terms that do not read the window; of sessions only those over their partition, for other rows make them."""
    own = inner.partition if inner.kind is WindowKind.SESSION else {field.name for field in inner.input.fields}
    down, stay = _split(node.predicate, lambda term: columns_read(term) <= set(own) and bool(columns_read(term)))
    if not down:
        return node
    return _filtered(replace(inner, input=_filtered(inner.input, down)), stay)


def _below_top(node: Filter, inner: TopN) -> Node:
    """Terms over the partition alone decide on whole groups, so on their rows as well."""
    own = set(inner.partition)
    down, stay = _split(node.predicate, lambda term: bool(columns_read(term)) and columns_read(term) <= own)
    if not down:
        return node
    return _filtered(replace(inner, input=_filtered(inner.input, down)), stay)


def _below_join(node: Filter, join: BoundedJoin | RegularJoin) -> Node:
    """Of an outer join (or SEMI, ANTI): what reads one side alone, whose rows are never made of NULL.

    Versions are never filtered: the one before a version that is gone would seem to be valid.
    """
    made_of_null = (join.kind.pads_right_rows, join.kind.pads_left_rows or isinstance(join, TemporalJoin))
    sides, stay = _taken([join.left, join.right], join, node.predicate, but=made_of_null)
    return _filtered(replace(join, left=sides[0], right=sides[1]), stay)


def _below_match(node: Filter, inner: MatchRecognize) -> Node:
    """Terms over the key alone decide on all matches of a key, so on its rows as well."""
    down, stay = _split(
        node.predicate, lambda term: bool(columns_read(term)) and columns_read(term) <= {*inner.partition}
    )
    if not down:
        return node
    return _filtered(replace(inner, input=_filtered(inner.input, down)), stay)


def _below_lookup(node: Filter, join: LookupJoin, *, within: bool = False) -> Node:
    """Rows that are dropped for what they have themselves need not be looked up. `within`: it was a residual."""
    by: dict[str, Expr] = {
        name: ColumnRef(f.type, name=f.name) for name, f in zip(join.left_names, join.left.fields, strict=True)
    }
    down, stay = _split(node.predicate, lambda term: bool(columns_read(term)) and columns_read(term) <= set(by))
    left = _filtered(join.left, [replace_columns(term, by) for term in down])
    if within:
        return replace(join, left=left, residual=all_of(stay))
    return _filtered(replace(join, left=left), stay)


def _into_sides(join: BoundedJoin | RegularJoin) -> Node:
    """Terms of the condition over one side alone filter that side before its rows are kept.

    Not where a row that fails them is given all the same: padded, or because ANTI finds no match for it.
    """
    versions = isinstance(join, TemporalJoin)
    kept = (join.kind.pads_left_rows or join.kind is JoinKind.ANTI, join.kind.pads_right_rows or versions)
    sides, stay = _taken([join.left, join.right], join, join.residual, but=kept)
    if sides[0] is join.left and sides[1] is join.right:
        return join
    return replace(join, left=sides[0], right=sides[1], residual=all_of(stay))


def _taken(sides: list[Node], join: BoundedJoin | RegularJoin, predicate: Expr | None, *, but: tuple[bool, bool]
           ) -> tuple[list[Node], list[Expr]]:  # fmt: skip
    """The sides, filtered by terms that read one of them alone, and the other terms. `but`: sides left alone."""
    stay = list(conjuncts(predicate))
    for i, names in enumerate((join.left_names, join.right_names)):
        by: dict[str, Expr] = {
            renamed: ColumnRef(f.type, name=f.name) for renamed, f in zip(names, sides[i].fields, strict=True)
        }

        def reads_one_side(term: Expr, own: set[str] = set(names)) -> bool:  # noqa: B006 # bound to this turn
            return bool(columns_read(term)) and columns_read(term) <= own

        if not but[i]:
            down, stay = _split(all_of(stay), reads_one_side)
            sides[i] = _filtered(sides[i], [replace_columns(term, by) for term in down])
    return sides, stay


def _split(predicate: Expr | None, moves: Callable[[Expr], bool]) -> tuple[list[Expr], list[Expr]]:
    """(terms that move, terms that stay)"""
    down: list[Expr] = []
    stay: list[Expr] = []
    for term in conjuncts(predicate):
        (down if moves(term) else stay).append(term)
    return down, stay


def _filtered(node: Node, terms: list[Expr]) -> Node:
    predicate = all_of(terms)
    return node if predicate is None else Filter(node.fields, node, predicate)
