"""The PostgreSQL log when its server crashes, connections break, neighbours stop, and answers to commits are lost."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from postgres_server import PostgresServer

from penstock.errors import LogUnavailable, Outrun, PenstockError
from penstock.logs.postgres import PostgresLog
from penstock.logs.settings import LogSettings, PostgresLogSettings
from penstock.model.batch import Batch
from penstock.ports.clock import SystemClock
from penstock.ports.log import Consumed, Log, Transaction
from penstock.testing.log_contract_pair import until_events
from penstock.testing.log_fixtures import A_WHILE_S, APP, PLENTY_BYTES, derived, new_batch, source

APPENDER = Path(__file__).with_name("log_appender.py")
STREAMS = [source(), source("wide", partitions=3), derived()]


@pytest.fixture(scope="module")
def server_to_crash(need: Callable[[str, bool, str], None]) -> Iterator[PostgresServer]:
    need("postgres", PostgresServer.programs() is not None, "apt-get install postgresql")
    with PostgresServer() as server:
        yield server


@pytest.fixture
def own_server(server_to_crash: PostgresServer) -> Iterator[PostgresServer]:
    """A server that tests of this file may crash, stop and set."""
    yield server_to_crash
    server_to_crash.stop()
    (server_to_crash.data / "postgresql.auto.conf").write_text("")
    server_to_crash.start()


def limits(**postgres: object) -> LogSettings:
    return LogSettings(postgres=PostgresLogSettings(**postgres))  # type: ignore[arg-type]  # the settings' fields


@contextlib.asynccontextmanager
async def opened(url: str, settings: LogSettings | None = None) -> AsyncIterator[PostgresLog]:
    log = await PostgresLog.open(url, clock=SystemClock(), settings=settings)
    try:
        if APP not in (await log.catalog()).apps:
            await log.put_app(APP, "", STREAMS, None)
        yield log
    finally:
        await log.close()


def execute(url: str, query: str, *parameters: object) -> list[tuple[object, ...]]:
    """What a superuser's or another program's statement returns."""
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(query, parameters)
        return cursor.fetchall() if cursor.description else []


def end_sessions(url: str, name: str) -> int:
    ended = execute(
        url,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
        "AND application_name LIKE %s AND pid <> pg_backend_pid()",
        f"penstock log {name}",
    )
    return len(ended)


async def texts(log: Log) -> list[str]:
    await log.head("arrivals", 0)
    read: list[Batch] = []
    while more := await log.read("arrivals", 0, read[-1].next if read else 0, PLENTY_BYTES):
        read += more
    assert [batch.first for batch in read] == [0, *(batch.next for batch in read[:-1])] if read else True
    return [batch.payload.decode() for batch in read]


async def append_many(log: Log, name: str, count: int, *, give_up: bool = False) -> tuple[list[str], list[str]]:
    """Acknowledged and unknown. Refused appends are not repeated: what is doubled, the log has doubled."""
    acknowledged, unknown = [], []
    for n in range(count):
        text = f"{name}.{n}"
        try:
            await log.append([new_batch("arrivals", 1, payload=text.encode())])
            acknowledged.append(text)
        except LogUnavailable:
            unknown.append(text)
            if give_up:
                break
            await asyncio.sleep(0.01)
    return acknowledged, unknown


def check_kept(kept: list[str], outcomes: list[tuple[list[str], list[str]]]) -> None:
    """Everything acknowledged is there, nothing twice, nothing that nobody sent."""
    acknowledged = {text for part, _ in outcomes for text in part}
    unknown = {text for _, part in outcomes for text in part}
    assert max(Counter(kept).values(), default=0) <= 1
    assert acknowledged <= set(kept) <= acknowledged | unknown


async def test_a_crash_of_the_server_loses_nothing_acknowledged_and_doubles_nothing(own_server: PostgresServer):
    async with opened(own_server.database("crash")) as log:
        working = [asyncio.ensure_future(append_many(log, f"w{n}", 400)) for n in range(6)]
        for crash in range(3):
            await until_events(log, "arrivals", 30 * (crash + 1))
            await asyncio.to_thread(own_server.kill)
            await asyncio.to_thread(own_server.start)
        outcomes = await asyncio.gather(*working)
        kept = await texts(log)
        check_kept(kept, outcomes)
        assert len(kept) > 1000
        assert log.failure() is None


async def test_a_restart_of_the_server_is_not_noticed_by_those_who_write_later(own_server: PostgresServer):
    async with opened(own_server.database("restart")) as log:
        term = (await log.acquire(APP)).term
        await log.append([new_batch("arrivals", 3)])
        await asyncio.to_thread(own_server.restart)
        await log.append([new_batch("arrivals", 2)])
        cycle = Transaction(APP, term, [Consumed("arrivals", 0, None, 5)], [new_batch("cheap", 1)])
        assert [position.next for position in await log.commit(cycle)] == [1]
        assert [batch.next for batch in await log.read("arrivals", 0, 0, PLENTY_BYTES)] == [3, 5]
        assert await log.beat("processor", "a", 30.0) == ["a"]


async def test_while_the_server_is_away_writes_are_refused_with_try_later(own_server: PostgresServer):
    url = own_server.database("away")
    async with opened(url, limits(outcome_wait_s=0.2)) as log:
        await log.append([new_batch("arrivals", 1)])
        await asyncio.to_thread(own_server.stop)
        for call in (log.append([new_batch("arrivals", 1)]), log.head("arrivals", 0), log.acquire(APP)):
            with pytest.raises(LogUnavailable) as caught:
                await call
            assert caught.value.retryable
            assert "127.0.0.1" in caught.value.detail
        await asyncio.to_thread(own_server.start)
        assert (await log.append([new_batch("arrivals", 1)]))[0].next == 2


@pytest.mark.parametrize("seed", range(3))
async def test_sessions_ended_at_any_moment_cost_no_event_and_double_none(postgres_url: str, seed: int):
    draw = random.Random(seed)
    async with opened(postgres_url) as log:
        working = [asyncio.ensure_future(append_many(log, f"w{n}", 150)) for n in range(8)]
        ended = 0
        while not all(task.done() for task in working):
            await asyncio.sleep(draw.random() * 0.05)
            ended += await asyncio.to_thread(end_sessions, postgres_url, "ingest")
        outcomes = await asyncio.gather(*working)
        assert ended >= 3
        check_kept(await texts(log), outcomes)


class CuttingProxy:
    """Stands between a log and its server; cuts the connection at the first COMMIT of a session that is armed."""

    def __init__(self, port: int, *, deliver: bool) -> None:
        self._port = port
        self._deliver = deliver
        self.cuts_left = 0
        self.refuses_after_cut = False
        self.refuses = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: list[asyncio.StreamWriter] = []

    async def __aenter__(self) -> CuttingProxy:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for writer in self._writers:
            writer.transport.abort()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refuses:
            writer.transport.abort()
            return
        there, back = await asyncio.open_connection("127.0.0.1", self._port)
        self._writers += [writer, back]
        for work in (self._forward(reader, back, writer), self._backward(there, writer)):
            task = asyncio.ensure_future(work)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _forward(
        self, source: asyncio.StreamReader, target: asyncio.StreamWriter, client: asyncio.StreamWriter
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(1 << 16):
                is_cut = b"COMMIT" in data and self.cuts_left > 0
                if is_cut:
                    self.cuts_left -= 1
                    self.refuses = self.refuses_after_cut
                    client.transport.abort()  # the answer does not come through
                if self._deliver or not is_cut:
                    target.write(data)
                    await target.drain()
                if is_cut:
                    break
        target.close()

    async def _backward(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(1 << 16):
                target.write(data)
                await target.drain()
        target.close()


@pytest.mark.parametrize("deliver", [True, False], ids=["took place", "did not"])
async def test_a_commit_whose_answer_is_lost_is_read_back_and_not_repeated_blindly(
    postgres_server: PostgresServer, postgres_url: str, deliver: bool
):
    async with (
        CuttingProxy(postgres_server.port, deliver=deliver) as proxy,
        opened(postgres_url.replace(f":{postgres_server.port}/", f":{proxy.port}/")) as log,
    ):
        term = (await log.acquire(APP)).term
        proxy.cuts_left = 2  # one for each lane
        calls = [log.append([new_batch("arrivals", 1, payload=b"%d" % n, ids=bytes([n]) * 16)]) for n in range(3)]
        positions = await asyncio.gather(*calls)
        assert [position.next for (position,) in positions] == [1, 2, 3]
        cycle = Transaction(APP, term, [Consumed("arrivals", 0, None, 3)], [new_batch("cheap", 2)])
        assert [position.next for position in await log.commit(cycle)] == [2]
        assert proxy.cuts_left == 0
        assert await texts(log) == ["0", "1", "2"]
        assert (await log.head("cheap", 0)).next == 2
        assert dict(await log.positions(APP)) == {("arrivals", 0): 3}


async def test_when_the_outcome_cannot_be_read_the_ids_count_as_somebody_elses(
    postgres_server: PostgresServer, postgres_url: str
):
    """Whoever retries with what it knew is outrun by its own append, and does not store it twice."""
    async with (
        CuttingProxy(postgres_server.port, deliver=True) as proxy,
        opened(
            postgres_url.replace(f":{postgres_server.port}/", f":{proxy.port}/"), limits(outcome_wait_s=0.2)
        ) as log,
    ):
        _, mark = await log.ids_after("arrivals", None)
        proxy.cuts_left, proxy.refuses_after_cut = 1, True
        batch = new_batch("arrivals", 1, payload=b"x", ids=b"1" * 16)
        with pytest.raises(LogUnavailable, match="broke off at a commit"):
            await log.append([batch], known={"arrivals": mark})
        proxy.refuses = False
        with pytest.raises(Outrun):
            await log.append([batch], known={"arrivals": mark})
        news, _ = await log.ids_after("arrivals", mark)
        assert [hashes for _, hashes in news] == [b"1" * 16]
        assert await texts(log) == ["x"]


async def start_appender(url: str, prefix: str, seconds: float, **settings: object) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, str(APPENDER), url, json.dumps(settings), str(seconds), prefix,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip


async def acknowledged_by(process: asyncio.subprocess.Process, prefix: str, until: int | None = None) -> list[str]:
    """Events acknowledged, to the end or to the `until`-th."""
    assert process.stdout is not None
    acknowledged = []
    while line := (await process.stdout.readline()).decode():
        if line.startswith("ok "):
            acknowledged.append(prefix + line.split()[1])
            if until is not None and len(acknowledged) >= until:
                break
    return acknowledged


async def test_a_reader_beside_writing_processes_never_passes_an_event(postgres_url: str):
    async with opened(postgres_url) as log:
        processes = [await start_appender(postgres_url, prefix, 60) for prefix in "abc"]
        followed: list[Batch] = []
        working = [asyncio.ensure_future(acknowledged_by(p, x, 60)) for p, x in zip(processes, "abc", strict=True)]
        tick = 0
        while not all(task.done() for task in working):
            tick = await log.wait(["arrivals"], tick, 0.1)
            while more := await log.read("arrivals", 0, followed[-1].next if followed else 0, PLENTY_BYTES, 5):
                followed += more
        outcomes = [(await task, [f"{x}{n}" for n in range(100_000)]) for task, x in zip(working, "abc", strict=True)]
        for process in processes:
            process.kill()
            await process.communicate()
        await log.head("arrivals", 0)
        while more := await log.read("arrivals", 0, followed[-1].next if followed else 0, PLENTY_BYTES):
            followed += more
        assert [batch.first for batch in followed] == list(range(len(followed)))
        kept = [batch.payload.decode() for batch in followed]
        check_kept(kept, outcomes)
        for acknowledged, _ in outcomes:
            assert [text for text in kept if text in set(acknowledged)] == acknowledged


@pytest.mark.parametrize("acknowledgements", [1, 100])
async def test_what_was_acknowledged_survives_a_kill_of_the_process_once(postgres_url: str, acknowledgements: int):
    process = await start_appender(postgres_url, "", 30)
    acknowledged = await acknowledged_by(process, "", acknowledgements)
    process.kill()
    acknowledged += await acknowledged_by(process, "")
    await process.wait()
    async with opened(postgres_url) as log:
        kept = await texts(log)
    assert kept[: len(acknowledged)] == acknowledged
    assert len(kept) <= len(acknowledged) + 1  # the one that was under way


async def test_acknowledging_before_the_commit_loses_events_in_a_kill(postgres_url: str):
    """The negative control: the test above would notice."""
    process = await start_appender(postgres_url, "", 30, unsafe_acknowledge_before_commit=True)
    acknowledged = await acknowledged_by(process, "", 3)
    process.kill()
    await process.wait()
    async with opened(postgres_url) as log:
        assert len(await texts(log)) < len(acknowledged)


async def test_a_stopped_process_holds_up_the_others_no_longer_than_the_idle_timeout(postgres_url: str):
    brief = {"idle_in_transaction_timeout_s": 0.5, "lock_timeout_s": 5.0}
    async with opened(postgres_url, limits(**brief)) as log:
        process = await start_appender(postgres_url, "x", 60, postgres=brief)
        working = asyncio.ensure_future(acknowledged_by(process, "x"))
        try:
            await until_events(log, "arrivals", 5)
            stopped_inside = False
            async with asyncio.timeout(A_WHILE_S):
                while not stopped_inside:  # until it was stopped while its transaction is open
                    os.kill(process.pid, signal.SIGCONT)
                    await asyncio.sleep(0.003)
                    os.kill(process.pid, signal.SIGSTOP)
                    stopped_inside = await asyncio.to_thread(_idle_in_transaction, postgres_url)
            async with asyncio.timeout(A_WHILE_S):
                acknowledged, unknown = await append_many(log, "y", 5)
            assert (len(acknowledged), unknown) == (5, [])
        finally:
            os.kill(process.pid, signal.SIGCONT)
        count = (await log.head("arrivals", 0)).next
        await until_events(log, "arrivals", count + 5)  # the one that was stopped goes on
        process.kill()
        outcomes = [(await working, [f"x{n}" for n in range(100_000)]), (acknowledged, unknown)]
        await process.wait()
        check_kept(await texts(log), outcomes)


def _idle_in_transaction(url: str) -> bool:
    found = execute(
        url,
        "SELECT 1 FROM pg_stat_activity WHERE application_name = 'penstock log ingest' "
        "AND state = 'idle in transaction' AND datname = current_database()",
    )
    return bool(found)


async def test_a_session_that_stopped_in_the_middle_of_its_statements_is_ended_by_those_who_wait(postgres_url: str):
    """The server's own timeout does not count here: it waits for the rest of a pipeline."""
    async with opened(postgres_url, limits(idle_in_transaction_timeout_s=0.3, lock_timeout_s=0.6)) as log:
        await log.append([new_batch("arrivals", 1)])
        stopped = psycopg.connect(postgres_url, application_name="penstock log ingest")
        stopped.execute("SET idle_in_transaction_session_timeout = 300")
        stopped.commit()
        stopped.pgconn.enter_pipeline_mode()
        stopped.pgconn.send_query_params(b"BEGIN", None)
        stopped.pgconn.send_query_params(b"SELECT * FROM penstock_log.heads FOR UPDATE", None)
        stopped.pgconn.send_flush_request()
        stopped.pgconn.flush()
        async with asyncio.timeout(A_WHILE_S):
            assert (await log.append([new_batch("arrivals", 1)]))[0].next == 2
        stopped.close()


async def test_a_lock_that_another_program_holds_is_named_and_waited_for_no_longer_than_the_limit(postgres_url: str):
    async with opened(postgres_url, limits(lock_timeout_s=0.2, attempts_max=2)) as log:
        await log.append([new_batch("arrivals", 1)])
        with psycopg.connect(postgres_url) as program:
            program.execute("SELECT * FROM penstock_log.heads FOR UPDATE")
            with pytest.raises(LogUnavailable, match="lock timeout"):
                await log.append([new_batch("arrivals", 1)])
        assert (await log.append([new_batch("arrivals", 1)]))[0].next == 2


async def test_more_reads_than_sessions_wait_for_their_turn(postgres_url: str):
    settings = LogSettings(reader_threads=1, tail_cache_bytes=0)
    async with opened(postgres_url, settings) as log:
        await log.append([new_batch("arrivals", 2)])
        read = await asyncio.gather(*(log.read("arrivals", 0, 0, PLENTY_BYTES) for _ in range(50)))
        assert [len(batches) for batches in read] == [1] * 50
        count = execute(
            postgres_url,
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'penstock log reader' "
            "AND datname = current_database()",
        )
        assert count == [(1,)]


async def test_a_server_without_room_for_another_session_refuses_until_there_is(own_server: PostgresServer):
    url = own_server.database("crowded")
    admin = own_server.admin_url("crowded")
    async with opened(url) as log:
        execute(admin, "ALTER ROLE penstock CONNECTION LIMIT 0")
        with pytest.raises(LogUnavailable, match="too many connections"):
            await log.append([new_batch("arrivals", 1)])
        execute(admin, "ALTER ROLE penstock CONNECTION LIMIT -1")
        assert (await log.append([new_batch("arrivals", 1)]))[0].next == 1


# -- what is refused at open, and what can never heal


async def test_processes_that_start_together_make_one_log(postgres_url: str):
    logs = await asyncio.gather(*(PostgresLog.open(postgres_url, clock=SystemClock()) for _ in range(6)))
    assert len(execute(postgres_url, "SELECT value FROM penstock_log.meta WHERE name = 'log_id'")) == 1
    await logs[0].put_app(APP, "", STREAMS, 0)
    for log in logs:
        await log.close()


@pytest.mark.parametrize("name", ["fsync", "synchronous_commit"])
async def test_a_server_that_would_lose_events_is_refused_with_the_remedy(own_server: PostgresServer, name: str):
    url = own_server.database("unsafe")
    execute(own_server.admin_url(), f"ALTER SYSTEM SET {name} = off")
    execute(own_server.admin_url(), "SELECT pg_reload_conf()")
    await asyncio.sleep(0.2)
    with pytest.raises(PenstockError, match=f"SET {name} = on") as caught:
        await PostgresLog.open(url, clock=SystemClock())
    assert caught.value.code == "conflict"
    async with opened(url, LogSettings(unsafe_synchronous_off=True)) as log:
        assert log.describe()["synchronous_commit"] == "off"


async def test_a_database_of_another_encoding_is_refused_with_the_remedy(postgres_server: PostgresServer):
    execute(
        postgres_server.admin_url(),
        "CREATE DATABASE latin ENCODING 'LATIN1' LOCALE_PROVIDER libc LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0 "
        "OWNER penstock",
    )
    with pytest.raises(PenstockError, match="ENCODING 'UTF8'"):
        await PostgresLog.open(postgres_server.url("latin"), clock=SystemClock())
    postgres_server.drop("latin")


async def test_tables_of_a_newer_version_are_refused_with_the_remedy(postgres_url: str):
    async with opened(postgres_url):
        pass
    execute(postgres_url, "UPDATE penstock_log.meta SET value = '3' WHERE name = 'format'")
    with pytest.raises(PenstockError, match="format 3, this version reads up to 2"):
        await PostgresLog.open(postgres_url, clock=SystemClock())


async def test_tables_of_the_format_before_traces_are_brought_up_to_date(postgres_url: str):
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    async with opened(postgres_url) as log:
        await log.append([new_batch("arrivals", 2)])
    execute(postgres_url, "ALTER TABLE penstock_log.batches DROP COLUMN trace")
    execute(postgres_url, "UPDATE penstock_log.meta SET value = '1' WHERE name = 'format'")
    async with opened(postgres_url) as log:
        await log.append([new_batch("arrivals", 1, trace=trace)])
    async with opened(postgres_url) as log:
        assert [batch.trace for batch in await log.read("arrivals", 0, 0, PLENTY_BYTES)] == ["", trace]


async def test_a_database_that_does_not_exist_is_not_waited_for(postgres_server: PostgresServer):
    async with asyncio.timeout(A_WHILE_S):
        with pytest.raises(LogUnavailable, match="does not exist"):
            await PostgresLog.open(postgres_server.url("nowhere"), clock=SystemClock())


async def test_a_database_that_forgot_what_it_acknowledged_ends_the_process(postgres_url: str):
    async with opened(postgres_url, limits(poll_ms=5)) as log:
        await log.append([new_batch("arrivals", 3)])
        execute(postgres_url, "UPDATE penstock_log.heads SET next = 2 WHERE stream = 'arrivals'")
        async with asyncio.timeout(A_WHILE_S):
            while log.failure() is None:  # noqa: ASYNC110 # a failure wakes nobody in particular
                await asyncio.sleep(0.01)
        assert "arrivals/0" in str(log.failure())
        with pytest.raises(LogUnavailable, match="lost what it had acknowledged"):
            await log.append([new_batch("arrivals", 1)])


async def test_another_log_in_the_place_of_the_first_ends_the_process(postgres_url: str):
    async with opened(postgres_url) as log:
        await log.append([new_batch("arrivals", 3)])
        execute(postgres_url, "UPDATE penstock_log.meta SET value = 'other' WHERE name = 'log_id'")
        end_sessions(postgres_url, "ingest")
        with pytest.raises(LogUnavailable, match="another log"):
            await log.append([new_batch("arrivals", 1)])
        assert log.failure() is not None
