"""In front of a repartition stream: what is left of an aggregate there, and the end of the part that writes it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import polars as pl

from penstock.model.batch import OP_COLUMN
from penstock.model.stream import StreamSpec
from penstock_processor.operators.accumulators import Accumulator
from penstock_processor.operators.chain import LAZY_FROM_ROWS
from penstock_processor.operators.changes import MOVED_CHANGE, brings
from penstock_processor.operators.interface import Output
from penstock_processor.operators.lateness import LAST_WINDOW, on_time
from penstock_processor.operators.step import AT, CHANGE, SLICE, Flow, Operator, Step
from penstock_processor.operators.windows import Windows

__all__ = ["READER_COLUMN", "PartialAggregateOperator", "RepartitionSink", "Spread"]

READER_COLUMN = "$reader"  # partition of the task that a row is for

#: Rows of a frame -> the reader of each (Int64).
Spread = Callable[[pl.DataFrame], pl.Series]


class PartialAggregateOperator:
    """Judges the rows of a batch and combines them by window and key; keeps nothing.

    Late rows are rejected here, where their event is known: this task's watermark is that of all tasks' partitions
    of the source, and behind the stream nothing is judged by a later one. `accumulators` None: rows pass as they are.
    """

    def __init__(self, source: Operator, windows: Windows, *, keys: Sequence[str],
                 accumulators: Sequence[Accumulator] | None) -> None:  # fmt: skip
        self._source = source
        self._windows = windows
        self._groups = (SLICE, *keys)
        self._partials = None if accumulators is None else [p for each in accumulators for p in each.partials]

    def run(self, step: Step) -> Flow:
        """See `Operator`."""
        flow = self._source.run(step)
        if flow.frame is None or flow.frame.height == 0:
            return Flow(None, flow.before, flow.after)
        rows = on_time(flow.frame, self._windows, flow.before, step)
        if self._partials is None:
            return Flow(rows.drop(AT, LAST_WINDOW, strict=False), flow.before, flow.after)
        if rows.height < LAZY_FROM_ROWS:
            return Flow(rows.group_by(self._groups).agg(self._partials), flow.before, flow.after)
        return Flow(rows.lazy().group_by(self._groups).agg(self._partials).collect(), flow.before, flow.after)


class RepartitionSink:
    """The end of a part of a statement. Its rows get the partition of the task that reads them.

    `required`: columns that must have a value, each with the code and detail of the rejection; `dropped`: rows with
    NULL there are of no use. `columns` None: all of the frame's.
    """

    def __init__(self, statement: str, label: str, target: StreamSpec, *, root: Operator, spread: Spread,
                 columns: Sequence[str] | None, required: Sequence[tuple[str, str, str]] = (),
                 dropped: Sequence[str] = ()) -> None:  # fmt: skip
        self.statement = statement
        self.label = label
        self.target = target
        self._root = root
        self._spread = spread
        self._columns = None if columns is None else list(columns)
        self._required = tuple(required)
        self._dropped = list(dropped)
        self._nothing = pl.DataFrame(schema={OP_COLUMN: pl.Int8()})

    def run(self, step: Step) -> tuple[Output | None, Flow]:
        """The output of this cycle, if there is any; nothing follows in memory."""
        step.statement = self.label
        flow = self._root.run(step)
        frame = flow.frame
        if frame is not None and frame.height:
            frame = self._ready(frame, step)
        if frame is None or frame.height == 0:
            if not step.advancing or flow.after == flow.before:
                return None, Flow(None, flow.before, flow.after)
            frame = self._nothing
        return Output(self.statement, self.target.name, frame, flow.after), Flow(None, flow.before, flow.after)

    def _ready(self, frame: pl.DataFrame, step: Step) -> pl.DataFrame:
        for name, code, detail in self._required:
            values = frame[name]
            if values.null_count():
                missing = frame.filter(values.is_null())
                step.reject(missing if CHANGE not in frame.columns else missing.filter(brings(missing)), code, detail)
                frame = frame.filter(values.is_not_null())
        if self._dropped:
            frame = frame.drop_nulls(self._dropped)
        if self._columns is None:
            frame = frame.drop(AT, strict=False)
        elif CHANGE in frame.columns:
            frame = frame.select(*self._columns, pl.col(CHANGE).alias(MOVED_CHANGE))
        else:
            frame = frame.select(self._columns)
        return frame.with_columns(self._spread(frame).alias(READER_COLUMN), pl.lit(0, dtype=pl.Int8).alias(OP_COLUMN))
