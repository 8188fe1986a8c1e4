"""What a caller asks of a topic: the query of `/v1/topics/{topic}`, or a line of a WebSocket, read in one way."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TypeVar

from aiohttp import web

from penstock.errors import PenstockError
from penstock.model.stream import StreamSpec
from penstock_publish.settings import PublishSettings
from penstock_publish.topics.framing import Form
from penstock_publish.topics.history import After, parse_after
from penstock_publish.topics.lines import Sub
from penstock_publish.topics.session import Slow

__all__ = ["TopicRequest", "Transport", "read_query", "read_subscription", "read_topic_request",
           "refuse_parameters", "transport_of"]  # fmt: skip

_Choice = TypeVar("_Choice", bound=StrEnum)
_PARAMETERS = ("after", "filter", "format", "slow", "limit", "credit", "durable", "ticket", "auth")
_OF_WEBSOCKETS = ("credit", "durable", "auth")
_NAME = re.compile(r"[A-Za-z0-9._-]+")
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
    """`limit` and `wait_s` (long-poll) are of pages only, `credit` (None: it is not counted) and `durable` (the name
    under which acknowledgements are kept) of WebSockets. `after_given`: the caller said where to begin.
    """

    after: After
    filter_text: str
    form: Form
    slow: Slow
    limit: int
    wait_s: float
    credit: int | None = None
    durable: str | None = None
    after_given: bool = True


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
    """Read the request; `bad_request`, `bad_cursor` or `bad_filter` name what is wrong."""
    after = request.headers.get("Last-Event-ID") if transport is Transport.SSE else None
    wanted = read_query(request.query, spec, transport=transport, settings=settings, after=after or None)
    if transport.live:
        return wanted
    return replace(wanted, limit=_limit(request.query, settings), wait_s=_wait_s(request, settings))


def read_query(
    query: Mapping[str, str],
    spec: StreamSpec,
    *,
    transport: Transport,
    settings: PublishSettings,
    after: str | None = None,
) -> TopicRequest:
    """Read the query of a live connection, or what of a page's is not of pages. `after` counts before the query's."""
    for name in query:
        if name not in _PARAMETERS:
            raise PenstockError("bad_request", f"unknown parameter '{name[:40]}'; known: {', '.join(_PARAMETERS)}")
    if transport is not Transport.WEBSOCKET:
        for name in _OF_WEBSOCKETS:
            if name in query:
                raise PenstockError("bad_request", f"{name} is for WebSockets, on which you can answer")
    if transport.live and "limit" in query:
        raise PenstockError("bad_request", "limit is for history pages; a live connection ends when you close it")
    asked = Sub(
        sub=spec.name,
        filter=query.get("filter", ""),
        after=query.get("after") if after is None else after,
        format=query.get("format"),
        slow=query.get("slow"),
        credit=_credit(query),
        durable=query.get("durable"),
    )
    return read_subscription(asked, spec, settings=settings)


def refuse_parameters(query: Mapping[str, str]) -> None:
    """`bad_request` for options of a topic on a WebSocket that has no first one."""
    for name in query:
        if name not in ("ticket", "auth"):
            raise PenstockError("bad_request", f"'{name[:40]}' is of a topic; send it in a line with sub")


def read_subscription(asked: Sub, spec: StreamSpec, *, settings: PublishSettings) -> TopicRequest:
    """Read what a line asks for; the errors are those of `read_topic_request`."""
    filter_text = asked.filter.strip()
    if len(filter_text) > settings.filter_chars_max:
        raise PenstockError("bad_filter", f"the filter is longer than {settings.filter_chars_max} characters")
    limits = settings.socket
    if asked.credit is not None and asked.credit > limits.credit_max:
        raise PenstockError("bad_request", f"credit is at most {limits.credit_max} (credit_max)")
    return TopicRequest(
        after=parse_after(spec, "latest" if asked.after is None else asked.after),
        filter_text=filter_text,
        form=_one_of(Form, asked.format, "format", default=Form.ENVELOPE),
        slow=_one_of(Slow, asked.slow, "slow", default=Slow.GAP),
        limit=settings.page_limit,
        wait_s=0.0,
        credit=asked.credit,
        durable=_durable(asked.durable, settings),
        after_given=asked.after is not None,
    )


def _one_of(choices: type[_Choice], text: str | None, name: str, *, default: _Choice) -> _Choice:
    if text is None:
        return default
    try:
        return choices(text)
    except ValueError:
        raise PenstockError("bad_request", f"{name} is one of {', '.join(choices)}, not '{text[:40]}'") from None


def _credit(query: Mapping[str, str]) -> int | None:
    text = query.get("credit")
    if text is None:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise PenstockError("bad_request", "credit is a number of events, 0 or more")
    return int(text)


def _durable(name: str | None, settings: PublishSettings) -> str | None:
    limit = settings.durable.name_chars_max
    if name is not None and (not 1 <= len(name) <= limit or not _NAME.fullmatch(name)):
        raise PenstockError("bad_request", f"durable is a name of 1 to {limit} letters, digits, '.', '_' and '-'")
    return name


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
