"""`POST` and `GET /v1/data/{relation}/rebuild`: rebuilds while the system runs, one after the other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import msgspec
from aiohttp import web

from penstock.errors import PenstockError
from penstock.http.access import Access
from penstock.http.problem import guarded
from penstock_data.rebuilder import Progress, Rebuilder

__all__ = ["RebuildHttp"]

_SCOPE = "apps:admin"


class RebuildHttp:
    """Keeps what became of the last rebuild of each relation for as long as the process runs."""

    def __init__(
        self,
        rebuilder: Rebuilder,
        access: Access,
        *,
        on_switched: Callable[[], None],
        is_ahead: Callable[[], bool] = lambda: False,
    ) -> None:
        self._rebuilder, self._access, self._on_switched = rebuilder, access, on_switched
        self._is_ahead = is_ahead
        self._states: dict[str, dict[str, object]] = {}
        self._running: dict[str, asyncio.Task[None]] = {}
        self._one_at_a_time = asyncio.Lock()

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """Routes for one listener."""
        return [
            web.post("/v1/data/{relation}/rebuild", guarded(self._start)),
            web.get("/v1/data/{relation}/rebuild", guarded(self._state)),
        ]

    async def stop(self) -> None:
        """Leave what is under way: the old table stays in force, and the next rebuild goes on from here."""
        for task in self._running.values():
            task.cancel()
        await asyncio.gather(*self._running.values(), return_exceptions=True)

    async def _start(self, request: web.Request) -> web.Response:
        """202 as soon as the rebuild is under way; `?partial=true` where the log no longer has everything."""
        await self._access.require(request, _SCOPE)
        relation, partial = request.match_info["relation"], request.query.get("partial") == "true"
        if relation not in self._running:
            if self._is_ahead():  # the log was restored, and somebody has decided that it counts
                await self._rebuilder.adopt()
            missing = await self._rebuilder.missing(relation)
            if missing is not None and not partial:
                raise PenstockError("conflict", f"{missing}; say ?partial=true if that is what you want")
            self._states[relation] = {"state": "running", "done": 0, "total": 0}
            self._running[relation] = asyncio.create_task(self._run(relation, partial))
        return _reply(self._states[relation], status=202)

    async def _state(self, request: web.Request) -> web.Response:
        await self._access.require(request, _SCOPE)
        relation = request.match_info["relation"]
        state = self._states.get(relation)
        if state is None:
            raise PenstockError("not_found", f"nobody rebuilds '{relation}'; POST here to begin")
        return _reply(state, status=200)

    async def _run(self, relation: str, partial: bool) -> None:
        def note(progress: Progress) -> None:
            self._states[relation] = {"state": "running", "done": progress.done, "total": progress.total}

        try:
            async with self._one_at_a_time:
                progress = await self._rebuilder.rebuild(relation, partial=partial, on_progress=note)
            self._states[relation] = {"state": "done", "done": progress.done, "total": progress.total}
            self._on_switched()
        except PenstockError as error:
            self._states[relation] = {"state": "failed", "code": error.code, "detail": error.detail}
        finally:
            del self._running[relation]


def _reply(state: dict[str, object], *, status: int) -> web.Response:
    return web.Response(body=msgspec.json.encode(state), content_type="application/json", status=status)
