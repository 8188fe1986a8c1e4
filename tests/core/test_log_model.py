"""Random histories of a log, held against a plain model of what it must then contain."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penstock.errors import Fenced
from penstock.logs.memory import MemoryLog
from penstock.logs.settings import LogSettings
from penstock.logs.sqlite import SqliteLog
from penstock.model.stream import StreamSpec
from penstock.ports.log import Consumed, DeltaKind, Log, StateDelta, Transaction
from penstock.testing.clock import ManualClock
from penstock.testing.log_fixtures import APP, derived, new_batch, source

RETENTION_S = 60
LIMITS = LogSettings(retention_s=RETENTION_S, trim_chunk_batches=2, tail_cache_bytes=60, checkpoint_pages=5)
Reopen = Callable[[Log], Awaitable[Log]]

APPEND = st.tuples(
    st.just("append"), st.lists(st.tuples(st.sampled_from([0, 1]), st.integers(0, 3)), min_size=1, max_size=4)
)
COMMIT = st.tuples(
    st.just("commit"),
    st.tuples(
        st.sampled_from(["good", "good", "good", "old term", "wrong position"]),
        st.integers(0, 3),
        st.sampled_from([*DeltaKind, None]),
    ),
)
TRIM = st.tuples(st.just("trim"), st.integers(0, 40))
STEPS = st.lists(
    st.one_of(
        APPEND,
        APPEND,
        COMMIT,
        COMMIT,
        TRIM,
        st.tuples(st.just("pass time"), st.integers(1, 50)),
        st.tuples(st.just("acquire"), st.none()),
        st.tuples(st.just("repartition"), st.sampled_from([1, 2])),
        st.tuples(st.just("reopen"), st.none()),
    ),
    max_size=25,
)


@dataclass
class Part:
    """What one partition must hold: (first, next, payload, appended at)."""

    next: int = 0
    first: int = 0
    batches: list[tuple[int, int, bytes, int]] = field(default_factory=list)

    def append(self, payload: bytes, count: int, now_ms: int) -> None:
        if count:
            self.batches.append((self.next, self.next + count, payload, now_ms))
            self.next += count

    def void(self) -> None:
        self.batches.clear()
        self.first = self.next


class Model:
    """The contract written down as plainly as can be; one app, source `arrivals`, stream `cheap`."""

    def __init__(self) -> None:
        self.partitions = 2
        self.parts = {(s, p): Part() for s, p in (("arrivals", 0), ("arrivals", 1), ("cheap", 0))}
        self.term = 1
        self.at: int | None = None
        self.deltas: list[StateDelta] = []
        self.serial = 0

    def specs(self) -> list[StreamSpec]:
        return [source(partitions=self.partitions), derived()]

    def payload(self) -> bytes:
        self.serial += 1
        return b"payload %d" % self.serial

    def trim(self, now_ms: int, floor: int) -> int:
        gone = 0
        for (stream, partition), part in self.parts.items():
            if stream == "arrivals" and partition >= self.partitions:
                continue
            held = [floor] if (stream, partition) == ("arrivals", 1) else []
            held += [self.at] if (stream, partition) == ("arrivals", 0) and self.at is not None else []
            while part.batches:
                first, next_, _, at_ms = part.batches[0]
                if at_ms >= now_ms - RETENTION_S * 1000 or any(next_ > h for h in held):
                    break
                gone += next_ - first
                part.first = next_
                del part.batches[0]
        return gone


async def play(steps: list[tuple[str, object]], log: Log, *, clock: ManualClock, reopen: Reopen) -> None:
    model = Model()
    await log.put_app(APP, "", model.specs(), 0)
    assert (await log.acquire(APP)).term == 1
    for name, argument in steps:
        if name == "append":
            await append(log, model, clock, argument)
        elif name == "commit":
            await commit(log, model, clock, argument)
        elif name == "trim":
            assert await log.trim({("arrivals", 1): argument}) == model.trim(clock.now_ms(), argument)
        elif name == "pass time":
            await clock.advance(argument)
        elif name == "repartition":
            await repartition(log, model, argument)
        elif name == "reopen":
            log = await reopen(log)
        else:
            await acquire(log, model)
        await compare(log, model)
    await log.close()


async def append(log: Log, model: Model, clock: ManualClock, batches: list[tuple[int, int]]) -> None:
    new = []
    for partition, count in batches:
        if partition < model.partitions:
            new.append(new_batch("arrivals", count, partition=partition, payload=model.payload()))
            model.parts["arrivals", partition].append(new[-1].payload, count, clock.now_ms())
    positions = await log.append(new)
    ends = {batch.partition: model.parts["arrivals", batch.partition].next for batch in new}
    assert {position.partition: position.next for position in positions} == ends


async def commit(log: Log, model: Model, clock: ManualClock, how: tuple[str, int, DeltaKind | None]) -> None:
    kind, count, delta_kind = how
    expected = (model.at or 0) + 1 if kind == "wrong position" else model.at
    target = model.parts["arrivals", 0].next
    deltas = [StateDelta("op", delta_kind, model.payload())] if delta_kind else []
    batch = new_batch("cheap", count, payload=model.payload())
    term = model.term - 1 if kind == "old term" else model.term
    cycle = Transaction(APP, term, [Consumed("arrivals", 0, expected, target)], [batch], deltas=deltas)
    if kind != "good":
        try:
            await log.commit(cycle)
        except Fenced:
            return
        raise AssertionError(f"a cycle with {kind} was committed")
    await log.commit(cycle)
    model.at = target
    model.parts["cheap", 0].append(batch.payload, count, clock.now_ms())
    if delta_kind is DeltaKind.REPLACE:
        model.deltas.clear()
    model.deltas += deltas


async def acquire(log: Log, model: Model) -> None:
    restored = await log.acquire(APP)
    assert restored.term == model.term + 1
    model.term = restored.term
    assert [delta for deltas in restored.deltas.values() for delta in deltas] == model.deltas


async def repartition(log: Log, model: Model, partitions: int) -> None:
    if partitions != model.partitions:
        for partition in (0, 1):
            model.parts["arrivals", partition].void()
    model.partitions = partitions
    await log.put_app(APP, "", model.specs(), None)


async def compare(log: Log, model: Model) -> None:
    positions = await log.positions(APP)
    assert dict(positions) == ({} if model.at is None else {("arrivals", 0): model.at})
    for (stream, partition), part in model.parts.items():
        if stream == "arrivals" and partition >= model.partitions:
            continue
        head = await log.head(stream, partition)
        assert (head.first, head.next) == (part.first, part.next)
        batches = await log.read(stream, partition, 0, 1 << 20)
        assert [(b.first, b.next, b.payload, b.appended_at_ms) for b in batches] == part.batches
        middle = (part.first + part.next) // 2
        tail = await log.read(stream, partition, middle, 1 << 20)
        assert [b.first for b in tail] == [first for first, next_, *_ in part.batches if next_ > middle]


@settings(max_examples=60, deadline=None)
@given(STEPS)
def test_the_memory_log_holds_what_the_model_says(steps: list[tuple[str, object]]):
    async def stay(log: Log) -> Log:
        return log

    async def run() -> None:
        clock = ManualClock()
        await play(steps, MemoryLog(clock=clock, settings=LIMITS), clock=clock, reopen=stay)

    asyncio.run(run())


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(STEPS)
def test_the_sqlite_log_holds_what_the_model_says_over_restarts(steps: list[tuple[str, object]]):
    async def run(folder: Path) -> None:
        clock = ManualClock()

        async def reopen(log: Log) -> Log:
            await log.close()
            return await SqliteLog.open(folder, clock=clock, settings=LIMITS)

        await play(steps, await SqliteLog.open(folder, clock=clock, settings=LIMITS), clock=clock, reopen=reopen)

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(run(Path(folder)))
