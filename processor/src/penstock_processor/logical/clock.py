"""CURRENT_TIMESTAMP and its like: the time of the cycle that computes a row, the same for all rows of a cycle.

Flink computes them for each record, in the time zone of the session, which is UTC here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields

from sqlglot import exp

from penstock.expressions.cycle_clock import NOW
from penstock.expressions.dialect import span_of
from penstock.expressions.nodes import Call, Cast, Expr, walk
from penstock.model.types import DATE, TIME, TIMESTAMP, TIMESTAMP_LTZ, DataType
from penstock_processor.logical.plan import Node
from penstock_processor.logical.rewrite import inputs_of

__all__ = ["clock_call", "reads_clock"]

_WORDS = {
    "CURRENT_TIMESTAMP": TIMESTAMP_LTZ,
    "LOCALTIMESTAMP": TIMESTAMP,
    "CURRENT_DATE": DATE,
    "CURRENT_TIME": TIME,
    "LOCALTIME": TIME,
}
_CALLS = {"NOW": TIMESTAMP_LTZ, "CURRENT_ROW_TIMESTAMP": TIMESTAMP_LTZ}


def clock_call(node: exp.Expr) -> Expr | None:
    """The expression of CURRENT_TIMESTAMP, NOW() and the like; None for anything else."""
    wanted: DataType | None = None
    if isinstance(node, exp.Column) and not node.args.get("table") and not node.this.args.get("quoted"):
        wanted = _WORDS.get(node.name.upper())
    elif isinstance(node, exp.Anonymous) and not node.expressions:
        wanted = _CALLS.get(node.name.upper())
    if wanted is None:
        return None
    at = span_of(node)
    now: Expr = Call(TIMESTAMP_LTZ, function=NOW, args=(), span=at)
    if wanted == TIMESTAMP_LTZ:
        return now
    local = Cast(TIMESTAMP, arg=now, span=at)
    return local if wanted == TIMESTAMP else Cast(wanted, arg=local, span=at)


def reads_clock(node: Node) -> bool:
    """Whether a plan depends on when it is computed."""
    own = any(isinstance(each, Call) and each.function == NOW for expr in _exprs(node) for each in walk(expr))
    return own or any(reads_clock(one) for one in inputs_of(node))


def _exprs(value: object) -> Iterator[Expr]:
    """The expressions of a node itself."""
    for field in fields(value):  # type: ignore[arg-type]  # nodes are dataclasses
        yield from _inside(getattr(value, field.name))


def _inside(value: object) -> Iterator[Expr]:
    match value:
        case Node():
            return
        case Expr():
            yield value
        case tuple():
            for each in value:
                yield from _inside(each)
        case _ if hasattr(value, "__dataclass_fields__"):
            yield from _exprs(value)
