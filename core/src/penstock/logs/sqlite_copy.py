"""A copy of one of our SQLite files while others write to it."""

from __future__ import annotations

from pathlib import Path

import apsw

__all__ = ["copy_database"]

BUSY_TIMEOUT_MS = 5_000  # a writer that opens, recovers or checkpoints the write-ahead log holds it for moments


def copy_database(source: Path, target: Path) -> int:
    """Copy what is committed in `source` now to the new file `target`; its size in bytes. Blocking.

    A read-only connection and one read transaction: writers go on, and this connection never checkpoints (two that do
    can damage a write-ahead log). FileExistsError where `target` is; apsw.Error where `source` cannot be read, or was
    another's alone for `BUSY_TIMEOUT_MS`.
    """
    if target.exists():
        raise FileExistsError(17, "is there already", str(target))
    reading = apsw.Connection(f"file:{source}?mode=ro", flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI)
    reading.set_busy_timeout(BUSY_TIMEOUT_MS)
    writing = apsw.Connection(str(target))
    try:
        with writing.backup("main", reading, "main") as copying:
            copying.step(-1)
        writing.pragma("journal_mode", "delete")  # one file, complete by itself
    finally:
        writing.close()
        reading.close()
    target.chmod(0o600)
    return target.stat().st_size
