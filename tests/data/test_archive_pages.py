"""`raw.<stream>` over archive and log: one answer, whatever lies where, also while events move between them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from data_harness import ARRIVALS, JAN_1_MS, Harness, ndjson
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.logs.memory import MemoryLog
from penstock.logs.settings import LogSettings
from penstock.ports.archive import archive_floors
from penstock.ports.clock import SystemClock
from penstock.stores.open import open_store
from penstock.testing.clock import ManualClock
from penstock.testing.store_contract import refused
from penstock_data.archive_folder import ArchiveFolder
from penstock_data.archiver import Archiver
from penstock_data.query import parse_page_query
from penstock_data.raw import raw_page
from penstock_data.raw_archive import Archive
from penstock_data.raw_columns import raw_columns
from penstock_data.settings import ArchiveSettings, QuerySettings

SPEC = replace(ARRIVALS, partitions=2)
HOUR_MS = 3_600_000
FILTERS: tuple[tuple[tuple[str, str], ...], ...] = (
    (),
    (("_id", "eq.e7"),),
    (("_key", "in.(m1,m2)"),),
    (("_key", "is.null"),),
    (("_time", f"gte.{JAN_1_MS + 5 * HOUR_MS}"),),
    (("_time", f"lt.{JAN_1_MS + 9 * HOUR_MS}"), ("_key", "not.eq.m1")),
    (("_received_at", "gte.2018-01-01T00:00:01Z"),),
    (("_received_at", "lte.2018-01-01T00:00:02Z"), ("tonnes", "gt.1")),
    (("_position", "gte.0:7"), ("_position", "lt.1:9")),
    (("_position", "in.(0:3,1:4)"),),
    (("ts", f"gt.{JAN_1_MS + 4 * HOUR_MS}"),),
    (("price", "lte.11.00"),),
    (("_body", "like.%e1%"),),
    (("market", "is.null"), ("tonnes", "is.null")),
)


def event(i: int) -> bytes:
    if i % 11 == 5:
        return b'{"note":"\xff","tonnes":null,"market":null}'
    when = JAN_1_MS + i * HOUR_MS
    return ndjson({"id": f"e{i}", "market": f"m{i % 3}", "tonnes": i / 4, "price": i, "ts": when, "more": "x" * i})


class World:
    """A log that forgets, an archiver, and pages over both."""

    def __init__(self, harness: Harness, folder: Path, *, archived: bool = True) -> None:
        self.clock = ManualClock()
        self.harness = harness
        harness.log = self.log = MemoryLog(clock=self.clock, settings=LogSettings(retention_s=1))
        self.archive = Archive(harness.store, ArchiveFolder(folder))
        limits = ArchiveSettings(file_age_s=0, file_max_rows=7, row_group_rows=64)
        self.archiver = Archiver(self.log, self.archive, clock=self.clock, settings=limits)
        self.shown = self.archive if archived else None
        self.sent = [0, 0]

    async def receive(self, partition: int, count: int) -> None:
        first = self.sent[partition]
        await self.harness.receive(SPEC, [event(i) for i in range(first, first + count)], partition=partition)
        self.sent[partition] += count
        await self.clock.advance(0.5)

    async def archive_some(self) -> None:
        await self.archiver.round()
        assert not self.archiver.trouble

    async def forget(self) -> None:
        """What is archived and old leaves the log."""
        await self.clock.advance(2)
        streams = (await self.log.catalog()).streams
        await self.log.trim(archive_floors(streams, await self.harness.store.archived()))

    async def page(self, pairs: Sequence[tuple[str, str]], **limits: int) -> tuple[list[dict[str, Any]], str | None]:
        bounds = QuerySettings(**limits)
        query = parse_page_query(pairs, raw_columns(SPEC), bounds)
        found = await raw_page(self.log, SPEC, query, bounds, archive=self.shown)
        return found.frame.to_dicts(), found.next

    async def walk(self, *pairs: tuple[str, str], **limits: int) -> list[dict[str, Any]]:
        rows, cursor = await self.page(pairs, **limits)
        for _ in range(10_000):
            if cursor is None:
                return rows
            more, cursor = await self.page([*pairs, ("cursor", cursor)], **limits)
            rows += more
        raise AssertionError("the pages do not end")


@pytest.fixture
async def world(harness: Harness, tmp_path: Path) -> World:
    made = World(harness, tmp_path / "archive")
    await harness.deploy(SPEC)
    await made.archive_some()  # claims
    return made


@pytest.mark.parametrize("direction", ["asc", "desc"])
async def test_every_filter_answers_alike_from_the_log_and_from_the_archive(world: World, direction: str) -> None:
    for partition, count in ((0, 9), (1, 4), (0, 8), (1, 14), (0, 5)):
        await world.receive(partition, count)
    order = ("order", f"_position.{direction}")
    bounds: list[dict[str, int]] = [{}, {"limit_default": 3}, {"scan_rows_max": 4, "archive_scan_rows_max": 5}]

    async def answers() -> list[list[dict[str, Any]]]:
        return [await world.walk(order, *where, **limits) for where in FILTERS for limits in bounds]

    world.shown = None
    from_log = await answers()
    assert [where for where, found in zip(FILTERS, from_log[:: len(bounds)], strict=True) if not found] == []
    world.shown = world.archive
    await world.archive_some()
    await world.forget()
    assert await answers() == from_log  # some of it in files only
    for _ in range(4):
        await world.archive_some()
    assert await answers() == from_log  # all of it in files, some of it in the log, too
    await world.forget()
    heads = [await world.log.head(SPEC.name, partition) for partition in range(2)]
    assert [head.first for head in heads] == world.sent  # all of it in files only
    assert await answers() == from_log


STEPS = st.lists(st.sampled_from(["receive 0", "receive 1", "archive", "forget", "page", "page"]), max_size=25)


@given(STEPS, st.sampled_from(["asc", "desc"]), st.integers(1, 9), st.sampled_from([(), (("tonnes", "gte.0"),)]))
@settings(deadline=None, max_examples=60)
def test_pages_neither_lose_nor_double_an_event_that_is_archived_between_them(
    steps: list[str], direction: str, limit: int, where: tuple[tuple[str, str], ...]
) -> None:
    asyncio.run(_walk_while_it_moves(steps, direction, limit, where))


async def _walk_while_it_moves(
    steps: list[str], direction: str, limit: int, where: tuple[tuple[str, str], ...]
) -> None:
    with TemporaryDirectory() as folder:
        store = open_store(f"sqlite:///{folder}", clock=SystemClock())
        harness = Harness(store, "")
        world = World(harness, Path(folder) / "archive")
        await harness.deploy(SPEC)
        await world.archive_some()
        await world.receive(0, 12)
        await world.receive(1, 10)
        expected = [row["_position"] for row in await world.walk(("order", f"_position.{direction}"), *where)]
        pairs = [("order", f"_position.{direction}"), ("limit", str(limit)), *where]
        found: list[str] = []
        cursor: str | None = ""
        for step in [*steps, *["page"] * 100]:
            if cursor is None:
                break
            if step == "page":
                rows, cursor = await world.page([*pairs, *([("cursor", cursor)] if cursor else [])])
                found += [row["_position"] for row in rows]
            elif step == "archive":
                await world.archive_some()
            elif step == "forget":
                await world.forget()
            else:
                await world.receive(int(step[-1]), 3)
        assert cursor is None
        assert len(set(found)) == len(found)
        known = set(expected)
        assert [position for position in found if position in known] == expected
        assert found == sorted(found, key=_place, reverse=direction == "desc")
        await store.close()


def _place(position: str) -> tuple[int, int]:
    partition, offset = position.split(":")
    return int(partition), int(offset)


async def test_a_page_goes_on_in_the_archive_when_the_log_lets_go_in_the_middle_of_it(world: World) -> None:
    """Between looking at the head of the log and reading from it, everything is archived and deleted."""
    for _ in range(3):
        await world.receive(0, 10)
    everything = [row["_position"] for row in await world.walk()]
    for direction in ("asc", "desc"):
        forgetful = Forgetful(world)
        bounds = QuerySettings()
        query = parse_page_query([("order", f"_position.{direction}")], raw_columns(SPEC), bounds)
        found = await raw_page(forgetful, SPEC, query, bounds, archive=world.archive)  # type: ignore[arg-type]  # a log but for its reads
        positions = found.frame["_position"].to_list()
        assert positions == (everything if direction == "asc" else everything[::-1])
        await world.receive(0, 10)
        everything = [row["_position"] for row in await world.walk()]


class Forgetful:
    """A log whose first read finds that what it was asked for is gone: archived and deleted just now."""

    def __init__(self, world: World) -> None:
        self._world, self._done = world, False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._world.log, name)

    async def read(self, *arguments: Any, **options: Any) -> Any:
        if not self._done:
            self._done = True
            for _ in range(6):
                await self._world.archive_some()
            await self._world.forget()
        return await self._world.log.read(*arguments, **options)


async def test_a_missing_file_is_named_with_what_to_do(world: World) -> None:
    await world.receive(0, 10)
    for _ in range(3):
        await world.archive_some()
    await world.forget()
    for name in list(world.archive.folder.names()):
        world.archive.folder.remove(name.path)
    with refused("archive_damaged"):
        await world.walk()


async def test_a_damaged_file_is_named_with_what_to_do(world: World) -> None:
    await world.receive(0, 10)
    for _ in range(3):
        await world.archive_some()
    await world.forget()
    for name in list(world.archive.folder.names()):
        await asyncio.to_thread((world.archive.folder.root / name.path).write_bytes, b"PAR1 no more")
    with refused("archive_damaged"):
        await world.walk()
    with refused("archive_damaged"):
        await world.walk(("tonnes", "gt.1"))


async def test_a_page_ends_when_its_time_is_over_and_the_next_goes_on(world: World) -> None:
    for _ in range(3):
        await world.receive(0, 10)
    for _ in range(6):
        await world.archive_some()
    ticks = iter(range(10**6))
    bounds = QuerySettings(time_s=2)
    found: list[str] = []
    cursor: list[tuple[str, str]] = []
    pages = 0
    while True:
        query = parse_page_query(cursor, raw_columns(SPEC), bounds)
        page = await raw_page(world.log, SPEC, query, bounds, archive=world.archive, now_s=lambda: float(next(ticks)))
        pages += 1
        found += page.frame["_position"].to_list()
        if page.next is None:
            break
        cursor = [("cursor", page.next)]
        assert pages < 1000
    assert found == [f"0:{i}" for i in range(30)]
    assert pages > 1
