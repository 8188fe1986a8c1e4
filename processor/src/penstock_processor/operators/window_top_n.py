"""The best rows of each window and group, once the window has ended; ranks never change after that.

Semantics: Flink, "Window Top-N" and "Window Deduplication". Rows that are equal in order rank as they arrived. A row
is late when its window has ended. State is, by window, rows that may still be among the best: what a batch adds is
cut to the best of each group, and so is a window's state when it has doubled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from penstock.ports.log import DeltaKind, StateDelta
from penstock_processor.operators.lateness import lost
from penstock_processor.operators.payload import pack, unpack
from penstock_processor.operators.step import AT, NOWHERE, Flow, Operator, Step, timestamp

__all__ = ["WindowRanking", "WindowTopNOperator"]

_END = "$end"  # of a row's window, epoch milliseconds
_ARRIVAL = "$arrival"  # number of the row
_SLACK_ROWS = 1_000


@dataclass(frozen=True, slots=True)
class WindowRanking:
    """The first `limit` rows of each partition by `order`: (column, descending, NULL last).

    `end`: of the window, a column of the partition. `rank`: the name of the column with a row's place, behind
    `columns`. `latest`: of rows that are equal in order, the last that arrived is first.
    """

    columns: tuple[str, ...]
    partition: tuple[str, ...]
    order: tuple[tuple[str, bool, bool], ...]
    limit: int
    end: str
    rank: str
    latest: bool

    def best(self, rows: pl.DataFrame) -> pl.DataFrame:
        """The first rows of each partition, by partition and rank."""
        by = [*self.partition, *(column for column, _, _ in self.order), _ARRIVAL]
        descending = [*(False for _ in self.partition), *(down for _, down, _ in self.order), self.latest]
        last = [*(False for _ in self.partition), *(nulls_last for _, _, nulls_last in self.order), False]
        ordered = rows.sort(by, descending=descending, nulls_last=last)
        return ordered.filter(pl.int_range(pl.len()).over(self.partition) < self.limit)


@dataclass(slots=True)
class _Window:
    frames: list[pl.DataFrame] = field(default_factory=list)
    rows: int = 0
    cut_from: int = _SLACK_ROWS


class WindowTopNOperator:
    """See the module."""

    def __init__(self, source: Operator, ranking: WindowRanking, operator: str) -> None:
        self.id = operator
        self._source = source
        self._ranking = ranking
        self._windows: dict[int, _Window] = {}
        self._next = 0

    def run(self, step: Step) -> Flow:
        """See `Operator`."""
        flow = self._source.run(step)
        if flow.frame is not None and flow.frame.height:
            rows = self._in_time(flow.frame, flow.before, step)
            if rows.height:
                self._absorb(rows, step)
        if flow.after is None or not step.advancing:
            return Flow(None, flow.before, flow.after)
        done = self._end(flow.after)
        if done is not None and step.durable:
            through = pl.DataFrame({_END: [flow.after]}, schema={_END: pl.Int64})
            step.deltas.append(StateDelta(self.id, DeltaKind.DELETE, pack([through])))
        return Flow(done, flow.before, flow.after)

    def restore(self, deltas: Sequence[StateDelta]) -> None:
        """See `Stateful`."""
        for delta in deltas:
            (frame,) = unpack(delta.payload)
            if delta.kind is DeltaKind.DELETE:
                self._take(frame[_END][0])
                continue
            if delta.kind is DeltaKind.REPLACE:
                self._windows.clear()
            if frame.height:
                self._next = max(self._next, int(frame[_ARRIVAL].max()) + 1)  # type: ignore[arg-type]  # integers
                self._add(frame)

    def compact(self) -> StateDelta:
        """See `Stateful`."""
        frames = [self._best(window) for _, window in sorted(self._windows.items())]
        return StateDelta(self.id, DeltaKind.REPLACE, pack([pl.concat(frames) if frames else pl.DataFrame()]))

    def size(self) -> int:
        """See `Stateful`."""
        return sum(window.rows for window in self._windows.values())

    def _in_time(self, frame: pl.DataFrame, watermark: int | None, step: Step) -> pl.DataFrame:
        ends = frame[self._ranking.end]
        if ends.null_count():
            step.reject(frame.filter(ends.is_null()), "no_event_time", f"'{self._ranking.end}' is NULL")
            frame = frame.filter(ends.is_not_null())
        frame = frame.with_columns(pl.col(self._ranking.end).dt.timestamp("ms").alias(_END))
        if watermark is None:
            return frame
        late = frame.filter(pl.col(_END) - 1 <= watermark)
        if late.height:
            frame = frame.filter(pl.col(_END) - 1 > watermark)
            detail = f"every window of this row had ended; the watermark was at {timestamp(watermark)}"
            step.reject(lost(late, frame), "late", detail)
        return frame

    def _absorb(self, rows: pl.DataFrame, step: Step) -> None:
        numbers = np.arange(self._next, self._next + rows.height, dtype=np.int64)
        self._next += rows.height
        rows = self._ranking.best(rows.drop(AT).with_columns(pl.Series(_ARRIVAL, numbers)))
        self._add(rows)
        if step.durable:
            step.deltas.append(StateDelta(self.id, DeltaKind.APPEND, pack([rows])))

    def _add(self, rows: pl.DataFrame) -> None:
        """Put rows into their windows; a window that has doubled is cut to its best rows."""
        for (end,), part in rows.partition_by(_END, maintain_order=True, as_dict=True).items():
            window = self._windows.setdefault(end, _Window())
            window.frames.append(part)
            window.rows += part.height
            if window.rows > window.cut_from:
                best = self._best(window)
                window.frames, window.rows = [best], best.height
                window.cut_from = 2 * best.height + _SLACK_ROWS

    def _best(self, window: _Window) -> pl.DataFrame:
        return self._ranking.best(pl.concat(window.frames))

    def _take(self, watermark: int) -> list[_Window]:
        """The windows that have ended, which are forgotten."""
        ended = sorted(end for end in self._windows if end - 1 <= watermark)
        return [self._windows.pop(end) for end in ended]

    def _end(self, watermark: int) -> pl.DataFrame | None:
        """The best rows of the windows that have ended, with their ranks."""
        done = [self._best(window) for window in self._take(watermark)]
        if not done:
            return None
        place = (pl.int_range(pl.len(), dtype=pl.Int64).over(self._ranking.partition) + 1).alias(self._ranking.rank)
        ranked = [best.select(*self._ranking.columns, place) for best in done]
        return pl.concat(ranked).with_columns(pl.lit(NOWHERE, pl.Int64).alias(AT))
