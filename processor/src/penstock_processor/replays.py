"""Listing and replaying rejected events: which may be replayed, and where each goes."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from penstock.codecs.json_values import write_timestamp
from penstock.errors import PenstockError
from penstock.model.batch import RejectedEvent
from penstock.ports.log import RejectedFilter
from penstock_processor.runtime.delivery_replays import DELIVERY_CODES
from penstock_processor.runtime.rejections import ReplayItem, replay_id

if TYPE_CHECKING:
    from penstock_processor.service import ProcessorRole

__all__ = ["ReplayEvent", "ReplayResult", "rejected_json", "replay_events", "where_of"]

_LIMIT_DEFAULT = 100
_PARAMETERS = frozenset({"stream", "app", "code", "limit", "before", "replayed"})


class ReplayEvent(msgspec.Struct, forbid_unknown_fields=True):
    """One event of a replay request; `raw`: the corrected JSON text (as it was without)."""

    id: str
    raw: str | None = None


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """What became of one event: `errors` has `code` and `detail`, and the `id` under which it is listed again."""

    id: str
    errors: list[dict[str, object]]

    @property
    def replayed(self) -> bool:
        """True if it was taken this time."""
        return not self.errors

    @property
    def why(self) -> str:
        """The first error, for people."""
        return f"event '{self.id}' was rejected again: {self.errors[0].get('detail')}" if self.errors else ""

    def as_json(self) -> dict[str, object]:
        """The element of `results`."""
        return {"id": self.id, "replayed": self.replayed, "errors": self.errors}


def where_of(query: Mapping[str, str], *, limit_max: int) -> RejectedFilter:
    """The filter of a query string; `bad_request` for what it does not know."""
    for name in query:
        if name not in _PARAMETERS:
            raise PenstockError(
                "bad_request", f"unknown parameter '{name}'; there are {', '.join(sorted(_PARAMETERS))}"
            )
    text = query.get("limit", str(_LIMIT_DEFAULT))
    limit = int(text) if text.isascii() and text.isdigit() and len(text) < 19 else 0
    if not 1 <= limit <= limit_max:
        raise PenstockError("bad_request", f"limit is a number from 1 to {limit_max}, not '{text[:20]}'")
    replayed = query.get("replayed", "false")
    if replayed not in ("true", "false"):
        raise PenstockError("bad_request", "replayed is 'true' (list those too) or 'false'")
    return RejectedFilter(
        stream=query.get("stream"),
        app=query.get("app"),
        code=query.get("code"),
        include_replayed=replayed == "true",
        limit=limit,
        before_id=query.get("before"),
    )


def rejected_json(event: RejectedEvent) -> dict[str, object]:
    """The event as the contract has it; `raw` is text, or base64 and `"encoding": "base64"` if it is not UTF-8."""
    found: dict[str, object] = {
        "id": event.id,
        "at": write_timestamp(event.at_ms, zoned=True),
        "stream": event.stream,
        "app": event.app,
        "statement": event.statement,
        "code": event.code,
        "detail": event.detail,
    }
    try:
        found["raw"] = event.raw.decode("utf-8")
    except UnicodeDecodeError:
        found["raw"] = base64.b64encode(event.raw).decode()
        found["encoding"] = "base64"
    replayed_ms = event.replayed_at_ms
    found["replayed_at"] = None if replayed_ms is None else write_timestamp(replayed_ms, zoned=True)
    if event.position is not None:
        found["partition"], found["offset"] = event.position
    return found


async def replay_events(
    role: ProcessorRole, wanted: Sequence[ReplayEvent], *, authorization: str
) -> list[ReplayResult]:
    """Replay rejected events: those of admission through ingest, the others to the statement that rejected them.

    Nothing is replayed if one of them may not be: `not_found`, or `conflict` for late and already replayed ones.
    The events of one app are replayed in one transaction; rows that systems of others refused are delivered one by
    one. `authorization` is the caller's header, for ingest.
    """
    if not 1 <= len(wanted) <= role.settings.replay_max_events:
        raise PenstockError("bad_request", f"replay 1 to {role.settings.replay_max_events} events at once")
    ids = {one.id for one in wanted}
    if len(ids) != len(wanted):
        raise PenstockError("bad_request", "an event can be replayed once in a request")
    if ids & role.replaying:
        raise PenstockError("conflict", "one of these events is being replayed by another request", retry_after_s=1.0)
    role.replaying.update(ids)  # before the events are read: whoever comes later sees them replayed
    try:
        return await _replayed(role, wanted, authorization)
    finally:
        role.replaying.difference_update(ids)


async def _replayed(role: ProcessorRole, wanted: Sequence[ReplayEvent], authorization: str) -> list[ReplayResult]:
    found = await _found(role, wanted)
    results: dict[str, ReplayResult] = {}
    by_app: dict[str, list[ReplayItem]] = {}
    for event, raw in found:
        if event.statement is not None:
            by_app.setdefault(event.app, []).append(ReplayItem(event, _one_line(raw), replay_id(event.id)))
    for app, items in by_app.items():
        results.update(await _to_statements(role, app, items))
    for event, raw in found:
        if event.statement is None:
            results[event.id] = await _to_ingest(role, event, raw, authorization)
    return [results[event.id] for event, _ in found]


async def _found(role: ProcessorRole, wanted: Sequence[ReplayEvent]) -> list[tuple[RejectedEvent, bytes]]:
    where = RejectedFilter(ids=tuple(one.id for one in wanted), include_replayed=True, limit=len(wanted))
    known = {event.id: event for event in await role.ports.log.rejected(where)}
    found = []
    for one in wanted:
        event = known.get(one.id)
        if event is None:
            raise PenstockError("not_found", f"there is no rejected event '{one.id[:80]}'")
        why = _why_not(event)
        if why is not None:
            raise PenstockError("conflict", f"event '{event.id}' cannot be replayed: {why}", extra={"id": event.id})
        found.append((event, event.raw if one.raw is None else one.raw.encode()))
    return found


def _why_not(event: RejectedEvent) -> str | None:
    if event.replayed_at_ms is not None:
        return f"it was replayed at {write_timestamp(event.replayed_at_ms, zoned=True)}"
    if event.code == "late":
        return "it came after its window had closed, and would again; correct the result another way"
    if event.statement is not None and event.position is None:
        return "it came out of state, not from an event of a stream; replay the event that it was made of"
    return None


async def _to_statements(role: ProcessorRole, app: str, items: Sequence[ReplayItem]) -> dict[str, ReplayResult]:
    runner = role.runner(app)
    if runner is None:
        raise PenstockError("conflict", f"app '{app}' does not run here; deploy it before its events are replayed")
    to_others = [item for item in items if item.event.code in DELIVERY_CODES]
    to_statements = [item for item in items if item.event.code not in DELIVERY_CODES]
    for item in to_statements:
        event = item.event
        known = {statement.name for statement in runner.plan.statements} | {""}
        if event.statement not in known or event.stream not in runner.plan.sources:
            raise PenstockError(
                "conflict",
                f"event '{event.id}' cannot be replayed: statement '{event.statement}' left app '{app}'",
                extra={"id": event.id},
            )
    failed = await runner.deliveries.replay(to_others)
    failed += await runner.replay(to_statements) if to_statements else []
    results = {}
    for item in items:
        errors: list[dict[str, object]] = [
            {"id": again.id, "statement": again.statement, "code": again.code, "detail": again.detail}
            for again in failed
            if _is_of(again.id, item)
        ]
        results[item.event.id] = ReplayResult(item.event.id, errors)
    return results


def _is_of(failed_id: str, item: ReplayItem) -> bool:
    """Whether a replay of this event left that one; of what no statement had seen before, each may leave one."""
    return failed_id == item.new_id or (not item.event.statement and failed_id.startswith(f"{item.new_id}."))


async def _to_ingest(role: ProcessorRole, event: RejectedEvent, raw: bytes, authorization: str) -> ReplayResult:
    if role.replay_admission is None:
        raise PenstockError(
            "not_ready", "ingest does not run in this process; send the corrected event to its stream"
        )
    reply = await role.replay_admission(event, raw, authorization)
    errors = reply.get("errors")
    return ReplayResult(event.id, [dict(error) for error in errors] if isinstance(errors, list) else [])


def _one_line(raw: bytes) -> bytes:
    return raw.replace(b"\n", b" ").replace(b"\r", b" ")
