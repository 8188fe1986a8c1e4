"""The channel by which events come in over a WebSocket, for AsyncAPI. Pure.

One channel with the stream as its parameter: what may be sent into which is said by `GET /v1/streams/{stream}`.
"""

from __future__ import annotations

from penstock_publish.documents.socket_lines import Line

__all__ = ["STREAM_LINES", "stream_channel", "stream_operations"]

_Json = dict[str, object]
_TEXT: _Json = {"type": "string"}
_COUNT: _Json = {"type": "integer", "minimum": 0}
_NUMBER: _Json = {"type": "integer", "minimum": 1, "description": "Which message of this socket it was, from 1 on."}
_COUNTS: _Json = {
    "accepted": _COUNT,
    "duplicate": _COUNT,
    "rejected": _COUNT,
    "errors": {"type": "array", "items": {"type": "object"}},
    "positions": {"type": "array", "items": _TEXT},
}
_CHANNEL = "/v1/streams"  # no topic has this name
_POINTER = "#/channels/~1v1~1streams"
_STREAM_NOTICES = ("notice_expiring", "notice_auth")

_ACCEPTED = Line(
    "batch_reply",
    "To a batch, once it is durable; replies come in the order of the batches.",
    {"n": _NUMBER, **_COUNTS},
    ["n", *_COUNTS],
    {"n": 1, "accepted": 2, "duplicate": 0, "rejected": 0, "errors": [], "positions": ["MS4wMTk4ZTQuMg"]},
)
_REFUSED = Line(
    "batch_problem",
    "To a batch of which nothing was taken, or to a token; with retry_ms the same may do after so long.",
    {"n": _NUMBER, "type": _TEXT, "title": _TEXT, "status": _COUNT, "code": _TEXT, "detail": _TEXT,
     "retry_ms": _COUNT, "id": {"type": ["integer", "string"]}, **_COUNTS},
    ["type", "title", "status", "code", "detail"],
    {"n": 2, "type": "/errors/log_full", "title": "log full", "status": 503, "code": "log_full",
     "detail": "no room", "retry_ms": 5000},
)  # fmt: skip
#: Its messages that other channels do not have.
STREAM_LINES = (_ACCEPTED, _REFUSED)


def stream_channel() -> _Json:
    """`channels` of the document: one."""
    names = (*_STREAM_NOTICES, "line_auth", *(line.name for line in STREAM_LINES))
    batch: _Json = {
        "name": "batch",
        "title": "Events: one JSON object, an array, or one object a line; text or binary",
        "contentType": "application/json",
        "payload": {"oneOf": [{"type": "object"}, {"type": "array", "items": {"type": "object"}}]},
        "examples": [{"name": "one", "payload": {"id": "o1", "amount": 250.0}}],
    }
    channel: _Json = {
        "address": "/v1/streams/{stream}/connect",
        "title": "Events into a stream",
        "parameters": {"stream": {"description": "A stream that takes events; GET /v1/streams lists them."}},
        "messages": {"batch": batch, **{name: {"$ref": f"#/components/messages/{name}"} for name in names}},
        "bindings": {
            "ws": {
                "method": "GET",
                "query": {
                    "type": "object",
                    "properties": {"auth": {"enum": ["message"], "description": "The token comes first."}},
                },
                "bindingVersion": "0.1.0",
            }
        },
    }
    return {_CHANNEL: channel}


def stream_operations() -> _Json:
    """`operations` of the document: what the gateway receives there, and what it sends."""
    sent = (*_STREAM_NOTICES, *(line.name for line in STREAM_LINES))
    return {
        "send.streams": {
            "action": "receive",
            "channel": {"$ref": _POINTER},
            "summary": "Batches of events; needs the scope ingest:write.",
            "messages": [{"$ref": f"{_POINTER}/messages/{name}"} for name in ("batch", "line_auth")],
        },
        "reply.streams": {
            "action": "send",
            "channel": {"$ref": _POINTER},
            "summary": "One reply a batch, in order, and notices.",
            "messages": [{"$ref": f"{_POINTER}/messages/{name}"} for name in sent],
        },
    }
