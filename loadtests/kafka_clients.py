"""aiokafka against confluent-kafka on one broker, for what the log does.

`python loadtests/kafka_clients.py HOST:PORT`.

Prints a Markdown table: records a second produced and consumed (acks=all, transactions of 1,000 records,
read_committed), transactions a second of 10 records, and what becomes of a zombie. Figures are the median of three
runs with their spread; each run takes about a second. `python tests/kafka_broker.py FOLDER` starts a broker.
"""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import sys
import time
import uuid
from collections.abc import Callable, Coroutine
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka import TopicPartition as AioPartition
from aiokafka.errors import KafkaError as AioError
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

RUNS = 3
RECORDS = 40_000
PER_TRANSACTION = 1_000
COMMITS = 100
PER_COMMIT = 10

Measure = Callable[[str, str, bytes], float]


def confluent_produce(bootstrap: str, topic: str, value: bytes) -> float:
    """Records a second, transactions of `PER_TRANSACTION`."""
    producer = _confluent_producer(bootstrap)
    began = time.perf_counter()
    for _ in range(RECORDS // PER_TRANSACTION):
        producer.begin_transaction()
        for _ in range(PER_TRANSACTION):
            producer.produce(topic, value, b"key", partition=0)
        producer.commit_transaction(10)
    return RECORDS / (time.perf_counter() - began)


def confluent_commits(bootstrap: str, topic: str, value: bytes) -> float:
    """Transactions a second."""
    producer = _confluent_producer(bootstrap)
    began = time.perf_counter()
    for _ in range(COMMITS):
        producer.begin_transaction()
        for _ in range(PER_COMMIT):
            producer.produce(topic, value, b"key", partition=0)
        producer.commit_transaction(10)
    return COMMITS / (time.perf_counter() - began)


def confluent_consume(bootstrap: str, topic: str, value: bytes) -> float:
    """Records a second from the beginning of a topic that holds `RECORDS`; values and offsets are looked at."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "unused",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "auto.offset.reset": "error",
        }
    )
    consumer.assign([TopicPartition(topic, 0, 0)])
    began, seen = time.perf_counter(), 0
    while seen < RECORDS:
        for message in consumer.consume(5000, 1.0):
            assert message.error() is None
            assert message.value() == value
            assert message.offset() is not None
            seen += 1
    took = time.perf_counter() - began
    consumer.close()
    return RECORDS / took


def confluent_zombie(bootstrap: str, topic: str) -> str:
    """What an instance gets that another with its transactional.id has replaced."""
    name = str(uuid.uuid4())
    old = _confluent_producer(bootstrap, name)
    old.begin_transaction()
    old.produce(topic, b"zombie", partition=0)
    old.flush(5)
    _confluent_producer(bootstrap, name)
    try:
        old.commit_transaction(10)
    except KafkaException as error:
        return str(error.args[0].name())
    return "committed"


async def aio_produce(bootstrap: str, topic: str, value: bytes) -> float:
    """As `confluent_produce`."""
    async with _aio_producer(bootstrap) as producer:
        began = time.perf_counter()
        for _ in range(RECORDS // PER_TRANSACTION):
            async with producer.transaction():
                for _ in range(PER_TRANSACTION):
                    await producer.send(topic, value, b"key", partition=0)
        return RECORDS / (time.perf_counter() - began)


async def aio_commits(bootstrap: str, topic: str, value: bytes) -> float:
    """As `confluent_commits`."""
    async with _aio_producer(bootstrap) as producer:
        began = time.perf_counter()
        for _ in range(COMMITS):
            async with producer.transaction():
                for _ in range(PER_COMMIT):
                    await producer.send(topic, value, b"key", partition=0)
        return COMMITS / (time.perf_counter() - began)


async def aio_consume(bootstrap: str, topic: str, value: bytes) -> float:
    """As `confluent_consume`."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap, isolation_level="read_committed", auto_offset_reset="none"
    )
    await consumer.start()
    partition = AioPartition(topic, 0)
    consumer.assign([partition])
    consumer.seek(partition, 0)
    began, seen = time.perf_counter(), 0
    while seen < RECORDS:
        for message in (await consumer.getmany(timeout_ms=1000, max_records=5000)).get(partition, ()):
            assert message.value == value
            assert message.offset is not None
            seen += 1
    took = time.perf_counter() - began
    await consumer.stop()
    return RECORDS / took


async def aio_zombie(bootstrap: str, topic: str) -> str:
    """As `confluent_zombie`."""
    name = str(uuid.uuid4())
    old = AIOKafkaProducer(bootstrap_servers=bootstrap, transactional_id=name)
    await old.start()
    await old.begin_transaction()
    await old.send_and_wait(topic, b"zombie", partition=0)
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, transactional_id=name):
        try:
            await asyncio.wait_for(old.commit_transaction(), 10)
        except (AioError, TimeoutError) as error:
            return type(error).__name__
        finally:
            with contextlib.suppress(AioError, TimeoutError):
                await asyncio.wait_for(old.stop(), 10)
    return "committed"


def _confluent_producer(bootstrap: str, name: str | None = None) -> Producer:
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "transactional.id": name or str(uuid.uuid4()),
            "acks": "all",
            "linger.ms": 1,
            "log_level": 0,
        }
    )
    producer.init_transactions(20)
    return producer


def _aio_producer(bootstrap: str) -> AIOKafkaProducer:
    return AIOKafkaProducer(
        bootstrap_servers=bootstrap,
        transactional_id=str(uuid.uuid4()),
        acks="all",
        linger_ms=1,
        max_batch_size=1_000_000,
    )


def _sync(measure: Callable[[str, str, bytes], Coroutine[Any, Any, float]]) -> Measure:
    return lambda bootstrap, topic, value: asyncio.run(measure(bootstrap, topic, value))


def _row(name: str, measure: Measure, bootstrap: str, value: bytes, *, fill: bool = False) -> str:
    figures = []
    for _ in range(RUNS):
        topic = _topic(bootstrap)
        if fill:
            confluent_produce(bootstrap, topic, value)
        figures.append(measure(bootstrap, topic, value))
    low, high = min(figures), max(figures)
    return f"| {name} | {statistics.median(figures):,.0f} | {low:,.0f} to {high:,.0f} |"


def _topic(bootstrap: str) -> str:
    name = f"clients-{uuid.uuid4()}"
    admin = AdminClient({"bootstrap.servers": bootstrap})  # must outlive its futures
    for future in admin.create_topics([NewTopic(name, 1, 1)]).values():
        future.result(20)
    return name


def main(bootstrap: str) -> None:
    """Print the table."""
    out = sys.stdout.write
    out("| what | median of 3, per second | spread |\n|---|---|---|\n")
    for size in (100, 1000):
        value = b"x" * size
        for what, ours, theirs in (
            ("produced", confluent_produce, aio_produce),
            ("consumed", confluent_consume, aio_consume),
        ):
            fill = what == "consumed"
            out(_row(f"confluent-kafka, {what}, {size} B", ours, bootstrap, value, fill=fill) + "\n")
            out(_row(f"aiokafka, {what}, {size} B", _sync(theirs), bootstrap, value, fill=fill) + "\n")
    value = b"x" * 100
    out(_row("confluent-kafka, transactions of 10", confluent_commits, bootstrap, value) + "\n")
    out(_row("aiokafka, transactions of 10", _sync(aio_commits), bootstrap, value) + "\n")
    topic = _topic(bootstrap)
    out(f"\nA zombie's commit: confluent-kafka {confluent_zombie(bootstrap, topic)}, ")
    out(f"aiokafka {asyncio.run(aio_zombie(bootstrap, topic))}.\n")


if __name__ == "__main__":
    main(sys.argv[1])
