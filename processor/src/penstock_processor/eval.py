"""`penstock eval`: an app over finite files to the end, as fast as it can, without any service."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TextIO

import msgspec
import polars as pl

from penstock.errors import PenstockError
from penstock.model.stream import Relation
from penstock.ports.clock import SystemClock
from penstock_processor.compile.build import build_engine
from penstock_processor.evaluation.ahead import ahead
from penstock_processor.evaluation.looking_up import LookingUp
from penstock_processor.evaluation.merge import Feed, merged
from penstock_processor.evaluation.rows import Piece, pieces_of
from penstock_processor.evaluation.sinks import Sinks, open_sinks
from penstock_processor.function_files import FunctionFiles
from penstock_processor.logical.plan import AppPlan
from penstock_processor.logical.plan_app import plan_app
from penstock_processor.operators.interface import Engine, RowProblem, SourceBlock, StepResult
from penstock_processor.operators.step import MAX_WATERMARK

__all__ = ["Figures", "evaluate", "run_eval"]

_SHOWN_REJECTIONS = 10
_SHOWN_CHARS = 200  # of a row
_LATE = "late"

#: Called with each rejected row: its relation and number or, of the first ones, itself; code, detail.
OnRejected = Callable[[str, str, str], None]


@dataclass(slots=True)
class Figures:
    """What a run did: rows read, seconds, and rows refused by admission or a statement (`late` ones apart)."""

    events: int = 0
    seconds: float = 0.0
    rejected: int = 0
    late: int = 0

    def as_json(self) -> dict[str, object]:
        """The line of `--stats`."""
        return {
            "events": self.events,
            "seconds": round(self.seconds, 6),
            "events_per_s": round(self.events / self.seconds) if self.seconds else 0,
            "rejected": self.rejected,
            "late": self.late,
        }


def run_eval(
    app_path: Path,
    inputs: Sequence[str],
    outputs: Sequence[str],
    *,
    final: bool,
    strict: bool,
    stats: bool,
    secrets: Path | None = None,
    stdout: BinaryIO,
    stderr: TextIO,
) -> int:
    """The command: 0 when done, 1 with `strict` if a row was rejected. SqlErrors, `bad_request` (files, names),
    `lookup_failed`. `secrets`: the folder of `${NAME}` in options of tables that are looked up.
    """
    try:
        sql = app_path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PenstockError("bad_request", f"{app_path}: {error}") from None
    plan = plan_app(app_path.stem, sql, functions=FunctionFiles([app_path.parent]))
    sources = _places(inputs, [n for n, s in plan.sources.items() if s.spec.relation is Relation.SOURCE], "--input")
    targets = {s.target: plan.sources[s.target].spec for s in plan.statements}
    wanted = _places(outputs, list(targets), "--output")
    shown = 0

    def say(place: str, code: str, detail: str) -> None:
        nonlocal shown
        shown += 1
        if shown <= _SHOWN_REJECTIONS and not stats:
            stderr.write(f"rejected: {place}: {code}: {detail}\n")

    with ExitStack() as stack:
        try:
            sinks = open_sinks(targets, wanted, final=final, stdout=stdout, stack=stack)
        except OSError as error:
            raise PenstockError("bad_request", f"--output: {error}") from None
        files = {n: Path(p) for n, p in sources.items()}
        now_ms = SystemClock().now_ms()
        figures = evaluate(plan, files, sinks, on_rejected=say, now_ms=now_ms, secrets=secrets)
    if shown and not stats:
        more = f", {_SHOWN_REJECTIONS} of them above" if shown > _SHOWN_REJECTIONS else ""
        stderr.write(f"{figures.rejected} rows rejected, {figures.late} late{more}\n")
    if stats:
        stderr.write(msgspec.json.encode(figures.as_json()).decode() + "\n")
    return 1 if strict and (figures.rejected or figures.late) else 0


def evaluate(
    plan: AppPlan,
    inputs: Mapping[str, Path],
    sinks: Sinks,
    *,
    on_rejected: OnRejected,
    now_ms: int,
    secrets: Path | None = None,
) -> Figures:
    """Run the app over whole files. `now_ms`: what the edge would take for now when it judges event times, and
    the time of the run, which stands still.

    Nothing is deduplicated. Sources without a file are empty. Rows of several files go by event time; within a file
    its order stands, and how far the watermark is when a row comes depends on the pieces that it is read in.
    What lookup joins find is what their places have while the run goes on.
    """
    run = _Run(plan, sinks, on_rejected, now_ms=now_ms)
    started_s = time.perf_counter()
    run.start(list(inputs))
    feeds = {
        name: Feed(name, plan.sources[name].spec.time_column, run.admitted(name, path, now_ms=now_ms))
        for name, path in inputs.items()
    }
    with LookingUp(plan, run.engine, now_ms=now_ms, secrets=secrets) as places:
        for blocks in merged(feeds):
            places.provide(blocks)
            run.take(run.engine.step(blocks, now_ms=now_ms), blocks)
    run.take(run.engine.finish(), [])
    sinks.close()
    run.figures.seconds = time.perf_counter() - started_s
    return run.figures


class _Run:
    """One run: the engine, what it has counted, and which file row each row of a block is."""

    def __init__(self, plan: AppPlan, sinks: Sinks, on_rejected: OnRejected, *, now_ms: int) -> None:
        self.engine: Engine = build_engine(plan, durable=False)
        self.figures = Figures()
        self._plan = plan
        self._sinks = sinks
        self._on_rejected = on_rejected
        self._now_ms = now_ms

    def start(self, given: Sequence[str]) -> None:
        """Say that sources without a file, and partitions that no file feeds, hold back nothing."""
        blocks = []
        for name, source in self._plan.sources.items():
            if source.spec.relation is not Relation.SOURCE:
                continue
            first = 1 if name in given else 0
            for partition in range(first, source.spec.partitions):
                blocks.append(SourceBlock(name, partition, pl.DataFrame(), MAX_WATERMARK))
        if blocks:
            self.take(self.engine.step(blocks, now_ms=self._now_ms), blocks)

    def admitted(self, name: str, path: Path, *, now_ms: int) -> Iterator[pl.DataFrame]:
        """Frames of a file; what admission refuses is counted here. Reading runs ahead in a thread."""
        pieces: Iterator[Piece] = ahead(pieces_of(path, self._plan.sources[name].spec, now_ms=now_ms))
        for piece in pieces:
            self.figures.events += piece.frame.height + len(piece.bad)
            self.figures.rejected += len(piece.bad)
            for bad in piece.bad:
                self._on_rejected(f"{name} row {bad.row}", bad.code, bad.detail)
            yield piece.frame

    def take(self, result: StepResult, blocks: Sequence[SourceBlock]) -> None:
        """Write what a step gave, count what it refused."""
        self._sinks.write(result.outputs)
        for problem in result.problems:
            if problem.code == _LATE:
                self.figures.late += 1
            else:
                self.figures.rejected += 1
            place = problem.relation or ""
            if self.figures.rejected + self.figures.late <= _SHOWN_REJECTIONS:
                place = f"{place} {_row_of(problem, blocks)}".strip()
            self._on_rejected(place, problem.code, f"{problem.statement}: {problem.detail}")


def _row_of(problem: RowProblem, blocks: Sequence[SourceBlock]) -> str:
    """The row as JSON, as far as anybody would read."""
    text = problem.values or ""
    for block in blocks:
        if problem.row is not None and (block.relation, block.partition) == (problem.relation, problem.partition):
            text = msgspec.json.encode(block.frame.row(problem.row, named=True)).decode()
    return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}..."


def _places(given: Sequence[str], known: Sequence[str], option: str) -> dict[str, str]:
    """`TABLE=PLACE` options as a mapping; `bad_request` for a table that the app does not have there."""
    found: dict[str, str] = {}
    for text in given:
        name, equals, place = text.partition("=")
        if not equals or not place:
            raise PenstockError("bad_request", f"{option} {text}: write TABLE=FILE")
        if name not in known:
            raise PenstockError("bad_request", f"{option} {text}: this app has {', '.join(sorted(known)) or 'none'}")
        if name in found:
            raise PenstockError("bad_request", f"{option} {text}: '{name}' is given twice")
        found[name] = place
    return found
