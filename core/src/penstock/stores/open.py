"""Store URL -> adapter."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from penstock.errors import PenstockError
from penstock.ports.clock import Clock
from penstock.ports.store import Store
from penstock.stores.settings import StoreSettings

__all__ = ["STORE_FILE", "open_store"]

#: Name of the store's file in the data folder.
STORE_FILE = "store.db"


def open_store(url: str, *, clock: Clock, settings: StoreSettings | None = None, writable: bool = True) -> Store:
    """Open the store at `sqlite:///DIR` (relative) or `sqlite:////DIR` (absolute): the file is `DIR/store.db`.

    Blocks for a few milliseconds: call it before the loop runs or in a thread. `writable` False never creates or
    migrates. Errors: `bad_request` for another URL, `store_too_new`, `store_unavailable`.
    """
    parts = urlsplit(url)
    if parts.scheme != "sqlite" or parts.netloc or not parts.path.startswith("/"):
        raise PenstockError("bad_request", f"'{url}' is not a store; write sqlite:///DIRECTORY")
    # Imported here: SQLAlchemy is needed by the roles that open a store only.
    from penstock.stores.sql import SqlStore

    folder = Path(unquote(parts.path[1:]) or ".")
    return SqlStore(folder / STORE_FILE, settings=settings or StoreSettings(), clock=clock, writable=writable)
