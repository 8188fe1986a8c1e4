"""What a case file says, place by place: cases with their steps, not yet held against the app."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from penstock_app.cases.document import Scalar

__all__ = ["Advance", "Case", "CaseFile", "Cell", "Complete", "Expect", "ExpectRejected", "RejectedPattern",
           "Restart", "Row", "Send", "Step", "Tolerance"]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Cell:
    """One named value of a row, as JSON text. `line`, `column`: of the value; `named_at`: of its name."""

    name: str
    line: int
    column: int
    json: bytes
    named_at: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Row:
    """A row or event. `text`: the JSON line; `cells` None: it goes as it is, whether it is JSON or not."""

    line: int
    column: int
    text: bytes
    cells: tuple[Cell, ...] | None


@dataclass(frozen=True, slots=True)
class Send:
    """Events that arrive at a source in one request, in this order."""

    line: int
    stream: Scalar
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Advance:
    """Time passes: wall clock and processing time."""

    line: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Complete:
    """These sources say that they are complete up to `through_ms`; None: for ever. No streams: all sources."""

    line: int
    streams: tuple[Scalar, ...]
    through_ms: int | None


@dataclass(frozen=True, slots=True)
class Restart:
    """Everything in memory is lost; gateway and processor start again from the log."""

    line: int


@dataclass(frozen=True, slots=True)
class Tolerance:
    """By how much numbers may differ: those of one column, or (`column` None) of all that are not named."""

    column: Scalar | None
    within: float


@dataclass(frozen=True, slots=True)
class Expect:
    """Rows of a stream since it was looked at last, or all rows of a table; `changes`: what was written to the
    table since that was looked at last. `exact`: and no others.
    """

    line: int
    relation: Scalar
    rows: tuple[Row, ...]
    changes: bool
    ordered: bool
    exact: bool
    tolerances: tuple[Tolerance, ...]


@dataclass(frozen=True, slots=True)
class RejectedPattern:
    """A rejected event by what is said of it. `where`: of stream, code, field, statement those that are given."""

    line: int
    where: Mapping[str, Scalar]
    event: tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class ExpectRejected:
    """Events rejected since this was looked at last. `exact`: and no others."""

    line: int
    patterns: tuple[RejectedPattern, ...]
    exact: bool


Step = Send | Advance | Complete | Restart | Expect | ExpectRejected


@dataclass(frozen=True, slots=True)
class Case:
    """One case. `cut` False: how its input is cut into batches is part of it."""

    name: str
    line: int
    column: int
    app: Path
    now_ms: int
    steps: tuple[Step, ...]
    cut: bool


@dataclass(frozen=True, slots=True)
class CaseFile:
    """All cases of a file."""

    path: Path
    cases: tuple[Case, ...]
