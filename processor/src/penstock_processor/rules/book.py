"""All rules: read, put, removed. What changes is decided by `model` and `plan`; the log's catalog keeps it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import structlog
from msgspec import structs

from penstock.errors import Fenced, PenstockError
from penstock.model.stream import StreamSpec
from penstock.ports.log import AppRecord, Catalog, Consumed, Transaction
from penstock.role import Ports
from penstock_processor.operators.interface import RuleHits
from penstock_processor.replica import Replica
from penstock_processor.rules.bind import RuleBinder, spelled_out
from penstock_processor.rules.engine import RulesEngine
from penstock_processor.rules.model import KeptRule, Rule, RuleSet, is_rules_app, rules_app
from penstock_processor.rules.plan import RulesPlan, plan_rules, source_of, target_specs
from penstock_processor.rules.settings import RulesSettings
from penstock_processor.runtime.app_runner import AppState

__all__ = ["RuleBook", "ShownRule"]

_ATTEMPTS = 5
_log = structlog.get_logger("penstock.processor")


@dataclass(frozen=True, slots=True)
class ShownRule:
    """A rule and how it is doing. `hits` None: its app does not run in this process, or is not restored yet."""

    kept: KeptRule
    hits: RuleHits | None
    state: AppState
    detail: str


class RuleBook:
    """The rules of every source. Changes are made one at a time, with the replica's `changing` held."""

    def __init__(self, settings: RulesSettings, ports: Ports, replica: Replica) -> None:
        self.settings = settings
        self._ports = ports
        self._replica = replica
        self.bind = RuleBinder(settings)
        self._read: dict[str, tuple[str, RuleSet]] = {}  # by app: its text, and what it says

    def plan_of(self, record: AppRecord, catalog: Catalog) -> RulesPlan:
        """The plan of an app of the catalog that holds rules. Errors as `plan_rules`."""
        return plan_rules(self._set_of(record), catalog, self.bind, text=record.sql)

    async def rules(self, source: str | None = None) -> list[ShownRule]:
        """All rules, or those of one source, by name."""
        found: list[ShownRule] = []
        for rules in self._sets(await self._ports.log.catalog()).values():
            if source in (None, rules.source):
                found += [self._shown(kept) for kept in rules.rules]
        return sorted(found, key=lambda shown: shown.kept.rule.name)

    async def rule(self, name: str) -> ShownRule:
        """One rule; `not_found` if there is none."""
        return self._shown(_found(self._sets(await self._ports.log.catalog()), name))

    async def spelled_out(self, rule: Rule) -> Rule:
        """The rule with the columns of its source for `*`; `unknown_stream`."""
        return spelled_out(rule, source_of(rule.source, await self._ports.log.catalog()))

    async def put(self, rules: Sequence[Rule], expected_version: int | None = None) -> list[ShownRule]:
        """Add or replace rules: all of one source together, and none of any if one of them is wrong.

        The first ones of a source work from the log's end on, others from the event on that the rules of the source
        have come to. `expected_version` (of a single rule) 0: must not exist; None: not checked. SqlErrors,
        `bad_request`, `unknown_stream`, `conflict`, `precondition_failed`.
        """
        if not 1 <= len(rules) <= self.settings.put_max:
            raise PenstockError("bad_request", f"put 1 to {self.settings.put_max} rules at once")
        if len({rule.name for rule in rules}) < len(rules):
            raise PenstockError("bad_request", "a rule can be put once in a request")
        await self._unless_outrun(lambda: self._put(rules, expected_version))
        sets = self._sets(await self._ports.log.catalog())
        return [self._shown(_found(sets, rule.name)) for rule in rules]

    async def remove(self, name: str, expected_version: int | None = None) -> None:
        """Remove a rule, and its target with all events if no other rule writes it. `not_found` if there is none."""
        await self._unless_outrun(lambda: self._remove(name, expected_version))
        _log.info("rule_removed", rule=name)

    async def readers_after(self, app: str, specs: Sequence[StreamSpec], catalog: Catalog) -> list[str]:
        """Apps of rules over streams of `app` that will read another stream once it has `specs` instead.

        `conflict` if rules read a stream that will be gone, or do not fit what it will be.
        """
        after = {spec.name: spec for spec in specs}
        found = []
        for name, rules in self._sets(catalog).items():
            before = catalog.streams.get(rules.source)
            if before is None or before.app != app or after.get(rules.source) == before:
                continue
            if rules.source not in after:
                raise PenstockError(
                    "conflict",
                    f"{_names(rules)} of app '{app}' read '{rules.source}', which would be gone; delete them first",
                )
            await asyncio.to_thread(self._check_fits, rules, before, after[rules.source], catalog)
            found.append(name)
        return found

    def _check_fits(self, rules: RuleSet, before: StreamSpec, after: StreamSpec, catalog: Catalog) -> None:
        def targets(spec: StreamSpec) -> dict[str, object]:
            made = plan_rules(rules, replace(catalog, streams={**catalog.streams, spec.name: spec}), self.bind)
            return {target.name: target.columns for target in target_specs(made)}

        try:
            fits = targets(after) == targets(before)
            why = "the columns that they write would have other types"
        except PenstockError as error:
            fits, why = False, error.detail
        if not fits:
            raise PenstockError(
                "conflict",
                f"{_names(rules)} over '{rules.source}' would not fit the new text ({why}); change them first",
            )

    async def _unless_outrun(self, change: Callable[[], Awaitable[None]]) -> None:
        """Make the change, again if another replica changed rules of the same source meanwhile."""
        for _ in range(_ATTEMPTS):
            try:
                async with self._replica.changing:
                    return await change()
            except _OutrunError:
                continue
        raise PenstockError("conflict", "others keep changing these rules; try again", retry_after_s=1.0)

    async def _put(self, rules: Sequence[Rule], expected_version: int | None) -> None:
        catalog = await self._ports.log.catalog()
        sets = self._sets(catalog)
        kept = {name: (one.source, k) for one in sets.values() for name, k in one.by_name().items()}
        by_source: dict[str, list[Rule]] = {}
        for rule in rules:
            source, old = kept.get(rule.name, (rule.source, None))
            _check_version(rule.name, old, expected_version)
            if source != rule.source:
                raise PenstockError(
                    "conflict",
                    f"rule '{rule.name}' reads '{source}'; delete it before it reads '{rule.source}'",
                )
            by_source.setdefault(source, []).append(spelled_out(rule, source_of(source, catalog)))
        if len(kept.keys() | {rule.name for rule in rules}) > self.settings.rules_max:
            raise PenstockError("conflict", f"there may be {self.settings.rules_max} rules; delete some first")
        plans: list[tuple[RulesPlan, RuleSet]] = []
        for source, new in by_source.items():
            before = sets.get(rules_app(source), RuleSet(source))
            after = before.put(new, now_ms=self._ports.clock.now_ms())
            if after != before:
                await asyncio.to_thread(self._check_runs, source, new, catalog)
                plans.append((await asyncio.to_thread(self._planned, after, catalog), before))
        _check_targets([plan for plan, _ in plans], catalog)
        for plan, before in plans:
            await self._install(plan, before, catalog)

    def _check_runs(self, source: str, rules: Sequence[Rule], catalog: Catalog) -> None:
        """What cannot be compiled is refused here, while the rules in force run on."""
        tried = [structs.replace(rule, enabled=True) for rule in rules]
        RulesEngine(plan_rules(RuleSet(source).put(tried, now_ms=0), catalog, self.bind), durable=False)

    def _planned(self, rules: RuleSet, catalog: Catalog) -> RulesPlan:
        plan = plan_rules(rules, catalog, self.bind)
        targets = target_specs(plan)
        if len(targets) > self.settings.targets_max:
            raise PenstockError(
                "conflict",
                f"the rules of '{rules.source}' would write {len(targets)} streams and may write "
                f"{self.settings.targets_max}; let several share a target (each row says which rule it is of)",
            )
        return plan

    async def _install(self, plan: RulesPlan, before: RuleSet, catalog: Catalog) -> None:
        old = catalog.apps.get(plan.name)

        async def begin() -> None:
            if old is None:
                await self._begin_at_end(plan)

        with _noting_outrun():
            await self._replica.install(
                plan,
                target_specs(plan),
                tasks=[] if old is None else [plan.name],
                expected_version=0 if old is None else old.version,
                begin=begin,
            )
        running = self._replica.apps.get(plan.name)
        if running is not None and running.statistics.rule_hits is not None:
            for kept in set(plan.kept) - set(before.rules):  # a new rule of an old name begins at none
                if kept.version == 1:
                    running.statistics.rule_hits.pop(kept.rule.name, None)
        _log.info("rules_changed", source=plan.source, rules=len(plan.kept), active=len(plan.active))

    async def _begin_at_end(self, plan: RulesPlan) -> None:
        """The source's end as the position: from here on events count, whatever happens before the first cycle."""
        log = self._ports.log
        spec = plan.sources[plan.source].spec
        ends = [(n, (await log.head(spec.name, n)).next) for n in range(spec.partitions)]
        restored = await log.acquire(plan.name)
        consumed = [Consumed(spec.name, n, None, end) for n, end in ends if (spec.name, n) not in restored.positions]
        try:
            await log.commit(Transaction(plan.name, restored.term, consumed=consumed))
        except Fenced:  # another replica runs it already, and began at the end as well
            _log.info("rules_begun_elsewhere", source=plan.source)

    async def _remove(self, name: str, expected_version: int | None) -> None:
        catalog = await self._ports.log.catalog()
        sets = self._sets(catalog)
        kept = _found(sets, name)
        _check_version(name, kept, expected_version)
        app = rules_app(kept.rule.source)
        before = sets[app]
        after = before.without(name)
        if not after.rules:
            with _noting_outrun():
                await self._replica.uninstall(app, catalog.apps[app].version)
            return
        await self._install(await asyncio.to_thread(self._planned, after, catalog), before, catalog)

    def _sets(self, catalog: Catalog) -> dict[str, RuleSet]:
        return {name: self._set_of(record) for name, record in catalog.apps.items() if is_rules_app(name)}

    def _set_of(self, record: AppRecord) -> RuleSet:
        text, rules = self._read.get(record.name, ("", None))
        if rules is None or text != record.sql:
            rules = RuleSet.read(record.sql)
            self._read[record.name] = record.sql, rules
        return rules

    def _shown(self, kept: KeptRule) -> ShownRule:
        running = self._replica.apps.get(rules_app(kept.rule.source))
        if running is None:
            return ShownRule(kept, None, AppState.STOPPED, "not running in this process")
        counts: Mapping[str, RuleHits] | None = running.statistics.rule_hits
        hits = None if counts is None or running.count == 0 else counts.get(kept.rule.name, RuleHits(0, None))
        return ShownRule(kept, hits, running.state, running.detail)


class _OutrunError(Exception):
    """The rules of the source are not those that the change was decided on."""


@contextmanager
def _noting_outrun() -> Iterator[None]:
    try:
        yield
    except PenstockError as error:
        if error.code in ("precondition_failed", "unknown_app"):
            raise _OutrunError from error
        raise


def _found(sets: Mapping[str, RuleSet], name: str) -> KeptRule:
    for rules in sets.values():
        kept = rules.by_name().get(name)
        if kept is not None:
            return kept
    raise PenstockError("not_found", f"there is no rule '{name[:80]}'; PUT /v1/rules/{name[:80]} makes one")


def _check_version(name: str, old: KeptRule | None, expected: int | None) -> None:
    version = 0 if old is None else old.version
    if expected is not None and expected != version:
        now = f"is at version {version}" if old else "does not exist"
        raise PenstockError(
            "precondition_failed", f"rule '{name}' {now}, not at {expected}; read it again and repeat the change"
        )


def _check_targets(plans: Sequence[RulesPlan], catalog: Catalog) -> None:
    """`name_taken` for a stream of others, before the rules of any source are in force."""
    owners = {name: spec.app for name, spec in catalog.streams.items()}
    for plan in plans:
        for target in target_specs(plan):
            owner = owners.setdefault(target.name, plan.name)
            if owner != plan.name:
                raise PenstockError(
                    "name_taken",
                    f"the target '{target.name}' of rules over '{plan.source}' belongs to app '{owner}'; rename it: "
                    "rules share a target with rules of the same source only",
                )


def _names(rules: RuleSet) -> str:
    names = [f"'{kept.rule.name}'" for kept in rules.rules]
    more = "" if len(names) <= 5 else f" and {len(names) - 5} more"
    return f"rule{'s' if len(names) > 1 else ''} {', '.join(names[:5])}{more}"
