"""OpenAPI 3.1.1 of everything, of one topic, or of one relation. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version

from penstock.errors import STATUS
from penstock_publish.documents.offer import OfferedRelation, OfferedTopic, OfferedUpstream
from penstock_publish.documents.samples import made_event
from penstock_publish.documents.schemas import envelope_schema, row_schema
from penstock_publish.documents.upstream_operations import upstream_operations
from penstock_publish.lifecycle.states import State
from penstock_publish.operations import OPERATIONS, Operation, operations

__all__ = ["openapi", "relation_openapi", "scopes", "security_scheme", "topic_openapi", "upstream_openapi"]

_Json = dict[str, object]
_ENDING = (State.DEPRECATED, State.RETIRED)
_TOPIC, _TICKETS, _TOKEN = "/v1/topics/{topic}", "/v1/tickets", "/oauth/token"
_DATA, _SUMMARIES = "/v1/data/{relation}", "/v1/summaries/{relation}"


def openapi(
    url: str,
    topics: Iterable[OfferedTopic],
    upstreams: Sequence[OfferedUpstream] = (),
    *,
    issuer: str | None = None,
) -> _Json:
    """The whole interface at `url`, with a schema for each topic's envelope, and the endpoints of others.

    `issuer`, here and below: who gives tokens where it is not this server.
    """
    topics = list(topics)
    schemas: _Json = {f"topic.{topic.name}": _topic_schema(topic) for topic in topics}
    shell = _Shell(url, "Penstock", version("penstock"), issuer)
    paths = _paths([*operations(embedded=issuer is None), *upstream_operations(upstreams)])
    return _document(shell, paths=paths, topics=topics, schemas=schemas, upstreams=upstreams)


def topic_openapi(url: str, topic: OfferedTopic, *, issuer: str | None = None) -> _Json:
    """What a consumer of one topic needs: pages of it, event streams, tickets, tokens."""
    described = next(operation for operation in OPERATIONS if operation.path == _TOPIC)
    page = _operation(described, fixed={"topic": topic.name}, scope=topic.scope)
    page |= {"operationId": f"read_{topic.name}", "responses": {**_responses(described), "200": _page_of(topic)}}
    if topic.lifecycle.state in _ENDING:
        page["deprecated"] = True
    if topic.lifecycle.description:
        page["description"] = topic.lifecycle.description
    paths: dict[str, _Json] = {f"/v1/topics/{topic.name}": {"get": page}}
    there = operations(embedded=issuer is None)
    paths |= _paths(operation for operation in there if operation.path in (_TICKETS, _TOKEN))
    schemas: _Json = {f"topic.{topic.name}": _topic_schema(topic)}
    shell = _Shell(url, f"{topic.name} at Penstock", topic.lifecycle.version, issuer)
    return _document(shell, paths=paths, topics=[topic], schemas=schemas)


def relation_openapi(url: str, relation: OfferedRelation, *, issuer: str | None = None) -> _Json:
    """Rows and summaries of one relation."""
    paths: dict[str, _Json] = {}
    for described in OPERATIONS:
        if described.method == "get" and described.path in (_DATA, _SUMMARIES):
            operation = _operation(described, fixed={"relation": relation.name})
            paths[described.path.replace("{relation}", relation.name)] = {"get": operation}
    paths |= _paths(operation for operation in operations(embedded=issuer is None) if operation.path == _TOKEN)
    schemas: _Json = {f"row.{relation.name}": row_schema(relation.columns, relation.spec.primary_key)}
    shell = _Shell(url, f"{relation.name} at Penstock", version("penstock"), issuer)
    return _document(shell, paths=paths, topics=[], schemas=schemas)


def upstream_openapi(url: str, upstream: OfferedUpstream, *, issuer: str | None = None) -> _Json:
    """One endpoint of others, with what gives tokens for it."""
    there = [one for one in operations(embedded=issuer is None) if one.path in (_TICKETS, _TOKEN)]
    paths = _paths([*upstream_operations([upstream]), *there])
    shell = _Shell(url, f"{upstream.name} at Penstock", version("penstock"), issuer)
    return _document(shell, paths=paths, topics=[], schemas={}, upstreams=[upstream])


def scopes(topics: Iterable[OfferedTopic], upstreams: Iterable[OfferedUpstream] = ()) -> dict[str, str]:
    """Scope -> what it is for."""
    known = {
        "*:read": "Every topic.",
        "data:read": "Stored tables, summaries and raw events.",
        "data:query": "SQL queries.",
        "ingest:write": "Sending events.",
        "apps:admin": "Apps, rules and rejected events.",
        "applications:write": "One's own applications: register, change, remove.",
    }
    behind = {one.scope: f"The endpoint {one.name}." for one in upstreams if one.scope not in known}
    return known | behind | {topic.scope: f"The topic {topic.name}." for topic in topics}


def security_scheme(url: str, issuer: str | None, granted: _Json) -> _Json:
    """How to get a token; `granted`: the scopes, under the name that the document has for them."""
    if issuer is not None:  # its metadata say where it gives tokens (OpenID Connect Discovery 1.0, section 4)
        return {"type": "openIdConnect", "openIdConnectUrl": f"{issuer.rstrip('/')}/.well-known/openid-configuration"}
    token: _Json = {"tokenUrl": f"{url}/oauth/token", **granted}
    people = {"authorizationUrl": f"{url}/oauth/authorize", "refreshUrl": f"{url}/oauth/token"}
    return {"type": "oauth2", "flows": {"clientCredentials": token, "authorizationCode": {**token, **people}}}


@dataclass(frozen=True, slots=True)
class _Shell:
    url: str
    title: str
    number: str
    issuer: str | None


def _document(
    shell: _Shell,
    *,
    paths: dict[str, _Json],
    topics: list[OfferedTopic],
    schemas: _Json,
    upstreams: Sequence[OfferedUpstream] = (),
) -> _Json:
    scheme = security_scheme(shell.url, shell.issuer, {"scopes": scopes(topics, upstreams)})
    return {
        "openapi": "3.1.1",
        "info": {"title": shell.title, "version": shell.number},
        "servers": [{"url": shell.url}],
        "externalDocs": {"url": f"{shell.url}/docs"},
        "paths": paths,
        "components": {
            "securitySchemes": {"oauth2": scheme},
            "schemas": {"problem": _PROBLEM, **schemas},
        },
    }


def _topic_schema(topic: OfferedTopic) -> _Json:
    schema = envelope_schema(topic.spec)
    schema["examples"] = [made_event(topic.spec)]
    if topic.lifecycle.description:
        schema["description"] = topic.lifecycle.description
    if topic.lifecycle.state in _ENDING:
        schema["deprecated"] = True
    return schema


def _page_of(topic: OfferedTopic) -> _Json:
    reference = {"$ref": f"#/components/schemas/topic.{topic.name}"}
    page = {
        "type": "object",
        "required": ["events", "next"],
        "properties": {
            "events": {"type": "array", "items": reference},
            "next": {"type": "string", "description": "The cursor of the next page; never null."},
            "gap": {"type": "object", "description": "The first of `gaps`."},
            "gaps": {
                "type": "array",
                "items": {"type": "object"},
                "description": "Events that retention has deleted: after `from`, up to and with `to`, `n` of them.",
            },
        },
    }
    return {
        "description": "A page of history, or the live stream.",
        "content": {
            "application/json": {"schema": page},
            "application/x-ndjson": {"schema": reference},
            "text/event-stream": {"schema": {"type": "string"}},
        },
    }


def _paths(operations: Iterable[Operation]) -> dict[str, _Json]:
    paths: dict[str, _Json] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method] = _operation(operation)
    return paths


def _operation(operation: Operation, *, fixed: dict[str, str] | None = None, scope: str | None = None) -> _Json:
    """`fixed`: parameters of the path that have a value already."""
    described: _Json = {
        "summary": operation.summary,
        "tags": [operation.role],
        "responses": _responses(operation),
    }
    names = [part.strip("{}") for part in operation.path.split("/") if part.startswith("{")]
    parameters: list[_Json] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in names
        if name not in (fixed or {})
    ]
    parameters += [
        {"name": name, "in": "query", "description": text, "schema": {"type": "string"}}
        for name, text in operation.query.items()
    ]
    if parameters:
        described["parameters"] = parameters
    if operation.body:
        described["requestBody"] = {"content": {media_type: {} for media_type in operation.body}}
    if operation.scope is not None:
        needed = scope or operation.scope
        described["security"] = [{"oauth2": [needed] if needed else []}]
    return described


def _responses(operation: Operation) -> _Json:
    return {
        str(operation.status): {"description": operation.reply},
        "default": {
            "description": "A problem (RFC 9457).",
            "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/problem"}}},
        },
    }


_PROBLEM: _Json = {
    "type": "object",
    "required": ["type", "title", "status", "code", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"enum": sorted(STATUS)},
        "detail": {"type": "string"},
    },
}
