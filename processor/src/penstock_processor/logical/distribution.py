"""How the rows of a relation are spread over the tasks of a parallel app: which columns decide where a row is.

A distribution is an ordered tuple of columns: rows with equal values in them are in the same task, the one that
`runtime.partitions` computes from these values. Two relations that are spread by equal values in the same order
meet. A relation may have several (a join has its key under two names); none at all: rows may be anywhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import product

from penstock.expressions.nodes import ColumnRef
from penstock.model.stream import StreamSpec
from penstock.model.types import DataType, Kind
from penstock_processor.logical.bounded_joins import BoundedJoin
from penstock_processor.logical.plan import Aggregate, Named, Union
from penstock_processor.logical.plan_keyed import RegularJoin

__all__ = ["ANYWHERE", "Distribution", "Spread", "join_keys", "joined", "of_groups", "of_source", "of_union",
           "projected", "renamed"]  # fmt: skip

Distribution = tuple[str, ...]
Spread = frozenset[Distribution]

ANYWHERE: Spread = frozenset()
_ALTERNATIVES_MAX = 8


def of_source(spec: StreamSpec) -> Spread:
    """By its key, if equal values have equal text at the edge and here."""
    types = [spec.column(name).type for name in spec.key]
    return frozenset({spec.key}) if spec.key and all(map(_one_text, types)) else ANYWHERE


def projected(spread: Spread, exprs: Sequence[Named]) -> Spread:
    """Behind a projection: under the names of columns that are passed on unchanged."""
    names: dict[str, list[str]] = {}
    for each in exprs:
        if isinstance(each.expr, ColumnRef):
            names.setdefault(each.expr.name, []).append(each.name)
    return renamed(spread, names)


def renamed(spread: Spread, names: Mapping[str, Sequence[str]]) -> Spread:
    """Each column under its new names; without one, the distribution is lost."""
    found = [choice for each in sorted(spread) for choice in product(*(names.get(name, ()) for name in each))]
    return frozenset(found[:_ALTERNATIVES_MAX])


def of_union(node: Union, spreads: Sequence[Spread]) -> Spread:
    """What all inputs have in common, by the place of the columns."""
    names = [field.name for field in node.fields]
    common: Spread | None = None
    for branch, spread in zip(node.inputs, spreads, strict=True):
        place: dict[str, list[str]] = {}
        for field, name in zip(branch.fields, names, strict=True):
            place.setdefault(field.name, []).append(name)
        here = renamed(spread, place)
        common = here if common is None else common & here
    return common or ANYWHERE


def of_groups(node: Aggregate, spread: Spread) -> Spread:
    """Of the groups, if rows spread so can be grouped where they are; else ANYWHERE."""
    return projected(spread, node.keys)


def join_keys(
    node: BoundedJoin | RegularJoin, left: Spread, right: Spread
) -> tuple[tuple[int, ...] | None, bool, bool]:
    """By which of its keys (numbers, in order) a join's rows have to be spread, and which sides are so already.

    None: there is no equality, all rows have to meet.
    """
    if not node.left_keys:
        return None, False, False
    alike = [n for n, (a, b) in enumerate(zip(node.left_keys, node.right_keys, strict=True))
             if a.type == b.type and _one_text(a.type)]  # fmt: skip
    by_left = {numbers for each in left for numbers in _numbers(each, node.left_keys, alike)}
    by_right = {numbers for each in right for numbers in _numbers(each, node.right_keys, alike)}
    if by_left & by_right:
        return min(by_left & by_right), True, True
    if by_left:
        return min(by_left), True, False
    if by_right:
        return min(by_right), False, True
    return tuple(alike or range(len(node.left_keys))), False, False


def joined(node: BoundedJoin | RegularJoin, keys: tuple[int, ...] | None) -> Spread:
    """Of the pairs: by the keys' columns of either side, where they are columns that are not padded with NULL."""
    if keys is None:
        return ANYWHERE
    found = set()
    for exprs, fields, names, padded in (
        (node.left_keys, node.left.fields, node.left_names, node.kind.pads_right_rows),
        (node.right_keys, node.right.fields, node.right_names, node.kind.pads_left_rows or node.kind.left_alone),
    ):
        if padded:
            continue
        shown = {field.name: name for field, name in zip(fields, names, strict=True)}
        chosen = [exprs[n] for n in keys]
        if all(isinstance(expr, ColumnRef) for expr in chosen):
            found.add(tuple(shown[expr.name] for expr in chosen if isinstance(expr, ColumnRef)))
    return frozenset(found)


def _numbers(by: Distribution, keys: Sequence[object], alike: Iterable[int]) -> list[tuple[int, ...]]:
    """The keys that are the columns of `by`, in its order."""
    places: dict[str, int] = {}
    for n in alike:
        key = keys[n]
        if isinstance(key, ColumnRef):
            places.setdefault(key.name, n)
    return [tuple(places[name] for name in by)] if all(name in places for name in by) else []


def _one_text(data_type: DataType) -> bool:
    """Types of which equal values are one text, however an event wrote them."""
    return data_type.is_integer or data_type.kind in (Kind.STRING, Kind.BOOLEAN)
