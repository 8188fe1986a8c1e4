"""Catalogue and rebuild over a store in PostgreSQL: the same as in a file."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from data_harness import ARRIVALS, JAN_1_MS, LOTS, Harness, inserted, ndjson

from penstock.ports.archive import ArchiveRange
from penstock.ports.clock import SystemClock
from penstock.stores.open import open_store
from penstock_data.archive_folder import ArchiveFolder
from penstock_data.archiver import Archiver
from penstock_data.raw_archive import Archive
from penstock_data.rebuilder import Rebuilder
from penstock_data.settings import ApplierSettings, ArchiveSettings
from penstock_data.verify import Verifier


@pytest.fixture
async def on_server(postgres_url: str) -> AsyncIterator[Harness]:
    store = open_store(postgres_url, clock=SystemClock())
    yield Harness(store, postgres_url)
    await store.close()


async def test_files_are_catalogued_and_a_table_is_rebuilt(on_server: Harness, tmp_path: Path) -> None:
    await on_server.deploy(ARRIVALS, LOTS)
    for i in range(20):
        await on_server.receive(ARRIVALS, [ndjson({"id": f"e{i}", "ts": JAN_1_MS + i})])
        await on_server.derive(LOTS, inserted((f"m{i}", i / 2, None, i, True, None, None)))
    folder = ArchiveFolder(tmp_path)
    limits = ArchiveSettings(file_age_s=0, file_max_rows=7)
    archiver = Archiver(on_server.log, Archive(on_server.store, folder), clock=SystemClock(), settings=limits)
    for _ in range(5):
        await archiver.round()
    assert not archiver.trouble
    files = await on_server.store.archive_files(ArchiveRange("arrivals", 0, 0, 100))
    assert [file.first for file in files] == [0, *[file.next for file in files[:-1]]]
    assert files[-1].next == 20
    await on_server.catch_up(on_server.role())
    rebuilder = Rebuilder(on_server.log, on_server.store, clock=SystemClock(), settings=ApplierSettings())
    for _ in range(2):
        await rebuilder.rebuild("lots")
    report = await Verifier(on_server.log, on_server.store, folder).run()
    assert report.findings == []
    assert (report.counts["archived events"], report.counts["rows compared"]) == (20, 20)
