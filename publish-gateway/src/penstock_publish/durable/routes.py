"""`/v1/subscriptions`: a caller's durable subscriptions, to be looked at and deleted."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from aiohttp import web

from penstock.codecs.json_values import write_timestamp
from penstock.errors import PenstockError
from penstock.http.credentials import JwtAccess
from penstock.http.problem import guarded
from penstock_publish.durable.positions import Position
from penstock_publish.durable.registry import DurableSubscriptions, owner_of
from penstock_publish.settings import DurableSettings

__all__ = ["DurableRoutes"]


class DurableRoutes:
    """Handlers of a caller's own durable subscriptions; any token of it will do."""

    def __init__(self, access: JwtAccess, subscriptions: DurableSubscriptions, settings: DurableSettings) -> None:
        self._access = access
        self._subscriptions = subscriptions
        self._expire_after_s = settings.expire_after_s

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """For the listener."""
        return [
            web.get("/v1/subscriptions", guarded(self._list), allow_head=False),
            web.delete("/v1/subscriptions/{name}", guarded(self._delete)),
        ]

    async def _list(self, request: web.Request) -> web.Response:
        principal = await self._access.authenticated(request)
        found = await self._subscriptions.of_owner(owner_of(principal))
        listed = [_describe(position, expire_after_s=self._expire_after_s) for position in found]
        body = msgspec.json.encode({"subscriptions": listed})
        return web.Response(body=body, content_type="application/json", headers={"Cache-Control": "no-store"})

    async def _delete(self, request: web.Request) -> web.Response:
        """Of all topics, or of `?topic=` only."""
        principal = await self._access.authenticated(request)
        name = request.match_info["name"]
        if not await self._subscriptions.delete(owner_of(principal), name, request.query.get("topic")):
            raise PenstockError("not_found", f"there is no durable subscription '{name[:100]}'")
        return web.Response(status=204)


def _describe(position: Position, *, expire_after_s: float | None) -> dict[str, object]:
    acked_at_ms, used_at_ms = position.acked_at_ms, position.used_at_ms
    expires_at_ms = None if expire_after_s is None else used_at_ms + round(expire_after_s * 1000)
    return {
        "name": position.key.name,
        "topic": position.key.topic,
        "cursor": position.cursor,
        "created_at": write_timestamp(position.created_at_ms, zoned=True),
        "acked_at": None if acked_at_ms is None else write_timestamp(acked_at_ms, zoned=True),
        "used_at": write_timestamp(used_at_ms, zoned=True),
        "expires_at": None if expires_at_ms is None else write_timestamp(expires_at_ms, zoned=True),
    }
