"""UNION, UNION ALL, INTERSECT and EXCEPT: columns by place, brought to common types."""

from __future__ import annotations

import sqlalchemy as sa
from sqlglot import exp

from penstock.expressions.coercion import common_type
from penstock.expressions.literals import coerced
from penstock.model.types import DataType
from penstock_data.queries.refusals import refused
from penstock_data.queries.scope import Field, Query, Statement

__all__ = ["united"]


def united(tree: exp.SetOperation, left: Query, right: Query, statement: Statement) -> Query:
    """Both queries as one, under the names of the first. Raises SqlErrors."""
    if len(left.fields) != len(right.fields):
        raise refused(tree.expression, "column_count",
                      f"The first query has {len(left.fields)} columns, this one {len(right.fields)}.",
                      "Select the same number of columns.")  # fmt: skip
    fields = []
    for one, two in zip(left.fields, right.fields, strict=True):
        found = common_type((one.type, two.type))
        if found is None:
            raise refused(tree.expression, "type_mismatch",
                          f"'{one.name}' is {one.type} in the first query and {two.type} here.",
                          "CAST one of them.")  # fmt: skip
        fields.append(Field(one.name, found, max(one.texts, two.texts)))
    sides = [_as(query, [field.type for field in fields], statement) for query in (left, right)]
    whole = tree.args.get("distinct") is False
    if whole and not isinstance(tree, exp.Union):
        raise refused(tree.expression, "unsupported", "INTERSECT ALL and EXCEPT ALL are not available in queries.",
                      "Leave ALL out.")  # fmt: skip
    if isinstance(tree, exp.Union):
        both = sa.union_all(*sides) if whole else sa.union(*sides)
    else:
        both = sa.intersect(*sides) if isinstance(tree, exp.Intersect) else sa.except_(*sides)
    inner = both.subquery()
    columns = [inner.c[f"c{i}"].label(f"c{i}") for i in range(len(fields))]
    return Query(sa.select(*columns).select_from(inner), tuple(fields))


def _as(query: Query, types: list[DataType], statement: Statement) -> sa.Select[tuple[object, ...]]:
    """The query with these types, as a plain select: databases take no ORDER BY and LIMIT within a set operation."""
    inner = query.select.subquery()
    columns = []
    for i, (field, kind) in enumerate(zip(query.fields, types, strict=True)):
        ref = statement.ref(field.type, inner.c[f"c{i}"], texts=field.texts)
        columns.append(statement.written(coerced(ref, kind)).label(f"c{i}"))
    return sa.select(*columns).select_from(inner)
