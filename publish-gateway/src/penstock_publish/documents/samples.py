"""A sample event of a topic: the newest one in the log, or one made from the columns where there is none to show."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import msgspec

from penstock.errors import PenstockError
from penstock.model.batch import Op
from penstock.model.position import Cursor
from penstock.model.stream import Relation, StreamSpec
from penstock.model.types import DataType, Kind
from penstock.ports.log import Log
from penstock_publish.topics.framing import Form, envelopes
from penstock_publish.topics.history import heads_of
from penstock_publish.topics.rows import Rows, key_columns

__all__ = ["Sample", "made_event", "newest_event", "sample_of"]

_READ_BYTES = 64 * 1024
_ROWS_BACK = 20  # a table's newest change may be a deletion, which shows little
_DELETE = Op.DELETE.text.encode()


@dataclass(frozen=True, slots=True)
class Sample:
    """An envelope. `real`: it was in the log."""

    event: dict[str, object]
    real: bool


async def sample_of(log: Log, spec: StreamSpec, *, may_read: bool) -> Sample:
    """The newest event if the visitor may read all rows of the topic, else one made from the columns."""
    found = None
    if may_read:
        try:
            found = await newest_event(log, spec)
        except PenstockError:
            found = None  # a page about a topic is worth showing without the log, too
    return Sample(made_event(spec), False) if found is None else Sample(found, True)


async def newest_event(log: Log, spec: StreamSpec) -> dict[str, object] | None:
    """The last event of the first partition that has one; of a table one that is no deletion. None: there is none."""
    heads = await heads_of(log, spec)
    place = tuple(head.next for head in heads)
    for partition, head in enumerate(heads):
        start = max(head.first, head.next - _ROWS_BACK)
        if start >= head.next:
            continue
        batches = await log.read(spec.name, partition, start, _READ_BYTES)
        for batch in reversed(batches):
            rows = await asyncio.to_thread(Rows(spec, batch, max(start, batch.first)).select, None)
            kept = [row for row in rows if row.op != _DELETE]
            if kept:
                cursors = Cursor(spec.name, head.epoch, place).texts(partition, [kept[-1].offset + 1])
                [line] = envelopes(spec.name, kept[-1:], cursors, form=Form.ENVELOPE)
                event: dict[str, object] = msgspec.json.decode(line)
                return event
    return None


def made_event(spec: StreamSpec) -> dict[str, object]:
    """An envelope with a value of its type in every column."""
    columns = {column.name: _made(column.type, column.name) for column in spec.columns}
    event: dict[str, object] = {"t": spec.name, "c": "MS4wMTk4ZTQuMA"}
    key = [columns.get(name) for name in key_columns(spec)]
    if key:
        event["k"] = str(key[0]) if len(key) == 1 else msgspec.json.encode(key).decode()
    if spec.relation is Relation.TABLE:
        event |= {"op": "+I", "complete": True}
    return {**event, "d": columns}


def _made(data_type: DataType, name: str) -> object:
    kind = data_type.kind
    if kind is Kind.ARRAY:
        return [_made(data_type.element, name)]
    if kind is Kind.MAP:
        return {"key": _made(data_type.key_and_value[1], name)}
    if kind is Kind.ROW:
        return {part: _made(of, part) for part, of in data_type.parts}
    if kind is Kind.DECIMAL:
        return f"{12.5:.{data_type.scale or 0}f}"
    if data_type.is_integer:
        return 42
    return _SAMPLES.get(kind, f"some {name}")


_SAMPLES: dict[Kind, object] = {
    Kind.BOOLEAN: True,
    Kind.FLOAT: 12.5,
    Kind.DOUBLE: 12.5,
    Kind.BYTES: "AQID",
    Kind.DATE: "2026-01-05",
    Kind.TIME: "09:00:00",
    Kind.TIMESTAMP: "2026-01-05T09:00:00.000",
    Kind.TIMESTAMP_LTZ: "2026-01-05T09:00:00.000Z",
}
