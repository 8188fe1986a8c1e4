"""Rules as their users write them, and the rules of one source as the text that the log's catalog keeps."""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import StrEnum

import msgspec

from penstock.errors import PenstockError

__all__ = ["RULES_APP_PREFIX", "KeptRule", "Rule", "RuleSet", "Severity", "is_rules_app", "read_rule", "rules_app"]

#: The rules of one source are one app of the log with this before the source's name. No user's app has a '.'.
RULES_APP_PREFIX = "rules."

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
_TARGET = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,62}")  # as of any stream: it names tables of databases


class Severity(StrEnum):
    """How much a hit matters to people."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A filter and a shape over `source`: rows for which `predicate` is true go to the stream `target`.

    `columns` is a select list; `*` stands for the columns that the source has when the rule is put.
    """

    name: str
    source: str
    predicate: str
    target: str
    columns: str = "*"
    severity: Severity = Severity.WARNING
    enabled: bool = True


class KeptRule(msgspec.Struct, frozen=True):
    """A rule in force. `version` counts its changes from 1 (the ETag); `id` is its own as long as its source has
    rules, so that one that is removed and put again begins to count anew.
    """

    rule: Rule
    id: int
    version: int
    changed_at_ms: int


class RuleSet(msgspec.Struct, frozen=True):
    """All rules of one source, by name: the text of its app in the catalog."""

    source: str
    rules: tuple[KeptRule, ...] = ()
    next_id: int = 1

    @classmethod
    def read(cls, text: str) -> RuleSet:
        """From the text in the catalog; `conflict` if a later version wrote it, with fields that this one lacks."""
        try:
            return _DECODER.decode(text)
        except msgspec.ValidationError as error:
            raise PenstockError(
                "conflict", f"the rules in the log were put by another version of Penstock ({error}); run that one"
            ) from None

    @property
    def text(self) -> str:
        """The text in the catalog."""
        return msgspec.json.encode(self).decode()

    def by_name(self) -> dict[str, KeptRule]:
        """The rules under their names."""
        return {kept.rule.name: kept for kept in self.rules}

    def put(self, rules: Sequence[Rule], *, now_ms: int) -> RuleSet:
        """With these rules, in place of those of the same names; one that stays the same keeps its version."""
        found, next_id = self.by_name(), self.next_id
        for rule in rules:
            old = found.get(rule.name)
            if old is None:
                found[rule.name] = KeptRule(rule, next_id, 1, now_ms)
                next_id += 1
            elif old.rule != rule:
                found[rule.name] = KeptRule(rule, old.id, old.version + 1, now_ms)
        return RuleSet(self.source, tuple(found[name] for name in sorted(found)), next_id)

    def without(self, name: str) -> RuleSet:
        """Without this rule."""
        return RuleSet(self.source, tuple(kept for kept in self.rules if kept.rule.name != name), self.next_id)


_DECODER = msgspec.json.Decoder(RuleSet)


def rules_app(source: str) -> str:
    """Name of the app that runs the rules of a source."""
    return RULES_APP_PREFIX + source


def is_rules_app(app: str) -> bool:
    """Whether an app of the catalog holds rules, and is not for users of `/v1/apps`."""
    return app.startswith(RULES_APP_PREFIX)


def read_rule(name: str | None, value: object) -> Rule:
    """A rule from decoded JSON; `name` is that of the URL, which the body may repeat. `bad_request` otherwise."""
    if not isinstance(value, dict):
        raise PenstockError("bad_request", 'a rule is an object: {"source", "predicate", "target", ...}')
    if name is not None:
        if value.get("name", name) != name:
            raise PenstockError(
                "bad_request", f"the URL says rule '{name}', the body '{str(value['name'])[:80]}'; leave one out"
            )
        value = {**value, "name": name}
    try:
        rule = msgspec.convert(value, Rule)
    except msgspec.ValidationError as error:
        raise PenstockError("bad_request", f"{_shown(value.get('name'))}: {error}") from None
    if not _NAME.fullmatch(rule.name):
        raise PenstockError(
            "bad_request", f"{_shown(rule.name)}: a name is a letter, then up to 63 letters, digits, '_' or '-'"
        )
    if not _TARGET.fullmatch(rule.target):
        raise PenstockError(
            "bad_request",
            f"{_shown(rule.name)}: the target '{rule.target[:50]}' is no name of a stream: a letter, then up to "
            "62 letters, digits or '_'",
        )
    return rule


def _shown(name: object) -> str:
    return f"rule '{str(name)[:80]}'" if isinstance(name, str) else "a rule without a name"
