"""Live connections of other services, counted against their callers' plans once it is known whose they are."""

from __future__ import annotations

from aiohttp import web

from penstock.http.access import Principal
from penstock.http.live_connection import ENTERED
from penstock.http.problem import Handler
from penstock_publish.plans.metering import Flow, Metering

__all__ = ["counted"]


def counted(handler: Handler, metering: Metering) -> Handler:
    """A handler that serves WebSockets until they end; each is told of whose it is by `ENTERED`."""

    async def reply(request: web.Request) -> web.StreamResponse:
        if request.headers.get("Upgrade", "").lower() != "websocket":
            return await handler(request)
        flows: list[Flow] = []

        def enter(principal: Principal) -> None:
            flow = metering.open(principal)
            if flow is not None:
                flows.append(flow)

        request[ENTERED] = enter
        try:
            return await handler(request)
        finally:
            for flow in flows:
                flow.close()

    return reply
