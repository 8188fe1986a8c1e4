"""Real processes over a real broker: events of another producer and of HTTP, and ingest gateways that are killed.

What is stored is read from the stream's topic by a plain consumer, which knows nothing of the product.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from kafka_broker import KafkaBroker
from penstock_process import eventually
from penstock_services import PenstockServices, RoleProcess

PARTITIONS = 2
APP = f"""CREATE TABLE readings (id STRING, sensor STRING, celsius DOUBLE)
WITH ('connector' = 'penstock', 'key' = 'sensor', 'partitions' = '{PARTITIONS}');
CREATE TABLE warm WITH ('connector' = 'penstock') AS SELECT id, sensor, celsius FROM readings WHERE celsius > 30;
"""
PORTION = 50
PAUSE_S = 0.2  # between two portions
TAKEN_OVER_WITHIN_S = 15.0  # generous: measured below 5 s on an idle machine of two cores


class Flow:
    """Events of one producer into the inlet and of one client over HTTP, in part the same, until `end`."""

    def __init__(self, services: PenstockServices, broker: KafkaBroker, prefix: str) -> None:
        self.services, self.broker, self.prefix = services, broker, prefix
        self.refused = 0
        self.sent: set[str] = set()  # acknowledged
        self._ending = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self, *gateways: RoleProcess) -> None:
        self._threads = [
            threading.Thread(target=self._produce, daemon=True),
            threading.Thread(target=self._post, args=(gateways,), daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """Finish the requests that were begun."""
        self._ending.set()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive(), self.services.output()

    def _produce(self) -> None:
        producer = Producer({"bootstrap.servers": self.broker.bootstrap, "enable.idempotence": True, "linger.ms": 5})
        start = 0
        while not self._ending.wait(PAUSE_S):
            for n in range(start, start + PORTION):
                value = json.dumps({"id": f"e{n}", "sensor": f"s{n % 7}", "celsius": 20 + n % 20})
                producer.produce(f"{self.prefix}.readings.in", value, f"s{n % 7}")
            assert producer.flush(10) == 0
            start += PORTION
            self.sent.update(f"e{n}" for n in range(start))

    def _post(self, gateways: tuple[RoleProcess, ...]) -> None:
        """Every second id is one that the producer sends too. A request is sent again until it is answered."""
        start = attempt = 0
        while not self._ending.wait(PAUSE_S):
            ids = [f"e{n}" if n % 2 else f"h{n}" for n in range(start, start + PORTION)]
            events = [{"id": id_, "sensor": f"s{n % 7}", "celsius": 25} for n, id_ in enumerate(ids, start)]
            while True:
                with contextlib.suppress(OSError, http.client.HTTPException):
                    if gateways[attempt % len(gateways)].post_events("readings", events).status == 200:
                        break
                attempt += 1
                self.refused += 1
                time.sleep(PAUSE_S)
            attempt += 1
            start += PORTION
            self.sent.update(ids)

    def stored_once(self) -> None:
        """Each id is in the stream's topic exactly once."""
        wanted = self.sent

        def complete() -> bool:
            ids = self.stored()
            assert len(ids) == len(set(ids)), "stored twice"
            return set(ids) == wanted

        try:
            eventually(complete, timeout_s=60, every_s=0.5)
        except AssertionError as error:
            found = self.stored()
            raise AssertionError(
                f"{error}: {len(found)} stored, {len(set(found))} different, {len(wanted)} wanted\n"
                + self.services.output()
            ) from None

    def stored(self) -> list[str]:
        """Ids in the topic, as they lie there: at least those of before the call."""
        consumer = Consumer(
            {"bootstrap.servers": self.broker.bootstrap, "group.id": "judge", "enable.auto.commit": False,
             "isolation.level": "read_committed", "enable.partition.eof": True}
        )  # fmt: skip
        topic = f"{self.prefix}.readings"
        partitions = [TopicPartition(topic, partition, 0) for partition in range(PARTITIONS)]
        # Where events never cease there is never an end of the partition, but an event after the end of now.
        ends = [consumer.get_watermark_offsets(each, timeout=10)[1] for each in partitions]
        consumer.assign(partitions)
        ids, unread = [], set(range(PARTITIONS))
        while unread:
            message = consumer.poll(10)
            assert message is not None
            partition = message.partition()
            if message.error() is not None or message.offset() >= ends[partition] - 1:
                unread.discard(partition)
            if message.error() is None and (value := message.value()) is not None:
                ids.append(json.loads(value)["id"])
        consumer.close()
        return ids


@pytest.fixture
def prefix() -> str:
    return f"s{uuid4().hex[:8]}"


@pytest.fixture
def services(tmp_path: Path, kafka_broker: KafkaBroker, prefix: str, replicas: int) -> Iterator[PenstockServices]:
    app = tmp_path / "climate.sql"
    app.write_text(APP)
    with PenstockServices(
        tmp_path / "data",
        app,
        log=f"{kafka_broker.url}/{prefix}",
        replicas={"ingest": replicas},
        together=[("publish", "processor", "data")],
    ) as started:
        for number in range(replicas):
            started.of("ingest", number)._token = started.token()
        yield started


@pytest.mark.timeout(300)
@pytest.mark.parametrize("replicas", [1])
def test_ingest_killed_in_mid_flow_loses_and_doubles_nothing(
    services: PenstockServices, kafka_broker: KafkaBroker, prefix: str
) -> None:
    flow = Flow(services, kafka_broker, prefix)
    gateway = services.of("ingest")
    flow.start(gateway)
    for _ in range(2):
        before = len(flow.stored())
        eventually(lambda least=before + 200: len(flow.stored()) >= least, timeout_s=60, every_s=0.1)
        gateway.kill()
        gateway.start()
    flow.end()
    assert flow.refused > 0, "no request met a gateway that was away"
    flow.stored_once()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("replicas", [2])
def test_a_killed_admitter_is_replaced_and_its_requests_go_elsewhere(
    services: PenstockServices, kafka_broker: KafkaBroker, prefix: str
) -> None:
    flow = Flow(services, kafka_broker, prefix)
    gateways = [services.of("ingest", number) for number in range(2)]
    admitter, other = sorted(gateways, key=_admits, reverse=True)
    assert (_admits(admitter), _admits(other)) == (True, False)
    flow.start(admitter, other)
    eventually(lambda: len(flow.stored()) > 500, timeout_s=60, every_s=0.1)
    admitter.kill()
    killed_s = time.monotonic()
    eventually(lambda: _admits(other), timeout_s=TAKEN_OVER_WITHIN_S)
    print(f"taken over {time.monotonic() - killed_s:.2f} s after SIGKILL")
    admitter.start()
    before = len(flow.stored())
    eventually(lambda: len(flow.stored()) > before + 500, timeout_s=60, every_s=0.2)
    other.pause()
    eventually(lambda: _admits(admitter), timeout_s=TAKEN_OVER_WITHIN_S)
    other.resume()
    before = len(flow.stored())
    eventually(lambda: len(flow.stored()) > before + 200, timeout_s=60, every_s=0.2)
    flow.end()
    flow.stored_once()
    eventually(lambda: not _admits(other), timeout_s=TAKEN_OVER_WITHIN_S)
    rows = services.call("GET", "/v1/data/warm?select=id&limit=10000").json()["rows"]
    assert len({row["id"] for row in rows}) == len(rows)


def _admits(gateway: RoleProcess) -> bool:
    text = gateway.call("GET", "/metrics", authorize=False).body.decode()
    return "penstock_ingest_is_admitter 1.0" in text
