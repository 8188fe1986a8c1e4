"""A real Apache Kafka broker for tests: one process in KRaft combined mode on free loopback ports.

Its jars come from Maven Central by `tests/kafka/pom.xml`, into a cache folder outside the repository
(`PENSTOCK_TEST_CACHE`, else `penstock-tests` below the user's cache folder). It needs Java 17 or later and, the first
time, `mvn`. As a program, `python tests/kafka_broker.py FOLDER` runs one until it is interrupted or ended.
"""

from __future__ import annotations

import base64
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

__all__ = ["BrokerSettings", "KafkaBroker", "fetch_jars", "free_ports", "kafka_broker"]

_POM = Path(__file__).with_name("kafka") / "pom.xml"
_CLUSTER_ID = "cGVuc3RvY2tfdGVzdHMwMA"  # any 16 bytes in base64url
_START_S = 60.0
_DOWNLOAD_S = 600.0
_MAIN = "kafka.Kafka"
_QUIET = """<?xml version="1.0" encoding="UTF-8"?>
<Configuration><Appenders><Console name="out"><PatternLayout pattern="%d %p %m %c%n"/></Console></Appenders>
<Loggers><Root level="WARN"><AppenderRef ref="out"/></Root></Loggers></Configuration>
"""
_PROPERTIES = {
    "process.roles": "broker,controller",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "controller.listener.names": "CONTROLLER",
    "num.partitions": "1",
    "auto.create.topics.enable": "false",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "4",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "500",
    "broker.session.timeout.ms": "1000",
    "broker.heartbeat.interval.ms": "200",
    "log.cleaner.dedupe.buffer.size": "16777216",
    "log.initial.task.delay.ms": "1000",
    "log.retention.check.interval.ms": "1000",
    "num.io.threads": "4",
    "num.network.threads": "2",
}


@dataclass(frozen=True)
class BrokerSettings:
    """What differs from a broker that is alone and open to everybody."""

    node_id: int = 1
    #: Its own (broker, controller) ports, where others must know them before it is made.
    ports: tuple[int, int] | None = None
    heap: str = "512m"
    #: In addition to `_PROPERTIES`, and instead of them.
    properties: Mapping[str, str] = field(default_factory=dict)
    #: Words of `StorageTool format` in addition.
    format_words: tuple[str, ...] = ()


class KafkaBroker:
    """One broker with its data in `folder`. `restart` keeps data and ports."""

    def __init__(self, folder: Path, settings: BrokerSettings | None = None) -> None:
        self.folder = folder
        self.settings = settings or BrokerSettings()
        self.port, self._controller_port = self.settings.ports or free_ports(2)
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def bootstrap(self) -> str:
        """`host:port`, as clients want it."""
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """The log URL; a test adds a prefix of its own: `broker.url + "/" + prefix`."""
        return f"kafka://{self.bootstrap}"

    @property
    def _output(self) -> Path:
        return self.folder / "broker.out"

    @staticmethod
    def missing() -> str | None:
        """What this machine lacks to run a broker, with the remedy; None if nothing."""
        if shutil.which("java") is None:
            return "install a Java runtime (openjdk-17-jre-headless)"
        if shutil.which("mvn") is None and not any(_jars_folder().glob("kafka_*.jar")):
            return "install maven, which fetches the broker from Maven Central"
        return None

    def start(self) -> None:
        """Start and wait until the broker answers; RuntimeError with the end of its output if it does not."""
        self.launch()
        self.wait_until(self.answers)

    def launch(self) -> None:
        """Start, without waiting."""
        properties = self.folder / "server.properties"
        if not properties.exists():
            self._configure(properties)
            self._format(properties)
        with self._output.open("ab") as sink:
            self.process = subprocess.Popen(
                self._java(_MAIN, str(properties)), stdout=sink, stderr=subprocess.STDOUT, cwd=self.folder
            )

    def wait_until(self, is_so: Callable[[], bool], timeout_s: float = _START_S) -> None:
        """Until something is so; RuntimeError with the end of its output if that takes too long or it ends."""
        deadline = time.monotonic() + timeout_s
        while not is_so():
            if self.process is None or self.process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"the broker did not start:\n{self._output.read_text(errors='replace')[-3000:]}")
            time.sleep(0.05)

    def stop(self) -> None:
        """An orderly end."""
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.kill()
        self.process = None

    def kill(self) -> None:
        """SIGKILL: a crash."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        self.process = None

    def restart(self) -> None:
        """Stop, if it runs, and start again on the same data and ports."""
        self.stop()
        self.start()

    def prepare_like(self, other: KafkaBroker) -> None:
        """Formatted as `other` is, but its own: without a Java process for it."""
        self._configure(self.folder / "server.properties")
        (self.folder / "data").mkdir()
        for name in ("meta.properties", "bootstrap.checkpoint"):
            content = (other.folder / "data" / name).read_bytes()
            if name == "meta.properties":
                kept = [
                    line for line in content.decode().splitlines() if not line.startswith(("node.id", "directory.id"))
                ]
                directory = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
                kept += [f"node.id={self.settings.node_id}", f"directory.id={directory}"]
                content = "\n".join([*kept, ""]).encode()
            (self.folder / "data" / name).write_bytes(content)

    def _configure(self, properties: Path) -> None:
        fetch_jars()
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "log4j2.xml").write_text(_QUIET)
        listeners = f"PLAINTEXT://127.0.0.1:{self.port},CONTROLLER://127.0.0.1:{self._controller_port}"
        chosen = _PROPERTIES | {
            "node.id": str(self.settings.node_id),
            "controller.quorum.voters": f"{self.settings.node_id}@127.0.0.1:{self._controller_port}",
            "listeners": listeners,
            "log.dirs": str(self.folder / "data"),
            **self.settings.properties,
        }
        properties.write_text("".join(f"{key}={value}\n" for key, value in chosen.items()))

    def _format(self, properties: Path) -> None:
        words = ["format", "-t", _CLUSTER_ID, "-c", str(properties), *self.settings.format_words]
        command = self._java("kafka.tools.StorageTool", *words)
        subprocess.run(command, check=True, capture_output=True, timeout=_START_S)

    def _java(self, *words: str) -> list[str]:
        logging = f"-Dlog4j2.configurationFile={self.folder / 'log4j2.xml'}"
        # Only the first tier of the compiler: a broker that lives for a minute is up twice as fast.
        tuning = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", f"-Xmx{self.settings.heap}"]
        return ["java", *tuning, logging, "-cp", f"{_jars_folder()}/*", *words]

    def answers(self) -> bool:
        """Whether a client without rights is told what topics there are."""
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import AdminClient

        try:
            with socket.create_connection(("127.0.0.1", self.port), 0.2):
                pass
            AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0}).list_topics(timeout=2)
        except (OSError, KafkaException):
            return False
        return True


@pytest.fixture(scope="session")
def kafka_broker(need: object, tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaBroker]:
    """One broker for the whole session; tests that stop brokers start their own."""
    missing = KafkaBroker.missing()
    need("kafka", missing is None, missing or "")  # type: ignore[operator]  # the fixture of tests/conftest.py
    broker = KafkaBroker(tmp_path_factory.mktemp("kafka"))
    broker.start()
    try:
        yield broker
    finally:
        broker.stop()


def _jars_folder() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    version = _POM.read_text().split("<artifactId>kafka_2.13</artifactId>")[1].split("<version>")[1].split("<")[0]
    return Path(os.environ.get("PENSTOCK_TEST_CACHE", cache / "penstock-tests")) / f"kafka-{version}"


def fetch_jars() -> Path:
    """The folder of the jars, fetched once: first into another, so that a half fetched cache is never used."""
    folder = _jars_folder()
    if any(folder.glob("kafka_*.jar")):
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as half:
        goal = ["dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={half}/jars"]
        subprocess.run(["mvn", "-q", "-B", "-f", str(_POM), *goal], check=True, timeout=_DOWNLOAD_S)
        try:
            (Path(half) / "jars").rename(folder)
        except OSError:  # another test run was faster
            if not any(folder.glob("kafka_*.jar")):
                raise
    return folder


def free_ports(count: int) -> tuple[int, ...]:
    """Ports of the loopback that nobody listens at."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return tuple(each.getsockname()[1] for each in sockets)
    finally:
        for each in sockets:
            each.close()


def main(folder: str) -> None:
    """Run a broker in `folder` until it is interrupted."""
    broker = KafkaBroker(Path(folder).resolve())
    broker.start()
    sys.stdout.write(f"{broker.url}\n")
    sys.stdout.flush()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        assert broker.process is not None
        broker.process.wait()
    finally:
        broker.stop()


if __name__ == "__main__":
    main(sys.argv[1])
