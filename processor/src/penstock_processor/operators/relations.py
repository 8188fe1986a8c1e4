"""Relations as statements scan them: computed columns and the watermark are made once a cycle, for all statements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from penstock_processor.operators.changes import MOVED_CHANGE, settled
from penstock_processor.operators.interface import SourceBlock
from penstock_processor.operators.step import AT, MAX_WATERMARK, Flow, Step, with_at
from penstock_processor.operators.watermarks import Watermarks

__all__ = ["Computed", "Relation", "ScanOperator", "Written", "error_column"]


@dataclass(frozen=True, slots=True)
class Computed:
    """A computed column; `error` gives a code for rows that it cannot take."""

    name: str
    value: pl.Expr
    error: pl.Expr | None


@dataclass(frozen=True, slots=True)
class Written:
    """What one statement wrote to a derived relation in this cycle (None: no rows).

    `through_ms`: watermark that its plan vouches for, where the WATERMARK column is its time attribute.
    """

    statement: str
    frame: pl.DataFrame | None
    through_ms: int | None


class Relation:
    """A declared relation that statements read. `columns`: physical ones, in order.

    `watermark`: event time up to which a row says that its channel is complete; None: no WATERMARK is declared.
    `own`: channels of this task, where several tasks share the relation and the others' channels come from the log.
    `moved`: a repartition stream.
    """

    def __init__(self, name: str, columns: Sequence[str], *, computed: Sequence[Computed],
                 watermark: pl.Expr | None, clock: Watermarks | None, own: Sequence[str] = (),
                 moved: bool = False) -> None:  # fmt: skip
        self.name = name
        self.clock = clock
        self.own = tuple(own)
        self._moved = moved
        self._columns = list(columns)
        self._watermark = watermark
        self._computed = [each.value.alias(each.name) for each in computed]
        self._computed += [each.error.alias(error_column(each.name)) for each in computed if each.error is not None]

    def read(self, blocks: Sequence[SourceBlock], step: Step) -> Flow:
        """Rows of this cycle from ingest, and where they move the watermark."""
        frames, channels = [], []
        for block in blocks:
            if block.frame.height:
                name, partition = (None, None) if self._moved else (self.name, block.partition)
                frames.append(with_at(block.frame, step.admit(name, partition, block.frame)))
                channels.append(str(block.partition))
        scanned = self._scan(frames, channels, step)
        if scanned is not None and MOVED_CHANGE in scanned.columns:
            scanned = settled(scanned)
        if self.clock is None or not step.advancing:
            return self._flow(scanned)
        before = self.clock.combined
        for block in blocks:
            # A source that says how far it is speaks again, also when all of its partitions were silent before.
            if block.frame.height or block.idle or block.woken or block.through_ms is not None:
                self.clock.set_idle(str(block.partition), block.idle)
            self.clock.observe(str(block.partition), block.through_ms)
        return Flow(scanned, before, self.clock.advance())

    def chain(self, written: Sequence[Written], step: Step) -> Flow:
        """Rows of this cycle from the statements that write this relation."""
        frames, channels = [], []
        for each in written:
            if each.frame is not None and each.frame.height:
                frame = each.frame.select(self._columns)
                frames.append(with_at(frame, step.admit(self.name, None, frame)))
                channels.append(each.statement)
        scanned = self._scan(frames, channels, step)
        if self.clock is None or not step.advancing:
            return self._flow(scanned)
        before = self.clock.combined
        for each in written:
            self.clock.observe(each.statement, each.through_ms)
        return Flow(scanned, before, self.clock.advance())

    def end(self, written: Sequence[Written], step: Step) -> Flow:
        """The input has ended; the last rows of statements still come."""
        flow = self.chain(written, step)
        if self.clock is None:
            return Flow(flow.frame, None, MAX_WATERMARK)
        self.clock.end()
        return Flow(flow.frame, flow.before, self.clock.advance())

    def _flow(self, scanned: pl.DataFrame | None) -> Flow:
        at = None if self.clock is None else self.clock.combined
        return Flow(scanned, at, at)

    def _scan(self, frames: Sequence[pl.DataFrame], channels: Sequence[str], step: Step) -> pl.DataFrame | None:
        if not frames:
            return None
        frame = frames[0] if len(frames) == 1 else pl.concat(frames)
        if self._computed:
            frame = frame.with_columns(self._computed)
        if self.clock is not None and self._watermark is not None and step.advancing:
            times = frame.select(self._watermark.alias(AT)).to_series().to_physical()
            first = 0
            for part, channel in zip(frames, channels, strict=True):
                greatest_ms = times.slice(first, part.height).max()
                first += part.height
                if isinstance(greatest_ms, int):
                    self.clock.observe(channel, greatest_ms)
        return frame


class ScanOperator:
    """The flow of a relation in this cycle."""

    def __init__(self, relation: str) -> None:
        self._relation = relation

    def run(self, step: Step) -> Flow:
        """See `Operator`."""
        return step.flows[self._relation]


def error_column(name: str) -> str:
    """Hidden column with the error codes of a computed column."""
    return f"$error:{name}"
