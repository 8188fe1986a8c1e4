"""Meters in use: whose is whose, the clock, and the connections that wait because their application must.

A client that is no application and has no limit has no meter: nothing of this is asked for it. A pause belongs to the
application: all its connections wait, and one look at the time wakes them all.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from itertools import count

from penstock.http.access import Principal
from penstock.ports.clock import Clock
from penstock_publish.metrics import QUOTA_CLOSED, QUOTA_CONNECTIONS, QUOTA_PAUSES, QUOTA_REFUSED
from penstock_publish.plans.fields import QuotaExceeded
from penstock_publish.plans.meter import Counts, Hold, Meter
from penstock_publish.plans.settings import Plan, PlanSettings

__all__ = ["APPLICATION_PREFIX", "Flow", "Metering"]

#: What the ids of applications begin with: one that was registered elsewhere a moment ago is metered from the start.
APPLICATION_PREFIX = "app-"


class Metering:
    """The meters of one process."""

    def __init__(self, settings: PlanSettings, clock: Clock, *, spread: Callable[[], float] = random.random) -> None:
        """`spread` gives numbers from 0 to 1."""
        self.settings = settings
        self._spread = spread
        self._turns = count(1)
        self._clock = clock
        self._plans = settings.plans
        self._meters: dict[str, Meter] = {}
        self._assigned: dict[str, str] = dict(settings.clients)  # client → name of its plan
        self._default_is_free = self._plans[settings.default] == Plan()
        self._remembered: tuple[int, Mapping[str, Counts]] = (-1, {})
        self._waiting: dict[Meter, dict[Flow, None]] = {}
        self._waker: asyncio.Task[None] | None = None

    @property
    def plans(self) -> Mapping[str, Plan]:
        """All plans by name."""
        return self._plans

    @property
    def meters(self) -> list[Meter]:
        """Those in use."""
        return list(self._meters.values())

    def unrecorded_of(self, client_id: str) -> Mapping[int, Counts]:
        """What was counted of a client by day and is not recorded yet."""
        meter = self._meters.get(client_id)
        return {} if meter is None else meter.unrecorded()

    def turn(self) -> int:
        """A number for each flush, to tell who was served longest ago."""
        return next(self._turns)

    def retry_ms(self, hold: Hold) -> int:
        """When a connection that was closed for today may come back: not all of them at midnight."""
        return round((hold.wait_s + self._spread() * self.settings.midnight_spread_s) * 1000)

    def now_s(self) -> float:
        """Epoch seconds."""
        return self._clock.now_ms() / 1000

    def of(self, principal: Principal) -> Meter | None:
        """The meter of the caller's application; None: nothing is measured."""
        client_id = principal.client_id
        meter = self._meters.get(client_id)
        if meter is None and (client_id in self._assigned or self._measured(client_id)):
            meter = self._new_meter(client_id)
        return meter

    def assign(self, client_id: str, plan_name: str) -> None:
        """The plan of an application, from now on and for what is open. An unknown one counts as the default."""
        if plan_name not in self._plans:
            plan_name = self.settings.application
        self._assigned[client_id] = plan_name
        meter = self._meters.get(client_id)
        if meter is not None and (meter.plan_name, meter.plan) != (plan_name, self._plans[plan_name]):
            QUOTA_CONNECTIONS.labels(meter.plan_name).dec(meter.connections)
            QUOTA_CONNECTIONS.labels(plan_name).inc(meter.connections)
            meter.change(plan_name, self._plans[plan_name], self.now_s())

    def forget(self, client_id: str) -> None:
        """An application that is gone: its tokens are refused elsewhere, its meter ends with what is open."""
        self._assigned.pop(client_id, None)
        meter = self._meters.get(client_id)
        if meter is not None and meter.connections == 0:
            del self._meters[client_id]

    def remember(self, day: int, totals: Mapping[str, Counts]) -> None:
        """What was recorded of that day before this process began."""
        self._remembered = (day, totals)
        for meter in self._meters.values():
            meter.recorded(day, totals.get(meter.client_id, Counts()))

    def check_connection(self, principal: Principal) -> None:
        """`quota_exceeded` if the caller may not open another connection; to be asked before the handshake."""
        meter = self.of(principal)
        if meter is not None and (hold := meter.room(self.now_s())) is not None:
            raise self.refusal(meter, hold)

    def refusal(self, meter: Meter, hold: Hold) -> QuotaExceeded:
        """The error for who is over a limit, counted."""
        QUOTA_REFUSED.labels(meter.plan_name, hold.limit).inc()
        return QuotaExceeded(hold, meter.plan_name)

    def open(self, principal: Principal) -> Flow | None:
        """Count a connection of the caller, to be closed; None: nothing is measured.

        `quota_exceeded` where another one took the last place since `check_connection`.
        """
        meter = self.of(principal)
        if meter is None:
            return None
        if (hold := meter.open_connection(self.now_s())) is not None:
            raise self.refusal(meter, hold)
        QUOTA_CONNECTIONS.labels(meter.plan_name).inc()
        return Flow(self, meter)

    def wait(self, flow: Flow, hold: Hold) -> None:
        """Wake the connection when its application may go on."""
        QUOTA_PAUSES.labels(flow.meter.plan_name, hold.limit).inc()
        self._waiting.setdefault(flow.meter, {})[flow] = None
        if self._waker is None:
            self._waker = asyncio.create_task(self._wake_in_time())

    def leave(self, flow: Flow) -> None:
        """The connection is gone."""
        flow.meter.close_connection()
        QUOTA_CONNECTIONS.labels(flow.meter.plan_name).dec()
        self._stop_waiting(flow)

    async def close(self) -> None:
        """Wake nobody any more."""
        if self._waker is not None:
            self._waker.cancel()
            await asyncio.gather(self._waker, return_exceptions=True)

    def _measured(self, client_id: str) -> bool:
        return not self._default_is_free or client_id.startswith(APPLICATION_PREFIX)

    def _new_meter(self, client_id: str) -> Meter:
        while len(self._meters) >= self.settings.clients_max:
            idle = next((known for known, meter in self._meters.items() if meter.idle), None)
            if idle is None:
                break
            del self._meters[idle]
        other = self.settings.application if client_id.startswith(APPLICATION_PREFIX) else self.settings.default
        plan_name = self._assigned.get(client_id, other)
        meter = self._meters[client_id] = Meter(client_id, plan_name, self._plans[plan_name], self.now_s())
        day, totals = self._remembered
        meter.recorded(day, totals.get(client_id, Counts()))
        return meter

    async def _wake_in_time(self) -> None:
        while self._waiting:
            await self._clock.sleep(self.settings.pause_poll_s)
            now_s = self.now_s()
            for meter in list(self._waiting):
                await self._wake(meter, now_s)
        self._waker = None

    async def _wake(self, meter: Meter, now_s: float) -> None:
        """Wake those of an application for whom there is something, who was served longest ago first."""
        for flow in sorted(self._waiting.get(meter, ()), key=lambda flow: flow.served):
            hold = meter.hold(now_s)
            if hold is not None and not hold.for_today:
                return
            if self._stop_waiting(flow):  # else it has gone meanwhile
                flow.resume()
                await asyncio.sleep(0)  # one that replays writes in a task of its own: before the next one is asked

    def _stop_waiting(self, flow: Flow) -> bool:
        waiting = self._waiting.get(flow.meter, {})
        found = flow in waiting
        waiting.pop(flow, None)
        if not waiting:
            self._waiting.pop(flow.meter, None)
        return found


class Flow:
    """What one connection is sent, held against its application's plan."""

    __slots__ = ("_going", "_metering", "_paused", "flush_bytes_max", "meter", "rows_max", "served", "wake")

    def __init__(self, metering: Metering, meter: Meter) -> None:
        self._metering = metering
        self._paused = False
        self.wake: Callable[[], None] | None = None  # called when it may go on
        self._going: asyncio.Event | None = None
        self.meter = meter
        self.served = 0  # which of all flushes was the last one of this connection
        self.flush_bytes_max = metering.settings.flush_bytes_max
        self.rows_max = metering.settings.replay_rows_max

    @property
    def paused(self) -> bool:
        """True until it is woken."""
        return self._paused

    def sent(self, events: int, size_bytes: int) -> None:
        """Count what was written."""
        self.served = self._metering.turn()
        self.meter.count_delivery(events, size_bytes, self._metering.now_s())

    def pause(self) -> Hold | None:
        """Why the connection must wait, said once a pause; None: go on. `for_today`: it is to be closed."""
        hold = self.meter.hold(self._metering.now_s())
        if hold is None:
            return None
        if hold.for_today:
            QUOTA_CLOSED.labels(self.meter.plan_name, hold.limit).inc()
            return hold
        self._paused = True
        self._metering.wait(self, hold)
        return hold

    def retry_ms(self, hold: Hold) -> int:
        """See `Metering.retry_ms`."""
        return self._metering.retry_ms(hold)

    def resume(self) -> None:
        """Go on; whether that is right is found out at the next look."""
        self._paused = False
        if self._going is not None:
            self._going.set()
        if self.wake is not None:
            self.wake()

    async def resumed(self) -> None:
        """Wait until it is woken."""
        if self._going is None:
            self._going = asyncio.Event()
        while self._paused:
            self._going.clear()
            await self._going.wait()

    def close(self) -> None:
        """The connection is gone."""
        self._metering.leave(self)
