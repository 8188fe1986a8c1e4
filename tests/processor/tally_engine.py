"""A small engine for tests of the runtime: real state, real deltas, every part of the protocol, nothing from SQL.

Source `arrivals(market, tonnes, ts)`; statement `big` copies rows of at least `least` tonnes to a stream and refuses
negative ones; statement `totals` keeps tonnes per market in a table, and its state is one operator, `totals-op`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import polars as pl

from penstock.expressions.nodes import Span
from penstock.model.batch import OP_COLUMN, Op
from penstock.model.stream import Column, Relation, StreamSpec
from penstock.model.types import DOUBLE, STRING, TIMESTAMP
from penstock.ports.log import DeltaKind, StateDelta
from penstock_processor.logical.plan import AppPlan, Field, Scan, SourcePlan, Statement
from penstock_processor.operators.interface import Output, RowProblem, SourceBlock, StepResult

__all__ = ["COLUMNS", "TallyEngine", "tally_plan"]

COLUMNS = (Column("market", STRING), Column("tonnes", DOUBLE), Column("ts", TIMESTAMP))


def tally_plan(*, partitions: int = 1, idle_timeout_ms: int | None = None, name: str = "tally") -> AppPlan:
    """The plan that the engine stands for, as far as the runtime reads plans."""
    arrivals = StreamSpec("arrivals", name, Relation.SOURCE, COLUMNS, time_column="ts", partitions=partitions)
    big = StreamSpec("big", name, Relation.STREAM, COLUMNS, time_column="ts", publish=True)
    totals = StreamSpec(
        "totals",
        name,
        Relation.TABLE,
        COLUMNS[:2],
        primary_key=("market",),
        key=("market",),
        publish=True,
        store=True,
    )
    scan = Scan(tuple(Field(c.name, c.type) for c in COLUMNS), "arrivals")
    return AppPlan(
        name=name,
        sql="-- tally",
        sources={
            "arrivals": SourcePlan(arrivals, idle_timeout_ms=idle_timeout_ms),
            "big": SourcePlan(big),
            "totals": SourcePlan(totals),
        },
        statements=tuple(Statement(n, n, scan, "", n, Span(1, 1)) for n in ("big", "totals")),
        settings={},
    )


class TallyEngine:
    """Implements `operators.interface.Engine`."""

    def __init__(self, *, least: float = 10.0, operator: str = "totals-op") -> None:
        self.least = least
        self.operator = operator
        self.totals: dict[str, float] = {}
        self.through: dict[str, int] = {}
        self.steps: list[list[SourceBlock]] = []

    @property
    def operators(self) -> frozenset[str]:
        return frozenset({self.operator, "marks"})

    def restore(self, deltas: Mapping[str, Sequence[StateDelta]]) -> None:
        for operator, values in ((self.operator, self.totals), ("marks", self.through)):
            for delta in deltas.get(operator, ()):
                if delta.kind is DeltaKind.REPLACE:
                    values.clear()
                values.update(msgspec.json.decode(delta.payload))

    def step(self, blocks: Sequence[SourceBlock], *, now_ms: int = 0) -> StepResult:
        self.steps.append(list(blocks))
        outputs: list[Output] = []
        problems: list[RowProblem] = []
        deltas: list[StateDelta] = []
        for block in blocks:
            found = self._rows(block, ("big", "totals"))
            outputs += found.outputs
            problems += found.problems
            deltas += found.deltas
            place = str(block.partition)
            if block.through_ms is not None and block.through_ms > self.through.get(place, -1):
                self.through[place] = block.through_ms
                deltas.append(StateDelta("marks", DeltaKind.UPSERT, msgspec.json.encode({place: block.through_ms})))
        if self.through:
            outputs.append(Output("big", "big", self._empty(), min(self.through.values())))
        return StepResult(outputs, problems, deltas)

    def finish(self) -> StepResult:
        return StepResult([], [], [])

    def compact(self, operator: str) -> StateDelta:
        values = self.totals if operator == self.operator else self.through
        return StateDelta(operator, DeltaKind.REPLACE, msgspec.json.encode(values))

    def replay(self, statement: str, block: SourceBlock, *, now_ms: int = 0) -> StepResult:
        return self._rows(block, (statement,))

    def state_sizes(self) -> dict[str, int]:
        return {self.operator: len(self.totals)}

    def _rows(self, block: SourceBlock, statements: Sequence[str]) -> StepResult:
        outputs: list[Output] = []
        problems: list[RowProblem] = []
        deltas: list[StateDelta] = []
        if "big" in statements:
            for i, tonnes in enumerate(block.frame["tonnes"]):
                if tonnes is not None and tonnes < 0:
                    problems.append(
                        RowProblem(block.relation, block.partition, i, "big", "negative", f"tonnes is {tonnes}")
                    )
            rows = block.frame.filter(pl.col("tonnes") >= self.least)
            outputs.append(Output("big", "big", rows.with_columns(_op(Op.INSERT)), None))
        if "totals" in statements and block.frame.height:
            changed: dict[str, float] = {}
            for market, tonnes in block.frame.select("market", "tonnes").iter_rows():
                self.totals[market] = changed[market] = self.totals.get(market, 0.0) + (tonnes or 0.0)
            frame = pl.DataFrame(
                {"market": list(changed), "tonnes": list(changed.values())},
                schema={"market": pl.String(), "tonnes": pl.Float64()},
            )
            outputs.append(Output("totals", "totals", frame.with_columns(_op(Op.UPDATE_AFTER)), None))
            deltas.append(StateDelta(self.operator, DeltaKind.UPSERT, msgspec.json.encode(changed)))
        return StepResult(outputs, problems, deltas)

    def _empty(self) -> pl.DataFrame:
        schema = {"market": pl.String(), "tonnes": pl.Float64(), "ts": pl.Datetime("ms"), OP_COLUMN: pl.Int8()}
        return pl.DataFrame(schema=schema)


def _op(op: Op) -> pl.Expr:
    return pl.lit(int(op), dtype=pl.Int8).alias(OP_COLUMN)
