"""An app on its log in memory with the real engine under the real runner; time passes only when the test says so."""

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

__all__ = ["START_MS", "Live"]

START_MS = 1_514_764_800_000  # 2018-01-01T00:00:00Z


class Live:
    """The app on its log; `clock` is the wall clock."""

    def __init__(self, sql: str) -> None:
        self.sql = sql
        self.clock = ManualClock(START_MS)
        self.log = MemoryLog(clock=self.clock)
        self.partitions = next(
            source.spec.partitions for name, source in plan_app("live", sql).sources.items() if name == "readings"
        )
        self._version = 0

    async def deploy(self, sql: str) -> None:
        plan = plan_app("live", sql)
        await self.log.put_app("live", sql, [source.spec for source in plan.sources.values()], self._version)
        self._version += 1

    @asynccontextmanager
    async def running(self, sql: str = "", *, killed: bool = False) -> AsyncIterator[None]:
        """Deployed and running; at the end it stops in order, or is cut off where it is."""
        sql = sql or self.sql
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
            heads = [await self.log.head("readings", partition) for partition in range(self.partitions)]
            if [positions.get(("readings", partition), 0) for partition in range(self.partitions)] == [
                head.next for head in heads
            ]:
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

    async def minutes_when(self, rows: int) -> list[tuple[str, int, int]]:
        """What has come out once there are so many rows; the clock stands meanwhile."""
        for _ in range(4000):
            found = await self.minutes()
            if len(found) >= rows:
                return found
            await asyncio.sleep(0.001)
        raise AssertionError(f"not {rows} rows: {found}")

    async def late(self) -> list[dict[str, object]]:
        """Events that were rejected as late, as they came."""
        found = await self.log.rejected(RejectedFilter(app="live"))
        assert all(event.code == "late" for event in found)
        return [msgspec.json.decode(event.raw or b"") for event in found]
