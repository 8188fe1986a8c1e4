"""The log contract against a real Kafka broker, and what only Kafka has."""

from __future__ import annotations

from collections.abc import AsyncIterator
from itertools import count
from uuid import uuid4

import pytest
from kafka_broker import KafkaBroker

from penstock.logs.kafka import KafkaLog
from penstock.testing.clock import ManualClock
from penstock.testing.log_contract import ExpiringLogContract
from penstock.testing.log_fixtures import SETTINGS

_prefixes = (f"t{uuid4().hex[:6]}.{n}" for n in count())


@pytest.fixture
def url(kafka_broker: KafkaBroker) -> str:
    """A log of the test's own on the broker of the session."""
    return f"{kafka_broker.url}/{next(_prefixes)}"


class TestKafkaLog(ExpiringLogContract):
    @pytest.fixture
    async def log(self, clock: ManualClock, url: str) -> AsyncIterator[KafkaLog]:
        log = await KafkaLog.open(url, clock=clock, settings=SETTINGS)
        yield log
        await log.close()

    async def silence(self, clock: ManualClock, seconds: float) -> None:
        await clock.advance(seconds)
