"""Which log: URL -> adapter. The vendor library of an adapter is imported only when its URL asks for it."""

from __future__ import annotations

from pathlib import Path

from penstock.errors import PenstockError
from penstock.logs.settings import LogSettings
from penstock.ports.clock import Clock
from penstock.ports.log import Log

__all__ = ["open_log"]

_LATER = {"kafka": "Kafka"}


async def open_log(url: str, *, roles: frozenset[str], clock: Clock, settings: LogSettings | None = None) -> Log:
    """Open the log at `memory:`, `sqlite:///folder` (four slashes for an absolute path) or `postgresql://...`.

    `roles` are those of this process; of them `ingest` and `processor` write. `bad_request` for any other URL,
    `conflict` if another instance owns a role in the same folder.
    """
    if url == "memory:":
        from penstock.logs.memory import MemoryLog

        return MemoryLog(clock=clock, settings=settings)
    scheme, separator, path = url.partition("://")
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
    if separator and scheme in _LATER:
        raise PenstockError(
            "bad_request", f"a log in {_LATER[scheme]} comes in a later version; use sqlite:///folder"
        )
    raise PenstockError(
        "bad_request",
        f"'{url}' is no log; use sqlite:///folder, postgresql://user@host/database, or memory: for tests",
    )
