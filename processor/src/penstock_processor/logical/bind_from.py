"""FROM: tables, views, windows, subqueries, and joins from the left; with what is left of WHERE."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

from sqlglot import exp

from penstock.expressions.dialect import span_of
from penstock.expressions.nodes import ColumnRef, Expr, Span
from penstock_processor.logical.bind_join import Side, bind_join, is_bounded
from penstock_processor.logical.bind_lookup import bind_lookup_join, check_proctime
from penstock_processor.logical.bind_match import bind_match
from penstock_processor.logical.bind_regular_join import bind_regular_join
from penstock_processor.logical.bind_subquery import (
    Membership,
    condition_of_exists,
    condition_of_in,
    keep_members,
    memberships,
    refers_to,
)
from penstock_processor.logical.bind_temporal import Versions, bind_temporal_join, versions_of
from penstock_processor.logical.bind_unnest import bind_unnests, has_unnest
from penstock_processor.logical.bind_window import bind_window
from penstock_processor.logical.bounded_joins import WindowJoin
from penstock_processor.logical.expressions import bind_condition, bind_value, rows_only
from penstock_processor.logical.join_chain import Link, Seats, flagged, merged, shared_out, with_merged
from penstock_processor.logical.plan import Field, JoinKind, Node
from penstock_processor.logical.plan_lookup import LookupTable
from penstock_processor.logical.rewrite import all_of, columns_read
from penstock_processor.logical.scope import RowScope, Seen
from penstock_processor.sql.findings import refusal
from penstock_processor.sql.limits import SqlLimits
from penstock_processor.sql.parse import identifier, only
from penstock_processor.sql.statements import Word

__all__ = ["From", "Queries", "bind_from"]


class Queries(Protocol):
    """What FROM may refer to: declared relations, queries of WITH, and queries in parentheses."""

    @property
    def state_ttl_ms(self) -> int | None:
        """After what time without use state is forgotten; None: it is not set (`changes.required_ttl`)."""
        ...

    def relation(self, name: Word) -> Node:
        """A table, a view or a query of WITH. Raises SqlErrors: unknown_table."""
        ...

    def lookup(self, name: Word) -> LookupTable | None:
        """A table that is looked up by key; None if it is something else."""
        ...

    def subquery(self, tree: exp.Expr) -> Node:
        """The plan of a query in parentheses."""
        ...


@dataclass(frozen=True, slots=True)
class From:
    """A node, the names under which its columns are seen, and the part of WHERE that is not in the node."""

    node: Node
    seen: tuple[Seen, ...]
    where: Expr | None


def bind_from(tree: exp.Select, queries: Queries, *, limits: SqlLimits) -> From:
    """FROM and WHERE of one SELECT. Raises SqlErrors."""
    clause, joins = tree.args.get("from_"), tree.args.get("joins") or []
    written = tree.args.get("where")
    where, members = memberships(None if written is None else written.this)
    if clause is None:
        raise refusal(
            span_of(tree), "syntax", message="The query has no FROM.", remedy="Write SELECT ... FROM table."
        )
    first = _side(clause.this, queries, limits=limits)
    if not joins or has_unnest(joins):
        node, seen = bind_unnests(first, joins)
        condition = None
        if where is not None:
            condition = bind_condition(where, RowScope(seen), hook=rows_only("WHERE"), what="WHERE")
        found = From(node, seen, condition)
    else:
        found = _joined(first, joins, queries=queries, where=where, limits=limits)
    for member in members:
        found = _kept(found, member, queries, limits=limits)
    return found


def _kept(found: From, member: Membership, queries: Queries, *, limits: SqlLimits) -> From:
    """The rows that a term with a subquery keeps."""
    query, exists = member.query, None
    around = {seen.alias for seen in found.seen}
    if isinstance(query, exp.Select) and (member.value is None or refers_to(query, around)):
        only(query, ("expressions", "from_", "joins", "where"), where="EXISTS or IN")
        bare, where = query.copy(), query.args.get("where")
        bare.set("where", None)
        inner = bind_from(bare, queries, limits=limits)
        other = inner.node
        if where is not None:
            at = member.at
            exists = condition_of_exists(where.this, found.node, found.seen, other, inner.seen, at=at)
        if member.value is not None:
            equal = condition_of_in(member, query, found.node, found.seen, other, inner.seen)
            exists, member = all_of([equal] if exists is None else [exists, equal]), replace(member, value=None)
    else:
        other = queries.subquery(query)
    node = keep_members(found.node, found.seen, member, other, exists=exists, ttl_ms=queries.state_ttl_ms)
    return From(node, found.seen if isinstance(node, WindowJoin) else flagged(found.seen, set()), found.where)


@dataclass(frozen=True, slots=True)
class _Right:
    """The right side of a join as it is written; of FOR SYSTEM_TIME AS OF its versions, or where it is looked up."""

    join: exp.Join
    side: Side
    versions: Versions | None = None
    lookup: LookupTable | None = None


def _joined(first: Side, joins: list[exp.Join], *, queries: Queries, where: exp.Expr | None, limits: SqlLimits
            ) -> From:  # fmt: skip
    """All joins of one FROM, from the left."""
    seats, rights, links = Seats(first), list[_Right](), list[Link]()
    for join in joins:
        at = span_of(join)
        kind = _kind(join, at=at)
        only(join, ("this", "on", "kind", "side", "using"), where="a join")
        right = _right(join, queries, limits=limits)
        using = tuple(identifier(each, otherwise=at, what="a column") for each in join.args.get("using") or ())
        rights.append(right)
        links.append(seats.add(right.side, kind, using, at=at))
    rest = None
    if where is not None:
        rest = bind_condition(where, RowScope(seats.seen), hook=rows_only("WHERE"), what="WHERE")
    shared, stay = shared_out(rest, links)
    node, times = first.node, {f.name for f in first.node.fields if f.rowtime}
    for right, link, terms in zip(rights, links, shared, strict=True):
        written = right.join.args.get("on")
        on = [*link.equal, *terms]
        if written is not None:
            on.insert(0, bind_condition(written, link.scope, hook=rows_only("ON"), what="ON"))
        node, times = _join(Side(first.alias, node), right, link, on=on, times=times, ttl_ms=queries.state_ttl_ms)
    return From(node, flagged(seats.seen, times), all_of(stay))


def _right(join: exp.Join, queries: Queries, *, limits: SqlLimits) -> _Right:
    table = join.this
    if table.args.get("version") is None:
        return _Right(join, _side(table, queries, limits=limits))
    table = table.copy()
    table.set("version", None)
    name = identifier(table.this, otherwise=span_of(join), what="a table")
    lookup = queries.lookup(name)
    if lookup is not None:
        fields = tuple(Field(column.name, column.type) for column in lookup.columns)
        return _Right(join, Side(table.alias or name.text, Node(fields)), lookup=lookup)
    side = _side(table, queries, limits=limits)
    versions = versions_of(side, at=span_of(join))
    return _Right(join, Side(side.alias, versions.node), versions)


def _join(left: Side, right: _Right, link: Link, *, on: list[Expr], times: set[str], ttl_ms: int | None
          ) -> tuple[Node, set[str]]:  # fmt: skip
    """One join, and the time attributes behind it."""
    at, kind = span_of(right.join), link.kind
    if right.lookup is not None:
        check_proctime(right.join.this.args["version"].expression, left.node, RowScope(link.before), right.lookup)
        seen = merged(left.node, set(), set()), link.right
        made: Node = bind_lookup_join(left, right.lookup, seen=seen, condition=on, kind=kind, at=at)
        return with_merged(made, link.made), times
    if right.versions is not None:
        time = _time_of(right.join, flagged(link.before, times), alias=left.alias)
        seen = merged(left.node, {time.name}, {time.name}), link.right
        made = bind_temporal_join(left, right.versions, time=time, seen=seen, condition=on, kind=kind, at=at)
        return with_merged(made, link.made), times
    seen = merged(left.node, times, columns_read(*on)), link.right
    if ttl_ms is None or is_bounded(left, right.side, seen=seen, condition=on):
        made = bind_join(left, right.side, seen=seen, condition=on, kind=kind, at=at)
        own = {name for f, name in zip(link.right.fields, link.right.frame, strict=True) if f.rowtime}
        kept = (set() if kind.pads_right_rows else times) | (set() if kind.pads_left_rows else own)
        return with_merged(made, link.made), kept
    made = bind_regular_join(left.node, right.side.node, seen=seen, condition=on, kind=kind, ttl_ms=ttl_ms, at=at)
    return with_merged(made, link.made), set()


def _time_of(join: exp.Join, left: tuple[Seen, ...], *, alias: str) -> ColumnRef:
    """The event time of FOR SYSTEM_TIME AS OF."""
    version, scope = join.this.args["version"], RowScope(left)
    time = bind_value(version.expression, scope, hook=rows_only("FOR SYSTEM_TIME AS OF"))
    if not isinstance(time, ColumnRef) or not scope.rowtime(time.name):
        raise refusal(
            span_of(version.expression),
            "no_event_time",
            message="FOR SYSTEM_TIME AS OF takes the event time of the left side.",
            remedy=f"Name the column of '{alias}' that WATERMARK is declared for, unchanged.",
        )
    return time


def _kind(join: exp.Join, *, at: Span) -> JoinKind:
    """INNER, LEFT, RIGHT or FULL [OUTER]. Raises SqlErrors for other joins."""
    side, kind = join.side, join.args.get("kind") or ""
    if join.args.get("method") or kind not in ("", "INNER", "CROSS", "OUTER") or (side and kind == "CROSS"):
        what = " ".join(str(join.args[p]) for p in ("method", "side", "kind") if join.args.get(p))
        raise refusal(
            at,
            "unsupported",
            message=f"{what} JOIN is not in this version.",
            remedy="Write JOIN, LEFT JOIN, RIGHT JOIN or FULL JOIN.",
        )
    return JoinKind(side) if side else JoinKind.INNER


def _side(node: exp.Expr, queries: Queries, *, limits: SqlLimits) -> Side:
    """One relation under its alias; without one, under its own name."""
    alias = node.args.get("alias")
    if alias is not None:
        only(alias, ("this",), where="an alias")
    match node:
        case exp.Table(this=exp.Anonymous() as call):
            only(node, ("this", "alias"), where="FROM")
            return Side(node.alias, bind_window(call, lambda n: _argument(n, queries), limits=limits))
        case exp.Table(this=exp.MatchRecognize() as match):
            only(node, ("this", "alias"), where="FROM")
            data = _side(match.this, queries, limits=limits).node
            return Side(node.alias, bind_match(match, data, limits=limits, ttl_ms=queries.state_ttl_ms))
        case exp.Table():
            return Side(node.alias or node.name, _table(node, queries))
        case exp.Subquery():
            only(node, ("this", "alias", "with_"), where="FROM")
            return Side(node.alias, queries.subquery(node))
        case _:
            raise refusal(
                span_of(node),
                "unsupported",
                message="FROM takes tables, views, windows and subqueries.",
                remedy="Write the name of a table, TABLE(TUMBLE(...)), or (SELECT ...) AS name.",
            )


def _argument(node: exp.Expr, queries: Queries) -> Node:
    """The table argument of a window."""
    match node:
        case exp.Table(this=exp.Identifier()):
            return _table(node, queries)
        case exp.Subquery():
            return queries.subquery(node)
        case _:
            raise refusal(
                span_of(node),
                "syntax",
                message="The first argument of a window is a table.",
                remedy="Write TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '10' MINUTE)).",
            )


def _table(node: exp.Table, queries: Queries) -> Node:
    if node.args.get("db") or node.args.get("catalog"):
        raise refusal(
            span_of(node),
            "unsupported",
            message="There are no catalogs or databases.",
            remedy=f"Write '{node.name}' alone.",
        )
    only(node, ("this", "alias"), where="FROM")
    return queries.relation(identifier(node.this, otherwise=span_of(node), what="a table"))
