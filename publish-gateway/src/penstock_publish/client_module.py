"""`GET /client.js`: the JavaScript client as an ES module, for pages of any origin and for Node."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Sequence
from importlib.resources import files

from aiohttp import web

__all__ = ["client_module_routes"]


def client_module_routes() -> Sequence[web.AbstractRouteDef]:
    """The module, read and compressed once. Its ETag is of its content, so that a new version is fetched at once."""
    plain = files("penstock_publish").joinpath("static").joinpath("client.js").read_bytes()
    packed = gzip.compress(plain, mtime=0)
    etag = f'"{hashlib.sha256(plain).hexdigest()[:16]}"'
    always = {
        "ETag": etag,
        "Cache-Control": "no-cache",  # keep it, but ask whether it is still the one
        "Access-Control-Allow-Origin": "*",  # it is no secret, and imports of other origins need it
        "Cross-Origin-Resource-Policy": "cross-origin",
        "X-Content-Type-Options": "nosniff",
        "Vary": "Accept-Encoding",
    }

    async def module(request: web.Request) -> web.Response:
        if etag in request.headers.get("If-None-Match", ""):
            return web.Response(status=304, headers=always)
        takes_gzip = "gzip" in request.headers.get("Accept-Encoding", "")
        headers = always | ({"Content-Encoding": "gzip"} if takes_gzip else {})
        body = packed if takes_gzip else plain
        return web.Response(body=body, content_type="text/javascript", charset="utf-8", headers=headers)

    return [web.get("/client.js", module)]
