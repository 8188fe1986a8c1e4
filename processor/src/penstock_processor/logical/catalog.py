"""Names of an app: tables and views, bound when first asked for, so that the order of the text does not matter."""

from __future__ import annotations

from penstock.expressions.nodes import Span
from penstock.model.stream import Relation
from penstock_processor.logical.bind_lookup import bind_lookup_table, is_looked_up
from penstock_processor.logical.bind_query import QueryBinder
from penstock_processor.logical.bind_table import TableContext, bind_table, check_relation_name, fields_of
from penstock_processor.logical.plan import Node, Scan, SourcePlan
from penstock_processor.logical.plan_lookup import LookupTable
from penstock_processor.logical.select_list import renamed
from penstock_processor.sql.findings import Findings, closest, refusal
from penstock_processor.sql.limits import SqlLimits
from penstock_processor.sql.statements import CreateTable, CreateView, Insert, Script, Word

__all__ = ["Catalog", "Unusable"]


class Unusable(Exception):
    """What was asked for has findings of its own; whoever asked has nothing to add."""


class Catalog:
    """Tables and views of one app."""

    def __init__(
        self,
        script: Script,
        *,
        app: str,
        idle_timeout_ms: int | None,
        parallelism: int,
        state_ttl_ms: int | None,
        findings: Findings,
        limits: SqlLimits,
    ) -> None:
        self._declared: dict[str, CreateTable | CreateView] = {}
        self._app = app
        self._idle_timeout_ms = idle_timeout_ms
        self._parallelism = parallelism
        self._findings = findings
        self._limits = limits
        self._binder = QueryBinder(self, limits, state_ttl_ms=state_ttl_ms)
        self._sources: dict[str, SourcePlan | None] = {}
        self._queries: dict[str, Node | None] = {}
        self._lookups: dict[str, LookupTable | None] = {}
        self._asked: list[str] = []  # being bound now, outermost first
        self._written = {s.target.text for s in script.statements if isinstance(s, Insert)}
        self._declare(script)

    @property
    def binder(self) -> QueryBinder:
        """Binds queries against this catalog."""
        return self._binder

    @property
    def sources(self) -> dict[str, SourcePlan]:
        """The tables that are bound by now."""
        return {name: source for name, source in self._sources.items() if source is not None}

    def relation(self, name: Word) -> Node:
        """A Scan, or the plan of a view. Raises SqlErrors (unknown_table, cycle) or Unusable."""
        declared = self._declared.get(name.text)
        if declared is None:
            raise self._unknown(name)
        if isinstance(declared, CreateView):
            return self.query_of(declared, asked_at=name.span)
        if is_looked_up(declared, written=name.text in self._written):
            raise refusal(
                name.span,
                "not_a_stream",
                message=f"'{name.text}' is looked up by key, it has no rows of its own.",
                remedy=f"Write FROM o JOIN {name.text} FOR SYSTEM_TIME AS OF o.proc_time AS t ON o.key = t.key, "
                "where o has a column proc_time AS PROCTIME().",
            )
        source = self.source(name)
        unwritten = source.spec.relation is Relation.SOURCE
        return Scan(fields_of(source), name.text, source.version_key, source.proctime, unwritten)

    def lookup(self, name: Word) -> LookupTable | None:
        """A table that is looked up; None if it is something else. Raises Unusable."""
        declared = self._declared.get(name.text)
        if not isinstance(declared, CreateTable) or not is_looked_up(declared, written=name.text in self._written):
            return None
        if name.text not in self._lookups:
            self._lookups[name.text] = bind_lookup_table(declared, self._findings)
        found = self._lookups[name.text]
        if found is None:
            raise Unusable
        return found

    def source(self, name: Word) -> SourcePlan:
        """A declared table. Raises SqlErrors (unknown_table, not_a_table, cycle) or Unusable."""
        table = self._declared.get(name.text)
        if table is None:
            raise self._unknown(name)
        if isinstance(table, CreateView):
            raise refusal(
                name.span,
                "not_a_table",
                message=f"'{name.text}' is a view, nothing can be written to it.",
                remedy="Insert into a table.",
            )
        if name.text not in self._sources:
            self._sources[name.text] = None
            query = None if table.query is None else self.query_of(table, asked_at=name.span)
            context = TableContext(
                self._app,
                table.query is not None or name.text in self._written,
                self._idle_timeout_ms,
                self._limits,
                self._parallelism,
            )
            self._sources[name.text] = bind_table(table, context, query=query, findings=self._findings)
        found = self._sources[name.text]
        if found is None:
            self._refuse_cycle(name.text, name.span)
            raise Unusable
        return found

    def query_of(self, declared: CreateTable | CreateView, *, asked_at: Span) -> Node:
        """The plan behind AS. Raises SqlErrors (cycle, too_large, what is wrong in the query, once) or Unusable."""
        name = declared.name.text
        self._refuse_cycle(name, asked_at)
        if name not in self._queries:
            if len(self._asked) >= self._limits.depth_max:
                raise refusal(
                    asked_at,
                    "too_large",
                    message="Views refer to views too many times.",
                    remedy="Store a part with CREATE TABLE name WITH (...) AS SELECT.",
                )
            self._queries[name] = None
            self._asked.append(name)
            try:
                assert declared.query is not None
                node = self._binder.query(declared.query)
                columns = declared.columns if isinstance(declared, CreateView) else ()
                self._queries[name] = renamed(node, columns, at=declared.name.span)
            finally:
                self._asked.pop()
        found = self._queries[name]
        if found is None:
            raise Unusable
        return found

    def _refuse_cycle(self, name: str, at: Span) -> None:
        if name in self._asked:
            loop = [*self._asked[self._asked.index(name) :], name]
            raise refusal(
                at,
                "cycle",
                message=f"'{name}' depends on itself: {' <- '.join(reversed(loop))}.",
                remedy="Break the circle: let one of them read a source.",
            )

    def _declare(self, script: Script) -> None:
        lower: dict[str, str] = {}
        for statement in script.statements:
            if not isinstance(statement, CreateTable | CreateView):
                continue
            name = statement.name
            check_relation_name(name, self._findings)
            other = lower.get(name.text.lower())
            if other is not None:
                self._findings.add(
                    name.span,
                    "name_taken",
                    message=f"'{other}' is already declared.",
                    remedy="Use another name; databases do not tell upper from lower case.",
                )
            else:
                lower[name.text.lower()] = name.text
                self._declared[name.text] = statement

    def _unknown(self, name: Word) -> Exception:
        return refusal(
            name.span,
            "unknown_table",
            message=f"There is no table or view '{name.text}'.",
            remedy=closest(
                name.text,
                self._declared,
                otherwise=f"Declare it: CREATE TABLE {name.text} (...) WITH ('connector' = 'penstock').",
            ),
        )
