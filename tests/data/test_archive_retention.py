"""Retention of the archive: whole files leave the catalogue first, and the disk later."""

from __future__ import annotations

from pathlib import Path

import pytest
from data.test_archive import archiver, event, files_of, work_off
from data_harness import ARRIVALS, Harness

from penstock.ports.archive import Archived


async def three_files(harness: Harness, folder: Path) -> None:
    """Of 10 events each."""
    await harness.deploy(ARRIVALS)
    for first in (0, 10, 20):
        await harness.receive(ARRIVALS, [event(i) for i in range(first, first + 10)])
    await work_off(archiver(harness, folder, file_max_rows=10))


def on_disk(folder: Path) -> int:
    return len(list(folder.rglob("*.parquet")))


async def test_expired_files_leave_the_catalogue_at_one_clean_up_and_the_disk_at_the_next(
    harness: Harness, tmp_path: Path
) -> None:
    await three_files(harness, tmp_path)
    expiring = archiver(harness, tmp_path, retention_s=0.000001)
    await expiring.round()
    assert list(await files_of(harness)) == []
    assert on_disk(tmp_path) == 3, "whoever has listed them can still read them"
    await expiring.round()
    assert on_disk(tmp_path) == 0
    assert (await harness.store.archived())["arrivals", 0] == Archived(1, 30)
    await harness.receive(ARRIVALS, [event(i) for i in range(30, 35)])
    await work_off(archiver(harness, tmp_path))
    [file] = await files_of(harness)
    assert (file.first, file.next) == (30, 35)


async def test_killed_between_catalogue_and_disk_the_files_go_after_the_next_start(
    harness: Harness, tmp_path: Path
) -> None:
    await three_files(harness, tmp_path)
    assert await harness.store.expire_archive_files(1 << 60) == 3
    assert on_disk(tmp_path) == 3
    await archiver(harness, tmp_path).round()
    assert on_disk(tmp_path) == 0


@pytest.mark.parametrize("retention_s", [None, 3600.0])
async def test_without_retention_or_before_it_everything_stays(
    harness: Harness, tmp_path: Path, retention_s: float | None
) -> None:
    await three_files(harness, tmp_path)
    for _ in range(2):
        await archiver(harness, tmp_path, retention_s=retention_s).round()
    assert len(await files_of(harness)) == on_disk(tmp_path) == 3


async def test_a_file_behind_one_that_stays_stays(harness: Harness, tmp_path: Path) -> None:
    await three_files(harness, tmp_path)
    files = await files_of(harness)
    newest = max(file.max_received_ms for file in files)
    assert await harness.store.expire_archive_files(newest) in (0, 1, 2)
    left = await files_of(harness)
    assert [file.first for file in left] == [file.first for file in files[len(files) - len(left) :]]
    assert left
