"""Plans made by hand for tests of the engine, and short ways to feed it and to read what it says."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from penstock.codecs.frames import polars_schema
from penstock.expressions.nodes import Call, ColumnRef, Expr, Literal, Span
from penstock.model.stream import Column, Relation, StreamSpec
from penstock.model.types import BIGINT, BOOLEAN, DOUBLE, INT, STRING, TIMESTAMP, DataType, Kind
from penstock_processor.logical.plan import (
    Aggregate,
    AggregateCall,
    AppPlan,
    Field,
    Filter,
    Named,
    Node,
    Project,
    Scan,
    SourcePlan,
    Statement,
    Watermark,
    WindowAssign,
    WindowKind,
)
from penstock_processor.operators.interface import Output, SourceBlock, StepResult

SECOND, MINUTE, HOUR, DAY = 1000, 60_000, 3_600_000, 86_400_000
INTERVAL = DataType(Kind.INTERVAL)

READINGS: dict[str, DataType] = {"device": STRING, "n": INT, "value": DOUBLE, "ts": TIMESTAMP}


def spec(name: str, columns: dict[str, DataType], *, primary_key: Sequence[str] = (), emit: str = "final",
         source: bool = False, partitions: int = 1) -> StreamSpec:  # fmt: skip
    relation = Relation.SOURCE if source else Relation.TABLE if primary_key else Relation.STREAM
    made = tuple(Column(column, data_type) for column, data_type in columns.items())
    return StreamSpec(name, "app", relation, made, primary_key=tuple(primary_key), emit=emit, partitions=partitions)  # type: ignore[arg-type]  # a literal


def column(name: str, data_type: DataType) -> ColumnRef:
    return ColumnRef(data_type, name)


def literal(value: object, data_type: DataType) -> Literal:
    return Literal(data_type, value)


def call(function: str, *args: Expr, returns: DataType = BOOLEAN) -> Call:
    return Call(returns, function, tuple(args))


def fields(columns: dict[str, DataType], rowtime: str | None = "ts") -> tuple[Field, ...]:
    return tuple(Field(name, data_type, name == rowtime) for name, data_type in columns.items())


def source(name: str = "readings", columns: dict[str, DataType] | None = None, *, lag_ms: int | None = 0,
           partitions: int = 1, computed: tuple[Named, ...] = ()) -> SourcePlan:  # fmt: skip
    """A source with WATERMARK FOR ts AS ts - lag (None: without)."""
    watermark = None
    if lag_ms is not None:
        lagged = call("-", column("ts", TIMESTAMP), literal(lag_ms, INTERVAL), returns=TIMESTAMP)
        watermark = Watermark("ts", lagged if lag_ms else column("ts", TIMESTAMP))
    return SourcePlan(spec(name, columns or READINGS, source=True, partitions=partitions), computed, watermark)


def scan(name: str = "readings", columns: dict[str, DataType] | None = None) -> Scan:
    return Scan(fields(columns or READINGS), name)


def project(child: Node, **exprs: Expr) -> Project:
    made = tuple(Field(name, expr.type, name == "ts") for name, expr in exprs.items())
    return Project(made, child, tuple(Named(name, expr) for name, expr in exprs.items()))


def where(child: Node, predicate: Expr) -> Filter:
    return Filter(child.fields, child, predicate)


def windowed(child: Node, size_ms: int, *, slide_ms: int | None = None, time: str = "ts") -> WindowAssign:
    added = (Field("window_start", TIMESTAMP), Field("window_end", TIMESTAMP), Field("window_time", TIMESTAMP, True))
    kind = WindowKind.TUMBLE if slide_ms is None else WindowKind.HOP
    return WindowAssign(child.fields + added, child, kind, time, size_ms, slide_ms or size_ms, 0)


def aggregate(
    window: WindowAssign,
    calls: Sequence[AggregateCall],
    *,
    keys: Sequence[Named] = (),
    early: bool = False,
    columns: tuple[str, ...] = ("window_start", "window_end"),
) -> Aggregate:
    made = [Field(key.name, key.expr.type) for key in keys]
    made += [Field(name, TIMESTAMP, name == "window_time") for name in columns]
    made += [Field(each.name, each.type) for each in calls]
    return Aggregate(tuple(made), window, tuple(keys), columns, tuple(calls), early)


def count(name: str = "rows") -> AggregateCall:
    return AggregateCall(name, "COUNT", None, BIGINT)


def named(name: str, data_type: DataType) -> Named:
    return Named(name, column(name, data_type))


def statement(target: str, plan: Node, name: str | None = None) -> Statement:
    return Statement(name or target, target, plan, "", f"{name or target}:{plan!r}", Span(1, 1))


def app(sources: Sequence[SourcePlan], *statements: Statement, primary_keys: dict[str, Sequence[str]] | None = None,
        emit: str = "final") -> AppPlan:  # fmt: skip
    """An app whose targets are as wide as what is written to them, if they are not among `sources`."""
    relations = {each.spec.name: each for each in sources}
    for each in statements:
        if each.target not in relations:
            columns = {field.name: field.type for field in each.plan.fields}
            key = (primary_keys or {}).get(each.target, ())
            relations[each.target] = SourcePlan(spec(each.target, columns, primary_key=key, emit=emit))
    return AppPlan("app", "", relations, tuple(statements), {})


def frame(rows: Sequence[Sequence[object]], columns: dict[str, DataType] | None = None) -> pl.DataFrame:
    """Rows as tuples; times in milliseconds."""
    types = columns or READINGS
    schema = polars_schema(Column(name, data_type) for name, data_type in types.items())
    lists = list(zip(*rows, strict=True)) if rows else [[] for _ in types]
    made = []
    for (name, dtype), values in zip(schema.items(), lists, strict=True):
        if isinstance(dtype, pl.Datetime):
            made.append(pl.Series(name, values, dtype=pl.Int64).cast(dtype))
        else:
            made.append(pl.Series(name, values, dtype=dtype))
    return pl.DataFrame(made)


def block(rows: Sequence[Sequence[object]], relation: str = "readings", *, partition: int = 0,
          through_ms: int | None = None, idle: bool = False, columns: dict[str, DataType] | None = None
          ) -> SourceBlock:  # fmt: skip
    return SourceBlock(relation, partition, frame(rows, columns), through_ms, idle)


def rows_of(outputs: Sequence[Output], target: str | None = None) -> list[tuple[object, ...]]:
    """Rows of outputs, with times in milliseconds, without the operation."""
    found = []
    for output in outputs:
        if target is None or output.target == target:
            plain = output.frame.select(pl.exclude("$op", "$pending"))
            found += plain.with_columns(pl.col(pl.Datetime).dt.timestamp("ms")).rows()
    return found


def changes(result: StepResult) -> list[tuple[object, ...]]:
    """Rows of a result with operation (and, for early tables, whether they are pending) at the end."""
    found = []
    for output in result.outputs:
        found += output.frame.with_columns(pl.col(pl.Datetime).dt.timestamp("ms")).rows()
    return found
