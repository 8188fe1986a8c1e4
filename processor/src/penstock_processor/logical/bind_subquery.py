"""IN (SELECT ...) and EXISTS (SELECT ...) in WHERE: rows that have a match in another query, or have none, once.

Flink: "IN" and "EXISTS" under "Set Operations". They stand alone or in an AND. EXISTS may compare with columns of the
query around it. Both queries are kept, as by a regular join; in equal windows, rows wait until the window ends.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from sqlglot import exp

from penstock.expressions.coercion import Mismatch, common_type
from penstock.expressions.dialect import span_of
from penstock.expressions.literals import coerced
from penstock.expressions.nodes import Call, ColumnRef, Expr, Literal, Span
from penstock.model.types import BOOLEAN
from penstock_processor.logical.bind_join import Side, bind_join, in_windows, seen_of_join
from penstock_processor.logical.bind_regular_join import bind_regular_join
from penstock_processor.logical.expressions import bind_condition, bind_value, rows_only
from penstock_processor.logical.join_chain import merged
from penstock_processor.logical.plan import JoinKind, Node
from penstock_processor.logical.scope import RowScope, Seen
from penstock_processor.sql.findings import refusal

__all__ = ["Membership", "condition_of_exists", "condition_of_in", "keep_members", "memberships", "refers_to"]


@dataclass(frozen=True, slots=True)
class Membership:
    """A term of WHERE. `value`: what is looked for (IN); None: EXISTS."""

    query: exp.Expr
    value: exp.Expr | None
    negated: bool
    at: Span

    @property
    def kind(self) -> JoinKind:
        """Rows with a match, or those without one."""
        return JoinKind.ANTI if self.negated else JoinKind.SEMI


def memberships(where: exp.Expr | None) -> tuple[exp.Expr | None, list[Membership]]:
    """The terms of a condition that are such, and the rest of it."""
    found: list[Membership] = []
    rest: exp.Expr | None = None
    for term in _terms(where):
        member = _membership(term)
        if member is not None:
            found.append(member)
        else:
            rest = term if rest is None else exp.And(this=rest, expression=term)
    return rest, found


def keep_members(
    node: Node, seen: tuple[Seen, ...], member: Membership, other: Node, *, exists: Expr | None, ttl_ms: int | None
) -> Node:
    """The rows of `node` that WHERE keeps. `other`: the query in parentheses; `exists`: the condition of EXISTS, made
    by `condition_of_exists`. Raises SqlErrors.
    """
    left, right = merged(node, set(), set()), _beside(node, other, member.at)
    conditions = [] if exists is None else [exists]
    if member.value is not None:
        if len(other.fields) != 1:
            raise refusal(
                member.at,
                "column_count",
                message=f"The query behind IN has {len(other.fields)} columns.",
                remedy="Select one column, or write EXISTS (SELECT ... WHERE ...).",
            )
        value = bind_value(member.value, RowScope(seen), hook=rows_only("IN"))
        conditions = [_same(value, ColumnRef(other.fields[0].type, name=right.frame[0]), member)]
    sides = Side("", node), Side("", other)
    if in_windows(*sides, seen=(left, right), condition=conditions):
        return bind_join(*sides, seen=(left, right), condition=conditions, kind=member.kind, at=member.at)
    return bind_regular_join(
        node, other, seen=(left, right), condition=conditions, kind=member.kind, ttl_ms=ttl_ms, at=member.at
    )


def condition_of_exists(
    where: exp.Expr, node: Node, seen: tuple[Seen, ...], other: Node, inner: tuple[Seen, ...], *, at: Span
) -> Expr:
    """WHERE of the query behind EXISTS, for `keep_members`. Names of its own come first."""
    right = _beside(node, other, at)
    names = dict(zip((field.name for field in other.fields), right.frame, strict=True))
    own = tuple(replace(each, frame=tuple(names[name] for name in each.frame)) for each in inner)
    return bind_condition(where, _Nested(own, seen), hook=rows_only("WHERE"), what="WHERE")


def condition_of_in(
    member: Membership, query: exp.Select, node: Node, seen: tuple[Seen, ...], other: Node, inner: tuple[Seen, ...]
) -> Expr:
    """What `x IN (SELECT y ...)` compares, where the query refers to the one around it and is not bound by itself."""
    assert member.value is not None
    items = [item.this if isinstance(item, exp.Alias) else item for item in query.expressions]
    if len(items) != 1 or isinstance(items[0], exp.Star):
        raise refusal(
            member.at,
            "column_count",
            message="The query behind IN selects more than one column.",
            remedy="Select one column, or write EXISTS (SELECT ... WHERE ...).",
        )
    right = _beside(node, other, member.at)
    names = dict(zip((field.name for field in other.fields), right.frame, strict=True))
    own = RowScope(tuple(replace(each, frame=tuple(names[name] for name in each.frame)) for each in inner))
    found = bind_value(items[0], own, hook=rows_only("the query behind IN"))
    return _same(bind_value(member.value, RowScope(seen), hook=rows_only("IN")), found, member)


def refers_to(query: exp.Select, around: set[str]) -> bool:
    """Whether WHERE of a query names one of these relations."""
    where = query.args.get("where")
    own = {table.alias_or_name for part in (query.args.get("from_"), *(query.args.get("joins") or ()))
           if part is not None for table in (part.this,)}  # fmt: skip
    return where is not None and any(
        column.args.get("table") and column.table in around - own for column in where.find_all(exp.Column)
    )


class _Nested(RowScope):
    """Names of a query, then those of the query around it."""

    def __init__(self, own: tuple[Seen, ...], around: tuple[Seen, ...]) -> None:
        super().__init__(own)
        self._around = RowScope(around)

    def resolve(self, name: str, qualifier: str | None) -> ColumnRef:
        try:
            return super().resolve(name, qualifier)
        except Mismatch as unknown:
            if unknown.code not in ("unknown_column", "unknown_relation"):
                raise
            try:
                return self._around.resolve(name, qualifier)
            except Mismatch:
                raise unknown from None


def _beside(node: Node, other: Node, at: Span) -> Seen:
    return seen_of_join(Side("$left", node), Side("$right", other), at=at)[1]


def _same(value: Expr, column: Expr, member: Membership) -> Expr:
    """The equality of IN. Of NOT IN what must hold for no row: that it is true or, because of NULL, not known."""
    wanted = common_type((value.type, column.type))
    if wanted is None:
        raise refusal(
            member.at,
            "type_mismatch",
            message=f"{value.type} cannot be compared with {column.type}, which the query behind IN selects.",
            remedy="Use CAST to give both the same type.",
        )
    equal = Call(BOOLEAN, function="=", args=(coerced(value, wanted), coerced(column, wanted)), span=member.at)
    if not member.negated:
        return equal
    return Call(BOOLEAN, function="COALESCE", args=(equal, Literal(BOOLEAN, value=True)), span=member.at)


def _terms(where: exp.Expr | None) -> list[exp.Expr]:
    match where:
        case None:
            return []
        case exp.And():
            return [*_terms(where.this), *_terms(where.expression)]
        case exp.Paren(this=exp.And() | exp.Paren() | exp.In() | exp.Exists() | exp.Not() as inner):
            return _terms(inner)
        case _:
            return [where]


def _membership(term: exp.Expr) -> Membership | None:
    negated = False
    inner = term
    while isinstance(inner, exp.Not | exp.Paren):
        negated ^= isinstance(inner, exp.Not)
        inner = inner.this
    match inner:
        case exp.In() if inner.args.get("query") is not None:
            return Membership(_query(inner.args["query"]), inner.this, negated, span_of(inner))
        case exp.Exists():
            return Membership(_query(inner.this), None, negated, span_of(inner))
        case _:
            return None


def _query(node: exp.Expr) -> exp.Expr:
    while isinstance(node, exp.Subquery) and not node.args.get("with_"):
        node = node.this
    return node
