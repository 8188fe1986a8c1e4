"""App files are deployed once the log can take them: a broker that has just started cannot yet."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from penstock.errors import LogUnavailable
from penstock.logs.memory import MemoryLog
from penstock.model.stream import StreamSpec
from penstock.ports.log import AppRecord
from penstock.role import Ports
from penstock.stores.open import open_store
from penstock.testing.access import OpenAccess
from penstock.testing.clock import ManualClock
from penstock_app.appfiles import AppFile
from penstock_app.launch import Launch, deploy_when_possible
from penstock_app.settings import load_settings
from penstock_processor.service import ProcessorRole, build
from penstock_processor.settings import ProcessorSettings

APP = Path(__file__).resolve().parents[2] / "examples" / "earthquakes" / "app.sql"


class LateLog(MemoryLog):
    """Takes no app for the first times."""

    refusals = 2

    async def put_app(
        self, app: str, sql: str, streams: Sequence[StreamSpec], expected_version: int | None
    ) -> AppRecord:
        if self.refusals > 0:
            self.refusals -= 1
            raise LogUnavailable("not coordinator")
        return await super().put_app(app, sql, streams, expected_version)


async def start(
    folder: Path, *, failure: str | None = None
) -> tuple[asyncio.Task[None], ManualClock, LateLog, ProcessorRole]:
    clock = ManualClock()
    log = LateLog(clock=clock)
    store = await asyncio.to_thread(open_store, f"sqlite:///{folder}", clock=clock)
    processor = build(ProcessorSettings(), Ports(log=log, store=store, clock=clock, access=OpenAccess()))
    await store.close()  # deploying needs none
    launch = Launch(load_settings(None, {"data": folder}), clock, [AppFile("earthquakes", APP)])
    deploying = deploy_when_possible(processor, launch, stop=asyncio.Event(), log_failure=lambda: failure)
    return asyncio.create_task(deploying), clock, log, processor


async def test_it_is_tried_again_until_the_log_takes_it(tmp_path: Path):
    deploying, clock, log, processor = await start(tmp_path)
    while not deploying.done():
        await clock.advance(1)
        await asyncio.sleep(0.01)
    await deploying
    assert log.refusals == 0
    assert [record.name for record in await processor.apps()] == ["earthquakes"]


async def test_a_log_that_has_failed_for_good_ends_the_start(tmp_path: Path):
    deploying, _, log, _ = await start(tmp_path, failure="sync failed")
    with pytest.raises(LogUnavailable):
        await deploying
    assert log.refusals == 1
