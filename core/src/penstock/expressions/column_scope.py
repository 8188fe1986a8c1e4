"""Names that an expression may use: which column a name means, and what to say when it means none."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Protocol

from penstock.expressions.coercion import Mismatch
from penstock.expressions.nodes import ColumnRef
from penstock.model.types import DataType

__all__ = ["ColumnScope", "Scope", "unknown_column"]


class Scope(Protocol):
    """Names that an expression may use."""

    def resolve(self, name: str, qualifier: str | None) -> ColumnRef:
        """The column; Mismatch with code `unknown_column` or `ambiguous_column`. Names are case-sensitive."""
        ...


class ColumnScope:
    """Columns of one relation, also under the relation's name."""

    def __init__(self, columns: Sequence[tuple[str, DataType]], relation: str | None = None) -> None:
        self._types = dict(columns)
        self._relation = relation

    def resolve(self, name: str, qualifier: str | None) -> ColumnRef:
        """As `Scope.resolve`."""
        if qualifier is not None and qualifier != self._relation:
            known = f"Write {self._relation}.{name}." if self._relation else f"Write {name} alone."
            raise Mismatch(f"There is no table '{qualifier}' here.", known, "unknown_table")
        found = self._types.get(name)
        if found is None:
            raise unknown_column(name, list(self._types))
        return ColumnRef(found, name=name)


def unknown_column(name: str, known: Sequence[str]) -> Mismatch:
    """The finding for a name that is no column, with the closest that is."""
    lower = {k.lower(): k for k in known}
    close = [lower[name.lower()]] if name.lower() in lower else get_close_matches(name, known, n=1)
    remedy = f"Did you mean {close[0]}?" if close else f"Columns: {', '.join(sorted(known)[:20])}."
    return Mismatch(f"There is no column '{name}'.", remedy, "unknown_column")
