"""Standing subscriptions of a kind in this process: kept, taken where nobody has them, worked at, given back."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

import structlog
from prometheus_client import Gauge

from penstock.errors import PenstockError
from penstock.ports.clock import Clock
from penstock.role import Check
from penstock_publish.gateway_database import GatewayDatabase
from penstock_publish.outbound.rows import StandingRows
from penstock_publish.outbound.standing import Standing

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

__all__ = ["AnyStanding", "Registry", "RegistrySettings"]

_log = structlog.get_logger(__name__)


class RegistrySettings(Protocol):
    """The settings behind a registry."""

    @property
    def per_client_max(self) -> int: ...
    @property
    def total_max(self) -> int: ...
    @property
    def failed_max(self) -> int: ...
    @property
    def lease_s(self) -> float: ...


if TYPE_CHECKING:

    class _Kept(Standing, DataclassInstance, Protocol): ...


AnyStanding = TypeVar("AnyStanding", bound="_Kept")
_F = TypeVar("_F", bound="DataclassInstance")


class Registry(Generic[AnyStanding, _F]):
    """`run` until stop. Replicas that share the database share what is in it; each is at work in one of them.

    `kind`: its name in settings, logs and checks, a plural.
    """

    def __init__(
        self,
        database: GatewayDatabase,
        rows: StandingRows[AnyStanding, _F],
        *,
        kind: str,
        active: Gauge,
        clock: Clock,
        settings: RegistrySettings,
    ) -> None:
        self.holder = secrets.token_hex(8)
        self._database = database
        self._rows = rows
        self._kind = kind
        self._active = active
        self._clock = clock
        self._limits = settings
        self._at_work: dict[str, asyncio.Task[None]] = {}
        self._looking = asyncio.Event()
        self._making = asyncio.Lock()
        self._made = False
        self._trouble: str | None = None

    async def run(self, stop: asyncio.Event, work: Callable[[AnyStanding], Coroutine[None, None, None]]) -> None:
        """Hold what is free and work at it until `stop`. `work` ends when it is paused, gone or somebody else's."""
        stopping = asyncio.create_task(stop.wait())
        try:
            while not stop.is_set():
                self._looking.clear()
                await self._hold(work)
                waits = [
                    stopping,
                    asyncio.ensure_future(self._looking.wait()),
                    asyncio.ensure_future(self._clock.sleep(self._limits.lease_s / 3)),
                ]
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
                for wait in waits[1:]:
                    wait.cancel()
        finally:
            stopping.cancel()
            await self._release()

    async def add(self, standing: AnyStanding) -> None:
        """Keep it and begin; `too_many_requests` where there are too many, `store_unavailable`."""
        await self._ready()
        limits = self._limits
        adding = partial(
            self._rows.add,
            standing=standing,
            client_id=standing.client_id,
            per_client_max=limits.per_client_max,
            total_max=limits.total_max,
        )
        if not await self._database.run(f"keeping one of the {self._kind}", adding):
            detail = f"there are {limits.per_client_max} {self._kind} of this client, or {limits.total_max} in all"
            raise PenstockError("too_many_requests", f"{detail} ({self._kind}.per_client_max, total_max)")
        self._looking.set()

    async def of_client(self, client_id: str) -> list[AnyStanding]:
        """All of a client."""
        await self._ready()
        return await self._database.run(f"reading {self._kind}", partial(self._rows.of_client, client_id=client_id))

    async def find(self, standing_id: str) -> AnyStanding | None:
        """One, whoever has made it."""
        await self._ready()
        return await self._database.run(f"reading {self._kind}", partial(self._rows.find, standing_id=standing_id))

    async def failed_of(self, standing: AnyStanding) -> list[_F]:
        """What failed, oldest first."""
        reading = partial(self._rows.failed_of, standing_id=standing.id, limit=self._limits.failed_max)
        return await self._database.run(f"reading failed {self._kind}", reading)

    async def drop_failed(self, failed_id: str) -> None:
        """It was delivered after all."""
        dropping = partial(self._rows.drop_failed, failed_id=failed_id)
        await self._database.run(f"forgetting one of the failed {self._kind}", dropping)

    async def remove(self, standing: AnyStanding) -> None:
        """Stop it and forget it with what failed."""
        forgetting = partial(self._rows.forget, standing_id=standing.id)
        await self._database.run(f"deleting one of the {self._kind}", forgetting)
        task = self._at_work.pop(standing.id, None)
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def advance(self, standing: AnyStanding, failed: _F | None, values: Mapping[str, str | int]) -> bool:
        """Write how far it is (`cursor` and what is beside it) and what failed; False: nothing more is to be sent."""
        moving = partial(
            self._rows.advance,
            standing_id=standing.id,
            holder=self.holder,
            before=standing.cursor,
            failed=failed,
            values=values,
        )
        if not await self._database.run(f"moving one of the {self._kind} on", moving):
            return False
        if failed is None:
            return True
        counting = partial(self._rows.failed_count, standing_id=standing.id)
        limit = self._limits.failed_max
        if await self._database.run(f"counting failed {self._kind}", counting) < limit:
            return True
        await self.pause(standing, f"{limit} have failed (failed_max): deliver them again")
        return False

    async def pause(self, standing: AnyStanding, reason: str) -> None:
        """Send nothing more for now."""
        pausing = partial(self._rows.pause, standing_id=standing.id, reason=reason)
        await self._database.run(f"pausing one of the {self._kind}", pausing)

    async def resume(self, standing: AnyStanding) -> None:
        """Let one go on that was paused."""
        if standing.paused is not None:
            resuming = partial(self._rows.pause, standing_id=standing.id, reason=None)
            await self._database.run(f"resuming one of the {self._kind}", resuming)
            self._looking.set()

    def ready(self) -> list[Check]:
        """What keeps them from being worked at."""
        return [] if self._trouble is None else [Check(f"publish.{self._kind}", False, self._trouble)]

    async def _hold(self, work: Callable[[AnyStanding], Coroutine[None, None, None]]) -> None:
        """Take what is free; begin what is not at work, leave what is no longer ours."""
        now_ms = self._clock.now_ms()
        until_ms = now_ms + round(self._limits.lease_s * 1000)
        try:
            await self._ready()
            claiming = partial(self._rows.claim, holder=self.holder, now_ms=now_ms, until_ms=until_ms)
            ours = {one.id: one for one in await self._database.run(f"taking {self._kind}", claiming)}
        except PenstockError as error:
            if self._trouble is None:
                _log.warning("outbound_waits", kind=self._kind, code=error.code, detail=error.detail)
            self._trouble = error.detail
            return
        self._trouble = None
        for standing_id, task in list(self._at_work.items()):
            if standing_id not in ours or task.done():
                task.cancel()
                del self._at_work[standing_id]
        for standing_id, standing in ours.items():
            if standing_id not in self._at_work:
                self._at_work[standing_id] = asyncio.create_task(self._work(standing, work))
        self._active.set(len(self._at_work))

    async def _work(self, standing: AnyStanding, work: Callable[[AnyStanding], Coroutine[None, None, None]]) -> None:
        try:
            await work(standing)
        except Exception:  # outermost loop of one of them: the others go on, and this one is begun again
            _log.exception("outbound_failed", kind=self._kind, id=standing.id, topic=standing.topic)

    async def _release(self) -> None:
        tasks = list(self._at_work.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._at_work.clear()
        if self._made:
            try:
                releasing = partial(self._rows.release, holder=self.holder)
                await self._database.run(f"giving {self._kind} back", releasing)
            except PenstockError as error:
                _log.warning("outbound_not_released", kind=self._kind, code=error.code, detail=error.detail)

    async def _ready(self) -> None:
        async with self._making:
            if not self._made:
                await asyncio.to_thread(self._database.create, *self._rows.tables)
                self._made = True
