"""A lane of writes to PostgreSQL: what waits shares one transaction; replies only after its commit.

Group commit is adaptive: while one commit waits for the server, the next group gathers. Before anything else a
group sets and locks its lane's row (`writers.seq`), so that after a connection broke at COMMIT the outcome can be
read: the reader waits for the lock, hence for the end of that transaction, however late the server gets to it.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import psycopg
import structlog
from psycopg import errors

from penstock.errors import LogFull, LogUnavailable, PenstockError
from penstock.logs import metrics
from penstock.logs.catalog_change import CatalogState
from penstock.logs.postgres_plan import Changes, Outcome, Write, decide, needs_of
from penstock.logs.postgres_schema import Connection
from penstock.logs.postgres_sessions import APPLICATION, Sessions, refusal_of
from penstock.logs.postgres_statements import lock, store
from penstock.logs.postgres_view import View
from penstock.logs.rejected_ids import RejectedIds
from penstock.logs.settings import LogSettings
from penstock.model.position import Position
from penstock.ports.clock import Clock

__all__ = ["Lane"]

_log = structlog.get_logger(__name__)

#: How long the switch `unsafe_acknowledge_before_commit` leaves acknowledged events uncommitted.
_UNSAFE_HOLD_S = 0.2
#: How long after a refusal for want of room the log counts as full: it is the server's disk, nobody can look at it.
_FULL_SHOWN_S = 10.0
#: Between attempts at a database that does not answer.
_BACKOFF_S = (0.05, 0.1, 0.2, 0.5, 1.0)

# Sessions of Penstock whose process stopped while it sent a transaction; the server's own timeout for idle
# transactions counts only once a whole message has arrived.
_END_STOPPED = (
    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database() "
    "AND usename = current_user AND application_name LIKE %s AND pid <> pg_backend_pid() "
    "AND wait_event = 'ClientRead' AND xact_start < now() - make_interval(secs => %s)"
)


@dataclass(eq=False, slots=True)
class _Job:
    write: Write
    size_bytes: int
    done: asyncio.Future[list[Position]]


@dataclass(frozen=True, slots=True)
class _Decided:
    """A group as it is written: what the callers are told, and what changes."""

    outcomes: Sequence[Outcome]
    changes: Changes
    state: CatalogState
    now_ms: int


class _UnknownOutcomeError(Exception):
    """The connection broke at COMMIT; `decided` holds if it took place."""

    def __init__(self, decided: _Decided, reason: BaseException) -> None:
        super().__init__(str(reason).strip() or type(reason).__name__)
        self.decided = decided


class Lane:
    """Writes one group after the other. `publish` is called after each commit, before the replies.

    `check` looks at each new session before it is used.

    Errors that reach callers: LogFull, LogUnavailable, `too_many_requests`, and why a write is refused
    (`postgres_plan.decide`).
    """

    def __init__(
        self,
        name: str,
        sessions: Sessions,
        view: View,
        *,
        clock: Clock,
        settings: LogSettings,
        check: Callable[[Connection], Awaitable[None]],
        publish: Callable[[Changes, CatalogState], None],
    ) -> None:
        self._name = name
        self._sessions = sessions
        self._view = view
        self._clock = clock
        self._settings = settings
        self._check = check
        self._publish = publish
        self._lane = f"{view.writer}:{name}"
        self._seq = 0
        self._rejected_ids = RejectedIds(f"{name[0]}{view.writer}")
        self._connection: Connection | None = None
        self._queue: deque[_Job] = deque()
        self._waiting_bytes = 0
        self._in_flight = 0
        self._filled = asyncio.Event()
        self._closing = False
        self._full: tuple[LogFull, float] | None = None
        self._task = asyncio.get_running_loop().create_task(self._run())

    def submit(self, write: Write) -> asyncio.Future[list[Position]]:
        """Queue a write; the future resolves when it is durable."""
        if self._closing:
            raise LogUnavailable("the log is closed")
        limits = self._settings
        size_bytes = write.size_bytes
        waiting = len(self._queue) + self._in_flight
        if waiting and (
            waiting >= limits.queue_max_requests or self._waiting_bytes + size_bytes > limits.queue_max_bytes
        ):
            raise PenstockError(
                "too_many_requests",
                f"{waiting} writes ({self._waiting_bytes} bytes) wait for the database {self._sessions.place}; "
                "send more slowly or in greater batches",
                retry_after_s=1.0,
            )
        job = _Job(write, size_bytes, asyncio.get_running_loop().create_future())
        self._waiting_bytes += size_bytes
        self._queue.append(job)
        self._filled.set()
        return job.done

    def full(self) -> LogFull | None:
        """Why writes were refused for want of room a moment ago; None once one took place or nobody has tried."""
        if self._full is None or self._clock.monotonic_s() - self._full[1] > _FULL_SHOWN_S:
            return None
        return self._full[0]

    async def close(self) -> None:
        """Write what is queued, then end the session."""
        self._closing = True
        self._filled.set()
        await self._task
        if self._connection is not None:
            try:
                await self._connection.execute("DELETE FROM writers WHERE writer = %s", (self._lane,))
            except psycopg.Error as error:
                _log.info("the lane's row stays until the next trim", lane=self._lane, reason=str(error))
        await self._disconnect()

    async def _run(self) -> None:
        while True:
            if not self._queue:
                if self._closing:
                    return
                self._filled.clear()
                await self._filled.wait()
                await asyncio.sleep(0)  # callers that were just answered queue their next write
                continue
            group = self._gather()
            self._in_flight = len(group)
            try:
                outcomes = await self._write(group)
            except Exception as error:  # the outermost loop: whatever it is, callers must not wait for ever
                _log.exception("a group of writes failed", lane=self._name)
                await self._disconnect()
                outcomes = [PenstockError("internal", f"the log's writer failed: {error!r}")] * len(group)
            self._in_flight = 0
            self._waiting_bytes -= sum(job.size_bytes for job in group)
            _resolve(group, outcomes)

    def _gather(self) -> list[_Job]:
        group = [self._queue.popleft()]
        size_bytes = group[0].size_bytes
        limits = self._settings
        while self._queue and len(group) < limits.group_max_requests and size_bytes < limits.group_max_bytes:
            group.append(self._queue.popleft())
            size_bytes += group[-1].size_bytes
        return group

    async def _write(self, group: Sequence[_Job]) -> Sequence[Outcome]:
        """Try, and again where it is known that nothing was written, up to `attempts_max` times."""
        refusal: PenstockError
        attempts_max = self._settings.postgres.attempts_max
        for attempt in range(attempts_max):
            if attempt:
                await asyncio.sleep(_BACKOFF_S[min(attempt, len(_BACKOFF_S)) - 1])
            try:
                return self._committed(await self._attempt(group))
            except _UnknownOutcomeError as unknown:
                refusal = LogUnavailable(f"the database {self._sessions.place} broke off at a commit: {unknown}")
                took_place = await self._ask_outcome()
                if took_place:
                    return self._committed(unknown.decided)
                if took_place is None:
                    self._view.rename()  # should that transaction end well after all, its ids are another writer's
                    break
            except (psycopg.Error, OSError, TimeoutError) as error:
                refusal = refusal_of(error, self._sessions.place)
                if isinstance(refusal, LogFull):
                    self._full = refusal, self._clock.monotonic_s()
                await self._disconnect()
                if not isinstance(refusal, LogUnavailable):
                    break
                if isinstance(error, errors.LockNotAvailable):
                    await self._end_stopped()
            except PenstockError as error:  # the check of a new session
                refusal = error
                await self._disconnect()
                break
        return [refusal] * len(group)

    async def _attempt(self, group: Sequence[_Job]) -> _Decided:
        """One transaction. Any error but `_UnknownOutcomeError` says that nothing was written."""
        limits = self._settings
        writes = [job.write for job in group]
        connection = self._connection or await self._connect()
        self._seq += 1
        started_s = time.perf_counter()
        async with asyncio.timeout(limits.postgres.answer_timeout_s):
            held = await lock(
                connection,
                needs_of(writes),
                state=self._view.state,
                lane=self._lane,
                seq=self._seq,
                writer=self._view.writer,
                news_max_rows=limits.postgres.news_max_rows,
                limit_bytes=limits.max_size_bytes,
            )
        now_ms = self._clock.now_ms()
        outcomes, changes = decide(
            writes, held, now_ms=now_ms, rejected_ids=self._rejected_ids, limit_bytes=limits.max_size_bytes
        )
        decided = _Decided(outcomes, changes, held.state, now_ms)
        if limits.unsafe_acknowledge_before_commit:
            _resolve(group, outcomes)
            await asyncio.sleep(_UNSAFE_HOLD_S)
        try:
            async with asyncio.timeout(limits.postgres.answer_timeout_s):
                await store(connection, changes, writer=self._view.writer, now_ms=now_ms)
        except (psycopg.Error, OSError, TimeoutError) as error:
            if isinstance(error, psycopg.Error) and error.diag.severity_nonlocalized == "ERROR":
                raise  # a statement or the COMMIT was refused: the transaction is void
            # Anything else, a FATAL error too, may have come after the COMMIT was done.
            raise _UnknownOutcomeError(decided, error) from error
        metrics.COMMIT_SECONDS.labels(self._name).observe(time.perf_counter() - started_s)
        metrics.GROUP_REQUESTS.labels(self._name).observe(len(group))
        return decided

    def _committed(self, decided: _Decided) -> Sequence[Outcome]:
        self._full = None
        self._publish(decided.changes, decided.state)
        metrics.APPENDED_EVENTS.labels(self._name).inc(sum(batch.count for batch in decided.changes.batches))
        metrics.APPENDED_BYTES.labels(self._name).inc(sum(len(batch.payload) for batch in decided.changes.batches))
        return decided.outcomes

    async def _ask_outcome(self) -> bool | None:
        """Whether the last transaction took place; None if the database does not say within `outcome_wait_s`."""
        deadline_s = self._clock.monotonic_s() + self._settings.postgres.outcome_wait_s
        await self._disconnect()
        for attempt in itertools.count():
            try:
                connection = self._connection or await self._connect()
                cursor = await connection.execute(
                    "SELECT seq FROM writers WHERE writer = %s FOR UPDATE", (self._lane,)
                )
                row = await cursor.fetchone()
            except (psycopg.Error, OSError, PenstockError) as error:
                await self._disconnect()
                if isinstance(error, errors.LockNotAvailable):
                    await self._end_stopped()
                if self._clock.monotonic_s() >= deadline_s or isinstance(error, PenstockError):
                    return None
                await asyncio.sleep(_BACKOFF_S[min(attempt, len(_BACKOFF_S) - 1)])
            else:
                return row == (self._seq,)
        return None

    async def _end_stopped(self) -> None:
        """End sessions of Penstock that hold locks and have said nothing for longer than the server's timeout."""
        idle_s = self._settings.postgres.idle_in_transaction_timeout_s
        try:
            connection = self._connection or await self._connect()
            cursor = await connection.execute(_END_STOPPED, (f"{APPLICATION}%", idle_s))
            (count,) = await cursor.fetchone() or (0,)
        except (psycopg.Error, OSError, PenstockError):
            await self._disconnect()  # the next attempt finds out what is wrong
            return
        _log.warning("ended sessions of stopped processes", database=self._sessions.place, sessions=count)

    async def _connect(self) -> Connection:
        connection = await self._sessions.open(self._name)
        try:
            await self._check(connection)
            await connection.execute(
                "INSERT INTO writers VALUES (%s, %s, now()) ON CONFLICT (writer) DO NOTHING", (self._lane, self._seq)
            )
        except BaseException:
            await connection.close()
            raise
        self._connection = connection
        return connection

    async def _disconnect(self) -> None:
        if self._connection is not None:
            connection, self._connection = self._connection, None
            await connection.close()


def _resolve(group: Sequence[_Job], outcomes: Sequence[Outcome]) -> None:
    for job, outcome in zip(group, outcomes, strict=True):
        if job.done.done():
            continue  # the caller has gone away; the write took place
        if isinstance(outcome, PenstockError):
            job.done.set_exception(outcome)
        else:
            job.done.set_result(outcome)
