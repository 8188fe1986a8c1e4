"""Events of a body, checked: blocks of good ones and the refused ones. Pure; the only admission reader is msgspec.

A text of lines is read in blocks. A block whose every line is good is decoded at once and keeps its bytes; one bad
line sends its block, and no other, through line by line isolation.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import msgspec

from penstock.codecs.json_values import OutOfRange, read_timestamp_ms, write_timestamp
from penstock_ingest.explain import Reason, bad_text, event_id, explain
from penstock_ingest.record import Record

__all__ = ["EARLIEST_TIME_MS", "Block", "Reading", "Refusal", "read_lines"]

#: Event times before 1900-01-01 are absurd: year 1, 1601 and 1899-12-30 are what unset clocks of programs write.
EARLIEST_TIME_MS = -2_208_988_800_000
#: A block is what one C call decodes while it holds the interpreter, and what one bad line makes slow.
BLOCK_BYTES = 256 * 1024

_EPOCH = dt.datetime(1970, 1, 1)
_EPOCH_UTC = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MILLISECOND = dt.timedelta(milliseconds=1)
_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


@dataclass(frozen=True, slots=True)
class Refusal:
    """An event that is not accepted: its index in the request, its `id` if it has one, why, and its bytes.

    `place`: partition and offset in the inlet, for what came from there.
    """

    index: int
    id: str | None
    code: str
    detail: str
    raw: bytes
    place: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Block:
    """Good events: `text` has one a line. `times` are epoch milliseconds or datetimes, `bounds_ms` the least and the
    greatest; `ids` and `partitions` are empty where the stream has no dedupe or one partition.
    """

    text: bytes
    count: int
    times: Sequence[int | dt.datetime] = ()
    bounds_ms: tuple[int, int] | None = None
    ids: Sequence[bytes] = ()
    partitions: Sequence[int] = ()


@dataclass(slots=True)
class Reading:
    """What a body holds. `unknown_fields`: at least one event had a field that is no column (and may have)."""

    blocks: list[Block] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    unknown_fields: bool = False
    size_bytes: int = 0

    @property
    def count(self) -> int:
        """Number of good events."""
        return sum(block.count for block in self.blocks)

    @property
    def ids(self) -> Sequence[bytes]:
        """Dedupe ids of the good events, in order."""
        if len(self.blocks) == 1:
            return self.blocks[0].ids
        return list(chain.from_iterable([block.ids for block in self.blocks]))


def read_lines(text: bytes, record: Record, *, now_ms: int, event_max_bytes: int) -> Reading:
    """Check every event of `text` (one a line; blank lines are skipped, yet count in the index)."""
    reading = Reading(size_bytes=len(text))
    latest_ms = now_ms + round(record.spec.max_ahead_s * 1000)
    first_line = 0
    size_bytes = min(BLOCK_BYTES, event_max_bytes)
    for block_text in (text,) if len(text) <= size_bytes else _blocks(text, size_bytes):
        block = None
        if len(block_text) <= event_max_bytes:
            block = _read_at_once(block_text, record, latest_ms=latest_ms, reading=reading)
        if block is not None:
            first_line += block.count
        else:
            lines = block_text.split(b"\n")
            block = _read_each(lines, record, latest_ms=latest_ms, first=first_line, limit=event_max_bytes,
                               reading=reading)  # fmt: skip
            first_line += len(lines)
        if block.count:
            reading.blocks.append(block)
    return reading


def time_ms(value: int | dt.datetime) -> int:
    """Epoch milliseconds; a datetime without zone is UTC."""
    if isinstance(value, int):
        return value
    return (value - (_EPOCH if value.tzinfo is None else _EPOCH_UTC)) // _MILLISECOND


def _blocks(text: bytes, size_bytes: int) -> Iterator[bytes]:
    """Cut at newlines: blocks of at most `size_bytes`, longer only where a single line is."""
    start = 0
    while start < len(text):
        end = len(text) if len(text) - start <= size_bytes else text.rfind(b"\n", start, start + size_bytes + 1)
        if end < 0:
            end = text.find(b"\n", start + size_bytes)
            end = len(text) if end < 0 else end
        yield text[start:end]
        start = end + 1


def _read_at_once(text: bytes, record: Record, *, latest_ms: int, reading: Reading) -> Block | None:
    """The block if every line is one good event; None sends it to `_read_each`."""
    events = _decode_block(text, record, reading)
    if events is None or not _is_one_a_line(text, len(events)):
        return None
    try:
        for unchecked in record.unchecked:
            read = unchecked.read
            for value in map(unchecked.get, events):
                if value is not None and read is not None:
                    read(value)
        times = _times(events, record)
        bounds_ms = _bounds_ms(times)
        if bounds_ms is not None and not EARLIEST_TIME_MS <= bounds_ms[0] <= bounds_ms[1] <= latest_ms:
            return None
        return Block(text, len(events), times, bounds_ms, record.ids(events), record.partitions(events))
    except (ValueError, TypeError):  # a value out of range; or times of mixed kinds, which do not compare
        return None


def _decode_block(text: bytes, record: Record, reading: Reading) -> list[Any] | None:
    if record.other_timestamps and (b'"0001-01-01' in text or b'"9999-12-31' in text):
        return None
    try:
        if not text.isascii():
            text.decode()
        if record.strict is not None and not reading.unknown_fields:
            try:
                return record.strict.decode_lines(text)
            except msgspec.ValidationError as error:
                if "unknown field" not in str(error):
                    return None
                reading.unknown_fields = True
        return record.fast.decode_lines(text)
    except _UNREADABLE:
        return None


def _is_one_a_line(text: bytes, count: int) -> bool:
    """msgspec takes any white space, or none, between two objects; `}`, newline, `{` cannot be inside of one."""
    if count <= 1:
        return count == 1 and b"\n" not in text
    return text.count(b"\n") == count - 1 and text.count(b"}\n{") == count - 1


def _times(events: Sequence[Any], record: Record) -> list[int | dt.datetime]:
    if record.time is None:
        return []
    if record.time_is_exact:
        return [read_timestamp_ms(value) for value in map(record.time.get, events)]
    return list(map(record.time.get, events))


def _bounds_ms(times: Sequence[Any]) -> tuple[int, int] | None:
    if not times:
        return None
    if len(times) == 1:
        only_ms = time_ms(times[0])
        return only_ms, only_ms
    return time_ms(min(times)), time_ms(max(times))


def _read_each(
    lines: Sequence[bytes], record: Record, *, latest_ms: int, first: int, limit: int, reading: Reading
) -> Block:
    """Isolate bad lines; the others become the block."""
    good: list[bytes] = []
    events: list[Any] = []
    times: list[int] = []
    for index, line in enumerate(lines, first):
        text = line.strip(b" \t\r")
        if not text:
            continue
        outcome = _read_one(text, record, latest_ms=latest_ms, limit=limit)
        if isinstance(outcome, tuple):
            code, detail = outcome
            reading.refusals.append(Refusal(index, event_id(text[:limit]), code, detail, text))
            continue
        event, at_ms = outcome.event, outcome.time_ms
        good.append(text)
        events.append(event)
        if at_ms is not None:
            times.append(at_ms)
    return Block(b"\n".join(good), len(good), times, _bounds_ms(times), record.ids(events), record.partitions(events))


@dataclass(frozen=True, slots=True)
class _Good:
    event: Any
    time_ms: int | None


def _read_one(text: bytes, record: Record, *, latest_ms: int, limit: int) -> _Good | Reason:
    if len(text) > limit:
        return "too_large", f"the event has {len(text)} bytes, {limit} are allowed"
    invalid = bad_text(text)
    if invalid is not None:
        return invalid
    try:
        event = record.exact.decode(text)
        at_ms = None
        for each in record.fields:
            value = each.get(event)
            if each.read is not None and value is not None:
                value = each.read(value)
            if each is record.time:
                at_ms = value
    except (*_UNREADABLE, OutOfRange, ValueError):
        return explain(text, record)
    if at_ms is not None and not EARLIEST_TIME_MS <= at_ms <= latest_ms:
        bound = EARLIEST_TIME_MS if at_ms < EARLIEST_TIME_MS else latest_ms
        side = "before" if at_ms < EARLIEST_TIME_MS else "after"
        name = record.spec.time_column
        return "time_out_of_range", f"'{name}' is {write_timestamp(at_ms)}, {side} {write_timestamp(bound)}"
    return _Good(event, at_ms)
