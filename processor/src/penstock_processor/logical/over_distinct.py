"""DISTINCT in OVER with a frame that has no beginning: of each value the row that it first came with counts.

Which row that is, a running count over the key and the value says: an OVER below the other one. A frame that has a
beginning loses rows again, and the one that counts would change.
"""

from __future__ import annotations

from dataclasses import replace

from penstock.expressions.nodes import Call, Case, ColumnRef, Expr, Literal
from penstock.model.types import BIGINT, BOOLEAN
from penstock_processor.logical.plan import AggregateCall, Field, Node
from penstock_processor.logical.plan_over import OverAggregate
from penstock_processor.logical.select_list import with_columns

__all__ = ["counted_once"]


def counted_once(
    node: Node, calls: tuple[AggregateCall, ...], *, partition: tuple[str, ...], time: str
) -> tuple[Node, tuple[AggregateCall, ...]]:
    """The rows with what is needed beside them, and the calls without DISTINCT over that."""
    made: list[AggregateCall] = []
    found: dict[Expr, tuple[str, ColumnRef]] = {}  # argument -> its column, and how many rows had its value by then
    for call in calls:
        if not call.distinct or call.arg is None:
            made.append(call)
            continue
        if call.arg not in found:
            node, (column,) = with_columns(node, (call.arg,), prefix=f"$once{len(found)}x")
            count = AggregateCall(f"nth$over{len(found)}", "COUNT", None, BIGINT)
            fields = (*node.fields, Field(count.name, BIGINT))
            keys = tuple(dict.fromkeys((*partition, column)))
            node = OverAggregate(fields, node, keys, time, True, None, (count,))
            found[call.arg] = column, ColumnRef(BIGINT, name=count.name)
        name, nth = found[call.arg]
        first = Call(BOOLEAN, function="=", args=(nth, Literal(BIGINT, value=1)))
        value = Case(call.arg.type, branches=((first, ColumnRef(call.arg.type, name=name)),))
        made.append(replace(call, arg=value, distinct=False))
    return node, tuple(made)
