"""Files of the SQLite log: who may open them, what is in them after a restart, how several processes share them."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import apsw
import pytest

from penstock.errors import LogUnavailable, PenstockError
from penstock.logs.memory import MemoryLog
from penstock.logs.open import open_log
from penstock.logs.settings import LogSettings
from penstock.logs.sqlite import ROLES, SqliteLog
from penstock.ports.log import Consumed, DeltaKind, RejectedFilter, StateDelta, Transaction
from penstock.testing.clock import ManualClock
from penstock.testing.log_fixtures import (
    A_WHILE_S,
    APP,
    PLENTY_BYTES,
    derived,
    name_of,
    new_batch,
    rejected_event,
    source,
)

STREAMS = [source(), source("wide", partitions=3), derived()]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def two(clock: ManualClock, tmp_path: Path) -> AsyncIterator[tuple[SqliteLog, SqliteLog]]:
    """The same folder as an ingest process and a processor process have it."""
    settings = LogSettings(retention_s=60, foreign_poll_ms=1)
    ingest = await SqliteLog.open(tmp_path, roles=frozenset({"ingest"}), clock=clock, settings=settings)
    processor = await SqliteLog.open(tmp_path, roles=frozenset({"processor"}), clock=clock, settings=settings)
    yield ingest, processor
    await ingest.close()
    await processor.close()


def rows(path: Path, sql: str) -> list[tuple[object, ...]]:
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


async def until_catalog(log: SqliteLog, version: int) -> None:
    tick = 0
    while (await log.catalog()).version < version:
        tick = await asyncio.wait_for(log.wait([""], tick, A_WHILE_S), A_WHILE_S)


async def test_everything_that_was_acknowledged_is_there_after_a_restart(clock: ManualClock, tmp_path: Path):
    log = await SqliteLog.open(tmp_path / "log", clock=clock)
    await log.put_app(APP, "text", STREAMS, 0)
    term = (await log.acquire(APP)).term
    delta = StateDelta("window", DeltaKind.UPSERT, b"v")
    await log.append([new_batch("arrivals", 3, watermark_ms=8, ids=bytes(48))], [rejected_event()])
    cycle = Transaction(
        APP, term, [Consumed("arrivals", 0, None, 3)], [new_batch("cheap", 2, watermark_ms=7)], deltas=[delta]
    )
    await log.commit(cycle)
    catalog, rejected = await log.catalog(), await log.rejected(RejectedFilter())
    batches = [await log.read(stream, 0, 0, PLENTY_BYTES) for stream in ("arrivals", "cheap")]
    heads = [await log.head(stream, 0) for stream in ("arrivals", "cheap")]
    ids = await log.ids("arrivals", 0)
    await log.close()

    log = await SqliteLog.open(tmp_path / "log", clock=clock)
    assert await log.catalog() == catalog
    assert await log.rejected(RejectedFilter()) == rejected
    assert [await log.read(stream, 0, 0, PLENTY_BYTES) for stream in ("arrivals", "cheap")] == batches
    assert [await log.head(stream, 0) for stream in ("arrivals", "cheap")] == heads
    assert await log.ids("arrivals", 0) == ids != []
    restored = await log.acquire(APP)
    assert restored.term > term
    assert (dict(restored.positions), dict(restored.deltas)) == ({("arrivals", 0): 3}, {"window": [delta]})
    assert (await log.append([new_batch("arrivals", 1)]))[0].next == 4
    await log.append([], [rejected_event()])
    assert len({event.id for event in await log.rejected(RejectedFilter())}) == 2
    await log.close()


async def test_a_second_instance_on_the_same_folder_is_told_which_folder_and_what_to_do(
    clock: ManualClock, tmp_path: Path
):
    first = await SqliteLog.open(tmp_path, clock=clock)
    with pytest.raises(PenstockError) as caught:
        await SqliteLog.open(tmp_path, clock=clock)
    assert caught.value.code == "conflict"
    assert str(tmp_path) in caught.value.detail
    assert "--data" in caught.value.detail
    await first.put_app(APP, "", STREAMS, 0)  # the first is none the worse
    await first.close()
    await (await SqliteLog.open(tmp_path, clock=clock)).close()


@pytest.mark.parametrize("role", sorted(ROLES))
async def test_a_newer_on_disk_format_is_refused_with_the_remedy(clock: ManualClock, tmp_path: Path, role: str):
    await (await SqliteLog.open(tmp_path, clock=clock)).close()
    connection = apsw.Connection(str(tmp_path / f"{role}.db"))
    connection.execute("UPDATE meta SET value = 3 WHERE name = 'format'")
    connection.close()
    for roles in (ROLES, frozenset[str]()):
        with pytest.raises(PenstockError, match="format 3, this version reads up to 2"):
            await SqliteLog.open(tmp_path, roles=roles, clock=clock)


async def test_files_of_the_format_before_traces_are_read_and_brought_up_to_date(clock: ManualClock, tmp_path: Path):
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    log = await SqliteLog.open(tmp_path, clock=clock)
    await log.put_app(APP, "", STREAMS, 0)
    await log.append([new_batch("arrivals", 2, name="old")])
    await log.close()
    for role in ROLES:
        connection = apsw.Connection(str(tmp_path / f"{role}.db"))
        connection.execute("ALTER TABLE batches DROP COLUMN trace; UPDATE meta SET value = 1 WHERE name = 'format'")
        connection.close()
    reader = await SqliteLog.open(tmp_path, roles=frozenset(), clock=clock)  # before any writer has come
    assert [(name_of(b), b.trace) for b in await reader.read("arrivals", 0, 0, PLENTY_BYTES)] == [("old", "")]
    log = await SqliteLog.open(tmp_path, clock=clock)
    await log.append([new_batch("arrivals", 1, name="new", trace=trace)])
    await log.close()
    for role in ROLES:
        assert rows(tmp_path / f"{role}.db", "SELECT value FROM meta WHERE name = 'format'") == [(2,)]
    log = await SqliteLog.open(tmp_path, clock=clock)
    for each in (log, reader):  # the reader is an older process no more: it was at work while the file changed
        batches = await each.read("arrivals", 0, 0, PLENTY_BYTES)
        assert [(name_of(b), b.trace) for b in batches] == [("old", ""), ("new", trace)]
    await log.close()
    await reader.close()


async def test_a_file_that_is_no_database_is_named(clock: ManualClock, tmp_path: Path):
    (tmp_path / "ingest.db").write_bytes(b"not a database, but long enough to be looked at" * 100)
    with pytest.raises(LogUnavailable, match=r"ingest\.db"):
        await SqliteLog.open(tmp_path, clock=clock)


async def test_the_settings_in_force_are_read_back_from_the_database(clock: ManualClock, tmp_path: Path):
    log = await SqliteLog.open(tmp_path, clock=clock)
    files = log.describe()["files"]
    assert isinstance(files, dict)
    assert {role: (file["journal_mode"], file["synchronous"]) for role, file in files.items()} == {
        "ingest": ("wal", 2),  # FULL
        "processor": ("wal", 2),
    }
    await log.close()


async def test_concurrent_appends_share_commits(clock: ManualClock, tmp_path: Path):
    log = await SqliteLog.open(tmp_path, clock=clock)
    await log.put_app(APP, "", STREAMS, 0)
    ((before,),) = rows(tmp_path / "ingest.db", "SELECT value FROM meta WHERE name = 'commits'")
    await asyncio.gather(*(log.append([new_batch("arrivals", 1)]) for _ in range(200)))
    ((after,),) = rows(tmp_path / "ingest.db", "SELECT value FROM meta WHERE name = 'commits'")
    assert int(str(after)) - int(str(before)) < 20
    await log.close()


async def test_too_many_waiting_writes_are_answered_with_try_later(clock: ManualClock, tmp_path: Path):
    log = await SqliteLog.open(tmp_path, clock=clock, settings=LogSettings(queue_max_requests=5))
    await log.put_app(APP, "", STREAMS, 0)
    answers = await asyncio.gather(
        *(log.append([new_batch("arrivals", 1)]) for _ in range(20)), return_exceptions=True
    )
    refused = [answer for answer in answers if isinstance(answer, PenstockError)]
    assert {(error.code, error.retryable) for error in refused} == {("too_many_requests", True)}
    assert (await log.head("arrivals", 0)).next == 20 - len(refused) >= 5
    await log.close()


async def test_the_write_ahead_log_stays_small_however_much_is_appended(clock: ManualClock, tmp_path: Path):
    settings = LogSettings(checkpoint_pages=100, wal_keep_bytes=0)
    log = await SqliteLog.open(tmp_path, clock=clock, settings=settings)
    await log.put_app(APP, "", STREAMS, 0)
    for _ in range(60):
        await log.append([new_batch("arrivals", 1, payload=b"x" * 200_000)])
    assert (tmp_path / "ingest.db-wal").stat().st_size < 3_000_000
    await log.close()


async def test_batches_of_a_dropped_stream_are_deleted_from_the_file(clock: ManualClock, tmp_path: Path):
    log = await SqliteLog.open(tmp_path, clock=clock, settings=LogSettings(trim_chunk_batches=1))
    await log.put_app(APP, "", STREAMS, 0)
    term = (await log.acquire(APP)).term
    for _ in range(3):
        await log.append([new_batch("arrivals", 1, ids=bytes(16)), new_batch("wide", 1)])
        await log.commit(Transaction(APP, term, appends=[new_batch("cheap", 1)]))
    await log.put_app(APP, "", [source("wide", partitions=2)], None)
    await log.trim({})
    assert rows(tmp_path / "ingest.db", "SELECT count(*) FROM batches") == [(0,)]
    assert rows(tmp_path / "ingest.db", "SELECT count(*) FROM ids") == [(0,)]
    assert rows(tmp_path / "processor.db", "SELECT count(*) FROM batches") == [(0,)]
    await log.close()


async def test_a_reader_beyond_a_log_restored_from_a_backup_is_told_so(clock: ManualClock, tmp_path: Path):
    log = await SqliteLog.open(tmp_path / "log", clock=clock)
    await log.put_app(APP, "", STREAMS, 0)
    await log.append([new_batch("arrivals", 2)])
    await log.close()
    shutil.copytree(tmp_path / "log", tmp_path / "backup")
    log = await SqliteLog.open(tmp_path / "log", clock=clock)
    await log.append([new_batch("arrivals", 2)])
    await log.close()
    log = await SqliteLog.open(tmp_path / "backup", clock=clock)
    with pytest.raises(LogUnavailable, match="older backup"):
        await log.read("arrivals", 0, 4, PLENTY_BYTES)
    await log.close()


async def test_a_relation_that_turns_from_source_to_stream_begins_anew_for_its_app(
    clock: ManualClock, tmp_path: Path
):
    log = await SqliteLog.open(tmp_path, clock=clock)
    await log.put_app(APP, "", [source("thing")], 0)
    await log.append([new_batch("thing", 5)])
    term = (await log.acquire(APP)).term
    await log.commit(Transaction(APP, term, [Consumed("thing", 0, None, 5)]))
    await log.put_app(APP, "", [derived("thing")], None)
    assert await log.positions(APP) == {}
    await log.commit(Transaction(APP, term, appends=[new_batch("thing", 1)]))
    assert [batch.epoch for batch in await log.read("thing", 0, 0, PLENTY_BYTES)] == [2]
    await log.close()


# -- several processes


async def test_a_deployment_in_one_process_reaches_the_other(two: tuple[SqliteLog, SqliteLog]):
    ingest, processor = two
    with pytest.raises(PenstockError, match="unknown_stream"):
        await ingest.append([new_batch("arrivals", 1)])
    await processor.put_app(APP, "", STREAMS, 0)
    await until_catalog(ingest, 1)
    assert (await ingest.append([new_batch("arrivals", 1)]))[0].next == 1


async def test_an_append_in_one_process_wakes_and_is_read_by_the_other(two: tuple[SqliteLog, SqliteLog]):
    ingest, processor = two
    await processor.put_app(APP, "", STREAMS, 0)
    await until_catalog(ingest, 1)
    tick = await processor.wait(["arrivals"], 0, 0)
    waiter = asyncio.ensure_future(processor.wait(["arrivals"], tick, A_WHILE_S))
    await asyncio.sleep(0)
    await ingest.append([new_batch("arrivals", 4, watermark_ms=3)])
    assert await asyncio.wait_for(waiter, A_WHILE_S) > tick
    assert (await processor.head("arrivals", 0)) == (await ingest.head("arrivals", 0))
    assert [batch.count for batch in await processor.read("arrivals", 0, 0, PLENTY_BYTES)] == [4]


async def test_a_source_recreated_by_the_processor_is_adopted_by_ingest(two: tuple[SqliteLog, SqliteLog]):
    ingest, processor = two
    await processor.put_app(APP, "", STREAMS, 0)
    await until_catalog(ingest, 1)
    await ingest.append([new_batch("arrivals", 4)])
    await processor.put_app(APP, "", [source(partitions=2)], None)
    assert await processor.read("arrivals", 0, 0, PLENTY_BYTES) == []
    assert (await processor.head("arrivals", 0)).epoch == 2
    await until_catalog(ingest, 2)
    assert await ingest.read("arrivals", 0, 0, PLENTY_BYTES) == []
    await ingest.append([new_batch("arrivals", 1)])
    assert [(b.epoch, b.first) for b in await processor.read("arrivals", 0, 0, PLENTY_BYTES)] == [(2, 4)]


async def test_ingest_trims_no_further_than_the_processor_has_come(
    two: tuple[SqliteLog, SqliteLog], clock: ManualClock
):
    ingest, processor = two
    await processor.put_app(APP, "", STREAMS, 0)
    await until_catalog(ingest, 1)
    term = (await processor.acquire(APP)).term
    await ingest.append([new_batch("arrivals", 4), new_batch("arrivals", 4)])
    await processor.commit(Transaction(APP, term, [Consumed("arrivals", 0, None, 5)]))
    await clock.advance(61)
    assert await processor.trim({}) == 0
    assert await ingest.trim({}) == 4


async def test_a_process_without_a_writing_role_reads_and_cannot_write(clock: ManualClock, tmp_path: Path):
    owner = await SqliteLog.open(tmp_path, clock=clock)
    await owner.put_app(APP, "", STREAMS, 0)
    await owner.append([new_batch("arrivals", 2)], [rejected_event("r")])
    reader = await SqliteLog.open(tmp_path, roles=frozenset(), clock=clock)
    assert [batch.count for batch in await reader.read("arrivals", 0, 0, PLENTY_BYTES)] == [2]
    assert [event.id for event in await reader.rejected(RejectedFilter())] == ["r"]
    with pytest.raises(PenstockError, match="does not own"):
        await reader.append([new_batch("arrivals", 1)])
    assert await reader.trim({}) == 0
    await reader.close()
    await owner.close()


# -- URLs


async def test_the_adapter_is_chosen_by_url(clock: ManualClock, tmp_path: Path):
    memory = await open_log("memory:", roles=ROLES, clock=clock)
    sqlite = await open_log(f"sqlite:///{tmp_path}/log", roles=ROLES | {"publish", "data"}, clock=clock)
    assert (type(memory), type(sqlite)) == (MemoryLog, SqliteLog)
    assert (tmp_path / "log" / "ingest.db").exists()
    await sqlite.close()


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("kafka://broker", "no log"),
        ("sqlite://", "no log"),
        ("sqlite:///", "no log"),
        ("./folder", "no log"),
        ("", "no log"),
    ],
)
async def test_another_url_is_refused_with_what_to_use(clock: ManualClock, url: str, says: str):
    with pytest.raises(PenstockError, match=says) as caught:
        await open_log(url, roles=ROLES, clock=clock)
    assert "sqlite:///folder" in caught.value.detail


async def test_writes_and_reads_go_on_while_the_event_loop_never_idles(clock: ManualClock, tmp_path: Path):
    """A loop that is always busy in short turns starves other threads; the log makes it give way."""
    log = await SqliteLog.open(tmp_path, clock=clock, settings=LogSettings(tail_cache_bytes=0))
    await log.put_app(APP, "", STREAMS, 0)
    turns = 0

    async def be_busy() -> None:
        nonlocal turns
        while True:
            sum(range(10_000))
            turns += 1
            await asyncio.sleep(0)

    busy = asyncio.ensure_future(be_busy())
    for _ in range(10):
        await log.append([new_batch("arrivals", 1)])
        assert await log.read("arrivals", 0, 0, PLENTY_BYTES)
    busy.cancel()
    assert turns < 10_000  # without giving way, a single append may take as many
    await log.close()
