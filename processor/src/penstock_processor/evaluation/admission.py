"""What the edge would refuse of typed rows: missing columns and event times that cannot be. Pure."""

from __future__ import annotations

import polars as pl

from penstock.codecs.json_values import write_timestamp
from penstock.model.stream import StreamSpec
from penstock_processor.runtime.decode import Decoded
from penstock_processor.runtime.decode_exact import BadRow

__all__ = ["EARLIEST_TIME_MS", "Admission"]

#: Event times before 1900-01-01 are absurd, as at the ingest gateway.
EARLIEST_TIME_MS = -2_208_988_800_000


class Admission:
    """Checks rows of one source. `now_ms`: event times too far after it are refused (the stream's `max_ahead_s`)."""

    def __init__(self, spec: StreamSpec, *, now_ms: int) -> None:
        self._spec = spec
        # Nothing is deduplicated here, so rows without a dedupe key are fine (`penstock send` would give them one).
        needed = {*spec.primary_key, *([spec.time_column] if spec.time_column else [])}
        self._required = [c for c in spec.columns if not c.nullable or c.name in needed]
        self._latest_ms = now_ms + round(spec.max_ahead_s * 1000)

    def check(self, decoded: Decoded) -> tuple[pl.DataFrame, list[BadRow]]:
        """The rows that are admitted, and all bad ones; `BadRow.row` is the line."""
        frame = decoded.frame
        refused = [(mask, column.name) for column in self._required if (mask := frame[column.name].is_null()).any()]
        outside = self._outside(frame)
        if not refused and outside is None:
            return frame, decoded.bad
        bad = {row.row: row for row in decoded.bad}
        drop = pl.Series([False]).new_from_index(0, frame.height) if outside is None else outside
        if outside is not None:
            for row in outside.arg_true():
                line = decoded.line_of(row)
                bad[line] = BadRow(line, "time_out_of_range", self._when(frame, row))
        for mask, name in refused:
            code = "no_event_time" if name == self._spec.time_column else "missing_column"
            for row in mask.arg_true():
                line = decoded.line_of(row)
                bad[line] = BadRow(line, code, f"'{name}' is missing or null; it is needed")
            drop = drop | mask
        return frame.filter(~drop), [bad[line] for line in sorted(bad)]

    def _outside(self, frame: pl.DataFrame) -> pl.Series | None:
        """Rows whose event time cannot be; None if there are none."""
        name = self._spec.time_column
        if name is None or not frame.height:
            return None
        times = frame[name].to_physical()
        low, high = times.min(), times.max()
        if not isinstance(low, int) or not isinstance(high, int):
            return None
        if low >= EARLIEST_TIME_MS and high <= self._latest_ms:
            return None
        return ((times < EARLIEST_TIME_MS) | (times > self._latest_ms)).fill_null(False)

    def _when(self, frame: pl.DataFrame, row: int) -> str:
        name = self._spec.time_column or ""
        at_ms = int(frame[name].to_physical()[row])
        side, bound = ("before", EARLIEST_TIME_MS) if at_ms < EARLIEST_TIME_MS else ("after", self._latest_ms)
        return f"'{name}' is {write_timestamp(at_ms)}, {side} {write_timestamp(bound)}"
