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
#: So many texts are read exactly at once after one of which less than half was proven (every row of such a stream has
#: unknown fields or nulls, and reading it twice halves the speed); then the fast path gets another chance.
EXACT_TURNS = 15
_NEWLINE = 0x0A


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
        self._exact_turns = 0

    def decode(self, text: bytes, *, count: int | None = None) -> Decoded:
        """Rows of `text`, JSON objects joined by newlines without blank lines. Bad lines are named, never raised.

        `count`: of its lines, if it is known.
        """
        if not text:
            return Decoded(empty_frame(self._columns), None, [])
        fast = self._read_fast(text, count)
        if fast is None:
            lines = text.split(b"\n")
            frame, bad = self._exact.read(lines)
            return Decoded(frame, _kept(len(lines), bad) if bad else None, bad)
        frame, proven = fast
        return Decoded(frame, None, []) if proven is None else self._patched(frame, proven, text)

    def _read_fast(self, text: bytes, count: int | None) -> tuple[pl.DataFrame, npt.NDArray[np.bool_] | None] | None:
        if not self._fast or len(text) < self._small_bytes:
            return None
        if self._exact_turns:
            self._exact_turns -= 1
            return None
        fast = read_fast(text, self._columns, count=text.count(b"\n") + 1 if count is None else count)
        if fast is None or (fast[1] is not None and 2 * np.count_nonzero(fast[1]) < len(fast[1])):
            self._exact_turns = EXACT_TURNS
        return fast

    def _patched(self, frame: pl.DataFrame, proven: npt.NDArray[np.bool_], text: bytes) -> Decoded:
        """Proven rows from the fast frame, the others read exactly, in the order of the lines."""
        doubtful = np.flatnonzero(~proven)
        ends = np.append(np.flatnonzero(np.frombuffer(text, dtype=np.uint8) == _NEWLINE), len(text))
        starts = np.concatenate([[0], ends[:-1] + 1])
        exact, bad_here = self._exact.read([text[starts[i] : ends[i]] for i in doubtful])
        bad = [BadRow(int(doubtful[b.row]), b.code, b.detail) for b in bad_here]
        good = np.delete(doubtful, [b.row for b in bad_here])
        origin = np.arange(frame.height, dtype=np.int64)
        origin[good] = frame.height + np.arange(len(good))  # the exact rows stand behind the fast ones
        kept = _kept(frame.height, bad) if bad else None
        merged = pl.concat([frame, exact])[origin if kept is None else origin[kept]]
        return Decoded(merged, kept, bad)


def _kept(count: int, bad: Sequence[BadRow]) -> npt.NDArray[np.int64]:
    return np.delete(np.arange(count, dtype=np.int64), [b.row for b in bad])
