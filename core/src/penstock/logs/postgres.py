"""The log in PostgreSQL: for processes on several hosts, several of one role among them.

All streams live in the schema `penstock_log` of one database. Offsets come from a partition's row in `heads`, locked
until the transaction that appends has committed: what a reader sees of a partition never has a gap that fills later.
Every transaction takes its locks in one order: its lane, the catalog (shared), tasks, marks of ids, heads.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping, Sequence
from functools import partial as bind
from typing import TypeVar

import psycopg
import structlog

from penstock.errors import LogUnavailable, PenstockError
from penstock.logs import metrics, postgres_catalog, postgres_news, postgres_reader, postgres_trim
from penstock.logs.catalog_change import CatalogState
from penstock.logs.postgres_news import Hints, Listener
from penstock.logs.postgres_plan import Changes, Write
from penstock.logs.postgres_schema import Connection, check_server, create_tables, read_server
from penstock.logs.postgres_sessions import Sessions, is_lasting, refusal_of
from penstock.logs.postgres_view import View
from penstock.logs.postgres_writer import Lane
from penstock.logs.settings import LogSettings
from penstock.model.batch import Batch, NewBatch, RejectedEvent
from penstock.model.position import Position
from penstock.model.stream import StreamSpec
from penstock.ports.clock import Clock
from penstock.ports.log import AppRecord, Capabilities, Catalog, Head, RejectedFilter, Restored, Transaction

__all__ = ["ROLES", "PostgresLog"]

#: Roles that write.
ROLES = frozenset({"ingest", "processor"})

T = TypeVar("T")
StreamPartition = tuple[str, int]
_log = structlog.get_logger(__name__)
_OPEN_RETRY_S = 0.25


class PostgresLog:
    """Implements `ports.log.Log` for any number of processes on any number of hosts. Made by `open`.

    The catalog, and the ends up to which `read` reads, are as this process knows them: at most `postgres.poll_ms`
    behind what others have written.
    """

    capabilities = Capabilities(scope="cluster", durable=True, retention_holds=True, several_writers=True)

    def __init__(self, url: str, *, roles: frozenset[str], clock: Clock, settings: LogSettings) -> None:
        self._sessions = Sessions(url, settings=settings)
        self._roles = roles
        self._clock = clock
        self._settings = settings
        self._view = View(tail_cache_bytes=settings.tail_cache_bytes, on_void=self._purge_soon)
        self._lanes: dict[str, Lane] = {}
        self._hints = Hints(self._sessions, own=self._own)
        self._looking = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._log_id = ""
        self._server: dict[str, object] = {}
        self._failure: str | None = None
        self._closed = False

    @classmethod
    async def open(
        cls, url: str, *, roles: frozenset[str] = ROLES, clock: Clock, settings: LogSettings | None = None
    ) -> PostgresLog:
        """Open or create the log in the database of `url`. Waits `postgres.open_wait_s` for a database that is away.

        `conflict` for a server that would lose events, or tables of a newer version; LogUnavailable.
        """
        log = cls(url, roles=roles & ROLES, clock=clock, settings=settings or LogSettings())
        try:
            await log._start()
        except BaseException:
            await log.close()
            raise
        return log

    async def probe(self) -> None:
        """See `Log.probe`."""
        if self._failure is not None:
            raise LogUnavailable(self._failure)
        await self._run(postgres_reader.answer)
        for lane in self._lanes.values():
            if (full := lane.full()) is not None:
                raise full

    def failure(self) -> str | None:
        """Only what cannot heal: the database is another one, or of an earlier time, than the one that was opened."""
        return self._failure

    def describe(self) -> dict[str, object]:
        """Settings as the server gave them at the last connection."""
        return {"adapter": "postgres", "place": self._sessions.place, **self._server}

    async def append(
        self,
        batches: Sequence[NewBatch],
        rejected: Sequence[RejectedEvent] = (),
        replayed: Sequence[str] = (),
        *,
        known: Mapping[str, int] | None = None,
    ) -> list[Position]:
        """See `Log.append`."""
        self._check_open()
        if not (batches or rejected or replayed):
            return []
        return await self._lane("ingest").submit(Write(batches, rejected, replayed, known))

    async def read(
        self, stream: str, partition: int, offset: int, max_bytes: int, max_batches: int = 1000
    ) -> list[Batch]:
        """See `Log.read`."""
        self._check_open()
        head = self._view.head(stream, partition)
        if offset > head.next:  # another process may know more than this one
            head = await self.head(stream, partition)
        if offset > head.next:
            raise LogUnavailable(
                f"offset {offset} of {stream}/{partition} lies beyond its end {head.next}: the database "
                f"{self._sessions.place} was restored from an older backup"
            )
        if offset == head.next:
            return []
        if self._view.tail.end(stream, partition) == head.next:  # else another process has appended the latest
            held = self._view.tail.read(
                stream, partition, offset=offset, max_bytes=max_bytes, max_batches=max_batches
            )
            if held is not None:
                return held
        query = bind(
            postgres_reader.read_batches,
            stream=stream,
            partition=partition,
            epoch=head.epoch,
            offset=offset,
            max_bytes=max_bytes,
            max_batches=max_batches,
        )
        return await self._run(query)

    async def head(self, stream: str, partition: int) -> Head:
        """See `Log.head`. Asked of the database: callers compare it with positions that other processes moved."""
        self._check_open()
        self._view.head(stream, partition)  # raises what is wrong with the partition
        head = await self._run(bind(postgres_reader.read_head, stream=stream, partition=partition))
        if head is not None:
            self._view.learn({(stream, partition): head})
        return self._view.head(stream, partition)

    async def wait(self, streams: Collection[str], since: int, timeout_s: float) -> int:
        """See `Log.wait`."""
        self._check_open()
        return await self._view.ticks.wait(streams, since, timeout_s)

    async def catalog(self) -> Catalog:
        """See `Log.catalog`."""
        self._check_open()
        return self._view.state.catalog

    async def put_app(
        self, app: str, sql: str, streams: Sequence[StreamSpec], expected_version: int | None
    ) -> AppRecord:
        """See `Log.put_app`."""
        work = bind(
            postgres_catalog.replace,
            app=app,
            sql=sql,
            streams=streams,
            expected_version=expected_version,
            now_ms=self._clock.now_ms(),
        )
        record, _ = await self._run(work, repeat=False)
        await self._changed_catalog()
        return record

    async def delete_app(self, app: str, expected_version: int | None) -> None:
        """See `Log.delete_app`."""
        await self._run(bind(postgres_catalog.remove, app=app, expected_version=expected_version), repeat=False)
        await self._changed_catalog()

    async def acquire(self, app: str) -> Restored:
        """See `Log.acquire`."""
        return await self._run(bind(postgres_catalog.acquire, task=app))

    async def commit(self, transaction: Transaction) -> list[Position]:
        """See `Log.commit`."""
        self._check_open()
        write = Write(transaction.appends, transaction.rejected, transaction.replayed, cycle=transaction)
        return await self._lane("processor").submit(write)

    async def positions(self, app: str) -> Mapping[StreamPartition, int]:
        """See `Log.positions`."""
        return await self._run(bind(postgres_catalog.read_positions, task=app))

    async def rejected(self, where: RejectedFilter) -> list[RejectedEvent]:
        """See `Log.rejected`."""
        return await self._run(bind(postgres_reader.list_rejected, where=where))

    async def ids(self, stream: str, since_ms: int) -> list[tuple[int, bytes]]:
        """See `Log.ids`. At most `ids_read_max_bytes`, the newest."""
        self._check_open()
        self._view.state.stream(stream)
        query = bind(
            postgres_reader.read_ids,
            stream=stream,
            epoch=self._view.state.epochs[stream],
            since_ms=since_ms,
            max_bytes=self._settings.ids_read_max_bytes,
        )
        return await self._run(query)

    async def ids_after(self, stream: str, mark: int | None) -> tuple[list[tuple[int, bytes]], int]:
        """See `Log.ids_after`."""
        self._check_open()
        self._view.state.stream(stream)
        query = bind(
            postgres_reader.read_ids_after,
            stream=stream,
            epoch=self._view.state.epochs[stream],
            mark=mark,
            writer=self._view.writer,
        )
        return await self._run(query)

    async def beat(self, group: str, member: str, ttl_s: float) -> list[str]:
        """See `Log.beat`; time is the database's."""
        return await self._run(bind(postgres_reader.beat, group=group, member=member, ttl_s=ttl_s))

    async def trim(self, floors: Mapping[StreamPartition, int]) -> int:
        """See `Log.trim`. Trims the streams that the roles of this process write."""
        held = await self._run(postgres_trim.least_positions)
        deleted = await postgres_trim.trim(
            self._run_chunk,
            self._view.state,
            roles=self._roles,
            floors=floors,
            held=held,
            now_ms=self._clock.now_ms(),
            settings=self._settings,
        )
        await self._purge()
        await self._look_now()
        metrics.SIZE_BYTES.labels("database").set(await self._run(postgres_trim.size_bytes))
        return deleted

    async def close(self) -> None:
        """See `Log.close`."""
        if self._closed:
            return
        self._closed = True
        for lane in self._lanes.values():
            await lane.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._sessions.close()
        self._view.ticks.wake_all()

    async def _start(self) -> None:
        deadline_s = self._clock.monotonic_s() + self._settings.postgres.open_wait_s
        while True:
            try:
                await self._open_tables()
                break
            except (psycopg.Error, OSError) as error:
                lasting = isinstance(error, psycopg.Error) and is_lasting(error)
                if lasting or self._clock.monotonic_s() >= deadline_s:
                    raise refusal_of(error, self._sessions.place) from error
                await asyncio.sleep(_OPEN_RETRY_S)
        if self._settings.unsafe_acknowledge_before_commit or self._settings.unsafe_synchronous_off:
            _log.warning("THE LOG RUNS UNSAFE: ACKNOWLEDGED EVENTS WILL BE LOST", database=self._sessions.place)
        poll_s = self._settings.postgres.poll_ms / 1000
        listener = Listener(self._sessions, poll_s=poll_s, own=self._own, look=self._look, check=self._check)
        self._spawn(listener.run())
        self._spawn(self._hints.run())
        self._spawn(self._purge())
        _log.info("log opened", roles=sorted(self._roles), **self.describe())

    async def _open_tables(self) -> None:
        connection = await self._sessions.open("opener")
        try:
            self._server = await read_server(connection)
            check_server(self._server, self._sessions.place, settings=self._settings)
            self._log_id = await create_tables(connection, self._sessions.place)
            await self._look(connection)
        finally:
            await connection.close()

    async def _check(self, connection: Connection) -> None:
        """Whether a new session still leads to the log that was opened, on a server that keeps what it says."""
        server = await read_server(connection)
        check_server(server, self._sessions.place, settings=self._settings)
        cursor = await connection.execute("SELECT value FROM meta WHERE name = 'log_id'")
        if await cursor.fetchone() != (self._log_id,):
            self._fail(f"the database {self._sessions.place} holds another log than when this process started")
        if self._failure is not None:
            raise LogUnavailable(self._failure)
        self._server = server

    def _lane(self, name: str) -> Lane:
        if name not in self._roles:
            raise PenstockError("internal", f"this process has the roles {sorted(self._roles)}, not {name}")
        if self._failure is not None:
            raise LogUnavailable(self._failure)
        if name not in self._lanes:
            self._lanes[name] = Lane(
                name,
                self._sessions,
                self._view,
                clock=self._clock,
                settings=self._settings,
                check=self._check,
                publish=self._publish,
            )
        return self._lanes[name]

    def _publish(self, changes: Changes, state: CatalogState) -> None:
        """Take over what this process has just committed; called before the callers are answered."""
        self._view.adopt(state)
        if self._view.learn(changes.heads, changes.batches):
            self._hints.send()

    async def _look(self, connection: Connection) -> None:
        """Learn what all processes have written; one look at a time, so that news come in order."""
        async with self._looking:
            before = dict(self._view.heads)
            news = await postgres_news.ask(connection, version=self._view.state.catalog.version)
            if lost := self._view.lost(before, news.heads):
                self._fail(
                    f"the database {self._sessions.place} has lost what it had acknowledged ({', '.join(lost[:5])}): "
                    "it was restored from an older backup, or a standby took over that lacked it; start again"
                )
                return
            if news.catalog is not None:
                self._view.adopt(news.catalog)
            self._view.learn(news.heads)

    async def _look_now(self) -> None:
        await self._run(self._look)

    async def _changed_catalog(self) -> None:
        await self._look_now()
        self._hints.send()

    async def _purge(self) -> None:
        """Delete batches that a change of the catalog made void, of the streams that this process's roles write."""
        await postgres_trim.purge(
            self._run_chunk,
            self._view.state,
            list(self._view.heads),
            roles=self._roles,
            rows=self._settings.trim_chunk_batches,
        )

    async def _run(self, work: Callable[[Connection], Awaitable[T]], *, repeat: bool = True) -> T:
        self._check_open()
        return await self._sessions.run(work, repeat=repeat)

    async def _run_chunk(self, chunk: postgres_trim.Chunk) -> tuple[int, int]:
        return await self._run(chunk, repeat=False)

    def _own(self) -> str:
        return self._view.writer

    def _purge_soon(self) -> None:
        if not self._closed:
            self._spawn(self._purge())

    def _fail(self, reason: str) -> None:
        if self._failure is None:
            self._failure = reason
            metrics.FAILED.labels("postgres").set(1)
            _log.error("log failed", reason=reason)
            self._view.ticks.wake_all()

    def _spawn(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.warning("background work of the log ended; it is taken up at the next trim", reason=str(error))

    def _check_open(self) -> None:
        if self._closed:
            raise LogUnavailable("the log is closed")
