"""Conditions of WHERE, ON, HAVING and FILTER."""

from __future__ import annotations

import sqlalchemy as sa
from sqlglot import exp

from penstock.expressions.nodes import Expr
from penstock.model.types import Kind
from penstock_data.queries.refusals import refused
from penstock_data.queries.scope import Statement

__all__ = ["condition"]


def condition(bound: Expr, statement: Statement, *, at: exp.Expr, where: str) -> sa.ColumnElement[bool]:
    """The SQL of a condition. Raises SqlErrors if it is none."""
    if bound.type.kind not in (Kind.BOOLEAN, Kind.NULL):
        raise refused(at, "type_mismatch", f"{where} takes a condition, not {bound.type}.", f"Write {where} a = b.")
    return statement.written(bound)
