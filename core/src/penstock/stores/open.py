"""Store URL -> adapter."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from penstock.errors import PenstockError
from penstock.ports.clock import Clock
from penstock.ports.store import Store
from penstock.stores.settings import StoreSettings

if TYPE_CHECKING:
    from penstock.stores.database import Database

__all__ = ["STORE_FILE", "is_postgres_url", "open_database", "open_store"]

#: Name of the store's file in the data folder.
STORE_FILE = "store.db"
_POSTGRES = ("postgresql://", "postgres://")


def open_store(url: str, *, clock: Clock, settings: StoreSettings | None = None, writable: bool = True) -> Store:
    """Open the store at `sqlite:///DIR` (relative), `sqlite:////DIR` (absolute; the file is `DIR/store.db`) or
    `postgresql://user@host:port/database`.

    Blocks while it connects and, if `writable`, migrates: call it before the loop runs or in a thread. `writable`
    False never creates or migrates. Errors: `bad_request` for another URL, `store_too_new`, `store_unavailable`.
    """
    # Imported here: SQLAlchemy is needed by the roles that open a store only.
    from penstock.stores.sql import SqlStore

    limits = settings or StoreSettings()
    return SqlStore(open_database(url, limits), settings=limits, clock=clock, writable=writable)


def open_database(url: str, settings: StoreSettings) -> Database:
    """The engine's adapter for a store URL; connects to nothing yet. Errors: `bad_request`."""
    if url.startswith(_POSTGRES):
        from penstock.stores.postgres import PostgresDatabase

        return PostgresDatabase(url, settings)
    parts = urlsplit(url)
    if parts.scheme != "sqlite" or parts.netloc or not parts.path.startswith("/"):
        raise PenstockError(
            "bad_request",
            f"'{_without_password(url)}' is not a store; write sqlite:///DIRECTORY or postgresql://user@host/database",
        )
    from penstock.stores.sqlite import SqliteDatabase

    return SqliteDatabase(Path(unquote(parts.path[1:]) or ".") / STORE_FILE, settings)


def is_postgres_url(url: str) -> bool:
    """True for `postgresql://...`, and for `postgres://...`, which other programs write."""
    return url.startswith(_POSTGRES)


def _without_password(url: str) -> str:
    head, at, tail = url.rpartition("@")
    return f"{head.partition('://')[0]}://...@{tail}" if at else url
