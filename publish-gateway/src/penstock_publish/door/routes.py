"""Routes of the door: which paths go to which service, who may pass, and what is counted."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from functools import partial

from aiohttp import web

from penstock.errors import PenstockError
from penstock.http.credentials import SESSION_COOKIE
from penstock.http.problem import Handler, problem
from penstock.http.socket_life import close_reason
from penstock.http.traced import traced
from penstock.observe.traces import Traces
from penstock.ports.clock import Clock
from penstock.role import Check
from penstock_publish.authority import Authority
from penstock_publish.door.entering import enter
from penstock_publish.door.forward import forward
from penstock_publish.door.intake import DoorIntake
from penstock_publish.door.replicas import Replicas
from penstock_publish.door.tunnel import Tunnel, open_tunnel
from penstock_publish.metrics import DOOR_REQUESTS, DOOR_SECONDS, DOOR_TUNNELS
from penstock_publish.settings import DoorSettings

__all__ = ["FORWARDED", "Door"]

#: Role -> the first two parts of the paths that are its own.
FORWARDED: Mapping[str, tuple[str, ...]] = {
    "ingest": ("/v1/streams",),
    "processor": ("/v1/apps", "/v1/rules", "/v1/rejected"),
    "data": ("/v1/data", "/v1/summaries", "/v1/query"),
}
_DRAIN_POLL_S = 0.02


class Door:
    """Forwards to the services of `elsewhere` (role -> addresses of its replicas)."""

    def __init__(
        self,
        elsewhere: Mapping[str, Sequence[str]],
        authority: Authority,
        *,
        clock: Clock,
        settings: DoorSettings,
        traces: Traces | None = None,
    ) -> None:
        self._links = [Replicas(role, urls, settings) for role, urls in elsewhere.items() if role in FORWARDED]
        self._authority, self._clock, self._settings = authority, clock, settings
        self._traces = traces or Traces()
        self._tunnels: set[Tunnel] = set()
        self._requests = 0  # under way, tunnels included
        self._draining = False

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """Every method of every path below the services' own."""
        return [
            web.route("*", path, self._counted(link))
            for link in self._links
            for prefix in FORWARDED[link.role]
            for path in (prefix, prefix + "/{rest:.*}")
        ]

    def intake(self) -> DoorIntake | None:
        """Where sockets leave events, if ingest runs elsewhere."""
        return next((DoorIntake(link) for link in self._links if link.role == "ingest"), None)

    def ready(self) -> Sequence[Check]:
        """One check per service."""
        return [link.check() for link in self._links]

    async def run(self, stop: asyncio.Event) -> None:
        """Watch the services until `stop`; then let what is under way finish and send sockets away."""
        for link in self._links:
            link.open()
        watches = [asyncio.create_task(link.watch()) for link in self._links]
        try:
            await stop.wait()
            await self._drain()
        finally:
            for task in watches:
                task.cancel()
            await asyncio.gather(*watches, return_exceptions=True)
            for link in self._links:
                await link.close()

    async def _drain(self) -> None:
        self._draining = True
        hint_ms = self._settings.retry_after_s * 1000
        for tunnel in self._tunnels:
            tunnel.leave(1001, close_reason("draining", retry_ms=round(hint_ms * random.uniform(1, 2)), after=""))
        while self._requests:
            await self._clock.sleep(_DRAIN_POLL_S)

    def _counted(self, link: Replicas) -> Handler:
        return traced(partial(self._answer, link), self._traces, lambda request: f"door {link.role}")

    async def _answer(self, link: Replicas, request: web.Request) -> web.StreamResponse:
        started_s = self._clock.monotonic_s()
        self._requests += 1
        status = 500
        try:
            response = await self._passed(link, request)
            status = response.status
            return response
        except PenstockError as error:
            status = error.status
            return problem(error)
        finally:
            self._requests -= 1
            DOOR_REQUESTS.labels(link.role, f"{status // 100}xx").inc()
            DOOR_SECONDS.labels(link.role).observe(self._clock.monotonic_s() - started_s)

    async def _passed(self, link: Replicas, request: web.Request) -> web.StreamResponse:
        if self._draining:
            raise PenstockError("draining", "this process is stopping; send it again", retry_after_s=1.0)
        if self._requests > self._settings.requests_max:
            raise PenstockError(
                "too_many_requests",
                f"{self._settings.requests_max} requests pass the door already (requests_max)",
                retry_after_s=self._settings.retry_after_s,
            )
        bearer = self._session_token(request)
        if request.headers.get("Upgrade", "").lower() != "websocket":
            return await forward(request, link, bearer=bearer, settings=self._settings)
        first = await enter(request, self._authority.access, bearer)
        tunnel = await open_tunnel(request, link, bearer=bearer, settings=self._settings, first=first)
        self._tunnels.add(tunnel)
        DOOR_TUNNELS.labels(link.role).inc()
        try:
            await tunnel.run()
        finally:
            self._tunnels.discard(tunnel)
            DOOR_TUNNELS.labels(link.role).dec()
        return tunnel.outer

    def _session_token(self, request: web.Request) -> str | None:
        """The token in the page's cookie, once it is sure that our own page sent it: services take no cookie."""
        if "Authorization" in request.headers or SESSION_COOKIE not in request.cookies:
            return None
        self._authority.access.identify(request)
        return request.cookies[SESSION_COOKIE]
