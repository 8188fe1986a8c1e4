"""Trimming by the owner of a writing role: floors come from the store, and without them nothing is deleted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from data_harness import DAILY, LOTS, Harness, inserted

from penstock.errors import PenstockError
from penstock.logs.memory import MemoryLog
from penstock.logs.settings import LogSettings
from penstock.model.stream import Relation
from penstock.ports.archive import Archived
from penstock.ports.store import Applied
from penstock.stores.open import open_store
from penstock.testing.clock import ManualClock
from penstock_app.trimming import Trimming, floors_of

LOT = ("M", 1.0, None, 1, True, None, None)


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[Harness]:
    clock = ManualClock()
    store = await asyncio.to_thread(open_store, f"sqlite:///{tmp_path}", clock=clock)
    made = Harness(store, "")
    made.log = MemoryLog(clock=clock, settings=LogSettings(retention_s=10))
    yield made
    await store.close()


def test_floors_are_what_is_applied_of_this_epoch_and_nothing_holds_what_is_not_stored():
    source = replace(LOTS, name="source", relation=Relation.SOURCE)
    streams = {spec.name: spec for spec in (replace(LOTS, partitions=2), DAILY, source)}
    applied = {"lots": Applied(3, {0: 7}, None), "daily": Applied(1, {0: 9}, None)}
    epochs = {"lots": 3, "daily": 2, "source": 1}
    floors = floors_of(streams, epochs, applied, {})
    assert floors == {("lots", 0): 7, ("lots", 1): 0, ("daily", 0): 0}
    archived = {("source", 0): Archived(1, 40), ("lots", 0): Archived(3, 5), ("gone", 0): Archived(1, 1)}
    streams |= {name: replace(streams[name], archive=True) for name in ("source", "lots")}
    assert floors_of(streams, epochs, applied, archived) == floors | {("source", 0): 40, ("lots", 0): 5}
    released = {("source", 0): Archived(1, 40, holds=False)}
    assert ("source", 0) not in floors_of(streams, epochs, applied, released), "archiving was switched off"


async def test_what_is_not_applied_holds_the_log(harness: Harness):
    await harness.deploy(LOTS)
    role = harness.role()
    trimming = Trimming(harness.log, harness.store, clock=harness.log._clock, interval_s=60)
    await harness.derive(LOTS, inserted(LOT))
    await harness.log._clock.advance(60)
    assert await trimming.trim() == 0
    await harness.catch_up(role)
    assert await trimming.trim() == 1


async def test_without_the_store_nothing_is_deleted_and_the_next_round_tries_again(harness: Harness, tmp_path: Path):
    await harness.deploy(LOTS)
    await harness.derive(LOTS, inserted(LOT))
    clock = harness.log._clock
    elsewhere = tmp_path / "not made yet"
    store = await asyncio.to_thread(open_store, f"sqlite:///{elsewhere}", clock=clock, writable=False)
    trimming = Trimming(harness.log, store, clock=clock, interval_s=60)
    stop = asyncio.Event()
    running = asyncio.create_task(trimming.run(stop))
    for _ in range(3):
        await asyncio.sleep(0.02)
        await clock.advance(60)
    await asyncio.sleep(0.1)
    assert not running.done(), "a store that is away puts trimming off"
    assert (await harness.log.head("lots", 0)).first == 0
    with pytest.raises(PenstockError):
        await trimming.trim()
    stop.set()
    await asyncio.wait_for(running, 5)
    await store.close()
