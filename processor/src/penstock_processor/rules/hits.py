"""How often each rule has hit, and when last: state like any operator's, so that it counts each event once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl

from penstock.ports.log import DeltaKind, StateDelta
from penstock_processor.operators.interface import RuleHits
from penstock_processor.operators.payload import pack, unpack

__all__ = ["HITS", "HitCounts"]

#: The operator under which the log keeps the counts.
HITS = "hits"

_SCHEMA = {"id": pl.Int64(), "hits": pl.Int64(), "last_ms": pl.Int64()}


class HitCounts:
    """Counts by rule. `ids`: name -> `KeptRule.id`, by which the log keeps them; of others nothing is kept."""

    def __init__(self, ids: Mapping[str, int]) -> None:
        self._ids = dict(ids)
        self._names = {id_: name for name, id_ in ids.items()}
        self._found: dict[str, RuleHits] = {}

    def restore(self, deltas: Sequence[StateDelta]) -> None:
        """Apply deltas in commit order."""
        for delta in deltas:
            if delta.kind is DeltaKind.REPLACE:
                self._found.clear()
            for id_, hits, last_ms in unpack(delta.payload)[0].iter_rows():
                name = self._names.get(id_)
                if name is not None:
                    self._found[name] = RuleHits(hits, last_ms)

    def add(self, hits: Mapping[str, int], at_ms: int | None) -> dict[str, RuleHits]:
        """Count hits of rules, in events that the log took no later than `at_ms`; the new counts of these rules."""
        changed = {}
        for name, count in hits.items():
            old = self._found.get(name, RuleHits(0, None))
            last = [ms for ms in (old.last_ms, at_ms) if ms is not None]
            changed[name] = RuleHits(old.hits + count, max(last, default=None))
        self._found.update(changed)
        return changed

    def delta(self, changed: Mapping[str, RuleHits]) -> StateDelta:
        """What `add` changed."""
        return StateDelta(HITS, DeltaKind.UPSERT, self._packed(changed))

    def compact(self) -> StateDelta:
        """All counts as one REPLACE."""
        return StateDelta(HITS, DeltaKind.REPLACE, self._packed(self._found))

    def all(self) -> Mapping[str, RuleHits]:
        """The counts of rules that have hit."""
        return dict(self._found)

    def __len__(self) -> int:
        return len(self._found)

    def _packed(self, counts: Mapping[str, RuleHits]) -> bytes:
        rows = [(self._ids[name], each.hits, each.last_ms) for name, each in counts.items()]
        return pack([pl.DataFrame(rows, schema=_SCHEMA, orient="row")])
