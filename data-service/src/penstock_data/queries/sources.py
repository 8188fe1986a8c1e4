"""FROM: stored relations, queries of WITH, queries in parentheses, and their joins."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import sqlalchemy as sa
from sqlalchemy.sql.selectable import FromClause
from sqlglot import exp

from penstock.errors import SqlErrors
from penstock.expressions.bind import Hook, bind
from penstock.expressions.coercion import Mismatch
from penstock.expressions.nodes import ColumnRef
from penstock.expressions.reserved import reserved_name
from penstock.stores.tables import PENDING, stored_name, table_of
from penstock_data.queries.conditions import condition
from penstock_data.queries.refusals import only, refused
from penstock_data.queries.scope import Field, Query, RowScope, Seen, Statement
from penstock_data.statements import COMPLETE, columns_of

__all__ = ["Source", "Sources", "name_of"]

_RAW = "raw"


@dataclass(frozen=True, slots=True)
class Source:
    """What FROM gives; `clause` None: one row without columns."""

    clause: FromClause | None
    scope: RowScope


class Sources:
    """Binds FROM of one SELECT; `ctes`: queries of WITH in reach; `query`: binds a query in parentheses."""

    def __init__(
        self, statement: Statement, ctes: Mapping[str, tuple[sa.CTE, Query]], query: Callable[[exp.Expr], Query]
    ) -> None:
        self._statement, self._ctes, self._query = statement, ctes, query

    def of(self, tree: exp.Select, hook_for: Callable[[RowScope], Hook]) -> Source:
        """Raises SqlErrors. `hook_for` gives the hook for ON, over what is there by then."""
        from_ = tree.args.get("from_")
        joins = tree.args.get("joins") or []
        if from_ is None:
            return Source(None, RowScope(()))
        clause, seen = self._input(from_.this)
        relations = [seen]
        for join in joins:
            clause, relations = self._joined(clause, relations, join, hook_for)
        return Source(clause, RowScope(relations))

    def _joined(
        self, left: FromClause, before: list[Seen], join: exp.Join, hook_for: Callable[[RowScope], Hook]
    ) -> tuple[FromClause, list[Seen]]:
        only(join, ("this", "side", "kind", "on", "using"), where="JOIN")
        side, kind = str(join.args.get("side") or "").upper(), str(join.args.get("kind") or "").upper()
        on, using = join.args.get("on"), join.args.get("using") or []
        if side == "FULL" or kind not in ("", "INNER", "CROSS", "OUTER"):
            raise refused(join.this, "unsupported", f"{side or kind} JOIN is not available in queries.",
                          "Write INNER, LEFT, RIGHT or CROSS JOIN.")  # fmt: skip
        right, seen = self._input(join.this)
        if any(one.alias == seen.alias for one in before):
            raise refused(join.this, "ambiguous_table", f"'{seen.alias}' stands twice in FROM.",
                          "Give one of them an alias: FROM t AS a JOIN t AS b ON ...")  # fmt: skip
        scope = RowScope([*before, seen])
        plain = kind == "CROSS" or (on is None and not using and not side and kind == "")
        if not plain and on is None and not using:
            raise refused(join.this, "syntax", "This JOIN has no condition.", "Write ON a.x = b.x, or CROSS JOIN.")
        if using:
            matched, before, seen = self._using(before, seen, using, side)
        elif on is not None:
            matched = condition(bind(on, scope, hook=hook_for(scope)), self._statement, at=on, where="ON")
        else:
            matched = sa.true()
        if side == "RIGHT":
            return right.outerjoin(left, matched), [*before, seen]
        return left.join(right, matched, isouter=side == "LEFT"), [*before, seen]

    def _using(
        self, before: list[Seen], seen: Seen, using: list[exp.Expr], side: str
    ) -> tuple[sa.ColumnElement[bool], list[Seen], Seen]:
        parts = []
        names = [name_of(one) for one in using]
        for node, name in zip(using, names, strict=True):
            sides: dict[str, ColumnRef] = {}
            try:
                sides["left"] = RowScope(before).resolve(name, None)
                sides["right"] = RowScope([seen]).resolve(name, None)
            except Mismatch as mismatch:
                raise refused(node, mismatch.code, mismatch.message, mismatch.remedy) from None
            pair = exp.EQ(this=exp.column("left"), expression=exp.column("right"))
            bound = bind(pair, RowScope(()), hook=_named(sides))
            parts.append(self._statement.written(bound))
        hidden = frozenset(names)
        if side == "RIGHT":
            before = [replace(one, hidden=one.hidden | hidden) for one in before]
        else:
            seen = replace(seen, hidden=hidden)
        return sa.and_(*parts), before, seen

    def _input(self, node: exp.Expr) -> tuple[FromClause, Seen]:
        if isinstance(node, exp.Subquery):
            only(node, ("this", "alias"), where="a query in parentheses")
            query = self._query(node.this)
            return self._query_input(query, query.select.subquery(self._statement.input(node)), node, "")
        if not isinstance(node, exp.Table) or not isinstance(node.this, exp.Identifier):
            raise refused(node, "unsupported", "FROM takes stored relations and queries.",
                          "Write FROM relation, or FROM (SELECT ...) AS name.")  # fmt: skip
        only(node, ("this", "alias", "db", "catalog"), where="FROM")
        name = node.this.name
        if node.args.get("db") or node.args.get("catalog"):
            self._refuse_qualified(node)
        if name in self._ctes and (reserved_name(node.this) is None):
            cte, query = self._ctes[name]
            return self._query_input(query, cte.alias(self._statement.input(node)), node, name)
        return self._relation(node, name)

    def _relation(self, node: exp.Table, name: str) -> tuple[FromClause, Seen]:
        if (finding := reserved_name(node.this)) is not None:
            raise SqlErrors([finding])
        spec = self._statement.relations.spec(name, node)
        self._statement.read[name] = spec
        table = table_of(spec).alias(self._statement.input(node))
        fields, refs = [], []
        own = {column.name for column in spec.columns}
        for column in columns_of(spec).values():
            known = column.name != COMPLETE or COMPLETE in own
            element = table.c[stored_name(column.name)] if known else sa.not_(table.c[PENDING])
            fields.append(Field(column.name, column.type))
            refs.append(self._statement.ref(column.type, element))
        return table, Seen(_alias(node, name), tuple(fields), tuple(refs))

    def _query_input(self, query: Query, clause: FromClause, node: exp.Expr, name: str) -> tuple[FromClause, Seen]:
        refs = [self._statement.ref(f.type, clause.c[f"c{i}"], texts=f.texts) for i, f in enumerate(query.fields)]
        return clause, Seen(_alias(node, name), query.fields, tuple(refs))

    def _refuse_qualified(self, node: exp.Table) -> None:
        name = ".".join(part.name for part in node.parts)
        if node.text("db") == _RAW and not node.text("catalog"):
            raise refused(node, "unsupported", f"{name}: raw events lie in the log, not in the store.",
                          f"GET /v1/data/{name} has them; or store what you need in the app.")  # fmt: skip
        raise refused(node, "unknown_relation", f"There is no '{name}': relations have no schema before their name.",
                      "GET /v1/data lists what there is.")  # fmt: skip


def name_of(node: exp.Expr | None) -> str:
    """A plain name. Raises SqlErrors."""
    if isinstance(node, exp.Column) and not node.args.get("table"):
        node = node.this
    if not isinstance(node, exp.Identifier):
        raise refused(node or exp.Null(), "syntax", "A name is expected here.", "Write a plain name.")
    if (finding := reserved_name(node)) is not None:
        raise SqlErrors([finding])
    return node.name


def _named(refs: Mapping[str, ColumnRef]) -> Hook:
    return lambda node: refs.get(node.name) if isinstance(node, exp.Column) else None


def _alias(node: exp.Expr, name: str) -> str:
    alias = node.args.get("alias")
    if alias is None:
        return name
    only(alias, ("this",), where="an alias")
    return name_of(alias.this)
