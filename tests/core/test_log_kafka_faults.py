"""The Kafka log with two instances, other clients on its topics, and brokers that go away."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from itertools import count
from pathlib import Path
from uuid import uuid4

import msgspec
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from kafka_broker import KafkaBroker

from penstock.codecs.ndjson import decode_lines
from penstock.errors import Fenced, LogUnavailable, PenstockError
from penstock.logs.kafka import KafkaLog
from penstock.logs.kafka_names import parse_url
from penstock.logs.kafka_producer import Portion, TransactionalWriter, UnknownOutcome
from penstock.logs.kafka_records import Outgoing
from penstock.logs.metrics import NEAR_EXPIRY
from penstock.logs.settings import KafkaLogSettings
from penstock.model.stream import Column, StreamSpec
from penstock.model.types import STRING
from penstock.ports.log import Consumed, DeltaKind, Log, RejectedFilter, StateDelta, Transaction
from penstock.testing.clock import ManualClock
from penstock.testing.log_fixtures import (
    A_WHILE_S,
    APP,
    PLENTY_BYTES,
    SETTINGS,
    derived,
    name_of,
    new_batch,
    rejected_event,
    source,
)

QUICK = SETTINGS.model_copy(
    update={"kafka": KafkaLogSettings(timeout_s=3.0, open_wait_s=1.0, record_max_bytes=10_000)}
)
_numbers = count()


@pytest.fixture
def url(kafka_broker: KafkaBroker) -> str:
    return f"{kafka_broker.url}/f{uuid4().hex[:6]}.{next(_numbers)}"


@pytest.fixture
async def first(url: str) -> AsyncIterator[KafkaLog]:
    log = await KafkaLog.open(url, clock=ManualClock(), settings=QUICK)
    await log.put_app(APP, "", [source(), derived()], 0)
    yield log
    await log.close()


@pytest.fixture
async def second(first: KafkaLog, url: str) -> AsyncIterator[KafkaLog]:
    """Another process's log, as far as the brokers can tell."""
    log = await KafkaLog.open(url, clock=ManualClock(), settings=QUICK)
    yield log
    await log.close()


async def until_next(log: Log, stream: str, offset: int) -> None:
    """Wait until `log` knows `stream` up to `offset`, as a reader would."""
    async with asyncio.timeout(A_WHILE_S):
        tick = 0
        while (await log.head(stream, 0)).next < offset:
            tick = await log.wait([stream], tick, A_WHILE_S)


async def test_a_zombies_commit_is_fenced_and_leaves_nothing(first: KafkaLog, second: KafkaLog) -> None:
    zombie = (await first.acquire(APP)).term
    await first.commit(Transaction(APP, zombie, [Consumed("arrivals", 0, None, 1)]))
    restored = await second.acquire(APP)
    assert restored.term > zombie
    assert dict(restored.positions) == {("arrivals", 0): 1}
    moved = [Consumed("arrivals", 0, 1, 2)]
    state = [StateDelta("op", DeltaKind.UPSERT, b"zombie")]
    with pytest.raises(Fenced):
        await first.commit(Transaction(APP, zombie, moved, [new_batch("cheap", 1)], [rejected_event()], state))
    await second.commit(Transaction(APP, restored.term, moved, [new_batch("cheap", 1, name="successor")]))
    (batch,) = await second.read("cheap", 0, 0, PLENTY_BYTES)
    assert name_of(batch) == "successor"
    assert await second.rejected(RejectedFilter()) == []
    again = await first.acquire(APP)
    assert (dict(again.positions), dict(again.deltas)) == ({("arrivals", 0): 2}, {})


async def test_what_a_zombie_had_begun_is_never_read_and_holds_nobody_up(
    first: KafkaLog, url: str, kafka_broker: KafkaBroker
) -> None:
    await first.acquire(APP)
    names = parse_url(url)[1]
    stopped = Producer({"bootstrap.servers": kafka_broker.bootstrap, "transactional.id": names.state(APP)})
    stopped.init_transactions(10)
    stopped.begin_transaction()
    stopped.produce(names.stream("cheap"), b'{"market":"never"}', partition=0)
    assert stopped.flush(10) == 0
    term = (await first.acquire(APP)).term
    (position,) = await first.commit(Transaction(APP, term, appends=[new_batch("cheap", 2, name="seen")]))
    (batch,) = await first.read("cheap", 0, 0, PLENTY_BYTES)
    assert (name_of(batch), batch.first, batch.count, batch.next) == ("seen", 0, 2, position.next)
    assert batch.base > 0, "the aborted record has an offset, and no event"
    del stopped


async def test_a_second_ingest_gateway_takes_over_and_the_first_cannot_write_until_it_does(
    first: KafkaLog, second: KafkaLog
) -> None:
    await first.append([new_batch("arrivals", 1, name="one")])
    (position,) = await second.append([new_batch("arrivals", 1, name="two")])
    with pytest.raises(LogUnavailable, match="another ingest gateway"):
        await first.append([new_batch("arrivals", 1, name="lost")])
    assert not first.inlet.is_admitter
    assert first.failure() is None, "it may take over again, once it has been decided so"
    with pytest.raises(LogUnavailable, match="another ingest gateway"):
        await first.append([new_batch("arrivals", 1, name="lost")])
    await until_next(first, "arrivals", position.next)
    await first.inlet.take_over()
    await first.append([new_batch("arrivals", 1, name="three")])
    with pytest.raises(LogUnavailable, match="another ingest gateway"):
        await second.append([new_batch("arrivals", 1, name="lost")])
    batches = await first.read("arrivals", 0, 0, PLENTY_BYTES)
    assert [name_of(batch) for batch in batches] == ["one", "two", "three"]


async def test_another_process_learns_of_apps_events_rejections_and_members(
    first: KafkaLog, second: KafkaLog
) -> None:
    tick = await second.wait(["arrivals", ""], 0, 0)
    wider = StreamSpec("arrivals", APP, source().relation, (Column("market", STRING), Column("more", STRING)))
    await first.put_app(APP, "two", [wider, derived()], 1)
    (position,) = await first.append([new_batch("arrivals", 3, watermark_ms=5)], [rejected_event("r")])
    async with asyncio.timeout(A_WHILE_S):
        while (await second.catalog()).apps[APP].version < 2:
            tick = await second.wait([""], tick, A_WHILE_S)
    await until_next(second, "arrivals", position.next)
    assert (await second.head("arrivals", 0)).watermark_ms == 5
    assert [event.id for event in await second.rejected(RejectedFilter())] == ["r"]
    assert await first.beat("g", "a", 30) == ["a"]
    assert await second.beat("g", "b", 30) == ["a", "b"]
    assert await first.beat("g", "a", 30) == ["a", "b"]
    with pytest.raises(PenstockError, match="precondition_failed"):
        await second.put_app(APP, "late", [wider, derived()], 1)


async def test_two_processes_that_deploy_at_the_same_time_get_one_order(first: KafkaLog, second: KafkaLog) -> None:
    deployments = [
        log.put_app(f"{name}{n}", "", [StreamSpec(f"s{name}{n}", f"{name}{n}", source().relation, ())], 0)
        for n in range(3)
        for name, log in (("a", first), ("b", second))
    ]
    await asyncio.gather(*deployments)
    assert (await first.put_app("last", "", [], 0)).version == 1
    assert {f"{name}{n}" for name in "ab" for n in range(3)} <= (await first.catalog()).apps.keys()


async def test_events_of_a_plain_producer_are_read_between_our_own(
    first: KafkaLog, url: str, kafka_broker: KafkaBroker
) -> None:
    await first.append([new_batch("arrivals", 1, name="ours")])
    topic = parse_url(url)[1].stream("arrivals")
    producer = Producer({"bootstrap.servers": kafka_broker.bootstrap})
    for n in range(3):
        producer.produce(topic, b'{"market":\n"theirs"}' if n else b'{"market":"theirs"}', partition=0)
    assert producer.flush(10) == 0
    (position,) = await first.append([new_batch("arrivals", 2, name="ours")])
    for reader in ("from brokers", "as it comes"):
        await until_next(first, "arrivals", position.next)
        batches = await first.read("arrivals", 0, 0, PLENTY_BYTES)
        assert sum(batch.count for batch in batches) == 6, reader
        lines = b"\n".join(decode_lines(batch.payload) for batch in batches).split(b"\n")
        assert [msgspec.json.decode(line)["market"] for line in lines] == ["ours", *["theirs"] * 3, *["ours"] * 2]
        await first.wait(["arrivals"], 0, 0)


async def test_a_plain_client_reads_our_events(first: KafkaLog, url: str, kafka_broker: KafkaBroker) -> None:
    term = (await first.acquire(APP)).term
    await first.commit(Transaction(APP, term, appends=[new_batch("cheap", 2, name="rice", watermark_ms=4)]))
    topic = parse_url(url)[1].stream("cheap")
    consumer = Consumer({"bootstrap.servers": kafka_broker.bootstrap, "group.id": uuid4().hex})
    consumer.assign([TopicPartition(topic, 0, 0)])
    found = await asyncio.to_thread(consumer.consume, 2, A_WHILE_S)
    consumer.close()
    assert [message.value() for message in found] == [b'{"market":"rice"}'] * 2


async def test_state_larger_than_a_record_is_restored_and_what_it_replaced_is_deleted(first: KafkaLog) -> None:
    term = (await first.acquire(APP)).term
    large = bytes(range(256)) * 200  # five records
    for n in range(3):
        delta = StateDelta("op", DeltaKind.APPEND, large + bytes([n]))
        await first.commit(Transaction(APP, term, deltas=[delta]))
    snapshot = StateDelta("op", DeltaKind.REPLACE, large)
    await first.commit(Transaction(APP, term, [Consumed("arrivals", 0, None, 9)], deltas=[snapshot]))
    await first.trim({})
    part = (first._names.state(APP), 0)
    (kept,) = await first._cluster.starts([part])
    assert kept > 15
    restored = await first.acquire(APP)
    assert dict(restored.deltas) == {"op": [snapshot]}
    assert dict(restored.positions) == {("arrivals", 0): 9}


async def test_an_event_that_brokers_would_not_take_is_refused_alone(first: KafkaLog) -> None:
    calls = [new_batch("arrivals", 1), new_batch("arrivals", 1, name="x" * 20_000), new_batch("arrivals", 1)]
    outcomes = await asyncio.gather(*(first.append([batch]) for batch in calls), return_exceptions=True)
    assert [getattr(outcome, "code", "ok") for outcome in outcomes] == ["ok", "too_large", "ok"]
    assert len(await first.read("arrivals", 0, 0, PLENTY_BYTES)) == 2


async def test_a_read_below_what_brokers_kept_begins_with_the_earliest_and_shows_the_gap(first: KafkaLog) -> None:
    await first.append([new_batch("arrivals", 10)])
    (position,) = await first.append([new_batch("arrivals", 1)])
    await first._cluster.delete_before({(first._names.stream("arrivals"), 0): 11})
    (batch,) = await first.read("arrivals", 0, 3, PLENTY_BYTES)
    assert (batch.first, batch.next, batch.count) == (11, position.next, 1)
    assert (await first.head("arrivals", 0)).first == 11


class CutOff(TransactionalWriter):
    """A writer whose connection breaks around the commit; `after`: it had reached the brokers."""

    after = True

    async def write(self, portions: Sequence[Portion]) -> None:
        if self.after:
            await super().write(portions)
        await self.close()
        raise UnknownOutcome("cut off")


@pytest.mark.parametrize("after", [True, False])
async def test_a_cycle_of_unknown_outcome_is_looked_up_and_neither_lost_nor_doubled(
    first: KafkaLog, after: bool
) -> None:
    term = (await first.acquire(APP)).term
    task = first._tasks._tasks[APP]
    task.writer = CutOff(first._cluster, first._names.state(APP))
    task.writer.after = after
    await task.writer.open()
    moved = [Consumed("arrivals", 0, None, 1)]
    cycle = Transaction(APP, term, moved, [new_batch("cheap", 2)], deltas=[StateDelta("op", DeltaKind.UPSERT, b"1")])
    if after:
        (position,) = await first.commit(cycle)
        assert position.next == (await first.head("cheap", 0)).next == 2
    else:
        with pytest.raises(LogUnavailable, match="not committed"):
            await first.commit(cycle)
        with pytest.raises(Fenced):
            await first.commit(cycle)
    restored = await first.acquire(APP)
    assert dict(restored.positions) == ({("arrivals", 0): 1} if after else {})
    assert sum(batch.count for batch in await first.read("cheap", 0, 0, PLENTY_BYTES)) == (2 if after else 0)


async def test_a_writer_gives_the_offsets_of_what_it_wrote_until_it_is_closed(first: KafkaLog) -> None:
    part = (first._names.stream("cheap"), 0)
    writer = TransactionalWriter(first._cluster, "somebody")
    with pytest.raises(LogUnavailable, match="not open"):
        await writer.write([Portion(part, [Outgoing(None, b"{}", None)])])
    await writer.open()
    portion = Portion(part, [Outgoing(None, b'{"market":"a"}', None)] * 3)
    await writer.write([portion])
    assert portion.offsets == [0, 1, 2]
    await writer.close()
    assert not writer.is_open


@pytest.fixture
def own_broker(need: object, tmp_path: Path) -> Iterator[KafkaBroker]:
    """A broker that the test may kill."""
    missing = KafkaBroker.missing()
    need("kafka", missing is None, missing or "")  # type: ignore[operator]  # the fixture of tests/conftest.py
    broker = KafkaBroker(tmp_path / "kafka")
    broker.start()
    yield broker
    broker.stop()


async def test_while_brokers_are_away_writes_fail_and_afterwards_everything_goes_on(own_broker: KafkaBroker) -> None:
    log = await KafkaLog.open(own_broker.url, clock=ManualClock(), settings=QUICK)
    await log.put_app(APP, "", [source(), derived()], 0)
    term = (await log.acquire(APP)).term
    await log.commit(Transaction(APP, term, [Consumed("arrivals", 0, None, 1)], [new_batch("cheap", 1, name="1")]))
    acknowledged = ["before"]
    await log.append([new_batch("arrivals", 1, name="before")])
    tick = await log.wait(["arrivals"], 0, 0)

    await asyncio.to_thread(own_broker.kill)
    began = time.perf_counter()
    with pytest.raises(LogUnavailable):
        await log.append([new_batch("arrivals", 1, name="during")])
    with pytest.raises(LogUnavailable):
        await log.commit(Transaction(APP, term, [Consumed("arrivals", 0, 1, 2)], [new_batch("cheap", 1, name="2")]))
    assert time.perf_counter() - began < 60, "bounded by the settings' time-outs, not by the library's minutes"
    await asyncio.to_thread(own_broker.start)

    async with asyncio.timeout(60):
        while True:
            try:
                (position,) = await log.append([new_batch("arrivals", 1, name="after")])
            except LogUnavailable:
                await asyncio.sleep(0.2)
            else:
                break
    acknowledged.append("after")
    restored = await log.acquire(APP)
    outcome = dict(restored.positions)[("arrivals", 0)]
    assert outcome in (1, 2)
    names = [name_of(batch) for batch in await log.read("cheap", 0, 0, PLENTY_BYTES)]
    assert names == ["1", "2"][:outcome], "outputs and positions are one"
    await log.wait(["arrivals"], tick, A_WHILE_S)
    await until_next(log, "arrivals", position.next)
    read = [name_of(batch) for batch in await log.read("arrivals", 0, 0, PLENTY_BYTES)]
    assert [name for name in read if name != "during"] == acknowledged
    await log.close()


async def test_a_log_without_brokers_says_so_in_bounded_time() -> None:
    with pytest.raises(LogUnavailable, match="brokers"):
        await KafkaLog.open("kafka://127.0.0.1:9", clock=ManualClock(), settings=QUICK)


async def test_a_task_that_events_may_expire_for_is_warned_of(url: str) -> None:
    clock = ManualClock(time.time_ns() // 1_000_000)
    log = await KafkaLog.open(url, clock=clock, settings=QUICK)
    await log.put_app(APP, "", [source(retention_s=3600)], 0)
    term = (await log.acquire(APP)).term
    (position,) = await log.append([new_batch("arrivals", 3)])
    await log.commit(Transaction(APP, term, [Consumed("arrivals", 0, None, 1)]))
    gauge = NEAR_EXPIRY.labels(APP, "arrivals")
    await log.trim({})
    assert gauge._value.get() == 0
    await clock.advance(1900)
    await log.trim({})
    assert gauge._value.get() == 1
    await log.commit(Transaction(APP, term, [Consumed("arrivals", 0, 1, position.next)]))
    await log.trim({})
    assert gauge._value.get() == 0
    await log.close()
