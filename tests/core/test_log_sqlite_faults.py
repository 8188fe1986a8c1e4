"""The SQLite log when it is killed, when its disk is full, and when its disk fails."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

from penstock.errors import LogFull, LogUnavailable
from penstock.logs.sqlite import SqliteLog
from penstock.logs.sqlite_writer import Effects, Tx
from penstock.ports.clock import SystemClock
from penstock.ports.log import Consumed, Transaction
from penstock.testing.log_fixtures import APP, PLENTY_BYTES, derived, new_batch, source

APPENDER = Path(__file__).with_name("log_appender.py")


def appender(folder: Path, *, prefix: list[str], seconds: float, **settings: object) -> subprocess.Popen[str]:
    command = [*prefix, sys.executable, str(APPENDER), str(folder), json.dumps(settings), str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def killed_after(folder: Path, acknowledgements: int, **settings: object) -> list[str]:
    """What the appender had acknowledged when it was killed."""
    process = appender(folder, prefix=[], seconds=30, **settings)
    assert process.stdout is not None
    acknowledged: list[str] = []
    for line in process.stdout:
        if line.startswith("ok ") and len(acknowledged) == acknowledgements - 1:
            process.send_signal(signal.SIGKILL)
        if line.startswith("ok "):
            acknowledged.append(line.split()[1])
    process.wait()
    process.stdout.close()
    return acknowledged


async def events_in(folder: Path) -> list[str]:
    log = await SqliteLog.open(folder, clock=SystemClock())
    batches = await log.read("arrivals", 0, 0, PLENTY_BYTES, 1_000_000)
    await log.close()
    return [batch.payload.decode() for batch in batches]


@pytest.fixture
def strace(need: Callable[[str, bool, str], None]) -> str:
    found = shutil.which("strace")
    need("strace", found is not None, "install strace")
    return str(found)


@pytest.mark.parametrize("acknowledgements", [1, 20, 300])
async def test_what_was_acknowledged_survives_a_kill_once(tmp_path: Path, acknowledgements: int):
    acknowledged = await asyncio.to_thread(killed_after, tmp_path, acknowledgements)
    kept = await events_in(tmp_path)
    assert len(acknowledged) >= acknowledgements
    assert kept[: len(acknowledged)] == acknowledged
    assert len(kept) <= len(acknowledged) + 1  # the one that was under way


async def test_acknowledging_before_the_commit_loses_events_in_a_kill(tmp_path: Path):
    """The negative control: the test above would notice."""
    acknowledged = await asyncio.to_thread(killed_after, tmp_path, 3, unsafe_acknowledge_before_commit=True)
    assert len(await events_in(tmp_path)) < len(acknowledged)


async def test_a_failed_sync_is_never_acknowledged_and_nothing_after_it(strace: str, tmp_path: Path):
    inject = [strace, "-f", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync,fsync"]
    inject += ["-e", "inject=fdatasync,fsync:error=EIO:when=60+"]
    process = await asyncio.to_thread(_outcomes, appender(tmp_path, prefix=inject, seconds=1.5))
    codes = [line.split()[0] for line in process]
    good = codes.index("log_unavailable")
    assert set(codes[1:good]) == {"ok"}
    assert set(codes[good:-1]) == {"log_unavailable"}
    assert process[-1].startswith("failure ") and "None" not in process[-1]
    kept = await events_in(tmp_path)
    assert kept[: good - 1] == [str(n) for n in range(good - 1)]
    assert len(kept) <= good


async def test_a_full_disk_refuses_and_takes_events_again_when_there_is_space(strace: str, tmp_path: Path):
    inject = [strace, "-f", "-qq", "-o", "/dev/null", "-e", "trace=pwrite64"]
    inject += ["-e", "inject=pwrite64:error=ENOSPC:when=300..330"]
    process = await asyncio.to_thread(_outcomes, appender(tmp_path, prefix=inject, seconds=1.5))
    codes = [line.split()[0] for line in process]
    assert set(codes) == {"ready", "ok", "log_full", "failure"}
    assert process[-1] == "failure None"
    assert codes[-2] == "ok"
    acknowledged = [line.split()[1] for line in process if line.startswith("ok ")]
    assert await events_in(tmp_path) == acknowledged


async def test_a_group_that_sqlite_gives_up_at_commit_is_not_acknowledged_and_the_next_is(tmp_path: Path):
    log = await _opened(tmp_path)
    writer = log._writers["processor"]
    term = (await log.acquire(APP)).term

    def refuse_commit(refuse: bool) -> Callable[[Tx], Effects]:
        def work(tx: Tx) -> Effects:
            tx.connection.set_commit_hook((lambda: True) if refuse else None)
            return Effects()

        return work

    cycle = Transaction(APP, term, [Consumed("arrivals", 0, None, 1)], [new_batch("cheap", 3)])
    failing = [writer.submit(refuse_commit(True)), asyncio.ensure_future(log.commit(cycle))]
    outcomes = await asyncio.gather(*failing, return_exceptions=True)
    assert all(isinstance(outcome, LogUnavailable) for outcome in outcomes)
    assert log.failure() is not None  # an error that nobody foresaw: stop, rather than guess
    with pytest.raises(LogUnavailable):
        await log.commit(cycle)
    await log.close()
    log = await _opened(tmp_path)
    assert await log.positions(APP) == {}
    assert (await log.head("cheap", 0)).next == 0
    await log.close()


async def test_a_full_database_leaves_heads_and_positions_as_they_were(tmp_path: Path):
    log = await _opened(tmp_path)
    writer = log._writers["processor"]
    term = (await log.acquire(APP)).term

    def limit_pages(pages: int) -> Callable[[Tx], Effects]:
        def work(tx: Tx) -> Effects:
            tx.connection.pragma("max_page_count", pages)
            return Effects()

        return work

    await writer.submit(limit_pages(30))
    big = new_batch("cheap", 3, payload=b"x" * 200_000, watermark_ms=9)
    with pytest.raises(LogFull):
        await log.commit(Transaction(APP, term, [Consumed("arrivals", 0, None, 1)], [new_batch("cheap", 1), big]))
    assert log.failure() is None
    assert (await log.head("cheap", 0)).next == 0
    assert await log.positions(APP) == {}
    await writer.submit(limit_pages(100_000))
    positions = await log.commit(Transaction(APP, term, [Consumed("arrivals", 0, None, 1)], [big]))
    assert [position.next for position in positions] == [3]
    assert [(b.first, b.next) for b in await log.read("cheap", 0, 0, PLENTY_BYTES)] == [(0, 3)]
    await log.close()


async def test_an_io_error_stops_the_log_and_says_where(tmp_path: Path):
    log = await _opened(tmp_path)

    def fail(_tx: Tx) -> Effects:
        raise apsw.IOError("disk I/O error")

    with pytest.raises(LogUnavailable, match=r"ingest\.db: disk I/O error"):
        await log._writers["ingest"].submit(fail)
    assert "ingest.db" in str(log.failure())
    with pytest.raises(LogUnavailable):
        await log.append([new_batch("arrivals", 1)])
    await log.close()


async def _opened(folder: Path) -> SqliteLog:
    log = await SqliteLog.open(folder, clock=SystemClock())
    await log.put_app(APP, "", [source(), derived()], None)
    return log


def _outcomes(process: subprocess.Popen[str]) -> list[str]:
    output, _ = process.communicate(timeout=60)
    return output.splitlines()
