"""Where the rows of an app's targets go: JSON lines in files or standard output, or a table's end state."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

import msgspec
import polars as pl

from penstock.codecs.rows import json_frame, rows_to_lines
from penstock.model.batch import OP_COLUMN, Op
from penstock.model.stream import Relation, StreamSpec
from penstock_processor.operators.interface import Output

__all__ = ["TABLE_MARK", "EndState", "Sinks", "open_sinks"]

#: Names the target of a row where several share standard output.
TABLE_MARK = "$table"
_COMPACT_FROM_ROWS = 200_000
_OP_TEXTS = pl.Series([op.text for op in Op])  # by the number of the operation


class EndState:
    """The rows of a table with a primary key as they are after all changes so far."""

    def __init__(self, spec: StreamSpec) -> None:
        self._key = list(spec.primary_key)
        self._parts: list[pl.DataFrame] = []
        self._rows = 0
        self._kept = 0

    def apply(self, frame: pl.DataFrame) -> None:
        """Take changes in order; memory stays within a multiple of the table's rows."""
        self._parts.append(frame)
        self._rows += frame.height
        if self._rows > max(_COMPACT_FROM_ROWS, 2 * self._kept):
            self._fold()

    def rows(self) -> pl.DataFrame | None:
        """Rows in order of the primary key; None if nothing ever came."""
        self._fold()
        if not self._parts:
            return None
        return self._parts[0].filter(pl.col(OP_COLUMN) != int(Op.DELETE)).sort(self._key, nulls_last=False)

    def _fold(self) -> None:
        if self._parts:
            folded = pl.concat(self._parts).unique(self._key, keep="last", maintain_order=True)
            self._parts = [folded]
            self._rows = self._kept = folded.height


class Sinks:
    """Writes outputs of a run. Targets without a destination are dropped."""

    def __init__(
        self, specs: Mapping[str, StreamSpec], destinations: Mapping[str, BinaryIO], *, marked: bool, final: bool
    ) -> None:
        self._specs = {name: specs[name] for name in destinations}
        self._destinations = destinations
        self._marked = marked
        self._ends = {
            name: EndState(spec) for name, spec in self._specs.items() if final and spec.relation is Relation.TABLE
        }

    def write(self, outputs: Sequence[Output]) -> None:
        """Rows in the order of their emission; tables under `final` are kept for `close`."""
        for output in outputs:
            if output.target not in self._specs or not output.frame.height:
                continue
            end = self._ends.get(output.target)
            if end is not None:
                end.apply(output.frame)
            else:
                self._emit(output.target, output.frame, with_op=True)

    def close(self) -> None:
        """Write end states and flush."""
        for name, end in self._ends.items():
            rows = end.rows()
            if rows is not None:
                self._emit(name, rows, with_op=False)
        for destination in self._destinations.values():
            destination.flush()

    def _emit(self, target: str, frame: pl.DataFrame, *, with_op: bool) -> None:
        spec = self._specs[target]
        written = frame.filter(pl.col(OP_COLUMN) != int(Op.UPDATE_BEFORE))
        op = with_op and spec.relation is Relation.TABLE
        if any(column.type.is_nested for column in spec.columns):
            ops = _OP_TEXTS.gather(written[OP_COLUMN]).to_list() if op else []
            for line in self._lines(target, rows_to_lines(written, spec.columns), ops):
                self._destinations[target].write(line)
            return
        rows = json_frame(written, spec.columns)
        if self._marked:
            rows = rows.select(pl.lit(target).alias(TABLE_MARK), pl.all())
        if op:
            rows = rows.with_columns(_OP_TEXTS.gather(written[OP_COLUMN]).alias(OP_COLUMN))
        if rows.height:
            text = io.BytesIO()  # Polars would write past the file object, and know no BrokenPipeError
            rows.write_ndjson(text)
            self._destinations[target].write(text.getbuffer())

    def _lines(self, target: str, lines: Sequence[bytes], ops: Sequence[str]) -> Iterator[bytes]:
        """Lines with the name of the table before and the change behind their columns."""
        mark = f'{{"{TABLE_MARK}":{msgspec.json.encode(target).decode()},'.encode() if self._marked else b"{"
        for n, line in enumerate(lines):
            end = f',"{OP_COLUMN}":"{ops[n]}"}}\n'.encode() if ops else b"}\n"
            yield mark + line[1:-1] + end


def open_sinks(
    specs: Mapping[str, StreamSpec], outputs: Mapping[str, str], *, final: bool, stdout: BinaryIO, stack: ExitStack
) -> Sinks:
    """Sinks for `--output TABLE=FILE|-`. Without any, every target goes to standard output with `$table`.

    `specs`: the targets of the app. Files are closed by `stack`. For the null device nothing is rendered: a run then
    measures the app, as with Flink's `blackhole`.
    """
    if not outputs:
        return Sinks(specs, dict.fromkeys(specs, stdout), marked=True, final=final)
    destinations: dict[str, BinaryIO] = {}
    for name, place in outputs.items():
        if place == "-":
            destinations[name] = stdout
        elif place != os.devnull:
            file = Path(place).open("wb")  # noqa: SIM115 # the stack closes it
            destinations[name] = stack.enter_context(file)
    return Sinks(specs, destinations, marked=False, final=final)
