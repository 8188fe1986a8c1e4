"""Brings one partition of a table to its outlet, batch after batch, and keeps how far it has come in the log.

To the log a delivery is a task of the app (`model.task.delivery_name`): it has a term, so that two replicas do not
both deliver, and a position, which is committed after the outlet has taken a batch, together with the rejected events
of what it refused. As the position is that of a durable consumer, the log keeps what is not delivered yet.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from enum import StrEnum
from typing import Any

import structlog

from penstock.errors import Fenced, PenstockError
from penstock.model.batch import RejectedEvent
from penstock.model.stream import StreamSpec
from penstock.model.task import delivery_name
from penstock.outlets.open import make_outlet, outlet_options
from penstock.outlets.options import OutletOptions
from penstock.ports.clock import Clock
from penstock.ports.log import Consumed, DeltaKind, Head, Log, StateDelta, Transaction
from penstock.ports.outlet import BatchRefused, OutBatch, Outlet, OutletUnavailable, Reached, RefusedRow
from penstock_processor.metrics import (
    DELIVERED_ROWS,
    DELIVERY_LAG_EVENTS,
    DELIVERY_LOST,
    DELIVERY_REJECTED_ROWS,
    DELIVERY_RETRIES,
    DELIVERY_SECONDS,
)
from penstock_processor.runtime.delivery_replays import DeliveryReplay, again, row_of
from penstock_processor.runtime.outgoing import lost_before, merged, refusals
from penstock_processor.runtime.rejections import ReplayItem
from penstock_processor.settings import ProcessorSettings

__all__ = ["Delivery", "DeliveryState"]

_BEGUN = "begun"  # state of the task: there, if the outlet was open once
_log = structlog.get_logger("penstock.processor")


class DeliveryState(StrEnum):
    """What a delivery is doing. WAITING: the other side, or the log, did not answer; it is asked again."""

    STARTING = "starting"
    RUNNING = "running"
    WAITING = "waiting"
    FENCED = "fenced"
    STOPPED = "stopped"


class Delivery:
    """One partition of one table. `run` once; `stop` from the same event loop."""

    def __init__(
        self, spec: StreamSpec, partition: int, *, sql: str, log: Log, clock: Clock, settings: ProcessorSettings,
        confirm: Callable[[], Awaitable[None]] | None = None,
    ) -> None:  # fmt: skip
        self.task = delivery_name(spec.app, spec.name, partition)
        self.stream, self.partition = spec.name, partition
        self.connector = spec.options["connector"]
        self.state, self.detail = DeliveryState.STARTING, "starting"
        self.guarantee = ""
        self.delivered = self.rejected = self.waiting = 0
        self._spec, self._sql = spec, sql
        self._log, self._clock, self._settings = log, clock, settings
        self._confirm = confirm
        self._stopping = asyncio.Event()
        self._labels = (spec.app, spec.name, self.connector)
        self._failures = 0  # in a row
        self._unanswered = 0  # of these, those of the other side
        self._expected: int | None = None  # the committed position
        self._term = self._next = self._epoch = self._tick = 0
        self._waiting_since_s: float | None = None
        self._commit_from_s = 0.0  # the log wants commits so far apart
        self._replays: deque[DeliveryReplay] = deque()
        self._asked = asyncio.Event()  # something was put into `_replays`
        self._cuts: set[int] = set()  # offsets at which batches end: as they did before, or refused as a whole

    async def run(self) -> None:
        """Deliver until `stop`; failures are retried and shown in `state`."""
        work = asyncio.create_task(self._terms(), name=f"delivery {self.task}")
        try:
            await self._unless_stopped(asyncio.shield(work))
            if not work.done():  # a batch may be on its way: it need not be delivered twice
                await asyncio.wait({work, asyncio.ensure_future(self._grace())}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
            self._refuse_replays()
            DELIVERY_LAG_EVENTS.remove(*self._labels, self.partition)
        if self.state is not DeliveryState.FENCED:
            self._enter(DeliveryState.STOPPED, "stopped")

    def stop(self) -> None:
        """Return from `run` after the batch that is on its way, or without it after `stop_grace_s`."""
        self._stopping.set()

    def as_json(self) -> dict[str, object]:
        """For statistics."""
        return {
            "stream": self.stream, "partition": self.partition, "connector": self.connector,
            "guarantee": self.guarantee, "state": self.state, "detail": self.detail, "delivered": self.delivered,
            "rejected": self.rejected, "waiting": self.waiting,
        }  # fmt: skip

    async def replay(self, items: Sequence[ReplayItem]) -> list[RejectedEvent]:
        """Deliver rejected rows anew, one by one; those that failed again. `not_ready` while nothing is delivered."""
        if self.state is not DeliveryState.RUNNING:
            raise self._away()
        if len(self._replays) >= self._settings.replay_queue:
            raise PenstockError("too_many_requests", "too many replays wait for this delivery", retry_after_s=1.0)
        request = DeliveryReplay(tuple(items), asyncio.get_running_loop().create_future())
        self._replays.append(request)
        self._asked.set()
        return await request.done

    def _away(self, why: str = "") -> PenstockError:
        detail = f"rows of '{self.stream}' are not delivered now ({why or self.detail}); try again later"
        return PenstockError("not_ready", detail, retry_after_s=self._settings.retry_min_s)

    async def _replay(self, request: DeliveryReplay, outlet: Outlet) -> None:
        failed: list[RejectedEvent] = []
        try:
            for item in request.items:
                failed += await self._replay_one(item, outlet)
        except BaseException as error:
            if not request.done.done():
                request.done.set_exception(self._away(str(error)))
            raise
        if not request.done.done():
            request.done.set_result(failed)

    async def _replay_one(self, item: ReplayItem, outlet: Outlet) -> list[RejectedEvent]:
        row = await asyncio.to_thread(row_of, item, self._spec, epoch=self._epoch, at=self._next)
        why: str | None = None
        if isinstance(row, str):
            why = row
        else:
            try:
                why = next((refused.detail for refused in await outlet.deliver(row)), None)
            except BatchRefused as error:
                why = error.detail
        rejected = again(item, why, now_ms=self._clock.now_ms(), detail_max_chars=self._settings.detail_max_chars)
        await self._log.commit(Transaction(self.task, self._term, rejected=rejected, replayed=[item.event.id]))
        return rejected

    def _refuse_replays(self) -> None:
        while self._replays:
            request = self._replays.popleft()
            if not request.done.done():
                request.done.set_exception(self._away())

    async def _grace(self) -> None:
        await self._clock.sleep(self._settings.delivery.stop_grace_s)

    async def _terms(self) -> None:
        while not self._stopping.is_set():
            try:
                await self._one_term()
            except Fenced as error:
                if self._confirm is None:
                    self._enter(DeliveryState.FENCED, error.detail)
                    return
                self._enter(DeliveryState.FENCED, f"{error.detail}; another replica delivers")
                self._refuse_replays()
                await self._unless_stopped(self._clock.sleep(self._settings.retry_min_s))
                await self._unless_stopped(self._confirm())
            except PenstockError as error:
                await self._wait(error.detail, code=error.code, least_s=error.retry_after_s or 0.0)
            except Exception as error:  # outermost loop of a delivery: whatever it was, the app and others go on
                _log.error("delivery_broke", task=self.task, exc_info=error)
                await self._wait(f"{type(error).__name__}: {error}", code="internal", least_s=0.0)

    async def _one_term(self) -> None:
        found = await self._log.acquire(self.task)
        if found.app.sql != self._sql:
            raise Fenced(f"version {found.app.version} of app '{self._spec.app}' is in force, with another text")
        self._term = found.term
        await self._take_up(found.positions.get((self.stream, self.partition)))
        options = await asyncio.to_thread(outlet_options, self._spec, secrets=self._settings.secrets_folder)
        outlet = make_outlet(self._spec, options, partition=self.partition, task=self.task)
        try:
            try:
                reached = await outlet.open()
            except OutletUnavailable as error:
                await self._give_up_unsent(error, options)
                raise
            self.guarantee = outlet.guarantee
            await self._begin(reached, begun=_BEGUN in found.deltas)
            while not self._stopping.is_set():
                await self._turn(outlet, options)
        finally:
            await outlet.close()

    async def _take_up(self, position: int | None) -> None:
        """Where the log says to go on. The first position is committed at once: the log keeps what follows it."""
        head = await self._log.head(self.stream, self.partition)
        self._epoch, self._expected = head.epoch, position
        self._next = head.first if position is None else position
        self._note_waiting(head)  # of an outage, too, in which no turn is begun
        if position is None:
            await self._commit(self._next, ())

    async def _begin(self, reached: Reached | None, *, begun: bool) -> None:
        """Go on behind what the other side has. `begun`: this log has delivered there before."""
        head = await self._log.head(self.stream, self.partition)
        if reached is not None and reached.epoch >= head.epoch:
            if not begun or reached.epoch > head.epoch or reached.next > head.next:
                raise OutletUnavailable(
                    f"'{self.stream}' was delivered there up to {reached.next} (epoch {reached.epoch}), by another "
                    f"log or by this one before it was restored: it is at {self._next} and ends at {head.next} "
                    f"(epoch {head.epoch}). Name another place, or clear what the other side keeps of it"
                )
            self._next = max(self._next, reached.next)
        if not begun or self._expected != self._next:
            await self._commit(self._next, (), begins=not begun)

    async def _turn(self, outlet: Outlet, options: OutletOptions) -> None:
        """One replay, one batch, or a wait for news."""
        if self._replays:
            await self._replay(self._replays.popleft(), outlet)
            return
        head = await self._log.head(self.stream, self.partition)
        if head.epoch != self._epoch:
            raise Fenced(f"'{self.stream}' was recreated")
        self._note_waiting(head)
        left_s = self._until_due_s(head, options)
        if left_s > 0:
            self._succeeded()
            await self._unless_stopped(self._news(left_s))
            return
        await self._rest()
        batch = await self._read(options)
        if batch is None:  # an end that is not known exactly before the stream is followed, as waiting does
            await self._unless_stopped(self._news(self._settings.wait_s))
            return
        await self._bring(batch, outlet, options)
        self._waiting_since_s = None

    async def _read(self, options: OutletOptions) -> OutBatch | None:
        """What comes next, if the log has it."""
        batches = await self._log.read(self.stream, self.partition, self._next, self._settings.delivery.read_bytes)
        if not batches:
            return None
        if lost := lost_before(batches, at=self._next):
            DELIVERY_LOST.labels(*self._labels).inc(lost)
            _log.warning("delivery_lost_events", task=self.task, events=lost)
        return await asyncio.to_thread(merged, batches, at=self._next, rows_max=options.max_rows)

    def _note_waiting(self, head: Head) -> None:
        self.waiting = head.next - self._next
        DELIVERY_LAG_EVENTS.labels(*self._labels, self.partition).set(self.waiting)

    async def _rest(self) -> None:
        """Until the log wants another commit; meanwhile the next batch grows."""
        left_s = self._commit_from_s - self._clock.monotonic_s()
        if left_s > 0:
            await asyncio.sleep(left_s)  # real time: what it spares is the log's, whatever the clock says

    def _until_due_s(self, head: Head, options: OutletOptions) -> float:
        """How long until what waits is delivered; the settings' `wait_s` if nothing does."""
        now_s = self._clock.monotonic_s()
        if not self.waiting:
            self._waiting_since_s = None
            return self._settings.wait_s
        if self._waiting_since_s is None:
            self._waiting_since_s = now_s
        if self.waiting >= options.max_rows:
            return 0.0
        return max(0.0, options.flush_interval_s - (now_s - self._waiting_since_s))

    async def _bring(self, batch: OutBatch, outlet: Outlet, options: OutletOptions) -> None:
        """Deliver a batch, in halves where it is refused as a whole; each part moves the position.

        What is brought again ends where it ended before: the other side may have it, and knows it by its positions.
        """
        while batch.count:
            part = batch.before(min(self._cuts, default=batch.next))
            self._cuts.add(part.next)
            started_s = self._clock.monotonic_s()
            try:
                refused = await outlet.deliver(part)
            except BatchRefused as error:
                if part.count > 1:  # where it is cut is remembered, so that an outage does not begin it anew
                    self._cuts.add(part.offsets[part.count // 2])
                    continue
                await self._taken(part, [RefusedRow(0, error.detail)])
            except OutletUnavailable as error:
                if options.max_retries is None or self._unanswered < options.max_retries:
                    raise
                await self._give_up(part, f"{error.detail}, after {self._unanswered} retries")
            else:
                DELIVERY_SECONDS.labels(*self._labels).observe(self._clock.monotonic_s() - started_s)
                await self._taken(part, refused)
            batch = batch.part(part.count, batch.count)
        if self._next < batch.next:
            await self._commit(batch.next, ())

    async def _taken(self, part: OutBatch, refused: Sequence[RefusedRow]) -> None:
        await self._commit(part.next, await self._rejected(part, refused, "delivery_refused"))
        taken = part.count - len(refused)
        self.delivered += taken
        DELIVERED_ROWS.labels(*self._labels).inc(taken)
        self._note_rejected(len(refused), "delivery_refused")
        self._succeeded()

    async def _give_up_unsent(self, error: OutletUnavailable, options: OutletOptions) -> None:
        """The next rows, after their retries, although the other side could not be asked whether it has them."""
        if options.max_retries is not None and self._unanswered >= options.max_retries:
            batch = await self._read(options)
            if batch is not None:
                await self._give_up(batch, f"{error.detail}, after {self._unanswered} retries")

    async def _give_up(self, part: OutBatch, detail: str) -> None:
        rows = [RefusedRow(row, detail) for row in range(part.count)]
        await self._commit(part.next, await self._rejected(part, rows, "delivery_failed"))
        self._note_rejected(part.count, "delivery_failed")
        self._succeeded()

    def _succeeded(self) -> None:
        """The outlet is there, or given up: the next failure is the first again."""
        self._failures = self._unanswered = 0
        if self.state is not DeliveryState.RUNNING:
            self._enter(DeliveryState.RUNNING, "running")

    async def _rejected(self, part: OutBatch, rows: Sequence[RefusedRow], code: str) -> Sequence[RejectedEvent]:
        if not rows:
            return ()
        return await asyncio.to_thread(
            refusals, part, rows, spec=self._spec, code=code, now_ms=self._clock.now_ms(),
            raw_max_bytes=self._settings.raw_max_bytes, detail_max_chars=self._settings.detail_max_chars,
        )  # fmt: skip

    def _note_rejected(self, rows: int, code: str) -> None:
        if rows:
            self.rejected += rows
            DELIVERY_REJECTED_ROWS.labels(*self._labels, code).inc(rows)

    async def _commit(self, after: int, rejected: Any, *, begins: bool = False) -> None:
        consumed = Consumed(self.stream, self.partition, self._expected, after)
        deltas = [StateDelta(_BEGUN, DeltaKind.REPLACE, b"")] if begins else []
        await self._log.commit(
            Transaction(self.task, self._term, consumed=[consumed], rejected=rejected, deltas=deltas)
        )
        self._commit_from_s = self._clock.monotonic_s() + self._log.capabilities.commit_interval_s
        self._expected = self._next = after
        self._cuts = {cut for cut in self._cuts if cut > after}

    async def _news(self, timeout_s: float) -> None:
        """Until the stream has news, what waits is due, or somebody asks for a replay."""
        news = asyncio.ensure_future(self._log.wait([self.stream], self._tick, self._settings.wait_s))
        asked = asyncio.ensure_future(self._asked.wait())
        ends: set[asyncio.Future[Any]] = {news, asked}
        if self.waiting:  # due by the clock; more of them may make them due earlier
            ends.add(asyncio.ensure_future(self._clock.sleep(min(timeout_s, self._settings.wait_s))))
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if news.done():
                self._tick = news.result()
        finally:
            for one in ends:
                one.cancel()
            await asyncio.gather(*ends, return_exceptions=True)
        self._asked.clear()

    async def _wait(self, detail: str, *, code: str, least_s: float) -> None:
        self._failures += 1
        self._unanswered += code == "outlet_unavailable"
        limits = self._settings.delivery
        own_s = limits.retry_min_s * 2 ** min(self._failures - 1, 30)
        wait_s = min(max(own_s, least_s), limits.retry_max_s)
        if self.state is not DeliveryState.WAITING:
            _log.warning("delivery_waits", task=self.task, code=code, detail=detail)
        self._enter(DeliveryState.WAITING, f"{detail} (next try in {wait_s:g} s)")
        self._refuse_replays()
        DELIVERY_RETRIES.labels(*self._labels).inc()
        await self._unless_stopped(self._clock.sleep(wait_s))

    async def _unless_stopped(self, work: Awaitable[None]) -> None:
        """Wait for it, but not when somebody asks to stop. Raises what it raised."""
        done = asyncio.ensure_future(work)
        stopped = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait({done, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if done.done():
                done.result()
        finally:
            for one in (done, stopped):
                one.cancel()
            await asyncio.gather(done, stopped, return_exceptions=True)

    def _enter(self, state: DeliveryState, detail: str) -> None:
        self.state, self.detail = state, detail
