"""What is said on one WebSocket: lines of the subscriber, and what becomes of them.

Made with the first line; most subscribers never say anything. Lines are dealt with one after the other, so replies
come in the order of the lines, but for those to `pub`, which come when the events are durable.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from penstock.errors import PenstockError
from penstock.http.socket_life import Close
from penstock.ports.clock import Clock
from penstock.ports.intake import Intake
from penstock_publish.settings import PublishSettings
from penstock_publish.topics.caller import Caller
from penstock_publish.topics.connection import Connection, ManagedConnection
from penstock_publish.topics.entrance import Entrance
from penstock_publish.topics.framing import Encoding, auth_notice, frame_notice
from penstock_publish.topics.history import parse_after
from penstock_publish.topics.lines import (
    Ack,
    Auth,
    BadLine,
    Credit,
    Line,
    LineId,
    Pub,
    Rate,
    Sub,
    Unsub,
    lines_of,
    read_line,
    refusal,
    reply,
)
from penstock_publish.topics.pub_body import body_of
from penstock_publish.topics.publishing import Publisher
from penstock_publish.topics.request import read_subscription
from penstock_publish.topics.subscribe import Subscriber

__all__ = ["Conversation", "Means"]


@dataclass(frozen=True, slots=True)
class Means:
    """What conversations of a process are held with."""

    subscriber: Subscriber
    entrance: Entrance
    clock: Clock
    settings: PublishSettings
    intake: Intake | None  # None: there is nowhere to send events to


class Conversation:
    """One WebSocket's. `close` at the end."""

    def __init__(self, caller: Caller, means: Means, bearer: str | None) -> None:
        """`bearer`: the caller's token, where the intake needs it."""
        self._caller = caller
        self._means = means
        self._limits = means.settings.socket
        self._rate = Rate(self._limits.lines_per_s_max, means.clock.monotonic_s())
        self._bad_lines = 0
        self._bearer = bearer
        self._publisher: Publisher | None = None
        self._ending: set[asyncio.Task[None]] = set()
        caller.on_end = self._ended

    async def hear(self, message: str | bytes) -> None:
        """Do what a message says; every line that is refused is answered."""
        if isinstance(message, bytes):
            self._count_bad(BadLine("lines come in text messages, not in binary ones", None))
            return
        for text in lines_of(message):
            wait_s = self._rate.take(self._means.clock.monotonic_s())
            if wait_s:  # nothing is refused for haste: events in between would be stored out of their order
                await self._means.clock.sleep(wait_s)
            if not await self._room():
                return
            await self._hear_line(text)

    def said_token(self, line_id: LineId, life_s: float) -> None:
        """Answer a token that was taken."""
        notice = auth_notice(life_s)
        self._say(notice if line_id is None else reply(line_id, exp=notice["exp"]))

    async def close(self) -> None:
        """The WebSocket has ended."""
        self._caller.on_end = None
        if self._publisher is not None:
            await self._publisher.close(self._means.settings.close_wait_s)
        await asyncio.gather(*self._ending, return_exceptions=True)

    async def _hear_line(self, text: str) -> None:
        try:
            line = read_line(text)
        except BadLine as error:
            self._count_bad(error)
            return
        try:
            await self._do(line)
        except PenstockError as error:
            self._say(refusal(error, line.id))

    async def _do(self, line: Line) -> None:
        if isinstance(line, Sub):
            await self._subscribe(line)
        elif isinstance(line, Auth):
            await self._renew(line)
        elif isinstance(line, Pub):
            await self._publish(line)
        else:
            if isinstance(line, Unsub):
                await self._means.subscriber.unsubscribe(self._connection(line.unsub))
            elif isinstance(line, Credit):
                self._grant(line)
            elif isinstance(line, Ack):
                self._acknowledge(line)
            if line.id is not None:
                self._say(reply(line.id))

    async def _subscribe(self, line: Sub) -> None:
        caller, means, limit = self._caller, self._means, self._limits.subscriptions_per_connection_max
        if caller.connection(line.sub) is not None:
            raise PenstockError("conflict", f"this socket has {line.sub} already; unsub first, or open another one")
        if len(caller.connections) >= limit:
            detail = f"a socket has at most {limit} topics (subscriptions_per_connection_max); open another one"
            raise PenstockError("too_many_requests", detail)
        spec = await means.entrance.topic(caller.principal, line.sub)
        wanted = read_subscription(line, spec, settings=means.settings)
        prepared = await means.subscriber.prepare(spec, wanted, caller.principal)
        before = b"" if line.id is None else frame_notice(reply(line.id), Encoding.WS)
        await means.subscriber.subscribe(caller, prepared, of_url=False, before=before)

    async def _renew(self, line: Auth) -> None:
        caller, before = self._caller, self._caller.principal
        principal = await self._means.entrance.verified(line.auth)
        if (principal.subject, principal.client_id) != (before.subject, before.client_id):
            detail = "this token is of another caller; a socket can be renewed only by who opened it"
            raise PenstockError("invalid_token", detail)
        if not caller.closed:
            if self._means.intake is not None and self._means.intake.needs_bearer:
                self._bearer = line.auth
            self.said_token(line.id, await self._means.subscriber.renew(caller, principal))

    async def _publish(self, line: Pub) -> None:
        principal, intake = self._caller.principal, self._means.intake
        if not principal.may_write(line.pub):
            raise PenstockError("insufficient_scope", "sending events needs the scope ingest:write")
        if intake is None:
            raise PenstockError("service_unavailable", "there is no ingest gateway here to send events to")
        body = bytes(line.d)
        if line.key is not None or line.idem is not None:
            body = body_of(line, await self._means.entrance.stream(line.pub))
        if self._publisher is None:
            self._publisher = Publisher(intake, self._say, waiting_max=self._limits.publishes_waiting_max)
        await self._publisher.put(line, body, principal, self._bearer)

    def _grant(self, line: Credit) -> None:
        connection = self._connection(line.t)
        if not isinstance(connection, ManagedConnection) or not connection.counts_credit:
            raise PenstockError("bad_request", f"{connection.topic} was not subscribed to with credit")
        if not connection.grant(line.credit, limit=self._limits.credit_max):
            raise PenstockError("bad_request", f"credit would be more than {self._limits.credit_max} (credit_max)")

    def _acknowledge(self, line: Ack) -> None:
        connection = self._acknowledged(line)
        after = parse_after(connection.live.spec, line.ack)
        connection.session.check_sent(after)
        if isinstance(connection, ManagedConnection) and connection.acks is not None:
            connection.acks.acknowledge(after, line.ack)

    def _acknowledged(self, line: Ack) -> Connection:
        """A cursor tells its topic; `t` may say it, too."""
        if line.t is not None:
            return self._connection(line.t)
        for connection in self._caller.connections:
            try:
                if parse_after(connection.live.spec, line.ack).cursor is not None:
                    return connection
            except PenstockError:
                continue
        raise PenstockError("bad_cursor", "this is no cursor of a topic that this socket is subscribed to")

    def _connection(self, topic: str | None) -> Connection:
        connections = self._caller.connections
        if topic is None:
            if len(connections) == 1:
                return connections[0]
            raise PenstockError("bad_request", f'say which topic with "t": this socket has {len(connections)}')
        found = self._caller.connection(topic)
        if found is None:
            raise PenstockError("unknown_topic", f"this socket is not subscribed to '{topic[:100]}'")
        return found

    def _ended(self, connection: Connection) -> None:
        """A topic ended without our doing."""
        task = asyncio.create_task(self._means.subscriber.unsubscribe(connection))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    def _count_bad(self, error: BadLine) -> None:
        self._bad_lines += 1
        if self._bad_lines > self._limits.bad_lines_max:
            self._caller.close(Close(4400, "bad_request"))
        else:
            self._say(refusal(error, error.id))

    def _say(self, line: dict[str, object]) -> None:
        if not self._caller.closed:
            self._caller.outlet.write(frame_notice(line, Encoding.WS))

    async def _room(self) -> bool:
        """Wait until the replies have room; False if the socket is closed. Who does not read is not read."""
        caller = self._caller
        while not caller.closed and caller.full:
            if caller.outlet.gone():
                return False
            await asyncio.sleep(self._means.settings.lag_poll_ms / 1000)
        return not caller.closed
