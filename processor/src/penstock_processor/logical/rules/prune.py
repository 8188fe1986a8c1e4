"""Unused columns end at the scan: a Project of the columns that are read stands directly on every Scan."""

from __future__ import annotations

from dataclasses import replace

from penstock.expressions.nodes import ColumnRef
from penstock_processor.logical.bounded_joins import BoundedJoin, TemporalJoin, WindowJoin, read_beside_keys
from penstock_processor.logical.plan import (
    Aggregate,
    Expand,
    Field,
    Filter,
    GroupAggregate,
    IntervalJoin,
    Named,
    Node,
    Project,
    Scan,
    Union,
    WindowAssign,
)
from penstock_processor.logical.plan_keyed import RANK, RegularJoin, TopN
from penstock_processor.logical.plan_lookup import LookupJoin
from penstock_processor.logical.plan_match import MatchRecognize, columns_of
from penstock_processor.logical.plan_over import OverAggregate, WindowTopN
from penstock_processor.logical.plan_proctime import ProcessingTime
from penstock_processor.logical.plan_unnest import Unnest
from penstock_processor.logical.rewrite import columns_read

__all__ = ["prune"]


def prune(node: Node) -> Node:
    """The plan with the same output fields that reads no column without need."""
    return _needing(node, {f.name for f in node.fields})


def _needing(node: Node, names: set[str]) -> Node:
    """`node` with at least the fields `names`; possibly fewer than before, in the same order."""
    match node:
        case Scan():
            return _narrowed_scan(node, names)
        case Project():
            kept = _kept(node, names)
            if isinstance(kept.input, Scan):
                return kept  # the projection itself says what is read
            return replace(kept, input=_needing(kept.input, columns_read(*(n.expr for n in kept.exprs))))
        case Filter():
            below = _needing(node.input, names | columns_read(node.predicate))
            return Filter(below.fields, below, node.predicate)
        case ProcessingTime():
            below = _needing(node.input, names - {node.column})
            time = next(f for f in node.fields if f.name == node.column)
            return replace(node, fields=(*below.fields, time), input=below)
        case Unnest():
            wanted = (names & {f.name for f in node.input.fields}) | columns_read(node.collection)
            below = _needing(node.input, wanted)
            return replace(node, fields=_with_own(node.fields, node.input, below), input=below)
        case WindowAssign():
            below = _needing(
                node.input, (names | {node.time_column, *node.partition}) & {f.name for f in node.input.fields}
            )
            return replace(node, fields=_with_own(node.fields, node.input, below), input=below)
        case Aggregate():
            read = columns_read(
                *(n.expr for n in node.keys), *(c.arg for c in node.calls), *(c.filter for c in node.calls)
            )
            window = _needing(node.input, read)
            assert isinstance(window, WindowAssign)
            return replace(node, input=window)
        case Expand():
            inner = {f.name for f in node.input.fields}
            below = _needing(node.input, (names & inner) | columns_read(*(n.expr for n in node.keys)))
            return replace(node, fields=_with_own(node.fields, node.input, below), input=below)
        case GroupAggregate():
            read = columns_read(
                *(n.expr for n in node.keys), *(c.arg for c in node.calls), *(c.filter for c in node.calls)
            )
            return replace(node, input=_needing(node.input, read))
        case TopN():
            return _narrowed_top(node, names)
        case LookupJoin():
            wanted = names | columns_read(node.residual)
            left = _needing(node.left, _side(node.left, node.left_names, wanted) | columns_read(*node.left_keys))
            left_names = _renamed(node.left, node.left_names, left)
            by_name = {f.name: f for f in node.fields}
            shown = tuple(by_name[name] for name in (*left_names, *node.right_names))
            return replace(node, fields=shown, left=left, left_names=left_names)
        case RegularJoin():
            return _narrowed_join(node, names)
        case MatchRecognize():
            return _narrowed_match(node, names)
        case OverAggregate():
            return _narrowed_over(node, names)
        case WindowTopN():
            wanted = {*names, *node.partition, *(key.column for key in node.order)}
            below = _needing(node.input, wanted & {f.name for f in node.input.fields})
            return replace(node, fields=(*below.fields, node.fields[-1]), input=below)
        case Union():
            return _narrowed_union(node, names)
        case IntervalJoin() | TemporalJoin() | WindowJoin():
            return _narrowed_join(node, names)
        case _:
            raise TypeError(f"no rule for {type(node).__name__}")


def _with_own(fields: tuple[Field, ...], before: Node, below: Node) -> tuple[Field, ...]:
    """Of a node that adds columns behind those of its input: what is left of `before`, and its own."""
    left = {f.name for f in below.fields}
    return (*(f for f in fields[: len(before.fields)] if f.name in left), *fields[len(before.fields) :])


def _kept(node: Project, names: set[str]) -> Project:
    """At least one column stays: rows must be countable."""
    keep = [i for i, f in enumerate(node.fields) if f.name in names] or [0]
    return Project(tuple(node.fields[i] for i in keep), node.input, tuple(node.exprs[i] for i in keep))


def _narrowed_scan(node: Scan, names: set[str]) -> Node:
    keep = [f for f in node.fields if f.name in names] or [_cheapest(node.fields)]
    if len(keep) == len(node.fields):
        return node
    return _columns(node, tuple(keep))


def _cheapest(fields: tuple[Field, ...]) -> Field:
    """For COUNT(*) some column must be read: rather the rowtime, which is decoded anyway."""
    return next((f for f in fields if f.rowtime), fields[0])


def _narrowed_union(node: Union, names: set[str]) -> Node:
    keep = [i for i, f in enumerate(node.fields) if f.name in names] or [0]
    inputs = []
    for one in node.inputs:
        wanted = tuple(one.fields[i] for i in keep)
        below = _needing(one, {f.name for f in wanted})
        inputs.append(below if below.fields == wanted else _columns(below, wanted))
    return Union(tuple(node.fields[i] for i in keep), tuple(inputs))


def _columns(node: Node, fields: tuple[Field, ...]) -> Project:
    return Project(fields, node, tuple(Named(f.name, ColumnRef(f.type, name=f.name)) for f in fields))


def _narrowed_match(node: MatchRecognize, names: set[str]) -> Node:
    """The measures that are read, and what they and the conditions reach for."""
    measures = tuple(m for m in node.measures if m.name in names) or node.measures[:1]
    shown = {*node.partition, *(m.name for m in measures)}
    read = columns_read(*(m.expr for m in measures), *(v.condition for v in node.pattern))
    kept = replace(
        node,
        fields=tuple(f for f in node.fields if f.name in shown),
        measures=measures,
        reaches=tuple(reach for reach in node.reaches if reach.name in read),
        aggregates=tuple(each for each in node.aggregates if each.name in read),
    )
    return replace(kept, input=_needing(node.input, columns_of(kept) & {f.name for f in node.input.fields}))


def _narrowed_join(node: BoundedJoin | RegularJoin, names: set[str]) -> Node:
    wanted = names | columns_read(node.residual)
    own = (set[str](), set[str]()) if isinstance(node, RegularJoin) else read_beside_keys(node)
    left = _needing(node.left, _side(node.left, node.left_names, wanted) | columns_read(*node.left_keys) | own[0])
    right = _needing(
        node.right, _side(node.right, node.right_names, wanted) | columns_read(*node.right_keys) | own[1]
    )
    left_names = _renamed(node.left, node.left_names, left)
    right_names = _renamed(node.right, node.right_names, right)
    by_name = {f.name: f for f in node.fields}
    shown = left_names if node.kind.left_alone else (*left_names, *right_names)
    return replace(
        node,
        fields=tuple(by_name[name] for name in shown),
        left=left,
        right=right,
        left_names=left_names,
        right_names=right_names,
    )


def _narrowed_top(node: TopN, names: set[str]) -> Node:
    ranked = node.ranked and RANK in names
    wanted = {*names, *node.partition, *(key.column for key in node.order)}
    below = _needing(node.input, wanted & {f.name for f in node.input.fields})
    rank = node.fields[-1:] if ranked else ()
    return replace(node, fields=(*below.fields, *rank), input=below, ranked=ranked)


def _narrowed_over(node: OverAggregate, names: set[str]) -> Node:
    calls = tuple(call for call in node.calls if call.name in names) or node.calls[:1]
    wanted = {*names, *node.partition, node.time_column} | columns_read(*(call.arg for call in calls))
    below = _needing(node.input, wanted & {f.name for f in node.input.fields})
    fields = (*below.fields, *(Field(call.name, call.type) for call in calls))
    return replace(node, fields=fields, input=below, calls=calls)


def _side(side: Node, renamed: tuple[str, ...], wanted: set[str]) -> set[str]:
    return {f.name for f, name in zip(side.fields, renamed, strict=True) if name in wanted}


def _renamed(before: Node, names: tuple[str, ...], after: Node) -> tuple[str, ...]:
    by = {f.name: name for f, name in zip(before.fields, names, strict=True)}
    return tuple(by[f.name] for f in after.fields)
