"""`/v1/emails`: a client's e-mail subscriptions, made, looked at, deleted, and what failed sent again."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

import msgspec
from aiohttp import web

from penstock.errors import PenstockError
from penstock.http.credentials import JwtAccess
from penstock.http.problem import guarded
from penstock.ports.clock import Clock
from penstock_publish.bodies import read_json
from penstock_publish.emails.addresses import is_address, may_go_to
from penstock_publish.emails.model import Email
from penstock_publish.emails.service import Emails
from penstock_publish.emails.settings import EmailSettings
from penstock_publish.emails.template import check_template
from penstock_publish.outbound.routes import StandingRoutes, reply_json

__all__ = ["EmailRoutes"]


class _Asked(msgspec.Struct, forbid_unknown_fields=True):
    topic: str
    to: list[str]
    filter: str = ""
    subject: str = ""
    body: str = ""
    after: str = "latest"


class EmailRoutes:
    """Handlers of a client's own subscriptions; each needs its token, making one the topic's scope, too."""

    def __init__(self, emails: Emails, access: JwtAccess, *, clock: Clock) -> None:
        self._emails = emails
        self._registry = emails.registry
        self._access = access
        self._standing = StandingRoutes(
            self._registry,
            access,
            path="/v1/emails",
            parameter="email",
            name="e-mail subscription",
            redeliver=emails.redeliver,
        )
        self._clock = clock

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """For the listener."""
        return [
            web.post("/v1/emails", guarded(self._make)),
            *self._standing.routes(),
        ]

    async def _make(self, request: web.Request) -> web.Response:
        principal = await self._access.authenticated(request)
        self._emails.check_on()
        settings = self._emails.settings
        asked = await read_json(request, settings.body_bytes_max, shape=_Asked)
        recipients = _recipients(asked.to, settings)
        beginning = await self._emails.reader.begin(
            principal,
            self._access,
            topic=asked.topic,
            filter_text=asked.filter,
            after=asked.after,
            kind="an e-mail subscription",
        )
        columns = [column.name for column in beginning.spec.columns]
        for field, template in (("subject", asked.subject), ("body", asked.body)):
            check_template(template, columns, field=field, chars_max=settings.template_chars_max)
        if not asked.subject.isprintable():
            raise PenstockError("bad_request", "subject is one line without control characters")
        email = Email(
            id=f"em_{secrets.token_hex(8)}",
            client_id=principal.client_id,
            subject=principal.subject,
            scope=" ".join(sorted(principal.scopes)),
            topic=beginning.spec.name,
            recipients=",".join(recipients),
            title=asked.subject.strip(),
            body=asked.body,
            filter=beginning.filter,
            cursor=beginning.cursor,
            created_at_ms=self._clock.now_ms(),
        )
        await self._registry.add(email)
        return reply_json(email.as_json(), status=201)


def _recipients(asked: Sequence[str], settings: EmailSettings) -> list[str]:
    """Each address once; `bad_request` for what is none, and where mails must not go."""
    if not 1 <= len(asked) <= settings.recipients_max:
        raise PenstockError("bad_request", f"to has 1 to {settings.recipients_max} addresses")
    for address in asked:
        if not is_address(address):
            raise PenstockError("bad_request", f"{address[:100]!r} is no plain address such as you@shop.example")
        if not may_go_to(address, settings.recipient_domains):
            detail = f"{address} is not in a domain of publish.email.recipient_domains, where mails may go"
            raise PenstockError("bad_request", detail)
    return list(dict.fromkeys(asked))
