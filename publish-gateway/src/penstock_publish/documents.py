"""OpenAPI 3.1 and AsyncAPI 3 of what this process offers now, and `/docs` for people. Made from the catalog.

Topics are described with the columns of their streams and tables, so the documents change when an app is deployed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from importlib.metadata import version

import msgspec
from aiohttp import web
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from penstock.errors import STATUS, PenstockError
from penstock.http.problem import guarded
from penstock.model.stream import Relation, StreamSpec
from penstock.model.types import DataType, Kind
from penstock.ports.log import Log
from penstock_publish.authority import Authority
from penstock_publish.lifecycle.registry import Lifecycles
from penstock_publish.lifecycle.states import sees
from penstock_publish.oauth.page_session import is_loopback_request
from penstock_publish.operations import OPERATIONS, Operation
from penstock_publish.topics.routes import scope_of
from penstock_publish.topics.rows import key_columns

__all__ = ["asyncapi", "document_routes", "envelope_schema", "openapi"]

_Json = dict[str, object]


def document_routes(authority: Authority, log: Log, lifecycles: Lifecycles) -> Sequence[web.AbstractRouteDef]:
    """The documents, and `/errors/<code>`, leading there. From loopback with all topics, else the readable."""
    environment = Environment(
        loader=PackageLoader("penstock_publish", "templates"),
        autoescape=select_autoescape(),
        undefined=StrictUndefined,
    )
    template = environment.get_template("docs.html")
    url = authority.public_url

    async def topics(request: web.Request) -> list[StreamSpec]:
        streams = (await log.catalog()).streams
        await lifecycles.load()
        principal = None
        with suppress(PenstockError):
            principal = authority.access.identify(request)
        published = [
            spec for name, spec in sorted(streams.items()) if spec.publish and sees(lifecycles.of(name), principal)
        ]
        if is_loopback_request(request):
            return published
        return [spec for spec in published if principal is not None and principal.allows(scope_of(spec))]

    async def openapi_json(request: web.Request) -> web.Response:
        return _reply(openapi(url, await topics(request)))

    async def asyncapi_json(request: web.Request) -> web.Response:
        return _reply(asyncapi(url, await topics(request)))

    async def docs(request: web.Request) -> web.Response:
        described = [(spec, scope_of(spec), ", ".join(key_columns(spec))) for spec in await topics(request)]
        text = template.render(url=url, operations=OPERATIONS, topics=described, errors=sorted(STATUS.items()))
        headers = {"Content-Security-Policy": "default-src 'self'; style-src 'self' 'unsafe-inline'"}
        return web.Response(text=text, content_type="text/html", charset="utf-8", headers=headers)

    async def error_code(request: web.Request) -> web.Response:
        code = request.match_info["code"]
        if code not in STATUS:
            raise PenstockError("not_found", f"there is no error code '{code[:100]}'; /docs lists them")
        return web.Response(status=302, headers={"Location": f"/docs#error-{code}"})

    return [
        web.get("/openapi.json", guarded(openapi_json)),
        web.get("/asyncapi.json", guarded(asyncapi_json)),
        web.get("/docs", guarded(docs)),
        web.get("/errors/{code}", guarded(error_code)),  # the `type` of problem details (RFC 9457, 3.1.1)
    ]


def openapi(url: str, topics: Iterable[StreamSpec]) -> _Json:
    """OpenAPI 3.1.1."""
    topics = list(topics)
    paths: dict[str, dict[str, object]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method] = _operation(operation)
    return {
        "openapi": "3.1.1",
        "info": {"title": "Penstock", "version": version("penstock")},
        "servers": [{"url": url}],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "oauth2": {
                    "type": "oauth2",
                    "flows": {"clientCredentials": {"tokenUrl": f"{url}/oauth/token", "scopes": _scopes(topics)}},
                }
            },
            "schemas": {
                "problem": _PROBLEM,
                **{f"topic.{spec.name}": envelope_schema(spec) for spec in topics},
            },
        },
    }


def asyncapi(url: str, topics: Iterable[StreamSpec]) -> _Json:
    """AsyncAPI 3.0.0: one channel a topic, over WebSocket."""
    topics = list(topics)
    secure, _, host = url.partition("://")
    channels: _Json = {}
    operations: _Json = {}
    for spec in topics:
        channels[spec.name] = {
            "address": f"/v1/topics/{spec.name}",
            "messages": {"event": {"contentType": "application/json", "payload": envelope_schema(spec)}},
            "bindings": {"ws": {"method": "GET", "query": _QUERY, "bindingVersion": "0.1.0"}},
        }
        operations[f"subscribe.{spec.name}"] = {
            "action": "send",
            "channel": {"$ref": f"#/channels/{spec.name}"},
            "summary": f"Events of {spec.name}; needs the scope {scope_of(spec)}.",
        }
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "Penstock", "version": version("penstock")},
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
            "securitySchemes": {
                "oauth2": {
                    "type": "oauth2",
                    "flows": {
                        "clientCredentials": {"tokenUrl": f"{url}/oauth/token", "availableScopes": _scopes(topics)}
                    },
                }
            }
        },
    }


def envelope_schema(spec: StreamSpec) -> _Json:
    """JSON Schema of a topic's envelope. `-D` carries the key columns only, so a table requires no other column."""
    columns: _Json = {
        column.name: _column_schema(column.type, nullable=column.nullable and column.name not in spec.primary_key)
        for column in spec.columns
    }
    table = spec.relation is Relation.TABLE
    required = spec.primary_key if table else () if spec.relation is Relation.SOURCE else tuple(columns)
    properties: _Json = {
        "t": {"const": spec.name},
        "c": {"type": "string", "maxLength": 200},
        "d": {"type": "object", "properties": columns, "required": list(required)},
    }
    if key_columns(spec):
        properties["k"] = {"type": "string"} if table else {"type": ["string", "null"]}
    if table:
        properties |= {"op": {"enum": ["+I", "+U", "-D"]}, "complete": {"type": "boolean"}}
    return {"type": "object", "properties": properties, "required": sorted(properties)}


def _column_schema(data_type: DataType, *, nullable: bool) -> _Json:
    schema: _Json
    if data_type.is_nested:
        schema = _nested_schema(data_type)
    elif data_type.is_integer:
        schema = {"type": "integer"}
    elif data_type.kind in (Kind.FLOAT, Kind.DOUBLE):
        schema, nullable = {"type": "number"}, True  # NaN and infinities are written as null
    elif data_type.kind is Kind.BOOLEAN:
        schema = {"type": "boolean"}
    else:
        formats: Mapping[Kind, _Json] = {
            Kind.DATE: {"format": "date"},
            Kind.TIMESTAMP_LTZ: {"format": "date-time"},
            Kind.BYTES: {"contentEncoding": "base64"},
        }
        schema = {"type": "string", **formats.get(data_type.kind, {})}
    if nullable:
        schema["type"] = [schema["type"], "null"]
    return {**schema, "description": str(data_type)}


def _nested_schema(data_type: DataType) -> _Json:
    if data_type.kind is Kind.ARRAY:
        return {"type": "array", "items": _column_schema(data_type.element, nullable=True)}
    if data_type.kind is Kind.MAP:
        return {"type": "object", "additionalProperties": _column_schema(data_type.key_and_value[1], nullable=True)}
    parts = {name: _column_schema(part, nullable=True) for name, part in data_type.parts}
    return {"type": "object", "properties": parts}


def _scopes(topics: Iterable[StreamSpec]) -> dict[str, str]:
    scopes = {
        "*:read": "Every topic.",
        "data:read": "Stored tables, summaries and raw events.",
        "data:query": "SQL queries.",
        "ingest:write": "Sending events.",
        "apps:admin": "Apps, rules and rejected events.",
        "applications:write": "One's own applications: register, change, remove.",
    }
    return scopes | {scope_of(spec): f"The topic {spec.name}." for spec in topics}


def _operation(operation: Operation) -> _Json:
    described: _Json = {
        "summary": operation.summary,
        "tags": [operation.role],
        "responses": {
            str(operation.status): {"description": operation.reply},
            "default": {
                "description": "A problem (RFC 9457).",
                "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/problem"}}},
            },
        },
    }
    names = [part.strip("{}") for part in operation.path.split("/") if part.startswith("{")]
    parameters: list[_Json] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names
    ]
    parameters += [
        {"name": name, "in": "query", "description": text, "schema": {"type": "string"}}
        for name, text in operation.query.items()
    ]
    if parameters:
        described["parameters"] = parameters
    if operation.body:
        described["requestBody"] = {"content": {media_type: {} for media_type in operation.body}}
    if operation.scope:
        described["security"] = [{"oauth2": [operation.scope]}]
    return described


def _reply(document: _Json) -> web.Response:
    return web.Response(
        body=msgspec.json.encode(document), content_type="application/json", headers={"Cache-Control": "no-cache"}
    )


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
_QUERY: _Json = {
    "type": "object",
    "properties": {
        "after": {"type": "string", "description": "A cursor, 'earliest' or 'latest' (the default)."},
        "filter": {"type": "string", "description": "A SQL predicate over the columns."},
        "format": {"enum": ["envelope", "raw"]},
        "slow": {"enum": ["gap", "latest", "close"]},
        "ticket": {"type": "string", "description": "From POST /v1/tickets, once, within 30 seconds."},
    },
}
