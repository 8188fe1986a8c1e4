"""Before the roles run: the listener answers already, and a log or store on a server is waited for."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from contextlib import AsyncExitStack

import structlog
from aiohttp import web

from penstock.errors import PenstockError
from penstock.http.access import Principal
from penstock.http.listener import Listener, health_routes
from penstock.http.problem import guarded
from penstock.ports.clock import Clock
from penstock.role import Check
from penstock_app.roles import OpenedRoles, open_roles
from penstock_app.settings import PenstockSettings

__all__ = ["open_when_possible"]

_SAY_EVERY_S = 5.0
_log = structlog.get_logger(__name__)


async def open_when_possible(
    settings: PenstockSettings,
    names: Collection[str],
    listener: Listener,
    *,
    public_url: str,
    clock: Clock,
    stack: AsyncExitStack,
    stop: asyncio.Event,
) -> OpenedRoles | None:
    """`open_roles`, again and again while a server that it needs is away; None when it is told to stop before.

    A file that cannot be opened does not heal by waiting: the error is raised.
    """
    opening = _Opening()
    await listener.serve(opening.routes())
    said_at_s: float | None = None
    while not stop.is_set():
        attempt = AsyncExitStack()
        try:
            opened = await open_roles(settings, names=names, public_url=public_url, clock=clock, stack=attempt)
        except PenstockError as error:
            await attempt.aclose()
            if not error.retryable or not _on_server(settings):
                raise
            opening.missing = error.detail
            if said_at_s is None or clock.monotonic_s() - said_at_s >= _SAY_EVERY_S:
                said_at_s = clock.monotonic_s()
                _log.warning("cannot_open_yet", code=error.code, detail=error.detail)
        except BaseException:
            await attempt.aclose()
            raise
        else:
            stack.push_async_exit(attempt)
            return opened
        await _rest(settings.services.open_retry_s, clock, stop)
    return None


class _Opening:
    """Answers while nothing is open: alive, not ready, and why. Implements `Access` for the health routes."""

    def __init__(self) -> None:
        self.missing = "being opened"

    def routes(self) -> list[web.AbstractRouteDef]:
        """Health, and 503 for everything else."""
        # Its name differs from that of the listener's own last route, which aiohttp would call a double.
        return [*health_routes(self._checks, self), web.route("*", "/{anything:.*}", guarded(self._later))]

    async def require(self, request: web.Request, scope: str, *, writes: str | None = None) -> Principal:
        """See `Access`: nobody can be known yet."""
        raise self._not_yet()

    async def require_token(self, token: str, scope: str, *, writes: str | None = None) -> Principal:
        """See `Access`: nobody can be known yet."""
        raise self._not_yet()

    def _checks(self) -> list[Check]:
        return [Check("log and store", False, self.missing)]

    async def _later(self, request: web.Request) -> web.StreamResponse:
        raise self._not_yet()

    def _not_yet(self) -> PenstockError:
        return PenstockError("not_ready", f"this process is starting: {self.missing}", retry_after_s=1.0)


def _on_server(settings: PenstockSettings) -> bool:
    return not all(url.startswith("sqlite:") for url in (settings.log_address, settings.store_address))


async def _rest(seconds: float, clock: Clock, stop: asyncio.Event) -> None:
    waits = [asyncio.ensure_future(clock.sleep(seconds)), asyncio.ensure_future(stop.wait())]
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()
