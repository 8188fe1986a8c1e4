"""The lines of a live connection beside its events, as a table: notices of the gateway, lines of a subscriber.

What AsyncAPI lists as messages and the portal shows to people.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

__all__ = ["CLIENT_LINES", "CLOSE_CODES", "NOTICES", "REPLY", "Line"]

_Json = dict[str, object]
_TEXT: _Json = {"type": "string"}
_MAYBE: _Json = {"type": ["string", "null"]}
_COUNT: _Json = {"type": "integer", "minimum": 0}
_ID: _Json = {"type": ["integer", "string"], "description": "Repeated in the reply."}


@dataclass(frozen=True, slots=True)
class Line:
    """One JSON object a line: its members as JSON Schema, which of them are always there, and one to look at."""

    name: str
    title: str
    properties: Mapping[str, object]
    required: Sequence[str]
    example: Mapping[str, object]


def _notice(sys: str, title: str, properties: _Json, example: _Json) -> Line:
    members = {"sys": {"const": sys}, **properties}
    required = [name for name in members if name in example or name == "sys"]
    return Line(f"notice_{sys}", title, members, required, {"sys": sys, **example})


NOTICES: tuple[Line, ...] = (
    _notice("open", "The subscription is open; what follows begins after this cursor.",
            {"t": _TEXT, "c": _TEXT}, {"t": "orders", "c": "MS4wMTk4ZTQuMA"}),
    _notice("gap", "Events after 'from' up to and with 'to' are left out; 'n' is null where nobody can count them.",
            {"t": _TEXT, "from": _TEXT, "to": _TEXT, "n": {"type": ["integer", "null"]}},
            {"t": "orders", "from": "MS4wMTk4ZTQuMA", "to": "MS4wMTk4ZTQuOQ", "n": 9}),
    _notice("hb", "Nothing to send; everything up to this cursor has been looked at ('t': of that topic).",
            {"c": _TEXT, "t": _TEXT}, {"c": "MS4wMTk4ZTQuOQ"}),
    _notice("end", "Nothing more comes of this topic, though the socket stays; retry_ms null: do not come back.",
            {"t": _TEXT, "code": _TEXT, "after": _TEXT, "retry_ms": {"type": ["integer", "null"]}},
            {"t": "orders", "code": "topic_retired", "after": "MS4wMTk4ZTQuOQ", "retry_ms": None}),
    _notice("expiring", "The token expires in so many seconds; the connection then closes with 4401.",
            {"in": _COUNT}, {"in": 60}),
    _notice("auth", "The newer token was taken; it expires in so many seconds.", {"exp": _COUNT}, {"exp": 3600}),
    _notice("quota", "Nothing comes for so long because of this limit of the plan; then it goes on where it stopped.",
            {"wait_ms": _COUNT, "limit": _TEXT}, {"wait_ms": 400, "limit": "messages_per_s"}),
    _notice("deprecated", "The topic is deprecated: when it ends, and what to read instead.",
            {"t": _TEXT, "at": _MAYBE, "sunset": _MAYBE, "successor": _MAYBE},
            {"t": "orders", "at": "2026-01-05T09:00:00Z", "sunset": "2027-01-31T00:00:00Z",
             "successor": "orders_v2"}),
)  # fmt: skip

CLIENT_LINES: tuple[Line, ...] = (
    Line("line_auth", "A new token for the connection, before the old one expires.",
         {"id": _ID, "auth": _TEXT}, ["auth"], {"auth": "<token>"}),
    Line("line_sub", "One topic more on this connection.",
         {"id": _ID, "sub": _TEXT, "filter": _TEXT, "after": _TEXT, "credit": _COUNT,
          "format": {"enum": ["envelope", "raw"]}, "slow": {"enum": ["gap", "latest", "close"]}, "durable": _TEXT},
         ["sub"], {"id": 1, "sub": "orders", "filter": "amount > 100", "after": "latest", "credit": 500}),
    Line("line_unsub", "A topic less.", {"id": _ID, "unsub": _TEXT}, ["unsub"], {"id": 2, "unsub": "orders"}),
    Line("line_credit", "So many events more may be sent.",
         {"id": _ID, "credit": _COUNT, "t": _TEXT}, ["credit"], {"credit": 500}),
    Line("line_ack", "Everything up to this cursor has been dealt with.",
         {"id": _ID, "ack": _TEXT, "t": _TEXT}, ["ack"], {"ack": "MS4wMTk4ZTQuOQ"}),
    Line("line_pub", "An event, or several in an array, into a stream; needs ingest:write, answered when durable.",
         {"id": _ID, "pub": _TEXT, "d": {"type": ["object", "array"]}, "key": _TEXT, "idem": _TEXT}, ["pub", "d"],
         {"id": 3, "pub": "orders", "d": {"id": "o1", "amount": 250.0}}),
)  # fmt: skip

REPLY = Line(
    "reply",
    "To a line with an id, and to every line that could not be followed.",
    {
        "id": _ID,
        "ok": {"type": "boolean"},
        "err": _TEXT,
        "detail": _TEXT,
        "retry": {"type": "boolean"},
        "retry_ms": _COUNT,
        "exp": _COUNT,
        "accepted": _COUNT,
        "duplicate": _COUNT,
        "rejected": _COUNT,
        "errors": {"type": "array", "items": {"type": "object"}},
        "positions": {"type": "array", "items": _TEXT},
    },
    [],
    {"id": 1, "ok": True},
)

#: Close code -> when. The reason is JSON: `{"code","retry_ms","after"}`.
CLOSE_CODES: Mapping[int, str] = {
    1000: "You closed it.",
    1001: "The process stops or the topic changed: come back after retry_ms with after.",
    1009: "A line of yours was too big.",
    4400: "A line of yours makes no sense.",
    4401: "The token expired or was revoked: get a new one.",
    4403: "The token lacks the scope.",
    4404: "The topic is gone, a draft again, or retired.",
    4408: "No token came in time.",
    4409: "You did not keep up and asked to be closed (slow=close), or your durable name was taken over.",
    4429: "Too much for now: come back after retry_ms.",
    4503: "Something behind the gateway is away: come back after retry_ms.",
}
