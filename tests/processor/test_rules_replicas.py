"""Rules where replicas of the processor share a log: put through any, run by one, taken over, never doubled."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import msgspec
from processor.rules_rig import APP, lot

from penstock.codecs.arrow import decode_frame
from penstock.codecs.ndjson import encode_lines
from penstock.logs.memory import MemoryLog
from penstock.model.batch import Encoding, NewBatch
from penstock.ports.clock import SystemClock
from penstock.role import Ports
from penstock.testing.access import OpenAccess
from penstock_processor.compile.engines import engine_of
from penstock_processor.rules.model import Rule
from penstock_processor.service import ProcessorRole
from penstock_processor.settings import ProcessorSettings

SETTINGS = ProcessorSettings(wait_s=0.05, beat_s=0.02, member_ttl_s=0.3, retry_min_s=0.02)


class SharedLog(MemoryLog):
    """The memory log as several processes would see a log that they share."""

    capabilities = replace(MemoryLog.capabilities, several_writers=True)


class Replicas:
    """Replicas by name over one log."""

    def __init__(self) -> None:
        self.log = SharedLog(clock=SystemClock())
        self.roles: dict[str, ProcessorRole] = {}
        self._tasks: dict[str, tuple[asyncio.Task[None], asyncio.Event]] = {}

    def start(self, name: str) -> None:
        # The store is not a port that this role uses.
        ports = Ports(log=self.log, store=None, clock=SystemClock(), access=OpenAccess())  # type: ignore[arg-type]  # see above
        role = self.roles[name] = ProcessorRole(SETTINGS, ports, build_engine=engine_of, member=name)
        stop = asyncio.Event()
        self._tasks[name] = asyncio.create_task(role.run(stop)), stop

    async def stop(self, name: str) -> None:
        task, stop = self._tasks.pop(name)
        del self.roles[name]
        stop.set()
        await task

    async def send(self, *prices: float) -> None:
        lines = [msgspec.json.encode(lot("Agra", price)) for price in prices]
        await self.log.append([NewBatch("lots", 0, Encoding.NDJSON_ZSTD, encode_lines(lines), len(lines))])

    async def alerts(self) -> list[tuple[str, float]]:
        batches = await self.log.read("alerts", 0, 0, 1 << 30)
        frames = [decode_frame(batch.payload) for batch in batches if batch.count]
        return [row for frame in frames for row in frame.select("rule", "price").rows()]

    async def hits(self, name: str) -> list[int]:
        """What the replicas that know it say."""
        shown = [await role.rules.rule(name) for role in self.roles.values()]
        return [each.hits.hits for each in shown if each.hits is not None]

    async def until(self, condition: Callable[[], Awaitable[object]]) -> None:
        for _ in range(2000):
            if await condition():
                return
            await asyncio.sleep(0.005)
        raise AssertionError("it did not happen")


def rule(name: str, predicate: str) -> Rule:
    return Rule(name, "lots", predicate, "alerts")


async def test_rules_are_put_through_any_replica_and_run_by_one_that_another_takes_over_from() -> None:
    replicas = Replicas()
    replicas.start("a")
    replicas.start("b")

    async def together() -> bool:
        return all(role.replica.members == ["a", "b"] for role in replicas.roles.values())

    await replicas.until(together)
    await replicas.roles["a"].deploy("produce", APP.format(partitions=1))
    await replicas.roles["b"].rules.put([rule("high", "price > 100")])
    await replicas.send(150, 50)

    async def one_hit() -> bool:
        return await replicas.hits("high") == [1]

    await replicas.until(one_hit)
    both = [[rule(f"{name}{n}", f"price > {n}") for n in range(4)] for name in ("a", "b")]
    puts = [replicas.roles[rules[0].name[0]].rules.put([one]) for rules in both for one in rules]
    await asyncio.gather(*puts)
    for role in replicas.roles.values():
        assert len(await role.rules.rules()) == 9, "no put undid another"
    await replicas.until(one_hit)
    (owner,) = [name for name, role in replicas.roles.items() if (await role.rules.rule("high")).hits is not None]
    await replicas.stop(owner)
    await replicas.send(200)

    async def taken_over() -> bool:
        return await replicas.hits("high") == [2]

    await replicas.until(taken_over)
    found = await replicas.alerts()
    assert found.count(("high", 150.0)) == found.count(("high", 200.0)) == 1
    assert sorted(name for name, price in found if price == 200) == sorted(
        ["high", *(f"{name}{n}" for name in "ab" for n in range(4))]
    )
    for name in list(replicas.roles):
        await replicas.stop(name)
