"""`GET` and `PUT /v1/topics/{topic}/lifecycle`, for those who may change apps."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

import msgspec
from aiohttp import web

from penstock.errors import PenstockError
from penstock.http.access import Access
from penstock.http.problem import guarded
from penstock.model.stream import StreamSpec
from penstock.ports.clock import Clock
from penstock.ports.log import Log
from penstock_publish.bodies import read_json
from penstock_publish.lifecycle.registry import Lifecycles
from penstock_publish.lifecycle.states import ADMIN_SCOPE, Lifecycle, State
from penstock_publish.settings import LifecycleSettings

__all__ = ["LifecycleChange", "LifecycleRoutes", "changed"]

_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
_UNSEEN = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")  # no line breaks and tabs; PostgreSQL keeps no zero
_SUNSETS_S = range(253_370_764_800)  # 1970 to 9998: what dates can say in UTC, whatever the zone they came with


class LifecycleChange(msgspec.Struct, forbid_unknown_fields=True):
    """Body of the PUT. `sunset` is ISO 8601 with a zone; a successor is another topic."""

    state: State
    version: str = "1"
    description: str = ""
    successor: str | None = None
    sunset: datetime | None = None


class LifecycleRoutes:
    """Handlers of a topic's lifecycle."""

    def __init__(self, access: Access, log: Log, lifecycles: Lifecycles, *, clock: Clock) -> None:
        self._access = access
        self._log = log
        self._lifecycles = lifecycles
        self._clock = clock

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """For the listener."""
        path = "/v1/topics/{topic}/lifecycle"
        return [web.get(path, guarded(self._get), allow_head=False), web.put(path, guarded(self._put))]

    async def _get(self, request: web.Request) -> web.Response:
        await self._access.require(request, ADMIN_SCOPE)
        topic, _ = await self._topic(request)
        await self._lifecycles.load()
        return _json({"topic": topic, **self._lifecycles.of(topic).as_json()})

    async def _put(self, request: web.Request) -> web.Response:
        principal = await self._access.require(request, ADMIN_SCOPE)
        topic, streams = await self._topic(request)
        settings = self._lifecycles.settings
        wanted = await read_json(request, settings.body_bytes_max, shape=LifecycleChange)
        await self._lifecycles.load()
        successor = wanted.successor
        if successor is not None and (successor not in streams or not streams[successor].publish):
            raise PenstockError("bad_request", f"there is no topic '{successor[:100]}' to be the successor")
        before = self._lifecycles.of(topic)
        lifecycle = changed(topic, before, wanted, settings=settings, now_s=self._clock.now_ms() // 1000)
        await self._lifecycles.put(topic, lifecycle, changed_by=principal.client_id)
        return _json({"topic": topic, **lifecycle.as_json()})

    async def _topic(self, request: web.Request) -> tuple[str, Mapping[str, StreamSpec]]:
        name = request.match_info["topic"]
        streams = (await self._log.catalog()).streams
        if name not in streams or not streams[name].publish:
            raise PenstockError("unknown_topic", f"there is no topic '{name[:100]}'; GET /v1/topics lists them")
        return name, streams


def changed(
    topic: str, before: Lifecycle, wanted: LifecycleChange, *, settings: LifecycleSettings, now_s: int
) -> Lifecycle:
    """The lifecycle that follows; `bad_request` names what does not fit. Pure."""
    if len(wanted.version) > settings.version_chars_max or not _VERSION.fullmatch(wanted.version):
        raise PenstockError(
            "bad_request",
            f"version is 1 to {settings.version_chars_max} letters, digits, dots, '+', '-', '_', such as 2.1.0",
        )
    if len(wanted.description) > settings.description_chars_max:
        raise PenstockError(
            "bad_request", f"the description is longer than {settings.description_chars_max} characters"
        )
    if _UNSEEN.search(wanted.description):
        raise PenstockError("bad_request", "the description has characters that cannot be seen")
    ending = wanted.state in (State.DEPRECATED, State.RETIRED)
    if not ending and (wanted.successor is not None or wanted.sunset is not None):
        raise PenstockError("bad_request", "only a deprecated or retired topic has a successor or a sunset")
    if wanted.successor == topic:
        raise PenstockError("bad_request", f"{topic} cannot be its own successor")
    if wanted.sunset is not None and wanted.sunset.tzinfo is None:
        raise PenstockError("bad_request", "sunset needs a zone, such as 2027-01-31T00:00:00Z")
    sunset_at_s = None if wanted.sunset is None else int(wanted.sunset.timestamp())
    if sunset_at_s is not None and sunset_at_s not in _SUNSETS_S:
        raise PenstockError("bad_request", "sunset is between 1970 and 9998, in UTC")
    since_s = before.deprecated_at_s if before.deprecated_at_s is not None else now_s
    after = Lifecycle(wanted.state, wanted.version, wanted.description, wanted.successor, sunset_at_s)
    return replace(after, deprecated_at_s=since_s) if ending else after


def _json(document: object) -> web.Response:
    return web.Response(
        body=msgspec.json.encode(document), content_type="application/json", headers={"Cache-Control": "no-store"}
    )
