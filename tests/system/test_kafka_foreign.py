"""A topic that others fill, on the broker of the log: served to subscribers and read by an app, where it lies."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from kafka_broker import KafkaBroker
from penstock_process import eventually
from penstock_services import PenstockServices

PARTITIONS = 2
ORDERS = 200
APP = """CREATE TABLE orders (id BIGINT, customer STRING, total DOUBLE)
WITH ('connector' = 'kafka', 'topic' = '{topic}', 'properties.bootstrap.servers' = '{servers}', 'format' = 'json',
      'scan.startup.mode' = 'earliest-offset', 'publish' = 'true', 'partitions' = '2', 'key' = 'customer');
CREATE TABLE large_orders WITH ('connector' = 'penstock') AS
SELECT id, customer, total FROM orders WHERE total >= 100;
"""


class Shop:
    """Somebody else's topic."""

    def __init__(self, broker: KafkaBroker) -> None:
        self.topic, self.broker, self.sent = f"shop-{uuid4().hex[:8]}", broker, 0
        admin = AdminClient({"bootstrap.servers": broker.bootstrap})
        for future in admin.create_topics([NewTopic(self.topic, PARTITIONS, 1)]).values():
            future.result(10)

    def send(self, count: int, *more: bytes | None) -> None:
        """Orders with ids that go on from the last, and what is no order."""
        producer = Producer({"bootstrap.servers": self.broker.bootstrap})
        for n in range(self.sent, self.sent + count):
            order = {"id": n, "customer": f"c{n % 5}", "total": float(n), "note": "not a column"}
            producer.produce(self.topic, json.dumps(order), f"c{n % 5}", headers={"penstock": "their own header"})
        for value in more:
            producer.produce(self.topic, value, "c0")
        assert producer.flush(10) == 0
        self.sent += count


@pytest.fixture
def shop(kafka_broker: KafkaBroker) -> Shop:
    shop = Shop(kafka_broker)
    shop.send(ORDERS, b"no json", None, b'{"id": "text"}')
    return shop


@pytest.fixture
def services(tmp_path: Path, kafka_broker: KafkaBroker, shop: Shop) -> Iterator[PenstockServices]:
    app = tmp_path / "orders.sql"
    app.write_text(APP.format(topic=shop.topic, servers=kafka_broker.bootstrap))
    with PenstockServices(
        tmp_path / "data",
        app,
        log=f"{kafka_broker.url}/f{uuid4().hex[:8]}",
        together=[("publish", "ingest", "processor", "data")],
    ) as started:
        yield started


def test_a_topic_of_others_is_served_with_cursors_and_read_by_an_app(services: PenstockServices, shop: Shop) -> None:
    events, cursor = services.history("orders")
    served = [event["d"] for event in events if isinstance(event["d"].get("id"), int)]
    assert sorted(row["id"] for row in served) == list(range(ORDERS))
    assert served[0]["note"] == "not a column", "as it lies in the topic"
    eventually(lambda: len(services.rows("large_orders")) == ORDERS - 100, timeout_s=30)
    rejected = eventually(lambda: services.get("/v1/rejected")["events"] or None, timeout_s=30)
    assert {one["stream"] for one in rejected} == {"orders"}
    shop.send(50)
    eventually(lambda: len(services.rows("large_orders")) == ORDERS - 50, timeout_s=30)
    after, _ = services.history("orders", cursor)
    assert sorted(event["d"]["id"] for event in after) == list(range(ORDERS, ORDERS + 50))
    assert sorted(_streamed(services, cursor, 50)) == list(range(ORDERS, ORDERS + 50))
    refused = services.post_events("orders", [{"id": 1}])
    assert (refused.status, refused.json()["code"]) == (404, "unknown_stream")
    services.of("publish").kill()
    services.of("publish").start()
    shop.send(50)
    eventually(lambda: len(services.rows("large_orders")) == ORDERS, timeout_s=30)
    assert sorted(row["id"] for row in services.rows("large_orders")) == list(range(100, ORDERS + 100))
    _serve_a_table_that_no_statement_reads(services, Shop(shop.broker))


def _serve_a_table_that_no_statement_reads(services: PenstockServices, shop: Shop) -> None:
    """In an app of its own, with nothing but the table."""
    table, _, _ = APP.format(topic=shop.topic, servers=shop.broker.bootstrap).partition("CREATE TABLE large_orders")
    text = table.replace("TABLE orders", "TABLE parcels")
    reply = services.call("PUT", "/v1/apps/bare", text.encode(), headers={"Content-Type": "application/sql"})
    assert reply.status == 201, reply.body
    shop.send(20)
    events, cursor = eventually(lambda: _whole(services.history("parcels"), 20), timeout_s=30)
    assert sorted(event["d"]["id"] for event in events) == list(range(20))
    shop.send(5)
    events, _ = eventually(lambda: _whole(services.history("parcels", cursor), 5), timeout_s=30)
    assert sorted(event["d"]["id"] for event in events) == list(range(20, 25))


def _whole(page: tuple[list[Any], str], count: int) -> tuple[list[Any], str] | None:
    """The page, once it has so many events."""
    return page if len(page[0]) >= count else None


def _streamed(services: PenstockServices, cursor: str, count: int) -> list[int]:
    """Ids from `cursor` on as server-sent events."""
    connection = http.client.HTTPConnection("127.0.0.1", services.port, timeout=30)
    headers = {"Authorization": f"Bearer {services.token()}", "Accept": "text/event-stream", "Last-Event-ID": cursor}
    connection.request("GET", "/v1/topics/orders", headers=headers)
    reply = connection.getresponse()
    assert reply.status == 200
    ids: list[int] = []
    while len(ids) < count:
        line = reply.readline().decode()
        assert line, "the stream ended"
        if line.startswith("data:"):
            found = json.loads(line.removeprefix("data:"))
            if "d" in found:
                ids.append(found["d"]["id"])
    connection.close()
    return ids


def test_what_others_have_not_made_is_refused_when_it_is_declared(services: PenstockServices, shop: Shop) -> None:
    text = APP.format(topic="nowhere", servers=shop.broker.bootstrap).replace("orders", "parcels")
    reply = services.call("PUT", "/v1/apps/second", text.encode(), headers={"Content-Type": "application/sql"})
    assert reply.status == 400, reply.body
    assert "no topic 'nowhere'" in reply.json()["detail"]
    text = APP.format(topic=shop.topic, servers=shop.broker.bootstrap).replace("orders", "parcels")
    reply = services.call("PUT", "/v1/apps/second", text.encode(), headers={"Content-Type": "application/sql"})
    assert (reply.status, reply.json()["code"]) == (409, "conflict"), "one table names a topic"
    other = Shop(shop.broker)
    text = APP.format(topic=other.topic, servers=shop.broker.bootstrap).replace("orders", "parcels")
    text = text.replace("'partitions' = '2'", "'partitions' = '3'")
    reply = services.call("PUT", "/v1/apps/second", text.encode(), headers={"Content-Type": "application/sql"})
    assert "has 2 partitions" in reply.json()["detail"]
    text = APP.format(topic=shop.topic, servers="elsewhere:9092").replace("orders", "parcels")
    reply = services.call("PUT", "/v1/apps/second", text.encode(), headers={"Content-Type": "application/sql"})
    (error,) = reply.json()["errors"]
    assert (error["line"], error["code"]) == (2, "unsupported")
    assert shop.broker.bootstrap in error["remedy"]
