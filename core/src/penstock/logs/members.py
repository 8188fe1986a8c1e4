"""Who is alive in a group: a decision without I/O, for logs that know every member themselves."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["Members"]


@dataclass(slots=True)
class Members:
    """Members by group with the time at which each is taken for gone, on one monotonic clock."""

    _until_s: dict[str, dict[str, float]] = field(default_factory=dict)

    def beat(self, group: str, member: str, *, ttl_s: float, now_s: float) -> list[str]:
        """`member` is alive until `now_s + ttl_s` (0: gone at once); who is alive now, sorted."""
        members = self._until_s.setdefault(group, {})
        members[member] = now_s + ttl_s
        for name in [name for name, until_s in members.items() if until_s <= now_s]:
            del members[name]
        return sorted(members)
