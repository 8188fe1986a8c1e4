"""Changelogs: which nodes give rows that they can take back, what tells such rows apart, and who may keep state.

Flink: "Dynamic Tables", "Table to Stream Conversion"; "Configuration: table.exec.state.ttl". The rows of an updating
node carry their operation (`operators.step.CHANGE`): one that takes back is equal to the row that it takes back.
"""

from __future__ import annotations

from collections.abc import Set

from penstock.expressions.nodes import Call, Case, Cast, ColumnRef, Expr, Literal, Span
from penstock.model.types import Kind
from penstock_processor.logical.grouping_keys import Groupings, groupings_of, key_of_case
from penstock_processor.logical.plan import (
    Aggregate,
    Filter,
    GroupAggregate,
    JoinKind,
    Named,
    Node,
    Project,
    Scan,
)
from penstock_processor.logical.plan_keyed import RANK, RegularJoin, TopN
from penstock_processor.logical.rewrite import conjuncts, inputs_of
from penstock_processor.logical.settings import STATE_TTL
from penstock_processor.logical.uniqueness import telling
from penstock_processor.sql.findings import refusal

__all__ = ["refuse_updating", "required_ttl", "unique_key", "updating"]

_WIDTH = {Kind.TINYINT: 1, Kind.SMALLINT: 2, Kind.INT: 4, Kind.BIGINT: 8}


def updating(node: Node) -> bool:
    """Whether rows of `node` can be taken back. Its flow has the hidden column CHANGE then, and only then."""
    match node:
        case Scan():
            return node.changes
        case GroupAggregate(calls=()):
            return updating(node.input)  # a row of which nothing can change
        case GroupAggregate() | TopN():
            return True
        case RegularJoin() if node.kind not in (JoinKind.INNER, JoinKind.SEMI):
            return True  # what is given without a match
        case _:
            return any(updating(each) for each in inputs_of(node))


def unique_key(node: Node, among: Set[str] = frozenset()) -> frozenset[str] | None:
    """Columns in which no two rows of `node` are equal; none at all: there is one row. None: nothing is known.

    Where a column passes under several names, one of `among` is taken.
    """
    match node:
        case GroupAggregate():
            return frozenset(key.name for key in node.keys)
        case Aggregate():
            windows = sorted(telling(node))
            return frozenset([*(key.name for key in node.keys), *windows[:1]]) if windows else None
        case RegularJoin():
            return _key_of_join(node, among)
        case TopN():
            if node.limit == 1:
                return frozenset(node.partition)
            return frozenset([*node.partition, RANK]) if node.ranked else unique_key(node.input, among)
        case Filter():
            below = unique_key(node.input, among)
            return None if below is None else below - _constants(node.predicate)
        case Project():
            names = _names(node.exprs, among, groupings_of(node.input))
            below = unique_key(node.input, frozenset(column for column, name in names.items() if name in among))
            return frozenset(names[c] for c in below) if below is not None and below <= set(names) else None
        case _:
            return None


def refuse_updating(node: Node, *, at: Span, reader: str) -> None:
    """For operators that take no rows back. `reader`: who they are, as in "A window". SqlErrors: reads_updates."""
    if updating(node):
        raise refusal(
            at,
            "reads_updates",
            message=f"{reader} takes no input whose rows change.",
            remedy="Read rows that stay: those of a source, of a window, of an interval join.",
        )


def required_ttl(ttl_ms: int | None, *, at: Span, what: str) -> int:
    """The time after which state that nobody uses is forgotten. `what` would keep it, as in "GROUP BY without a
    window". SqlErrors: unbounded_state.
    """
    if ttl_ms is None:
        raise refusal(
            at,
            "unbounded_state",
            message=f"{what} would keep its state for ever.",
            remedy=f"Write SET '{STATE_TTL}' = '1 h' (how long something is kept that no row has touched), or group "
            "by a window: FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '1' HOUR)).",
        )
    return ttl_ms


def _key_of_join(node: RegularJoin, among: Set[str]) -> frozenset[str] | None:
    """The keys of both sides; that of one side alone, if each of its rows finds one row of the other at most."""
    keys = []
    for below, names in ((node.left, node.left_names), (node.right, node.right_names)):
        shown = dict(zip((field.name for field in below.fields), names, strict=True))
        key = unique_key(below, frozenset(name for name, after in shown.items() if after in among))
        keys.append(None if key is None else frozenset(shown[name] for name in key))
    left, right = keys
    if node.kind.left_alone:
        return left
    finds = [
        unique_key(below, columns) is not None and (unique_key(below, columns) or frozenset()) <= columns
        for below, columns in ((node.right, _columns(node.right_keys)), (node.left, _columns(node.left_keys)))
    ]
    if left is not None and finds[0] and not node.kind.pads_right_rows:
        return left
    if right is not None and finds[1] and not node.kind.pads_left_rows:
        return right
    return None if left is None or right is None else left | right


def _columns(exprs: tuple[Expr, ...]) -> frozenset[str]:
    return frozenset(expr.name for expr in exprs if isinstance(expr, ColumnRef))


def _constants(predicate: Expr) -> set[str]:
    """Columns that have one value in all rows that pass."""
    return {
        column.name
        for term in conjuncts(predicate)
        if isinstance(term, Call) and term.function == "=" and any(isinstance(each, Literal) for each in term.args)
        for column in term.args
        if isinstance(column, ColumnRef)
    }


def _names(exprs: tuple[Named, ...], among: Set[str], groupings: Groupings | None) -> dict[str, str]:
    """Column below -> name above, of columns whose values stay different from each other."""
    found: dict[str, str] = {}
    for each in exprs:
        column = _same_value(each.expr, groupings)
        if column is not None and (column not in found or (each.name in among and found[column] not in among)):
            found[column] = each.name
    return found


def _same_value(expr: Expr, groupings: Groupings | None) -> str | None:
    """The column of which `expr` is the value, perhaps in a wider type."""
    if isinstance(expr, Case):
        return None if groupings is None else key_of_case(expr, groupings)
    if isinstance(expr, Cast) and isinstance(expr.arg, ColumnRef):
        given, wanted = expr.arg.type, expr.type
        wider = given.kind in _WIDTH and wanted.kind in _WIDTH and _WIDTH[given.kind] <= _WIDTH[wanted.kind]
        return expr.arg.name if wider or given == wanted else None
    return expr.name if isinstance(expr, ColumnRef) else None
