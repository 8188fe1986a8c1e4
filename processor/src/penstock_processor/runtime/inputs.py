"""What a cycle takes of one partition: batches, the lines in them, and which offset each line has."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from penstock.codecs.arrow import decode_frame
from penstock.codecs.frames import empty_frame
from penstock.codecs.ndjson import decode_lines
from penstock.errors import PenstockError
from penstock.model.batch import OP_COLUMN, PENDING_COLUMN, Batch, Encoding, Op
from penstock.model.stream import Column
from penstock.ports.log import Consumed
from penstock_processor.runtime.packing import unpacked

__all__ = ["Lines", "PartitionInput", "bounded", "rows_of", "standing_rows"]


@dataclass(frozen=True, slots=True)
class PartitionInput:
    """Batches of one source partition from offset `start` on, and what else the log says about it.

    `expected` is the committed position (None: none yet); `through_ms`: the source is complete up to here once these
    batches are consumed; `idle`: it has been silent for its idle timeout; `woken`: it is silent no longer.
    """

    relation: str
    partition: int
    expected: int | None
    start: int
    batches: Sequence[Batch] = ()
    through_ms: int | None = None
    idle: bool = False
    woken: bool = False

    @property
    def next(self) -> int:
        """The position after this input."""
        return self.batches[-1].next if self.batches else self.start

    @property
    def consumed(self) -> Consumed | None:
        """The move of the position; None if it stays where it is."""
        if self.next == self.expected:
            return None
        return Consumed(self.relation, self.partition, self.expected, self.next)

    @property
    def appended_ms(self) -> int | None:
        """When the log took the newest batch; None without one."""
        return max((batch.appended_at_ms for batch in self.batches), default=None)


@dataclass(frozen=True, slots=True)
class Lines:
    """The text of several batches as one, and the offset of each line."""

    text: bytes
    first_lines: tuple[int, ...]  # line with which each batch begins
    first_offsets: tuple[int, ...]  # and that line's offset

    @classmethod
    def of(cls, taken: PartitionInput) -> Lines:
        """Merge the batches; events before `start` are left out."""
        texts: list[bytes] = []
        lines: list[int] = []
        offsets: list[int] = []
        count = 0
        for batch in taken.batches:
            if batch.encoding is not Encoding.NDJSON_ZSTD:
                place = f"{batch.stream}/{batch.partition} at {batch.first}"
                raise PenstockError("internal", f"{place}: a source batch is NDJSON, not {batch.encoding}")
            text = decode_lines(batch.payload)
            skip = max(0, taken.start - batch.base)
            if skip:
                text = text.split(b"\n", skip)[skip]
            texts.append(text)
            lines.append(count)
            offsets.append(batch.base + skip)
            count += batch.count - skip
        merged = b"\n".join(texts)
        if texts and merged.count(b"\n") + 1 != count:
            raise PenstockError(
                "internal", f"{taken.relation}/{taken.partition} from {taken.start}: {count} events, other lines"
            )
        return cls(merged, tuple(lines), tuple(offsets))

    def offset(self, line: int) -> int:
        """Offset of the event on `line`."""
        batch = bisect_right(self.first_lines, line) - 1
        return self.first_offsets[batch] + line - self.first_lines[batch]


def rows_of(taken: PartitionInput) -> pl.DataFrame:
    """Rows of a repartition stream's batches, in order; those before `start` are left out."""
    frames = []
    for batch in taken.batches:
        if batch.encoding is not Encoding.ARROW:
            place = f"{batch.stream}/{batch.partition} at {batch.first}"
            raise PenstockError("internal", f"{place}: a repartition batch is ARROW, not {batch.encoding}")
        frames += unpacked(decode_frame(batch.payload)[max(0, taken.start - batch.base) :])
    return pl.concat(frames) if frames else pl.DataFrame()


def standing_rows(taken: PartitionInput, columns: Sequence[Column]) -> pl.DataFrame:
    """Rows that the batches of another app's stream or table bring, in order: nothing deleted, nothing early."""
    frames = [empty_frame(columns)]
    for batch in taken.batches:
        if batch.count == 0:
            continue
        frame = decode_frame(batch.payload)[max(0, taken.start - batch.base) :]
        stands = pl.col(OP_COLUMN).is_in([int(Op.INSERT), int(Op.UPDATE_AFTER)])
        if PENDING_COLUMN in frame.columns:
            stands = stands & ~pl.col(PENDING_COLUMN)
        frames.append(frame.filter(stands).select(column.name for column in columns))
    return pl.concat(frames)


def bounded(batches: Sequence[Batch], rows: int) -> Sequence[Batch]:
    """The first batches that together hold no more than `rows` events; at least one."""
    total = 0
    for i, batch in enumerate(batches):
        total += batch.count
        if total > rows and i:
            return batches[:i]
    return batches
