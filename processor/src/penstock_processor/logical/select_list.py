"""The SELECT list: stars written out, names given, event time kept where one time attribute passes unchanged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from sqlglot import exp

from penstock.expressions.dialect import span_of
from penstock.expressions.nodes import ColumnRef, Expr, Span
from penstock_processor.logical.plan import Field, Named, Node, Project
from penstock_processor.logical.scope import RowScope
from penstock_processor.sql.findings import refusal
from penstock_processor.sql.parse import only
from penstock_processor.sql.statements import Word

__all__ = ["Output", "Values", "outputs_of", "project", "renamed", "with_columns"]


class Values(Protocol):
    """How expressions of a SELECT list are bound: over rows, or over groups."""

    def value(self, node: exp.Expr) -> Expr:
        """An expression of the list."""
        ...

    def column(self, column: ColumnRef) -> Expr:
        """A column that a star stands for."""
        ...


@dataclass(frozen=True, slots=True)
class Output:
    """One column; `name` None: not named in the text."""

    name: str | None
    expr: Expr


def outputs_of(tree: exp.Select, scope: RowScope, values: Values) -> list[Output]:
    """The columns of the list in order. Raises SqlErrors."""
    outputs: list[Output] = []
    for item in tree.expressions:
        inner = item.this if isinstance(item, exp.Alias) else item
        star = inner.this if isinstance(inner, exp.Column) else inner
        if isinstance(star, exp.Star):
            only(star, (), where="*")
            if isinstance(item, exp.Alias):
                raise refusal(span_of(item), "syntax", message="* cannot be named.", remedy="Remove AS.")
            qualifier = inner.table or None if isinstance(inner, exp.Column) else None
            at = span_of(inner if qualifier else tree)
            outputs.extend(Output(found.name, values.column(found.column)) for found in scope.star(qualifier, at))
        else:
            name = item.alias if isinstance(item, exp.Alias) else inner.name if isinstance(inner, exp.Column) else ""
            outputs.append(Output(name or None, values.value(inner)))
    return outputs


def project(
    node: Node, outputs: list[Output], *, is_rowtime: Callable[[str], bool], columns_max: int, at: Span
) -> Project:
    """The projection. Unnamed columns are called EXPR$0 and so on, repeated names get a number, as in Flink."""
    if len(outputs) > columns_max:
        raise refusal(
            at,
            "too_many_columns",
            message=f"The query has {len(outputs):,} columns.",
            remedy=f"At most {columns_max:,}.",
        )
    times = {o.expr.name for o in outputs if isinstance(o.expr, ColumnRef) and is_rowtime(o.expr.name)}
    time = next(iter(times)) if len(times) == 1 else None
    fields: list[Field] = []
    for i, output in enumerate(outputs):
        keeps = isinstance(output.expr, ColumnRef) and output.expr.name == time
        fields.append(Field(_distinct(output.name or f"EXPR${i}", {f.name for f in fields}), output.expr.type, keeps))
        time = None if keeps else time  # selected twice, the first keeps it
    exprs = tuple(Named(f.name, o.expr) for f, o in zip(fields, outputs, strict=True))
    return Project(tuple(fields), node, exprs)


def renamed(node: Node, names: tuple[Word, ...], *, at: Span) -> Node:
    """The node with other column names; the same node if `names` is empty. Raises SqlErrors."""
    if not names:
        return node
    if len(names) != len(node.fields):
        raise refusal(
            at,
            "column_count",
            message=f"{len(names)} names are given for {len(node.fields)} columns.",
            remedy="Name every column of the query once.",
        )
    for i, name in enumerate(names):
        if name.text in {n.text for n in names[:i]}:
            raise refusal(
                name.span, "name_taken", message=f"The name '{name.text}' is given twice.", remedy="Use another name."
            )
    fields = tuple(Field(n.text, f.type, f.rowtime) for n, f in zip(names, node.fields, strict=True))
    exprs = tuple(Named(n.text, ColumnRef(f.type, name=f.name)) for n, f in zip(names, node.fields, strict=True))
    return Project(fields, node, exprs)


def _distinct(name: str, taken: set[str]) -> str:
    number, free = 0, name
    while free in taken:
        free, number = f"{name}{number}", number + 1
    return free


def with_columns(node: Node, exprs: tuple[Expr, ...], *, prefix: str = "$over") -> tuple[Node, tuple[str, ...]]:
    """The node with columns for these expressions, and their names; `prefix` begins those that are made."""
    names: list[str] = []
    made: list[Named] = []
    for expr in exprs:
        if not isinstance(expr, ColumnRef):
            made.append(Named(f"{prefix}{len(made)}", expr))
        names.append(expr.name if isinstance(expr, ColumnRef) else made[-1].name)
    if not made:
        return node, tuple(names)
    shown = [Named(field.name, ColumnRef(field.type, name=field.name)) for field in node.fields]
    fields = (*node.fields, *(Field(each.name, each.expr.type) for each in made))
    return Project(fields, node, (*shown, *made)), tuple(names)
