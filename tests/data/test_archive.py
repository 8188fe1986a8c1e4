"""The archiver: what the log has goes into files, whole and once, before the log may let go of it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
from data_harness import ARRIVALS, JAN_1_MS, LOTS, Harness, ndjson

from penstock.logs.memory import MemoryLog
from penstock.logs.settings import LogSettings
from penstock.ports.archive import ArchiveRange, archive_floors
from penstock.ports.clock import SystemClock
from penstock.stores.open import open_store
from penstock.testing.clock import ManualClock
from penstock.testing.store_contract import refused
from penstock_data.archive_folder import MARK_FILE, ArchiveFolder, FileName, file_sha256
from penstock_data.archive_frames import body_bytes
from penstock_data.archive_plan import Backlog, is_due, is_mine
from penstock_data.archiver import Archiver
from penstock_data.raw_archive import Archive
from penstock_data.settings import ArchiveSettings

AT_ONCE = ArchiveSettings(file_age_s=0, leftover_age_s=0, cleanup_interval_s=0.0001, member_ttl_s=0.0001)


def archiver(harness: Any, folder: Path, **settings: Any) -> Archiver:
    archive = Archive(harness.store, ArchiveFolder(folder))
    return Archiver(harness.log, archive, clock=SystemClock(), settings=AT_ONCE.model_copy(update=settings))


async def work_off(*archivers: Archiver) -> None:
    """Rounds until nothing is due any more; the first one only claims."""
    for one in archivers:
        await one.round()
    while any([await one.round() for one in archivers]):
        pass


async def files_of(harness: Any, spec: Any = ARRIVALS, partition: int = 0) -> Sequence[Any]:
    return await harness.store.archive_files(ArchiveRange(spec.name, partition, 0, 2**62, limit=10_000))


def event(i: int) -> bytes:
    return ndjson({"id": f"e{i}", "market": f"m{i % 3}", "price": i, "ts": JAN_1_MS + i})


async def test_a_file_holds_the_events_as_they_were_received(harness: Harness, tmp_path: Path) -> None:
    bodies = [
        b'{"id":"a", "market":"M\xc3\xa4rkt","price":12.50,"ts":"2018-01-01T00:00","more":[1, 2]}',
        b'{"id":7,"market":null,"ts":1514764800001,"price":1,"price":2}',
        b'{"ts":"2018-01-01 05:30:00+05:30","note":"\xff\xfe"}',
    ]
    await harness.deploy(ARRIVALS)
    await harness.receive(ARRIVALS, bodies[:1])
    await harness.receive(ARRIVALS, bodies[1:])
    await work_off(archiver(harness, tmp_path / "archive"))
    (file,) = await files_of(harness)
    frame = pl.read_parquet(tmp_path / "archive" / file.path)
    assert body_bytes(frame) == bodies
    assert frame["_position"].to_list() == [0, 1, 2]
    assert frame["_id"].to_list() == ["a", "7", None]
    assert frame["_key"].to_list() == ["Märkt", None, None]
    assert frame["_time"].dt.epoch("ms").to_list() == [JAN_1_MS, JAN_1_MS + 1, JAN_1_MS]
    assert frame["_body_bytes"].to_list() == [None, None, bodies[2]]
    assert set(frame["_epoch"]) == {1} and set(frame["_partition"]) == {0}
    assert (file.first, file.next, file.rows) == (0, 3, 3)
    assert (file.min_time_ms, file.max_time_ms) == (JAN_1_MS, JAN_1_MS + 1)
    assert file.sha256 == file_sha256(tmp_path / "archive" / file.path)
    assert file.size_bytes == (tmp_path / "archive" / file.path).stat().st_size


async def test_files_follow_each_other_without_gap_or_overlap(harness: Harness, tmp_path: Path) -> None:
    spec = replace(ARRIVALS, partitions=3)
    await harness.deploy(spec, LOTS)
    for first in range(0, 300, 10):
        await harness.receive(spec, [event(i) for i in range(first, first + 10)], partition=first // 10 % 3)
    await work_off(archiver(harness, tmp_path, file_max_rows=25))
    for partition in range(3):
        files = await files_of(harness, spec, partition)
        assert [file.first for file in files] == [0, *[file.next for file in files[:-1]]]
        assert files[-1].next == 100
        assert len(files) > 1
        found = pl.concat([pl.read_parquet(tmp_path / file.path) for file in files])
        assert found["_position"].to_list() == list(range(100))


async def test_two_archivers_write_every_event_once(harness: Harness, tmp_path: Path) -> None:
    await harness.deploy(ARRIVALS)
    first = archiver(harness, tmp_path, file_max_rows=20)
    second = archiver(harness, tmp_path, file_max_rows=20)
    other_log = LoneMembers(harness.log)  # each believes that it is alone: the catalogue must keep them apart
    first._log = second._log = other_log  # type: ignore[assignment]  # the same log, but for its members
    await first.round()
    await second.round()
    for start in range(0, 400, 10):
        await harness.receive(ARRIVALS, [event(i) for i in range(start, start + 10)])
        await asyncio.gather(first.round(), second.round())
    await work_off(first, second)
    files = await files_of(harness)
    found = pl.concat([pl.read_parquet(tmp_path / file.path) for file in files])
    assert found["_position"].to_list() == list(range(400))
    assert not first.trouble and not second.trouble
    await asyncio.gather(first.round(), second.round())  # cleans up what the slower one wrote
    assert {name.path for name in ArchiveFolder(tmp_path).names()} == {file.path for file in files}


async def test_archivers_share_the_partitions(harness: Harness) -> None:
    members = ["a", "b", "c"]
    shares = {m: [p for p in range(30) if is_mine("arrivals", p, member=m, members=members)] for m in members}
    assert sorted(p for share in shares.values() for p in share) == list(range(30))
    assert all(shares.values())
    assert is_mine("arrivals", 1, member="unheard", members=members)


def test_a_file_is_due_when_it_would_be_whole_or_its_oldest_event_has_waited() -> None:
    settings = ArchiveSettings(file_max_rows=100, file_max_bytes=10_240, file_age_s=60)
    kept = replace(ARRIVALS, retention_s=40)
    for backlog, spec, now_ms, due in (
        (Backlog(0, 0, 1), ARRIVALS, 10**9, False),
        (Backlog(99, 0, 1), ARRIVALS, 59_999, False),
        (Backlog(99, 0, 1), ARRIVALS, 60_000, True),
        (Backlog(100, 0, 1), ARRIVALS, 0, True),
        (Backlog(50, 0, 205), ARRIVALS, 0, True),
        (Backlog(1, 0, 1), kept, 10_000, True),  # a quarter of the retention
        (Backlog(1, 0, 1), kept, 9_999, False),
    ):
        assert is_due(backlog, spec, now_ms=now_ms, settings=settings) is due


async def test_the_log_keeps_what_is_not_archived_yet(harness: Harness, tmp_path: Path) -> None:
    clock = ManualClock()
    log = harness.log = MemoryLog(clock=clock, settings=LogSettings(retention_s=1))
    await harness.deploy(ARRIVALS)
    await harness.receive(ARRIVALS, [event(0)])
    slow = archiver(harness, tmp_path, file_age_s=3600)
    await slow.round()
    await clock.advance(10)
    streams = (await log.catalog()).streams
    assert await log.trim(archive_floors(streams, await harness.store.archived())) == 0
    await work_off(archiver(harness, tmp_path))
    assert await log.trim(archive_floors(streams, await harness.store.archived())) == 1


async def test_a_stream_with_archive_off_is_not_archived_and_holds_nothing(harness: Harness, tmp_path: Path) -> None:
    await harness.deploy(ARRIVALS)
    await harness.receive(ARRIVALS, [event(0)])
    working = archiver(harness, tmp_path, file_age_s=3600)
    await working.round()
    assert archive_floors((await harness.log.catalog()).streams, await harness.store.archived()) == {
        ("arrivals", 0): 0
    }
    await harness.deploy(replace(ARRIVALS, archive=False))
    await working.round()
    assert not (await harness.store.archived())["arrivals", 0].holds
    await harness.deploy(ARRIVALS)
    await working.round()
    assert (await harness.store.archived())["arrivals", 0].holds


async def test_events_that_the_log_lost_before_are_counted_and_passed_over(harness: Harness, tmp_path: Path) -> None:
    clock = ManualClock()
    harness.log = MemoryLog(clock=clock, settings=LogSettings(retention_s=1))
    await harness.deploy(ARRIVALS)
    await archiver(harness, tmp_path).round()
    await harness.receive(ARRIVALS, [event(0), event(1)])
    await clock.advance(10)
    await harness.log.trim({})  # nobody asked the archive
    await harness.receive(ARRIVALS, [event(2)])
    await work_off(archiver(harness, tmp_path))
    (file,) = await files_of(harness)
    assert (file.first, file.next, file.rows) == (2, 3, 1)


async def test_a_log_that_ends_before_the_archive_is_said_with_the_remedy(harness: Harness, tmp_path: Path) -> None:
    await harness.deploy(ARRIVALS)
    await harness.receive(ARRIVALS, [event(i) for i in range(10)])
    await work_off(archiver(harness, tmp_path))
    harness.log = MemoryLog(clock=SystemClock())  # an older backup
    await harness.deploy(ARRIVALS)
    await harness.receive(ARRIVALS, [event(i) for i in range(4)])
    behind = archiver(harness, tmp_path)
    await behind.round()
    assert "penstock rebuild --archive" in behind.detail
    gone = await harness.store.cut_archive("arrivals", 0, 4)
    assert gone == []  # one file lay across the end: it is shortened
    (file,) = await files_of(harness)
    assert (file.next, file.rows) == (4, 4)
    await harness.receive(ARRIVALS, [event(4)])
    await work_off(behind)
    assert behind.detail == "follows the log"
    assert [(f.first, f.next) for f in await files_of(harness)] == [(0, 4), (4, 5)]


async def test_a_full_disk_is_trouble_and_heals(harness: Harness, tmp_path: Path) -> None:
    await harness.deploy(ARRIVALS)
    await harness.receive(ARRIVALS, [event(0)])
    folder = tmp_path / "archive"
    working = archiver(harness, folder)
    await working.round()
    (folder / "arrivals").write_text("a file where a folder must be")
    await working.round()
    assert "cannot write" in working.detail
    (folder / "arrivals").unlink()
    await work_off(working)
    assert working.detail == "follows the log"
    assert len(await files_of(harness)) == 1


async def test_what_a_crash_left_behind_is_deleted_when_its_events_are_elsewhere(
    harness: Harness, tmp_path: Path
) -> None:
    await harness.deploy(ARRIVALS)
    working = archiver(harness, tmp_path)
    await working.round()
    folder = tmp_path / "arrivals" / "0"
    folder.mkdir(parents=True)
    covered, ahead = FileName("arrivals", 0, 1, 0, 5, "aa"), FileName("arrivals", 0, 1, 0, 50, "bb")
    for name in (covered.path, ahead.path, covered.path + ".tmp"):
        (tmp_path / name).write_bytes(b"half")
    await harness.receive(ARRIVALS, [event(i) for i in range(10)])
    await work_off(working)
    await working.round()
    (file,) = await files_of(harness)
    left = {path.relative_to(tmp_path).as_posix() for path in folder.iterdir()}
    assert left == {file.path, ahead.path}


async def test_a_folder_of_another_store_is_refused(harness: Harness, tmp_path: Path) -> None:
    await harness.deploy(ARRIVALS)
    await harness.receive(ARRIVALS, [event(0)])
    (tmp_path / "archive").mkdir()
    (tmp_path / "archive" / MARK_FILE).write_text("somebody else\n")
    working = archiver(harness, tmp_path / "archive")
    with refused("conflict"):
        await working.round()


async def test_offsets_without_events_are_no_rows(harness: Harness, tmp_path: Path) -> None:
    """Some logs have offsets that hold no event, before the events of a batch."""
    await harness.deploy(ARRIVALS)
    await harness.receive(ARRIVALS, [event(0), event(1)])
    await harness.receive(ARRIVALS, [event(2), event(3), event(4)])
    batches = harness.log._partition("arrivals", 0).batches
    batches[0] = replace(batches[0], payload=_payload([event(1)]), events=1)
    batches[1] = replace(batches[1], payload=_payload([event(4)]), events=1)
    await work_off(archiver(harness, tmp_path))
    (file,) = await files_of(harness)
    assert (file.first, file.next, file.rows) == (0, 5, 2)
    assert pl.read_parquet(tmp_path / file.path)["_position"].to_list() == [1, 4]


async def test_the_position_survives_a_new_start_and_a_stale_one_is_fenced(harness: Harness, tmp_path: Path) -> None:
    await harness.deploy(ARRIVALS)
    await harness.receive(ARRIVALS, [event(0)])
    await work_off(archiver(harness, tmp_path))
    (file,) = await files_of(harness)
    stale = (await harness.store.archived())["arrivals", 0]
    await harness.receive(ARRIVALS, [event(1)])
    await work_off(archiver(harness, tmp_path))
    with refused("fenced"):
        await harness.store.add_archive_file(replace(file, first=1, path="another"), stale)
    again = open_store(harness.url, clock=SystemClock(), writable=False)
    assert (await again.archived())["arrivals", 0].next == 2
    await again.close()


async def test_a_new_epoch_goes_on_in_new_files(harness: Harness, tmp_path: Path) -> None:
    await harness.deploy(ARRIVALS)
    await harness.receive(ARRIVALS, [event(0), event(1)])
    await work_off(archiver(harness, tmp_path))
    await harness.deploy(replace(ARRIVALS, partitions=2))
    await harness.receive(replace(ARRIVALS, partitions=2), [event(2)])
    await work_off(archiver(harness, tmp_path))
    assert [(f.epoch, f.first, f.next) for f in await files_of(harness)] == [(1, 0, 2), (2, 2, 3)]


class LoneMembers:
    """A log whose members do not see each other."""

    def __init__(self, log: Any) -> None:
        self._under = log

    def __getattr__(self, name: str) -> Any:
        return getattr(self._under, name)

    async def beat(self, group: str, member: str, ttl_s: float) -> list[str]:
        return [member]


def _payload(lines: list[bytes]) -> bytes:
    from penstock.codecs.ndjson import encode_lines

    return encode_lines(lines)
