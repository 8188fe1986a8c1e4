"""ORDER BY: NULL is the least value unless NULLS FIRST or LAST says otherwise, as in Flink."""

from __future__ import annotations

from collections.abc import Sequence

from sqlglot import exp

from penstock_data.queries.forks import Element
from penstock_data.queries.refusals import only, refused

__all__ = ["ordered_by", "parts_of", "place_of"]


def parts_of(order: exp.Expr) -> list[exp.Ordered]:
    """The parts of ORDER BY. Raises SqlErrors for what is more than an expression and a direction."""
    only(order, ("expressions",), where="ORDER BY")
    for one in order.expressions:
        if not isinstance(one, exp.Ordered):
            raise refused(one, "syntax", "ORDER BY takes expressions.", "Write ORDER BY a, b DESC.")
        only(one, ("this", "desc", "nulls_first"), where="ORDER BY")
    return list(order.expressions)


def ordered_by(element: Element, node: exp.Ordered) -> Element:
    """The element in the direction of this part."""
    found = element.desc() if node.args.get("desc") else element.asc()
    return found.nulls_first() if node.args.get("nulls_first") else found.nulls_last()


def place_of(node: exp.Expr, names: Sequence[str]) -> int | None:
    """Which output column a part of ORDER BY means; None if it is an expression. Raises SqlErrors."""
    if isinstance(node, exp.Literal) and not node.is_string:
        if not node.this.isdigit() or not 1 <= int(node.this) <= len(names):
            raise refused(node, "syntax", f"There is no column {node.this}.", f"There are {len(names)}.")
        return int(node.this) - 1
    if isinstance(node, exp.Column) and not node.args.get("table"):
        return next((i for i, name in enumerate(names) if name == node.name), None)
    return None
