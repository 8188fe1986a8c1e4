"""The Kafka log on three brokers: one is killed and comes back, whatever it was in charge of, and then two."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from itertools import count

import msgspec
import pytest
from kafka_cluster import KafkaCluster, kafka_cluster

from penstock.codecs.arrow import decode_frame
from penstock.codecs.ndjson import decode_lines
from penstock.errors import Fenced, LogUnavailable, PenstockError
from penstock.logs.kafka import KafkaLog
from penstock.logs.settings import KafkaLogSettings
from penstock.model.batch import Batch, Encoding
from penstock.ports.log import Consumed, DeltaKind, StateDelta, Transaction
from penstock.testing.clock import ManualClock
from penstock.testing.log_fixtures import APP, PLENTY_BYTES, SETTINGS, derived, new_batch, source

__all__ = ["kafka_cluster"]  # the fixture

#: A machine that does much else at the same time takes minutes for what takes an idle one seconds.
pytestmark = pytest.mark.timeout(500)

LIMITS = KafkaLogSettings(timeout_s=3.0, open_wait_s=60.0, transaction_timeout_s=10.0, replication_factor=3)
A_LONG_WHILE_S = 120.0
MORE = 5  # appends and cycles that show that everything goes on


class Traffic:
    """A gateway that appends one event after the other, and a task that takes them over to `cheap`, cycle by cycle.

    Both do what their roles do after an error: the gateway goes on, with its name taken again where it was lost; the
    task drops what it knows and begins a new term.
    """

    def __init__(self, gateway: KafkaLog, worker: KafkaLog) -> None:
        self.gateway, self.worker = gateway, worker
        self.acknowledged: list[str] = []
        self.refused: list[PenstockError] = []
        self.cycles = 0
        self.cycles_refused = 0
        self._names = (f"e{n}" for n in count())
        self._at = 0
        self._ended = False
        self._tasks: list[asyncio.Task[None]] = []

    def begin(self) -> None:
        """Append and work from now on."""
        self._tasks = [asyncio.create_task(self._append()), asyncio.create_task(self._work())]

    async def more(self) -> None:
        """Until this many appends and cycles more have been acknowledged."""
        appends, cycles = len(self.acknowledged) + MORE, self.cycles + MORE
        await self.until(lambda: len(self.acknowledged) >= appends and self.cycles >= cycles)

    async def until(self, is_so: Callable[[], bool]) -> None:
        """Wait for something (asked in a thread) as long as both go on."""
        async with asyncio.timeout(A_LONG_WHILE_S):
            while not await asyncio.to_thread(is_so):
                await asyncio.wait(self._tasks, timeout=0.05, return_when=asyncio.FIRST_EXCEPTION)
                for task in self._tasks:
                    if task.done():
                        task.result()  # raises what ended it

    async def end(self) -> None:
        """No more appends; what is there is worked off."""
        self._ended = True
        await self._tasks[0]
        end = (await self.gateway.head("arrivals", 0)).next
        await self.until(lambda: self._at >= end)

    async def close(self) -> None:
        """Stop both, wherever they are."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _append(self) -> None:
        """Until `end`."""
        while not self._ended:
            name = next(self._names)
            try:
                if self.acknowledged and not self.gateway.inlet.is_admitter:
                    await self.gateway.inlet.take_over()
                await self.gateway.append([new_batch("arrivals", 1, name=name)])
            except PenstockError as error:
                self.refused.append(error)
            else:
                self.acknowledged.append(name)
            await asyncio.sleep(0.05)

    async def _work(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self._term()
            except (LogUnavailable, Fenced):  # brokers that come back fence who wrote what they ended meanwhile
                self.cycles_refused += 1

    async def _term(self) -> None:
        restored = await self.worker.acquire(APP)
        position = dict(restored.positions).get(("arrivals", 0))
        done = [delta.payload for delta in restored.deltas.get("op", ())]
        tick = 0
        while True:
            self._at = position or 0
            batches = await self.worker.read("arrivals", 0, self._at, PLENTY_BYTES)
            if not batches:
                tick = await self.worker.wait(["arrivals"], tick, 0.2)
                await self.worker.commit(Transaction(APP, restored.term))  # time goes on: so that it can be refused
                continue
            names = [name for batch in batches for name in names_in(batch)]
            assert not set(done) & {name.encode() for name in names}, "state and positions are one"
            cycle = Transaction(
                APP,
                restored.term,
                [Consumed("arrivals", 0, position, batches[-1].next)],
                [new_batch("cheap", 1, name=name) for name in names],
                deltas=[StateDelta("op", DeltaKind.APPEND, name.encode()) for name in names],
            )
            await self.worker.commit(cycle)
            self.cycles += 1
            position = batches[-1].next


@asynccontextmanager
async def traffic_on(cluster: KafkaCluster, prefix: str) -> AsyncIterator[Traffic]:
    """Checked at the end, by a third process: nothing acknowledged is missing, nothing is there twice."""
    url = f"{cluster.url}/{prefix}"
    gateway, worker, reader = [
        await KafkaLog.open(url, clock=ManualClock(), settings=SETTINGS.model_copy(update={"kafka": LIMITS}))
        for _ in range(3)
    ]
    await deploy(gateway)
    await deploy(worker)  # it knows of it now
    traffic = Traffic(gateway, worker)
    traffic.begin()
    try:
        await traffic.more()
        yield traffic
        await traffic.end()
        arrived, passed_on = await all_of(reader, "arrivals"), await all_of(reader, "cheap")
        assert [name for name, times in Counter(arrived).items() if times > 1] == []
        assert [name for name in traffic.acknowledged if name not in arrived] == []
        assert passed_on == arrived, "each event went through one cycle, in its order"
        assert len(arrived) - len(traffic.acknowledged) <= len(traffic.refused)
    finally:
        await traffic.close()
        for log in (gateway, worker, reader):
            await log.close()


async def test_a_broker_that_leads_a_stream_is_killed_and_appends_and_cycles_go_on(
    kafka_cluster: KafkaCluster,
) -> None:
    async with (
        traffic_on(kafka_cluster, "leader") as traffic,
        killed(kafka_cluster, lambda: kafka_cluster.leader("leader.arrivals"), traffic),
    ):
        assert await first_kept(traffic.worker, "leader.arrivals") == 0, "asked of the next leader"


async def test_a_broker_that_coordinates_the_transactions_is_killed_and_they_go_on(
    kafka_cluster: KafkaCluster,
) -> None:
    async with (
        traffic_on(kafka_cluster, "coordinator") as traffic,
        killed(kafka_cluster, kafka_cluster.coordinator, traffic),
    ):
        await traffic.more()


async def test_while_two_of_three_brokers_are_gone_writes_are_refused_and_then_they_go_on_by_themselves(
    kafka_cluster: KafkaCluster,
) -> None:
    async with traffic_on(kafka_cluster, "two") as traffic:
        for node in (1, 2):
            await asyncio.to_thread(kafka_cluster.brokers[node].kill)
        acknowledged, cycles = len(traffic.acknowledged), traffic.cycles
        refused, cycles_refused = len(traffic.refused), traffic.cycles_refused
        await traffic.until(lambda: len(traffic.refused) > refused and traffic.cycles_refused > cycles_refused)
        # What brokers had answered before they were killed is still told, of each at most the one that was under way.
        assert len(traffic.acknowledged) - acknowledged <= 1, "two replicas, or nothing"
        assert traffic.cycles - cycles <= 1, "two replicas, or nothing"
        assert {(error.code, error.status) for error in traffic.refused} == {("log_unavailable", 503)}
        assert all(error.retryable for error in traffic.refused)
        await asyncio.to_thread(kafka_cluster.start)
        await traffic.more()


@asynccontextmanager
async def killed(cluster: KafkaCluster, in_charge: Callable[[], int], traffic: Traffic) -> AsyncIterator[None]:
    """Traffic goes on while the broker that is in charge is away, and after it has come back."""
    node = await asyncio.to_thread(in_charge)
    assert node > 0
    await asyncio.to_thread(cluster.brokers[node].kill)
    yield
    await traffic.more()
    await asyncio.to_thread(cluster.start)
    await traffic.until(cluster.is_whole)
    await traffic.more()


async def first_kept(log: KafkaLog, topic: str) -> int:
    """Asked until somebody knows."""
    while True:
        with suppress(LogUnavailable):
            (first,) = await log._cluster.starts([(topic, 0)])
            return first


async def deploy(log: KafkaLog) -> None:
    """As a processor does: again while the brokers are not ready for it."""
    async with asyncio.timeout(A_LONG_WHILE_S):
        while APP not in (await log.catalog()).apps:
            with suppress(LogUnavailable):
                await log.put_app(APP, "", [source(), derived()], None)


async def all_of(log: KafkaLog, stream: str) -> list[str]:
    """What the events of a stream say, in their order."""
    names: list[str] = []
    at = 0
    while batches := await log.read(stream, 0, at, PLENTY_BYTES):
        names += [name for batch in batches for name in names_in(batch)]
        at = batches[-1].next
    return names


def names_in(batch: Batch) -> list[str]:
    if batch.encoding is Encoding.ARROW:
        return list(decode_frame(batch.payload)["market"])
    return [msgspec.json.decode(line)["market"] for line in decode_lines(batch.payload).split(b"\n")]
