"""One-time tickets: how a browser opens a WebSocket or an event stream, to which it cannot add a header.

A ticket stands for the caller that asked for it, for one topic and one origin, once, for half a minute. So it may be
in a URL, where a token may not (RFC 9700, 4.3.2). Pure: the clock is asked by the caller.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass

from penstock.errors import PenstockError
from penstock.http.access import Principal

__all__ = ["Ticket", "Tickets", "too_many_tickets", "unknown_ticket"]


@dataclass(frozen=True, slots=True)
class Ticket:
    """What a ticket stands for; `expires_s` is of the clock of whoever keeps it."""

    principal: Principal
    topic: str
    origin: str | None
    expires_s: float

    def use(self, topic: str, *, origin: str | None, now_s: float) -> Principal:
        """The caller behind it; `invalid_token` or `forbidden_origin` if it is not good for this."""
        if self.expires_s <= now_s:
            raise unknown_ticket()
        if self.topic != topic:
            raise PenstockError("invalid_token", "the ticket is for another topic; POST /v1/tickets for this one")
        if self.origin != origin:
            raise PenstockError("forbidden_origin", "the ticket was made for another origin")
        return self.principal


class Tickets:
    """Tickets that wait to be used, at most `limit`. `new_id` makes unguessable names."""

    def __init__(self, *, lifetime_s: float, limit: int, new_id: Callable[[], str] = secrets.token_urlsafe) -> None:
        self.lifetime_s = lifetime_s
        self._limit = limit
        self._new_id = new_id
        self._waiting: dict[str, Ticket] = {}

    def issue(self, principal: Principal, topic: str, *, origin: str | None, now_s: float) -> str:
        """A ticket for the topic; `origin` is the page that will use it, None: no page."""
        self._forget_expired(now_s)
        if len(self._waiting) >= self._limit:
            raise too_many_tickets(self._limit, retry_after_s=self.lifetime_s)
        name = self._new_id()
        self._waiting[name] = Ticket(principal, topic, origin, now_s + self.lifetime_s)
        return name

    def redeem(self, name: str, topic: str, *, origin: str | None, now_s: float) -> Principal:
        """Use a ticket up, whatever comes of it; `invalid_token` if it is not good for this."""
        ticket = self._waiting.pop(name, None)
        if ticket is None:
            raise unknown_ticket()
        return ticket.use(topic, origin=origin, now_s=now_s)

    def _forget_expired(self, now_s: float) -> None:
        """They were put in by time, so the expired ones come first."""
        for name, ticket in list(self._waiting.items()):
            if ticket.expires_s > now_s:
                return
            del self._waiting[name]


def unknown_ticket() -> PenstockError:
    """For a name that stands for nothing (any more)."""
    return PenstockError("invalid_token", "the ticket is unknown, used or expired; POST /v1/tickets again")


def too_many_tickets(limit: int, *, retry_after_s: float) -> PenstockError:
    """For one more than may wait."""
    return PenstockError(
        "too_many_requests", f"{limit} tickets wait to be used (tickets_max)", retry_after_s=retry_after_s
    )
