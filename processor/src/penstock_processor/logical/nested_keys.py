"""Arrays, maps and rows are values, not keys: where an operator tells rows apart by a column, they are refused."""

from __future__ import annotations

from collections.abc import Iterable

from penstock.expressions.nodes import Span
from penstock.model.types import DataType
from penstock_processor.logical.plan import Named, Node
from penstock_processor.logical.rewrite import inputs_of
from penstock_processor.sql.findings import refusal

__all__ = ["refuse_nested_keys"]


def refuse_nested_keys(node: Node, at: Span) -> None:
    """Raises SqlErrors if anywhere in the plan a key, a partition or a DISTINCT argument is an ARRAY, MAP or ROW."""
    for data_type in _told_apart_by(node):
        if data_type.is_nested:
            raise refusal(
                at,
                "type_mismatch",
                message=f"Rows are told apart by a column of type {data_type} in this query.",
                remedy="Group, partition and count DISTINCT by elements, fields, or ARRAY_JOIN(a, ',').",
            )
    for below in inputs_of(node):
        refuse_nested_keys(below, at)


def _told_apart_by(node: Node) -> Iterable[DataType]:
    for key in getattr(node, "keys", ()):
        yield key.expr.type if isinstance(key, Named) else key.type
    columns = {field.name: field.type for below in inputs_of(node) for field in below.fields}
    for name in getattr(node, "partition", ()):
        if name in columns:
            yield columns[name]
    for call in getattr(node, "calls", ()):
        if call.distinct and not call.collects and call.arg is not None:
            yield call.arg.type
