"""What a query gives becomes what its target takes: column count, order, types, and columns that are left out."""

from __future__ import annotations

from penstock.expressions.literals import coerced
from penstock.expressions.nodes import NOWHERE, ColumnRef, Expr, Literal, Span
from penstock.model.stream import Column, StreamSpec
from penstock_processor.logical.implicit_casts import fits
from penstock_processor.logical.plan import Field, Named, Node, Project
from penstock_processor.sql.findings import Findings, closest
from penstock_processor.sql.statements import Word

__all__ = ["into_target", "places_of"]


def into_target(
    query: Node, spec: StreamSpec, *, columns: tuple[Word, ...], at: Span, findings: Findings
) -> Node | None:
    """The query with the target's columns, in order and type; None if it does not fit (noted in `findings`).

    `columns`: those named in INSERT INTO t (a, b); the others become NULL.
    """
    wanted = _wanted(spec, columns, findings)
    if wanted is None:
        return None
    if len(wanted) != len(query.fields):
        findings.add(
            at,
            "column_count",
            message=f"'{spec.name}' takes {len(wanted)} columns ({_names(wanted)}), the query gives "
            f"{len(query.fields)} ({', '.join(f.name for f in query.fields)}).",
            remedy="Select one value for each column, in this order.",
        )
        return None
    given = {c.name: (f, place) for c, f, place in zip(wanted, query.fields, places_of(query, at), strict=True)}
    fields, exprs, fitting = [], [], True
    for column in spec.columns:
        value: Expr
        if column.name in given:
            field, place = given[column.name]
            fitting = _check(field, column, place, findings) and fitting
            value = ColumnRef(field.type, name=field.name)
            keeps = field.rowtime and field.type == column.type
        else:
            value, keeps = Literal(column.type, value=None), False
        fields.append(Field(column.name, column.type, keeps))
        exprs.append(Named(column.name, coerced(value, column.type) if fitting else value))
    return Project(tuple(fields), query, tuple(exprs)) if fitting else None


def _wanted(spec: StreamSpec, columns: tuple[Word, ...], findings: Findings) -> list[Column] | None:
    """The target's columns that the query gives, in its order."""
    if not columns:
        return list(spec.columns)
    known = {c.name: c for c in spec.columns}
    found: list[Column] = []
    fitting = True
    for word in columns:
        column = known.get(word.text)
        if column is None:
            findings.add(
                word.span,
                "unknown_column",
                message=f"'{spec.name}' has no column '{word.text}'.",
                remedy=closest(word.text, known, otherwise=f"Columns are {', '.join(known)}."),
            )
            fitting = False
        elif column in found:
            findings.add(
                word.span, "name_taken", message=f"Column '{word.text}' is named twice.", remedy="Name it once."
            )
            fitting = False
        else:
            found.append(column)
    left_out = [c.name for c in spec.columns if not c.nullable and c not in found]
    if fitting and left_out:
        findings.add(
            columns[0].span,
            "not_null",
            message=f"'{left_out[0]}' of '{spec.name}' may not be NULL, so it cannot be left out.",
            remedy=f"Add {', '.join(left_out)} to the columns.",
        )
        return None
    return found if fitting else None


def _check(field: Field, column: Column, at: Span, findings: Findings) -> bool:
    if fits(field.type, column.type):
        return True
    shown = "" if field.name.startswith("EXPR$") else f" ('{field.name}')"
    findings.add(
        at,
        "type_mismatch",
        message=f"Column '{column.name}' is {column.type}, the query gives {field.type}{shown}.",
        remedy=f"Write CAST({'...' if not shown else field.name} AS {column.type}), or change the column.",
    )
    return False


def places_of(query: Node, at: Span) -> list[Span]:
    """Where the query's columns are written, as far as a SELECT list is on top."""
    if isinstance(query, Project) and len(query.exprs) == len(query.fields):
        return [n.expr.span if n.expr.span != NOWHERE else at for n in query.exprs]
    return [at] * len(query.fields)


def _names(columns: list[Column]) -> str:
    return ", ".join(c.name for c in columns)
