"""Rows that the other side refused, corrected by a person: read again, one at a time, to be delivered anew. Pure."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

import msgspec
import polars as pl

from penstock.model.batch import OP_COLUMN, Op, RejectedEvent
from penstock.model.stream import Relation, StreamSpec
from penstock.ports.outlet import OutBatch
from penstock_processor.runtime.decode import RowDecoder
from penstock_processor.runtime.rejections import ReplayItem

__all__ = ["DELIVERY_CODES", "DeliveryReplay", "again", "row_of"]

#: Codes of rejected events that a delivery left.
DELIVERY_CODES = frozenset({"delivery_refused", "delivery_failed"})
_OPS = {op.text: op for op in Op}


class _Changed(msgspec.Struct):
    op: str = msgspec.field(default="+I", name=OP_COLUMN)


@dataclass(frozen=True, slots=True)
class DeliveryReplay:
    """Rejected events to deliver anew; `done` gets those that failed again."""

    items: tuple[ReplayItem, ...]
    done: asyncio.Future[list[RejectedEvent]]


def row_of(item: ReplayItem, spec: StreamSpec, *, epoch: int, at: int) -> OutBatch | str:
    """The row, as a batch that moves no position; or why it is no row of the table."""
    decoded = RowDecoder(spec.columns).decode(item.raw)
    if decoded.bad:
        return f"{decoded.bad[0].code}: {decoded.bad[0].detail}"
    op = Op.INSERT
    if spec.relation is Relation.TABLE:
        try:
            op = _OPS[msgspec.json.decode(item.raw, type=_Changed).op]
        except (msgspec.DecodeError, KeyError):
            return f"bad_json: '{OP_COLUMN}' is +I, +U or -D"
    partition, offset = item.event.position or (0, 0)
    frame = decoded.frame.with_columns(pl.lit(int(op), dtype=pl.Int8).alias(OP_COLUMN))
    return OutBatch(spec.name, partition, epoch, at, at, frame, [offset])


def again(item: ReplayItem, why: str | None, *, now_ms: int, detail_max_chars: int) -> list[RejectedEvent]:
    """The same event under its new id, if it failed again."""
    if why is None:
        return []
    event = item.event
    return [
        replace(
            event, id=item.new_id, at_ms=now_ms, code="delivery_refused", detail=why[:detail_max_chars], raw=item.raw,
            replayed_at_ms=None,
        )
    ]  # fmt: skip
