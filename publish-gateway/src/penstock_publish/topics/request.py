"""What a caller asks of a topic: the query of `/v1/topics/{topic}`, read once for every transport."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from aiohttp import web

from penstock.errors import PenstockError
from penstock.model.stream import StreamSpec
from penstock_publish.settings import PublishSettings
from penstock_publish.topics.framing import Form
from penstock_publish.topics.history import After, parse_after
from penstock_publish.topics.session import Slow

__all__ = ["TopicRequest", "Transport", "read_topic_request", "transport_of"]

_Choice = TypeVar("_Choice", bound=StrEnum)
_PARAMETERS = ("after", "filter", "format", "slow", "limit", "ticket")
_WAIT = re.compile(r"\bwait=(\d{1,6})\b")


class Transport(StrEnum):
    """How the caller wants to be served."""

    WEBSOCKET = "websocket"
    SSE = "sse"
    JSON = "json"
    NDJSON = "ndjson"

    @property
    def live(self) -> bool:
        """True for those that stay open."""
        return self in (Transport.WEBSOCKET, Transport.SSE)


@dataclass(frozen=True, slots=True)
class TopicRequest:
    """`limit` and `wait_s` (long-poll) are of pages only."""

    after: After
    filter_text: str
    form: Form
    slow: Slow
    limit: int
    wait_s: float


def transport_of(request: web.Request) -> Transport:
    """By `Upgrade`, then by `Accept`; `not_acceptable` (406) where nothing fits."""
    if request.headers.get("Upgrade", "").lower() == "websocket":
        return Transport.WEBSOCKET
    accepted = [part.partition(";")[0].strip().lower() for part in request.headers.get("Accept", "*/*").split(",")]
    offered = {
        "text/event-stream": Transport.SSE,
        "application/x-ndjson": Transport.NDJSON,
        "application/ndjson": Transport.NDJSON,
        "application/json": Transport.JSON,
        "application/*": Transport.JSON,
        "*/*": Transport.JSON,
        "": Transport.JSON,
    }
    for media_type in accepted:
        if media_type in offered:
            return offered[media_type]
    raise PenstockError(
        "not_acceptable", "a topic comes as text/event-stream, application/json, application/x-ndjson or a WebSocket"
    )


def read_topic_request(
    request: web.Request, spec: StreamSpec, *, transport: Transport, settings: PublishSettings
) -> TopicRequest:
    """Read the query; `bad_request`, `bad_cursor` or `bad_filter` name what is wrong."""
    query = request.query
    for name in query:
        if name not in _PARAMETERS:
            raise PenstockError("bad_request", f"unknown parameter '{name[:40]}'; known: {', '.join(_PARAMETERS)}")
    after = query.get("after", "latest")
    if transport is Transport.SSE:
        after = request.headers.get("Last-Event-ID") or after
    filter_text = query.get("filter", "").strip()
    if len(filter_text) > settings.filter_chars_max:
        raise PenstockError("bad_filter", f"the filter is longer than {settings.filter_chars_max} characters")
    if transport.live and "limit" in query:
        raise PenstockError("bad_request", "limit is for history pages; a live connection ends when you close it")
    return TopicRequest(
        after=parse_after(spec, after),
        filter_text=filter_text,
        form=_one_of(Form, query, "format", default=Form.ENVELOPE),
        slow=_one_of(Slow, query, "slow", default=Slow.GAP),
        limit=_limit(query, settings),
        wait_s=_wait_s(request, settings),
    )


def _one_of(choices: type[_Choice], query: Mapping[str, str], name: str, *, default: _Choice) -> _Choice:
    text = query.get(name)
    if text is None:
        return default
    try:
        return choices(text)
    except ValueError:
        raise PenstockError("bad_request", f"{name} is one of {', '.join(choices)}, not '{text[:40]}'") from None


def _limit(query: Mapping[str, str], settings: PublishSettings) -> int:
    text = query.get("limit")
    if text is None:
        return settings.page_limit
    if not text.isascii() or not text.isdigit() or len(text) > 9 or not 1 <= int(text) <= settings.page_limit_max:
        raise PenstockError("bad_request", f"limit is a number from 1 to {settings.page_limit_max}")
    return int(text)


def _wait_s(request: web.Request, settings: PublishSettings) -> float:
    """RFC 7240, 4.3: `Prefer: wait=n`, cut off at the longest wait we offer."""
    found = _WAIT.search(request.headers.get("Prefer", ""))
    return 0.0 if found is None else min(float(found.group(1)), settings.page_wait_max_s)
