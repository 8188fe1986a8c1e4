"""Rejected events as records of one topic: followed, the newest of them kept for listing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import msgspec

from penstock.errors import PenstockError
from penstock.logs.kafka_records import Outgoing, Record
from penstock.model.batch import RejectedEvent
from penstock.ports.log import RejectedFilter

__all__ = ["RejectedFold", "rejected_records"]


class _Replayed(msgspec.Struct, frozen=True):
    ids: list[str]
    at_ms: int


_events = msgspec.json.Decoder(RejectedEvent)
_replays = msgspec.json.Decoder(_Replayed)


def rejected_records(events: Sequence[RejectedEvent], replayed: Sequence[str], now_ms: int) -> list[Outgoing]:
    """One record an event, and one for what was replayed."""
    out = [Outgoing(event.id.encode(), msgspec.json.encode(event), None) for event in events]
    if replayed:
        out.append(Outgoing(None, msgspec.json.encode(_Replayed(list(replayed), now_ms)), [("kind", b"replayed")]))
    return out


class RejectedFold:
    """The newest rejected events, at most `events_max`."""

    def __init__(self, events_max: int) -> None:
        self._events_max = events_max
        self._events: dict[str, RejectedEvent] = {}

    def digest(self, records: list[Record], *, at_end: bool) -> list[RejectedEvent | _Replayed]:
        del at_end
        return [
            (_replays if record.headers else _events).decode(record.value)
            for record in records
            if record.value is not None
        ]

    def apply(self, digested: list[RejectedEvent | _Replayed]) -> None:
        for entry in digested:
            if isinstance(entry, RejectedEvent):
                self._events[entry.id] = entry
                if len(self._events) > self._events_max:
                    del self._events[next(iter(self._events))]
                continue
            for id_ in entry.ids:
                if id_ in self._events:
                    self._events[id_] = replace(self._events[id_], replayed_at_ms=entry.at_ms)

    def lost(self, first: int) -> None:
        """Old ones are gone: nothing to do."""

    def list(self, where: RejectedFilter) -> list[RejectedEvent]:
        """See `Log.rejected`."""
        newest_first = sorted(self._events.values(), key=lambda event: (event.at_ms, event.id), reverse=True)
        if where.before_id is not None:
            last = self._events.get(where.before_id)
            if last is None:
                raise PenstockError("not_found", f"there is no rejected event '{where.before_id}' to page on from")
            newest_first = [e for e in newest_first if (e.at_ms, e.id) < (last.at_ms, last.id)]
        return [event for event in newest_first if _matches(event, where)][: where.limit]


def _matches(event: RejectedEvent, where: RejectedFilter) -> bool:
    return (
        (where.stream is None or event.stream == where.stream)
        and (where.app is None or event.app == where.app)
        and (where.code is None or event.code == where.code)
        and (not where.ids or event.id in where.ids)
        and (where.include_replayed or event.replayed_at_ms is None)
    )
