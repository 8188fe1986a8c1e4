"""Expected rejections against the events that were rejected. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from penstock.model.batch import RejectedEvent
from penstock_app.cases.compare import matched
from penstock_app.cases.model import RejectedPattern

__all__ = ["compare_rejected"]


def compare_rejected(
    patterns: Sequence[RejectedPattern], got: Sequence[RejectedEvent]
) -> tuple[list[RejectedPattern], list[RejectedEvent]]:
    """Patterns that no event fits, and events that no pattern names; each of them counts once."""
    partners = matched([[n for n, event in enumerate(got) if _fits(pattern, event)] for pattern in patterns])
    taken = set(partners)
    missing = [pattern for pattern, partner in zip(patterns, partners, strict=True) if partner is None]
    return missing, [event for number, event in enumerate(got) if number not in taken]


def _fits(pattern: RejectedPattern, event: RejectedEvent) -> bool:
    facts = {"stream": event.stream, "code": event.code, "statement": event.statement or ""}
    for name, wanted in pattern.where.items():
        # The reason quotes the column that it is about.
        if name == "field" and f"'{wanted.value}'" not in event.detail:
            return False
        if name != "field" and facts[name] != wanted.value:
            return False
    return not pattern.event or _has(event.raw, pattern)


def _has(raw: bytes, pattern: RejectedPattern) -> bool:
    """Whether the event, as it was received, has these values."""
    try:
        found = msgspec.json.decode(raw, type=dict[str, object])
        return all(
            cell.name in found and found[cell.name] == msgspec.json.decode(cell.json) for cell in pattern.event
        )
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False
