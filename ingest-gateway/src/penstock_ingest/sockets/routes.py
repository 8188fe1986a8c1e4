"""The WebSockets of a process: who may open one, how many, how long they live, how they end."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Any

import structlog
from aiohttp import WSMsgType, web

from penstock.errors import PenstockError
from penstock.http.access import Principal
from penstock.http.live_connection import ENTERED
from penstock.http.problem import guarded
from penstock.http.socket_life import Close, close_reason
from penstock_ingest import metrics
from penstock_ingest.sockets.entrance import WRITE, admit_caller
from penstock_ingest.sockets.lines import Auth, read_auth, refusal_line
from penstock_ingest.sockets.session import DRAINING, Means, Session

__all__ = ["Sockets"]

_log = structlog.get_logger(__name__)
#: Pace at which sockets are looked after. A token that expires is noticed that much later at most.
_SWEEP_S = 0.25


class Sockets:
    """`GET /v1/streams/{stream}/connect`; `run` looks after them, `drain` ends them."""

    def __init__(self, means: Means, *, draw: Callable[[], float] = random.random) -> None:
        """`draw` gives numbers from 0 to 1."""
        self._means, self._limits, self._draw = means, means.settings.socket, draw
        self._sessions: set[Session] = set()
        self._checks: dict[Session, asyncio.Task[None]] = {}
        self._open = 0
        self._unauthenticated: set[web.WebSocketResponse[Any]] = set()
        self._none_open = asyncio.Event()
        self._none_open.set()
        self._draining = asyncio.Event()
        metrics.SOCKETS.set_function(lambda: self._open)

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """One."""
        return [web.get("/v1/streams/{stream}/connect", guarded(self._connect), allow_head=False)]

    async def run(self) -> None:
        """Warn, ping and close in time, and see whether tokens still count; until cancelled."""
        clock, checked_s = self._means.clock, self._means.clock.monotonic_s()
        while True:
            await clock.sleep(_SWEEP_S)
            now_s = clock.monotonic_s()
            for session in tuple(self._sessions):
                session.tick(now_s)
            if now_s - checked_s >= self._limits.check_s:
                checked_s = now_s
                for session in self._sessions - self._checks.keys():
                    self._check(session)

    async def drain(self) -> None:
        """Read no more; return when what was read is answered and all are closed, with a hint when to come back."""
        self._draining.set()
        hint_ms = self._limits.drain_retry_ms
        for session in tuple(self._sessions):
            session.close(Close(1001, DRAINING, retry_ms=round(hint_ms * (1 + self._draw()))))
        await self._none_open.wait()
        for check in self._checks.values():
            check.cancel()

    def _check(self, session: Session) -> None:
        """See whether its token counts; each for itself, as the issuer of one may have to be asked."""

        def checked(task: asyncio.Task[None]) -> None:
            del self._checks[session]
            if not task.cancelled() and (error := task.exception()) is not None:
                _log.error("socket_check_failed", exc_info=error)
                session.close(Close(4503, "internal", retry_ms=1_000))

        self._checks[session] = asyncio.create_task(session.check())
        self._checks[session].add_done_callback(checked)

    async def _connect(self, request: web.Request) -> web.StreamResponse:
        """Upgrade and serve. What is wrong before the upgrade is an HTTP problem, later a line and a close code."""
        stream = request.match_info["stream"]
        entry = await admit_caller(request, self._means.access, stream)
        if entry.principal is not None:
            await self._enter(request, entry.principal, stream)
        limits = self._limits
        largest_bytes = limits.auth_message_max_bytes if entry.principal is None else limits.message_max_bytes
        socket = self._new_socket(entry.subprotocol, 2 * largest_bytes)
        if not socket.can_prepare(request):
            raise PenstockError("bad_request", "this is a WebSocket: connect with an upgrade, or POST to .../events")
        self._check_room(known=entry.principal is not None)
        self._open += 1  # with no await since the check: many may come at once
        self._none_open.clear()
        if entry.principal is None:
            self._unauthenticated.add(socket)
        try:
            await socket.prepare(request)
            if entry.principal is not None:
                await self._serve(request, socket, entry.principal, entry.token)
            else:
                await self._authenticate(request, socket)
        finally:
            self._unauthenticated.discard(socket)
            self._open -= 1
            if not self._open:
                self._none_open.set()
        return socket

    async def _enter(self, request: web.Request, principal: Principal, stream: str) -> None:
        """`unknown_stream`; `quota_exceeded` where somebody counts connections."""
        await self._means.gateway.streams.get(stream)
        entered = request.get(ENTERED)
        if entered is not None:
            entered(principal)

    async def _serve(
        self,
        request: web.Request,
        socket: web.WebSocketResponse[Any],
        principal: Principal,
        token: str,
        line: Auth | None = None,
    ) -> None:
        limits = self._limits
        session = Session(
            socket,
            self._means,
            stream=request.match_info["stream"],
            principal=principal,
            token=token,
            transport=request.transport,
            message_max_bytes=limits.message_max_bytes if line is None else limits.auth_message_max_bytes,
        )
        self._sessions.add(session)
        if self._draining.is_set():
            session.close(Close(1001, DRAINING, retry_ms=self._limits.drain_retry_ms))
        try:
            await session.run(line)
        finally:
            self._sessions.discard(session)

    async def _authenticate(self, request: web.Request, socket: web.WebSocketResponse[Any]) -> None:
        """Wait for the token, then serve as if it had come with the upgrade."""
        stream = request.match_info["stream"]
        text = await self._first_message(socket)
        self._unauthenticated.discard(socket)
        if isinstance(text, Close):
            await _end(socket, text)
            return
        line = None if text is None else read_auth(text)
        if line is None:
            error = PenstockError("unauthorized", 'the first message brings the token: {"auth":"<token>"}')
            await _end(socket, Close(4401, error.code), refusal_line(error))
            return
        try:
            principal = await self._means.access.require_token(line.auth, WRITE, writes=stream)
            await self._enter(request, principal, stream)
        except PenstockError as error:
            await _end(socket, Close.of(error), refusal_line(error, id=line.id))
            return
        await self._serve(request, socket, principal, line.auth, line)

    async def _first_message(self, socket: web.WebSocketResponse[Any]) -> bytes | Close | None:
        """A text; None for anything else; why it is to be closed where nothing came in time."""
        receiving = asyncio.ensure_future(_receive_first(socket))
        waiting = asyncio.ensure_future(self._means.clock.sleep(self._limits.auth_timeout_s))
        draining = asyncio.ensure_future(self._draining.wait())
        tasks: list[asyncio.Future[Any]] = [receiving, waiting, draining]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if receiving.done():
                return receiving.result()
            if draining.done():
                return Close(1001, DRAINING, retry_ms=self._limits.drain_retry_ms)
            return Close(4408, "auth_timeout")
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _check_room(self, *, known: bool) -> None:
        limits = self._limits
        if self._draining.is_set():
            raise PenstockError("draining", "this gateway is stopping; connect again", retry_after_s=1.0)
        if self._open >= limits.connections_max:
            detail = f"{limits.connections_max} WebSockets are open (connections_max); connect again later"
            raise PenstockError("too_many_requests", detail, retry_after_s=self._means.settings.retry_after_s)
        if not known and len(self._unauthenticated) >= limits.unauthenticated_max:
            detail = f"{limits.unauthenticated_max} WebSockets wait for their token (unauthenticated_max)"
            raise PenstockError("too_many_requests", detail, retry_after_s=self._means.settings.retry_after_s)

    def _new_socket(self, subprotocol: str | None, read_max_bytes: int) -> web.WebSocketResponse[Any]:
        """Pings, pongs and closes are ours: a close is answered when what came before it has been."""
        return web.WebSocketResponse(
            protocols=() if subprotocol is None else (subprotocol,),
            autoclose=False,
            autoping=False,
            compress=False,
            decode_text=False,
            max_msg_size=read_max_bytes,
            writer_limit=0,  # a session writes beside it: whether there is room is looked at with every message
            timeout=self._limits.close_wait_s,
        )


async def _receive_first(socket: web.WebSocketResponse[Any]) -> bytes | None:
    while True:
        message = await socket.receive()
        if message.type is WSMsgType.PING:
            await socket.pong(message.data)
        elif message.type is not WSMsgType.PONG:
            return bytes(message.data) if message.type is WSMsgType.TEXT else None


async def _end(socket: web.WebSocketResponse[Any], close: Close, line: bytes | None = None) -> None:
    metrics.SOCKETS_CLOSED.labels(str(close.code)).inc()
    if line is not None and not socket.closed:
        try:
            await socket.send_frame(line, WSMsgType.TEXT)
        except ConnectionError:
            return  # whoever was there has gone
    await socket.close(code=close.code, message=close_reason(close.error, retry_ms=close.retry_ms, after=None))
