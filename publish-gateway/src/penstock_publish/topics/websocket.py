"""WebSockets: topics on a wire, until one side closes, and what the subscriber says on it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from aiohttp import web

from penstock.errors import PenstockError
from penstock.http.access import Principal
from penstock.http.socket_life import Close
from penstock_publish.topics.conversation import Conversation, Means
from penstock_publish.topics.entrance import Entry
from penstock_publish.topics.framing import Encoding, frame_notice
from penstock_publish.topics.lines import Auth, BadLine, lines_of, read_line, refusal
from penstock_publish.topics.replay import Prepared
from penstock_publish.topics.wire import UPGRADED, Wire, take_over

__all__ = ["Opening", "WebSockets"]

#: What a WebSocket begins with, once it is known whose it is; None: no topic.
Opening = Callable[[Principal], Awaitable[Prepared | None]]


class WebSockets:
    """Serves WebSockets; one per process."""

    def __init__(self, means: Means) -> None:
        self._means = means
        self._unauthenticated = 0

    async def serve(self, request: web.Request, entry: Entry, opening: Opening) -> web.StreamResponse:
        """Upgrade; the socket is served from then on without its request.

        What is wrong with the caller or the request is said before the upgrade, as an HTTP problem; where the token
        comes in the first message, by a line and a close code.
        """
        subscriber = self._means.subscriber
        subscriber.check_open(entry.principal)
        if entry.principal is None:
            self._check_waiting()
            wire = take_over(request, subscriber.wires, subprotocol=entry.subprotocol)
            wire.serve(self._authenticate(wire, opening))
        else:
            prepared = await opening(entry.principal)
            wire = take_over(request, subscriber.wires, subprotocol=entry.subprotocol)
            wire.serve(self._serve(wire, entry.principal, prepared, self._bearer(entry.principal, entry.bearer)))
        return UPGRADED

    async def _serve(
        self,
        wire: Wire,
        principal: Principal,
        prepared: Prepared | None,
        bearer: str | None,
        token: Auth | None = None,
        rest: str = "",
    ) -> None:
        """`token`: the line that brought it, to be answered; `rest`: lines that came with it."""
        subscriber = self._means.subscriber
        caller = subscriber.enter(wire, principal)
        conversation: Conversation | None = None
        wire.heard, wire.resume = caller.life.heard, caller.resume_text
        try:
            self._means.entrance.admitted(caller)
            if token is not None:
                conversation = Conversation(caller, self._means, bearer)
                conversation.said_token(token.id, subscriber.left_s(caller))
                del token
            if prepared is not None:
                await subscriber.subscribe(caller, prepared)
                del prepared  # it may hold the rows of a table
            message: str | bytes | None = rest
            while message is not None:
                if message:
                    conversation = conversation or Conversation(caller, self._means, bearer)
                    await conversation.hear(message)
                message = await wire.receive()
        finally:
            if conversation is not None:
                await conversation.close()
            await subscriber.leave(caller)

    def _bearer(self, principal: Principal, bearer: str | None) -> str | None:
        """The token, kept for those only who may send events that another process checks again."""
        intake = self._means.intake
        sends = "ingest:write" in principal.scopes or bool(principal.details)
        return bearer if sends and intake is not None and intake.needs_bearer else None

    def _check_waiting(self) -> None:
        limit = self._means.settings.socket.unauthenticated_max
        if self._unauthenticated >= limit:
            detail = f"{limit} WebSockets wait for their token (unauthenticated_max); try again later"
            raise PenstockError("too_many_requests", detail, retry_after_s=5.0)

    async def _authenticate(self, wire: Wire, opening: Opening) -> None:
        """Wait for the token, then serve as if it had come with the upgrade."""
        self._unauthenticated += 1
        try:
            message = await self._first_message(wire)
        finally:
            self._unauthenticated -= 1
        if message is None:
            return
        token: Auth | None = None
        try:
            token, rest = _token_of(message)
            principal = await self._means.entrance.verified(token.auth)
            self._means.subscriber.check_open(principal)
            prepared = await opening(principal)
        except PenstockError as error:
            line_id = error.id if isinstance(error, BadLine) else token.id if token is not None else None
            wire.write(frame_notice(refusal(error, line_id), Encoding.WS))
            close = Close.of(error) if token is not None else Close(4401, "unauthorized")
            wire.close(close, None)
            return
        await self._serve(wire, principal, prepared, self._bearer(principal, token.auth), token, rest)

    async def _first_message(self, wire: Wire) -> str | bytes | None:
        """None if the socket was closed, by the other side or for having said nothing in time."""
        receiving = asyncio.ensure_future(wire.receive())
        waiting = asyncio.ensure_future(self._means.clock.sleep(self._means.settings.socket.auth_timeout_s))
        try:
            await asyncio.wait((receiving, waiting), return_when=asyncio.FIRST_COMPLETED)
            if receiving.done():
                return receiving.result()
            wire.close(Close(4408, "auth_timeout"), None)
            return None
        finally:
            waiting.cancel()
            receiving.cancel()
            await asyncio.gather(waiting, receiving, return_exceptions=True)


def _token_of(message: str | bytes) -> tuple[Auth, str]:
    """The first line, which must bring the token, and the lines after it."""
    lines = [] if isinstance(message, bytes) else list(lines_of(message))
    line = read_line(lines[0]) if lines else None
    if not isinstance(line, Auth):
        raise BadLine('the first line brings the token: {"auth":"<token>"}', None if line is None else line.id)
    return line, "\n".join(lines[1:])
