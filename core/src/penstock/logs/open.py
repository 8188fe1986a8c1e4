"""Which log: URL -> adapter. The vendor library of an adapter is imported only when its URL asks for it."""

from __future__ import annotations

from pathlib import Path

from penstock.errors import PenstockError
from penstock.logs.settings import LogSettings
from penstock.ports.clock import Clock
from penstock.ports.inlet import Inlet
from penstock.ports.log import Log

__all__ = ["inlet_of", "open_log"]


async def open_log(url: str, *, roles: frozenset[str], clock: Clock, settings: LogSettings | None = None) -> Log:
    """Open the log at `memory:`, `sqlite:///folder` (four slashes for an absolute path), `postgresql://...` or
    `kafka://host:port[,host:port][/prefix]`.

    `roles` are those of this process; of them `ingest` and `processor` write. `bad_request` for any other URL,
    `conflict` if another instance owns a role in the same folder.
    """
    if url == "memory:":
        from penstock.logs.memory import MemoryLog

        return MemoryLog(clock=clock, settings=settings)
    scheme, _, path = url.partition("://")
    if scheme == "sqlite" and path.startswith("/") and path != "/":
        from penstock.logs.sqlite import ROLES, SqliteLog

        return await SqliteLog.open(Path(path[1:]), roles=roles & ROLES, clock=clock, settings=settings)
    if scheme == "postgresql" and path:
        try:
            from penstock.logs.postgres import PostgresLog
        except ImportError as error:
            raise PenstockError(
                "bad_request", f"a log in PostgreSQL needs the extra 'postgres' ({error}); use sqlite:///folder"
            ) from error
        return await PostgresLog.open(url, roles=roles, clock=clock, settings=settings)
    if scheme == "kafka":
        try:
            from penstock.logs.kafka import KafkaLog
        except ImportError as error:
            raise PenstockError(
                "bad_request", f"a log in Kafka needs the extra 'kafka' ({error}); use sqlite:///folder"
            ) from error
        return await KafkaLog.open(url, clock=clock, settings=settings)
    raise PenstockError(
        "bad_request",
        f"'{url}' is no log; use sqlite:///folder, postgresql://user@host/database, kafka://host:port, or memory:",
    )


def inlet_of(log: Log) -> Inlet | None:
    """Where other producers leave events for this log, if it has such a place: only Kafka has."""
    inlet: Inlet | None = getattr(log, "inlet", None)
    return inlet
