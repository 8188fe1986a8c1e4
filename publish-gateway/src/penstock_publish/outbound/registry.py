"""Standing subscriptions of a kind in this process: kept, taken where nobody has them, worked at, given back."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import Generic

import structlog
from prometheus_client import Gauge

from penstock.errors import PenstockError
from penstock.ports.clock import Clock
from penstock.role import Check
from penstock_publish.gateway_database import GatewayDatabase
from penstock_publish.metrics import OUTBOUND_PAUSED
from penstock_publish.outbound.rows import StandingRows
from penstock_publish.outbound.settings import StandingSettings
from penstock_publish.outbound.standing import AnyStanding, Failed

__all__ = ["Registry"]

_log = structlog.get_logger(__name__)
#: One that breaks so often at one place is paused: begun again and again it would break for ever, unseen.
_BREAKS_MAX = 3


class Registry(Generic[AnyStanding]):
    """`run` until stop. Replicas that share the database share what is in it; each is at work in one of them.

    `kind`: its name in settings, logs, metrics and checks, a plural.
    """

    def __init__(
        self,
        database: GatewayDatabase,
        rows: StandingRows[AnyStanding],
        *,
        kind: str,
        active: Gauge,
        clock: Clock,
        settings: StandingSettings,
    ) -> None:
        self.kind = kind
        self.holder = secrets.token_hex(8)
        self._database = database
        self._rows = rows
        self._active = active
        self._clock = clock
        self._limits = settings
        self._at_work: dict[str, asyncio.Task[None]] = {}
        self._held_until_s = 0.0  # on our monotonic clock: no later than the database's lease
        self._breaks: dict[str, tuple[str, int]] = {}  # how often one broke, and where
        self._ended_clients: list[str] = []
        self._looking = asyncio.Event()
        self._making = asyncio.Lock()
        self._made = False
        self._running = False
        self._trouble: str | None = None

    async def run(self, stop: asyncio.Event, work: Callable[[AnyStanding], Coroutine[None, None, None]]) -> None:
        """Hold what is free and work at it until `stop`. `work` ends when it is paused, gone or somebody else's."""
        stopping = asyncio.create_task(stop.wait())
        self._running = True
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
            self._running = False
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
        if not await self._database.run(f"keeping one of the {self.kind}", adding):
            detail = f"there are {limits.per_client_max} {self.kind} of this client, or {limits.total_max} in all"
            raise PenstockError("too_many_requests", f"{detail} ({self.kind}.per_client_max, total_max)")
        self._looking.set()

    async def of_client(self, client_id: str) -> list[AnyStanding]:
        """All of a client."""
        await self._ready()
        return await self._database.run(f"reading {self.kind}", partial(self._rows.of_client, client_id=client_id))

    async def find(self, standing_id: str) -> AnyStanding | None:
        """One, whoever has made it."""
        await self._ready()
        return await self._database.run(f"reading {self.kind}", partial(self._rows.find, standing_id=standing_id))

    async def failed_of(self, standing: AnyStanding) -> list[Failed]:
        """What failed, oldest first, without the bodies: together they may be long."""
        reading = partial(self._rows.failed_of, standing_id=standing.id, limit=self._limits.failed_max)
        return await self._database.run(f"reading failed {self.kind}", reading)

    async def next_failed(self, standing: AnyStanding, after_ms: int) -> Failed | None:
        """The oldest that failed after this time."""
        reading = partial(self._rows.next_failed, standing_id=standing.id, after_ms=after_ms)
        return await self._database.run(f"reading failed {self.kind}", reading)

    async def keep_failed(self, failed: Failed, left: str | None) -> None:
        """Those recipients do not have it yet; None: it was delivered after all."""
        await self._keep(failed.id, failed.standing_id, left)

    async def drop_failed(self, standing: AnyStanding, failed_id: str) -> bool:
        """Give one up; False if there is none."""
        return await self._keep(failed_id, standing.id, None)

    async def failed_count(self, standing: AnyStanding) -> int:
        """How many are left."""
        counting = partial(self._rows.failed_size, standing_id=standing.id)
        return (await self._database.run(f"counting failed {self.kind}", counting))[0]

    async def take_redelivery(self, standing: AnyStanding, caller: str) -> None:
        """Be the one who delivers what failed, for as long as a lease; `conflict` while somebody else is."""
        taking = partial(
            self._rows.take_redelivery,
            standing_id=standing.id,
            caller=caller,
            now_ms=self._clock.now_ms(),
            lease_ms=round(self._limits.lease_s * 1000),
        )
        if not await self._database.run(f"taking failed {self.kind}", taking):
            raise PenstockError("conflict", "another call is delivering what failed; wait for its reply")

    async def end_redelivery(self, standing: AnyStanding, caller: str) -> None:
        """Let others deliver what failed."""
        ending = partial(self._rows.end_redelivery, standing_id=standing.id, caller=caller)
        await self._database.run(f"giving failed {self.kind} back", ending)

    async def confirm(self, standing: AnyStanding) -> AnyStanding | None:
        """It as it is now, if it is ours and stays so for as long as one try takes; None: nothing more is to be sent.

        `store_unavailable` while that cannot be known.
        """
        asking = partial(self._rows.held, standing_id=standing.id, holder=self.holder, before=standing.cursor)
        found = await self._database.run(f"looking after one of the {self.kind}", asking)
        if found is not None and self._held_until_s - self._clock.monotonic_s() < self._limits.send_s:
            raise PenstockError("store_unavailable", f"the lease of {self.kind} could not be renewed in time")
        return found

    async def change(self, standing: AnyStanding, values: Mapping[str, str | int]) -> None:
        """Set columns of the kind, which the next try goes by."""
        changing = partial(self._rows.change, standing_id=standing.id, values=values)
        await self._database.run(f"changing one of the {self.kind}", changing)

    def forget_client(self, client_id: str) -> None:
        """A client is gone for good: end all that it had, soon."""
        if self._running:
            self._ended_clients.append(client_id)
            self._looking.set()

    async def remove(self, standing: AnyStanding) -> None:
        """Stop it and forget it with what failed."""
        forgetting = partial(self._rows.forget, standing_id=standing.id)
        await self._database.run(f"deleting one of the {self.kind}", forgetting)
        task = self._at_work.pop(standing.id, None)
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def advance(self, standing: AnyStanding, failed: Failed | None, values: Mapping[str, str | int]) -> bool:
        """Write how far it is (`cursor` and what is beside it) and what failed; False: nothing more is to be sent."""
        moving = partial(
            self._rows.advance,
            standing_id=standing.id,
            holder=self.holder,
            before=standing.cursor,
            failed=failed,
            values=values,
        )
        if not await self._database.run(f"moving one of the {self.kind} on", moving):
            return False
        if failed is None:
            return True
        measuring = partial(self._rows.failed_size, standing_id=standing.id)
        count, chars = await self._database.run(f"counting failed {self.kind}", measuring)
        limits = self._limits
        if count < limits.failed_max and chars < limits.failed_chars_max:
            return True
        await self.pause(standing, f"{count} have failed (failed_max, failed_chars_max): deliver or delete them")
        return False

    async def pause(self, standing: AnyStanding, reason: str) -> None:
        """Send nothing more for now."""
        pausing = partial(self._rows.pause, standing_id=standing.id, reason=reason)
        await self._database.run(f"pausing one of the {self.kind}", pausing)
        _log.warning("outbound_paused", kind=self.kind, id=standing.id, topic=standing.topic, reason=reason)
        self._looking.set()

    async def resume(self, standing: AnyStanding) -> None:
        """Let one go on that was paused."""
        if standing.paused is not None:
            resuming = partial(self._rows.pause, standing_id=standing.id, reason=None)
            await self._database.run(f"resuming one of the {self.kind}", resuming)
            self._looking.set()

    def ready(self) -> list[Check]:
        """What keeps them from being worked at."""
        return [] if self._trouble is None else [Check(f"publish.{self.kind}", False, self._trouble)]

    async def _hold(self, work: Callable[[AnyStanding], Coroutine[None, None, None]]) -> None:
        """Take what is free; begin what is not at work, leave what is no longer ours."""
        began_s = self._clock.monotonic_s()
        lease_ms = round(self._limits.lease_s * 1000)
        try:
            await self._ready()
            for client_id in tuple(self._ended_clients):
                forgetting = partial(self._rows.forget_client, client_id=client_id)
                await self._database.run(f"deleting {self.kind}", forgetting)
                self._ended_clients.remove(client_id)
            claiming = partial(self._rows.claim, holder=self.holder, now_ms=self._clock.now_ms(), lease_ms=lease_ms)
            held = await self._database.run(f"taking {self.kind}", claiming)
        except PenstockError as error:
            if self._trouble is None:
                _log.warning("outbound_waits", kind=self.kind, code=error.code, detail=error.detail)
            self._trouble = error.detail
            return
        self._trouble = None
        self._held_until_s = began_s + self._limits.lease_s
        ours = {one.id: one for one in held if one.paused is None}
        for standing_id, task in list(self._at_work.items()):
            if standing_id not in ours or task.done():
                task.cancel()
                del self._at_work[standing_id]
        for standing_id, standing in ours.items():
            if standing_id not in self._at_work:
                self._at_work[standing_id] = asyncio.create_task(self._work(standing, work))
        self._active.set(len(self._at_work))
        OUTBOUND_PAUSED.labels(self.kind).set(len(held) - len(ours))

    async def _work(self, standing: AnyStanding, work: Callable[[AnyStanding], Coroutine[None, None, None]]) -> None:
        try:
            await work(standing)
        except Exception as error:  # outermost loop of one of them: the others go on, and this one is begun again
            _log.exception("outbound_failed", kind=self.kind, id=standing.id, topic=standing.topic)
            await self._broke(standing, error)

    async def _broke(self, standing: AnyStanding, error: Exception) -> None:
        """Pause one that breaks again and again where it is."""
        try:
            now = await self.find(standing.id) or standing
            cursor, breaks = self._breaks.pop(now.id, ("", 0))
            breaks = breaks + 1 if cursor == now.cursor else 1
            if breaks < _BREAKS_MAX:
                self._breaks[now.id] = (now.cursor, breaks)
            else:
                await self.pause(now, f"internal: {type(error).__name__}; the gateway's log has the rest")
        except PenstockError as away:
            _log.warning("outbound_not_paused", kind=self.kind, code=away.code, detail=away.detail)

    async def _release(self) -> None:
        tasks = list(self._at_work.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._at_work.clear()
        if self._made:
            try:
                releasing = partial(self._rows.release, holder=self.holder)
                await self._database.run(f"giving {self.kind} back", releasing)
            except PenstockError as error:
                _log.warning("outbound_not_released", kind=self.kind, code=error.code, detail=error.detail)

    async def _ready(self) -> None:
        async with self._making:
            if not self._made:
                await asyncio.to_thread(self._database.create, *self._rows.tables)
                self._made = True

    async def _keep(self, failed_id: str, standing_id: str, left: str | None) -> bool:
        keeping = partial(self._rows.keep_failed, failed_id=failed_id, standing_id=standing_id, left=left)
        return await self._database.run(f"changing what failed of {self.kind}", keeping)
