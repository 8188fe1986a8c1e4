"""Routes of upstreams: who may pass, what is counted, and how long a WebSocket may stay."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from functools import partial

from aiohttp import web

from penstock.errors import PenstockError
from penstock.http.access import Principal
from penstock.http.credentials import SESSION_COOKIE
from penstock.http.problem import problem
from penstock.http.revocation import EVERY_TOKEN
from penstock.http.socket_life import close_reason
from penstock.http.subprotocol import SUBPROTOCOL
from penstock.ports.clock import Clock
from penstock_publish.authority import Authority
from penstock_publish.door.tunnel import Tunnel
from penstock_publish.metrics import UPSTREAM_REQUESTS, UPSTREAM_SECONDS, UPSTREAM_SOCKETS
from penstock_publish.plans.metering import Flow, Metering
from penstock_publish.topics.entrance import Entrance
from penstock_publish.upstreams.crossing import PREFIX
from penstock_publish.upstreams.link import UpstreamLink
from penstock_publish.upstreams.passage import Passage
from penstock_publish.upstreams.settings import Upstream

__all__ = ["UpstreamRoutes"]

_SWEEP_S = 0.5


class UpstreamRoutes:
    """`/v1/upstreams/{upstream}/...`; `run` keeps the connections."""

    def __init__(
        self,
        upstreams: Sequence[Upstream],
        authority: Authority,
        entrance: Entrance,
        metering: Metering,
        *,
        clock: Clock,
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        self._links = {upstream.name: UpstreamLink(upstream, environment) for upstream in upstreams}
        self._authority, self._entrance, self._metering, self._clock = authority, entrance, metering, clock
        self._busy = dict.fromkeys(self._links, 0)
        self._passages: set[Passage] = set()
        self._look = asyncio.Event()
        self._keys = 0  # how often all keys were replaced at once: tokens of before are no longer any good
        authority.on_revocation(self._heard)
        authority.on_hold(self._holds)

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """Every method: which ones pass is said by the upstream's settings. None without upstreams."""
        path = PREFIX + "{upstream}"
        return [web.route("*", each, self._answer) for each in (path, path + "/{rest:.*}")] if self._links else []

    async def open(self) -> None:
        """Read the secrets of all, before `run`; `bad_request` for one that is not there."""
        for link in self._links.values():
            await link.open()

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`; WebSockets whose token has ended are closed within half a second, revoked ones at once."""
        stopped = asyncio.create_task(stop.wait())
        try:
            while self._links and not stop.is_set():
                sleeping = asyncio.ensure_future(self._clock.sleep(_SWEEP_S))
                looking = asyncio.create_task(self._look.wait())
                await asyncio.wait((stopped, sleeping, looking), return_when=asyncio.FIRST_COMPLETED)
                sleeping.cancel()
                looking.cancel()
                self._look.clear()
                self._end_those_without_token()
            leaving = tuple(self._passages)
            for passage in leaving:
                passage.end(1001, close_reason("draining", retry_ms=1000, after=""))
            await asyncio.gather(*(passage.over() for passage in leaving))
        finally:
            stopped.cancel()
            await self.close()

    async def close(self) -> None:
        """Release all connections."""
        for link in self._links.values():
            await link.close()

    def _heard(self, revoked_id: str) -> None:
        self._keys += revoked_id == EVERY_TOKEN
        self._look.set()

    def _holds(self, token_id: str) -> bool:
        return any(passage.principal.token_id == token_id for passage in self._passages)

    def _end_those_without_token(self) -> None:
        """Waits for nobody: a caller that does not read must not hold up the end of others."""
        for passage in self._passages:
            code = "" if passage.keys == self._keys else "invalid_token"
            try:
                self._authority.check_current(passage.principal)
            except PenstockError as error:
                code = error.code
            if code:
                passage.end(4401, close_reason(code, retry_ms=None, after=""))

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        link = self._links.get(request.match_info["upstream"])
        name = "unknown" if link is None else link.upstream.name  # a label must not be the caller's to invent
        started_s, status = self._clock.monotonic_s(), 500
        try:
            response = await self._passed(link, request)
            status = response.status
            return response
        except PenstockError as error:
            status = error.status
            return problem(error)
        finally:
            UPSTREAM_REQUESTS.labels(name, f"{status // 100}xx").inc()
            UPSTREAM_SECONDS.labels(name).observe(self._clock.monotonic_s() - started_s)

    async def _passed(self, link: UpstreamLink | None, request: web.Request) -> web.StreamResponse:
        if link is None:
            await self._authority.access.authenticated(request)  # whoever may nothing learns no names
            raise PenstockError("not_found", f"there is no upstream '{request.match_info['upstream'][:100]}'")
        upstream, keys = link.upstream, self._keys
        if upstream.kind == "websocket":
            entry = await self._entrance.admit(request, None)
            principal = entry.principal
            bearer = None if entry.bearer == request.cookies.get(SESSION_COOKIE) else entry.bearer
            if principal is None:
                raise PenstockError("bad_request", "auth=message is for topics: an upstream's messages are its own")
        else:
            principal, bearer = await self._authority.access.authenticated(request), _bearer(request)
        if not principal.allows(upstream.scope):
            raise self._authority.access.scope_error(upstream.scope)
        if upstream.kind == "rest" and request.method not in upstream.methods:
            allow = ", ".join(upstream.methods)
            raise PenstockError("method_not_allowed", f"{upstream.name} takes {allow} here", extra={"allow": allow})
        if self._busy[upstream.name] >= upstream.requests_max:
            raise PenstockError(
                "too_many_requests",
                f"{upstream.requests_max} requests of {upstream.name} are under way (requests_max)",
                retry_after_s=upstream.retry_after_s,
            )
        self._busy[upstream.name] += 1
        try:
            if upstream.kind == "rest":
                return await link.forward(request, bearer=bearer)
            return await self._joined(link, request, principal, bearer=bearer, keys=keys)
        finally:
            self._busy[upstream.name] -= 1

    async def _joined(
        self, link: UpstreamLink, request: web.Request, principal: Principal, *, bearer: str | None, keys: int
    ) -> web.StreamResponse:
        if request.headers.get("Upgrade", "").lower() != "websocket":
            raise PenstockError("bad_request", f"{link.upstream.name} is a WebSocket: send an upgrade")
        flow = self._metering.open(principal)
        try:
            tunnel = await self._open(link, request, bearer, flow)
            passage = Passage(tunnel, request, principal, keys)
            self._passages.add(passage)
            UPSTREAM_SOCKETS.labels(link.upstream.name).inc()
            self._look.set()  # the token may have ended while the upstream was asked
            try:
                await passage.run()
            finally:
                self._passages.discard(passage)
                UPSTREAM_SOCKETS.labels(link.upstream.name).dec()
        finally:
            if flow is not None:
                flow.close()
        return tunnel.outer

    async def _open(self, link: UpstreamLink, request: web.Request, bearer: str | None, flow: Flow | None) -> Tunnel:
        upstream = link.upstream
        asked = [
            name.strip() for name in request.headers.get("Sec-WebSocket-Protocol", "").split(",") if name.strip()
        ]
        others = [name for name in asked if not name.lower().startswith("penstock.")]
        inner = await link.connect(request, bearer=bearer, protocols=others)
        chosen = inner.protocol or (SUBPROTOCOL if SUBPROTOCOL in asked else None)
        outer = web.WebSocketResponse(
            protocols=[chosen] if chosen else (),
            max_msg_size=upstream.message_max_bytes,
            heartbeat=upstream.heartbeat_s,
            timeout=upstream.close_wait_s,
            autoclose=False,  # the tunnel answers, with the code that it was sent
            compress=False,
        )
        try:
            await outer.prepare(request)
        except BaseException:
            await inner.close()
            raise
        return Tunnel(
            outer,
            inner,
            retry_after_s=upstream.retry_after_s,
            delivered=None if flow is None else partial(_count, flow, outer),
        )


async def _count(flow: Flow, outer: web.WebSocketResponse, data: str | bytes) -> None:
    """Count a message that the caller got; wait as long as its plan says, which stops reading from the upstream."""
    flow.sent(1, len(data.encode() if isinstance(data, str) else data))
    hold = flow.pause()
    if hold is not None and hold.for_today:
        reason = close_reason("quota_exceeded", retry_ms=flow.retry_ms(hold), after="")
        await outer.close(code=4429, message=reason)
    elif hold is not None:
        await flow.resumed()


def _bearer(request: web.Request) -> str | None:
    """The token of the header; that of the page's session is for this gateway alone."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None
