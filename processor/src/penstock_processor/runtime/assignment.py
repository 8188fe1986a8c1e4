"""Which replica runs which tasks: a function of who is alive, equal on every replica that sees the same members.

The tasks of one partition of an app stay together, so that a row seldom leaves its replica. Rendezvous hashing within
bounds: a member takes no more than its share of an app and of everything, and when a member comes or goes few move.
Two replicas may disagree for a moment; terms make sure that one of them can commit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

import xxhash

__all__ = ["Unit", "assign"]

#: (app, partition): all stages of one partition of an app.
Unit = tuple[str, int]


def assign(units: Collection[Unit], members: Collection[str]) -> dict[Unit, str]:
    """The member of each unit; empty without members."""
    if not members:
        return {}
    wishes = sorted(((_weight(unit, member), unit, member) for unit in units for member in members), reverse=True)
    sizes = Counter(app for app, _ in units)
    of_app = {app: -(-size // len(members)) for app, size in sizes.items()}
    in_all = -(-len(units) // len(members))
    taken = _Taken()
    taken.fill(wishes, of_app=of_app, in_all=in_all)
    taken.fill(wishes, of_app=of_app, in_all=len(units))  # what the bounds together left over
    return taken.owners


class _Taken:
    """Units given out so far, and how many each member has."""

    def __init__(self) -> None:
        self.owners: dict[Unit, str] = {}
        self._of_app: Counter[tuple[str, str]] = Counter()
        self._in_all: Counter[str] = Counter()

    def fill(self, wishes: Sequence[tuple[int, Unit, str]], *, of_app: Mapping[str, int], in_all: int) -> None:
        """Give each unit to the first member in the order of `wishes` that has room."""
        for _, unit, member in wishes:
            place = member, unit[0]
            if unit in self.owners or self._of_app[place] >= of_app[unit[0]] or self._in_all[member] >= in_all:
                continue
            self.owners[unit] = member
            self._of_app[place] += 1
            self._in_all[member] += 1


def _weight(unit: Unit, member: str) -> int:
    return xxhash.xxh3_64_intdigest(f"{member}|{unit[0]}|{unit[1]}")
