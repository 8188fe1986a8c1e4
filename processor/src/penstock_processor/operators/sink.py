"""The end of a statement: its rows as changes of the target.

Operations: a stream gets +I. A table gets +I where the plan makes each primary key once (a windowed aggregate whose
groups are part of the key, by a single writer), else +U: an upsert, for whether the key is there is known to the
table, not to the statement. Early results bring operations of their own. Of an updating plan what is left of a
cycle by primary key is written.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl

from penstock.codecs.frames import polars_schema
from penstock.model.batch import OP_COLUMN, PENDING_COLUMN, Op
from penstock.model.stream import StreamSpec
from penstock_processor.operators.changes import brings, net_changes
from penstock_processor.operators.interface import Output
from penstock_processor.operators.step import CHANGE, Flow, Operator, Step

__all__ = ["Sink"]


class Sink:
    """Runs a statement. `complete`: how far the target is complete at a watermark of the plan (both ms)."""

    def __init__(self, statement: str, target: StreamSpec, *, root: Operator, op: Op,
                 complete: Callable[[int], int | None]) -> None:  # fmt: skip
        self.statement = statement
        self.label = statement
        self.target = target
        self._root = root
        self._op = op
        self._complete = complete
        self._names = [column.name for column in target.columns]
        self._required = [c.name for c in target.columns if not c.nullable or c.name in target.primary_key]
        self._early = target.emit == "early"
        schema = polars_schema(target.columns) | {OP_COLUMN: pl.Int8()}
        self._nothing = pl.DataFrame(schema=schema | ({PENDING_COLUMN: pl.Boolean()} if self._early else {}))

    def run(self, step: Step) -> tuple[Output | None, Flow]:
        """The output of this cycle, if there is any, and the flow of changes behind it."""
        step.statement = self.statement
        flow = self._root.run(step)
        frame = flow.frame
        if frame is not None and frame.height:
            frame = self._changes(self._checked(frame, step))
        if frame is None or frame.height == 0:
            if not step.advancing or flow.after == flow.before:
                return None, Flow(None, flow.before, flow.after)
            frame = self._nothing
        through = None if flow.after is None else self._complete(flow.after)
        return Output(self.statement, self.target.name, frame, through), Flow(frame, flow.before, flow.after)

    def _checked(self, frame: pl.DataFrame, step: Step) -> pl.DataFrame:
        """Rows whose NOT NULL and key columns have values (Flink: `table.exec.sink.not-null-enforcer`)."""
        for name in self._required:
            values = frame[name]
            if values.null_count() and CHANGE in frame.columns and not self._early:
                frame = self._taken_or_whole(frame, name, step)
            elif values.null_count():
                detail = f"'{name}' of {self.target.name} must not be NULL"
                step.reject(frame.filter(values.is_null()), "null_value", detail)
                frame = frame.filter(values.is_not_null())
        return frame

    def _taken_or_whole(self, frame: pl.DataFrame, name: str, step: Step) -> pl.DataFrame:
        """The same for changes: only what is brought is rejected, and what was rejected is never taken back."""
        missing = frame[name].is_null()
        step.reject(
            frame.filter(missing & brings(frame)), "null_value", f"'{name}' of {self.target.name} must not be NULL"
        )
        return frame.filter(~missing | (~brings(frame) & (name not in self.target.primary_key)))

    def _changes(self, frame: pl.DataFrame) -> pl.DataFrame:
        if CHANGE in frame.columns and not self._early:
            frame = net_changes(frame, self.target.primary_key, self._names)
        columns = [frame[name] for name in self._names]
        if OP_COLUMN in frame.columns:
            ops = frame[OP_COLUMN].fill_null(int(self._op))
            if self._op is Op.UPDATE_AFTER:  # the same key may come from elsewhere: nothing is known to be new
                ops = ops.replace(int(Op.INSERT), int(Op.UPDATE_AFTER))
        else:
            ops = pl.Series(OP_COLUMN, np.full(frame.height, self._op, np.int8))
        columns.append(ops)
        if self._early and PENDING_COLUMN in frame.columns:
            columns.append(frame[PENDING_COLUMN].fill_null(False))
        elif self._early:
            columns.append(pl.Series(PENDING_COLUMN, np.zeros(frame.height, np.bool_)))
        return pl.DataFrame(columns)
