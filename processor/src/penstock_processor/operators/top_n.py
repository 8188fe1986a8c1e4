"""The first N rows of each group, as changes: continuous Top-N and deduplication.

Semantics: Flink, "Top-N" and "Deduplication". A cycle ranks the rows of the groups that it touches, before and after,
and gives the difference. Of an input that only grows, rows behind the N-th are forgotten at once; where rows can be
taken back, all are kept, for one of them may move up. A row that has outlived its time is not taken back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from penstock.model.batch import Op
from penstock.ports.log import DeltaKind, StateDelta
from penstock_processor.operators.hash_index import Ints
from penstock_processor.operators.keyed_rows import KeyedRows
from penstock_processor.operators.payload import pack, unpack
from penstock_processor.operators.row_changes import changes_to
from penstock_processor.operators.step import AT, CHANGE, NOWHERE, Flow, Operator, Step

__all__ = ["Ranking", "TopNOperator"]

Flags = npt.NDArray[np.bool_]

_WAS = "$was"  # the row was there before this cycle
_STAYS = "$is"  # the row is there after it
_ROW = "$row"
_BEFORE, _AFTER = "$before", "$after"  # ranks
_SLOTS_BEFORE, _SLOTS_AFTER = "$held_before", "$held_after"  # rows of the group


@dataclass(frozen=True, slots=True)
class Ranking:
    """`columns` of the rows that are kept; `order`: (column, descending, nulls last). `rank`: name of its column,
    None: not given. `latest`: of rows with equal `order`, the one that came last ranks first.
    """

    columns: tuple[str, ...]
    partition: tuple[str, ...]
    order: tuple[tuple[str, bool, bool], ...]
    limit: int
    rank: str | None
    latest: bool


class TopNOperator:
    """See the module. `updating`: rows of the input can be taken back."""

    def __init__(self, source: Operator, ranking: Ranking, *, updating: bool, ttl_ms: int | None,
                 operator: str) -> None:  # fmt: skip
        self.id = operator
        self._source = source
        self._ranking = ranking
        self._updating = updating
        self._columns = list(ranking.columns)
        self._kept = KeyedRows(ranking.partition, whole=updating, ttl_ms=ttl_ms)

    def run(self, step: Step) -> Flow:
        """See `Operator`."""
        flow = self._source.run(step)
        done = None
        if flow.frame is not None and flow.frame.height:
            done = self._changed(flow.frame, step.now_ms)
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

    def _changed(self, frame: pl.DataFrame, now_ms: int) -> pl.DataFrame | None:
        added, gone = changes_to(self._kept, frame, self._columns, now_ms)
        positions = self._touched(added, gone, now_ms)
        held = self._kept.rows(positions) if len(positions) else added.clear()
        rows = pl.concat([held, added])
        was = np.arange(rows.height) < held.height
        stays = np.concatenate([~np.isin(positions, gone), np.ones(added.height, np.bool_)])
        ranks = self._ranks(rows, was, stays)
        limit = self._ranking.limit
        before, after = _first(ranks, _WAS, _BEFORE, limit), _first(ranks, _STAYS, _AFTER, limit)
        row = ranks[_ROW].to_numpy()
        self._keep(added, gone, positions=positions, stays=row[after], height=held.height, now_ms=now_ms)
        return self._difference(rows, ranks, before, after)

    def _touched(self, added: pl.DataFrame, gone: Ints, now_ms: int) -> Ints:
        """Positions of all rows of the groups that change, in order of arrival."""
        keys = [added.select(self._ranking.partition)]
        if len(gone):
            keys.append(self._kept.rows(gone).select(self._ranking.partition))
        found = [positions for _, positions in self._kept.matches(pl.concat(keys).unique(), now_ms)]
        return np.sort(np.concatenate(found)) if found else np.zeros(0, np.int64)

    def _ranks(self, rows: pl.DataFrame, was: Flags, stays: Flags) -> pl.DataFrame:
        """Of each row its number in `rows` and its ranks before and after, in order of the ranking."""
        ranking = self._ranking
        by = [name for name, _, _ in ranking.order]
        flags = [pl.Series(_ROW, np.arange(rows.height)), pl.Series(_WAS, was), pl.Series(_STAYS, stays)]
        table = rows.select(list(dict.fromkeys([*ranking.partition, *by]))).hstack(flags)
        table = table.sort(
            [*by, _ROW],
            descending=[*(descending for _, descending, _ in ranking.order), ranking.latest],
            nulls_last=[*(last for _, _, last in ranking.order), False],
        )
        counted = [
            pl.col(_WAS).cum_sum().alias(_BEFORE),
            pl.col(_STAYS).cum_sum().alias(_AFTER),
            pl.col(_WAS).sum().alias(_SLOTS_BEFORE),
            pl.col(_STAYS).sum().alias(_SLOTS_AFTER),
        ]
        over = [each.over(ranking.partition) for each in counted] if ranking.partition else counted
        return table.with_columns(over)

    def _keep(self, added: pl.DataFrame, gone: Ints, *, positions: Ints, stays: Ints, height: int,
              now_ms: int) -> None:  # fmt: skip
        """`stays`: numbers of the rows that are among the first, those of the state first."""
        if not self._updating:
            gone = np.delete(positions, stays[stays < height])
            added = added[np.sort(stays[stays >= height]) - height]
        if len(gone):
            self._kept.remove(gone)
        self._kept.add(added, now_ms)

    def _difference(self, rows: pl.DataFrame, ranks: pl.DataFrame, before: Flags, after: Flags
                    ) -> pl.DataFrame | None:  # fmt: skip
        """What is taken back, then what comes instead, each in order of the ranking."""
        ranking = self._ranking
        same = before & after
        if ranking.rank is not None:
            same &= ranks[_BEFORE].to_numpy() == ranks[_AFTER].to_numpy()
        parts = []
        for chosen, rank, others, one, other in (
            (before & ~same, _BEFORE, _SLOTS_AFTER, Op.UPDATE_BEFORE, Op.DELETE),
            (after & ~same, _AFTER, _SLOTS_BEFORE, Op.UPDATE_AFTER, Op.INSERT),
        ):
            if not chosen.any():
                continue
            which = ranks.filter(pl.Series(chosen))
            # With the rank, or with one row a group, a place stays and gets another row.
            stays = which[rank] <= which[others]
            if ranking.rank is None and ranking.limit > 1:
                stays = pl.Series([False]).new_from_index(0, which.height)
            ops = np.where(stays.to_numpy(), int(one), int(other)).astype(np.int8)
            found = rows[which[_ROW].to_numpy()]
            if ranking.rank is not None:
                found = found.hstack([which[rank].cast(pl.Int64).alias(ranking.rank)])
            parts.append(found.hstack([pl.Series(CHANGE, ops)]))
        if not parts:
            return None
        return pl.concat(parts).with_columns(pl.lit(NOWHERE, pl.Int64).alias(AT))


def _first(ranks: pl.DataFrame, there: str, rank: str, limit: int) -> Flags:
    """Which rows are there and among the first."""
    return (ranks[there] & (ranks[rank] <= limit)).to_numpy()
