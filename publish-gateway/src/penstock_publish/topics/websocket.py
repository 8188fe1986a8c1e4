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
from penstock_publish.topics.limits import Seat, Seats
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
        self._unauthenticated = Seats(means.settings.socket.unauthenticated_max)

    async def serve(self, request: web.Request, entry: Entry, opening: Opening) -> web.StreamResponse:
        """Upgrade; the socket is served from then on without its request.

        What is wrong with the caller or the request is said before the upgrade, as an HTTP problem; where the token
        comes in the first message, by a line and a close code.
        """
        subscriber, principal = self._means.subscriber, entry.principal
        seats = [subscriber.seat(principal)]
        try:
            if principal is None:
                seats.append(self._wait())
                wire = take_over(request, subscriber.wires, subprotocol=entry.subprotocol)
                wire.serve(self._authenticate(wire, opening, seat=seats[0], waiting=seats[1]))
            else:
                prepared = await opening(principal)
                wire = take_over(request, subscriber.wires, subprotocol=entry.subprotocol)
                bearer = self._bearer(principal, entry.bearer)
                wire.serve(self._serve(wire, seats[0], principal, prepared, bearer))
        except BaseException:  # also where the caller goes while its place in the log is looked for
            for seat in seats:
                seat.give_back()
            raise
        return UPGRADED

    async def _serve(
        self,
        wire: Wire,
        seat: Seat,
        principal: Principal,
        prepared: Prepared | None,
        bearer: str | None,
        token: Auth | None = None,
        rest: str = "",
    ) -> None:
        """`token`: the line that brought it, to be answered; `rest`: lines that came with it."""
        subscriber = self._means.subscriber
        caller = subscriber.enter(wire, principal, seat)
        conversation: Conversation | None = None
        wire.heard, wire.resume = caller.life.heard, caller.resume_text
        try:
            self._means.entrance.admitted(caller)
            if token is not None:
                conversation = Conversation(caller, self._means, bearer)
                conversation.said_token(token.id, subscriber.left_s(caller))
                del token
            if prepared is not None:
                await subscriber.begin(caller, prepared)
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

    def _wait(self) -> Seat:
        """A place among those who have yet to say who they are; `too_many_requests`."""
        waiting = self._unauthenticated.take()
        if waiting is None:
            limit = self._means.settings.socket.unauthenticated_max
            detail = f"{limit} WebSockets wait for their token (unauthenticated_max); try again later"
            raise PenstockError("too_many_requests", detail, retry_after_s=5.0)
        return waiting

    async def _authenticate(self, wire: Wire, opening: Opening, *, seat: Seat, waiting: Seat) -> None:
        """Wait for the token, then serve as if it had come with the upgrade."""
        try:
            message = await self._first_message(wire)
            waiting.give_back()
            if message is not None:
                await self._serve_bearer(wire, opening, message, seat)
        finally:
            waiting.give_back()
            seat.give_back()

    async def _serve_bearer(self, wire: Wire, opening: Opening, message: str | bytes, seat: Seat) -> None:
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
        await self._serve(wire, seat, principal, prepared, self._bearer(principal, token.auth), token, rest)

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
