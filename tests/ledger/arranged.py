"""Arrangements by name, with the servers that they need: what the tests and the soak run through."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from kafka_broker import KafkaBroker
from ledger.arrangements import Services
from ledger.nemesis import Arrangement
from postgres_server import PostgresServer

__all__ = ["NAMES", "arranged", "missing"]

NAMES = ("sqlite", "postgres", "kafka")


def missing(name: str) -> tuple[str, str] | None:
    """(what, remedy) of what this machine lacks for an arrangement; None if nothing."""
    if name in ("postgres", "kafka") and PostgresServer.programs() is None:
        return "postgres", "apt-get install postgresql"
    if name == "kafka" and (remedy := KafkaBroker.missing()):
        return "kafka", remedy
    return None


@contextlib.contextmanager
def arranged(name: str, folder: Path, app: Path, env: Mapping[str, str] | None = None) -> Iterator[Arrangement]:
    """An arrangement, not started, over servers that are.

    sqlite: four processes over files. postgres: log and store in one database, two ingest and two processor
    replicas, the app in two tasks a stage. kafka: the log in a broker, the store in a database, four processes.
    """
    with contextlib.ExitStack() as stack:
        if name == "sqlite":
            yield Services("sqlite", folder, app, env=env)
            return
        database = stack.enter_context(PostgresServer())
        url = database.database("ledger")
        if name == "postgres":
            replicas = {"ingest": 2, "processor": 2}
            servers = {"database": database}
            split = folder / "split" / app.name
            split.parent.mkdir(parents=True)
            split.write_text(f"SET 'parallelism.default' = '2';\n{app.read_text()}")
            yield Services("postgres", folder, split, log=url, store=url, replicas=replicas, servers=servers, env=env)
            return
        broker = _Broker(folder / "broker")
        broker.start()
        stack.callback(broker.stop)
        servers = {"database": database, "broker": broker}
        yield Services("kafka", folder, app, log=broker.url, store=url, servers=servers, env=env)


class _Broker(KafkaBroker):
    """With the process id that the nemesis wants to see change."""

    @property
    def pid(self) -> int:
        assert self.process is not None, "not started"
        return self.process.pid
