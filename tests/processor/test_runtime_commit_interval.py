"""A log whose commits cost much says how far apart they should be; meanwhile cycles grow."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from processor.parallel_rig import Tasks, send

from penstock.logs.memory import MemoryLog
from penstock.model.position import Position
from penstock.ports.clock import SystemClock
from penstock.ports.log import Transaction

INTERVAL_S = 0.1
APP = """CREATE TABLE trades (symbol STRING, n BIGINT) WITH ('connector' = 'penstock', 'key' = 'symbol');
CREATE TABLE copies WITH ('connector' = 'penstock') AS SELECT symbol, n FROM trades;
"""


class CostlyLog(MemoryLog):
    """The memory log with an interval; when each commit began."""

    capabilities = replace(MemoryLog.capabilities, commit_interval_s=INTERVAL_S)

    def __init__(self) -> None:
        super().__init__(clock=SystemClock())
        self.began_s: list[float] = []

    async def commit(self, transaction: Transaction) -> list[Position]:
        self.began_s.append(self._clock.monotonic_s())
        return await super().commit(transaction)


async def test_cycles_are_committed_no_closer_than_the_log_wants_and_take_what_came_meanwhile() -> None:
    log = CostlyLog()
    tasks = await Tasks.deploy(log, SystemClock(), APP)
    tasks.start()
    for n in range(100):
        await send(log, [("trades", {"symbol": "a", "n": n})])
        await asyncio.sleep(0.004)
    for _ in range(500):
        if len((await tasks.results())["copies"]) == 100:
            break
        await asyncio.sleep(0.01)
    await tasks.stop()
    assert [n for _, n in sorted((await tasks.results())["copies"], key=lambda row: row[1])] == list(range(100))
    apart = [after - before for before, after in zip(log.began_s, log.began_s[1:], strict=False)]
    assert apart
    assert min(apart) >= INTERVAL_S * 0.9, apart
