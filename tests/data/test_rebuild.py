"""Rebuilding a stored relation beside the one in force: equal afterwards, answering meanwhile, and safe to kill."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from data_harness import DAILY, JAN_1_MS, LOTS, Harness, inserted

from penstock.errors import PenstockError
from penstock.logs.memory import MemoryLog
from penstock.logs.sqlite import SqliteLog
from penstock.model.batch import Op
from penstock.ports.clock import SystemClock
from penstock.stores.open import open_store
from penstock.testing.store_contract import refused
from penstock_data.archive_folder import ArchiveFolder
from penstock_data.rebuilder import Progress, Rebuilder
from penstock_data.settings import ApplierSettings
from penstock_data.verify import Verifier

KILLED = Path(__file__).with_name("rebuild_killed.py")
DAY_MS = 86_400_000


def lot(i: int) -> tuple[Any, ...]:
    return (f"m{i % 5}", i / 2, None, i, i % 2 == 0, None, None)


def day(i: int, tonnes: float, op: Op = Op.INSERT) -> tuple[Any, ...]:
    import datetime as dt

    start = dt.datetime(2018, 1, 1) + dt.timedelta(days=i % 9)
    return (f"s{i % 4}", start, tonnes, i, op, False)


async def filled(harness: Harness) -> Any:
    await harness.deploy(LOTS, DAILY)
    for i in range(30):
        await harness.derive(LOTS, inserted(lot(2 * i), lot(2 * i + 1)))
        op = Op.DELETE if i % 7 == 6 else Op.UPDATE_AFTER
        await harness.derive(DAILY, [day(i, float(i), op)], watermark_ms=JAN_1_MS + i)
    role = harness.role()
    await harness.catch_up(role)
    return role


def rebuilder(harness: Harness, **settings: Any) -> Rebuilder:
    limits = ApplierSettings(read_max_batches=3, pause_s=0.001, **settings)
    return Rebuilder(harness.log, harness.store, clock=SystemClock(), settings=limits)


async def rows(harness: Harness) -> list[tuple[Any, ...]]:
    return (await harness.store.snapshot("daily")).frame.rows()


async def agree(harness: Harness, tmp_path: Path) -> None:
    report = await Verifier(harness.log, harness.store, ArchiveFolder(tmp_path / "archive")).run()
    assert report.findings == []


async def test_a_rebuilt_relation_is_what_it_was(harness: Harness, tmp_path: Path) -> None:
    await filled(harness)
    before, applied = await rows(harness), await harness.store.applied("daily")
    for relation in ("daily", "lots", "daily"):
        progress = await rebuilder(harness).rebuild(relation)
        assert progress.done == progress.total > 0
    assert await rows(harness) == before
    assert await harness.store.applied("daily") == applied
    await agree(harness, tmp_path)


async def test_rows_that_went_wrong_are_found_and_put_right(harness: Harness, tmp_path: Path) -> None:
    await filled(harness)
    before = await rows(harness)
    await harness.store._write(
        "spoil", lambda c: c.execute(sa.text("UPDATE r_daily SET tonnes = -1 WHERE state = 's1'"))
    )
    await harness.store._write("spoil", lambda c: c.execute(sa.text("DELETE FROM r_lots WHERE _offset = 7")))
    report = await Verifier(harness.log, harness.store, ArchiveFolder(tmp_path)).run()
    assert {finding.place for finding in report.findings} == {"daily", "lots/0"}
    assert all("penstock rebuild" in finding.remedy for finding in report.findings)
    for relation in ("daily", "lots"):
        await rebuilder(harness).rebuild(relation)
    assert await rows(harness) == before
    await agree(harness, tmp_path)


async def test_queries_are_answered_and_changes_applied_while_a_rebuild_runs(
    harness: Harness, tmp_path: Path
) -> None:
    role = await filled(harness)
    stop = asyncio.Event()
    running = asyncio.create_task(role.run(stop))
    looks = 0

    async def look() -> None:
        nonlocal looks
        newest = -1
        while not stop.is_set():
            found = (await harness.store.snapshot("daily")).applied.next[0]
            assert found >= newest  # the switch never goes back
            newest = found
            looks += 1
            await asyncio.sleep(0)

    looking = asyncio.create_task(look())
    rebuilding = asyncio.create_task(rebuilder(harness).rebuild("daily"))
    for i in range(30, 90):
        await harness.derive(DAILY, [day(i, float(i), Op.UPDATE_AFTER)])
    await rebuilding
    await harness.derive(DAILY, [day(3, 1000.0, Op.UPDATE_AFTER)])
    while (await harness.store.snapshot("daily")).applied.next[0] < 91:
        assert not running.done() and not looking.done()
        await asyncio.sleep(0.01)
    stop.set()
    await asyncio.gather(running, looking)
    assert looks > 0
    await agree(harness, tmp_path)


async def test_a_rebuild_goes_on_where_a_killed_one_was(harness: Harness, tmp_path: Path) -> None:
    await filled(harness)
    seen: list[Progress] = []

    def stop_early(progress: Progress) -> None:
        seen.append(progress)
        raise KeyError("killed here")

    for _ in range(2):
        with suppress(KeyError):
            await rebuilder(harness).rebuild("lots", on_progress=stop_early)
    assert seen[1].done > seen[0].done > 0
    await agree(harness, tmp_path)  # the old table is in force
    await rebuilder(harness).rebuild("lots")
    await agree(harness, tmp_path)


async def test_a_store_ahead_of_a_restored_log_is_found_and_rebuilt(harness: Harness, tmp_path: Path) -> None:
    await filled(harness)
    harness.log = MemoryLog(clock=SystemClock())  # an older backup: it has less
    await harness.deploy(LOTS, DAILY)
    await harness.derive(LOTS, inserted(lot(0)))
    await harness.derive(DAILY, [day(0, 5.0)])
    role = harness.role()
    with refused("store_ahead"):
        await role.applier.round()
    report = await Verifier(harness.log, harness.store, ArchiveFolder(tmp_path)).run()
    assert {finding.code for finding in report.findings} == {"store_ahead"}
    for relation in ("lots", "daily"):
        await rebuilder(harness).rebuild(relation)
    await harness.catch_up(harness.role())
    assert [row[2] for row in await rows(harness)] == [5.0]
    await agree(harness, tmp_path)


async def test_what_the_log_no_longer_has_is_said_before_anything_is_done(harness: Harness) -> None:
    await filled(harness)
    harness.log._partition("lots", 0).head = type(await harness.log.head("lots", 0))(1, 10, 60, None)
    harness.log._partition("lots", 0).batches[:5] = []
    with pytest.raises(PenstockError, match=r"0:10.*--partial") as refusal:
        await rebuilder(harness).rebuild("lots")
    assert refusal.value.code == "conflict"
    await rebuilder(harness).rebuild("lots", partial=True)
    with refused("unknown_relation"):
        await rebuilder(harness).rebuild("nothing")


async def test_a_rebuild_killed_anywhere_leaves_a_table_that_agrees_with_the_log(tmp_path: Path) -> None:
    """SIGKILL of a real process at seeded moments, over and over, until one has come to its end."""
    log = await SqliteLog.open(tmp_path, clock=SystemClock())
    store = open_store(f"sqlite:///{tmp_path}", clock=SystemClock())
    harness = Harness(store, "")
    harness.log = log  # type: ignore[assignment]  # a log in files instead of memory
    await filled(harness)
    await store.close()
    chance = random.Random(20)
    kills = 0
    for attempt in range(6):
        steps = chance.randrange(1, 4) if attempt < 5 else 1000
        kills += await asyncio.to_thread(_killed_after, tmp_path, steps)
        reader = open_store(f"sqlite:///{tmp_path}", clock=SystemClock(), writable=False)
        report = await Verifier(log, reader, ArchiveFolder(tmp_path / "archive")).run()
        assert report.findings == []
        assert report.counts["rows compared"] > 60
        await reader.close()
    await log.close()
    assert kills >= 4


def _killed_after(folder: Path, steps: int) -> bool:
    """Run the rebuild of `lots` and kill it after so many lines; False if it came to its end before."""
    with subprocess.Popen([sys.executable, str(KILLED), str(folder)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for _ in range(steps):
            line = process.stdout.readline()
            if line in ("done\n", ""):
                assert line == "done\n"
                return False
        process.kill()
    return True
