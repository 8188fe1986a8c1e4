"""Events from the files of a folder: NDJSON, CSV or Parquet, those that come later included, in order of their names.

The cursor says of each file how far it was taken (bytes of text, rows of Parquet). A text file may grow: whole
lines are taken, and a last one without an end once the file has stayed as it is for the monitor interval. Parquet
files are moved in whole. Names that begin with `.` or `_` are passed over: they are being written.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

import msgspec
import polars as pl

from penstock.codecs.rows import rows_to_ndjson
from penstock.feeds.csv_lines import csv_lines
from penstock.feeds.options import FileFeedOptions
from penstock.model.stream import StreamSpec
from penstock.ports.clock import Clock
from penstock.ports.feed import Fed, FeedUnavailable

__all__ = ["FileFeed"]

_FILES_MAX = 10_000  # of a folder; the cursor names each
_ROWS_MAX = 20_000  # of a Parquet file in one piece
_cursor_of = msgspec.json.Decoder(dict[str, int]).decode


@dataclass(frozen=True, slots=True)
class _Piece:
    """What is new in one file, and how far it is taken with it."""

    name: str
    lines: bytes
    after: int


class FileFeed:
    """Implements `ports.feed.Feed`."""

    replays = True

    def __init__(self, spec: StreamSpec, options: FileFeedOptions, *, clock: Clock, piece_max_bytes: int) -> None:
        self._columns, self._options, self._clock = spec.columns, options, clock
        self._folder = Path(options.path)
        self._piece_max_bytes = piece_max_bytes
        self._taken: dict[str, int] = {}
        self._unended: dict[str, tuple[int, float]] = {}  # files with a last line without an end: size, since when

    async def open(self, cursor: str | None) -> None:
        """Go on behind `cursor`."""
        try:
            self._taken = {} if cursor is None else _cursor_of(cursor)
        except msgspec.DecodeError as error:
            raise FeedUnavailable(f"the position in folder {self._folder} cannot be read: {error}") from error

    async def take(self) -> Fed | None:
        """The next piece of one file; None, after the monitor interval, if there is none."""
        try:
            piece = await asyncio.to_thread(self._look)
        except (OSError, ValueError) as error:
            raise FeedUnavailable(f"folder {self._folder}: {error}") from error
        if piece is None:
            await self._clock.sleep(self._options.monitor_s)
            return None
        self._taken[piece.name] = piece.after
        return Fed(piece.lines, msgspec.json.encode(self._taken).decode())

    async def close(self) -> None:
        """Nothing stays open."""

    def _look(self) -> _Piece | None:
        """Files that are gone are forgotten: one that comes back is a new one."""
        found = sorted(
            path for path in self._folder.iterdir() if path.is_file() and not path.name.startswith((".", "_"))
        )
        if len(found) > _FILES_MAX:
            raise FeedUnavailable(f"folder {self._folder} has more than {_FILES_MAX:,} files; move old ones away")
        names = {path.name for path in found}
        self._taken = {name: at for name, at in self._taken.items() if name in names}
        self._unended = {name: seen for name, seen in self._unended.items() if name in names}
        for path in found:
            at = self._taken.get(path.name, 0)
            piece = self._piece(path, at)
            if piece is not None:
                return piece
        return None

    def _piece(self, path: Path, at: int) -> _Piece | None:
        if self._options.format == "parquet":
            return self._of_parquet(path, at)
        text = self._text(path, at)
        if text is None:
            return None
        if self._options.format == "csv":
            lines, read_bytes = csv_lines(path, text, at=at, columns=self._columns)
            return _Piece(path.name, lines, at + read_bytes)
        return _Piece(path.name, text, at + len(text))

    def _text(self, path: Path, at: int) -> bytes | None:
        """Whole lines behind `at`, about a piece of them; None if there are none yet."""
        size_bytes = path.stat().st_size
        if size_bytes <= at:
            return None
        with path.open("rb") as file:
            file.seek(at)
            text = file.read(self._piece_max_bytes)
        whole = text.rfind(b"\n") + 1
        if whole == 0 and len(text) < self._piece_max_bytes and not self._stays(path.name, size_bytes):
            return None
        self._unended.pop(path.name, None)
        return text[:whole] if whole else text  # a last line without an end, or one too long, which is refused

    def _stays(self, name: str, size_bytes: int) -> bool:
        """Whether the file has been of this size for the monitor interval: other files are looked at meanwhile."""
        now_s = self._clock.monotonic_s()
        known_bytes, since_s = self._unended.get(name, (-1, now_s))
        if known_bytes != size_bytes:
            self._unended[name] = size_bytes, now_s
            return False
        return now_s - since_s >= self._options.monitor_s

    def _of_parquet(self, path: Path, at: int) -> _Piece | None:
        try:
            frame = pl.scan_parquet(path, glob=False).slice(at, _ROWS_MAX).collect()
            known = [column for column in self._columns if column.name in frame.columns]
            lines = rows_to_ndjson(frame, known) if frame.height else b""
        except pl.exceptions.PolarsError as error:
            why = str(error).partition("\n")[0]
            raise ValueError(f"{path.name}: {why}; move it in whole, under another name first, or away") from error
        return _Piece(path.name, lines, at + frame.height) if frame.height else None
