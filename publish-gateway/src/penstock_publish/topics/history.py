"""Reading a topic from somewhere on: the current rows of a table, then the log. Resuming and pages share it.

A cursor inside the current rows of a table is one of its own kind (`<topic>/rows`): the key's hash up to which rows
were sent (0 before the first), and the place at which the first of them were read. The `open` notice carries such a
cursor, too, and so does the end of a gap that rows follow. Resuming sends the other rows as they are then, and the
changes since that first place, so nothing is missed; a row may come twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from penstock.errors import PenstockError
from penstock.model.batch import Batch
from penstock.model.position import Cursor
from penstock.model.stream import Relation, StreamSpec
from penstock.ports.log import Head, Log
from penstock.ports.store import Store
from penstock_publish.settings import PublishSettings
from penstock_publish.topics.framing import gap_notice
from penstock_publish.topics.render import Filter, advance
from penstock_publish.topics.ring import Place
from penstock_publish.topics.rows import Row, Rows, SnapshotRows

__all__ = ["After", "History", "Piece", "Start", "heads_of", "parse_after"]

_SNAPSHOT_PIECE_ROWS = 1_000
_ROWS = "/rows"
_BEFORE_ROWS = 0  # no key has this hash


@dataclass(frozen=True, slots=True)
class After:
    """`after=`: the beginning, the end, a cursor, or a cursor inside the current rows (then `key_hash` is set)."""

    where: Literal["earliest", "latest", "cursor"]
    cursor: Cursor | None = None
    key_hash: int | None = None


@dataclass(frozen=True, slots=True)
class Start:
    """Where reading begins: at `cursor` in the log, after the rows of a table beyond `key_hash` where it is set.

    `notice` is a gap to be announced first.
    """

    cursor: Cursor
    key_hash: int | None = None
    notice: dict[str, object] | None = None

    @property
    def resume(self) -> str:
        """Cursor text from which everything that follows here can be had again."""
        return self.cursor.text() if self.key_hash is None else _inside(self.cursor, self.key_hash)


@dataclass(frozen=True, slots=True)
class Piece:
    """Matching events, the cursor after each as text, and the place in the log after all of them.

    `resume` is the cursor text after the whole piece. `notice`: a hole found in the log, before the events.
    """

    rows: Sequence[Row]
    cursors: Sequence[bytes]
    cursor: Cursor
    resume: str
    size_bytes: int
    notice: dict[str, object] | None = None


def parse_after(spec: StreamSpec, text: str) -> After:
    """Read `after=`; `bad_cursor` for anything else."""
    if text == "earliest":
        return After("earliest")
    if text == "latest":
        return After("latest")
    if spec.relation is Relation.TABLE:
        try:
            inside = Cursor.parse(spec.name + _ROWS, text)
        except PenstockError:
            pass
        else:
            if len(inside.next) == spec.partitions + 1:
                return After("cursor", Cursor(spec.name, inside.epoch, inside.next[1:]), inside.next[0])
    cursor = Cursor.parse(spec.name, text)
    if len(cursor.next) != spec.partitions:
        raise _bad_cursor(spec, f"it has {len(cursor.next)} positions and the topic {spec.partitions} partitions")
    return After("cursor", cursor)


async def heads_of(log: Log, spec: StreamSpec) -> list[Head]:
    """The ends of all partitions."""
    return [await log.head(spec.name, partition) for partition in range(spec.partitions)]


class History:
    """Reads one topic for one subscriber or page; `filter_` is applied to everything."""

    def __init__(
        self, log: Log, store: Store, spec: StreamSpec, *, filter_: Filter, settings: PublishSettings
    ) -> None:
        self._log = log
        self._store = store
        self._spec = spec
        self._filter = filter_
        self._settings = settings
        self._rows: SnapshotRows | None = None

    async def start(self, after: After) -> Start:
        """Where `after` is; current rows are read now, once."""
        spec = self._spec
        heads = await heads_of(self._log, spec)
        end = Cursor(spec.name, heads[0].epoch, tuple(head.next for head in heads))
        first = replace(end, next=tuple(head.first for head in heads))
        if after.where == "latest":
            return Start(end)
        if after.where == "earliest" or after.cursor is None:
            return await self._earliest(first)
        cursor = after.cursor
        if cursor.epoch > end.epoch or (
            cursor.epoch == end.epoch and any(a > b for a, b in zip(cursor.next, end.next, strict=True))
        ):
            raise _bad_cursor(spec, "it lies beyond the end; the log was restored: use 'earliest' or 'latest'")
        if cursor.epoch < end.epoch:
            return await self._earliest(first, notice=gap_notice(cursor, first, events=None))
        if any(a < b for a, b in zip(cursor.next, first.next, strict=True)):
            kept = replace(cursor, next=tuple(max(a, b) for a, b in zip(cursor.next, first.next, strict=True)))
            lost = None if self._filter.text else sum(kept.next) - sum(cursor.next)
            notice = gap_notice(cursor, kept, events=lost)
            return await self._earliest(kept, notice=notice)
        if after.key_hash is not None:
            rows_at = await self._read_rows(first)
            return Start(cursor, after.key_hash if rows_at is not None else None)
        return Start(cursor)

    def forget_rows(self) -> None:
        """Let go of the current rows of a table: they have been sent, or are read again by another `start`."""
        self._rows = None

    async def pieces(self, start: Start, *, until: Place | None = None) -> AsyncGenerator[Piece, None]:
        """Everything from `start` on, in order; to `until` in the log, or to its end where that is None."""
        if start.key_hash is not None and self._rows is not None:
            async for piece in self._row_pieces(start.cursor, start.key_hash):
                yield piece
        async for piece in self._log_pieces(start.cursor, until=until):
            yield piece

    async def _earliest(self, first: Cursor, notice: dict[str, object] | None = None) -> Start:
        """The current rows of a stored table and the place at which they were read; else the log's beginning."""
        rows_at = await self._read_rows(first)
        if rows_at is None:
            return Start(first, None, notice)
        start = Start(rows_at, _BEFORE_ROWS)
        return start if notice is None else replace(start, notice={**notice, "to": start.resume})

    async def _read_rows(self, first: Cursor) -> Cursor | None:
        """Read the current rows; the place that they hold, or None where the table is not stored (yet)."""
        spec = self._spec
        if spec.relation is not Relation.TABLE or not spec.store:
            return None
        try:
            snapshot = await self._store.snapshot(spec.name)
        except PenstockError as error:
            if error.code in ("unknown_relation", "not_ready"):
                return None
            raise
        if snapshot.applied.epoch != first.epoch:
            return None
        self._rows = await asyncio.to_thread(
            SnapshotRows, spec, snapshot.frame, self._filter.predicate, mandatory=self._filter.mandatory
        )
        return replace(first, next=tuple(snapshot.applied.next.get(p, n) for p, n in enumerate(first.next)))

    async def _row_pieces(self, at: Cursor, key_hash: int) -> AsyncIterator[Piece]:
        rows = self._rows
        if rows is None:
            return
        done = False
        while not done:
            selected, done = await asyncio.to_thread(rows.after, key_hash, limit=_SNAPSHOT_PIECE_ROWS)
            cursors = [_inside(at, row.offset).encode() for row in selected]
            if selected:
                key_hash = selected[-1].offset
            resume = at.text() if done else _inside(at, key_hash)
            if done and cursors:
                cursors[-1] = resume.encode()
            size_bytes = sum(len(row.columns) for row in selected)
            yield Piece(selected, cursors, at, resume, size_bytes)

    async def _log_pieces(self, cursor: Cursor, *, until: Place | None) -> AsyncIterator[Piece]:
        found = True
        while found:
            found = False
            for partition in range(self._spec.partitions):
                stop = None if until is None else until[partition]
                offset = cursor.next[partition]
                if stop is not None and offset >= stop:
                    continue
                batches = await self._log.read(self._spec.name, partition, offset, self._settings.read_bytes_max)
                for batch in batches:
                    if stop is not None and batch.first >= stop:
                        break
                    piece = await self._piece(cursor, batch, stop=stop)
                    cursor = piece.cursor
                    found = True
                    yield piece

    async def _piece(self, cursor: Cursor, batch: Batch, *, stop: int | None) -> Piece:
        notice = None
        if batch.first > cursor.next[batch.partition]:  # deleted by retention while we were reading
            after = advance(cursor, batch.partition, batch.first)
            lost = None if self._filter.text else batch.first - cursor.next[batch.partition]
            notice, cursor = gap_notice(cursor, after, events=lost), after
        rows = Rows(self._spec, batch, cursor.next[batch.partition], stop=stop)
        if len(batch.payload) > self._settings.inline_bytes_max:
            selected = await asyncio.to_thread(rows.select, self._filter.predicate, self._filter.mandatory)
        else:
            selected = rows.select(self._filter.predicate, self._filter.mandatory)
        cursors = cursor.texts(batch.partition, [row.offset + 1 for row in selected])
        end = advance(cursor, batch.partition, rows.next)
        return Piece(selected, cursors, end, end.text(), len(batch.payload), notice)


def _inside(at: Cursor, key_hash: int) -> str:
    return Cursor(at.topic + _ROWS, at.epoch, (key_hash, *at.next)).text()


def _bad_cursor(spec: StreamSpec, why: str) -> PenstockError:
    return PenstockError("bad_cursor", f"this cursor of {spec.name} cannot be used: {why}")
