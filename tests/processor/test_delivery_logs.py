"""Deliveries over every log that keeps what it has: their positions hold it, survive restarts and go with the app."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from uuid import uuid4

import pytest
from processor.delivery_rig import SOURCE, processor, until

from penstock.logs.open import open_log
from penstock.logs.settings import LogSettings
from penstock.ports.clock import SystemClock
from penstock.ports.log import Log
from penstock_processor.runtime.delivery import DeliveryState

_prefixes = (f"d{uuid4().hex[:6]}.{n}" for n in count())
APP = """CREATE TABLE cheap WITH ('connector' = 'file', 'path' = '{path}', 'format' = 'json',
  'sink.rolling-policy.rollover-interval' = '0 s') AS SELECT id FROM lots WHERE price < 100;
"""


@pytest.fixture(params=["sqlite", "postgres", "kafka"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'log'}"
    if request.param == "postgres":
        return str(request.getfixturevalue("postgres_url"))
    return f"{request.getfixturevalue('kafka_broker').url}/{next(_prefixes)}"


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Log]:
    roles = frozenset({"ingest", "processor"})
    settings = LogSettings() if url.startswith("kafka") else LogSettings(retention_s=0.001)  # brokers delete unasked
    log = await open_log(url, roles=roles, clock=SystemClock(), settings=settings)
    try:
        yield log
    finally:
        await log.close()


def lots(first: int, number: int) -> list[dict[str, object]]:
    return [{"id": n, "market": "m", "price": 1.0} for n in range(first, first + number)]


def delivered(path: Path) -> list[int]:
    return [
        json.loads(line)["id"] for file in sorted(path.glob("*.ndjson")) for line in file.read_text().splitlines()
    ]


async def test_a_restart_goes_on_and_a_removed_app_begins_anew(url: str, tmp_path: Path):
    path = tmp_path / "out"
    for first in (0, 5):
        async with opened(url) as log, processor(SOURCE + APP.format(path=path), log) as rig:
            await rig.send(lots(first, 5))
            await until(lambda: delivered(path) == list(range(first + 5)))  # noqa: B023 # awaited here
            await rig.caught_up("cheap")
            await until(lambda: rig.delivery.delivered == 5)  # counted after the commit
            if first:
                await rig.role.remove("shop")
                assert await log.positions("shop#cheap.0") == {}
    async with opened(url) as log, processor(SOURCE + APP.format(path=path), log) as rig:
        await rig.send(lots(10, 3))
        await until(lambda: delivered(path) == list(range(13)))


async def test_what_is_not_delivered_is_kept_by_logs_that_hold_what_is_needed(url: str, tmp_path: Path):
    blocked = tmp_path / "out"
    blocked.write_text("no folder")
    async with opened(url) as log, processor(SOURCE + APP.format(path=blocked), log) as rig:
        deliveries = rig.role.replica.apps["shop"].deliveries
        await until(lambda: [one.state for one in deliveries.here] == [DeliveryState.WAITING])
        await rig.send(lots(0, 5))
        for _ in range(1000):
            if (await log.head("cheap", 0)).next:
                break
            await SystemClock().sleep(0.005)
        if log.capabilities.retention_holds:
            await SystemClock().sleep(0.01)
            assert await log.trim({}) == 5  # of the source
        blocked.unlink()
        await until(lambda: blocked.is_dir() and delivered(blocked) == list(range(5)))
