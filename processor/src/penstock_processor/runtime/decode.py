"""Source payloads to typed columns: several batches merged into one frame, read as admission read them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from penstock.codecs.frames import empty_frame
from penstock.model.stream import Column
from penstock_processor.runtime.decode_exact import BadRow, ExactReader
from penstock_processor.runtime.decode_fast import FAST_KINDS, read_fast

__all__ = ["SMALL_BYTES", "Decoded", "RowDecoder"]

#: Below this, msgspec is faster than the fixed cost of Polars' reader (0.4 ms, measured).
SMALL_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Decoded:
    """Rows of NDJSON text. `lines[i]` is the line of frame row i; None: row i is line i (nothing was bad)."""

    frame: pl.DataFrame
    lines: npt.NDArray[np.int64] | None
    bad: list[BadRow]

    def line_of(self, row: int) -> int:
        """Index of the line that frame row `row` came from."""
        return row if self.lines is None else int(self.lines[row])


class RowDecoder:
    """Decodes lines of one stream: physical columns, in order, in their Polars types. Not for two threads at once."""

    def __init__(
        self, columns: Sequence[Column], *, small_bytes: int = SMALL_BYTES, forbid_unknown: bool = False
    ) -> None:
        self._columns = tuple(columns)
        self._exact = ExactReader(self._columns, forbid_unknown=forbid_unknown)
        self._fast = all(c.type.kind in FAST_KINDS for c in self._columns)
        self._small_bytes = small_bytes

    def decode(self, text: bytes) -> Decoded:
        """Rows of `text`, JSON objects joined by newlines without blank lines. Bad lines are named, never raised."""
        if not text:
            return Decoded(empty_frame(self._columns), None, [])
        fast = read_fast(text, self._columns) if self._fast and len(text) >= self._small_bytes else None
        lines = text.split(b"\n") if fast is None or fast[1] is not None else []
        if fast is None:
            frame, bad = self._exact.read(lines)
            return Decoded(frame, _kept(len(lines), bad) if bad else None, bad)
        frame, proven = fast
        return Decoded(frame, None, []) if proven is None else self._patched(frame, proven, lines)

    def _patched(self, frame: pl.DataFrame, proven: npt.NDArray[np.bool_], lines: list[bytes]) -> Decoded:
        """Proven rows from the fast frame, the others read exactly, in the order of the lines."""
        doubtful = np.flatnonzero(~proven)
        exact, bad_here = self._exact.read([lines[i] for i in doubtful])
        bad = [BadRow(int(doubtful[b.row]), b.code, b.detail) for b in bad_here]
        good = np.delete(doubtful, [b.row for b in bad_here])
        origin = np.concatenate([np.flatnonzero(proven), good])
        order = np.argsort(origin, kind="stable")
        merged = pl.concat([frame.filter(pl.Series(proven)), exact])[order]
        return Decoded(merged, np.sort(origin) if bad else None, bad)


def _kept(count: int, bad: Sequence[BadRow]) -> npt.NDArray[np.int64]:
    return np.delete(np.arange(count, dtype=np.int64), [b.row for b in bad])
