"""UNNEST in the logical plan: a row for each element of an array or pair of a map."""

from __future__ import annotations

from dataclasses import dataclass

from penstock.expressions.nodes import Expr
from penstock_processor.logical.plan import Node

__all__ = ["Unnest"]


@dataclass(frozen=True, slots=True)
class Unnest(Node):
    """Fields: the input's, then `names`: what an element is made of, and its number from 1 with `ordinality`.

    An element that is a ROW gives its fields, a pair of a map its key and value. `outer`: a row whose `collection` is
    empty or NULL stays, with NULL in the new columns.
    """

    input: Node
    collection: Expr  # ARRAY or MAP over the input's fields
    names: tuple[str, ...]
    outer: bool
    ordinality: bool
