"""Where tickets wait: in memory, or in the database that replicas and worker processes share.

Whoever gets a ticket from one process may open its socket at another. A name is kept as its hash only.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets

import msgspec
import sqlalchemy as sa

from penstock.http.access import Principal
from penstock.ports.clock import Clock
from penstock_publish.gateway_database import GatewayDatabase
from penstock_publish.settings import PublishSettings
from penstock_publish.tickets import Ticket, TicketLimits, Tickets, unknown_ticket

__all__ = ["TicketOffice"]

_TICKETS = sa.Table(
    "tickets",
    sa.MetaData(),
    sa.Column("name_hash", sa.Text, primary_key=True),
    sa.Column("principal", sa.Text, nullable=False),
    sa.Column("topic", sa.Text, nullable=False),
    sa.Column("origin", sa.Text),
    sa.Column("expires_s", sa.Double, nullable=False),
    sa.Column("caller", sa.Text, nullable=False, server_default="", index=True),
)


class TicketOffice:
    """Issues and redeems; one per process. With a shared database the errors are also `store_unavailable`."""

    def __init__(self, database: GatewayDatabase, *, clock: Clock, settings: PublishSettings) -> None:
        self._clock = clock
        self._limits = TicketLimits(
            total_max=settings.tickets_max,
            per_caller_max=settings.tickets_per_caller_max,
            lifetime_s=settings.ticket_lifetime_s,
        )
        self._database = None if database.postgres is None else database
        self._here = Tickets(self._limits)
        self._made = asyncio.Lock()
        self._is_made = False

    async def issue(self, principal: Principal, topic: str, *, origin: str | None) -> str:
        """As `Tickets.issue`."""
        if self._database is None:
            return self._here.issue(principal, topic, origin=origin, now_s=self._clock.monotonic_s())
        now_s = self._clock.now_ms() / 1000
        name = secrets.token_urlsafe()
        ticket = Ticket(principal, topic, origin, now_s + self._limits.lifetime_s)
        database = await self._opened(self._database)
        await database.run("issuing a ticket", lambda connection: _put(connection, name, ticket, now_s, self._limits))
        return name

    async def redeem(self, name: str, topic: str, *, origin: str | None) -> Principal:
        """As `Tickets.redeem`; of two processes that are asked at once, one succeeds."""
        if self._database is None:
            return self._here.redeem(name, topic, origin=origin, now_s=self._clock.monotonic_s())
        database = await self._opened(self._database)
        ticket = await database.run("redeeming a ticket", lambda connection: _take(connection, name))
        if ticket is None:
            raise unknown_ticket()
        return ticket.use(topic, origin=origin, now_s=self._clock.now_ms() / 1000)

    async def _opened(self, database: GatewayDatabase) -> GatewayDatabase:
        async with self._made:
            if not self._is_made:
                await asyncio.to_thread(database.create, _TICKETS)
                self._is_made = True
        return database


def _put(connection: sa.Connection, name: str, ticket: Ticket, now_s: float, limits: TicketLimits) -> None:
    connection.execute(sa.delete(_TICKETS).where(_TICKETS.c.expires_s < now_s))
    waiting = sa.select(sa.func.count()).select_from(_TICKETS)
    of_caller = waiting.where(_TICKETS.c.caller == ticket.caller)
    limits.check(connection.execute(waiting).scalar_one(), connection.execute(of_caller).scalar_one())
    row = {
        "name_hash": _hash(name),
        "principal": msgspec.json.encode(ticket.principal).decode(),
        "topic": ticket.topic,
        "origin": ticket.origin,
        "expires_s": ticket.expires_s,
        "caller": ticket.caller,
    }
    connection.execute(sa.insert(_TICKETS).values(row))


def _take(connection: sa.Connection, name: str) -> Ticket | None:
    taken = sa.delete(_TICKETS).where(_TICKETS.c.name_hash == _hash(name)).returning(*_TICKETS.c)
    row = connection.execute(taken).one_or_none()
    if row is None:
        return None
    principal = msgspec.json.decode(row.principal, type=Principal)
    return Ticket(principal, row.topic, row.origin, row.expires_s)


def _hash(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()
