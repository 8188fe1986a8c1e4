"""Metadata of the protected resource (RFC 9728): which issuers' tokens are taken here, and what can be asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

import msgspec
from aiohttp import web

from penstock.errors import PenstockError
from penstock.http.authorization_details import DETAILS_TYPE
from penstock.http.problem import guarded

__all__ = ["metadata_url", "resource_metadata_routes"]

_WELL_KNOWN = "/.well-known/oauth-protected-resource"
_PATH_CHARS_MAX = 300


def metadata_url(public_url: str) -> str:
    """Where the metadata of the resource `public_url` is: before its path (RFC 9728, 3.1)."""
    parts = urlsplit(public_url)
    return f"{parts.scheme}://{parts.netloc}{_WELL_KNOWN}{parts.path.rstrip('/')}"


def resource_metadata_routes(
    public_url: str, *, issuers: Callable[[], Sequence[str]], scopes: Sequence[str]
) -> Sequence[web.AbstractRouteDef]:
    """The metadata of the whole server, and of each resource under `/v1/` (a path behind the well-known one).

    Clients that were given the URL of a topic look for it there, and compare `resource` with that very URL.
    """
    parts = urlsplit(public_url.rstrip("/"))
    origin, base = f"{parts.scheme}://{parts.netloc}", parts.path

    async def metadata(request: web.Request) -> web.Response:
        path = request.match_info.get("path", "")
        at = f"/{path}" if path else ""
        if at not in ("", base) and not (at.startswith(f"{base}/v1/") and len(at) <= _PATH_CHARS_MAX):
            raise PenstockError("not_found", f"there is no resource at {at[:100]}; the metadata is at {_WELL_KNOWN}")
        document = {
            "resource": origin + (at or base),
            "authorization_servers": list(issuers()),
            "scopes_supported": list(scopes),
            "bearer_methods_supported": ["header"],
            "authorization_details_types_supported": [DETAILS_TYPE],
            "resource_documentation": f"{origin}{base}/docs",
        }
        return web.Response(
            body=msgspec.json.encode(document),
            content_type="application/json",
            headers={"Cache-Control": "public, max-age=300"},
        )

    return [web.get(_WELL_KNOWN, guarded(metadata)), web.get(_WELL_KNOWN + "/{path:.+}", guarded(metadata))]
