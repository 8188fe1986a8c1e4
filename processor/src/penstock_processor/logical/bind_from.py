"""FROM: tables, views, windows, subqueries, and one join; with what is left of WHERE."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from sqlglot import exp

from penstock.expressions.dialect import span_of
from penstock.expressions.nodes import ColumnRef, Expr, Span
from penstock_processor.logical.bind_join import Side, bind_join, is_bounded, seen_behind, seen_of_join
from penstock_processor.logical.bind_match import bind_match
from penstock_processor.logical.bind_regular_join import bind_regular_join
from penstock_processor.logical.bind_temporal import bind_temporal_join, versions_of
from penstock_processor.logical.bind_window import bind_window
from penstock_processor.logical.expressions import bind_condition, bind_value, rows_only
from penstock_processor.logical.plan import JoinKind, Node
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
    clause, joins, where = tree.args.get("from_"), tree.args.get("joins") or [], tree.args.get("where")
    if clause is None:
        raise refusal(
            span_of(tree), "syntax", message="The query has no FROM.", remedy="Write SELECT ... FROM table."
        )
    first = _side(clause.this, queries, limits=limits)
    if not joins:
        seen = (Seen(first.alias, first.node.fields, tuple(f.name for f in first.node.fields)),)
        condition = None
        if where is not None:
            condition = bind_condition(where.this, RowScope(seen), hook=rows_only("WHERE"), what="WHERE")
        return From(first.node, seen, condition)
    if len(joins) > 1:
        raise refusal(
            span_of(joins[1]),
            "unsupported",
            message="More than one join in one FROM is not in this version.",
            remedy="Put the first join into a view or a subquery that keeps one event time.",
        )
    return _join(first, joins[0], queries=queries, where=where, limits=limits)


def _join(left: Side, join: exp.Join, *, queries: Queries, where: exp.Expr | None, limits: SqlLimits) -> From:
    at = span_of(join)
    kind = _kind(join, at=at)
    if join.args.get("using"):
        raise refusal(
            at, "unsupported", message="USING is not in this version.", remedy="Write ON a.key = b.key AND ..."
        )
    only(join, ("this", "on", "kind", "side"), where="a join")
    if join.this.args.get("version") is not None:
        return _as_of(left, join, queries=queries, where=where, limits=limits)
    right = _side(join.this, queries, limits=limits)
    seen = seen_of_join(left, right, at=at)
    behind = seen_behind(seen, kind)
    written = join.args.get("on")
    on = [] if written is None else [bind_condition(written, RowScope(seen), hook=rows_only("ON"), what="ON")]
    rest = None
    if where is not None:
        rest = bind_condition(where.this, RowScope(behind), hook=rows_only("WHERE"), what="WHERE")
    if rest is not None and kind is JoinKind.INNER:  # for an inner join both mean the same
        on, rest = [*on, rest], None
    ttl_ms = queries.state_ttl_ms
    if ttl_ms is None or is_bounded(left, right, seen=seen, condition=on):
        return From(bind_join(left, right, seen=seen, condition=on, kind=kind, at=at), behind, rest)
    node = bind_regular_join(left.node, right.node, seen=seen, condition=on, kind=kind, ttl_ms=ttl_ms, at=at)
    return From(node, seen_behind(seen, JoinKind.FULL), rest)


def _as_of(left: Side, join: exp.Join, *, queries: Queries, where: exp.Expr | None, limits: SqlLimits) -> From:
    """JOIN t FOR SYSTEM_TIME AS OF o.ts AS t ON ..."""
    at, kind = span_of(join), _kind(join, at=span_of(join))
    table, version = join.this.copy(), join.this.args["version"]
    table.set("version", None)
    right = _side(table, queries, limits=limits)
    versions = versions_of(right, at=at)
    seen = seen_of_join(left, Side(right.alias, versions.node), at=at)
    behind = (seen[0], seen_behind(seen, JoinKind.LEFT)[1])  # the time of a version is a plain column
    time = bind_value(version.expression, RowScope(seen[:1]), hook=rows_only("FOR SYSTEM_TIME AS OF"))
    if not isinstance(time, ColumnRef) or not RowScope(seen[:1]).rowtime(time.name):
        raise refusal(
            span_of(version.expression),
            "no_event_time",
            message="FOR SYSTEM_TIME AS OF takes the event time of the left side.",
            remedy=f"Name the column of '{left.alias}' that WATERMARK is declared for, unchanged.",
        )
    written = join.args.get("on")
    on = [] if written is None else [bind_condition(written, RowScope(seen), hook=rows_only("ON"), what="ON")]
    rest = None
    if where is not None:
        rest = bind_condition(where.this, RowScope(behind), hook=rows_only("WHERE"), what="WHERE")
    node = bind_temporal_join(left, versions, time=time, seen=seen, condition=on, kind=kind, at=at)
    return From(node, behind, rest)


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
