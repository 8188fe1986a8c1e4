"""When an operator's deltas are to be replaced by a snapshot, so that a restore stays short."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from penstock.ports.log import DeltaKind, StateDelta
from penstock_processor.settings import SnapshotSettings

__all__ = ["SnapshotLedger"]


@dataclass(slots=True)
class _Since:
    """Of one operator: size of its last snapshot, and what came after it."""

    snapshot_bytes: int = 0
    deltas: int = 0
    size_bytes: int = 0


class SnapshotLedger:
    """Counts deltas per operator. Pure: it decides, the engine makes the snapshot."""

    def __init__(self, settings: SnapshotSettings, restored: Mapping[str, Sequence[StateDelta]]) -> None:
        self._settings = settings
        self._since: dict[str, _Since] = {}
        for deltas in restored.values():
            self.note(deltas)

    def note(self, deltas: Sequence[StateDelta]) -> None:
        """These deltas are part of the log, or will be with this cycle."""
        for delta in deltas:
            size_bytes = len(delta.payload)
            if delta.kind is DeltaKind.REPLACE:
                self._since[delta.operator] = _Since(snapshot_bytes=size_bytes)
                continue
            since = self._since.setdefault(delta.operator, _Since())
            since.deltas += 1
            since.size_bytes += size_bytes

    def due(self, operators: Collection[str]) -> list[str]:
        """Those of `operators` whose deltas have grown past a limit."""
        return [operator for operator in operators if self._is_due(operator)]

    def _is_due(self, operator: str) -> bool:
        since = self._since.get(operator)
        if since is None:
            return False
        limits = self._settings
        large = since.size_bytes >= max(limits.min_bytes, limits.growth * since.snapshot_bytes)
        return large or since.deltas >= limits.deltas
