"""Cases against their app: streams and columns that there are, values of the columns' types. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from penstock.model.batch import Op
from penstock.model.stream import Relation, StreamSpec
from penstock.model.types import BOOLEAN, STRING
from penstock_app.cases.compare import ColumnReading, ExpectedRow, Wanted
from penstock_app.cases.document import Scalar
from penstock_app.cases.model import (
    Advance,
    Case,
    Cell,
    Complete,
    Expect,
    ExpectRejected,
    Restart,
    Row,
    Send,
    Tolerance,
)
from penstock_app.cases.shape import Wrongs, near
from penstock_processor.logical.plan import AppPlan

__all__ = ["COMPLETE", "OPERATION", "BoundCase", "BoundExpect", "BoundStep", "bind_case", "readings_of"]

#: Beside its columns a row of a table with `'emit' = 'early'` has this: whether its window is over.
COMPLETE = "$complete"
#: And a change of a table what it is, as subscribers see it.
OPERATION = "$op"
_OPERATIONS = tuple(op.text for op in Op if op is not Op.UPDATE_BEFORE)


@dataclass(frozen=True, slots=True)
class BoundExpect:
    """An expectation with its rows read as the relation's columns."""

    step: Expect
    spec: StreamSpec
    rows: tuple[ExpectedRow, ...]


BoundStep = Send | Advance | Complete | Restart | BoundExpect | ExpectRejected


@dataclass(frozen=True, slots=True)
class BoundCase:
    """A case that can be run."""

    case: Case
    plan: AppPlan
    steps: tuple[BoundStep, ...]


def bind_case(case: Case, plan: AppPlan, wrongs: Wrongs) -> BoundCase:
    """The case against the plan of its app; what does not fit is noted."""
    binder = _Binder(plan, wrongs)
    steps: list[BoundStep] = []
    for step in case.steps:
        with wrongs.collecting():
            steps.append(binder.step(step))
    return BoundCase(case, plan, tuple(steps))


def readings_of(spec: StreamSpec, *, changes: bool = False) -> dict[str, ColumnReading]:
    """How each column's JSON text is read, `$complete` and `$op` included where rows have them."""
    readings = {column.name: ColumnReading(column.type) for column in spec.columns}
    if spec.relation is Relation.TABLE and spec.emit == "early":
        readings[COMPLETE] = ColumnReading(BOOLEAN)
    if changes:
        readings[OPERATION] = ColumnReading(STRING)
    return readings


class _Binder:
    """Binds steps to one app."""

    def __init__(self, plan: AppPlan, wrongs: Wrongs) -> None:
        self._wrongs = wrongs
        specs = [source.spec for source in plan.sources.values() if not source.spec.internal]
        self._sources = {spec.name: spec for spec in specs if spec.relation is Relation.SOURCE}
        self._derived = {spec.name: spec for spec in specs if spec.relation is not Relation.SOURCE}
        self._columns = {source.spec.name: {c.name for c in source.computed} for source in plan.sources.values()}

    def step(self, step: Send | Advance | Complete | Restart | Expect | ExpectRejected) -> BoundStep:
        """The step, if it fits; Skip if it does not."""
        match step:
            case Send():
                return self._send(step)
            case Complete():
                return self._complete(step)
            case Expect():
                return self._expect(step)
            case ExpectRejected():
                for pattern in step.patterns:
                    if "stream" in pattern.where:
                        self._relation(pattern.where["stream"], {**self._sources, **self._derived}, "stream")
        return step

    def _send(self, step: Send) -> Send:
        spec = self._relation(step.stream, self._sources, "source")
        known = {column.name for column in spec.columns}
        for row in step.rows:
            for cell in row.cells or ():
                if cell.name in self._columns[spec.name]:
                    message = f"'{cell.name}' of {spec.name} is computed; events do not have it."
                    self._wrongs.add_at(*cell.named_at, message, "Leave it out.")
                elif cell.name not in known:
                    remedy = "Events with other fields are written as text: `rows: |`, one JSON object a line."
                    self._unknown(cell, spec, known, remedy=remedy)
        return step

    def _complete(self, step: Complete) -> Complete:
        for name in step.streams:
            spec = self._relation(name, self._sources, "source")
            if spec.time_column is None:
                remedy = "Leave it out: only a source with a WATERMARK can be complete."
                self._wrongs.add(name, f"'{spec.name}' has no event time.", remedy)
        return step

    def _expect(self, step: Expect) -> BoundExpect:
        spec = self._relation(step.relation, self._derived, "stream or table that is written to")
        if step.changes and spec.relation is not Relation.TABLE:
            remedy = "Leave out `changes`: each row of a stream is one."
            raise self._wrongs.skip(step.relation, f"'{spec.name}' is a stream, it has no changes.", remedy)
        readings = readings_of(spec, changes=step.changes)
        tolerances = {t.column.value: t.within for t in step.tolerances if t.column is not None}
        of_all = next((t.within for t in step.tolerances if t.column is None), 0.0)
        numeric = {column.name for column in spec.columns if column.type.is_numeric}
        for tolerance in step.tolerances:
            self._tolerance(tolerance, spec, numeric)
        within = {name: tolerances.get(name, of_all) if name in numeric else 0.0 for name in readings}
        rows = tuple(self._row(row, spec, readings, within) for row in step.rows)
        return BoundExpect(step, spec, rows)

    def _tolerance(self, tolerance: Tolerance, spec: StreamSpec, numeric: set[str]) -> None:
        if tolerance.column is not None and tolerance.column.value not in numeric:
            remedy = f"Columns with numbers are {', '.join(sorted(numeric)) or 'none'}."
            message = f"'{tolerance.column.value}' is no column of {spec.name} with numbers."
            self._wrongs.add(tolerance.column, message, remedy)

    def _row(
        self, row: Row, spec: StreamSpec, readings: Mapping[str, ColumnReading], within: Mapping[str, float]
    ) -> ExpectedRow:
        columns: dict[str, Wanted] = {}
        types = {column.name: str(column.type) for column in spec.columns} | {
            COMPLETE: "BOOLEAN",
            OPERATION: "STRING",
        }
        for cell in row.cells or ():
            if cell.name not in readings:
                remedy = f"Its columns are {', '.join(readings)}."
                self._unknown(cell, spec, set(readings), remedy=remedy)
                continue
            try:
                value = readings[cell.name].read(cell.json)
            except (ValueError, RecursionError) as error:
                message = f"'{cell.name}' is {types[cell.name]}: {error}."
                remedy = "Write the value as an event would have it; null where it is NULL."
                self._wrongs.add_at(cell.line, cell.column, message, remedy)
                continue
            if cell.name == OPERATION and value not in _OPERATIONS:
                message = f"'{OPERATION}' is one of {', '.join(_OPERATIONS)}."
                self._wrongs.add_at(cell.line, cell.column, message, "A row is inserted, updated or deleted.")
                continue
            columns[cell.name] = Wanted(value, within[cell.name], cell.json)
        return ExpectedRow(row.line, columns)

    def _relation(self, name: Scalar, known: Mapping[str, StreamSpec], what: str) -> StreamSpec:
        text = str(name.value)
        if text in known:
            return known[text]
        listed = f"There are {', '.join(known)}." if known else "The app has none."
        message = f"'{text}' is no {what} of the app."
        if text in self._sources:
            message = f"'{text}' is a source: what comes out of the app is in what it writes to."
        elif text in self._derived:
            message = f"'{text}' is written by the app: events go to its sources."
        raise self._wrongs.skip(name, message, f"{near(text, known)}{listed}")

    def _unknown(self, cell: Cell, spec: StreamSpec, known: set[str], *, remedy: str) -> None:
        message = f"'{cell.name}' is no column of {spec.name}."
        self._wrongs.add_at(*cell.named_at, message, f"{near(cell.name, known)}{remedy}")
