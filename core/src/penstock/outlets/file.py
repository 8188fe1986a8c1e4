"""Rows to files in a folder: NDJSON, CSV or Parquet. EXACTLY_ONCE.

A batch is a file, named by its place in the stream: `<table>-<epoch>-<partition>-<first>-<next>.<format>` (with
`-r<offset>` behind it for a row that is delivered anew). It is written aside under a name with a dot in front,
synced, renamed and the folder synced: who sees a file sees all of it.
What was reached is the last file's `next`; so files may be taken away, but for the newest of each partition.
"""

from __future__ import annotations

import asyncio
import io
import os
import re
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from penstock.codecs.rows import json_frame
from penstock.model.batch import OP_COLUMN, Op
from penstock.model.stream import Relation, StreamSpec
from penstock.outlets.options import FileOutletOptions
from penstock.outlets.rows import json_lines
from penstock.ports.outlet import Guarantee, OutBatch, OutletUnavailable, Reached, RefusedRow

__all__ = ["FileOutlet"]

_ENDINGS = {"json": "ndjson", "csv": "csv", "parquet": "parquet"}
_ASIDE = "."


class FileOutlet:
    """Implements `ports.outlet.Outlet`."""

    def __init__(self, spec: StreamSpec, options: FileOutletOptions, *, partition: int) -> None:
        self._spec, self._format = spec, options.format
        self._folder = Path(options.path)
        self._named = re.compile(rf"{re.escape(spec.name)}-(\d+)-{partition}-(\d+)-(\d+)(?:-r\d+)?\.[a-z]+")

    @property
    def guarantee(self) -> Guarantee:
        """Exactly once, as the names of the files say what they hold."""
        return Guarantee.EXACTLY_ONCE

    async def open(self) -> Reached | None:
        """Make the folder, remove what was left half written, and see how far the files reach."""
        try:
            return await asyncio.to_thread(self._look)
        except OSError as error:
            raise self._unavailable(error) from error

    async def deliver(self, batch: OutBatch) -> Sequence[RefusedRow]:
        """One file."""
        writing = asyncio.ensure_future(asyncio.to_thread(self._write, batch))
        try:
            await asyncio.shield(writing)
        except asyncio.CancelledError:
            await asyncio.wait({writing})  # a file must not appear once another outlet has looked at the folder
            raise
        except OSError as error:
            raise self._unavailable(error) from error
        return []

    async def close(self) -> None:
        """Nothing stays open."""

    def _look(self) -> Reached | None:
        self._folder.mkdir(parents=True, exist_ok=True)
        reached: Reached | None = None
        for entry in os.scandir(self._folder):
            if entry.name.startswith(_ASIDE) and self._named.fullmatch(entry.name[len(_ASIDE) :]):
                Path(entry).unlink(missing_ok=True)
            elif (named := self._named.fullmatch(entry.name)) is not None:
                found = Reached(int(named[1]), int(named[3]))
                if reached is None or (found.epoch, found.next) > (reached.epoch, reached.next):
                    reached = found
        return reached

    def _write(self, batch: OutBatch) -> None:
        again = f"-r{batch.offsets[0]}" if batch.first == batch.next else ""
        name = (
            f"{batch.stream}-{batch.epoch}-{batch.partition}-{batch.first:012d}-{batch.next:012d}{again}"
            f".{_ENDINGS[self._format]}"
        )
        aside = self._folder / (_ASIDE + name)
        with aside.open("wb") as file:
            file.write(self._encoded(batch))
            file.flush()
            os.fsync(file.fileno())
        aside.rename(self._folder / name)
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _encoded(self, batch: OutBatch) -> bytes:
        if self._format == "json":
            return b"\n".join(json_lines(batch, self._spec)) + b"\n"
        text = io.BytesIO()
        if self._format == "csv":
            self._with_changes(batch, json_frame(batch.frame, self._spec.columns)).write_csv(text)
        else:
            columns = [column.name for column in self._spec.columns]
            self._with_changes(batch, batch.frame.select(columns)).write_parquet(text)
        return text.getvalue()

    def _with_changes(self, batch: OutBatch, rows: pl.DataFrame) -> pl.DataFrame:
        """Rows of a table with `$op`; of a `-D` the key columns only."""
        if self._spec.relation is not Relation.TABLE:
            return rows
        ops = batch.frame[OP_COLUMN]
        kept = [name for name in rows.columns if name not in self._spec.primary_key]
        return rows.with_columns(
            *(pl.when(ops != int(Op.DELETE)).then(pl.col(name)).alias(name) for name in kept),
            ops.replace_strict({int(op): op.text for op in Op}, return_dtype=pl.String).alias(OP_COLUMN),
        )

    def _unavailable(self, error: OSError) -> OutletUnavailable:
        return OutletUnavailable(f"folder {self._folder}: {error.strerror or error}; make room or correct 'path'")
