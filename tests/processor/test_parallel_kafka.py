"""An app that two tasks share over a real Kafka broker gives what one task gives, also when tasks are killed."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import pytest
from kafka_broker import KafkaBroker
from processor.parallel_rig import Row, Tasks, same_rows, send
from processor.test_parallel_results import CLOCK, FAR_MS, WIDE, outcome, trades

from penstock.logs.memory import MemoryLog
from penstock.logs.open import open_log
from penstock.ports.log import Log
from penstock.role import Ports
from penstock.testing.access import OpenAccess
from penstock_processor.logical.plan_app import plan_app
from penstock_processor.logical.stages import task_plans
from penstock_processor.service import ProcessorRole, build
from penstock_processor.settings import ProcessorSettings


@pytest.mark.timeout(300)
async def test_two_tasks_over_kafka_give_what_one_gives(kafka_broker: KafkaBroker) -> None:
    events = trades(5, 600)
    memory = MemoryLog(clock=CLOCK)
    one: dict[str, list[Row]] = await outcome(memory, 1, events, random.Random(1), kills=0)
    log = await open_log(f"{kafka_broker.url}/parallel", roles=frozenset({"ingest", "processor"}), clock=CLOCK)
    try:
        two = await outcome(log, 2, events, random.Random(2), kills=4)
    finally:
        await log.close()
    same_rows(one, two)


@pytest.mark.timeout(300)
async def test_two_replicas_over_kafka_take_over_from_each_other(kafka_broker: KafkaBroker) -> None:
    events = trades(6, 300)
    one = await outcome(MemoryLog(clock=CLOCK), 1, events, random.Random(1), kills=0)
    sql = f"{WIDE}SET 'parallelism.default' = '2';"
    all_tasks = len(task_plans(plan_app("produce", sql)))
    url, both = f"{kafka_broker.url}/replicas", frozenset({"ingest", "processor"})
    first_log = await open_log(url, roles=both, clock=CLOCK)
    second_log = await open_log(url, roles=frozenset({"processor"}), clock=CLOCK)
    first, second = _role(first_log), _role(second_log)
    stops = [asyncio.Event(), asyncio.Event()]
    running = [asyncio.create_task(role.run(stop)) for role, stop in zip((first, second), stops, strict=True)]
    try:
        await _until(lambda: all(len(role.replica.members) == 2 for role in (first, second)))
        await first.deploy("produce", sql)
        await _until(lambda: _count(first) == _count(second) == all_tasks // 2)
        for at in range(0, 150, 50):
            await send(first_log, events[at : at + 50])
        stops[1].set()
        await running[1]
        await _until(lambda: _count(first) == all_tasks)
        await send(first_log, events[150:])
        tasks = Tasks(first_log, CLOCK, plan_app("produce", sql))
        await tasks.complete(FAR_MS)
        same_rows(one, await tasks.results())
    finally:
        for stop in stops:
            stop.set()
        await asyncio.gather(*running)
        await first_log.close()
        await second_log.close()


def _role(log: Log) -> ProcessorRole:
    # The store is not a port that this role uses.
    ports = Ports(log=log, store=None, clock=CLOCK, access=OpenAccess())  # type: ignore[arg-type]  # see above
    return build(ProcessorSettings(wait_s=0.5), ports)


def _count(role: ProcessorRole) -> int:
    app = role.runner("produce")
    return 0 if app is None else sum(task["state"] == "running" for task in app.tasks_json())


async def _until(condition: Callable[[], bool]) -> None:
    for _ in range(1200):
        if condition():
            return
        await asyncio.sleep(0.05)
    raise AssertionError("it did not happen")
