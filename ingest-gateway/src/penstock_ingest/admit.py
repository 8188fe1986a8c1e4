"""Admission: request bytes become batches for the log, rejected events, and the reply. Pure: no clock, no log.

`read` checks the events; what is a duplicate is decided between the two by the dedupe index; `admit` builds what is
appended. Blank lines of NDJSON are skipped, but they count: an error's `index` is the line, from 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress

from penstock.codecs.ndjson import encode_text
from penstock.errors import PenstockError
from penstock.model.batch import Encoding, NewBatch, RejectedEvent
from penstock.model.stream import StreamSpec
from penstock_ingest.body import Form, lines_of
from penstock_ingest.reading import Block, Reading, read_lines, time_ms
from penstock_ingest.record import Record
from penstock_ingest.settings import IngestSettings

__all__ = ["RAW_MAX_BYTES", "Admission", "admit", "read", "read_together"]

RAW_MAX_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Admission:
    """What is appended, all or nothing, and counted in the reply. `errors`: index, id, code, detail of each
    rejected event, up to the limit. `rejected` have no id yet: the log gives it.
    """

    batches: list[NewBatch]
    rejected: list[RejectedEvent]
    errors: list[dict[str, object]]
    accepted: int
    duplicate: int


def read(body: bytes, form: Form, record: Record, *, now_ms: int, limits: IngestSettings) -> Reading:
    """Check the events of a body.

    `bad_json` for an object or array that cannot be parsed, `bad_request` for JSON that is neither, `too_large`
    beyond a limit. A bad NDJSON line is a refusal of the reading.
    """
    text = lines_of(body, form)
    if len(text) >= limits.events_max:
        lines = text.count(b"\n") + 1
        if lines > limits.events_max:
            raise PenstockError("too_large", f"{lines} events, {limits.events_max} a request are allowed; send less")
    if form is Form.OBJECT and len(text) > limits.event_max_bytes:
        raise PenstockError("too_large", f"the event has {len(text)} bytes, {limits.event_max_bytes} are allowed")
    reading = read_lines(text, record, now_ms=now_ms, event_max_bytes=limits.event_max_bytes)
    if form is Form.OBJECT:
        _check_object(text, reading)
    return reading


def read_together(texts: Sequence[bytes], record: Record, *, now_ms: int, limits: IngestSettings) -> Reading | None:
    """Check the events of several bodies, each of which is one line (`lines_of`), in one go.

    None unless every text is exactly one good event, in order: then each has to be read for itself.
    """
    reading = read_lines(b"\n".join(texts), record, now_ms=now_ms, event_max_bytes=limits.event_max_bytes)
    if reading.refusals or len(reading.blocks) != 1 or reading.count != len(texts):
        return None
    return reading


def admit(
    reading: Reading,
    spec: StreamSpec,
    *,
    fresh: Sequence[bool] | None,
    now_ms: int,
    errors_max: int,
) -> Admission:
    """Batches of the events that are new. `fresh[i]` is False for a duplicate; None: there are none."""
    count = reading.count
    accepted = count if fresh is None else sum(fresh)
    if not accepted:
        batches = []
    elif fresh is None and spec.partitions == 1:
        batches = [_whole(reading.blocks, spec)]
    else:
        batches = _selected(reading.blocks, spec, fresh=fresh)
    rejected = [
        RejectedEvent(
            "",
            now_ms,
            spec.name,
            spec.app,
            None,
            refusal.code,
            refusal.detail,
            refusal.raw[:RAW_MAX_BYTES],
            refusal.place,
        )
        for refusal in reading.refusals
    ]
    errors: list[dict[str, object]] = [
        {"index": refusal.index, "id": refusal.id, "code": refusal.code, "detail": refusal.detail}
        for refusal in reading.refusals[:errors_max]
    ]
    return Admission(batches, rejected, errors, accepted, count - accepted)


def _check_object(text: bytes, reading: Reading) -> None:
    """A body that is no JSON object is an error of the request, not a rejected event."""
    if not text:
        raise PenstockError("bad_json", "the body is empty; send a JSON object, an array of them, or NDJSON")
    for refusal in reading.refusals:
        if refusal.code == "bad_json":
            hint = "" if b"}" not in text[:-1] else " (several objects, one a line, are application/x-ndjson)"
            raise PenstockError(
                "bad_json", f"the object cannot be parsed, nothing was accepted: {refusal.detail}{hint}"
            )
        if not text.startswith(b"{"):
            raise PenstockError("bad_request", f"{refusal.detail}; send an object or an array of objects")


def _whole(blocks: Sequence[Block], spec: StreamSpec) -> NewBatch:
    """All events in one batch, the text as it came."""
    if len(blocks) == 1:
        (block,) = blocks
        return _batch(spec, 0, text=block.text, count=block.count, bounds_ms=block.bounds_ms, ids=b"".join(block.ids))
    bounds = [block.bounds_ms for block in blocks if block.bounds_ms is not None]
    return _batch(
        spec,
        0,
        text=b"\n".join([block.text for block in blocks]),
        count=sum(block.count for block in blocks),
        bounds_ms=(min(low for low, _ in bounds), max(high for _, high in bounds)) if bounds else None,
        ids=b"".join([b"".join(block.ids) for block in blocks]),
    )


def _selected(blocks: Sequence[Block], spec: StreamSpec, *, fresh: Sequence[bool] | None) -> list[NewBatch]:
    """The fresh events, a batch for each partition that gets any, in the order of partitions."""
    lines: list[list[bytes]] = [[] for _ in range(spec.partitions)]
    times: list[list[int]] = [[] for _ in range(spec.partitions)]
    ids: list[list[bytes]] = [[] for _ in range(spec.partitions)]
    first = 0
    for block in blocks:
        keep = [True] * block.count if fresh is None else fresh[first : first + block.count]
        first += block.count
        partitions = list(compress(block.partitions or [0] * block.count, keep))
        for partition, line in zip(partitions, compress(block.text.split(b"\n"), keep), strict=True):
            lines[partition].append(line)
        for partition, at in zip(partitions, compress(block.times, keep), strict=False):
            times[partition].append(time_ms(at))
        for partition, id_ in zip(partitions, compress(block.ids, keep), strict=False):
            ids[partition].append(id_)
    return [
        _batch(
            spec,
            partition,
            text=b"\n".join(lines[partition]),
            count=len(lines[partition]),
            bounds_ms=(min(times[partition]), max(times[partition])) if times[partition] else None,
            ids=b"".join(ids[partition]),
        )
        for partition in range(spec.partitions)
        if lines[partition]
    ]


def _batch(
    spec: StreamSpec, partition: int, *, text: bytes, count: int, bounds_ms: tuple[int, int] | None, ids: bytes
) -> NewBatch:
    return NewBatch(
        stream=spec.name,
        partition=partition,
        encoding=Encoding.NDJSON_ZSTD,
        payload=encode_text(text),
        count=count,
        min_time_ms=bounds_ms[0] if bounds_ms else None,
        max_time_ms=bounds_ms[1] if bounds_ms else None,
        ids=ids,
    )
