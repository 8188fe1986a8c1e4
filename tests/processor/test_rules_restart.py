"""Rules over processes that die at any moment: every event hits each rule once, in the target and in the counts."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from processor.rules_rig import System, lot, system_on

from penstock.codecs.ndjson import encode_lines
from penstock.errors import PenstockError
from penstock.logs.memory import MemoryLog
from penstock.logs.open import open_log
from penstock.logs.settings import LogSettings
from penstock.model.batch import Encoding, NewBatch
from penstock.model.position import Position
from penstock.model.stream import StreamSpec
from penstock.ports.clock import SystemClock
from penstock.ports.log import AppRecord, Log, Transaction
from penstock.role import Ports
from penstock.testing.access import OpenAccess
from penstock.testing.clock import ManualClock
from penstock_processor.service import build
from penstock_processor.settings import ProcessorSettings


async def killed_after(log: Log, work: Callable[[System], Awaitable[None]]) -> None:
    """A processor that is killed, not stopped, when `work` is done: whatever it is doing then."""
    ports = Ports(log=log, store=None, clock=SystemClock(), access=OpenAccess())  # type: ignore[arg-type]  # not used
    role = build(ProcessorSettings(wait_s=0.05), ports)
    application = web.Application()
    application.add_routes(role.routes())
    task = asyncio.create_task(role.replica.run(asyncio.Event()))
    async with TestClient(TestServer(application)) as client:
        await work(System(client, role, log))
        runners = [t for t in asyncio.all_tasks() if t.get_name().startswith("task ")]
        for each in (task, *runners):
            each.cancel()
        await asyncio.gather(task, *runners, return_exceptions=True)


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_hits_are_written_and_counted_once_whenever_the_process_dies(kind: str, tmp_path: Path) -> None:
    chance = random.Random(7)
    memory = MemoryLog(clock=ManualClock())

    async def opened() -> Log:
        if kind == "memory":
            return memory
        roles = frozenset({"ingest", "processor"})
        return await open_log(f"sqlite:///{tmp_path}", roles=roles, clock=SystemClock(), settings=LogSettings())

    async def first(system: System) -> None:
        await system.deploy()
        for n, predicate in enumerate(("price > 30", "n = 3", "10 / n > 0", "market = 'm1' AND price >= 10")):
            await system.put(f"r{n}", predicate, columns="price, n")

    log = await opened()
    await killed_after(log, first)
    sent = 0
    for _ in range(12):
        if kind == "sqlite":
            await log.close()
            log = await opened()

        async def feed(system: System, start: int = sent) -> None:
            await system.send(*[lot(f"m{i % 3}", float(i), i % 5) for i in range(start, start + 10)])
            await asyncio.sleep(chance.choice([0, 0, 0.005, 0.02, 0.05]))

        await killed_after(log, feed)
        sent += 10
    clock = SystemClock()
    async with system_on(log, clock) as system:
        await system.caught_up()
        rows = [(row["rule"], row["price"]) for row in await system.rows("alerts")]
        events = [(float(i), i % 5, i % 3) for i in range(sent)]
        expected = [
            (f"r{n}", price)
            for price, k, m in events
            for n, hit in enumerate((price > 30, k == 3, k != 0, m == 1 and price >= 10))
            if hit
        ]
        assert rows == expected

        async def counted() -> bool:
            answer = (await system.call("GET", ""))[1]["rules"]
            counts = {rule["name"]: rule["hits"] for rule in answer}
            return counts == {f"r{n}": sum(1 for rule, _ in expected if rule == f"r{n}") for n in range(4)}

        await system.until(counted)
    if kind == "sqlite":
        await log.close()


async def test_a_commit_that_fails_counts_and_writes_nothing_until_it_succeeds() -> None:
    log, clock = MemoryLog(clock=ManualClock()), SystemClock()
    async with system_on(log, clock, retry_min_s=0.01) as system:
        await system.deploy()
        await system.put("high")
        commit, failing = log.commit, [True]

        async def refused(transaction: Transaction) -> list[Position]:
            if failing[0] and transaction.app == "rules.lots" and transaction.deltas:
                raise PenstockError("log_unavailable", "not now", retry_after_s=0.01)
            return await commit(transaction)

        log.commit = refused  # type: ignore[method-assign]  # a log that cannot be written for a while
        await system.send(lot("Agra", 150))
        await asyncio.sleep(0.1)
        assert (await system.rule("high"))["hits"] == 0
        assert await system.rows("alerts") == []
        failing[0] = False
        await system.caught_up()
        assert len(await system.rows("alerts")) == 1

        async def counted() -> bool:
            return (await system.rule("high"))["hits"] == 1

        await system.until(counted)


async def test_events_of_a_partition_that_is_new_hit_from_its_first_one() -> None:
    class BusyLog(MemoryLog):
        """Events come to the new partition before anybody else knows of it."""

        async def put_app(
            self, name: str, sql: str, streams: Sequence[StreamSpec], expected_version: int | None = None
        ) -> AppRecord:
            record = await super().put_app(name, sql, streams, expected_version)
            if (name, record.version) == ("produce", 2):
                lines = [msgspec.json.encode(lot("Agra", 150))]
                await self.append([NewBatch("lots", 1, Encoding.NDJSON_ZSTD, encode_lines(lines), 1)])
            return record

    log = BusyLog(clock=ManualClock())
    async with system_on(log, SystemClock()) as system:
        await system.deploy()
        await system.put("high")
        await system.send(lot("Agra", 120))
        await system.caught_up()
        await system.deploy(partitions=2)
        await system.caught_up()
        assert [row["price"] for row in await system.rows("alerts")] == [120.0, 150.0]
