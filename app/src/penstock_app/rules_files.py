"""Files of rules: JSON or YAML (which JSON is, too), one rule, a list of them, or an object with `rules`. Pure."""

from __future__ import annotations

from typing import Any

import yaml

from penstock.errors import PenstockError

__all__ = ["read_rules"]


def read_rules(text: str, file: str) -> list[dict[str, Any]]:
    """The rules of a file's text, unchecked but for their form; `bad_request` names the file and the place."""
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{file}:{mark.line + 1}:{mark.column + 1}" if mark is not None else file
        raise PenstockError("bad_request", f"{place}: {getattr(error, 'problem', None) or error}") from None
    rules = value.get("rules", [value]) if isinstance(value, dict) else value
    if not isinstance(rules, list) or not rules or not all(isinstance(rule, dict) for rule in rules):
        raise PenstockError(
            "bad_request", f"{file}: expected a rule with name, source, predicate and target, or a list of such"
        )
    return rules
