"""The first N rows of each group of rows that only come: continuous Top-N and deduplication.

Semantics: Flink, "Top-N" and "Deduplication". A cycle ranks the rows of the groups that it touches, before and after,
and gives the difference; rows behind the N-th are forgotten at once. A row that has outlived its time is not taken
back.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from penstock.ports.log import DeltaKind, StateDelta
from penstock_processor.operators.hash_index import Ints
from penstock_processor.operators.keyed_rows import KeyedRows
from penstock_processor.operators.payload import pack, unpack
from penstock_processor.operators.ranking import ROW, Ranking, difference, first_after, ranks_of
from penstock_processor.operators.step import Flow, Operator, Step

__all__ = ["TopNOperator"]


class TopNOperator:
    """See the module."""

    def __init__(self, source: Operator, ranking: Ranking, *, ttl_ms: int | None, operator: str) -> None:
        self.id = operator
        self._source = source
        self._ranking = ranking
        self._kept = KeyedRows(ranking.partition, ttl_ms=ttl_ms)

    def run(self, step: Step) -> Flow:
        """See `Operator`."""
        flow = self._source.run(step)
        done = None
        if flow.frame is not None and flow.frame.height:
            done = self._changed(pl.DataFrame([flow.frame[name] for name in self._ranking.columns]), step.now_ms)
            if step.durable and (changes := self._kept.changes()) is not None:
                step.deltas.append(StateDelta(self.id, DeltaKind.APPEND, pack(changes)))
        self._kept.tidy(step.now_ms)
        return Flow(done, flow.before, flow.after)

    def restore(self, deltas: Sequence[StateDelta]) -> None:
        """See `Stateful`."""
        for delta in deltas:
            if delta.kind is DeltaKind.REPLACE:
                self._kept.clear()
            self._kept.load(unpack(delta.payload))

    def compact(self) -> StateDelta:
        """See `Stateful`."""
        return StateDelta(self.id, DeltaKind.REPLACE, pack(self._kept.saved()))

    def size(self) -> int:
        """See `Stateful`."""
        return len(self._kept)

    def _changed(self, added: pl.DataFrame, now_ms: int) -> pl.DataFrame | None:
        positions = self._touched(added, now_ms)
        held = self._kept.rows(positions) if len(positions) else added.clear()
        rows = pl.concat([held, added])
        was = np.arange(rows.height) < held.height
        ranks = ranks_of(self._ranking, rows, was, np.ones(rows.height, np.bool_))
        stays = ranks[ROW].to_numpy()[first_after(ranks, self._ranking.limit)]
        self._kept.remove(np.delete(positions, stays[stays < held.height]))
        self._kept.add(rows[np.sort(stays[stays >= held.height])], now_ms)
        return difference(self._ranking, rows, ranks)

    def _touched(self, added: pl.DataFrame, now_ms: int) -> Ints:
        """Positions of all rows of the groups that change, in order of arrival."""
        keys = added.select(self._ranking.partition).unique()
        found = [positions for _, positions in self._kept.matches(keys, now_ms)]
        return np.sort(np.concatenate(found)) if found else np.zeros(0, np.int64)
