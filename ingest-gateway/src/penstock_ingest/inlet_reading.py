"""Records of the inlet as the gateway reads bodies: one event a record. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from penstock.errors import PenstockError
from penstock.model.traceparent import HEADER as TRACE_HEADER
from penstock.model.traceparent import is_sampled, read_traceparent
from penstock.ports.inlet import InletRecord, Taken
from penstock_ingest.body import Form, lines_of
from penstock_ingest.inlet_notes import Note, note_of
from penstock_ingest.reading import Reading, Refusal, read_lines
from penstock_ingest.record import Record

__all__ = ["Piece", "pieces_of", "read_pieces", "refuse_all", "traces_of"]

_SPACE = b" \t\r\n"
_EMPTY = "the record has no value; an event is a JSON object"


@dataclass(frozen=True, slots=True)
class Piece:
    """Records that follow each other in one partition. With an order (`Note.is_order`) it is a single one."""

    taken: Taken
    order: Note | None = None


def pieces_of(taken: Taken) -> list[Piece]:
    """The same records, cut so that an order stands alone; positions go on from one to the next."""
    cut: list[tuple[list[InletRecord], Note | None]] = []
    for record in taken.records:
        note = note_of(record.headers)
        if note is not None and note.is_order:
            cut.append(([record], note))
        elif cut and cut[-1][1] is None:
            cut[-1][0].append(record)
        else:
            cut.append(([record], None))
    pieces, expected = [], taken.expected
    for records, note in cut:
        piece = Piece(Taken(taken.stream, taken.partition, records, expected), note)
        pieces.append(piece)
        expected = piece.taken.next
    return pieces


def read_pieces(pieces: Sequence[Piece], record: Record, *, now_ms: int, event_max_bytes: int) -> Reading:
    """Check the events of these pieces, in order. What is no event is a refusal that names its place."""
    texts: list[bytes] = []
    places: list[tuple[int, int]] = []
    refusals: list[Refusal] = []
    for piece in pieces:
        for one in piece.taken.records:
            place = (piece.taken.partition, one.offset)
            text = _text_of(one, event_max_bytes)
            if isinstance(text, Refusal):
                refusals.append(replace(text, place=place))
            else:
                texts.append(text)
                places.append(place)
    if not texts:
        return Reading(refusals=[_placed(r, r.place, record) for r in refusals])
    reading = read_lines(b"\n".join(texts), record, now_ms=now_ms, event_max_bytes=event_max_bytes)
    refusals += [replace(refusal, place=places[refusal.index]) for refusal in reading.refusals]
    reading.refusals = [_placed(refusal, refusal.place, record) for refusal in refusals]
    return reading


def refuse_all(pieces: Sequence[Piece], record: Record, error: PenstockError) -> Reading:
    """Every record refused for what the log said of it."""
    reading = Reading()
    for piece in pieces:
        for one in piece.taken.records:
            refusal = Refusal(0, None, error.code, error.detail, one.value or b"")
            reading.refusals.append(_placed(refusal, (piece.taken.partition, one.offset), record))
    return reading


def traces_of(pieces: Sequence[Piece]) -> list[str]:
    """The traces that are recorded, in order, each once."""
    sent = dict.fromkeys(one.headers.get(TRACE_HEADER) for piece in pieces for one in piece.taken.records)
    found = [read_traceparent(text.decode("ascii", "replace")) for text in sent if text]
    return [trace for trace in found if trace is not None and is_sampled(trace)]


def _text_of(record: InletRecord, event_max_bytes: int) -> bytes | Refusal:
    """The event as one line, or why it is none."""
    note = note_of(record.headers)
    value = record.value or b""
    if note is not None and note.code:
        return Refusal(0, None, note.code, note.detail, value)
    if record.value is None:
        return Refusal(0, None, "bad_json", f"{_EMPTY} (a tombstone)", b"")
    text = value.strip(_SPACE)
    if not text:
        return Refusal(0, None, "bad_json", _EMPTY, value)
    if len(text) > event_max_bytes:
        return Refusal(0, None, "too_large", f"the event has {len(text)} bytes, {event_max_bytes} are allowed", text)
    if b"\n" not in text and b"\r" not in text:
        return text
    try:
        return lines_of(text, Form.OBJECT)
    except PenstockError as error:
        return Refusal(0, None, error.code, error.detail, text)


def _placed(refusal: Refusal, place: tuple[int, int] | None, record: Record) -> Refusal:
    if place is None:
        return refusal
    where = f"{record.spec.name}.in/{place[0]} at {place[1]}"
    return replace(refusal, detail=f"{refusal.detail} ({where})", place=place)
