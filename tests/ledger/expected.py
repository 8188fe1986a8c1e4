"""What the app's tables must say of a set of events: Decimal and Fraction, and nothing of the product. Pure."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from decimal import Decimal
from fractions import Fraction
from typing import Any

from ledger.events import Event, window_of

__all__ = ["TABLE_KEYS", "branches", "differing", "hourly", "latest"]

Key = tuple[Any, ...]
Row = Mapping[str, Any]
RELATIVE = 1e-12
TABLE_KEYS = {
    "latest": ("account",),
    "hourly": ("account", "window_start"),
    "branches": ("branch", "window_start"),
}


def latest(events: Iterable[Event]) -> dict[Key, Row]:
    """The last event of each account."""
    last: dict[str, Event] = {}
    for event in events:
        if event.account not in last or event.seq > last[event.account].seq:
            last[event.account] = event
    return {
        (account,): {
            "id": event.id,
            "seq": event.seq,
            "amount": Decimal(event.amount),
            "digest": event.digest,
        }
        for account, event in last.items()
    }


def hourly(events: Iterable[Event]) -> dict[Key, Row]:
    """Per account and hour: count, sums, first and last number."""
    groups: dict[Key, list[Event]] = defaultdict(list)
    for event in events:
        groups[event.account, window_of(event.ts_ms)].append(event)
    return {
        key: {
            "events": len(group),
            "amount": sum((Decimal(event.amount) for event in group), Decimal()),
            "weight": sum((Fraction(event.weight) for event in group), Fraction()),
            "first_seq": min(event.seq for event in group),
            "last_seq": max(event.seq for event in group),
        }
        for key, group in groups.items()
    }


def branches(events: Iterable[Event]) -> dict[Key, Row]:
    """Per branch and hour: count, sum, least."""
    groups: dict[Key, list[Decimal]] = defaultdict(list)
    for event in events:
        groups[event.branch, window_of(event.ts_ms)].append(Decimal(event.amount))
    return {
        key: {"events": len(amounts), "amount": sum(amounts, Decimal()), "least": min(amounts)}
        for key, amounts in groups.items()
    }


def differing(expected: Mapping[Key, Row], found: Mapping[Key, Row]) -> list[Key]:
    """Keys whose row is missing, extra, still open or other than expected. Sums of DOUBLE compare at 1e-12."""
    wrong = [key for key in found if key not in expected]
    return wrong + [key for key, row in expected.items() if key not in found or not _equal(row, found[key])]


def _equal(expected: Row, found: Row) -> bool:
    return found.get("complete", True) is True and all(_same(expected[name], found.get(name)) for name in expected)


def _same(expected: Any, found: Any) -> bool:
    if isinstance(expected, Fraction):
        return isinstance(found, int | float) and math.isclose(float(expected), found, rel_tol=RELATIVE)
    if isinstance(expected, Decimal):
        return isinstance(found, str) and Decimal(found) == expected
    return type(found) is type(expected) and bool(found == expected)
