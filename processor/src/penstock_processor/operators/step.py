"""One cycle as operators see it: flows of rows between them, where each row came from, and what the cycle produced.

Hidden columns travel beside the rows and start with `$`, which no SQL name does. `$at` says where a row came from:
the number of its block in this step (high 32 bits) and the row in that block (low 32 bits), or -1 for rows out of
state.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import msgspec
import numpy as np
import polars as pl

from penstock.ports.log import StateDelta
from penstock_processor.operators.interface import RowProblem

__all__ = [
    "AT",
    "CHANGE",
    "ERROR",
    "MAX_WATERMARK",
    "NOWHERE",
    "SLICE",
    "Flow",
    "Operator",
    "Stateful",
    "Step",
    "timestamp",
    "with_at",
]

AT = "$at"
CHANGE = "$op"  # of an updating flow: its operation, Int8 (`penstock.model.batch.Op`); others do not have it
ERROR = "$error"  # code of the first error of the row, NULL while it is well
SLICE = "$slice"  # start of the slice of event time that a row falls into, epoch milliseconds
NOWHERE = -1
MAX_WATERMARK = 2**63 - 1  # the input has ended (Flink: Long.MAX_VALUE)


@dataclass(frozen=True, slots=True)
class Flow:
    """What an operator hands on in one cycle: rows (None: none) and its watermark before and after the cycle."""

    frame: pl.DataFrame | None
    before: int | None
    after: int | None


@dataclass(frozen=True, slots=True)
class _Block:
    relation: str | None  # None: of a repartition stream, which nobody knows; its rows are shown by their values
    partition: int | None  # None: rows of a derived relation, chained in memory
    frame: pl.DataFrame


@dataclass(slots=True)
class Step:
    """The cycle in progress. `advancing` is false for a replay: rows are judged by watermarks that stay.

    `now_ms`: the app's clock, by which unused state is forgotten; 0 stands still, so that nothing is.
    """

    advancing: bool = True
    durable: bool = True
    statement: str = ""
    now_ms: int = 0
    flows: dict[str, Flow] = field(default_factory=dict)
    problems: list[RowProblem] = field(default_factory=list)
    deltas: list[StateDelta] = field(default_factory=list)
    _blocks: list[_Block] = field(default_factory=list)

    def admit(self, relation: str | None, partition: int | None, frame: pl.DataFrame) -> int:
        """Register a block of rows; returns the `$at` of its first row."""
        self._blocks.append(_Block(relation, partition, frame))
        return (len(self._blocks) - 1) << 32

    def reject(self, rows: pl.DataFrame, codes: str | Sequence[str], detail: str) -> None:
        """Report each of `rows` (with `$at`) as a problem of the running statement. `codes`: as `Compiled.error`."""
        origins = rows[AT].to_list()
        each = [codes] * len(origins) if isinstance(codes, str) else codes
        for n, (at, found) in enumerate(zip(origins, each, strict=True)):
            code, colon, said = found.partition(": ")
            self.problems.append(self._problem(rows, n, at=at, code=code, detail=f"{detail}{colon}{said}"))

    def _problem(self, rows: pl.DataFrame, n: int, *, at: int, code: str, detail: str) -> RowProblem:
        if at == NOWHERE:
            return RowProblem(None, None, None, self.statement, code, detail, _json_row(rows, n))
        block, index = self._blocks[at >> 32], at & 0xFFFFFFFF
        if block.partition is None:
            values = _json_row(block.frame, index)
            return RowProblem(block.relation, None, None, self.statement, code, detail, values)
        return RowProblem(block.relation, block.partition, index, self.statement, code, detail)


class Operator(Protocol):
    """A physical operator: pulls from its inputs and returns its flow of this cycle."""

    def run(self, step: Step) -> Flow:
        """Called once a cycle. The frame has the operator's columns and `$at`."""
        ...


class Stateful(Operator, Protocol):
    """An operator whose state lives in deltas."""

    @property
    def id(self) -> str:
        """Id of its state in the log."""
        ...

    def restore(self, deltas: Sequence[StateDelta]) -> None:
        """Apply deltas in commit order."""
        ...

    def compact(self) -> StateDelta:
        """The whole state as one REPLACE."""
        ...

    def size(self) -> int:
        """Rows of state."""
        ...


def with_at(frame: pl.DataFrame, first: int) -> pl.DataFrame:
    """The frame with `$at` counting from `first`."""
    return frame.hstack([pl.Series(AT, np.arange(first, first + frame.height, dtype=np.int64))])


def timestamp(at_ms: int) -> str:
    """Epoch milliseconds as people read them."""
    return str(np.datetime64(at_ms, "ms"))


def _json_row(frame: pl.DataFrame, index: int) -> str:
    row = {name: value for name, value in frame.row(index, named=True).items() if not name.startswith("$")}
    return msgspec.json.encode(row).decode()
