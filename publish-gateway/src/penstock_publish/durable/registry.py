"""Durable subscriptions in use: who has which, and acknowledged cursors on their way into the database.

A cursor is written within `durable.flush_s`, many in one transaction, so a crash costs that much: what was
acknowledged just before may come again, never the other way round. Each has one holder; who asks for it later takes
it over, in this process at once, from a replica that shares the database at its next look.

While the database fails, acknowledgements wait here and are refused as well, so that nobody takes them for kept;
after `durable.patience_s` those that wait for one are closed. What nobody has had for `durable.expire_after_s` is
deleted.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import count

import msgspec
import structlog

from penstock.errors import PenstockError
from penstock.http.access import Principal
from penstock.http.socket_life import Close
from penstock.model.position import Cursor
from penstock.ports.clock import Clock
from penstock.role import Check
from penstock_publish.durable import positions
from penstock_publish.durable.positions import POSITIONS, Position, PositionKey
from penstock_publish.gateway_database import GatewayDatabase
from penstock_publish.metrics import DURABLE_ACKS, DURABLE_EXPIRED, DURABLE_HELD
from penstock_publish.settings import DurableSettings
from penstock_publish.topics.history import After, Start

__all__ = ["DurableSubscriptions", "Hold", "owner_of"]

_log = structlog.get_logger(__name__)

_TAKEN_OVER = Close(4409, "taken_over")
_DELETED = Close(4404, "unknown_subscription")
_NOT_KEPT = Close(4503, "store_unavailable", retry_ms=1_000)


def owner_of(principal: Principal) -> str:
    """Whose a durable subscription is: the client's, or that of one person who uses it, and of nobody else."""
    if principal.subject == principal.client_id:
        return principal.client_id
    return msgspec.json.encode([principal.client_id, principal.subject]).decode()


class Hold:
    """A durable subscription in the hands of one connection. Implements `Acks`."""

    __slots__ = ("_acked", "_lost", "_registry", "_rows", "holder", "key", "lose")

    def __init__(self, registry: DurableSubscriptions, key: PositionKey, holder: str, start: Start) -> None:
        self._registry = registry
        self._acked: Cursor | None = start.cursor if start.key_hash is None else None
        self._rows = 0  # hash of the key up to which a table's rows were acknowledged
        self._lost: Close | None = None
        self.key = key
        self.holder = holder
        #: Ends the connection that has it.
        self.lose: Callable[[Close], None] | None = None

    def acknowledge(self, after: After, text: str) -> None:
        """See `Acks`. Cumulative: an older cursor than one before changes nothing."""
        if self._lost is None and after.cursor is not None:
            self._note(after, after.cursor, text)
            self._registry.check()

    def _note(self, after: After, cursor: Cursor, text: str) -> None:
        if after.key_hash is not None:  # inside the rows of a table, which come before the log
            if self._acked is None and after.key_hash >= self._rows:
                self._rows = after.key_hash
                self._registry.keep(self, text)
            return
        before = self._acked
        if before is not None and before.epoch == cursor.epoch:
            cursor = replace(cursor, next=tuple(map(max, before.next, cursor.next)))
        if before is None or before.epoch <= cursor.epoch:
            self._acked = cursor
            self._registry.keep(self, cursor.text())

    def give_to(self, lose: Callable[[Close], None]) -> None:
        """The connection is there; `lose` ends it, at once where somebody was faster."""
        self.lose = lose
        if self._lost is not None:
            lose(self._lost)

    def take_away(self, close: Close) -> None:
        """Somebody else has it, or it is deleted."""
        self._lost = close
        if self.lose is not None:
            self.lose(close)

    def release(self) -> None:
        """See `Acks`."""
        self._registry.release(self)


class DurableSubscriptions:
    """Those of one process."""

    def __init__(self, database: GatewayDatabase, *, clock: Clock, settings: DurableSettings) -> None:
        self._database = database
        self._clock = clock
        self._settings = settings
        self._process = secrets.token_hex(8)
        self._numbers = count(1)
        self._holds: dict[PositionKey, Hold] = {}
        self._pending: dict[tuple[PositionKey, str], str] = {}
        self._made = asyncio.Lock()
        self._is_made = False
        self._flushing = asyncio.Lock()
        self._running: asyncio.Task[None] | None = None
        self._failing_since_s: float | None = None
        self._next_expiry_s = clock.monotonic_s()
        self.trouble: str | None = None  # why acknowledged cursors are not kept

    async def cursor(self, key: PositionKey) -> str | None:
        """Up to where it was acknowledged; None if there is none yet. `store_unavailable`."""
        await self._ready()
        await self.flush()
        return await self._database.run(
            "reading a durable subscription", lambda connection: positions.position(connection, key)
        )

    async def claim(self, key: PositionKey, start: Start) -> Hold:
        """Take it, from whoever has it; made at `start` where there is none.

        `too_many_requests` where the client has too many, `store_unavailable`.
        """
        await self._ready()
        limit = self._settings.per_client_max
        hold = Hold(self, key, f"{self._process}.{next(self._numbers)}", start)
        taking = partial(
            positions.claim,
            key=key,
            holder=hold.holder,
            cursor=start.resume,
            now_ms=self._clock.now_ms(),
            per_client_max=limit,
        )
        if not await self._database.run("taking a durable subscription", taking):
            detail = f"this client has {limit} durable subscriptions (per_client_max); delete one of them"
            raise PenstockError("too_many_requests", detail)
        before = self._holds.get(key)
        self._holds[key] = hold
        DURABLE_HELD.set(len(self._holds))
        if before is not None:
            before.take_away(_TAKEN_OVER)
        return hold

    async def of_owner(self, owner: str) -> list[Position]:
        """All of an owner, with what was acknowledged until now. `store_unavailable`."""
        await self._ready()
        await self.flush()
        return await self._database.run(
            "listing durable subscriptions", lambda connection: positions.of_owner(connection, owner)
        )

    async def delete(self, owner: str, name: str, topic: str | None) -> bool:
        """Delete those of that name; connections that have one are closed. False if there was none."""
        await self._ready()
        deleting = partial(positions.forget, owner=owner, name=name, topic=topic)
        gone = await self._database.run("deleting a durable subscription", deleting)
        for key in gone:
            self._take_away(key, _DELETED)
        return bool(gone)

    def keep(self, hold: Hold, cursor: str) -> None:
        """Write this cursor soon."""
        DURABLE_ACKS.inc()
        self._pending[hold.key, hold.holder] = cursor

    def check(self) -> None:
        """`store_unavailable` while acknowledged cursors cannot be written: they wait here, and may be lost."""
        if self.trouble is not None:
            detail = f"what was acknowledged is not kept yet: {self.trouble}"
            raise PenstockError("store_unavailable", detail, retry_after_s=1.0)

    def release(self, hold: Hold) -> None:
        """The connection is gone; what it acknowledged is still written."""
        if self._holds.get(hold.key) is hold:
            del self._holds[hold.key]
            DURABLE_HELD.set(len(self._holds))

    def start(self) -> None:
        """Write, and look for what replicas took over, every `flush_s`, until closed."""
        self._running = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Write what is pending; where that fails, it comes again as is promised."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)
        try:
            await self.flush()
        except PenstockError as error:
            _log.warning("acknowledgements_not_kept", code=error.code, detail=error.detail)

    def ready(self) -> Sequence[Check]:
        """Whether acknowledgements are kept."""
        return [] if self.trouble is None else [Check("publish.durable", False, self.trouble)]

    async def _run(self) -> None:
        while True:
            await self._clock.sleep(self._settings.flush_s)
            try:
                await self.flush()
                await self._look_at_replicas()
                await self._expire()
            except PenstockError as error:
                self._fail(error)
            else:
                self.trouble = self._failing_since_s = None

    def _fail(self, error: PenstockError) -> None:
        """Say it once; close those who have waited too long for an acknowledgement to be kept."""
        now_s = self._clock.monotonic_s()
        if self._failing_since_s is None:
            self._failing_since_s = now_s
            _log.warning("acknowledgements_not_kept", code=error.code, detail=error.detail)
        self.trouble = error.detail
        if now_s < self._failing_since_s + self._settings.patience_s:
            return
        for key, holder in list(self._pending):
            hold = self._holds.get(key)
            if hold is not None and hold.holder == holder:
                hold.take_away(_NOT_KEPT)

    async def _expire(self) -> None:
        """Now and then: note which are in use, delete those that nobody has had for too long."""
        now_s, after_s = self._clock.monotonic_s(), self._settings.expire_after_s
        if after_s is None or now_s < self._next_expiry_s:
            return
        await self._ready()
        held = {key: hold.holder for key, hold in self._holds.items()}
        now_ms = self._clock.now_ms()
        touching = partial(positions.touch, held=held, now_ms=now_ms)
        await self._database.run("noting durable subscriptions in use", touching)
        expiring = partial(positions.expire, before_ms=now_ms - round(after_s * 1000))
        gone = await self._database.run("deleting durable subscriptions that nobody uses", expiring)
        self._next_expiry_s = now_s + self._settings.expire_check_s
        if gone:
            DURABLE_EXPIRED.inc(gone)
            _log.info("durable_subscriptions_expired", count=gone, unused_s=after_s)

    async def flush(self) -> None:
        """Write what is pending. `store_unavailable`: it is written later."""
        async with self._flushing:
            while self._pending:
                some = dict(list(self._pending.items())[: self._settings.flush_max])
                writing = partial(positions.store, cursors=some, now_ms=self._clock.now_ms())
                await self._database.run("keeping acknowledged cursors", writing)
                for which, cursor in some.items():
                    if self._pending.get(which) == cursor:  # else there is a newer one by now
                        del self._pending[which]

    async def _look_at_replicas(self) -> None:
        """Lose what others have taken over or deleted, where the database is shared."""
        if self._database.postgres is None or not self._holds:
            return
        held = dict(self._holds)
        reading = partial(positions.holders, keys=list(held))
        holders = await self._database.run("looking at durable subscriptions", reading)
        for key, hold in held.items():
            if self._holds.get(key) is hold and holders.get(key) != hold.holder:
                self._take_away(key, _TAKEN_OVER if key in holders else _DELETED)

    def _take_away(self, key: PositionKey, close: Close) -> None:
        hold = self._holds.pop(key, None)
        DURABLE_HELD.set(len(self._holds))
        if hold is not None:
            self._pending.pop((key, hold.holder), None)
            hold.take_away(close)

    async def _ready(self) -> None:
        """Make the table where it is missing."""
        if self._is_made:
            return
        async with self._made:
            if not self._is_made:
                await asyncio.to_thread(self._database.create, POSITIONS)
                self._is_made = True
