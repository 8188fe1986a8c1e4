"""The first N rows of each group of rows that can be taken back: one that was behind may move up, so all are kept.

Of a large group the first ones lie apart (the head), and no row of the rest ranks before any of them. A cycle looks
at the heads of the groups that it touches, which are small; a row that ranks behind the head goes to the rest unseen.
The rest of a group is looked at only when so many rows of its head have gone that fewer than N are left. Otherwise as
`top_n`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from penstock.ports.log import DeltaKind, StateDelta
from penstock_processor.operators.hash_index import Hashes, Ints
from penstock_processor.operators.keyed_rows import WRITTEN, KeyedRows, hashes_of
from penstock_processor.operators.payload import pack, unpack
from penstock_processor.operators.ranking import (
    AFTER,
    BEFORE,
    HELD_BEFORE,
    ROW,
    Flags,
    Ranking,
    difference,
    first_after,
    ranks_of,
)
from penstock_processor.operators.row_changes import changes_to
from penstock_processor.operators.step import Flow, Operator, Step

__all__ = ["ChangingTopNOperator"]

#: Rows of a head after it was filled or cut, at least; it has at most twice as many, or twice the N as many.
HEAD_MIN = 64
_CAME = "$came"
_FRAMES = 3  # of one store in a delta


class ChangingTopNOperator:
    """See the module."""

    def __init__(self, source: Operator, ranking: Ranking, *, ttl_ms: int | None, operator: str) -> None:
        self.id = operator
        self._source = source
        self._ranking = ranking
        self._room = max(HEAD_MIN, 2 * ranking.limit)
        self._head, self._rest = (
            KeyedRows(ranking.partition, whole=ranking.columns, ttl_ms=ttl_ms) for _ in range(2)
        )
        self._came = 0
        self._behind: dict[int, int] = {}  # hash of a group -> rows in the rest, or more if some were forgotten

    def run(self, step: Step) -> Flow:
        """See `Operator`."""
        flow = self._source.run(step)
        done = None
        if flow.frame is not None and flow.frame.height:
            done = self._changed(flow.frame, step.now_ms)
            changes = [each.changes() for each in (self._head, self._rest)] if step.durable else []
            if any(frames is not None for frames in changes):
                packed = [frame for frames in changes for frame in frames or [pl.DataFrame()] * _FRAMES]
                step.deltas.append(StateDelta(self.id, DeltaKind.APPEND, pack(packed)))
        for each in (self._head, self._rest):
            each.tidy(step.now_ms)
        return Flow(done, flow.before, flow.after)

    def restore(self, deltas: Sequence[StateDelta]) -> None:
        """See `Stateful`."""
        for delta in deltas:
            frames = unpack(delta.payload)
            for n, each in enumerate((self._head, self._rest)):
                if delta.kind is DeltaKind.REPLACE:
                    each.clear()
                added = frames[n * _FRAMES]
                if added.height:
                    self._came = max(self._came, int(added[_CAME].max()) + 1)  # type: ignore[arg-type]  # an integer
                each.load(frames[n * _FRAMES : (n + 1) * _FRAMES])
        everything = self._rest.saved()[0]
        if everything.height:
            groups, counts = np.unique(self._groups(everything), return_counts=True)
            self._behind = dict(zip(groups.tolist(), counts.tolist(), strict=True))

    def compact(self) -> StateDelta:
        """See `Stateful`."""
        return StateDelta(self.id, DeltaKind.REPLACE, pack([*self._head.saved(), *self._rest.saved()]))

    def size(self) -> int:
        """See `Stateful`."""
        return len(self._head) + len(self._rest)

    def _changed(self, frame: pl.DataFrame, now_ms: int) -> pl.DataFrame | None:
        ranking = self._ranking
        added, (gone, gone_behind) = changes_to((self._head, self._rest), frame, list(ranking.columns), now_ms)
        keys = self._keys(added, gone, gone_behind)
        if len(gone_behind):
            self._count(self._groups(self._rest.rows(gone_behind)), -1)
            self._rest.remove(gone_behind)
        found = [positions for _, positions in self._head.matches(keys, now_ms)]
        positions = np.sort(np.concatenate(found)) if found else np.zeros(0, np.int64)
        rows = self._with_times(added, positions, now_ms)
        was = np.arange(rows.height) < len(positions)
        stays = np.concatenate([~np.isin(positions, gone), np.ones(added.height, np.bool_)])
        rows, was, stays = self._without_those_behind(rows, was, stays)
        more = self._moved_up(keys, rows, stays, now_ms)
        if more is not None:
            rows = pl.concat([rows, more])
            was = np.concatenate([was, np.zeros(more.height, np.bool_)])
            stays = np.concatenate([stays, np.ones(more.height, np.bool_)])
        ranks = ranks_of(ranking, rows, was, stays, came=_CAME)
        self._keep(rows, was, positions=positions, gone=gone, ranks=ranks)
        return difference(ranking, rows, ranks)

    def _keys(self, added: pl.DataFrame, gone: Ints, gone_behind: Ints) -> pl.DataFrame:
        """The groups that change."""
        keys = [added.select(self._ranking.partition)]
        for kept, positions in ((self._head, gone), (self._rest, gone_behind)):
            if len(positions):
                keys.append(kept.rows(positions).select(self._ranking.partition))
        return pl.concat(keys).unique()

    def _with_times(self, added: pl.DataFrame, positions: Ints, now_ms: int) -> pl.DataFrame:
        """The heads, then the rows that are new, with when they came and were written."""
        came = np.arange(self._came, self._came + added.height)
        self._came += added.height
        new = added.hstack([pl.Series(_CAME, came), pl.Series(WRITTEN, np.full(added.height, now_ms, np.int64))])
        if not len(positions):
            return new
        return pl.concat([self._timed(self._head, positions), new])

    def _timed(self, kept: KeyedRows, positions: Ints) -> pl.DataFrame:
        return kept.rows(positions).hstack([pl.Series(WRITTEN, kept.written(positions))])

    def _without_those_behind(self, rows: pl.DataFrame, was: Flags, stays: Flags
                              ) -> tuple[pl.DataFrame, Flags, Flags]:  # fmt: skip
        """New rows that rank behind the head of a group that has a rest go there."""
        groups = self._groups(rows)
        crowded = np.isin(groups, [group for group in np.unique(groups).tolist() if self._behind.get(group)])
        if not (crowded & ~was).any():
            return rows, was, stays
        ranks = ranks_of(self._ranking, rows, was, stays, came=_CAME)
        behind = np.zeros(rows.height, np.bool_)
        behind[ranks[ROW].to_numpy()] = (ranks[BEFORE] == ranks[HELD_BEFORE]).to_numpy()  # all of the head before it
        behind &= crowded & ~was
        if not behind.any():
            return rows, was, stays
        self._put_behind(rows.filter(pl.Series(behind)))
        return rows.filter(pl.Series(~behind)), was[~behind], stays[~behind]

    def _moved_up(self, keys: pl.DataFrame, rows: pl.DataFrame, stays: Flags, now_ms: int) -> pl.DataFrame | None:
        """Rows of the rest for heads that would have less than N rows."""
        groups, counts = np.unique(self._groups(rows)[stays], return_counts=True)
        left = dict(zip(groups.tolist(), counts.tolist(), strict=True))
        hashes = self._groups(keys) if keys.width else np.zeros(1, np.uint64)
        limit = self._ranking.limit
        short = [self._behind.get(group, 0) > 0 and left.get(group, 0) < limit for group in hashes.tolist()]
        if not any(short):
            return None
        wanted = keys.filter(pl.Series(short)) if keys.width else keys
        found = [positions for _, positions in self._rest.matches(wanted, now_ms)]
        for group in hashes[np.array(short)].tolist():
            del self._behind[group]
        if not found:
            return None
        positions = np.concatenate(found)
        candidates = self._timed(self._rest, positions)
        everyone = np.ones(len(positions), np.bool_)
        ranks = ranks_of(self._ranking, candidates, ~everyone, everyone, came=_CAME)
        chosen = ranks[ROW].to_numpy()[first_after(ranks, self._room)]
        self._rest.remove(positions[chosen])
        self._count(np.delete(self._groups(candidates), chosen), 1)
        return candidates[chosen]

    def _keep(self, rows: pl.DataFrame, was: Flags, *, positions: Ints, gone: Ints, ranks: pl.DataFrame) -> None:
        """Heads with what is new; of one that has grown too large, the last rows go to the rest."""
        largest = pl.col(AFTER).max()
        largest = largest.over(self._ranking.partition) if self._ranking.partition else largest
        large = ranks.select((largest > 2 * self._room) & (pl.col(AFTER) > self._room)).to_series().to_numpy()
        row = ranks[ROW].to_numpy()
        gone_here = np.isin(positions, gone)
        cut = np.zeros(rows.height, np.bool_)
        cut[row[large]] = True
        cut[: len(positions)] &= ~gone_here
        if cut.any():
            self._put_behind(rows.filter(pl.Series(cut)))
        self._head.remove(positions[cut[: len(positions)] | gone_here])
        self._add(self._head, rows.filter(pl.Series(~was & ~cut)))

    def _put_behind(self, rows: pl.DataFrame) -> None:
        self._count(self._groups(rows), 1)
        self._add(self._rest, rows)

    def _add(self, kept: KeyedRows, rows: pl.DataFrame) -> None:
        kept.add(rows.drop(WRITTEN), 0, written=rows[WRITTEN].to_numpy())

    def _groups(self, rows: pl.DataFrame) -> Hashes:
        """Hashes of the groups of rows."""
        return hashes_of(rows.select(self._ranking.partition), rows.height)

    def _count(self, groups: Hashes, change: int) -> None:
        found, counts = np.unique(groups, return_counts=True)
        for group, count in zip(found.tolist(), counts.tolist(), strict=True):
            left = self._behind.get(group, 0) + change * count
            if left > 0:
                self._behind[group] = left
            else:
                self._behind.pop(group, None)
