"""Runs cases: steps in order, what is not as expected collected. The only part of `penstock test` that waits."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import polars as pl

from penstock.codecs.rows import rows_to_lines
from penstock.errors import PenstockError
from penstock.model.batch import OP_COLUMN, PENDING_COLUMN, Op, RejectedEvent
from penstock.model.stream import Relation, StreamSpec
from penstock_app.cases.bind import COMPLETE, OPERATION, BoundCase, BoundExpect, BoundStep, readings_of
from penstock_app.cases.compare import GotRow, compare
from penstock_app.cases.model import Advance, Complete, ExpectRejected, Restart, Send
from penstock_app.cases.rejected import compare_rejected
from penstock_app.cases.report import Failure, not_as_expected, not_rejected_as_expected
from penstock_app.cases.settings import CaseSettings
from penstock_app.cases.system import AppUnderTest

__all__ = ["Cut", "run_case"]

_JSON_OF = {True: b"true", False: b"false"}


@dataclass(frozen=True, slots=True)
class Cut:
    """Divides what is sent into batches at random places; the same for the same seed and case."""

    seed: int

    def pieces(self, lines: Sequence[bytes], draws: random.Random) -> list[Sequence[bytes]]:
        """The lines in order, in one to as many pieces as there are lines."""
        places = [n for n in range(1, len(lines)) if draws.random() < 0.5]
        return [lines[first:last] for first, last in zip([0, *places], [*places, len(lines)], strict=True)]


async def run_case(bound: BoundCase, settings: CaseSettings, *, cut: Cut | None = None) -> list[Failure]:
    """Run a case; [] if all is as expected. With `cut` its inputs are divided."""
    app = AppUnderTest(bound.plan, now_ms=bound.case.now_ms, settings=settings)
    run = _CaseRun(app, bound, settings, cut)
    line = bound.case.line
    try:
        await app.start()
        for step in bound.steps:
            line = (step.step if isinstance(step, BoundExpect) else step).line
            await run.step(step)
        line = bound.case.line
        await run.end()
    except PenstockError as error:
        run.failures.append(Failure(line, f"{error.detail} ({error.code})"))
    finally:
        await app.close()
    return run.failures


class _CaseRun:
    """One run of one case."""

    def __init__(self, app: AppUnderTest, bound: BoundCase, settings: CaseSettings, cut: Cut | None) -> None:
        self.failures: list[Failure] = []
        self._app = app
        self._name = bound.plan.name
        self._settings = settings
        self._cut = cut
        self._draws = random.Random(f"{cut.seed if cut else 0}:{bound.case.name}")
        self._watched: dict[str, BoundExpect] = {}  # streams of which nothing may come unsaid, and who said so last
        self._rejected_free = False

    async def step(self, step: BoundStep) -> None:
        """One step."""
        match step:
            case Send():
                lines = [row.text for row in step.rows]
                for piece in [lines] if self._cut is None else self._cut.pieces(lines, self._draws):
                    await self._app.send(str(step.stream.value), piece)
            case Advance():
                await self._app.advance(step.seconds)
            case Complete():
                await self._app.complete([str(name.value) for name in step.streams], step.through_ms)
            case Restart():
                await self._app.restart()
            case BoundExpect():
                await self._expect(step)
            case ExpectRejected():
                await self._expect_rejected(step)

    async def end(self) -> None:
        """Nothing has come that nobody expected: rows of streams that were looked at, rejected events."""
        for name, last in self._watched.items():
            difference = compare((), await self._rows(last), ordered=False, exact=True)
            if difference:
                what = "changes" if last.step.changes else "rows"
                title = f"{name}: {what} came after the last expectation"
                self.failures.append(not_as_expected(last.step.line, title, difference, self._settings))
        if not self._rejected_free:
            left = await self._app.take_rejected()
            if left:
                failure = not_rejected_as_expected(0, "events were rejected", (), left, self._settings)
                self.failures.append(failure)

    async def _expect(self, expect: BoundExpect) -> None:
        step, name = expect.step, expect.spec.name
        got = await self._rows(expect)
        difference = compare(expect.rows, got, ordered=step.ordered, exact=step.exact)
        if difference:
            what = f"the changes of {name} are" if step.changes else f"{name} is"
            title = f"{what} not as expected: {len(expect.rows)} expected, {len(got)} came"
            self.failures.append(not_as_expected(step.line, title, difference, self._settings))
        if step.changes or expect.spec.relation is Relation.STREAM:
            if step.exact:
                self._watched[name] = expect
            else:
                self._watched.pop(name, None)

    async def _expect_rejected(self, step: ExpectRejected) -> None:
        got = await self._app.take_rejected()
        missing, extra = compare_rejected(step.patterns, got)
        if missing or (extra and step.exact):
            shown: Sequence[RejectedEvent] = extra if step.exact or missing else ()
            title = f"rejected events are not as expected: {len(step.patterns)} expected, {len(got)} came"
            self.failures.append(not_rejected_as_expected(step.line, title, missing, shown, self._settings))
        self._rejected_free = not step.exact

    async def _rows(self, expect: BoundExpect) -> list[GotRow]:
        spec, changes = expect.spec, expect.step.changes
        is_state = spec.relation is Relation.TABLE and not changes
        frame = await (self._app.table(spec.name) if is_state else self._app.take_written(spec.name))
        if frame is None:
            return []
        if frame.height > self._settings.rows_max:
            raise PenstockError(
                "too_large",
                f"{spec.name} has {frame.height} rows, {self._settings.rows_max} can be compared; look at them more "
                "often, or raise test.rows_max",
            )
        return got_rows(frame, spec, changes=changes)


def got_rows(frame: pl.DataFrame, spec: StreamSpec, *, changes: bool) -> list[GotRow]:
    """Rows of a frame as subscribers would see them, read as expected rows are: a deletion has the key alone."""
    readings = readings_of(spec, changes=changes)
    lines = rows_to_lines(frame, spec.columns)
    pending = frame.get_column(PENDING_COLUMN).to_list() if PENDING_COLUMN in frame.columns else None
    ops = [Op(op) for op in frame.get_column(OP_COLUMN).to_list()] if changes else None
    rows = []
    for number, line in enumerate(lines):
        texts = {name: bytes(raw) for name, raw in msgspec.json.decode(line, type=dict[str, msgspec.Raw]).items()}
        if ops is not None and ops[number] is Op.DELETE:
            texts = {name: text if name in spec.primary_key else b"null" for name, text in texts.items()}
        if pending is not None:
            texts[COMPLETE] = _JSON_OF[not pending[number]]
        if ops is not None:
            texts[OPERATION] = msgspec.json.encode(ops[number].text)
        rows.append(GotRow({name: readings[name].read(text) for name, text in texts.items()}, texts))
    return rows
