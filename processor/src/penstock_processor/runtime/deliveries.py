"""What of an app is delivered to systems of others, and which of it runs on this replica."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from penstock.errors import PenstockError
from penstock.model.batch import RejectedEvent
from penstock.model.stream import StreamSpec
from penstock.outlets.open import has_outlet
from penstock_processor.logical.plan import AppPlan
from penstock_processor.runtime.delivery import Delivery
from penstock_processor.runtime.rejections import ReplayItem

__all__ = ["Deliveries", "MakeDelivery"]

#: A delivery of one partition of this table, of the app with this text.
MakeDelivery = Callable[[StreamSpec, int, str], Delivery]


@dataclass(slots=True)
class _Running:
    """A delivery and what drives it."""

    delivery: Delivery
    task: asyncio.Task[None]


class Deliveries:
    """Of one version of an app. A partition is delivered where the tasks of that partition run."""

    def __init__(self, plan: AppPlan) -> None:
        self._sql, self._parallelism = plan.sql, plan.parallelism
        self._specs = [
            source.spec
            for source in plan.sources.values()
            if source.spec.app == plan.name and has_outlet(source.spec)
        ]
        self._running: dict[tuple[str, int], _Running] = {}

    @property
    def here(self) -> list[Delivery]:
        """Those that run on this replica, by table and partition."""
        return [running.delivery for _, running in sorted(self._running.items())]

    async def replay(self, items: Sequence[ReplayItem]) -> list[RejectedEvent]:
        """Deliver rejected rows anew where their partitions are delivered; those that failed again.

        `conflict` if a table is not delivered any more, `not_ready` if a partition is not delivered here or now.
        """
        by_place: dict[tuple[str, int], list[ReplayItem]] = {}
        for item in items:
            place = item.event.stream, item.event.position[0] if item.event.position else 0
            by_place.setdefault(place, []).append(item)
        for stream, number in by_place:
            if stream not in {spec.name for spec in self._specs}:
                raise PenstockError("conflict", f"'{stream}' is no longer delivered to a system of others")
            if (stream, number) not in self._running:
                raise PenstockError(
                    "not_ready",
                    f"partition {number} of '{stream}' is delivered by another replica; repeat the request until it "
                    "reaches that one",
                    retry_after_s=0.5,
                )
        failed: list[RejectedEvent] = []
        for place, own in by_place.items():
            failed += await self._running[place].delivery.replay(own)
        return failed

    async def run_only(self, partitions: Collection[int], make: MakeDelivery) -> None:
        """Run the deliveries of these partitions of the app and no others."""
        wanted = {
            (spec.name, number): spec
            for spec in self._specs
            for number in range(spec.partitions)
            if number % self._parallelism in partitions
        }
        await self._stop([key for key in self._running if key not in wanted])
        for key, spec in wanted.items():
            if key not in self._running:
                delivery = make(spec, key[1], self._sql)
                self._running[key] = _Running(delivery, asyncio.create_task(delivery.run()))

    async def stop(self) -> None:
        """End all; a batch on its way gets its time."""
        await self._stop(list(self._running))

    async def _stop(self, keys: list[tuple[str, int]]) -> None:
        leaving = [self._running.pop(key) for key in keys]
        for running in leaving:
            running.delivery.stop()
        if leaving:
            await asyncio.wait([running.task for running in leaving])
