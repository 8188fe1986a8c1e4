"""What statements wrote in a cycle, as batches of the log: one target's rows merged, in order, with its watermark."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import polars as pl

from penstock.codecs.arrow import encode_frame
from penstock.codecs.keys import frame_keys
from penstock.model.batch import OP_COLUMN, Encoding, NewBatch, Op
from penstock.model.partitioning import partitions_of
from penstock.model.stream import StreamSpec
from penstock_processor.logical.plan import AppPlan
from penstock_processor.operators.interface import Output
from penstock_processor.operators.repartition import READER_COLUMN
from penstock_processor.runtime.packing import packed

__all__ = ["OutputWriter"]


class OutputWriter:
    """Makes batches of outputs. Remembers how far each statement has come: a target is as far as its least one."""

    def __init__(self, plan: AppPlan, *, rows_max: int, packed_bytes: int = 256 * 1024) -> None:
        self._specs: Mapping[str, StreamSpec] = {name: source.spec for name, source in plan.sources.items()}
        self._writers: dict[str, list[str]] = {}
        for statement in plan.statements:
            self._writers.setdefault(statement.target, []).append(statement.name)
        self._part = plan.part
        self._packed_bytes = packed_bytes
        self._through: dict[str, int | None] = {}
        self._written: dict[str, int] = {}
        self._rows_max = rows_max

    def batches(self, outputs: Sequence[Output]) -> list[NewBatch]:
        """Batches of these outputs, target by target; a batch without rows where only the watermark moved."""
        frames: dict[str, list[pl.DataFrame]] = {}
        for output in outputs:
            frames.setdefault(output.target, [])
            if output.frame.height:
                frames[output.target].append(output.frame)
            self._through[output.statement] = output.watermark_ms
        made: list[NewBatch] = []
        for target, parts in frames.items():
            made.extend(self._of_target(self._specs[target], parts))
        return made

    def _of_target(self, spec: StreamSpec, parts: list[pl.DataFrame]) -> Iterator[NewBatch]:
        watermark_ms = self._watermark(spec.name)
        if not parts:
            if watermark_ms is not None:
                for partition in self._places(spec):
                    yield NewBatch(spec.name, partition, Encoding.ARROW, b"", 0, watermark_ms=watermark_ms)
            return
        frame = parts[0] if len(parts) == 1 else pl.concat(parts)
        frame = frame.filter(pl.col(OP_COLUMN) != int(Op.UPDATE_BEFORE))
        for partition, found in self._partitioned(frame, spec):
            rows = packed(found, rows_max=self._rows_max, size_bytes=self._packed_bytes) if spec.internal else found
            yield from self._of_partition(spec, partition, rows=rows, watermark_ms=watermark_ms)

    def _of_partition(
        self, spec: StreamSpec, partition: int, *, rows: pl.DataFrame, watermark_ms: int | None
    ) -> Iterator[NewBatch]:
        slices = list(rows.iter_slices(self._rows_max)) if rows.height else []
        for i, piece in enumerate(slices):
            low_ms, high_ms = _times(piece, spec.time_column)
            yield NewBatch(
                stream=spec.name,
                partition=partition,
                encoding=Encoding.ARROW,
                payload=encode_frame(piece),
                count=piece.height,
                min_time_ms=low_ms,
                max_time_ms=high_ms,
                watermark_ms=watermark_ms if i == len(slices) - 1 else None,
            )
        if not slices and watermark_ms is not None:
            yield NewBatch(spec.name, partition, Encoding.ARROW, b"", 0, watermark_ms=watermark_ms)

    def _places(self, spec: StreamSpec) -> list[int]:
        """Partitions of the target that this task writes."""
        part = self._part
        if part is None:
            return list(range(spec.partitions))
        if spec.internal == "repartition":
            return [reader * part.parallelism + part.partition for reader in range(part.parallelism)]
        return [part.partition]

    def _partitioned(self, frame: pl.DataFrame, spec: StreamSpec) -> Iterable[tuple[int, pl.DataFrame]]:
        """Rows by partition, also those without rows: by what the operators decided, by task, or by key."""
        places = self._places(spec)
        if READER_COLUMN in frame.columns:
            readers = frame[READER_COLUMN]
            frame = frame.drop(READER_COLUMN)
            return [(place, frame.filter(readers == reader)) for reader, place in enumerate(places)]
        if len(places) == 1:
            return [(places[0], frame)]
        columns = list(spec.key or spec.primary_key) or [c.name for c in spec.columns]
        keyed = pl.Series(partitions_of(frame_keys(frame, columns), spec.partitions), dtype=pl.Int64)
        return [(place, frame.filter(keyed == place)) for place in places]

    def _watermark(self, target: str) -> int | None:
        """The target's watermark if it has moved since it was last written."""
        known = [self._through.get(name) for name in self._writers.get(target, [target])]
        through = [ms for ms in known if ms is not None]
        if len(through) < len(known):
            return None  # a writer without event time, or not heard of since the restore
        least = min(through)
        if self._written.get(target, least - 1) >= least:
            return None
        self._written[target] = least
        return least


def _times(frame: pl.DataFrame, column: str | None) -> tuple[int | None, int | None]:
    if column is None or column not in frame.columns:
        return None, None
    times = frame[column].cast(pl.Int64)
    low, high = times.min(), times.max()
    return (low, high) if isinstance(low, int) and isinstance(high, int) else (None, None)
