"""One-time tickets: how a browser opens a WebSocket or an event stream, to which it cannot add a header.

A ticket stands for the caller that asked for it, for one topic and one origin, once, for half a minute. So it may be
in a URL, where a token may not (RFC 9700, 4.3.2). Pure: the clock is asked by the caller.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from penstock.errors import PenstockError
from penstock.http.access import Principal

__all__ = ["Ticket", "TicketLimits", "Tickets", "unknown_ticket"]


@dataclass(frozen=True, slots=True)
class TicketLimits:
    """How many tickets may wait, in all and of one caller, and for how long."""

    total_max: int
    per_caller_max: int
    lifetime_s: float

    def check(self, waiting: int, of_caller: int) -> None:
        """`too_many_requests` for one more than may wait."""
        if of_caller >= self.per_caller_max:
            detail = f"{self.per_caller_max} tickets of yours wait to be used (tickets_per_caller_max)"
            raise PenstockError("too_many_requests", detail, retry_after_s=self.lifetime_s)
        if waiting >= self.total_max:
            detail = f"{self.total_max} tickets wait to be used (tickets_max)"
            raise PenstockError("too_many_requests", detail, retry_after_s=self.lifetime_s)


@dataclass(frozen=True, slots=True)
class Ticket:
    """What a ticket stands for; `expires_s` is of the clock of whoever keeps it."""

    principal: Principal
    topic: str
    origin: str | None
    expires_s: float

    @property
    def caller(self) -> str:
        """Whom it counts for: the client, and the person for whom it acts."""
        return f"{self.principal.client_id} {self.principal.subject}"

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
    """Tickets that wait to be used. `new_id` makes unguessable names."""

    def __init__(self, limits: TicketLimits, *, new_id: Callable[[], str] = secrets.token_urlsafe) -> None:
        self._limits = limits
        self._new_id = new_id
        self._waiting: dict[str, Ticket] = {}
        self._of_callers: Counter[str] = Counter()

    def issue(self, principal: Principal, topic: str, *, origin: str | None, now_s: float) -> str:
        """A ticket for the topic; `origin` is the page that will use it, None: no page."""
        self._forget_expired(now_s)
        ticket = Ticket(principal, topic, origin, now_s + self._limits.lifetime_s)
        self._limits.check(len(self._waiting), self._of_callers[ticket.caller])
        name = self._new_id()
        self._waiting[name] = ticket
        self._of_callers[ticket.caller] += 1
        return name

    def redeem(self, name: str, topic: str, *, origin: str | None, now_s: float) -> Principal:
        """Use a ticket up, whatever comes of it; `invalid_token` if it is not good for this."""
        if name not in self._waiting:
            raise unknown_ticket()
        return self._take(name).use(topic, origin=origin, now_s=now_s)

    def _forget_expired(self, now_s: float) -> None:
        """They were put in by time, so the expired ones come first."""
        while self._waiting:
            name, ticket = next(iter(self._waiting.items()))
            if ticket.expires_s > now_s:
                return
            self._take(name)

    def _take(self, name: str) -> Ticket:
        ticket = self._waiting.pop(name)
        self._of_callers[ticket.caller] -= 1
        if not self._of_callers[ticket.caller]:
            del self._of_callers[ticket.caller]
        return ticket


def unknown_ticket() -> PenstockError:
    """For a name that stands for nothing (any more)."""
    return PenstockError("invalid_token", "the ticket is unknown, used or expired; POST /v1/tickets again")
