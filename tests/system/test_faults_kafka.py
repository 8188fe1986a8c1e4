"""Four processes over Kafka while the broker stands still: what they say, what they refuse, and that they go on."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fault_app import Readings, metric, not_ok, write_app
from kafka_broker import KafkaBroker
from penstock_process import eventually
from penstock_services import PenstockServices

STANDS_STILL_S = 6.0
LIMITS = {"PENSTOCK_LOG__KAFKA__TIMEOUT_S": "3", "PENSTOCK_LOG_WATCH_TIMEOUT_S": "1"}


@pytest.fixture
def broker(need, tmp_path: Path) -> Iterator[KafkaBroker]:
    missing = KafkaBroker.missing()
    need("kafka", missing is None, missing or "")
    made = KafkaBroker(tmp_path / "kafka")
    made.start()
    yield made
    made.stop()


@pytest.mark.timeout(400)
def test_a_broker_that_stands_still_is_named_and_nothing_is_lost_or_doubled(broker: KafkaBroker, tmp_path: Path):
    assert broker.process is not None
    with PenstockServices(tmp_path / "data", write_app(tmp_path / "app"), log=broker.url, env=LIMITS) as services:
        readings = Readings(services)
        assert readings.send(30).status == 200
        readings.arrived_once()
        os.kill(broker.process.pid, signal.SIGSTOP)
        try:
            until_s = time.monotonic() + STANDS_STILL_S
            for role in ("ingest", "processor", "data"):
                found = eventually(lambda role=role: not_ok(services.of(role), "log"))
                assert found.startswith("log_unavailable: ")
                assert metric(services.of(role), "penstock_log_available") == 0.0
            reply = readings.send(10)
            assert reply is None or reply.status == 503
            time.sleep(max(0.0, until_s - time.monotonic()))
        finally:
            os.kill(broker.process.pid, signal.SIGCONT)
        readings.send_again()
        readings.arrived_once()
        for role in ("ingest", "processor", "data"):
            eventually(lambda role=role: services.of(role).ready()[0], 60)
