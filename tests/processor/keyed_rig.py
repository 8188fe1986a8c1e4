"""What tests of rankings and joins without time bounds share: an app over two tables, and its table's end state."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

import polars as pl
from engine_rig import cut, run, run_with_restarts

from penstock.codecs.frames import polars_schema
from penstock_processor.evaluation.sinks import EndState
from penstock_processor.logical.plan import AppPlan
from penstock_processor.logical.plan_app import plan_app
from penstock_processor.operators.interface import SourceBlock

__all__ = ["WAYS", "app", "blocks", "end_of", "table_after"]

WAYS = ("whole", "cut", "resumed")
_TABLES = """
CREATE TABLE l (k INT, v INT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts) WITH ('connector' = 'penstock');
CREATE TABLE r (k INT, v INT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts) WITH ('connector' = 'penstock');
"""


def app(columns: str, query: str, *, views: str = "", ttl: str = "1 h") -> AppPlan:
    """The query written to a table with these columns; sources `l` and `r` with columns k, v, ts."""
    target = f"CREATE TABLE o ({columns}) WITH ('connector' = 'penstock');\nINSERT INTO o {query};"
    return plan_app("keyed", f"SET 'table.exec.state.ttl' = '{ttl}';{_TABLES}{views}{target}")


def blocks(plan: AppPlan, rows: Mapping[str, Sequence[tuple]]) -> dict[str, pl.DataFrame]:
    """Source rows as frames; times are milliseconds."""
    found = {}
    for name, given in rows.items():
        frame = pl.DataFrame(given, schema={"k": pl.Int64, "v": pl.Int64, "ts": pl.Int64}, orient="row")
        found[name] = frame.cast(polars_schema(plan.sources[name].spec.columns))
    return found


def end_of(plan: AppPlan, rows: Mapping[str, Sequence[tuple]], way: str, *, seed: int = 0) -> list[tuple]:
    """Rows of the table when everything has been read: whole, cut at random, or stopped and resumed."""
    frames, chance = blocks(plan, rows), random.Random(seed)
    if way == "whole":
        steps = [[SourceBlock(name, 0, frame) for name, frame in frames.items()]]
    else:
        steps = cut(frames, chance, most=12)
    end = EndState(plan.sources["o"].spec)
    for result in run(plan, steps) if way != "resumed" else run_with_restarts(plan, steps, chance):
        assert result.problems == []
        table_after(end, result)
    return rows_of(end)


def table_after(end: EndState, result) -> None:
    """Apply what a step wrote."""
    for output in result.outputs:
        if output.frame.height:
            end.apply(output.frame)


def rows_of(end: EndState) -> list[tuple]:
    """Rows of the table, without the operation."""
    found = end.rows()
    return [] if found is None else sorted(found.drop("$op", strict=False).rows(), key=repr)
