"""What the span of a request that sends events says about it: counts, never what was in the events."""

from __future__ import annotations

from aiohttp import web

from penstock.observe.traces import describe_current, link_current
from penstock_ingest.gateway import Accepted

__all__ = ["describe_accepted", "name_of"]


def name_of(request: web.Request) -> str:
    """`ingest <stream>`."""
    return f"ingest {request.match_info['stream']}"


def describe_accepted(accepted: Accepted, *, stream: str, trace: str) -> None:
    """Attributes of the current span, which is `trace`; a link where the events travel on under another's."""
    describe_current(
        {
            "messaging.system": "penstock",
            "messaging.operation.type": "send",
            "messaging.operation.name": "ingest",
            "messaging.destination.name": stream,
            "messaging.batch.message_count": accepted.accepted,
            "penstock.duplicates": accepted.duplicate,
            "penstock.rejected": accepted.rejected,
        }
    )
    if accepted.trace not in ("", trace):
        link_current(accepted.trace)
