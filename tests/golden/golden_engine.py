"""The engine over the rows of a golden: whole, cut into batches at random, and stopped and resumed at random places.

What it gives is written as the results of Flink are: see `flink_session.py`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

import polars as pl
from engine_rig import cut, run, run_with_restarts
from golden.golden_cases import ROW_ID, Functions, Query, Table

from penstock.codecs.rows import json_value
from penstock.errors import SqlErrors
from penstock.model.batch import OP_COLUMN, Op
from penstock.model.stream import StreamSpec
from penstock_processor.evaluation.sinks import EndState
from penstock_processor.logical.plan import AppPlan
from penstock_processor.logical.plan_app import plan_app
from penstock_processor.operators.interface import SourceBlock, StepResult
from penstock_processor.runtime.decode import RowDecoder

__all__ = ["WAYS", "Given", "run_functions", "run_query"]

WAYS = ("whole", "cut", "resumed")
_OPTIONS = "WITH ('connector' = 'penstock')"
_SETTINGS = "SET 'table.exec.state.ttl' = '1 d';\n"


@dataclass(slots=True)
class Given:
    """What the engine gives for a case: why it refuses it, or (name, type) of its columns, and rows.

    A row of an expression is its value, or `{"error": code}` where the row was rejected.
    """

    refused: str | None = None
    columns: list[tuple[str, str]] = field(default_factory=list)
    rows: list[Any] = field(default_factory=list)
    late: int = 0


def run_functions(functions: Functions, way: str) -> dict[str, Given]:
    """Expression -> what the engine gives."""
    plan, refused = _plan_of(functions)
    given = {e: Given(refused=why) for e, why in refused.items()}
    wanted = [e for e in functions.expressions if e not in given]
    targets = {f"c{n}": e for n, e in enumerate(wanted)}
    values: dict[str, dict[int, Any]] = {e: {} for e in wanted}
    first = 1
    steps = _steps(plan, (functions.table,), way, seed=functions.file)
    for step, result in zip([*steps, []], _results(plan, steps, way, seed=functions.file), strict=True):
        for output in result.outputs:
            found = output.frame.select(ROW_ID, "v").rows() if output.frame.height else []
            values[targets[output.target]] |= {row: _value(value) for row, value in found}
        for problem in result.problems:
            assert problem.row is not None
            values[targets[problem.statement]][first + problem.row] = {"error": problem.code}
        first += sum(block.frame.height for block in step)
    for name, expression in targets.items():
        column = plan.sources[name].spec.columns[1]
        rows = [values[expression].get(row, "no row") for row in range(1, len(functions.table.rows) + 1)]
        given[expression] = Given(columns=[("v", str(column.type))], rows=rows)
    return given


def run_query(query: Query, columns: Sequence[tuple[str, str]] | None, way: str) -> Given:
    """Rows of the query, in no order. `columns`: those of a table that it is written to (with `query.key`)."""
    tables = "".join(f"CREATE TABLE {t.name} ({t.columns}) {_OPTIONS};\n" for t in query.tables)
    head = f"{_SETTINGS}{tables}{query.views}"
    if query.key and columns:
        made = ", ".join(
            f"`{name}` {kind.replace(' *ROWTIME*', '').removesuffix(' NOT NULL')}" for name, kind in columns
        )
        key = ", ".join(f"`{name}`" for name in query.key)
        target = f"CREATE TABLE golden ({made}, PRIMARY KEY ({key}) NOT ENFORCED) {_OPTIONS};\n"
        sql = f"{head}\n{target}INSERT INTO golden {query.query};"
    else:
        sql = f"{head}\nCREATE TABLE golden {_OPTIONS} AS {query.query};"
    try:
        plan = plan_app("golden", sql)
    except SqlErrors as refused:
        return Given(refused=refused.detail)
    spec = plan.sources["golden"].spec
    names = [column.name for column in spec.columns]
    given = Given(columns=[(column.name, str(column.type)) for column in spec.columns])
    steps = _steps(plan, query.tables, way, seed=query.name, each_row=query.late)
    take, rest = _taker(spec, given)
    for result in _results(plan, steps, way, seed=query.name):
        for output in result.outputs:
            if output.frame.height and output.target == "golden":
                take(output.frame)
        given.late += sum(problem.code == "late" for problem in result.problems)
    rest()
    given.rows = [[_value(row[name]) for name in names] for row in given.rows]
    return given


def _taker(spec: StreamSpec, given: Given) -> tuple[Callable[[pl.DataFrame], None], Callable[[], None]]:
    """How to take a frame of changes, and what to do at the end."""
    if not spec.primary_key:

        def append(frame: pl.DataFrame) -> None:
            assert (frame[OP_COLUMN] == int(Op.INSERT)).all()
            given.rows += frame.rows(named=True)

        return append, lambda: None
    end = EndState(spec)

    def close() -> None:
        rows = end.rows()
        given.rows = [] if rows is None else rows.rows(named=True)

    return end.apply, close


def _plan_of(functions: Functions) -> tuple[AppPlan, dict[str, str]]:
    """One statement an expression, each on a line of its own; those that are refused, with the reason."""
    refused: dict[str, str] = {}
    while True:
        wanted = [e for e in functions.expressions if e not in refused]
        lines = [f"CREATE TABLE t ({' '.join(functions.table.columns.split())}) {_OPTIONS};"]
        lines += [f"CREATE TABLE c{n} {_OPTIONS} AS SELECT {ROW_ID}, {e} AS v FROM t;" for n, e in enumerate(wanted)]
        try:
            return plan_app("golden", "\n".join(lines)), refused
        except SqlErrors as errors:
            for error in errors.errors:
                refused[wanted[error.line - 2]] = f"{error.message} {error.remedy}"


def _steps(
    plan: AppPlan, tables: Sequence[Table], way: str, *, seed: str, each_row: bool = False
) -> list[list[SourceBlock]]:
    frames = {}
    for table in tables:
        decoded = RowDecoder(plan.sources[table.name].spec.columns).decode("\n".join(table.rows).encode())
        assert not decoded.bad, f"{table.name}: {decoded.bad}"
        frames[table.name] = decoded.frame
    if each_row:
        return [[SourceBlock(n, 0, f[i : i + 1])] for n, f in frames.items() for i in range(f.height)]
    if way == "whole":
        return [[SourceBlock(name, 0, frame) for name, frame in frames.items()]]
    return cut(frames, random.Random(f"{way} {seed}"))


def _results(plan: AppPlan, steps: Sequence[Sequence[SourceBlock]], way: str, *, seed: str) -> Iterator[StepResult]:
    if way == "resumed":
        return run_with_restarts(plan, steps, random.Random(seed))
    return run(plan, steps)


def _value(value: Any) -> Any:
    """As the product writes JSON, but for what a golden tells apart: no finite number, bytes, parts of a value."""
    match value:
        case float() if not isfinite(value):
            return {"inf": "Infinity", "-inf": "-Infinity", "nan": "NaN"}[str(value)]
        case bytes():
            return value.hex()
        case Mapping():
            return [_value(each) for each in value.values()]
        case [{"key": _, "value": _, **rest}, *_] if not rest:  # a MAP: Flink's come in no order
            return sorted(([_value(each) for each in pair.values()] for pair in value), key=repr)
        case list():
            return [_value(each) for each in value]
    return json_value(value)
