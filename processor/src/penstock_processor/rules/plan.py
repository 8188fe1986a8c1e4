"""The rules of one source as an app's plan: a statement a rule, so that whoever runs apps runs rules."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from penstock.errors import PenstockError
from penstock.expressions.nodes import ColumnRef, Span
from penstock.model.stream import Column, Relation, StreamSpec
from penstock.ports.log import Catalog
from penstock_processor.logical.plan import AppPlan, SourcePlan, Statement
from penstock_processor.rules.bind import BoundRule
from penstock_processor.rules.model import KeptRule, Rule, RuleSet, is_rules_app, rules_app

__all__ = ["BindRule", "RulesPlan", "followed", "plan_rules", "source_of", "target_specs"]

#: `rules.bind.bind_rule`, or one that remembers.
BindRule = Callable[[Rule, tuple[Column, ...]], BoundRule]


@dataclass(frozen=True, slots=True)
class RulesPlan(AppPlan):
    """The plan of `rules_app(source)`. `kept`: all rules; `active`: those that are switched on, in order of names."""

    source: str = ""
    kept: tuple[KeptRule, ...] = ()
    active: tuple[BoundRule, ...] = ()


def followed(plan: AppPlan) -> str | None:
    """The relation of another app that the plan reads from the log; from its end on, where it has no position yet."""
    return plan.source if isinstance(plan, RulesPlan) else None


def plan_rules(rules: RuleSet, catalog: Catalog, bind: BindRule, *, text: str | None = None) -> RulesPlan:
    """The plan over the source as the catalog has it. `text`: of the rules, as it is in the catalog.

    SqlErrors (a rule that does not fit the source), `unknown_stream`, `bad_request` (a source that is not for rules),
    `conflict` (rules of one target with other columns).
    """
    source = source_of(rules.source, catalog)
    bound = [bind(kept.rule, source.columns) for kept in rules.rules]
    sources = {source.name: SourcePlan(source)}
    for target in _targets(source, bound):
        sources[target.name] = SourcePlan(target)
    active = tuple(each for each in bound if each.rule.enabled)
    statements = tuple(
        Statement(
            name=each.rule.name,
            target=each.rule.target,
            plan=each.node(source),
            text=each.rule.predicate,
            identity=each.rule.name,
            span=Span(1, 1),
        )
        for each in active
    )
    name = rules_app(source.name)
    return RulesPlan(
        name, text or rules.text, sources, statements, {}, source=source.name, kept=rules.rules, active=active
    )


def source_of(name: str, catalog: Catalog) -> StreamSpec:
    """The stream or table that rules read; `unknown_stream`, or `bad_request` for what they cannot read."""
    spec = catalog.streams.get(name)
    if spec is None or spec.internal:
        raise PenstockError("unknown_stream", f"there is no stream '{name[:80]}'; deploy an app that declares it")
    if is_rules_app(spec.app):
        raise PenstockError(
            "bad_request", f"'{name}' is written by rules; a rule reads a stream or table that an app declares"
        )
    return spec


def target_specs(plan: RulesPlan) -> list[StreamSpec]:
    """The streams that the rules write."""
    return [source.spec for name, source in plan.sources.items() if name != plan.source]


def _targets(source: StreamSpec, bound: Sequence[BoundRule]) -> list[StreamSpec]:
    by_target: dict[str, list[BoundRule]] = {}
    for each in bound:
        by_target.setdefault(each.rule.target, []).append(each)
    return [_target(source, name, rules) for name, rules in by_target.items()]


def _target(source: StreamSpec, name: str, rules: Sequence[BoundRule]) -> StreamSpec:
    first = rules[0]
    for other in rules[1:]:
        if other.columns != first.columns:
            raise PenstockError(
                "conflict",
                f"rules '{first.rule.name}' and '{other.rule.name}' write '{name}' with other columns: "
                f"({_shown(first)}) and ({_shown(other)}); give them equal names and types, or another target",
                extra={"rule": other.rule.name},
            )
    if name == source.name:
        raise PenstockError(
            "conflict", f"rule '{first.rule.name}' writes the stream that it reads; name another target"
        )
    return StreamSpec(
        name=name,
        app=rules_app(source.name),
        relation=Relation.STREAM,
        columns=first.columns,
        time_column=_time_column(source, rules),
        key=("rule",),
        publish=True,
        store=True,
        scope=f"{name}:read",
    )


def _time_column(source: StreamSpec, rules: Sequence[BoundRule]) -> str | None:
    """The column in which all of the rules hand on the source's event time."""
    found = None
    for rule in rules:
        names = [
            each.name
            for each in rule.outputs
            if isinstance(each.expr, ColumnRef) and each.expr.name == source.time_column
        ]
        if not names or found not in (None, names[0]):
            return None
        found = names[0]
    return found


def _shown(rule: BoundRule) -> str:
    return ", ".join(f"{column.name} {column.type}" for column in rule.columns[2:])
