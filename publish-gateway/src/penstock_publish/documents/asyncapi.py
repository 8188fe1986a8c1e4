"""AsyncAPI 3.0.0: a channel a topic over WebSocket, with what the gateway sends and the lines that it takes. Pure.

Actions are the gateway's own: it sends events and notices, it receives the lines of a subscriber.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import version
from urllib.parse import quote

from penstock_publish.documents.offer import OfferedTopic
from penstock_publish.documents.openapi import scopes, security_scheme
from penstock_publish.documents.samples import made_event
from penstock_publish.documents.schemas import envelope_schema
from penstock_publish.documents.socket_lines import CLIENT_LINES, NOTICES, REPLY, Line
from penstock_publish.documents.stream_channel import STREAM_LINES, stream_channel, stream_operations

__all__ = ["asyncapi"]

_Json = dict[str, object]


def asyncapi(url: str, topics: Iterable[OfferedTopic], *, whole: bool = False, issuer: str | None = None) -> _Json:
    """The document of these topics. `whole`: they are all, so the socket without a first topic is in it, too.

    `issuer`: who gives tokens where it is not this server.
    """
    topics = list(topics)
    secure, _, host = url.partition("://")
    alone = topics[0] if len(topics) == 1 else None
    info: _Json = {"title": "Penstock", "version": version("penstock")}
    if alone is not None:
        info = {"title": f"{alone.name} at Penstock", "version": alone.lifecycle.version}
        if alone.lifecycle.description:
            info["description"] = alone.lifecycle.description
    operations: _Json = {}
    for topic in topics:
        operations |= _operations(topic)
    channels: _Json = {topic.name: _channel(topic) for topic in topics}
    if whole:
        channels[_ANY] = _any_channel(topics)
        operations |= _any_operations(topics)
        channels |= stream_channel()
        operations |= stream_operations()
    return {
        "asyncapi": "3.0.0",
        "info": {**info, "externalDocs": {"url": f"{url}/docs"}},
        "defaultContentType": "application/json",
        "servers": {
            "gateway": {
                "host": host,
                "protocol": "wss" if secure == "https" else "ws",
                "security": [{"$ref": "#/components/securitySchemes/oauth2"}],
            }
        },
        "channels": channels,
        "operations": operations,
        "components": {
            "messages": {line.name: _message(line) for line in (*NOTICES, *CLIENT_LINES, REPLY, *STREAM_LINES)},
            "securitySchemes": {"oauth2": security_scheme(url, issuer, {"availableScopes": scopes(topics)})},
        },
    }


def _channel(topic: OfferedTopic) -> _Json:
    lifecycle = topic.lifecycle
    event: _Json = {
        "name": "event",
        "title": f"An event of {topic.name}",
        "contentType": "application/json",
        "payload": envelope_schema(topic.spec),
        "examples": [{"name": "made", "payload": made_event(topic.spec)}],
    }
    channel: _Json = {
        "address": f"/v1/topics/{topic.name}",
        "title": topic.name,
        "summary": f"{topic.kind.capitalize()} {topic.name}, version {lifecycle.version}, {lifecycle.state.value}.",
        "messages": {"event": event, **_shared()},
        "tags": [{"name": topic.kind}, {"name": lifecycle.state.value}],
        "bindings": {"ws": {"method": "GET", "query": _QUERY, "bindingVersion": "0.1.0"}},
        "x-penstock-lifecycle": lifecycle.as_json(),
    }
    if lifecycle.description:
        channel["description"] = lifecycle.description
    return channel


def _any_channel(topics: Iterable[OfferedTopic]) -> _Json:
    """The socket without a first topic, which takes as many as its lines ask for."""
    events = {f"event.{topic.name}": {"$ref": f"{_pointer(topic.name)}/messages/event"} for topic in topics}
    return {
        "address": _ANY,
        "title": "Any topics on one socket",
        "summary": "Nothing comes until a line `sub` asks for a topic; `t` tells the events of several apart.",
        "messages": {**events, **_shared()},
        "bindings": {"ws": {"method": "GET", "query": _ANY_QUERY, "bindingVersion": "0.1.0"}},
    }


def _any_operations(topics: Iterable[OfferedTopic]) -> _Json:
    channel = _pointer(_ANY)
    sent = [*(_escaped(f"event.{topic.name}") for topic in topics), *(line.name for line in NOTICES), REPLY.name]
    return {
        "subscribe": {
            "action": "send",
            "channel": {"$ref": channel},
            "summary": "Events of the topics that were asked for; each needs its own scope.",
            "messages": [{"$ref": f"{channel}/messages/{name}"} for name in sent],
        },
        "control": {
            "action": "receive",
            "channel": {"$ref": channel},
            "summary": "Lines of the subscriber; `sub` comes first.",
            "messages": [{"$ref": f"{channel}/messages/{line.name}"} for line in CLIENT_LINES],
        },
    }


def _shared() -> _Json:
    """Lines that are the same on every channel."""
    return {line.name: {"$ref": f"#/components/messages/{line.name}"} for line in (*NOTICES, *CLIENT_LINES, REPLY)}


def _escaped(name: str) -> str:
    """A part of a JSON pointer in a URI fragment (RFC 6901, 3 and 6): a name may hold whatever SQL lets it."""
    return quote(name.replace("~", "~0").replace("/", "~1"), safe="~")


def _pointer(channel: str) -> str:
    return f"#/channels/{_escaped(channel)}"


def _operations(topic: OfferedTopic) -> _Json:
    channel = _pointer(topic.name)
    sent = ["event", *(line.name for line in NOTICES), REPLY.name]
    return {
        f"subscribe.{topic.name}": {
            "action": "send",
            "channel": {"$ref": channel},
            "summary": f"Events of {topic.name}; needs the scope {topic.scope}.",
            "messages": [{"$ref": f"{channel}/messages/{name}"} for name in sent],
        },
        f"control.{topic.name}": {
            "action": "receive",
            "channel": {"$ref": channel},
            "summary": "Lines that a subscriber may send; none has to be.",
            "messages": [{"$ref": f"{channel}/messages/{line.name}"} for line in CLIENT_LINES],
        },
    }


def _message(line: Line) -> _Json:
    return {
        "name": line.name,
        "title": line.title,
        "contentType": "application/json",
        "payload": {"type": "object", "properties": line.properties, "required": list(line.required)},
        "examples": [{"name": "example", "payload": line.example}],
    }


_ANY = "/v1/topics"  # also the name of that channel
_CREDENTIALS: _Json = {
    "auth": {"enum": ["message"], "description": 'The token comes in the first line: {"auth": "<token>"}.'},
    "ticket": {"type": "string", "description": "From POST /v1/tickets, once, within 30 seconds."},
}
_ANY_QUERY: _Json = {"type": "object", "properties": _CREDENTIALS}
_QUERY: _Json = {
    "type": "object",
    "properties": {
        "after": {"type": "string", "description": "A cursor, 'earliest' or 'latest' (the default)."},
        "filter": {"type": "string", "description": "A SQL predicate over the columns."},
        "format": {"enum": ["envelope", "raw"]},
        "slow": {"enum": ["gap", "latest", "close"]},
        "credit": {"type": "string", "description": "So many events at first; more with a line `credit`."},
        "durable": {"type": "string", "description": "The name under which acknowledged cursors are kept."},
        **_CREDENTIALS,
    },
}
