"""What a client can do with standing subscriptions of its own, whatever they send by: look, delete, send again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Generic

import msgspec
from aiohttp import web

from penstock.errors import PenstockError
from penstock.http.credentials import JwtAccess
from penstock.http.problem import guarded
from penstock_publish.outbound.registry import Registry
from penstock_publish.outbound.standing import AnyStanding

__all__ = ["StandingRoutes", "reply_json"]


class StandingRoutes(Generic[AnyStanding]):
    """Handlers below `path` (`/v1/webhooks`), whose last part names the list; each needs a token of the client.

    `parameter`: the id in paths. `name`: what one is called in errors. `redeliver` sends what failed again: delivered
    and left.
    """

    def __init__(
        self,
        registry: Registry[AnyStanding],
        access: JwtAccess,
        *,
        path: str,
        parameter: str,
        name: str,
        redeliver: Callable[[AnyStanding], Awaitable[tuple[int, int]]],
    ) -> None:
        self._registry = registry
        self._access = access
        self._path = path
        self._parameter = parameter
        self._name = name
        self._send_again = redeliver

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """For the listener."""
        one = f"{self._path}/{{{self._parameter}}}"
        return [
            web.get(self._path, guarded(self._list), allow_head=False),
            web.get(one, guarded(self._show), allow_head=False),
            web.delete(one, guarded(self._delete)),
            web.get(f"{one}/failed", guarded(self._failed), allow_head=False),
            web.delete(f"{one}/failed/{{failed}}", guarded(self._drop)),
            web.post(f"{one}/redeliver", guarded(self._redeliver)),
        ]

    async def own(self, request: web.Request) -> AnyStanding:
        """The one that the path names; `not_found` where it is not this client's."""
        principal = await self._access.authenticated(request)
        found = await self._registry.find(request.match_info[self._parameter])
        if found is None or found.client_id != principal.client_id:
            raise PenstockError("not_found", f"this client has no such {self._name}; GET {self._path} lists them")
        return found

    async def _list(self, request: web.Request) -> web.Response:
        principal = await self._access.authenticated(request)
        own = await self._registry.of_client(principal.client_id)
        return reply_json({self._path.rpartition("/")[2]: [one.as_json() for one in own]})

    async def _show(self, request: web.Request) -> web.Response:
        return reply_json((await self.own(request)).as_json())

    async def _delete(self, request: web.Request) -> web.Response:
        await self._registry.remove(await self.own(request))
        return web.Response(status=204)

    async def _failed(self, request: web.Request) -> web.Response:
        found = await self._registry.failed_of(await self.own(request))
        return reply_json({"failed": [one.as_json() for one in found]})

    async def _drop(self, request: web.Request) -> web.Response:
        standing = await self.own(request)
        if not await self._registry.drop_failed(standing, request.match_info["failed"]):
            raise PenstockError("not_found", f"nothing of that id has failed; GET {self._path}/.../failed lists it")
        return web.Response(status=204)

    async def _redeliver(self, request: web.Request) -> web.Response:
        delivered, left = await self._send_again(await self.own(request))
        return reply_json({"delivered": delivered, "left": left})


def reply_json(document: object, *, status: int = 200) -> web.Response:
    """A reply that no cache keeps."""
    headers = {"Cache-Control": "no-store"}
    body = msgspec.json.encode(document)
    return web.Response(status=status, body=body, content_type="application/json", headers=headers)
