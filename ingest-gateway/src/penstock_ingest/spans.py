"""What the span of a request that sends events says about it: counts, never what was in the events."""

from __future__ import annotations

from collections.abc import Sequence

from aiohttp import web

from penstock.observe.traces import Span, SpanKind, Traces, describe_current, link_current
from penstock_ingest.admit import Admission
from penstock_ingest.gateway import Accepted

__all__ = ["begin_intake", "describe", "describe_accepted", "name_of"]


def name_of(request: web.Request) -> str:
    """`ingest <stream>`."""
    return f"ingest {request.match_info['stream']}"


def describe_accepted(accepted: Accepted, *, stream: str, trace: str) -> None:
    """Attributes of the current span, which is `trace`; a link where the events travel on under another's."""
    describe_current(
        _attributes(stream, accepted=accepted.accepted, duplicate=accepted.duplicate, rejected=accepted.rejected)
    )
    if accepted.trace not in ("", trace):
        link_current(accepted.trace)


def begin_intake(traces: Traces, stream: str, found: Sequence[str]) -> Span | None:
    """The span of taking events that other producers left for a stream; None if nobody follows any."""
    return traces.follow(f"ingest {stream}", found, kind=SpanKind.CONSUMER)


def describe(span: Span, admission: Admission, *, stream: str, rejected: int) -> None:
    """What became of them."""
    counts = {"accepted": admission.accepted, "duplicate": admission.duplicate, "rejected": rejected}
    span.set_attributes(_attributes(stream, **counts))


def _attributes(stream: str, *, accepted: int, duplicate: int, rejected: int) -> dict[str, str | int]:
    return {
        "messaging.system": "penstock",
        "messaging.operation.type": "send",
        "messaging.operation.name": "ingest",
        "messaging.destination.name": stream,
        "messaging.batch.message_count": accepted,
        "penstock.duplicates": duplicate,
        "penstock.rejected": rejected,
    }
