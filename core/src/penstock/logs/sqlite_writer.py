"""The writer of one file: a thread that drains its queue into one transaction, commits, and only then replies.

Group commit is adaptive: while one commit waits for the disk, the next group gathers in the queue. An I/O error
ends the writer for good (retrying an fsync may report success for pages that are gone: see "Can Applications
Recover from fsync Failures?", USENIX ATC 2020); a full disk does not.
"""

from __future__ import annotations

import asyncio
import math
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue

import apsw
import structlog

from penstock.errors import LogFull, LogUnavailable, PenstockError
from penstock.logs import metrics
from penstock.logs.catalog_change import CatalogState
from penstock.logs.give_way import GiveWay
from penstock.logs.rejected_ids import RejectedIds
from penstock.logs.settings import LogSettings
from penstock.logs.sqlite_books import CatalogBook, HeadBook
from penstock.logs.sqlite_schema import file_of, meta, set_meta
from penstock.model.batch import Batch
from penstock.ports.clock import Clock
from penstock.ports.log import Head

__all__ = ["Effects", "Job", "Tx", "Writer"]

_log = structlog.get_logger(__name__)

#: How long the switch `unsafe_acknowledge_before_commit` leaves acknowledged events uncommitted.
_UNSAFE_HOLD_S = 0.2
#: Free space below which an I/O error that SQLite does not call "full" is taken for a full disk.
_FULL_BELOW_BYTES = 1024 * 1024
#: Errors of a full disk that SQLite reports under other names.
_FULL_SUSPECTS = frozenset(
    {apsw.SQLITE_IOERR_SHMSIZE, apsw.SQLITE_IOERR_WRITE, apsw.SQLITE_IOERR_TRUNCATE, apsw.SQLITE_CANTOPEN}
)


@dataclass(slots=True)
class Effects:
    """What a job changed, for the mirrors in the event loop; applied after the commit."""

    value: object = None
    batches: list[Batch] = field(default_factory=list)
    heads: dict[tuple[str, int], Head] = field(default_factory=dict)
    changed: set[str] = field(default_factory=set)
    catalog: CatalogState | None = None


@dataclass(frozen=True, slots=True)
class Tx:
    """What a job may use inside the transaction."""

    connection: apsw.Connection
    heads: HeadBook
    catalog: CatalogBook
    rejected_ids: RejectedIds
    now_ms: int


@dataclass(eq=False, slots=True)
class Job:
    """One write. `work` raises PenstockError to be rolled back alone; then `savepoint` must be true unless it
    raises before its first write. `grows`: refused above the size limit.
    """

    work: Callable[[Tx], Effects]
    done: asyncio.Future[object]
    size_bytes: int = 0
    savepoint: bool = True
    grows: bool = False


Outcome = Effects | PenstockError


class Writer:
    """Owns the writing connection of a file. `publish` is called in the event loop after each commit, before replies.

    Errors that reach callers: LogFull, LogUnavailable, `too_many_requests`, and what a job's own checks raise.
    """

    def __init__(
        self,
        connection: apsw.Connection,
        *,
        directory: Path,
        role: str,
        clock: Clock,
        settings: LogSettings,
        give_way: GiveWay,
        publish: Callable[[Sequence[Effects]], None],
        other_files_bytes: Callable[[], int],
    ) -> None:
        self._connection = connection
        self._directory = directory
        self._role = role
        self._clock = clock
        self._settings = settings
        self._publish = publish
        self._other_files_bytes = other_files_bytes
        self._loop = asyncio.get_running_loop()
        self._queue: SimpleQueue[Job | None] = SimpleQueue()
        self._waiting = 0
        self._waiting_bytes = 0
        self._give_way = give_way
        self._heads = HeadBook(connection)
        self._catalog = CatalogBook(connection)
        self._rejected_ids = RejectedIds(role[0], _last_rejected_id(connection, role[0]))
        self._commits = int(str(meta(connection, "commits")))
        self._wal_pages = 0
        self._failure: str | None = None
        self._full: LogFull | None = None
        self._refused_bytes = 0
        self._closing = False
        self.used_bytes = self._measured(connection)
        connection.set_wal_hook(self._note_wal)
        self._thread = threading.Thread(target=self._run, name=f"penstock-log-{role}", daemon=True)
        self._thread.start()

    @property
    def failure(self) -> str | None:
        """Why this writer has stopped for good; None while it works."""
        return self._failure

    def full(self) -> LogFull | None:
        """Why the last writes were refused for want of room, while there is none for them; None once there is."""
        full = self._full
        if full is None or _free_bytes(self._directory) < _FULL_BELOW_BYTES + 2 * self._refused_bytes:
            return full
        room_bytes = self._room_bytes()
        return None if room_bytes is None or room_bytes >= self._refused_bytes else full

    def submit(
        self, work: Callable[[Tx], Effects], *, size_bytes: int = 0, savepoint: bool = True, grows: bool = False
    ) -> asyncio.Future[object]:
        """Queue a write; the future resolves when it is durable. Called in the event loop."""
        if self._failure is not None:
            raise LogUnavailable(self._failure)
        if self._closing:
            raise LogUnavailable("the log is closed")
        limits = self._settings
        if self._waiting and (
            self._waiting >= limits.queue_max_requests or self._waiting_bytes + size_bytes > limits.queue_max_bytes
        ):
            raise PenstockError(
                "too_many_requests",
                f"{self._waiting} writes ({self._waiting_bytes} bytes) wait for the disk of {self._role}.db; "
                "send more slowly or in greater batches",
                retry_after_s=1.0,
            )
        job = Job(work, self._loop.create_future(), size_bytes, savepoint, grows)
        self._waiting += 1
        self._waiting_bytes += size_bytes
        self._queue.put(job)
        self._give_way.enter()
        return job.done

    async def close(self) -> None:
        """Write what is queued, then let the thread end and the file go."""
        if not self._closing:
            self._closing = True
            self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    # -- the thread ---------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while (job := self._queue.get()) is not None:
            group, last = self._gather(job)
            self._write(group)
            self._look_after_file()
            if last:
                break
        if self._failure is not None:
            # Closing would checkpoint, and so retry the fsync that has failed.
            self._connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        self._connection.close()

    def _gather(self, job: Job) -> tuple[list[Job], bool]:
        group = [job]
        size_bytes = job.size_bytes
        limits = self._settings
        while len(group) < limits.group_max_requests and size_bytes < limits.group_max_bytes:
            try:
                more = self._queue.get_nowait()
            except Empty:
                break
            if more is None:
                return group, True
            group.append(more)
            size_bytes += more.size_bytes
        return group, False

    def _write(self, group: list[Job]) -> None:
        if self._failure is not None:
            self._reply(group, [LogUnavailable(self._failure)] * len(group))
            return
        started_s = time.perf_counter()
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            outcomes = self._run_jobs(group)
            self._heads.flush()
            self._commits += 1
            set_meta(self._connection, "commits", self._commits)
        except (apsw.Error, OSError) as error:
            refusals = [self._abandon(error)] * len(group)
            self._note_room(group, refusals)
            self._reply(group, refusals)
            return
        if self._settings.unsafe_acknowledge_before_commit:
            self._loop.call_soon_threadsafe(self._resolve, group, outcomes)
            time.sleep(_UNSAFE_HOLD_S)
        try:
            self._connection.execute("COMMIT")
        except (apsw.Error, OSError) as error:
            refusal = self._abandon(error)
            if self._failure is not None or not self._took_place():
                self._note_room(group, [refusal])
                self._reply(group, [refusal] * len(group))
                return
        metrics.COMMIT_SECONDS.labels(self._role).observe(time.perf_counter() - started_s)
        metrics.GROUP_REQUESTS.labels(self._role).observe(len(group))
        self._note_room(group, outcomes)
        self._reply(group, outcomes)

    def _note_room(self, group: Sequence[Job], outcomes: Sequence[Outcome]) -> None:
        """Remember that there was no room, and how much these writes would have needed."""
        full = next((outcome for outcome in outcomes if isinstance(outcome, LogFull)), None)
        if full is not None:
            self._refused_bytes = sum(job.size_bytes for job in group)
            self._full = full
        elif any(job.size_bytes for job in group):
            self._full = None

    def _run_jobs(self, group: list[Job]) -> list[Outcome]:
        tx = Tx(self._connection, self._heads, self._catalog, self._rejected_ids, self._clock.now_ms())
        room_bytes = self._room_bytes()
        outcomes: list[Outcome] = []
        for job in group:
            if job.grows and room_bytes is not None:
                room_bytes -= job.size_bytes
                if room_bytes < 0:
                    outcomes.append(_over_limit(self._directory, self._settings.max_size_bytes))
                    continue
            outcomes.append(self._run_job(job, tx))
        return outcomes

    def _run_job(self, job: Job, tx: Tx) -> Outcome:
        if not job.savepoint:
            try:
                return job.work(tx)
            except PenstockError as refusal:
                return refusal
        mark = self._heads.mark()
        self._connection.execute("SAVEPOINT job")
        try:
            effects = job.work(tx)
        except PenstockError as refusal:
            self._connection.execute("ROLLBACK TO job")
            self._connection.execute("RELEASE job")
            self._heads.restore(mark)
            self._catalog.forget()
            return refusal
        self._connection.execute("RELEASE job")
        return effects

    def _room_bytes(self) -> int | None:
        limit_bytes = self._settings.max_size_bytes
        if limit_bytes is None:
            return None
        return limit_bytes - self.used_bytes - self._other_files_bytes()

    def _abandon(self, error: apsw.Error | OSError) -> PenstockError:
        """Roll back after an error of SQLite and say what it means for the callers."""
        refusal = self._refusal(error)
        try:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            self._heads.reload()
            self._catalog.forget()
        except apsw.Error as second:
            self._fail(f"{file_of(self._directory, self._role)}: cannot roll back: {second}")
        return refusal

    def _refusal(self, error: apsw.Error | OSError) -> PenstockError:
        path = file_of(self._directory, self._role)
        code = getattr(error, "extendedresult", 0)
        if isinstance(error, apsw.FullError) or (code in _FULL_SUSPECTS and _disk_is_full(self._directory)):
            return LogFull(f"the disk of {self._directory} is full; free some space, nothing else needs to be done")
        if isinstance(error, apsw.BusyError):
            return LogUnavailable(f"{path} is locked: {error}; another program holds it open for writing")
        self._fail(f"{path}: {error}; stopped acknowledging. Check the disk, then start again")
        return LogUnavailable(self._failure or str(error))

    def _fail(self, reason: str) -> None:
        if self._failure is None:
            self._failure = reason
            metrics.FAILED.labels(self._role).set(1)
            _log.error("log failed", file=str(file_of(self._directory, self._role)), reason=reason)

    def _took_place(self) -> bool:
        """After a COMMIT of unknown outcome: whether the group is in the file after all."""
        try:
            stored = int(str(meta(self._connection, "commits")))
        except apsw.Error as error:
            self._fail(f"{file_of(self._directory, self._role)}: cannot reread after a failed commit: {error}")
            return False
        took_place = stored == self._commits
        self._commits = stored
        return took_place

    def _note_wal(self, _connection: apsw.Connection, _name: str, pages: int) -> int:
        self._wal_pages = pages
        return apsw.SQLITE_OK

    def _look_after_file(self) -> None:
        """Measure and checkpoint, after the replies, so that nobody waits for it but the next group."""
        if self._failure is not None:
            return
        checkpoint = self._wal_pages >= self._settings.checkpoint_pages
        try:
            if checkpoint or self._settings.max_size_bytes is not None:
                self.used_bytes = self._measured(self._connection)
            if checkpoint:
                self._wal_pages = 0
                self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        except apsw.Error as error:
            # A full disk or a busy reader only leaves the WAL longer; the events are in it. The rest is fatal.
            refusal = self._refusal(error)
            _log.warning("checkpoint postponed", file=self._role, reason=refusal.detail)

    def _measured(self, connection: apsw.Connection) -> int:
        used_bytes = _used_bytes(connection)
        metrics.SIZE_BYTES.labels(self._role).set(used_bytes)
        return used_bytes

    def _reply(self, group: list[Job], outcomes: Sequence[Outcome]) -> None:
        try:
            self._loop.call_soon_threadsafe(self._deliver, group, outcomes)
        except RuntimeError:
            _log.warning("event loop gone before the reply", file=self._role, writes=len(group))

    # -- back in the event loop ---------------------------------------------------------------------------------

    def _deliver(self, group: list[Job], outcomes: Sequence[Outcome]) -> None:
        self._publish([outcome for outcome in outcomes if isinstance(outcome, Effects)])
        self._give_way.leave(len(group))
        self._waiting -= len(group)
        self._waiting_bytes -= sum(job.size_bytes for job in group)
        self._resolve(group, outcomes)

    def _resolve(self, group: list[Job], outcomes: Sequence[Outcome]) -> None:
        for job, outcome in zip(group, outcomes, strict=True):
            if job.done.done():
                continue  # the caller has gone away; the write took place
            if isinstance(outcome, Effects):
                job.done.set_result(outcome.value)
            else:
                job.done.set_exception(outcome)


def _last_rejected_id(connection: apsw.Connection, suffix: str) -> str | None:
    pattern = "[0-9a-f]" * 17 + suffix
    found = connection.execute("SELECT max(id) FROM rejected WHERE id GLOB ?", (pattern,)).get
    return None if found is None else str(found)


def _used_bytes(connection: apsw.Connection) -> int:
    pages = int(str(connection.pragma("page_count"))) - int(str(connection.pragma("freelist_count")))
    return pages * int(str(connection.pragma("page_size")))


def _disk_is_full(directory: Path) -> bool:
    return _free_bytes(directory) < _FULL_BELOW_BYTES


def _free_bytes(directory: Path) -> float:
    try:
        free = os.statvfs(directory)
    except OSError:
        return math.inf
    return free.f_bavail * free.f_frsize


def _over_limit(directory: Path, limit_bytes: int | None) -> LogFull:
    return LogFull(
        f"the log in {directory} has reached its limit of {limit_bytes} bytes; raise max_size_bytes or shorten "
        "the retention of its streams"
    )
