"""Queries: SELECT, set operations, WITH and queries in parentheses, bound to one select of SQLAlchemy.

Nothing of the text goes into it: names become the store's own, constants become parameters, everything else is made
anew from what the whitelists here and in `values`, `functions`, `aggregates` know.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import sqlalchemy as sa
from sqlglot import exp

from penstock.expressions.bind import bind
from penstock.expressions.coercion import Mismatch
from penstock.expressions.nodes import Cast, ColumnRef, Expr, Literal
from penstock.model.types import BIGINT, DataType, Kind
from penstock_data.queries.calls import Groups, Windows, no_calls
from penstock_data.queries.conditions import condition
from penstock_data.queries.forks import Element
from penstock_data.queries.ordering import ordered_by, parts_of, place_of
from penstock_data.queries.refusals import only, refused
from penstock_data.queries.scope import Field, Query, RowScope, Statement
from penstock_data.queries.set_operations import united
from penstock_data.queries.sources import Source, Sources, name_of
from penstock_data.queries.subqueries import Anywhere, is_aggregate

__all__ = ["QueryBinder"]

_SELECT = ("distinct", "expressions", "from_", "joins", "where", "group", "having", "with_", "windows", "order",
           "limit", "offset")  # fmt: skip
Ctes = Mapping[str, tuple[sa.CTE, Query]]
Item = tuple[str, Expr]


class QueryBinder:
    """Binds queries of one statement; `ctes`: queries of WITH in reach."""

    def __init__(self, statement: Statement, ctes: Ctes | None = None, *, rows_max: int | None = None) -> None:
        """`rows_max`: a LIMIT for the outermost query, whatever its own is."""
        self._statement, self._ctes, self._rows_max = statement, ctes or {}, rows_max

    def query(self, tree: exp.Expr) -> Query:
        """The query. Raises SqlErrors."""
        clause = tree.args.get("with_")
        binder = self if clause is None else self._with(clause)
        match tree:
            case exp.Select():
                return binder._select(tree)
            case exp.Union() | exp.Except() | exp.Intersect():
                return binder._set_operation(tree)
            case exp.Subquery():
                only(tree, ("this", "with_", "order", "limit", "offset"), where="a query in parentheses")
                inner = QueryBinder(self._statement, binder._ctes).query(tree.this)
                return binder._paged(inner, tree)
        raise refused(tree, "unsupported_statement", "This is no query.", "Send one SELECT.")

    def _nested(self, tree: exp.Expr) -> Query:
        return QueryBinder(self._statement, self._ctes).query(tree)

    def _with(self, clause: exp.Expr) -> QueryBinder:
        only(clause, ("expressions",), where="WITH")
        known = dict(self._ctes)
        for cte in clause.expressions:
            only(cte, ("this", "alias"), where="WITH")
            alias = cte.args.get("alias")
            name = name_of(alias and alias.this)
            only(alias, ("this",), where="WITH")
            if any(other is not cte and other.alias == name for other in clause.expressions):
                raise refused(cte, "ambiguous_table", f"'{name}' stands twice in WITH.", "Give one another name.")
            query = QueryBinder(self._statement, known).query(cte.this)
            known[name] = (query.select.cte(self._statement.input(cte)), query)
        return QueryBinder(self._statement, known, rows_max=self._rows_max)

    def _select(self, tree: exp.Select) -> Query:
        only(tree, _SELECT, where="a query")
        _write_windows_out(tree)
        anywhere = Anywhere(self._statement, self._nested)
        sources = Sources(self._statement, self._ctes, self._nested)
        source = sources.of(tree, lambda scope: no_calls(anywhere, scope, "ON"))
        scope = source.scope
        where = tree.args.get("where")
        chosen = None
        if where is not None:
            bound = bind(where.this, scope, hook=no_calls(anywhere, scope, "WHERE"))
            chosen = condition(bound, self._statement, at=where, where="WHERE")

        def rows(select: sa.Select[tuple[object, ...]]) -> sa.Select[tuple[object, ...]]:
            found = select if source.clause is None else select.select_from(source.clause)
            return found if chosen is None else found.where(chosen)

        group, having = tree.args.get("group"), tree.args.get("having")
        grouped = group is not None or having is not None or _aggregates(tree)
        groups: Groups | None = None
        if grouped:
            if group is not None:
                only(group, ("expressions",), where="GROUP BY")
            groups = Groups(self._statement, scope, anywhere, [] if group is None else group.expressions)
        inner = no_calls(anywhere, scope, "OVER") if groups is None else groups.hook
        windows = Windows(self._statement, scope, anywhere, inner)
        items = self._items(tree, source, windows, stars=groups is None)
        held = None if having is None else bind(having.this, scope, hook=inner)
        orders = self._orders(tree, items, scope, windows)
        if groups is not None:
            clause = groups.clause(rows)
            outer = sa.select().select_from(clause)
            if held is not None and having is not None:
                outer = outer.where(condition(held, self._statement, at=having, where="HAVING"))
        else:
            outer = rows(sa.select())
        return self._finished(tree, outer, items, orders, single=grouped and group is None)

    def _items(self, tree: exp.Select, source: Source, windows: Windows, *, stars: bool) -> list[Item]:
        found: list[Item] = []
        for place, node in enumerate(tree.expressions):
            if isinstance(node, exp.Star) or (isinstance(node, exp.Column) and isinstance(node.this, exp.Star)):
                star = node if isinstance(node, exp.Star) else node.this
                only(star, (), where="SELECT *")
                if not stars:
                    raise refused(
                        node, "not_grouped", "'*' has columns that are not in GROUP BY.", "Name the columns."
                    )
                try:
                    pairs = source.scope.star(node.table or None if isinstance(node, exp.Column) else None)
                except Mismatch as mismatch:
                    raise refused(node, mismatch.code, mismatch.message, mismatch.remedy) from None
                found += [(field.name, ref) for field, ref in pairs]
                continue
            inner = node.this if isinstance(node, exp.Alias) else node
            named = isinstance(node, exp.Alias)
            name = name_of(node.args["alias"]) if named else inner.name if isinstance(inner, exp.Column) else ""
            found.append((name or f"EXPR${place}", bind(inner, source.scope, hook=windows.hook)))
        if len(found) > self._statement.limits.columns_max:
            raise refused(
                tree, "too_large", f"More than {self._statement.limits.columns_max} columns.", "Select less."
            )
        if not found:
            raise refused(tree, "syntax", "There are no columns.", "Write SELECT a, b FROM ...")
        return found

    def _orders(
        self, tree: exp.Select, items: Sequence[Item], scope: RowScope, windows: Windows
    ) -> list[tuple[exp.Ordered, int | Expr]]:
        """Parts of ORDER BY: the place of an output column, or an expression over the rows."""
        order = tree.args.get("order")
        found: list[tuple[exp.Ordered, int | Expr]] = []
        for one in [] if order is None else parts_of(order):
            place = place_of(one.this, [name for name, _ in items])
            if place is None and tree.args.get("distinct") is not None:
                raise refused(one, "unsupported", "With DISTINCT, ORDER BY names columns of the SELECT list.",
                              "Give the expression a name in the SELECT list, and write that.")  # fmt: skip
            found.append((one, bind(one.this, scope, hook=windows.hook) if place is None else place))
        return found

    def _finished(
        self,
        tree: exp.Select,
        outer: sa.Select[tuple[object, ...]],
        items: Sequence[Item],
        orders: Sequence[tuple[exp.Ordered, int | Expr]],
        *,
        single: bool,
    ) -> Query:
        elements = [self._statement.written(expr) for _, expr in items]
        fields = tuple(Field(name, _shown_type(expr), self._statement.texts_of(expr)) for name, expr in items)
        select = outer.add_columns(*(element.label(f"c{i}") for i, element in enumerate(elements)))
        distinct = tree.args.get("distinct")
        if distinct is not None:
            only(distinct, ("expressions",), where="DISTINCT")
            _no_nested(fields, at=tree)
            select = select.distinct()
        by = [
            ordered_by(sa.literal_column(str(at + 1)) if isinstance(at, int) else self._statement.written(at), one)
            for one, at in orders
        ]
        return self._limited(Query(select.order_by(*by), fields, single), tree)

    def _set_operation(self, tree: exp.SetOperation) -> Query:
        only(tree, ("this", "expression", "with_", "distinct", "order", "limit", "offset"), where="a set operation")
        left, right = self._nested(tree.this), self._nested(tree.expression)
        found = united(tree, left, right, self._statement)
        if tree.args.get("distinct") is not False:
            _no_nested(found.fields, at=tree)
        return self._paged(found, tree)

    def _paged(self, query: Query, tree: exp.Expr) -> Query:
        """ORDER BY, LIMIT and OFFSET of a finished query: by its columns only."""
        order = tree.args.get("order")
        names = [field.name for field in query.fields]
        if order is None and tree.args.get("limit") is None and tree.args.get("offset") is None \
                and self._rows_max is None:  # fmt: skip
            return query

        def element_of(node: exp.Expr) -> Element:
            place = place_of(node, names)
            if place is None:
                raise refused(node, "unsupported", "ORDER BY names columns of the whole query here.",
                              f"Columns: {', '.join(names[:20])}.")  # fmt: skip
            return sa.literal_column(str(place + 1))

        inner = query.select.subquery()
        select = sa.select(*(inner.c[f"c{i}"].label(f"c{i}") for i in range(len(names)))).select_from(inner)
        by = [] if order is None else [ordered_by(element_of(one.this), one) for one in parts_of(order)]
        return self._limited(Query(select.order_by(*by), query.fields, query.single), tree)

    def _limited(self, query: Query, tree: exp.Expr) -> Query:
        limit, offset = self._count(tree, "limit"), self._count(tree, "offset")
        if self._rows_max is not None:
            limit = self._rows_max if limit is None else min(limit, self._rows_max)
        select = query.select
        if limit is not None:
            select = select.limit(limit)
        if offset is not None:
            select = select.offset(offset)
        return Query(select, query.fields, query.single or (limit is not None and limit <= 1))

    def _count(self, tree: exp.Expr, part: str) -> int | None:
        clause = tree.args.get(part)
        if clause is None:
            return None
        only(clause, ("expression",), where=part.upper())
        scope = RowScope(())
        hook = no_calls(Anywhere(self._statement, self._nested), scope, part.upper())
        found = bind(clause.expression, scope, hook=hook)
        if not isinstance(found, Literal) or type(found.value) is not int or not 0 <= found.value < 2**31:
            raise refused(tree, "syntax", f"{part.upper()} takes a whole number.", f"Write {part.upper()} 100.")
        return found.value


def _write_windows_out(tree: exp.Select) -> None:
    """WINDOW w AS (...) where OVER w names it. Raises SqlErrors."""
    named = {window.name: window for window in tree.args.get("windows") or []}
    for call in [call for part in (*tree.expressions, tree.args.get("order")) if part for call in _own_windows(part)]:
        name = call.args.get("alias")
        if name is None:
            continue
        window = named.get(name.name)
        if window is None:
            raise refused(name, "unknown_window", f"There is no window '{name.name}'.",
                          "Write WINDOW w AS (ORDER BY ts) behind FROM.")  # fmt: skip
        call.set("alias", None)
        for part in ("partition_by", "order", "spec"):
            given = window.args.get(part)
            if given is not None and call.args.get(part) is None:
                call.set(part, [one.copy() for one in given] if isinstance(given, list) else given.copy())
    tree.set("windows", None)


def _own_windows(node: exp.Expr) -> list[exp.Window]:
    return [one for one in node.walk(prune=lambda n: isinstance(n, exp.Query)) if isinstance(one, exp.Window)]


def _aggregates(tree: exp.Select) -> bool:
    """Whether an aggregate stands in the SELECT list or ORDER BY: one of its own, and not one before OVER."""
    order = tree.args.get("order")
    return any(_has_aggregate(node) for node in [*tree.expressions, *([] if order is None else order.expressions)])


def _has_aggregate(node: exp.Expr) -> bool:
    if isinstance(node, exp.Query):
        return False
    if isinstance(node, exp.Window):
        arguments = node.this.expressions if isinstance(node.this, exp.Anonymous) else []
        parts = [*arguments, *(node.args.get("partition_by") or []), node.args.get("order")]
        return any(part is not None and _has_aggregate(part) for part in parts)
    return is_aggregate(node) or any(_has_aggregate(child) for child in node.iter_expressions())


def _shown_type(expr: Expr) -> DataType:
    """The type of an output column: integers that were computed may need all of BIGINT."""
    if expr.type.kind is Kind.INTERVAL:
        return BIGINT
    if expr.type.is_integer and not isinstance(expr, ColumnRef | Cast | Literal):
        return BIGINT
    return expr.type


def _no_nested(fields: Sequence[Field], *, at: exp.Expr) -> None:
    for field in fields:
        if field.type.is_nested:
            raise refused(at, "type_mismatch", f"'{field.name}' is {field.type}: rows with it are not compared.",
                          "Leave it out, or write UNION ALL.")  # fmt: skip
