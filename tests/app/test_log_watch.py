"""The part `log` of /readyz: a log that answers, is full, hangs, comes back."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from penstock.errors import LogFull
from penstock.logs.memory import MemoryLog
from penstock.logs.metrics import AVAILABLE
from penstock.logs.settings import LogSettings
from penstock.logs.sqlite import SqliteLog
from penstock.ports.clock import SystemClock
from penstock.ports.log import Log
from penstock.testing.log_fixtures import APP, new_batch, source
from penstock_app.log_watch import LogWatch


class HangingLog(MemoryLog):
    """Does not answer while `hangs`."""

    hangs = False

    async def probe(self) -> None:
        if self.hangs:
            await asyncio.Event().wait()
        await super().probe()


@asynccontextmanager
async def watching(log: Log) -> AsyncIterator[LogWatch]:
    watch = LogWatch(log, clock=SystemClock(), interval_s=0.01, timeout_s=0.1)
    assert [(check.name, check.ok) for check in watch.ready()] == [("log", False)]
    stop = asyncio.Event()
    running = asyncio.create_task(watch.run(stop))
    yield watch
    stop.set()
    await running


async def shown(watch: LogWatch, ok: bool) -> str:
    async with asyncio.timeout(10):
        while watch.ready()[0].ok is not ok:  # noqa: ASYNC110  # the watch asks by the clock
            await asyncio.sleep(0.01)
    assert AVAILABLE._value.get() == ok
    return watch.ready()[0].detail


async def fill(log: Log) -> None:
    for _ in range(50):
        await log.append([new_batch("arrivals", 1, payload=os.urandom(20_000))])


async def test_a_log_that_does_not_answer_is_shown_until_it_does():
    log = HangingLog(clock=SystemClock())
    async with watching(log) as watch:
        await shown(watch, True)
        log.hangs = True
        assert "log_unavailable: the log (memory) has not answered for 0.1 s" in await shown(watch, False)
        log.hangs = False
        await shown(watch, True)


async def test_a_log_at_its_limit_is_shown_until_there_is_room(tmp_path: Path):
    limits = LogSettings(max_size_bytes=400_000, retention_s=0.001, checkpoint_pages=1)
    log = await SqliteLog.open(tmp_path, clock=SystemClock(), settings=limits)
    await log.put_app(APP, "", [source()], None)
    async with watching(log) as watch:
        await shown(watch, True)
        with pytest.raises(LogFull):
            await fill(log)
        assert "log_full: the log in" in await shown(watch, False)
        while await log.trim({}):
            pass
        await log.append([new_batch("arrivals", 1, payload=b"x")])
        await shown(watch, True)
    await log.close()
