"""The outlet contract over a real Kafka broker, as its readers of committed records see it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any
from uuid import uuid4

import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from kafka_broker import KafkaBroker

from penstock.model.batch import Op
from penstock.model.stream import StreamSpec
from penstock.outlets.kafka import KafkaOutlet
from penstock.outlets.options import KafkaOutletOptions, UpsertKafkaOutletOptions, read_outlet_options
from penstock.ports.outlet import BatchRefused, Guarantee, Outlet, OutletUnavailable
from penstock.testing.outlet_contract import STREAM, TABLE, OutletContract, changes, rows


def options(connector: str, **given: str) -> Any:
    found = read_outlet_options(connector, given)
    assert isinstance(found, KafkaOutletOptions | UpsertKafkaOutletOptions), found
    return found


class Topic:
    """A topic of the test's own, with one partition."""

    def __init__(self, broker: KafkaBroker) -> None:
        self.servers, self.name = broker.bootstrap, f"theirs-{uuid4().hex[:8]}"
        admin = AdminClient({"bootstrap.servers": self.servers})
        (made,) = admin.create_topics([NewTopic(self.name, 1, 1)]).values()
        made.result(10)

    def records(self) -> list[tuple[bytes | None, bytes | None]]:
        """Key and value of every committed record."""
        reader = Consumer({"bootstrap.servers": self.servers, "group.id": "reader", "enable.partition.eof": True})
        reader.assign([TopicPartition(self.name, 0, 0)])
        found = []
        while (record := reader.poll(10)) is not None and record.error() is None:
            found.append((record.key(), record.value()))
        reader.close()
        return found


class KafkaContract(OutletContract):
    more: Mapping[str, str] = MappingProxyType({})

    @pytest.fixture(autouse=True)
    def a_topic(self, kafka_broker: KafkaBroker) -> None:
        self.topic = Topic(kafka_broker)

    topic: Topic

    def make(self, spec: StreamSpec) -> Outlet:
        return self.at(spec, self.topic.servers, self.topic.name)

    def away(self, spec: StreamSpec) -> Outlet:
        return self.at(spec, "127.0.0.1:9", self.topic.name, **{"properties.delivery.timeout": "1 s"})

    def at(self, spec: StreamSpec, servers: str, topic: str, **more: str) -> Outlet:
        forms = {"key.format": "json", "value.format": "json"} if spec is TABLE else {"format": "json"}
        given = {"topic": topic, "properties.bootstrap.servers": servers, **forms, **self.more, **more}
        connector = "upsert-kafka" if spec is TABLE else "kafka"
        return KafkaOutlet(spec, options(connector, **given), task=f"shop#{topic}.0")

    async def seen(self, spec: StreamSpec) -> list[Any]:
        found = self.topic.records()
        if spec is not TABLE:
            return [json.loads(value or b"") for _, value in found]
        left = {}
        for key, value in found:
            left.pop(key, None)
            if value is not None:
                left[key] = json.loads(value)
        return list(left.values())


class TestAtLeastOnce(KafkaContract):
    guarantee = Guarantee.AT_LEAST_ONCE

    async def test_a_topic_that_is_missing_is_named_with_the_remedy(self):
        outlet = self.at(STREAM, self.topic.servers, "nobody-made-it", **{"properties.delivery.timeout": "2 s"})
        with pytest.raises(OutletUnavailable, match="create the topic"):
            await outlet.open()
        await outlet.close()

    async def test_a_record_too_large_is_refused_and_its_neighbours_are_there(self):
        outlet = self.make(STREAM)
        await outlet.open()
        batch = rows(0, 3)
        batch.frame[1, "market"] = "x" * 2_000_000
        (refused,) = await outlet.deliver(batch)
        await outlet.close()
        assert refused.row == 1
        assert [row["id"] for row in await self.seen(STREAM)] == [0, 2]

    async def test_rows_of_a_key_stay_together_by_columns_that_are_named(self):
        outlet = self.at(STREAM, self.topic.servers, self.topic.name, **{"key.format": "json", "key.fields": "id"})
        await outlet.open()
        await outlet.deliver(rows(0, 2))
        await outlet.close()
        assert [key for key, _ in self.topic.records()] == [b'{"id":0}', b'{"id":1}']

    async def test_a_deleted_key_is_a_record_without_value(self):
        outlet = self.make(TABLE)
        await outlet.open()
        assert outlet.guarantee is Guarantee.EFFECTIVELY_ONCE
        await outlet.deliver(changes(0, (Op.INSERT, 1, 1.0), (Op.DELETE, 1, None)))
        await outlet.close()
        assert [(key, value is None) for key, value in self.topic.records()] == [
            (b'{"id":1}', False),
            (b'{"id":1}', True),
        ]


class TestExactlyOnce(KafkaContract):
    guarantee = Guarantee.EXACTLY_ONCE
    more = MappingProxyType({"sink.delivery-guarantee": "exactly-once"})

    async def test_who_was_overtaken_writes_nothing(self):
        slow, fast = self.make(STREAM), self.make(STREAM)
        await slow.open()
        await fast.open()
        await fast.deliver(rows(0, 2))
        with pytest.raises(OutletUnavailable):
            await slow.deliver(rows(0, 3))
        await slow.close()
        await fast.close()
        assert [row["id"] for row in await self.seen(STREAM)] == [0, 1]

    async def test_a_batch_with_a_record_too_large_is_refused_as_a_whole(self):
        outlet = self.make(STREAM)
        await outlet.open()
        batch = rows(0, 3)
        batch.frame[1, "market"] = "x" * 2_000_000
        with pytest.raises(BatchRefused):
            await outlet.deliver(batch)
        await outlet.deliver(batch.part(0, 1))
        await outlet.deliver(batch.part(2, 3))
        await outlet.close()
        assert [row["id"] for row in await self.seen(STREAM)] == [0, 2]
