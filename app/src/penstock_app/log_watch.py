"""Whether the log answers: asked now and then; part `log` of `/readyz` and metric `penstock_log_available`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog
from aiohttp import web

from penstock.errors import PenstockError
from penstock.logs.metrics import AVAILABLE
from penstock.ports.clock import Clock
from penstock.ports.log import Log
from penstock.role import Check

__all__ = ["LogWatch"]

_log = structlog.get_logger(__name__)


class LogWatch:
    """Implements `role.Role` (without routes). Where nobody writes or reads, nobody else would notice."""

    name = "log watch"

    def __init__(self, log: Log, *, clock: Clock, interval_s: float, timeout_s: float) -> None:
        self._port, self._clock = log, clock
        self._interval_s, self._timeout_s = interval_s, timeout_s
        self._check = Check("log", False, "not asked yet")

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """None."""
        return ()

    def ready(self) -> Sequence[Check]:
        """What the log has answered last."""
        return [self._check]

    async def run(self, stop: asyncio.Event) -> None:
        """Ask every `interval_s` until `stop`."""
        stopped = asyncio.ensure_future(stop.wait())
        try:
            while not stop.is_set():
                self._note(await self._answer())
                resting = asyncio.ensure_future(self._clock.sleep(self._interval_s))
                await asyncio.wait({resting, stopped}, return_when=asyncio.FIRST_COMPLETED)
                resting.cancel()
        finally:
            stopped.cancel()

    async def _answer(self) -> str | None:
        """Why the log cannot be used, with the code; None if it can."""
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._port.probe()
        except TimeoutError:
            place = self._port.describe()
            where = place.get("place") or place.get("bootstrap") or place["adapter"]
            return f"log_unavailable: the log ({where}) has not answered for {self._timeout_s:g} s"
        except PenstockError as error:
            return str(error)
        return None

    def _note(self, trouble: str | None) -> None:
        was_ok, known = self._check.ok, self._check.detail
        self._check = Check("log", trouble is None, trouble or "answers")
        AVAILABLE.set(trouble is None)
        if trouble is not None and (was_ok or trouble != known):
            _log.warning("log_cannot_be_used", reason=trouble)
        elif trouble is None and not was_ok:
            _log.info("log_answers")
