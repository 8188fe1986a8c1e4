"""One app on the memory log: every effect once, whatever fails and wherever it is cut off."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace

import msgspec
import polars as pl
import pytest
from processor.tally_engine import TallyEngine, tally_plan

from penstock.codecs.arrow import decode_frame
from penstock.codecs.ndjson import encode_lines
from penstock.errors import LogFull, LogUnavailable
from penstock.logs.memory import MemoryLog
from penstock.model.batch import Batch, Encoding, NewBatch
from penstock.model.position import Position
from penstock.ports.log import DeltaKind, Head, RejectedFilter, Restored, Transaction
from penstock.testing.clock import ManualClock
from penstock_processor.logical.plan import AppPlan
from penstock_processor.operators.interface import SourceBlock, StepResult
from penstock_processor.runtime.app_runner import AppRunner, AppState
from penstock_processor.runtime.rejections import ReplayItem, replay_id
from penstock_processor.settings import ProcessorSettings, SnapshotSettings

SETTINGS = ProcessorSettings(wait_s=0.05, retry_min_s=1.0)


class FailingLog(MemoryLog):
    """The memory log with commits that fail: `plan` says, per commit, how; every transaction that took place is kept.

    "before": nothing was written. "after": it was written, and the answer was lost.
    """

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock=clock)
        self.failures: list[str] = []
        self.committed: list[Transaction] = []
        self.slow_s = 0.0
        self.cut: tuple[int, str, asyncio.Task[None]] | None = None
        self._calls = 0

    async def _maybe_cut(self, when: str) -> None:
        """Cancel the app at its n-th call, before it takes place or after."""
        if self.cut is None or self.cut[1] != when:
            return
        self._calls += 1
        if self._calls == self.cut[0]:
            self.cut[2].cancel()
            await asyncio.sleep(0)

    async def acquire(self, app: str) -> Restored:
        await self._maybe_cut("before")
        restored = await super().acquire(app)
        await self._maybe_cut("after")
        return restored

    async def read(
        self, stream: str, partition: int, offset: int, max_bytes: int, max_batches: int = 1000
    ) -> list[Batch]:
        await self._maybe_cut("before")
        batches = await super().read(stream, partition, offset, max_bytes, max_batches)
        await self._maybe_cut("after")
        return batches

    async def commit(self, transaction: Transaction) -> list[Position]:
        await asyncio.sleep(self.slow_s)
        await self._maybe_cut("before")
        positions = await self._commit_or_fail(transaction)
        await self._maybe_cut("after")
        return positions

    async def _commit_or_fail(self, transaction: Transaction) -> list[Position]:
        failure = self.failures.pop(0) if self.failures else ""
        if failure == "before":
            raise LogUnavailable("injected: nothing was written")
        if failure == "full":
            raise LogFull("injected: the disk is full", retry_after_s=1.0)
        positions = await super().commit(transaction)
        self.committed.append(transaction)
        if failure == "after":
            raise LogUnavailable("injected: the answer was lost")
        return positions


def event(i: int, tonnes: float | None = None) -> bytes:
    row = {"market": f"m{i % 7}", "tonnes": float(i % 23) if tonnes is None else tonnes, "ts": 1_514_764_800_000 + i}
    return msgspec.json.encode(row)


async def send(log: MemoryLog, events: Sequence[bytes], *, partition: int = 0, stream: str = "arrivals") -> None:
    await log.append([NewBatch(stream, partition, Encoding.NDJSON_ZSTD, encode_lines(events), len(events), ids=b"")])


async def rows_of(log: MemoryLog, stream: str) -> pl.DataFrame | None:
    batches: list[Batch] = await log.read(stream, 0, 0, 1 << 30, 1 << 20)
    return pl.concat([decode_frame(b.payload) for b in batches]) if batches else None


async def until(condition: Callable[[], object], clock: ManualClock | None = None) -> None:
    for _ in range(4000):
        if condition():
            return
        if clock is not None:
            await clock.advance(0.1)
        await asyncio.sleep(0.001)
    raise AssertionError("it did not happen")


async def caught_up(log: MemoryLog, clock: ManualClock, app: str = "tally") -> None:
    """Until the app's committed positions are the ends of its sources."""
    for _ in range(4000):
        positions = await log.positions(app)
        heads: dict[tuple[str, int], Head] = {key: await log.head(*key) for key in positions}
        if positions and all(positions[key] == head.next for key, head in heads.items()):
            return
        await clock.advance(0.1)
        await asyncio.sleep(0.001)
    raise AssertionError("the app does not catch up")


class Rig:
    """A log with the tally app deployed, and runners on it."""

    def __init__(self, plan: AppPlan, settings: ProcessorSettings) -> None:
        self.clock = ManualClock()
        self.log = FailingLog(self.clock)
        self.plan = plan
        self.settings = settings
        self.engines: list[TallyEngine] = []

    def runner(self, *, operator: str = "totals-op", plan: AppPlan | None = None) -> AppRunner:
        def build(_: AppPlan) -> TallyEngine:
            self.engines.append(TallyEngine(operator=operator))
            return self.engines[-1]

        return AppRunner(
            plan or self.plan, log=self.log, clock=self.clock, settings=self.settings, build_engine=build
        )

    def blocks(self) -> list[SourceBlock]:
        """Every block that any engine was given, in order."""
        return [block for engine in self.engines for step in engine.steps for block in step]

    @asynccontextmanager
    async def running(self, **kwargs: object) -> AsyncIterator[AppRunner]:
        runner = self.runner(**kwargs)  # type: ignore[arg-type]  # passed through
        task = asyncio.create_task(runner.run())
        try:
            yield runner
        finally:
            runner.stop()
            await asyncio.wait_for(task, 10)


async def rig(plan: AppPlan | None = None, settings: ProcessorSettings = SETTINGS) -> Rig:
    plan = plan or tally_plan()
    made = Rig(plan, settings)
    await made.log.put_app(plan.name, plan.sql, [s.spec for s in plan.sources.values()], 0)
    return made


def expected_totals(events: Collection[bytes]) -> dict[str, float]:
    totals: dict[str, float] = {}
    for raw in events:
        row = msgspec.json.decode(raw)
        totals[row["market"]] = totals.get(row["market"], 0.0) + row["tonnes"]
    return totals


async def assert_exactly_once(log: MemoryLog, events: Sequence[bytes]) -> None:
    """Stream and table hold what the events say, computed here from their JSON."""
    rows = [msgspec.json.decode(raw) for raw in events]
    big = await rows_of(log, "big")
    wanted = [(r["market"], r["tonnes"]) for r in rows if r["tonnes"] >= 10]
    assert big is not None
    assert big.select("market", "tonnes").rows() == wanted
    totals = await rows_of(log, "totals")
    assert totals is not None
    last: dict[str, float] = {}
    for market, tonnes in totals.select("market", "tonnes").iter_rows():
        last[market] = tonnes
    assert last == expected_totals(events)


async def test_events_become_outputs_state_and_positions() -> None:
    it = await rig()
    events = [event(i) for i in range(100)]
    await send(it.log, events[:60])
    async with it.running() as runner:
        await caught_up(it.log, it.clock)
        await send(it.log, events[60:])
        await caught_up(it.log, it.clock)
        assert runner.state is AppState.RUNNING
        assert runner.statistics.sources["arrivals"].rows_in == 100
    assert runner.state is AppState.STOPPED
    await assert_exactly_once(it.log, events)
    restored = await it.log.acquire("tally")
    assert restored.positions == {("arrivals", 0): 100}


@pytest.mark.parametrize("failure", ["before", "after", "full"])
async def test_a_failed_commit_leaves_each_effect_once(failure: str) -> None:
    it = await rig(settings=SETTINGS.model_copy(update={"cycle_rows": 10}))
    events = [event(i) for i in range(200)]
    it.log.failures = ["", "", failure, "", failure, failure]
    for i in range(0, 200, 10):
        await send(it.log, events[i : i + 10])
    async with it.running():
        await caught_up(it.log, it.clock)
    assert it.log.failures == []
    assert len(it.engines) == 4
    await assert_exactly_once(it.log, events)


async def test_a_cycle_is_committed_only_after_the_one_before_it() -> None:
    it = await rig(settings=SETTINGS.model_copy(update={"cycle_rows": 10}))
    it.log.slow_s = 0.003
    events = [event(i) for i in range(100)]
    for i in range(0, 100, 10):
        await send(it.log, events[i : i + 10])
    async with it.running():
        await caught_up(it.log, it.clock)
    moves = [c for t in it.log.committed for c in t.consumed]
    assert [c.expected for c in moves] == [None, *[c.next for c in moves[:-1]]]
    await assert_exactly_once(it.log, events)


@pytest.mark.parametrize("when", ["before", "after"])
async def test_cut_off_at_any_call_of_the_log_and_started_again_the_outputs_are_the_same(when: str) -> None:
    events = [event(i) for i in range(60)]
    cut_while_working = 0
    for call in range(1, 14):
        it = await rig(settings=SETTINGS.model_copy(update={"cycle_rows": 10}))
        for i in range(0, 60, 10):
            await send(it.log, events[i : i + 10])
        task = asyncio.create_task(it.runner().run())
        it.log.cut = (call, when, task)
        with suppress(asyncio.CancelledError):
            await asyncio.wait_for(task, 10)
        it.log.cut = None
        cut_while_working += 0 < len(it.log.committed) < 6
        async with it.running():
            await caught_up(it.log, it.clock)
        await assert_exactly_once(it.log, events)
    assert cut_while_working > 5


async def test_an_older_instance_is_fenced_and_says_so() -> None:
    it = await rig()
    async with it.running() as older:
        await send(it.log, [event(1)])
        await caught_up(it.log, it.clock)
        async with it.running() as newer:
            await until(lambda: newer.state is AppState.RUNNING)
            await send(it.log, [event(2)])
            await until(lambda: older.state is AppState.FENCED)
            await caught_up(it.log, it.clock)
            assert newer.state is AppState.RUNNING
    assert "term" in older.detail or "not at" in older.detail
    rows = await rows_of(it.log, "totals")
    assert rows is not None
    assert rows.height == 2


async def test_a_watermark_without_events_wakes_the_app_and_is_committed_once() -> None:
    it = await rig()
    async with it.running():
        await send(it.log, [event(1, 50.0)])
        await caught_up(it.log, it.clock)
        before = len(it.log.committed)
        mark = NewBatch("arrivals", 0, Encoding.NDJSON_ZSTD, b"", 0, watermark_ms=1_514_800_000_000)
        await it.log.append([mark])
        await until(lambda: len(it.log.committed) > before)
        await it.log.append([mark])
        await asyncio.sleep(0.1)
        assert len(it.log.committed) == before + 1
        only = it.log.committed[-1]
        assert only.consumed == []
        assert [d.operator for d in only.deltas] == ["marks"]
    async with it.running():
        await until(lambda: it.engines[-1].steps)
        await asyncio.sleep(0.05)
    assert len(it.log.committed) == before + 1, "a restart does not commit the same watermark again"
    assert it.engines[-1].through == {"0": 1_514_800_000_000}


async def test_a_watermark_counts_only_once_everything_before_it_was_read() -> None:
    it = await rig(settings=SETTINGS.model_copy(update={"cycle_rows": 10}))
    for i in range(0, 30, 10):
        await send(it.log, [event(j) for j in range(i, i + 10)])
    await it.log.append([NewBatch("arrivals", 0, Encoding.NDJSON_ZSTD, b"", 0, watermark_ms=1_514_800_000_000)])
    async with it.running():
        await caught_up(it.log, it.clock)
        await until(lambda: it.engines[0].through)
    through = [blocks[0].through_ms for blocks in it.engines[0].steps]
    assert through == [None, None, 1_514_800_000_000]


async def test_rejected_rows_are_kept_with_their_place_and_text() -> None:
    it = await rig()
    events = [event(0), event(1, -5.0), event(2)]
    await send(it.log, [event(9), *events])
    async with it.running() as runner:
        await caught_up(it.log, it.clock)
        assert runner.statistics.statements["big"].rejected == 1
    [found] = await it.log.rejected(RejectedFilter(app="tally"))
    assert (found.stream, found.statement, found.code) == ("arrivals", "big", "negative")
    assert found.position == (0, 2)
    assert found.raw == events[1]
    assert found.id


@pytest.mark.parametrize("failure", ["before", "after"])
async def test_a_replay_whose_commit_fails_is_reported_and_never_done_twice(failure: str) -> None:
    it = await rig()
    await send(it.log, [event(1, -5.0)])
    async with it.running() as runner:
        await caught_up(it.log, it.clock)
        [found] = await it.log.rejected(RejectedFilter(app="tally"))
        it.log.failures = [failure]
        item = ReplayItem(found, event(1, 77.0), replay_id(found.id))
        with pytest.raises(LogUnavailable):
            await runner.replay([item])
        await until(lambda: runner.state is AppState.RUNNING, it.clock)
        [after] = await it.log.rejected(RejectedFilter(app="tally", include_replayed=True))
        assert (after.replayed_at_ms is not None) == (failure == "after")
        if failure == "before":
            assert await runner.replay([item]) == []
    rows = await rows_of(it.log, "big")
    assert rows is not None
    assert rows["tonnes"].to_list() == [77.0]


async def test_an_event_that_no_longer_fits_its_columns_is_rejected_and_the_others_go_on() -> None:
    it = await rig()
    await send(it.log, [event(0, 12.0), b'{"market":"m1","tonnes":"many","ts":1}', event(2, 12.0)])
    async with it.running():
        await caught_up(it.log, it.clock)
    [found] = await it.log.rejected(RejectedFilter(app="tally"))
    assert (found.code, found.position) == ("wrong_type", (0, 1))
    rows = await rows_of(it.log, "big")
    assert rows is not None
    assert rows.height == 2


async def test_many_deltas_are_compacted_into_a_snapshot_that_restores() -> None:
    snapshots = SnapshotSettings(deltas=5, min_bytes=1 << 30)
    it = await rig(settings=SETTINGS.model_copy(update={"cycle_rows": 10, "snapshots": snapshots}))
    events = [event(i) for i in range(170)]
    for i in range(0, 170, 10):
        await send(it.log, events[i : i + 10])
    async with it.running():
        await caught_up(it.log, it.clock)
    kinds = [d.kind for t in it.log.committed for d in t.deltas if d.operator == "totals-op"]
    assert kinds.count(DeltaKind.REPLACE) == 3
    restored = await it.log.acquire("tally")
    assert len(restored.deltas["totals-op"]) < 5
    engine = TallyEngine()
    engine.restore(restored.deltas)
    assert engine.totals == expected_totals(events)


async def test_state_of_an_operator_that_left_the_app_is_dropped() -> None:
    it = await rig()
    await send(it.log, [event(i) for i in range(10)])
    async with it.running(operator="totals-op"):
        await caught_up(it.log, it.clock)
    async with it.running(operator="another-op"):
        await send(it.log, [event(11)])
        await caught_up(it.log, it.clock)
    restored = await it.log.acquire("tally")
    assert set(restored.deltas) == {"another-op"}


async def test_a_silent_partition_is_called_idle_once() -> None:
    it = await rig(tally_plan(partitions=2))
    async with it.running():
        await send(it.log, [event(1)], partition=0)
        await send(it.log, [event(2)], partition=1)
        await until(lambda: sum(b.frame.height for b in it.blocks()) >= 2)
        await it.clock.advance(20)
        await send(it.log, [event(3)], partition=0)
        await it.clock.advance(15)
        await until(lambda: any(b.idle for b in it.blocks()))
        await asyncio.sleep(0.1)
        assert [b.partition for b in it.blocks() if b.idle] == [1]
        await send(it.log, [event(4)], partition=1)
        await until(lambda: [b.partition for b in it.blocks() if b.frame.height][-1] == 1)


async def test_a_position_beyond_the_end_of_a_restored_log_stops_the_app_with_the_reason() -> None:
    it = await rig()
    await send(it.log, [event(i) for i in range(5)])
    async with it.running():
        await caught_up(it.log, it.clock)
    partition = it.log._partitions["arrivals", 0]
    partition.head = replace(partition.head, next=3)
    async with it.running() as runner:
        await until(lambda: runner.state is AppState.WAITING)
        assert "beyond" in runner.detail


async def test_a_panic_of_the_engine_ends_the_term_and_not_the_app() -> None:
    it = await rig()
    panics = ["unreachable"]

    class Engine(TallyEngine):
        def step(self, blocks: Sequence[SourceBlock], *, now_ms: int = 0) -> StepResult:
            if panics:
                raise pl.exceptions.PanicException(panics.pop())
            return super().step(blocks, now_ms=now_ms)

    events = [event(i) for i in range(20)]
    runner = AppRunner(
        it.plan, log=it.log, clock=it.clock, settings=it.settings, build_engine=lambda _: Engine(operator="totals-op")
    )
    task = asyncio.create_task(runner.run())
    await send(it.log, events)
    await until(lambda: runner.state is AppState.WAITING)
    assert runner.detail.startswith("PanicException: unreachable")
    await caught_up(it.log, it.clock)
    await assert_exactly_once(it.log, events)
    runner.stop()
    await asyncio.wait_for(task, 10)
