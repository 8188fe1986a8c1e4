"""`/openapi.json`, `/asyncapi.json`, of one topic or relation too, and `/errors/<code>`, which leads to its words."""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec
from aiohttp import web

from penstock.errors import STATUS, PenstockError
from penstock.http.problem import guarded
from penstock_publish.documents.asyncapi import asyncapi
from penstock_publish.documents.offer import Offers
from penstock_publish.documents.openapi import openapi, relation_openapi, topic_openapi, upstream_openapi

__all__ = ["document_routes"]

_UNSAFE_IN_FILE_NAMES = re.compile(r"[^A-Za-z0-9._-]")


def document_routes(offers: Offers, url: str) -> Sequence[web.AbstractRouteDef]:
    """From loopback with everything, else with what the caller may read.

    `?topic=`, `?relation=`, `?upstream=`: of that alone.
    """
    issuer = offers.issuer

    async def openapi_json(request: web.Request) -> web.Response:
        offer = await offers.of(request)
        if "topic" in request.query:
            return _reply(request, topic_openapi(url, offer.topic(request.query["topic"]), issuer=issuer), "openapi")
        if "relation" in request.query:
            return _reply(
                request, relation_openapi(url, offer.relation(request.query["relation"]), issuer=issuer), "openapi"
            )
        if "upstream" in request.query:
            document = upstream_openapi(url, offer.upstream(request.query["upstream"]), issuer=issuer)
            return _reply(request, document, "openapi")
        return _reply(request, openapi(url, offer.topics, offer.upstreams, issuer=issuer), "openapi")

    async def asyncapi_json(request: web.Request) -> web.Response:
        offer = await offers.of(request)
        if "topic" in request.query:
            return _reply(request, asyncapi(url, [offer.topic(request.query["topic"])], issuer=issuer), "asyncapi")
        return _reply(request, asyncapi(url, offer.topics, whole=True, issuer=issuer), "asyncapi")

    async def error_code(request: web.Request) -> web.Response:
        code = request.match_info["code"]
        if code not in STATUS:
            raise PenstockError("not_found", f"there is no error code '{code[:100]}'; /docs/reference lists them")
        return web.Response(status=302, headers={"Location": f"/docs/reference#error-{code}"})

    return [
        web.get("/openapi.json", guarded(openapi_json)),
        web.get("/asyncapi.json", guarded(asyncapi_json)),
        web.get("/errors/{code}", guarded(error_code)),  # the `type` of problem details (RFC 9457, 3.1.1)
    ]


def _reply(request: web.Request, document: dict[str, object], kind: str) -> web.Response:
    """The document, indented for people. `?download`: as a file."""
    headers = {"Cache-Control": "no-cache"}
    if "download" in request.query:
        asked = (request.query.get(name) for name in ("topic", "relation", "upstream"))
        about = next(filter(None, asked), "penstock")
        name = _UNSAFE_IN_FILE_NAMES.sub("-", about)
        headers["Content-Disposition"] = f'attachment; filename="{name}.{kind}.json"'
    body = msgspec.json.format(msgspec.json.encode(document), indent=2)
    return web.Response(body=body, content_type="application/json", headers=headers)
