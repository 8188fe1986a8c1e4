"""Expressions inside statements: the core's binder with names of FROM, and what may not stand in a row expression."""

from __future__ import annotations

from sqlglot import exp

from penstock.expressions.bind import AGGREGATES, Hook, bind
from penstock.expressions.dialect import span_of
from penstock.expressions.literals import coerced
from penstock.expressions.nodes import Call, Expr
from penstock.model.types import BOOLEAN, DataType, Kind
from penstock_processor.logical.clock import clock_call
from penstock_processor.logical.scope import RowScope
from penstock_processor.sql.findings import refusal

__all__ = [
    "OWN_AGGREGATE",
    "PROCTIME",
    "bind_condition",
    "bind_constant",
    "bind_value",
    "is_aggregate",
    "refuse_special",
    "rows_only",
]

#: PROCTIME() is bound to a call of this name, and is gone before a plan is compiled (`bind_lookup.refuse_proctime`).
PROCTIME = "PROCTIME"
#: In the `meta` of a call's node: its entry, where the app declares the aggregate function itself.
OWN_AGGREGATE = "own_aggregate"
_LATER = frozenset(
    [
        "JSON_ARRAYAGG",
        "JSON_OBJECTAGG",
        "ANY_VALUE",
    ]
)

#: Where CURRENT_TIMESTAMP and its like may stand, as `rows_only` names the places.
_CLOCKED = frozenset({"this place", "WHERE", "a computed column", "an aggregate function"})


def bind_value(node: exp.Expr, scope: RowScope, *, hook: Hook | None = None) -> Expr:
    """A typed expression over the columns of `scope`. Raises SqlErrors."""
    return bind(node, scope, hook=hook)


def bind_condition(node: exp.Expr, scope: RowScope, *, what: str, hook: Hook | None = None) -> Expr:
    """A predicate. Raises SqlErrors, also if it is not BOOLEAN."""
    found = bind_value(node, scope, hook=hook)
    if found.type.kind not in (Kind.BOOLEAN, Kind.NULL):
        raise refusal(
            span_of(node),
            "type_mismatch",
            message=f"{what} takes a condition, this is {found.type}.",
            remedy="Write a comparison, such as x > 0.",
        )
    return coerced(found, BOOLEAN)


def bind_constant(node: exp.Expr) -> Expr:
    """An expression without columns. Raises SqlErrors."""
    return bind_value(node, RowScope(()), hook=rows_only("this place"))


def is_aggregate(node: exp.Expr) -> bool:
    """A call of an aggregate function of this version."""
    return isinstance(node, exp.Anonymous) and (node.name.upper() in AGGREGATES or OWN_AGGREGATE in node.meta)


def rows_only(where: str) -> Hook:
    """A hook for expressions over single rows: no aggregates, no OVER, no subqueries."""

    def hook(node: exp.Expr) -> Expr | None:
        if isinstance(node, exp.Anonymous) and node.name.upper() == PROCTIME and not node.expressions:
            return Call(DataType(Kind.TIMESTAMP_LTZ), function=PROCTIME, args=(), span=span_of(node))
        refuse_special(node)
        if where in _CLOCKED and (now := clock_call(node)) is not None:
            return now
        if is_aggregate(node) or isinstance(node, exp.Filter):
            raise refusal(
                span_of(node),
                "misplaced_aggregate",
                message=f"An aggregate function cannot stand in {where}.",
                remedy="Use HAVING, or a subquery that groups first.",
            )
        return None

    return hook


def refuse_special(node: exp.Expr) -> None:
    """Refuses what is no expression anywhere in this version: OVER, subqueries, other aggregates."""
    if isinstance(node, exp.Window):
        raise refusal(
            span_of(node),
            "unsupported",
            message="OVER cannot stand here.",
            remedy="Write it into the SELECT list of a query that does not group, and read that query.",
        )
    if isinstance(node, exp.Query | exp.Exists) or (isinstance(node, exp.In) and node.args.get("query")):
        raise refusal(
            span_of(node),
            "unsupported",
            message="A subquery is no value here.",
            remedy="Put the query into FROM, or join it.",
        )
    if isinstance(node, exp.Anonymous) and node.name.upper() in _LATER:
        raise refusal(
            span_of(node),
            "unsupported",
            message=f"{node.name.upper()} is not in this version.",
            remedy=f"Aggregate functions are {', '.join(sorted(AGGREGATES))}.",
        )
