"""A stream's schema as msgspec decoders: how one JSON object becomes checked columns. Pure; cached per StreamSpec.

Two decoders read the same columns. `fast` lets msgspec check times and bytes in C and is used for whole blocks;
`exact` keeps the JSON values and is used line by line, where an error must be explained. What `fast` accepts is a
subset of what `exact` and `penstock.codecs.json_values` accept.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Annotated, Any

import msgspec
import xxhash

from penstock.codecs.json_values import TIMESTAMP_MAX_MS, TIMESTAMP_MIN_MS, reader, wire_type
from penstock.codecs.keys import key_bytes
from penstock.model.partitioning import partitions_of
from penstock.model.stream import Column, StreamSpec
from penstock.model.types import DataType, Kind

__all__ = ["ID_BYTES", "Field", "Record"]

ID_BYTES = 16
_FAST_TIMESTAMP = Annotated[int, msgspec.Meta(ge=TIMESTAMP_MIN_MS, le=TIMESTAMP_MAX_MS)] | dt.datetime

Getter = Callable[[Any], Any]
Reader = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Field:
    """A column as the decoders see it. `get` reads the struct; `read` makes the column's value (None: it is it)."""

    column: Column
    required: bool
    get: Getter
    read: Reader | None
    decoder: msgspec.json.Decoder[Any]


class Record:
    """Decoders and key functions of one source stream."""

    def __init__(self, spec: StreamSpec) -> None:
        self.spec = spec
        needed = {*spec.primary_key, *spec.dedupe, *([spec.time_column] if spec.time_column else [])}
        keyed = {*spec.key, *spec.dedupe}
        self.fields = tuple(
            Field(
                column=column,
                required=not column.nullable or column.name in needed,
                get=attrgetter(f"c{number}"),
                read=reader(column.type),
                decoder=msgspec.json.Decoder(wire_type(column.type)),
            )
            for number, column in enumerate(spec.columns)
        )
        by_name = {field.column.name: field for field in self.fields}
        self.time = by_name[spec.time_column] if spec.time_column else None
        self.key = tuple(by_name[name] for name in spec.key)
        self.dedupe = tuple(by_name[name] for name in spec.dedupe)
        # A key must be the same bytes on both paths, and datetime rounds where the exact reader cuts off.
        fast_types = [
            wire_type(field.column.type) if field.column.name in keyed else _fast_type(field.column.type)
            for field in self.fields
        ]
        exact_types = [wire_type(field.column.type) for field in self.fields]
        self.fast = msgspec.json.Decoder(self._struct(fast_types, strict=spec.unknown == "reject"))
        self.exact = msgspec.json.Decoder(self._struct(exact_types, strict=spec.unknown == "reject"))
        self.strict = (
            None if spec.unknown == "reject" else msgspec.json.Decoder(self._struct(fast_types, strict=True))
        )
        #: Fields whose values the fast decoder has not checked to the end.
        self.unchecked = tuple(
            field
            for field, fast in zip(self.fields, fast_types, strict=True)
            if field.read is not None and fast == wire_type(field.column.type) and field is not self.time
        )
        self.time_is_exact = self.time is not None and self.time.column.name in keyed
        #: Other timestamps than the event time: near the ends of the range an offset may carry them out of it.
        self.other_timestamps = any(f.column.type.is_timestamp and f is not self.time for f in self.fields)
        # BLAKE2 (RFC 7693) and not xxh3: 128 bits of xxh3 cost 50 ns instead of 300 ns, but collisions of it can be
        # computed, and a collision drops somebody's event as a duplicate. A cryptographic hash needs no secret that
        # would have to be kept beside the log. The stream and the columns are part of it: other columns, other ids.
        self._id_base = hashlib.blake2b(msgspec.json.encode([spec.name, *spec.dedupe]), digest_size=ID_BYTES)
        self._text_id = len(self.dedupe) == 1 and self.dedupe[0].column.type.kind is Kind.STRING

    def ids(self, events: Sequence[Any]) -> list[bytes]:
        """16-byte hashes of the dedupe keys, in event order; [] without dedupe. ValueError as `Field.read`."""
        if not self.dedupe:
            return []
        if self._text_id:
            texts = [text.encode() for text in map(self.dedupe[0].get, events)]
        else:
            texts = _key_texts(self.dedupe, events)
        copy = self._id_base.copy
        ids = []
        for text in texts:
            state = copy()
            state.update(text)
            ids.append(state.digest())
        return ids

    def partitions(self, events: Sequence[Any]) -> list[int]:
        """Partition of each event by its key, as Kafka's producers choose it; by its content where the stream has no
        key; [] where there is only one partition.
        """
        count = self.spec.partitions
        if count == 1:
            return []
        if not self.key:
            return [xxhash.xxh3_64_intdigest(msgspec.json.encode(event)) % count for event in events]
        return partitions_of(key_bytes(_columns(self.key, events)), count)

    def _struct(self, types: Sequence[Any], *, strict: bool) -> type[msgspec.Struct]:
        """Fields c0, c1, ... so that a column may have any name; gc=False as they hold no cycles."""
        fields: list[Any] = [
            (
                f"c{number}",
                wire if field.required else wire | None,
                msgspec.field(name=field.column.name)
                if field.required
                else msgspec.field(name=field.column.name, default=None),
            )
            for number, (field, wire) in enumerate(zip(self.fields, types, strict=True))
        ]
        return msgspec.defstruct("Event", fields, kw_only=True, gc=False, forbid_unknown_fields=strict)


def _fast_type(data_type: DataType) -> Any:
    if data_type.is_timestamp:
        return _FAST_TIMESTAMP
    fast: dict[Kind, Any] = {Kind.BYTES: bytes, Kind.DATE: dt.date}
    return fast.get(data_type.kind) or wire_type(data_type)


def _columns(key: Sequence[Field], events: Sequence[Any]) -> list[list[Any]]:
    return [
        [value if value is None or field.read is None else field.read(value) for value in map(field.get, events)]
        for field in key
    ]


def _key_texts(key: Sequence[Field], events: Sequence[Any]) -> list[bytes]:
    """JSON text of each event's key: the value itself, or an array of several. Equal values, equal text."""
    encode = msgspec.json.Encoder(decimal_format="string").encode
    columns = _columns(key, events)
    if len(columns) == 1:
        return [encode(value) for value in columns[0]]
    return [encode(values) for values in zip(*columns, strict=True)]
