"""Three Kafka brokers for tests, each of them controller, too: any one may be killed, and of two the log can tell.

Topics have three replicas, and a write counts once two have it, as in a cluster that people depend on.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from kafka_broker import BrokerSettings, KafkaBroker, free_ports

__all__ = ["KafkaCluster", "kafka_cluster"]

_PROPERTIES = {
    "default.replication.factor": "3",
    "min.insync.replicas": "2",
    "offsets.topic.replication.factor": "3",
    "transaction.state.log.replication.factor": "3",
    "transaction.state.log.min.isr": "2",
    "transaction.state.log.num.partitions": "1",  # so that one broker coordinates all of them
    "share.coordinator.state.topic.replication.factor": "3",
    "share.coordinator.state.topic.min.isr": "2",
    "controller.quorum.election.timeout.ms": "1000",
    "controller.quorum.fetch.timeout.ms": "2000",
    "broker.session.timeout.ms": "3000",
    "num.io.threads": "2",
    "num.network.threads": "1",
    "background.threads": "2",
}
_START_S = 180.0
_TRANSACTIONS = "__transaction_state"


class KafkaCluster:
    """`brokers`: node id -> broker."""

    def __init__(self, folder: Path) -> None:
        ports = {node: tuple(free_ports(2)) for node in (1, 2, 3)}
        voters = ",".join(f"{node}@127.0.0.1:{controller}" for node, (_, controller) in ports.items())
        properties = _PROPERTIES | {"controller.quorum.voters": voters}
        self.brokers = {
            node: KafkaBroker(
                folder / str(node),
                BrokerSettings(node_id=node, ports=(of_node[0], of_node[1]), heap="300m", properties=properties),
            )
            for node, of_node in ports.items()
        }

    @property
    def bootstrap(self) -> str:
        """All addresses, as clients want them."""
        return ",".join(broker.bootstrap for broker in self.brokers.values())

    @property
    def url(self) -> str:
        """The log URL."""
        return f"kafka://{self.bootstrap}"

    def start(self) -> None:
        """Start those that are down, and wait until all are in."""
        started = [broker for broker in self.brokers.values() if broker.process is None]
        for broker in started:
            if not broker.folder.exists() and broker is not self.brokers[1]:
                broker.prepare_like(self.brokers[1])
            broker.launch()
        for broker in started:
            broker.wait_until(broker.answers, _START_S)

    def stop(self) -> None:
        """The end of all: their data is not needed any more."""
        for broker in self.brokers.values():
            broker.kill()

    def leader(self, topic: str, partition: int = 0) -> int:
        """The node that leads a partition; -1 if none does."""
        found = self._asked()[1].get(topic)
        return int(found.partitions[partition].leader) if found else -1

    def coordinator(self) -> int:
        """The node that coordinates all transactions; -1 if none does."""
        return self.leader(_TRANSACTIONS)

    def is_whole(self) -> bool:
        """Whether every replica of every partition is in sync."""
        nodes, topics = self._asked()
        parts = [part for topic in topics.values() for part in topic.partitions.values()]
        return len(nodes) == len(self.brokers) and all(len(part.isrs) == len(part.replicas) for part in parts)

    def _asked(self):  # type: ignore[no-untyped-def]  # the library has no types for what it tells
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import AdminClient

        try:
            found = AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0}).list_topics(timeout=2)
        except KafkaException:
            return {}, {}
        return found.brokers, found.topics


@pytest.fixture(scope="module")
def kafka_cluster(need: object, tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaCluster]:
    """One for the tests of a file."""
    missing = KafkaBroker.missing()
    need("kafka", missing is None, missing or "")  # type: ignore[operator]  # the fixture of tests/conftest.py
    cluster = KafkaCluster(tmp_path_factory.mktemp("cluster"))
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
