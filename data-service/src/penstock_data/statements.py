"""Checked queries as SQLAlchemy selects over a relation's table. Pure: values travel as parameters only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from penstock.model.stream import Column, Relation, StreamSpec
from penstock.model.types import BIGINT, BOOLEAN
from penstock.stores.tables import EPOCH, OFFSET, PARTITION, PENDING, is_early, stored_name, table_of
from penstock_data.patterns import LIKE_ESCAPE, LikePattern
from penstock_data.query import Condition, Operator, Order, Scalar

__all__ = ["COMPLETE", "columns_of", "order_of", "page_statement", "rows_statement"]

#: Column of early tables: false while the row's window is still open.
COMPLETE = "complete"

_KEY_PREFIX = "\0"  # our own key columns among the order's columns; no identifier holds it


def columns_of(spec: StreamSpec) -> Mapping[str, Column]:
    """The columns that a request may name, in order."""
    columns = {column.name: column for column in spec.columns}
    if is_early(spec) and COMPLETE not in columns:
        columns[COMPLETE] = Column(COMPLETE, BOOLEAN, nullable=False)
    return columns


def order_of(spec: StreamSpec, asked: Sequence[Order]) -> tuple[Order, ...]:
    """The order asked for, made total by the key: primary key, else position."""
    named = {order.column.name for order in asked}
    if EPOCH in table_of(spec).c:
        key = [Column(_KEY_PREFIX + name, BIGINT, nullable=False) for name in (EPOCH, PARTITION, OFFSET)]
    else:
        key = [spec.column(name) for name in spec.primary_key]
    return (*asked, *(Order(column, False) for column in key if column.name not in named))


def page_statement(
    spec: StreamSpec,
    select: Sequence[Column],
    conditions: Sequence[Condition],
    *,
    order: Sequence[Order],
    after: Sequence[Scalar | None] | None,
    limit: int,
) -> tuple[sa.Select[Any], tuple[Column, ...]]:
    """A page in `order` (from `order_of`) after the row with the values `after`; and the result's columns.

    The order's columns that were not selected come last, for the next cursor.
    """
    shown = {column.name for column in select}
    columns = (*select, *(o.column for o in order if o.column.name not in shown))
    statement = sa.select(*(_expression(spec, column).label(f"c{i}") for i, column in enumerate(columns)))
    statement = statement.where(*_predicates(spec, conditions))
    if after is not None:
        statement = statement.where(_after(spec, order, after))
    return statement.order_by(*(_ordering(spec, o) for o in order)).limit(limit), columns


def rows_statement(
    spec: StreamSpec, columns: Sequence[Column], conditions: Sequence[Condition], *, limit: int
) -> sa.Select[Any]:
    """All rows that meet the conditions, in no order, for adding up."""
    statement = sa.select(*(_expression(spec, column).label(f"c{i}") for i, column in enumerate(columns)))
    if not columns:
        statement = sa.select(sa.literal(1).label("c0")).select_from(table_of(spec))
    return statement.where(*_predicates(spec, conditions)).limit(limit)


def _expression(spec: StreamSpec, column: Column) -> sa.ColumnElement[Any]:
    table = table_of(spec)
    if column.name.startswith(_KEY_PREFIX) and column.name not in {c.name for c in spec.columns}:
        return table.c[column.name.removeprefix(_KEY_PREFIX)]
    if column.name == COMPLETE and COMPLETE not in {c.name for c in spec.columns}:
        return sa.not_(table.c[PENDING])
    return table.c[stored_name(column.name)]


def _predicates(spec: StreamSpec, conditions: Sequence[Condition]) -> list[sa.ColumnElement[bool]]:
    return [_predicate(_expression(spec, condition.column), condition) for condition in conditions]


def _predicate(column: sa.ColumnElement[Any], condition: Condition) -> sa.ColumnElement[bool]:
    value = condition.value
    match condition.operator:
        case Operator.EQ:
            found = column == value
        case Operator.NEQ:
            found = column != value
        case Operator.LT:
            found = column < value
        case Operator.LTE:
            found = column <= value
        case Operator.GT:
            found = column > value
        case Operator.GTE:
            found = column >= value
        case Operator.IN:
            assert isinstance(value, tuple)  # made by the parser
            found = column.in_(value) if value else sa.false()
        case Operator.LIKE:
            assert isinstance(value, LikePattern)  # made by the parser
            found = column.like(value.sql(), escape=LIKE_ESCAPE)
        case Operator.IS:
            found = column.is_(None) if value is None else column.is_not_distinct_from(value)
    return sa.not_(found) if condition.negated else found


def _ordering(spec: StreamSpec, order: Order) -> sa.ColumnElement[Any]:
    column = _expression(spec, order.column)
    ordered = column.desc() if order.descending else column.asc()
    if not _nullable(spec, order.column):
        return ordered
    return ordered.nulls_last() if order.descending else ordered.nulls_first()


def _nullable(spec: StreamSpec, column: Column) -> bool:
    return column.nullable and column.name not in (spec.primary_key if spec.relation is Relation.TABLE else ())


def _after(spec: StreamSpec, order: Sequence[Order], values: Sequence[Scalar | None]) -> sa.ColumnElement[bool]:
    columns = [_expression(spec, o.column) for o in order]
    plain = not any(o.descending or _nullable(spec, o.column) for o in order)
    if plain:  # one row comparison, which an index on the key answers
        bound = [sa.bindparam(None, v, type_=c.type) for c, v in zip(columns, values, strict=True)]
        return sa.tuple_(*columns) > sa.tuple_(*bound)
    cases: list[sa.ColumnElement[bool]] = []
    for i, o in enumerate(order):
        same = [columns[j].is_not_distinct_from(values[j]) for j in range(i)]
        cases.append(sa.and_(*same, _beyond(columns[i], values[i], order=o)))
    return sa.or_(*cases)


def _beyond(column: sa.ColumnElement[Any], value: Scalar | None, *, order: Order) -> sa.ColumnElement[bool]:
    """True for rows after `value` in this column's order, NULL being the least."""
    if order.descending:
        return sa.false() if value is None else sa.or_(column < value, column.is_(None))
    return column.is_not(None) if value is None else column > value
