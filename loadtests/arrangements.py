"""The arrangements under load: one process, or four over SQLite, PostgreSQL or Kafka; with every process by name.

Servers and processes are those of the tests: a real PostgreSQL, a real broker, the programs that a stranger starts.
"""

from __future__ import annotations

import contextlib
import json
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))  # servers and processes of the tests

from kafka_broker import KafkaBroker
from penstock_process import PenstockProcess
from penstock_services import PenstockServices, RoleProcess
from postgres_server import PostgresServer

from loadtests.sampled import SAMPLER

__all__ = ["NAMES", "Arrangement", "PenstockServices", "PostgresServer", "arranged", "missing"]

NAMES = ("up", "sqlite", "postgres", "kafka")
_SHOWN = ("fsync", "synchronous_commit", "full_page_writes", "wal_sync_method", "shared_buffers", "max_wal_size")
_BROKER = (
    "log.flush.interval.messages", "log.flush.interval.ms", "min.insync.replicas", "default.replication.factor",
    "num.io.threads", "num.network.threads", "compression.type", "log.segment.bytes",
)  # fmt: skip
_EVERYTHING = "up"


class Arrangement:
    """Started processes of Penstock and the servers below them. Calls go to the public door."""

    def __init__(
        self,
        name: str,
        system: PenstockProcess,
        *,
        database: PostgresServer | None = None,
        broker: KafkaBroker | None = None,
        samples: Path | None = None,
    ) -> None:
        self.name, self.system, self.database, self.broker = name, system, database, broker
        self._samples = samples
        self._roles: dict[str, PenstockProcess] = {_EVERYTHING: system}
        if isinstance(system, PenstockServices):
            self._roles = {"+".join(process.roles): process for process in system.processes}

    @property
    def port(self) -> int:
        """Of the door."""
        return self.system.port

    @property
    def token(self) -> str:
        """Of the development client."""
        return self.system.token()

    def role(self, name: str) -> RoleProcess:
        """The process of a role, in arrangements that have one."""
        process = self._roles[name]
        assert isinstance(process, RoleProcess)
        return process

    def pids(self) -> dict[str, int]:
        """Process ids by name: roles that run, `database` (its postmaster) and `broker`."""
        found = {name: one.pid for name, one in self._roles.items() if _runs(one)}
        if self.database is not None:
            found["database"] = self.database.pid
        if self.broker is not None:
            assert self.broker.process is not None
            found["broker"] = self.broker.process.pid
        return found

    def get(self, path: str) -> Any:
        """JSON of a GET at the door."""
        return self.system.get(path)

    def metrics(self) -> dict[str, dict[str, float]]:
        """Per process that runs: each sample of `/metrics` by its name with labels."""
        return {name: _scrape(one.url) for name, one in self._roles.items() if _runs(one)}

    def metrics_of(self, name: str) -> dict[str, float]:
        """Each sample of `/metrics` of one process by its name with labels."""
        return _scrape(self._roles[name].url)

    def samples(self) -> dict[str, dict[str, float]]:
        """Per process: CPU seconds so far by part, as its sampler has them; empty without samplers."""
        if self._samples is None:
            return {}
        return {
            name: json.loads(file.read_text())
            for name, one in self._roles.items()
            if _runs(one) and (file := self._samples / f"{one.pid}.json").exists()
        }

    def settings(self) -> dict[str, Any]:
        """Settings of the servers as they say them themselves."""
        found: dict[str, Any] = {}
        if self.database is not None:
            with psycopg.connect(self.database.admin_url()) as connection:
                shown = connection.execute(
                    "SELECT name, current_setting(name) FROM pg_settings WHERE name = ANY(%s)", [list(_SHOWN)]
                ).fetchall()
                found["postgres"] = dict(sorted(shown)) | {"version": connection.info.server_version}
        if self.broker is not None:
            found["kafka"] = _broker_settings(self.broker)
        if self.database is None:
            found["sqlite"] = self._sqlite_settings()
        return found

    def _sqlite_settings(self) -> dict[str, str]:
        found = {}
        for process in self._roles.values():
            for line in process.stderr:
                with contextlib.suppress(json.JSONDecodeError):
                    said = json.loads(line)
                    files = said.get("files", {}) if said.get("event") == "log opened" else {}
                    if said.get("event") == "data starts":
                        files = {"store.db": said}
                    for file, how in files.items():
                        if "journal_mode" in how:
                            found[file] = f"{how['journal_mode']}, synchronous {how['synchronous']}"
        return found


class _Broker(KafkaBroker):
    """With the whole compiler: the tests' brokers have its first tier only, to be up sooner."""

    def _java(self, *words: str) -> list[str]:
        return [word for word in super()._java(*words) if not word.startswith("-XX:TieredStopAtLevel")]


def missing(name: str) -> str | None:
    """What this machine lacks for an arrangement, with the remedy; None if nothing."""
    if name in ("postgres", "kafka") and PostgresServer.programs() is None:
        return "PostgreSQL: apt-get install postgresql"
    if name == "kafka" and (remedy := KafkaBroker.missing()):
        return f"Kafka: {remedy}"
    return None


@contextlib.contextmanager
def arranged(name: str, folder: Path, sql: str, *, sampling: bool = False) -> Iterator[Arrangement]:
    """An arrangement with one app called `bench` on fresh data, over servers that run; stopped at the end.

    up: one process over SQLite. sqlite, postgres: four processes over files, or over one database for log and store.
    kafka: four processes, the log in a broker, the store in a database. `sampling`: with a sampler in each process.
    """
    folder.mkdir(parents=True, exist_ok=True)
    app = folder / "bench.sql"
    app.write_text(sql)
    data = folder / "data"
    with contextlib.ExitStack() as stack:
        database = broker = log = store = None
        if name in ("postgres", "kafka"):
            database = stack.enter_context(PostgresServer())
            log = store = database.database("bench")
        if name == "kafka":
            broker = _Broker(folder / "broker")
            broker.start()
            stack.callback(broker.stop)
            log = broker.url
        system: PenstockProcess = (
            PenstockProcess(data, app) if name == "up" else PenstockServices(data, app, log=log, store=store)
        )
        samples = folder / "samples" if sampling else None
        for process in system.processes if isinstance(system, PenstockServices) else [system]:
            if samples is not None:
                samples.mkdir(exist_ok=True)
                process.prefix = [sys.executable, str(SAMPLER), str(samples)]
        stack.callback(system.stop)
        system.start()
        yield Arrangement(name, system, database=database, broker=broker, samples=samples)


def _runs(process: PenstockProcess) -> bool:
    return process.process is not None and process.process.poll() is None


def _scrape(url: str) -> dict[str, float]:
    with urllib.request.urlopen(f"{url}/metrics", timeout=30) as reply:
        text = reply.read().decode()
    found = {}
    for line in text.splitlines():
        if line.startswith("penstock_"):
            name, _, value = line.rpartition(" ")
            found[name] = float(value)
    return found


def _broker_settings(broker: KafkaBroker) -> dict[str, str]:
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    (future,) = admin.describe_configs([ConfigResource(ResourceType.BROKER, "1")]).values()
    configs = future.result(20)
    found = {name: str(configs[name].value) for name in _BROKER if name in configs}
    assert broker.process is not None
    words = Path(f"/proc/{broker.process.pid}/cmdline").read_text().split("\0")
    return found | {"java": " ".join(word for word in words if word.startswith("-X"))}
