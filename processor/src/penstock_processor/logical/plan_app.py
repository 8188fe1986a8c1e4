"""From the text of an app to its plan: parse, bind, rewrite, check. Pure; all stages add to one list of findings."""

from __future__ import annotations

from contextlib import suppress

from penstock.errors import SqlError, SqlErrors
from penstock.expressions.nodes import Span
from penstock_processor.logical.bind_insert import into_target
from penstock_processor.logical.bind_lookup import refuse_proctime
from penstock_processor.logical.bind_over import numbered
from penstock_processor.logical.bind_rank import refuse_unlimited
from penstock_processor.logical.catalog import Catalog, Unusable
from penstock_processor.logical.check import check_app as check_plan
from penstock_processor.logical.check import check_updates, early, late
from penstock_processor.logical.identity import identity_of
from penstock_processor.logical.own_functions import NO_FUNCTIONS, FunctionSource, attach_functions
from penstock_processor.logical.plan import AppPlan, Node, SourcePlan, Statement
from penstock_processor.logical.rank_limits import limit_ranks
from penstock_processor.logical.rules.apply import apply_rules
from penstock_processor.logical.settings import idle_timeout_ms, parallelism, read_settings, state_ttl_ms
from penstock_processor.logical.stages import stages_of
from penstock_processor.sql.findings import Findings
from penstock_processor.sql.limits import DEFAULT_LIMITS, SqlLimits
from penstock_processor.sql.parse import parse_script
from penstock_processor.sql.statements import CreateTable, CreateView, Insert, Script, Word

__all__ = ["check_app", "plan_app"]


def plan_app(
    name: str, sql: str, *, limits: SqlLimits = DEFAULT_LIMITS, functions: FunctionSource = NO_FUNCTIONS
) -> AppPlan:
    """The plan of app `name`. Raises SqlErrors with every finding, in text order."""
    script = parse_script(sql, limits)
    findings = Findings()
    attach_functions(script, functions, findings)
    settings = read_settings(script, findings)
    catalog = Catalog(
        script,
        app=name,
        idle_timeout_ms=idle_timeout_ms(settings),
        parallelism=parallelism(settings),
        state_ttl_ms=state_ttl_ms(settings),
        findings=findings,
        limits=limits,
    )
    sources = _declared(script, catalog, findings)
    statements = _statements(script, catalog, findings)
    if not findings:
        check_plan(statements, sources, findings)
    if not script.statements:
        findings.add(
            Span(1, 1),
            "empty",
            message="The app has no statements.",
            remedy="Write CREATE TABLE ... and INSERT INTO ... SELECT, or start from `penstock init`.",
        )
    if findings:
        raise SqlErrors(findings.sorted())
    plan = AppPlan(name, sql, sources, statements, settings, parallelism(settings))
    stages_of(plan)  # what cannot be shared is refused here
    return plan


def check_app(
    name: str, sql: str, *, limits: SqlLimits = DEFAULT_LIMITS, functions: FunctionSource = NO_FUNCTIONS
) -> list[SqlError]:
    """What is wrong with the app, in text order; empty if it can run."""
    try:
        plan_app(name, sql, limits=limits, functions=functions)
    except SqlErrors as refused:
        return list(refused.errors)
    return []


def _declared(script: Script, catalog: Catalog, findings: Findings) -> dict[str, SourcePlan]:
    """Every table in text order; views are bound as well, so that an unused one is checked too."""
    sources: dict[str, SourcePlan] = {}
    for statement in script.statements:
        try:
            with findings.collecting():
                if isinstance(statement, CreateTable) and catalog.lookup(statement.name) is not None:
                    continue
                if isinstance(statement, CreateTable):
                    sources[statement.name.text] = catalog.source(statement.name)
                elif isinstance(statement, CreateView):
                    catalog.query_of(statement, asked_at=statement.name.span)
        except Unusable:
            continue
    return sources


def _statements(script: Script, catalog: Catalog, findings: Findings) -> tuple[Statement, ...]:
    found: list[Statement] = []
    for written in script.statements:
        if not isinstance(written, CreateTable | Insert) or written.query is None:
            continue
        target = written.name if isinstance(written, CreateTable) else written.target
        try:
            with findings.collecting():
                plan = _plan(written, catalog, findings)
                if plan is not None:
                    source = catalog.source(target)
                    number = 1 + sum(s.target == target.text for s in found)
                    name = target.text if number == 1 else f"{target.text}#{number}"
                    identity = identity_of(plan, target=target.text, sources=catalog.sources)
                    found.append(Statement(name, source.spec.name, plan, written.text, identity, written.span))
        except Unusable:
            continue
    return tuple(found)


def _plan(written: CreateTable | Insert, catalog: Catalog, findings: Findings) -> Node | None:
    """The plan of one writing statement; None if it is wrong (noted)."""
    source: SourcePlan | None = None
    if isinstance(written, CreateTable):
        at, columns = written.name.span, tuple[Word, ...]()
        source = catalog.source(written.name)
        query = catalog.query_of(written, asked_at=at)
    else:
        at, columns = written.target.span, written.columns
        with suppress(Unusable), findings.collecting():  # a wrong target does not hide what is wrong with the query
            source = catalog.source(written.target)
        query = catalog.binder.query(written.query)
    if source is None:
        return None
    plan = into_target(query, source.spec, columns=columns, at=at, findings=findings)
    if plan is None:
        return None
    plan = numbered(limit_ranks(plan, ttl_ms=catalog.binder.state_ttl_ms))
    refuse_unlimited(plan)
    plan = apply_rules(plan)
    refuse_proctime(plan, at=at)
    check_updates(plan, source, at=at)
    if source.lateness_ms:
        plan = late(plan, source, at=at)
    return early(plan, source, at=at) if source.spec.emit == "early" else plan
