"""What the runtime calls: blocks of source rows go in, outputs, problems and state deltas come out. No I/O, no clock.

An engine is synchronous, belongs to one app and is called by one thread at a time. After an error of `step`, or when
the cycle could not be committed, its memory is ahead of the log: build a new one and `restore` it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import polars as pl

from penstock.ports.log import StateDelta

__all__ = ["CountsHits", "Engine", "Found", "LooksUp", "Output", "RowProblem", "RuleHits", "SourceBlock",
           "StepHits", "StepResult", "Wanted"]  # fmt: skip


@dataclass(frozen=True, slots=True)
class SourceBlock:
    """Rows of one source relation and partition. The frame has the spec's physical columns, in order.

    `through_ms`: the source says that it is complete up to here; applied after the rows (also with an empty frame).
    `idle`: the partition is silent and holds back no watermark until its next block with rows or `through_ms`, or
    that is `woken`. `appended_ms`: when the log took the newest of the rows, where that is known.
    """

    relation: str
    partition: int
    frame: pl.DataFrame
    through_ms: int | None = None
    idle: bool = False
    woken: bool = False
    appended_ms: int | None = None


@dataclass(frozen=True, slots=True)
class RowProblem:
    """A row that a statement could not take. `row` is the index in the block (of this `step`) where it is known.

    `code`: `late`, `no_event_time`, or an error code of an expression (`division_by_zero`, ...).
    `values`: JSON text of the row when it came out of state and no source row is known.
    `statement` is empty when the row failed before any statement (a computed column of the relation).
    """

    relation: str | None
    partition: int | None
    row: int | None
    statement: str
    code: str
    detail: str
    values: str | None = None


@dataclass(frozen=True, slots=True)
class Output:
    """Rows that a statement writes to its target, or only news of the watermark (empty frame).

    The frame has the target's columns in order, then OP_COLUMN (Int8) and, if the target's emit is early,
    PENDING_COLUMN (Boolean). `watermark_ms`: the target is complete up to here as far as this statement is concerned;
    None: no event time.
    """

    statement: str
    target: str
    frame: pl.DataFrame
    watermark_ms: int | None


@dataclass(frozen=True, slots=True)
class RuleHits:
    """How often a rule has hit since it was made, and when the log took the newest event that did."""

    hits: int
    last_ms: int | None


@dataclass(frozen=True, slots=True)
class StepHits:
    """What a cycle changed: the new counts of the rules that hit, and the number of hits of each severity."""

    by_rule: Mapping[str, RuleHits]
    by_severity: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class StepResult:
    """Everything one cycle has to commit, in order."""

    outputs: list[Output]
    problems: list[RowProblem]
    deltas: list[StateDelta]
    hits: StepHits | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """What an operator must have looked up before a step: distinct keys, under the names of the key's columns."""

    operator: str
    table: str
    keys: pl.DataFrame


@dataclass(frozen=True, slots=True)
class Found:
    """What was found for an operator's keys: rows with the columns of the table. `failed`: keys without an answer,
    whose rows are rejected with `detail`.
    """

    rows: pl.DataFrame
    failed: pl.DataFrame | None = None
    detail: str = ""


class Engine(Protocol):
    """An app's operators. Implementation: `compile.build.build_engine`."""

    @property
    def operators(self) -> frozenset[str]:
        """Ids of the operators that hold state. An id in the log that is not here has left the app: drop it."""
        ...

    def restore(self, deltas: Mapping[str, Sequence[StateDelta]]) -> None:
        """Bring a new engine to where the deltas end (in commit order per operator). Unknown ids are ignored."""
        ...

    def step(self, blocks: Sequence[SourceBlock], *, now_ms: int = 0) -> StepResult:
        """Process one cycle. Lateness is judged by the watermarks before it; they advance at its end.

        `now_ms`: what the app's clock shows. State that was not used for `table.exec.state.ttl` is forgotten by it,
        and CURRENT_TIMESTAMP reads it; in no other way does a result depend on it. 0: the clock stands still.
        """
        ...

    def finish(self) -> StepResult:
        """The input has ended: every window fires."""
        ...

    def compact(self, operator: str) -> StateDelta:
        """A REPLACE with the operator's whole state (a snapshot)."""
        ...

    def replay(self, statement: str, block: SourceBlock, *, now_ms: int = 0) -> StepResult:
        """Feed corrected rows to one statement only; watermarks do not move (the rows are judged by them)."""
        ...

    def state_sizes(self) -> dict[str, int]:
        """Rows of state per operator."""
        ...


@runtime_checkable
class LooksUp(Protocol):
    """An engine with lookup joins: `wanted` is asked before each step, and the step goes by what was `provided`."""

    @property
    def lookup_depth(self) -> int:
        """How many times `wanted` must be asked: a lookup may go by what another one has found."""
        ...

    def wanted(self, blocks: Sequence[SourceBlock], *, now_ms: int = 0, depth: int = 0) -> list[Wanted]:
        """Keys of the rows in these blocks for lookups above `depth` others, for which everything is provided.
        Changes nothing. `now_ms`: that of the step.
        """
        ...

    def provide(self, found: Mapping[str, Found]) -> None:
        """What was found, by operator, for the next steps."""
        ...


@runtime_checkable
class Timed(Protocol):
    """An engine with windows that go by the clock."""

    @property
    def due_ms(self) -> int | None:
        """When the clock must show at the latest for the next step, with or without rows; None: rows first."""
        ...


@runtime_checkable
class CountsHits(Protocol):
    """An engine of rules."""

    def rule_hits(self) -> Mapping[str, RuleHits]:
        """The counts of the rules that have hit, as they are in memory."""
        ...
