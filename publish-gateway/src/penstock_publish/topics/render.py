"""From batches to bytes: a batch is decoded once, filtered once per distinct filter, encoded once per kind. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from penstock.model.batch import Batch
from penstock.model.position import Cursor
from penstock.model.stream import StreamSpec
from penstock_publish.topics.framing import Encoding, Form, envelopes, frame, frame_notice, gap_notice
from penstock_publish.topics.ring import Place
from penstock_publish.topics.rows import Predicate, Rows

__all__ = ["Filter", "Kind", "Rendered", "advance", "render"]


@dataclass(frozen=True, slots=True)
class Filter:
    """A filter in use: its text identifies it. No text: every row.

    `mandatory` holds for every row that is sent, whatever else is asked for: the caller's token demands it.
    """

    text: str
    predicate: Predicate | None
    mandatory: Predicate | None = None


@dataclass(frozen=True, slots=True)
class Kind:
    """Subscribers of one kind read the same bytes."""

    filter_text: str
    form: Form
    encoding: Encoding


@dataclass(frozen=True, slots=True)
class Rendered:
    """Bytes and number of events for each kind, and the place that they reach."""

    by_kind: Mapping[Kind, tuple[bytes, int]]
    end: Place


def render(
    spec: StreamSpec,
    start: Cursor,
    batches: Sequence[Batch],
    *,
    filters: Mapping[str, Filter],
    kinds: Collection[Kind],
) -> Rendered:
    """The events after `start` in `batches`, for every kind. A hole in the log becomes a gap notice."""
    parts: dict[Kind, list[bytes]] = {kind: [] for kind in kinds}
    counts = dict.fromkeys(kinds, 0)
    cursor = start
    for batch in batches:
        hole = batch.first - cursor.next[batch.partition]
        if hole > 0:
            after = advance(cursor, batch.partition, batch.first)
            for kind in kinds:
                notice = gap_notice(cursor, after, events=None if kind.filter_text else hole)
                parts[kind].append(frame_notice(notice, kind.encoding))
            cursor = after
        rows = Rows(spec, batch, cursor.next[batch.partition])
        for text in {kind.filter_text for kind in kinds}:
            selected = rows.select(filters[text].predicate, filters[text].mandatory)
            if not selected:
                continue
            cursors = cursor.texts(batch.partition, [row.offset + 1 for row in selected])
            for form in {kind.form for kind in kinds if kind.filter_text == text}:
                lines = envelopes(spec.name, selected, cursors, form=form)
                for kind in kinds:
                    if kind.filter_text == text and kind.form == form:
                        parts[kind].append(frame(lines, cursors, kind.encoding))
                        counts[kind] += len(selected)
        cursor = advance(cursor, batch.partition, batch.next)
    return Rendered({kind: (b"".join(parts[kind]), counts[kind]) for kind in kinds}, cursor.next)


def advance(cursor: Cursor, partition: int, offset: int) -> Cursor:
    """The cursor with `offset` as the next one of `partition`."""
    place = (*cursor.next[:partition], offset, *cursor.next[partition + 1 :])
    return Cursor(cursor.topic, cursor.epoch, place)
