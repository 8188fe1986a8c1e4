"""Which statement feeds which: the order to run them in, and the refusal of cycles."""

from __future__ import annotations

from penstock_processor.logical.identity import scans_of
from penstock_processor.logical.plan import AppPlan, Statement

__all__ = ["feeds", "find_cycle", "topological"]


def topological(plan: AppPlan) -> list[Statement]:
    """The statements so that each stands behind all that write what it reads; otherwise in text order."""
    return _ordered(plan.statements)[0]


def find_cycle(statements: tuple[Statement, ...]) -> list[Statement]:
    """Statements that wait for each other, in text order; empty if there is no cycle."""
    rest = _ordered(statements)[1]
    waits = feeds(statements)
    while rest:
        fed = {name for s in rest for name in waits[s.name]}
        if all(s.name in fed for s in rest):
            break
        rest = [s for s in rest if s.name in fed]  # the others only stand behind a cycle
    return rest


def feeds(statements: tuple[Statement, ...]) -> dict[str, set[str]]:
    """Statement name -> names of the statements that write to what it reads."""
    writers: dict[str, set[str]] = {}
    for statement in statements:
        writers.setdefault(statement.target, set()).add(statement.name)
    return {s.name: {w for scan in scans_of(s.plan) for w in writers.get(scan.relation, ())} for s in statements}


def _ordered(statements: tuple[Statement, ...]) -> tuple[list[Statement], list[Statement]]:
    """(those that can be ordered, the rest)"""
    waits = feeds(statements)
    done: set[str] = set()
    order: list[Statement] = []
    rest = list(statements)
    while True:
        ready = [s for s in rest if waits[s.name] <= done]
        if not ready:
            return order, rest
        order.append(ready[0])
        done.add(ready[0].name)
        rest.remove(ready[0])
