"""What happens to windows while an app runs: late events, partitions out of step, silence, kills, edits.

The real engine under the real runner over the log in memory; time passes only when the test says so. Another case, a
thousand rules and one event, is in the tests of rules.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

import msgspec
import polars as pl

from penstock.codecs.arrow import decode_frame
from penstock.codecs.ndjson import encode_lines
from penstock.logs.memory import MemoryLog
from penstock.model.batch import Batch, Encoding, NewBatch
from penstock.ports.log import RejectedFilter
from penstock.testing.clock import ManualClock
from penstock_processor.compile.build import build_engine
from penstock_processor.logical.plan_app import plan_app
from penstock_processor.runtime.app_runner import AppRunner
from penstock_processor.settings import ProcessorSettings

START_MS = 1_514_764_800_000  # 2018-01-01T00:00:00Z
APP = """CREATE TABLE readings (device STRING, n INT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '5' SECOND)
WITH ('connector' = 'penstock', 'partitions' = '2', 'dedupe' = 'none', 'scan.watermark.idle-timeout' = '30 s');
CREATE TABLE minutes WITH ('connector' = 'penstock') AS
SELECT device, window_start AS w, SUM(n) AS total
FROM TABLE(TUMBLE(TABLE readings, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) GROUP BY device, window_start, window_end;
"""
EDITED = APP + "CREATE TABLE large WITH ('connector' = 'penstock') AS SELECT device, n FROM readings WHERE n > 99;\n"


class Live:
    """The app on its log; `clock` is the wall clock."""

    def __init__(self) -> None:
        self.clock = ManualClock(START_MS)
        self.log = MemoryLog(clock=self.clock)
        self._version = 0

    async def deploy(self, sql: str) -> None:
        plan = plan_app("live", sql)
        await self.log.put_app("live", sql, [source.spec for source in plan.sources.values()], self._version)
        self._version += 1

    @asynccontextmanager
    async def running(self, sql: str = APP, *, killed: bool = False) -> AsyncIterator[None]:
        """Deployed and running; at the end it stops in order, or is cut off where it is."""
        await self.deploy(sql)
        settings = ProcessorSettings(wait_s=0.05)
        runner = AppRunner(
            plan_app("live", sql), log=self.log, clock=self.clock, settings=settings, build_engine=build_engine
        )
        task = asyncio.create_task(runner.run())
        try:
            yield
        finally:
            if killed:
                task.cancel()
            runner.stop()
            with suppress(asyncio.CancelledError):
                await asyncio.wait_for(task, 10)

    async def send(self, partition: int, *events: tuple[str, int, float]) -> None:
        """Events (device, n, second), then until they are taken."""
        lines = [msgspec.json.encode({"device": d, "n": n, "ts": START_MS + round(s * 1000)}) for d, n, s in events]
        await self.log.append(
            [NewBatch("readings", partition, Encoding.NDJSON_ZSTD, encode_lines(lines), len(lines), ids=b"")]
        )
        await self.taken()

    async def taken(self) -> None:
        """Until the app has committed everything that was sent."""
        for _ in range(4000):
            positions = await self.log.positions("live")
            heads = [await self.log.head("readings", partition) for partition in (0, 1)]
            if [positions.get(("readings", partition), 0) for partition in (0, 1)] == [head.next for head in heads]:
                return
            await self.clock.advance(0.05)
            await asyncio.sleep(0.001)
        raise AssertionError("the app does not catch up")

    async def passes(self, seconds: float) -> None:
        """Time, in steps that a running app notices."""
        for _ in range(round(seconds / 0.5)):
            await self.clock.advance(0.5)
            await asyncio.sleep(0.002)

    async def minutes(self, stream: str = "minutes") -> list[tuple[str, int, int]]:
        """What has come out, in order: (device, minute, total)."""
        batches: Sequence[Batch] = await self.log.read(stream, 0, 0, 1 << 30, 1 << 20)
        frames = [decode_frame(batch.payload) for batch in batches if batch.count]
        if not frames:
            return []
        rows = pl.concat(frames).with_columns((pl.col("w").dt.timestamp("ms") - START_MS) // 60_000)
        return rows.select("device", "w", "total").rows()

    async def late(self) -> list[dict[str, object]]:
        """Events that were rejected as late, as they came."""
        found = await self.log.rejected(RejectedFilter(app="live"))
        assert all(event.code == "late" for event in found)
        return [msgspec.json.decode(event.raw or b"") for event in found]


async def test_a_late_event_is_rejected_with_its_text_and_changes_no_window() -> None:
    live = Live()
    async with live.running():
        await live.send(0, ("a", 1, 10))
        await live.send(1, ("b", 1, 70))
        await live.send(0, ("a", 2, 70))
        assert await live.minutes() == [("a", 0, 1)]
        await live.send(0, ("a", 100, 59), ("a", 4, 61))
        await live.send(0, ("a", 8, 130))
        await live.send(1, ("b", 8, 130))
        assert sorted(await live.minutes()) == [("a", 0, 1), ("a", 1, 6), ("b", 1, 1)]
        [late] = await live.late()
        assert (late["device"], late["n"]) == ("a", 100)


async def test_partitions_out_of_step_close_windows_with_the_slower_one_and_nothing_is_late() -> None:
    live = Live()
    async with live.running():
        await live.send(0, ("a", 1, 10), ("a", 2, 500))
        for second in (20, 61, 200):
            assert await live.minutes() == []
            await live.send(1, ("b", second, second))
        assert await live.minutes() == [("a", 0, 1), ("b", 0, 20), ("b", 1, 61)]
        assert await live.late() == []


async def test_a_silent_partition_holds_windows_until_it_is_idle_and_is_judged_by_the_others_when_it_wakes() -> None:
    live = Live()
    async with live.running():
        await live.send(1, ("b", 1, 10))
        await live.send(0, ("a", 1, 10), ("a", 2, 90))
        await live.passes(20)
        assert await live.minutes() == []
        await live.send(0, ("a", 4, 100))
        await live.passes(20)
        await live.send(0, ("a", 8, 101))
        assert await live.minutes() == [("a", 0, 1), ("b", 0, 1)]
        await live.send(1, ("b", 100, 30), ("b", 2, 99))
        assert [event["n"] for event in await live.late()] == [100]
        await live.send(0, ("a", 0, 200))
        await live.send(1, ("b", 0, 200))
        assert (await live.minutes())[2:] == [("a", 1, 14), ("b", 1, 2)]


async def test_a_kill_in_mid_window_counts_each_event_once() -> None:
    live = Live()
    async with live.running(killed=True):
        await live.send(0, ("a", 1, 10))
        await live.send(1, ("a", 2, 20))
    async with live.running(killed=True):
        await live.send(0, ("a", 4, 30))
    async with live.running():
        await live.send(0, ("a", 8, 70))
        assert await live.minutes() == []
        await live.send(1, ("a", 16, 70))
        assert await live.minutes() == [("a", 0, 7)]
        assert await live.late() == []


async def test_a_restart_needs_nothing_of_the_log_before_the_last_commit() -> None:
    live = Live()
    app = APP.replace("'dedupe'", "'retention' = '1 min', 'dedupe'", 1)
    async with live.running(app, killed=True):
        await live.send(0, ("a", 1, 10), ("b", 2, 70))
        await live.send(1, ("a", 4, 20))
    await live.clock.advance(3600)
    assert await live.log.trim(await live.log.positions("live")) == 3
    assert [(await live.log.head("readings", partition)).first for partition in (0, 1)] == [2, 1]
    async with live.running(app):
        await live.send(1, ("a", 8, 70))
        assert await live.minutes() == [("a", 0, 5)]
        await live.send(0, ("b", 16, 130))
        await live.send(1, ("b", 32, 130))
        assert (await live.minutes())[1:] == [("a", 1, 8), ("b", 1, 2)]


async def test_an_app_edited_in_mid_window_keeps_what_its_unchanged_statements_know() -> None:
    live = Live()
    async with live.running():
        await live.send(0, ("a", 1, 10))
    async with live.running(EDITED):
        await live.send(1, ("a", 200, 20))
    async with live.running(APP):
        await live.send(0, ("a", 4, 70))
        await live.send(1, ("a", 4, 70))
        assert await live.minutes() == [("a", 0, 201)]


async def test_a_statement_that_was_edited_in_mid_window_starts_anew() -> None:
    live = Live()
    async with live.running():
        await live.send(0, ("a", 1, 10))
    async with live.running(APP.replace("SUM(n)", "SUM(n * 10)")):
        await live.send(1, ("a", 2, 20))
        await live.send(0, ("a", 4, 70))
        await live.send(1, ("a", 4, 70))
        assert await live.minutes() == [("a", 0, 20)]
