"""Plan node of lookup joins: rows of a source with rows of a system of others, asked for by key as they come."""

from __future__ import annotations

from dataclasses import dataclass

from penstock.expressions.nodes import Expr
from penstock.model.stream import Column
from penstock_processor.logical.plan import Filter, JoinKind, Node, Project

__all__ = ["LookupJoin", "LookupTable", "lookups_below"]


@dataclass(frozen=True, slots=True)
class LookupTable:
    """A declared table that is no relation of the log. `options`: as written; `key_names`: by what its connector asks
    for rows, None: by whatever columns a join has equalities with.
    """

    name: str
    connector: str
    columns: tuple[Column, ...]
    options: tuple[tuple[str, str], ...]
    key_names: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class LookupJoin(Node):
    """Rows of `left` with rows of `table` that have equal keys at the moment: INNER or LEFT.

    Flink: "Lookup Join". `left` is a source with filters, projections, other lookups: keys are known before a step.
    Output columns: the fields of `left` as `left_names`, all columns of the table as `right_names`.
    """

    left: Node
    table: LookupTable
    left_names: tuple[str, ...]
    right_names: tuple[str, ...]
    left_keys: tuple[Expr, ...]  # over left.fields names
    key_columns: tuple[str, ...]  # columns of the table
    residual: Expr | None
    kind: JoinKind = JoinKind.INNER


def lookups_below(node: Node) -> int:
    """How many lookup joins a left side has, itself included."""
    match node:
        case LookupJoin():
            return 1 + lookups_below(node.left)
        case Filter() | Project():
            return lookups_below(node.input)
        case _:
            return 0
