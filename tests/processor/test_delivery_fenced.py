"""A delivery that another replica has overtaken, with replays that wait for it."""

from __future__ import annotations

import asyncio

from hook_receiver import receiver
from processor.delivery_rig import SOURCE, until

from penstock.errors import Fenced, PenstockError
from penstock.logs.memory import MemoryLog
from penstock.model.batch import RejectedEvent
from penstock.model.position import Position
from penstock.ports.clock import SystemClock
from penstock.ports.log import Transaction
from penstock_processor.logical.plan_app import plan_app
from penstock_processor.runtime.delivery import Delivery, DeliveryState
from penstock_processor.runtime.rejections import ReplayItem, replay_id
from penstock_processor.settings import ProcessorSettings


class OvertakenLog(MemoryLog):
    """Another replica has the term by the time of a replay's commit."""

    async def commit(self, transaction: Transaction) -> list[Position]:
        if transaction.replayed:
            raise Fenced("the test has taken it over")
        return await super().commit(transaction)


async def test_all_replays_that_wait_for_it_are_told_so():
    log = OvertakenLog(clock=SystemClock())
    async with receiver() as endpoint:
        options = f"'connector' = 'http', 'url' = '{endpoint.url}', 'format' = 'json'"
        sql = f"{SOURCE}CREATE TABLE alerts WITH ({options}) AS SELECT id FROM lots;"
        specs = [source.spec for source in plan_app("shop", sql).sources.values()]
        await log.put_app("shop", sql, specs, 0)
        (spec,) = (one for one in specs if one.name == "alerts")
        delivery = Delivery(
            spec, 0, sql=sql, log=log, clock=SystemClock(), settings=ProcessorSettings(), confirm=asyncio.Event().wait
        )
        running = asyncio.create_task(delivery.run())
        await until(lambda: delivery.state is DeliveryState.RUNNING)
        event = RejectedEvent("1", 0, "alerts", "shop", "alerts", "delivery_refused", "no", b'{"id":1}', (0, 0))
        item = ReplayItem(event, event.raw, replay_id(event.id))
        both = asyncio.gather(delivery.replay([item]), delivery.replay([item]), return_exceptions=True)
        told = await asyncio.wait_for(both, 10)
        assert [error.code for error in told if isinstance(error, PenstockError)] == ["not_ready"] * 2
        assert delivery.state is DeliveryState.FENCED
        delivery.stop()
        await running
