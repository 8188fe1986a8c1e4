"""Queries: SELECT over rows and over groups, UNION ALL, subqueries and WITH, bound to plan nodes."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

from sqlglot import exp

from penstock.expressions.coercion import common_type
from penstock.expressions.dialect import span_of
from penstock.expressions.literals import coerced
from penstock.expressions.nodes import ColumnRef, Expr, Span
from penstock_processor.logical.bind_aggregate import Grouping
from penstock_processor.logical.bind_from import From, bind_from
from penstock_processor.logical.bind_over import OverCalls, name_windows
from penstock_processor.logical.bind_rank import RankedGroups, RankedRows, limited
from penstock_processor.logical.bind_window import WINDOW_COLUMNS
from penstock_processor.logical.changes import required_ttl
from penstock_processor.logical.expressions import bind_value, is_aggregate, rows_only
from penstock_processor.logical.grouping_sets import sets_of
from penstock_processor.logical.plan import (
    Aggregate,
    Field,
    Filter,
    GroupAggregate,
    Named,
    Node,
    Project,
    Union,
    WindowAssign,
    WindowKind,
)
from penstock_processor.logical.plan_lookup import LookupTable
from penstock_processor.logical.rewrite import columns_read, inputs_of
from penstock_processor.logical.scope import RowScope
from penstock_processor.logical.select_list import outputs_of, project, renamed
from penstock_processor.logical.window_bounds import attached
from penstock_processor.sql.findings import refusal
from penstock_processor.sql.limits import SqlLimits
from penstock_processor.sql.parse import identifier, only
from penstock_processor.sql.statements import Word

__all__ = ["QueryBinder", "Relations"]

_SELECT_PARTS = ("distinct", "expressions", "from_", "joins", "where", "group", "having", "with_", "windows")


class Relations(Protocol):
    """Declared tables and views."""

    def relation(self, name: Word) -> Node:
        """A Scan of a table, or the plan of a view. Raises SqlErrors: unknown_table."""
        ...

    def lookup(self, name: Word) -> LookupTable | None:
        """A table that is looked up by key; None if it is something else."""
        ...


class QueryBinder:
    """Binds queries against `relations`; `ctes` are the queries of WITH in reach.

    `state_ttl_ms`: after what time without use state is forgotten (`changes.required_ttl`); None: it is not set.
    """

    def __init__(self, relations: Relations, limits: SqlLimits, ctes: dict[str, Node] | None = None, *,
                 state_ttl_ms: int | None = None) -> None:  # fmt: skip
        self.state_ttl_ms = state_ttl_ms
        self._relations = relations
        self._limits = limits
        self._ctes = ctes or {}

    def query(self, tree: exp.Expr) -> Node:
        """The plan of a query; its field names are distinct. Raises SqlErrors."""
        clause = tree.args.get("with_")
        if clause is not None:
            return self._with(clause)._body(tree)
        return self._body(tree)

    def lookup(self, name: Word) -> LookupTable | None:
        """A declared table that is looked up by key; None if it is something else."""
        return None if name.text in self._ctes else self._relations.lookup(name)

    def relation(self, name: Word) -> Node:
        """A query of WITH, else a declared table or view."""
        return self._ctes[name.text] if name.text in self._ctes else self._relations.relation(name)

    def subquery(self, tree: exp.Expr) -> Node:
        """The plan of a query in parentheses."""
        return self.query(tree)

    def _body(self, tree: exp.Expr) -> Node:
        match tree:
            case exp.Select():
                node = self._select(tree)
            case exp.Union():
                node = self._union(tree)
            case exp.Subquery():
                only(tree, ("this", "alias", "with_"), where="a query in parentheses")
                node = self.query(tree.this)
            case _:
                raise refusal(
                    span_of(tree),
                    "unsupported",
                    message="This is no query of this version.",
                    remedy="Write SELECT ... FROM ..., or several combined with UNION ALL.",
                )
        size, depth = _measure(node)
        if size > self._limits.nodes_max or depth > self._limits.depth_max:
            raise refusal(
                span_of(tree),
                "too_large",
                message="With its views written out, this query is too large.",
                remedy="Store a part of it with CREATE TABLE name WITH (...) AS SELECT, and read that.",
            )
        return node

    def _with(self, clause: exp.Expr) -> QueryBinder:
        """A binder that also knows the queries of WITH; each sees those before it."""
        only(clause, ("expressions",), where="WITH")
        binder = self
        for cte in clause.expressions:
            alias = cte.args.get("alias")
            name = identifier(alias and alias.this, otherwise=span_of(cte), what="a query of WITH")
            columns = tuple(
                identifier(c, otherwise=name.span, what="a column") for c in alias.args.get("columns") or ()
            )
            node = renamed(binder.query(cte.this), columns, at=name.span)
            known = {**binder._ctes, name.text: node}
            binder = QueryBinder(self._relations, self._limits, known, state_ttl_ms=self.state_ttl_ms)
        return binder

    def _select(self, tree: exp.Select) -> Node:
        only(tree, _SELECT_PARTS, where="a streaming query")
        source = bind_from(tree, self, limits=self._limits)
        node, where = limited(source.node, source.where, ttl_ms=self.state_ttl_ms)
        source = From(node, source.seen, where)
        if _window_once(tree, source.node):
            return self._grouped(tree, source, keys=[item.unalias() for item in tree.expressions])
        if tree.args.get("group") or tree.args.get("having") or _aggregates(tree):
            return self._distinct(tree, self._grouped(tree, source))
        scope = RowScope(source.seen)
        name_windows(tree)
        calls = OverCalls(scope, self._limits, source.node)
        rows = RankedRows(scope, otherwise=calls.hook)
        outputs = outputs_of(tree, scope, rows)
        found = project(
            calls.over(rows.over(_filtered(source.node, source.where))),
            outputs,
            is_rowtime=lambda name: scope.rowtime(name) and not calls.clocked,
            columns_max=self._limits.columns_max,
            at=span_of(tree),
        )
        return self._distinct(tree, found)

    def _distinct(self, tree: exp.Select, node: Node) -> Node:
        """SELECT DISTINCT: each row once."""
        clause = tree.args.get("distinct")
        if clause is None:
            return node
        only(clause, (), where="SELECT DISTINCT")
        return self._once(node, at=span_of(tree), what="SELECT DISTINCT")

    def _once(self, node: Node, *, at: Span, what: str) -> GroupAggregate:
        """Rows that are equal in all columns as one."""
        keys = tuple(Named(f.name, ColumnRef(f.type, name=f.name)) for f in node.fields)
        fields = tuple(Field(f.name, f.type) for f in node.fields)
        return GroupAggregate(fields, node, keys, (), required_ttl(self.state_ttl_ms, at=at, what=what))

    def _grouped(self, tree: exp.Select, source: From, keys: list[exp.Expr] | None = None) -> Node:
        """GROUP BY `keys`; None: those that are written."""
        group, having = tree.args.get("group"), tree.args.get("having")
        rows = RowScope(source.seen)
        if keys is None:
            keys = list(group.expressions) if group is not None else []
        window = source.node if isinstance(source.node, WindowAssign) else _attached(source, keys, rows)
        at = span_of(group) if group is not None and group.expressions else span_of(tree)
        if group is not None:
            only(group, ("expressions",), where="GROUP BY")
        ttl_ms = 0 if window is not None else self._ttl_ms(at)
        if window is not None and window.kind is not WindowKind.ATTACHED:
            window = _rows_filtered(window, source.where, at=span_of(tree))
        sets = sets_of(keys, most=self._limits.grouping_sets_max, at=at)
        grouping = Grouping(window, rows, sets, at=at)
        ranked = RankedGroups(grouping)
        outputs = outputs_of(tree, rows, ranked)
        condition = None if having is None else grouping.condition(having.this)
        node: Aggregate | GroupAggregate
        if window is None:
            node = grouping.groups(_filtered(source.node, source.where), ttl_ms=ttl_ms, at=at)
        else:
            node = grouping.node()
        times = {f.name for f in node.fields if f.rowtime}
        return project(
            ranked.over(_filtered(node, condition)),
            outputs,
            is_rowtime=times.__contains__,
            columns_max=self._limits.columns_max,
            at=span_of(tree),
        )

    def _ttl_ms(self, at: Span) -> int:
        return required_ttl(self.state_ttl_ms, at=at, what="Grouping without a window")

    def _union(self, tree: exp.Union) -> Node:
        parts = _operands(tree, operands_max=self._limits.nodes_max)
        first, *others = (self.query(part) for part in parts)
        fields = first.fields
        for part, other in zip(parts[1:], others, strict=True):
            at = span_of(part)
            if len(fields) != len(other.fields):
                raise refusal(
                    at,
                    "column_count",
                    message=f"The first input of UNION ALL has {len(fields)} columns, this one {len(other.fields)}.",
                    remedy="Select the same number of columns.",
                )
            fields = tuple(_united(one, two, at=at) for one, two in zip(fields, other.fields, strict=True))
        inputs = [one for side in (first, *others) for one in (side.inputs if isinstance(side, Union) else (side,))]
        found = Union(fields, tuple(_converted(one, fields) for one in inputs))
        return found if _keeps_all(tree) else self._once(found, at=span_of(tree.expression), what="UNION")


def _operands(tree: exp.Union, *, operands_max: int) -> list[exp.Expr]:
    """The queries of a chain of UNION ALL, or of one of UNION, in text order."""
    found: list[exp.Expr] = []
    left: exp.Expr = tree
    while (
        isinstance(left, exp.Union)
        and (left is tree or left.args.get("with_") is None)
        and _keeps_all(left) == _keeps_all(tree)
    ):
        only(left, ("this", "expression", "with_", "distinct"), where="a streaming query")
        found.append(left.expression)
        left = left.this
        if len(found) > operands_max:
            raise refusal(
                span_of(left),
                "too_large",
                message="UNION ALL has too many inputs.",
                remedy=f"At most {operands_max:,}; write several INSERT INTO statements.",
            )
    return [left, *reversed(found)]


def _keeps_all(tree: exp.Union) -> bool:
    """UNION ALL; without ALL, rows that are equal are one."""
    return tree.args.get("distinct") is False


def _window_once(tree: exp.Select, node: Node) -> bool:
    """SELECT DISTINCT of columns with the bounds of a window: what ends with the window, as in Flink."""
    plain = tree.args.get("distinct") is None or tree.args.get("group")
    if plain or not isinstance(node, WindowAssign) or node.kind is WindowKind.SESSION:
        return False
    columns = [item.unalias() for item in tree.expressions]
    bounds = {"window_start", "window_end"} <= {column.name for column in columns}
    return bounds and all(isinstance(column, exp.Column) for column in columns)


def _aggregates(tree: exp.Select) -> bool:
    return any(is_aggregate(n) for e in tree.expressions for n in e.walk(prune=_own_rows))


def _own_rows(node: exp.Expr) -> bool:
    return isinstance(node, exp.Query | exp.Window)


def _united(first: Field, second: Field, *, at: Span) -> Field:
    found = common_type((first.type, second.type))
    if found is None:
        raise refusal(
            at,
            "type_mismatch",
            message=f"'{first.name}' is {first.type} in the first input of UNION ALL, "
            f"'{second.name}' is {second.type} in this one.",
            remedy="Use CAST to give both the same type.",
        )
    return Field(first.name, found, first.rowtime and second.rowtime and first.type == second.type)


def _converted(node: Node, fields: tuple[Field, ...]) -> Node:
    """An input of UNION ALL with the types of the union."""
    if all(own.type == wanted.type for own, wanted in zip(node.fields, fields, strict=True)):
        return node
    exprs = tuple(
        Named(own.name, coerced(ColumnRef(own.type, name=own.name), wanted.type))
        for own, wanted in zip(node.fields, fields, strict=True)
    )
    changed = tuple(
        Field(o.name, w.type, o.rowtime and o.type == w.type) for o, w in zip(node.fields, fields, strict=True)
    )
    return Project(changed, node, exprs)


def _filtered(node: Node, condition: Expr | None) -> Node:
    return node if condition is None else Filter(node.fields, node, condition)


def _rows_filtered(window: WindowAssign, condition: Expr | None, *, at: Span) -> WindowAssign:
    """WHERE over a window filters its rows before they are assigned, also to sessions (as Flink 2.3 does)."""
    if condition is None:
        return window
    if columns_read(condition) & set(WINDOW_COLUMNS):
        raise refusal(
            condition.span if condition.span.line > 1 else at,
            "unsupported",
            message="WHERE cannot use window columns: rows are filtered before windows are assigned.",
            remedy="Use HAVING.",
        )
    return replace(window, input=_filtered(window.input, condition))


def _attached(source: From, keys: list[exp.Expr], rows: RowScope) -> WindowAssign | None:
    """The windows that the rows of a query come out of, if GROUP BY names their start and end."""
    names = []
    for key in keys:
        if isinstance(key, exp.Column):
            found = bind_value(key, rows, hook=rows_only("GROUP BY"))
            names += [found.name] if isinstance(found, ColumnRef) else []
    return attached(_filtered(source.node, source.where), names)


def _measure(node: Node) -> tuple[int, int]:
    """(nodes, depth)"""
    below = [_measure(one) for one in inputs_of(node)]
    return 1 + sum(size for size, _ in below), 1 + max((depth for _, depth in below), default=0)
