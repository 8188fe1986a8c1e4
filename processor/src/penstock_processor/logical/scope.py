"""Names in reach of an expression: the relations of FROM with their aliases, and the frame columns behind them."""

from __future__ import annotations

from dataclasses import dataclass

from penstock.expressions.coercion import Mismatch
from penstock.expressions.nodes import ColumnRef, Span
from penstock_processor.logical.plan import Field
from penstock_processor.sql.findings import closest, refusal

__all__ = ["Item", "RowScope", "Seen"]


@dataclass(frozen=True, slots=True)
class Seen:
    """One relation of FROM. `frame[i]` is the name of `fields[i]` in the rows that expressions are evaluated on.

    `hidden`: columns that are seen only with the alias in front (USING shows them once, for both sides).
    """

    alias: str
    fields: tuple[Field, ...]
    frame: tuple[str, ...]
    hidden: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Item:
    """A column of a star: the name it shows under and the frame's column."""

    name: str
    column: ColumnRef


class RowScope:
    """Resolves column names of one SELECT. Names are case-sensitive, as in Flink."""

    def __init__(self, relations: tuple[Seen, ...]) -> None:
        self.relations = relations

    def resolve(self, name: str, qualifier: str | None) -> ColumnRef:
        """The frame's column. Raises Mismatch: unknown_relation, unknown_column, ambiguous_column."""
        relations = self._named(qualifier)
        found = [
            ColumnRef(f.type, name=frame)
            for seen in relations
            for f, frame in zip(seen.fields, seen.frame, strict=True)
            if f.name == name and (qualifier is not None or name not in seen.hidden)
        ]
        if len(found) > 1:
            written = " or ".join(f"{seen.alias}.{name}" for seen in relations)
            raise Mismatch(f"'{name}' is a column of more than one input.", f"Write {written}.", "ambiguous_column")
        if not found:
            shown = f"{qualifier}.{name}" if qualifier else name
            raise Mismatch(f"There is no column '{shown}'.", self._remedy(name, relations), "unknown_column")
        return found[0]

    def star(self, qualifier: str | None, at: Span) -> list[Item]:
        """All columns, or those of one relation, in order. Raises SqlErrors: unknown_relation."""
        try:
            relations = self._named(qualifier)
        except Mismatch as mismatch:
            raise refusal(at, mismatch.code, message=mismatch.message, remedy=mismatch.remedy) from None
        return [
            Item(f.name, ColumnRef(f.type, name=frame, span=at))
            for seen in relations
            for f, frame in zip(seen.fields, seen.frame, strict=True)
            if qualifier is not None or f.name not in seen.hidden
        ]

    def rowtime(self, frame: str) -> bool:
        """Whether the frame's column is a time attribute."""
        return any(
            f.rowtime
            for seen in self.relations
            for f, name in zip(seen.fields, seen.frame, strict=True)
            if name == frame
        )

    def _named(self, qualifier: str | None) -> tuple[Seen, ...]:
        if qualifier is None:
            return self.relations
        found = tuple(seen for seen in self.relations if seen.alias == qualifier)
        if not found:
            known = [seen.alias for seen in self.relations if seen.alias]
            remedy = closest(
                qualifier, known, otherwise=f"FROM has {_listed(known)}." if known else "Write the column alone."
            )
            raise Mismatch(f"There is no '{qualifier}' in FROM.", remedy, "unknown_relation")
        return found

    def _remedy(self, name: str, relations: tuple[Seen, ...]) -> str:
        known = [f.name for seen in relations for f in seen.fields]
        if not known:
            return "Columns cannot be used here."
        return closest(name, known, otherwise=f"Columns are {_listed(known)}.")


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:20])
    return shown if len(names) <= 20 else f"{shown}, ..."
