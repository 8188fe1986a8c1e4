"""`/v1/webhooks`: a client's webhooks, made, looked at, deleted, and what failed delivered again."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

import msgspec
from aiohttp import web

from penstock.errors import PenstockError
from penstock.http.access import Principal
from penstock.http.credentials import JwtAccess
from penstock.http.problem import guarded
from penstock.ports.clock import Clock
from penstock_publish.bodies import read_json
from penstock_publish.webhooks.addresses import check_url
from penstock_publish.webhooks.model import Webhook
from penstock_publish.webhooks.service import Webhooks
from penstock_publish.webhooks.signing import new_secret

__all__ = ["WebhookRoutes"]

_NO_STORE = {"Cache-Control": "no-store"}


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
        self._clock = clock

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """For the listener."""
        return [
            web.post("/v1/webhooks", guarded(self._make)),
            web.get("/v1/webhooks", guarded(self._list), allow_head=False),
            web.get("/v1/webhooks/{webhook}", guarded(self._show), allow_head=False),
            web.delete("/v1/webhooks/{webhook}", guarded(self._delete)),
            web.get("/v1/webhooks/{webhook}/failed", guarded(self._failed), allow_head=False),
            web.post("/v1/webhooks/{webhook}/redeliver", guarded(self._redeliver)),
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
        return _json({**webhook.as_json(), "secret": webhook.secret}, status=201)  # shown this once

    async def _list(self, request: web.Request) -> web.Response:
        principal = await self._access.authenticated(request)
        return _json({"webhooks": [one.as_json() for one in await self._registry.of_client(principal.client_id)]})

    async def _show(self, request: web.Request) -> web.Response:
        return _json((await self._own(request)).as_json())

    async def _delete(self, request: web.Request) -> web.Response:
        await self._registry.remove(await self._own(request))
        return web.Response(status=204)

    async def _failed(self, request: web.Request) -> web.Response:
        found = await self._registry.failed_of(await self._own(request))
        return _json({"failed": [one.as_json() for one in found]})

    async def _redeliver(self, request: web.Request) -> web.Response:
        delivered, left = await self._webhooks.redeliver(await self._own(request))
        return _json({"delivered": delivered, "left": left})

    async def _own(self, request: web.Request) -> Webhook:
        principal: Principal = await self._access.authenticated(request)
        found = await self._registry.find(request.match_info["webhook"])
        if found is None or found.client_id != principal.client_id:
            raise PenstockError("not_found", "this client has no such webhook; GET /v1/webhooks lists them")
        return found


def _json(document: object, *, status: int = 200) -> web.Response:
    body = msgspec.json.encode(document)
    return web.Response(status=status, body=body, content_type="application/json", headers=_NO_STORE)
