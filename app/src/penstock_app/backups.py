"""A copy of a data folder that is in use, in the order in which it can be trusted.

Who reads is copied before what it reads: the store, then the processor's file, then that of ingest. So no position in
the copy lies beyond the end of what it counts in, and after a restore everything catches up from the log.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

import apsw

from penstock.errors import PenstockError
from penstock.logs.sqlite_copy import copy_database

__all__ = ["back_up"]

#: Readers before what they read.
ORDER = ("store.db", "processor.db", "ingest.db", "publish.db")
_LEFT_OUT = ("-wal", "-shm", "-journal", ".lock")


def back_up(data: Path, target: Path) -> dict[str, int]:
    """Copy the data folder into the new folder `target`: sizes in bytes by file name. Blocking.

    `not_found` without a data folder, `conflict` where `target` is something, `internal` for a file that cannot be
    read. A copy that failed is taken away.
    """
    if not any((data / name).exists() for name in ORDER):
        raise PenstockError("not_found", f"no files of Penstock in {data}; name its data folder with --data")
    if target.exists():
        raise PenstockError("conflict", f"{target} is there already; name a new folder")
    draft = target.with_name(target.name + ".part")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(mode=0o700, parents=True)
    try:
        sizes = {name: copy_database(data / name, draft / name) for name in ORDER if (data / name).exists()}
        for path in sorted(data.rglob("*")):
            name = str(path.relative_to(data))
            if path.is_file() and name not in ORDER and not name.endswith(_LEFT_OUT):
                (draft / name).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                with contextlib.suppress(FileNotFoundError):  # it was a draft and has its name by now
                    shutil.copy2(path, draft / name)
                    sizes[name] = (draft / name).stat().st_size
        _sync(draft)
        draft.rename(target)
    except apsw.Error as error:
        shutil.rmtree(draft, ignore_errors=True)
        raise PenstockError("internal", f"{data} could not be copied: {error}") from error
    except OSError:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    return sizes


def _sync(folder: Path) -> None:
    """The copy is worth its name once it is on disk."""
    for path in [*folder.rglob("*"), folder]:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
