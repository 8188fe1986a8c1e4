"""Summaries: rows of a time range, put into buckets and groups and added up exactly. Pure.

`?from=2018-01-01&to=2018-02-01&bucket=1d&group=state&agg=sum(tonnes),count(*)`; buckets are in UTC from the epoch.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Context, Decimal
from typing import Final

import polars as pl

from penstock.codecs.frames import empty_frame, polars_type
from penstock.codecs.json_values import read_timestamp_ms
from penstock.errors import PenstockError
from penstock.model.stream import Column, StreamSpec
from penstock.model.types import BIGINT, BOOLEAN, DOUBLE, TIMESTAMP, DataType, Kind, decimal
from penstock_data.query import Condition, Operator, find_column, parse_conditions, split_list
from penstock_data.settings import QuerySettings
from penstock_data.statements import COMPLETE

__all__ = ["Aggregate", "SummaryQuery", "columns_read", "parse_summary_query", "summarise"]

_RESERVED = ("from", "to", "time", "bucket", "group", "agg")
_BUCKET = re.compile(r"([1-9]\d{0,5})(s|m|h|d|w)", re.ASCII)
_UNIT_MS = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 7 * 86_400_000}
_AGGREGATE = re.compile(r"(sum|avg|min|max|count)\((.*)\)", re.DOTALL)
_DAY_MS: Final = 86_400_000
_BUCKET_COLUMN = "bucket"
_AVG_SCALE_MIN = 6  # as Flink's AVG(DECIMAL)
_DECIMAL_DIGITS_MAX = 38
_WIDE = Context(prec=100)


@dataclass(frozen=True, slots=True)
class Aggregate:
    """`sum(tonnes)`; `column` None is `count(*)`."""

    function: str
    column: Column | None

    @property
    def name(self) -> str:
        """`sum_tonnes`; `count` for `count(*)`."""
        return self.function if self.column is None else f"{self.function}_{self.column.name}"

    @property
    def type(self) -> DataType:
        """Type of the result."""
        if self.column is None or self.function == "count":
            return BIGINT
        kind, scale = self.column.type.kind, self.column.type.scale or 0
        if self.function in ("min", "max"):
            return self.column.type
        if kind is Kind.DECIMAL:
            return decimal(38, scale if self.function == "sum" else max(_AVG_SCALE_MIN, scale))
        return BIGINT if self.function == "sum" and self.column.type.is_integer else DOUBLE


@dataclass(frozen=True, slots=True)
class SummaryQuery:
    """A checked request. The range of time is among the conditions."""

    time: Column
    bucket_ms: int | None
    groups: tuple[Column, ...]
    aggregates: tuple[Aggregate, ...]
    conditions: tuple[Condition, ...]
    early: bool  # rows say whether every row that went into them is complete

    @property
    def columns(self) -> tuple[Column, ...]:
        """Columns of the reply: the bucket, the groups, the aggregates, for early tables `complete`."""
        bucket_type = self.time.type if self.time.type.is_timestamp else TIMESTAMP
        bucket = () if self.bucket_ms is None else (Column(_BUCKET_COLUMN, bucket_type),)
        found = tuple(Column(a.name, a.type) for a in self.aggregates)
        return (*bucket, *self.groups, *found, *((Column(COMPLETE, BOOLEAN),) if self.early else ()))


def parse_summary_query(
    spec: StreamSpec, columns: Mapping[str, Column], pairs: Sequence[tuple[str, str]], *, limits: QuerySettings
) -> SummaryQuery:
    """The query of `/v1/summaries/{relation}`; other parameters are filters as in `/v1/data`."""
    given: dict[str, str] = {}
    rest: list[tuple[str, str]] = []
    for name, value in pairs:
        if name not in _RESERVED:
            rest.append((name, value))
        elif name in given:
            raise PenstockError("bad_request", f"'{name}' is given twice")
        else:
            given[name] = value
    time = _time_column(spec, columns, given.get("time"))
    conditions = [*_range(time, given), *parse_conditions(rest, columns, limits)]
    items = split_list(given.get("agg", "count(*)"))
    if not 0 < len(items) <= limits.aggregates_max:
        raise PenstockError("bad_request", f"'agg' takes 1 to {limits.aggregates_max} aggregates")
    query = SummaryQuery(
        time=time,
        bucket_ms=_bucket_ms(given.get("bucket")),
        groups=tuple(find_column(name, columns) for name in split_list(given.get("group", ""))),
        aggregates=tuple(_aggregate(item.strip(), columns) for item in items),
        conditions=tuple(conditions),
        early=COMPLETE in columns and not any(c.name == COMPLETE for c in spec.columns),
    )
    names = [column.name for column in query.columns]
    if len(set(names)) < len(names):
        raise PenstockError("bad_request", f"the reply would have two columns of one name: {', '.join(names)}")
    return query


def columns_read(query: SummaryQuery) -> tuple[Column, ...]:
    """The columns that `summarise` needs, each once."""
    needed = [query.time] if query.bucket_ms is not None else []
    needed += [*query.groups, *(a.column for a in query.aggregates if a.column is not None)]
    if query.early:
        needed.append(Column(COMPLETE, BOOLEAN))
    return tuple({column.name: column for column in needed}.values())


def summarise(query: SummaryQuery, frame: pl.DataFrame, *, groups_max: int) -> pl.DataFrame:
    """The reply's rows, ordered by bucket and groups. `frame` has `columns_read`, and one row for each row read.

    Sums of DOUBLE are exactly rounded (Shewchuk, `math.fsum`), so they do not depend on the order of rows.
    """
    if frame.height == 0:
        return empty_frame(query.columns)
    work = frame.select(
        *([_bucket(query)] if query.bucket_ms is not None else []),
        *(pl.col(column.name).alias(f"$g{i}") for i, column in enumerate(query.groups)),
        *(_input(aggregate).alias(f"$a{i}") for i, aggregate in enumerate(query.aggregates)),
        *([pl.col(COMPLETE).alias("$c")] if query.early else []),
    )
    by = [name for name in work.columns if name.startswith(("$b", "$g"))]
    folded = [_folded(aggregate, f"$a{i}") for i, aggregate in enumerate(query.aggregates)]
    if query.early:
        folded.append(pl.col("$c").all())
    found = work.group_by(by).agg(folded).sort(by) if by else work.select(folded)
    if found.height > groups_max:
        raise PenstockError(
            "too_large", f"{found.height} rows; at most {groups_max}: widen 'bucket' or narrow 'from'"
        )
    for i, aggregate in enumerate(query.aggregates):
        if aggregate.function in ("sum", "avg"):
            found = found.with_columns(_added(aggregate, found[f"$a{i}"]))
    return found.rename(dict(zip(found.columns, [c.name for c in query.columns], strict=True)))


def _time_column(spec: StreamSpec, columns: Mapping[str, Column], name: str | None) -> Column:
    if name is not None:
        column = find_column(name, columns)
        if not (column.type.is_timestamp or column.type.kind is Kind.DATE):
            raise PenstockError("bad_request", f"'time' needs a TIMESTAMP or DATE, '{name}' is {column.type}")
        return column
    of_key = [spec.column(key) for key in spec.primary_key]
    found = [column for column in of_key if column.type.is_timestamp]
    if not found and spec.time_column is not None:
        found = [spec.column(spec.time_column)]
    if not found:
        raise PenstockError("bad_request", f"'{spec.name}' has no time of its own: name a column with time=<column>")
    return found[0]


def _range(time: Column, given: Mapping[str, str]) -> list[Condition]:
    """`[from, to)` as conditions on the time column."""
    found = []
    for name, operator in (("from", Operator.GTE), ("to", Operator.LT)):
        if name not in given:
            continue
        text = given[name]
        try:
            value = read_timestamp_ms(int(text) if re.fullmatch(r"-?\d{1,15}", text, re.ASCII) else text)
        except ValueError as error:
            raise PenstockError("bad_request", f"'{name}': {error}") from None
        if time.type.kind is Kind.DATE:
            value = -(-value // _DAY_MS)  # the first day that begins at or after it
        found.append(Condition(time, operator, value))
    return found


def _bucket_ms(text: str | None) -> int | None:
    if text is None:
        return None
    found = _BUCKET.fullmatch(text)
    if found is None:
        raise PenstockError("bad_request", f"'bucket' is a number and s, m, h, d or w, like 1h; not '{text[:40]}'")
    return int(found[1]) * _UNIT_MS[found[2]]


def _aggregate(text: str, columns: Mapping[str, Column]) -> Aggregate:
    found = _AGGREGATE.fullmatch(text)
    if found is None:
        raise PenstockError(
            "bad_request", f"'{text[:60]}' is not an aggregate: sum(c), avg(c), min(c), max(c), count(c) or count(*)"
        )
    function, name = found[1], found[2].strip()
    if name == "*":
        if function != "count":
            raise PenstockError("bad_request", f"'{function}(*)': only count takes *")
        return Aggregate(function, None)
    column = find_column(name, columns)
    if function in ("sum", "avg") and not column.type.is_numeric:
        raise PenstockError("bad_request", f"'{text[:60]}': '{name}' is {column.type}, not a number")
    if function in ("min", "max") and (column.type.is_nested or column.type.kind in (Kind.BOOLEAN, Kind.BYTES)):
        raise PenstockError("bad_request", f"'{text[:60]}': {column.type} has no order")
    return Aggregate(function, column)


def _bucket(query: SummaryQuery) -> pl.Expr:
    column, width_ms = pl.col(query.time.name), query.bucket_ms or 1
    days = query.time.type.kind is Kind.DATE
    ms = column.to_physical().cast(pl.Int64) * _DAY_MS if days else column.dt.epoch("ms")
    return (ms // width_ms * width_ms).cast(polars_type(query.columns[0].type)).alias("$b")


def _input(aggregate: Aggregate) -> pl.Expr:
    return pl.repeat(1, pl.len()) if aggregate.column is None else pl.col(aggregate.column.name)


def _folded(aggregate: Aggregate, name: str) -> pl.Expr:
    value = pl.col(name)
    match aggregate.function:
        case "count":
            return pl.len().cast(pl.Int64).alias(name) if aggregate.column is None else value.count().cast(pl.Int64)
        case "min":
            return value.min()
        case "max":
            return value.max()
        case _:
            return value.drop_nulls().implode()


def _added(aggregate: Aggregate, lists: pl.Series) -> pl.Series:
    """Sum or average of each group's values; NULL where there are none."""
    assert aggregate.column is not None  # sum and avg have one
    average = aggregate.function == "avg"
    kind = aggregate.column.type.kind
    results: list[object] = []
    for group in lists:
        values = group.to_list()
        if not values:
            results.append(None)
        elif kind is Kind.DECIMAL:
            results.append(_decimal(values, scale=aggregate.type.scale or 0, average=average))
        elif aggregate.column.type.is_integer:
            results.append(_integer(values, average=average, name=aggregate.name))
        else:
            results.append(_double(values, average=average))
    return pl.Series(lists.name, results, dtype=polars_type(aggregate.type))


def _double(values: Sequence[float], *, average: bool) -> float | None:
    try:
        total = math.fsum(values)
    except (OverflowError, ValueError):  # beyond DOUBLE, or infinities of both signs
        return None
    return total / len(values) if average else total


def _integer(values: Sequence[int], *, average: bool, name: str) -> int | float:
    total = sum(values)
    if average:
        return total / len(values)
    if not -(2**63) <= total < 2**63:
        raise PenstockError("too_large", f"{name}: {total} does not fit BIGINT; narrow the range or use avg")
    return total


def _decimal(values: Sequence[Decimal], *, scale: int, average: bool) -> Decimal | None:
    total = _WIDE.create_decimal(0)
    for value in values:
        total = _WIDE.add(total, value)
    if average:
        total = _WIDE.divide(total, Decimal(len(values)))
    total = total.quantize(Decimal(1).scaleb(-scale), ROUND_HALF_UP, _WIDE)
    return total if len(total.as_tuple().digits) <= _DECIMAL_DIGITS_MAX else None
