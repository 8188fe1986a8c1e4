"""The data folder: made for roles that keep something in it, held by one process per role that writes there."""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import unquote

from penstock_app.settings import PenstockSettings

__all__ = ["lock_folders", "make_data_folder"]

_SQLITE = "sqlite:///"


def make_data_folder(settings: PenstockSettings, names: Collection[str]) -> None:
    """Make the folder where a role needs it: publish (keys), processor (deployed files), files of log and store.

    Blocking. Events and keys are nobody else's business; a folder that is there keeps the mode it was given.
    """
    addresses = (settings.log_address, settings.store_address)
    if {"publish", "processor"} & set(names) or any(address.startswith(_SQLITE) for address in addresses):
        settings.data.mkdir(mode=0o700, parents=True, exist_ok=True)


def lock_folders(settings: PenstockSettings, names: Collection[str]) -> Callable[[], None]:
    """Hold what the log does not: `store.db` (role data) and `publish.db` have one writing process. Blocking.

    Returns what releases them; `conflict` names the process that holds one.
    """
    # Imported here: it brings SQLite, which a process over servers does without.
    from penstock.logs.sqlite_schema import RoleLock

    held = ExitStack()
    with held:
        if not settings.store_address.startswith(_SQLITE):
            return held.pop_all().close
        store = Path(unquote(settings.store_address.removeprefix(_SQLITE)) or ".")
        for role, folder in (("data", store), ("publish", settings.data)):
            if role in names:
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                held.callback(RoleLock(folder, role).release)
        return held.pop_all().close
