"""An app that two tasks share over a real Kafka broker gives what one task gives, also when tasks are killed."""

from __future__ import annotations

import random

import pytest
from kafka_broker import KafkaBroker
from processor.parallel_rig import Row, same_rows
from processor.test_parallel_results import CLOCK, outcome, trades

from penstock.logs.memory import MemoryLog
from penstock.logs.open import open_log


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
