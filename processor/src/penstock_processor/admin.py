"""What stands before every handler of the processor: the scope of those who run it."""

from __future__ import annotations

from aiohttp import web

from penstock.http.problem import Handler, guarded
from penstock.role import Ports

__all__ = ["SCOPE", "admin"]

SCOPE = "apps:admin"


def admin(ports: Ports, handler: Handler) -> Handler:
    """The handler behind the scope check; errors become problem details."""

    async def checked(request: web.Request) -> web.StreamResponse:
        await ports.access.require(request, SCOPE)
        return await handler(request)

    return guarded(checked)
