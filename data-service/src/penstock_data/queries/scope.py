"""Names in reach of an expression: relations of FROM with their aliases, and the SQL behind each of their columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import sqlalchemy as sa
from sqlglot import exp

from penstock.expressions.coercion import Mismatch
from penstock.expressions.column_scope import unknown_column
from penstock.expressions.nodes import Call, Case, Cast, ColumnRef, Expr, Literal
from penstock.model.stream import StreamSpec
from penstock.model.types import DataType
from penstock_data.queries.forks import Element, Elements
from penstock_data.queries.refusals import refused, refused_at
from penstock_data.queries.values import Values
from penstock_data.settings import SqlSettings

__all__ = ["Field", "Query", "Relations", "RowScope", "Seen", "Statement"]


class Relations(Protocol):
    """The stored relations by their public names."""

    def spec(self, name: str, at: exp.Expr) -> StreamSpec:
        """The relation; SqlErrors `unknown_relation` with what to write instead."""
        ...


@dataclass(frozen=True, slots=True)
class Field:
    """A column of a query or of a relation of FROM. `texts`: how many stored ones make one of its texts at most."""

    name: str
    type: DataType
    texts: int = 1


@dataclass(frozen=True, slots=True)
class Query:
    """A bound query: its select, whose columns are labelled c0, c1, ..., and their names and types.

    `single`: it has one row at most.
    """

    select: sa.Select[tuple[object, ...]]
    fields: tuple[Field, ...]
    single: bool = False


@dataclass
class Statement:
    """What is known and counted across one statement: limits, parameters, time, the SQL behind column references."""

    relations: Relations
    limits: SqlSettings
    parameters: Sequence[Literal] | Mapping[str, Literal]
    now_ms: int
    elements: Elements = field(default_factory=dict)
    used: set[str] = field(default_factory=set)  # parameters by name
    read: dict[str, StreamSpec] = field(default_factory=dict)  # relations
    places: Mapping[int, int] = field(default_factory=dict)  # offset in the text of a `?` -> which it is
    inputs: int = 0
    texts: dict[str, int] = field(default_factory=dict)  # of column references: see `Field.texts`

    def place_of(self, node: exp.Placeholder) -> int:
        """Which parameter by place this one is, from 0."""
        return self.places[node.meta["start"]]

    def ref(self, data_type: DataType, element: Element | Callable[[], Element], *, texts: int = 1) -> ColumnRef:
        """A new column reference that stands for `element`, or for what it will give once all is bound."""
        name = f"e{len(self.elements)}"
        self.elements[name] = element
        self.texts[name] = texts
        return ColumnRef(data_type, name=name)

    def texts_of(self, *expressions: Expr) -> int:
        """Of how many stored texts the longest of these is joined at most."""
        return max((self._texts_of(expr) for expr in expressions), default=1)

    def _texts_of(self, expr: Expr) -> int:
        match expr:
            case ColumnRef():
                return self.texts[expr.name]
            case Call(function="||" | "CONCAT"):
                return sum(self._texts_of(arg) for arg in expr.args)
            case Call():
                return self.texts_of(*expr.args)
            case Cast():
                return self._texts_of(expr.arg)
            case Case():
                results = [then for _, then in expr.branches]
                return self.texts_of(*results, *([] if expr.otherwise is None else [expr.otherwise]))
        return 1

    def written(self, expr: Expr) -> Element:
        """The SQL of an expression, once what it refers to is known. Raises SqlErrors."""
        if self.texts_of(expr) > self.limits.texts_joined_max:
            raise refused_at(expr.span, "too_large", f"This joins more than {self.limits.texts_joined_max} texts: "
                             "joined ones that are joined again could fill any memory.", "Join less.")  # fmt: skip
        return Values(self.elements, parts_max=self.limits.parts_max).of(expr)

    def input(self, at: exp.Expr) -> str:
        """A new alias for an input of FROM. Raises SqlErrors where there are too many."""
        self.inputs += 1
        if self.inputs > self.limits.inputs_max:
            raise refused(at, "too_large", f"The query reads more than {self.limits.inputs_max} relations.",
                          "Split it, or store a part of it in the app.")  # fmt: skip
        return f"t{self.inputs}"


@dataclass(frozen=True, slots=True)
class Seen:
    """One relation of FROM; `hidden`: columns that USING shows once, for both sides."""

    alias: str
    fields: tuple[Field, ...]
    refs: tuple[ColumnRef, ...]
    hidden: frozenset[str] = frozenset()


class RowScope:
    """Columns of the relations of one FROM; names are case-sensitive. Implements `expressions.column_scope.Scope`."""

    def __init__(self, relations: Sequence[Seen]) -> None:
        self.relations = tuple(relations)

    def resolve(self, name: str, qualifier: str | None) -> ColumnRef:
        """See `Scope`."""
        seen = self.named(qualifier)
        found = [ref for one in seen for f, ref in _shown(one, qualified=qualifier is not None) if f.name == name]
        if len(found) > 1:
            raise Mismatch(f"'{name}' is a column of more than one input.", "Write the table before it.",
                           "ambiguous_column")  # fmt: skip
        if not found:
            raise unknown_column(name, [f.name for one in seen for f in one.fields])
        return found[0]

    def star(self, qualifier: str | None) -> list[tuple[Field, ColumnRef]]:
        """All columns, or those of one relation, in order. Mismatch as `resolve`."""
        return [pair for one in self.named(qualifier) for pair in _shown(one, qualified=qualifier is not None)]

    def named(self, qualifier: str | None) -> tuple[Seen, ...]:
        """The relations, or the one of this alias."""
        if qualifier is None:
            return self.relations
        found = tuple(one for one in self.relations if one.alias == qualifier)
        if not found:
            known = ", ".join(one.alias for one in self.relations) or "none"
            raise Mismatch(f"There is no table '{qualifier}' here.", f"Tables of FROM: {known}.", "unknown_table")
        return found


def _shown(seen: Seen, *, qualified: bool) -> list[tuple[Field, ColumnRef]]:
    pairs = zip(seen.fields, seen.refs, strict=True)
    return [(f, ref) for f, ref in pairs if qualified or f.name not in seen.hidden]
