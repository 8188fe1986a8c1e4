"""`/v1/webhooks`: a client's webhooks, made, looked at, deleted, and what failed delivered again."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

import msgspec
from aiohttp import web

from penstock.http.credentials import JwtAccess
from penstock.http.problem import guarded
from penstock.ports.clock import Clock
from penstock_publish.bodies import read_json
from penstock_publish.outbound.routes import StandingRoutes, reply_json
from penstock_publish.webhooks.addresses import check_url
from penstock_publish.webhooks.model import Webhook
from penstock_publish.webhooks.service import Webhooks
from penstock_publish.webhooks.signing import new_secret

__all__ = ["WebhookRoutes"]


class _Asked(msgspec.Struct, forbid_unknown_fields=True):
    topic: str
    url: str
    filter: str = ""
    after: str = "latest"


class WebhookRoutes:
    """Handlers of a client's own webhooks; each needs a token of the client, making one the topic's scope, too."""

    def __init__(self, webhooks: Webhooks, access: JwtAccess, *, clock: Clock) -> None:
        self._webhooks = webhooks
        self._registry = webhooks.registry
        self._access = access
        self._standing = StandingRoutes(
            self._registry,
            access,
            path="/v1/webhooks",
            parameter="webhook",
            name="webhook",
            redeliver=webhooks.redeliver,
        )
        self._clock = clock

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """For the listener."""
        return [
            web.post("/v1/webhooks", guarded(self._make)),
            web.post("/v1/webhooks/{webhook}/secret", guarded(self._renew)),
            *self._standing.routes(),
        ]

    async def _make(self, request: web.Request) -> web.Response:
        principal = await self._access.authenticated(request)
        settings = self._webhooks.settings
        asked = await read_json(request, settings.body_bytes_max, shape=_Asked)
        check_url(asked.url, settings)
        beginning = await self._webhooks.reader.begin(
            principal,
            self._access,
            topic=asked.topic,
            filter_text=asked.filter,
            after=asked.after,
            kind="a webhook",
        )
        webhook = Webhook(
            id=f"wh_{secrets.token_hex(8)}",
            client_id=principal.client_id,
            subject=principal.subject,
            scope=" ".join(sorted(principal.scopes)),
            topic=beginning.spec.name,
            url=asked.url,
            filter=beginning.filter,
            secret=new_secret(),
            cursor=beginning.cursor,
            created_at_ms=self._clock.now_ms(),
        )
        await self._registry.add(webhook)
        return reply_json({**webhook.as_json(), "secret": webhook.secret}, status=201)  # shown this once

    async def _renew(self, request: web.Request) -> web.Response:
        webhook = await self._standing.own(request)
        return reply_json({"id": webhook.id, "secret": await self._webhooks.renew_secret(webhook)})  # shown this once
