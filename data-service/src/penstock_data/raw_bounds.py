"""What the conditions of a request say about offsets and times: which batches and files need not be read. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from penstock.model.batch import Batch
from penstock.model.stream import StreamSpec
from penstock_data.query import POSITION, Condition, Operator
from penstock_data.raw_columns import RECEIVED, TIME

__all__ = ["END", "may_match", "offset_bounds", "time_bounds", "times_of"]

#: Beyond every offset.
END = 2**62


def offset_bounds(conditions: Sequence[Condition], partition: int) -> tuple[int, int]:
    """Offsets [low, high) outside of which no event of the partition can match the conditions on POSITION."""
    low, high = 0, END
    for condition in conditions:
        if condition.column.name != POSITION or condition.negated or not isinstance(condition.value, tuple):
            continue
        if condition.operator in (Operator.IN, Operator.NEQ, Operator.LIKE):
            continue
        wanted, offset = condition.value
        assert isinstance(wanted, int)  # a position is a pair of numbers
        assert isinstance(offset, int)
        match condition.operator:
            case Operator.EQ:
                low, high = (max(low, offset), min(high, offset + 1)) if partition == wanted else (0, 0)
            case Operator.GT | Operator.GTE:
                after = offset + (condition.operator is Operator.GT)
                low = max(low, after) if partition == wanted else low if partition > wanted else high
            case Operator.LT | Operator.LTE:
                until = offset + (condition.operator is Operator.LTE)
                high = min(high, until) if partition == wanted else high if partition < wanted else 0
    return low, high


def may_match(spec: StreamSpec, batch: Batch, conditions: Sequence[Condition]) -> bool:
    """False when the batch's own bounds say that none of its events can match: it need not be decoded."""
    times = times_of(spec)
    for condition in conditions:
        value = condition.value
        if condition.negated or not isinstance(value, int) or isinstance(value, bool):
            continue
        if condition.column.name == RECEIVED:
            least: int | None = batch.appended_at_ms
            greatest: int | None = batch.appended_at_ms
        elif condition.column.name in times and condition.column.type.is_timestamp:
            least, greatest = batch.min_time_ms, batch.max_time_ms
        else:
            continue
        if least is None or greatest is None:
            continue
        outside = {
            Operator.EQ: value < least or value > greatest,
            Operator.LT: least >= value,
            Operator.LTE: least > value,
            Operator.GT: greatest <= value,
            Operator.GTE: greatest < value,
        }
        if outside.get(condition.operator, False):
            return False
    return True


def times_of(spec: StreamSpec) -> set[str]:
    """The columns that hold the event time."""
    return {TIME, spec.time_column} if spec.time_column else {TIME}


def time_bounds(conditions: Sequence[Condition], names: Collection[str]) -> tuple[int | None, int | None]:
    """Least and greatest epoch milliseconds (both included) that the columns `names` may have; None: no bound."""
    least: int | None = None
    greatest: int | None = None
    for condition in conditions:
        value = condition.value
        if condition.column.name not in names or condition.negated or not condition.column.type.is_timestamp:
            continue
        if not isinstance(value, int) or isinstance(value, bool):
            continue
        if condition.operator in (Operator.EQ, Operator.GT, Operator.GTE):
            least = value if least is None else max(least, value)
        if condition.operator in (Operator.EQ, Operator.LT, Operator.LTE):
            greatest = value if greatest is None else min(greatest, value)
    return least, greatest
