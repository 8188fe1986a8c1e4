"""`penstock backup`: a copy of a folder in use that can be trusted."""

from __future__ import annotations

import threading
from pathlib import Path

import apsw
import pytest

from penstock.errors import PenstockError
from penstock.logs.sqlite_copy import copy_database
from penstock_app.backups import ORDER, back_up


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder with four files in WAL mode, held open with something that is only in the WAL."""
    folder = tmp_path / "data"
    folder.mkdir()
    for name in ORDER:
        connection = apsw.Connection(str(folder / name))
        connection.pragma("journal_mode", "wal")
        connection.execute("CREATE TABLE t (n INTEGER)")
        connection.execute("INSERT INTO t VALUES (7)")
        connection.close()
    (folder / "client.json").write_text("{}")
    (folder / "ingest.lock").write_text("")
    (folder / "archive" / "arrivals").mkdir(parents=True)
    (folder / "archive" / "arrivals" / "0.parquet").write_bytes(b"PAR1")
    return folder


def rows(path: Path) -> int:
    with apsw.Connection(str(path)) as connection:
        return int(connection.execute("SELECT count(*) FROM t").get)


def test_it_copies_every_file_but_locks_and_write_ahead_logs(data: Path, tmp_path: Path):
    writer = apsw.Connection(str(data / "ingest.db"))
    writer.execute("INSERT INTO t VALUES (8)")  # in the WAL only
    sizes = back_up(data, tmp_path / "copy")
    assert list(sizes) == [*ORDER, "archive/arrivals/0.parquet", "client.json"]
    found = {str(path.relative_to(tmp_path / "copy")) for path in (tmp_path / "copy").rglob("*") if path.is_file()}
    assert found == set(sizes)
    assert rows(tmp_path / "copy" / "ingest.db") == 2
    assert (tmp_path / "copy").stat().st_mode & 0o077 == 0
    writer.close()


def test_a_copy_of_a_file_that_is_being_written_holds_whole_transactions(data: Path, tmp_path: Path):
    stop = threading.Event()

    def write() -> None:
        connection = apsw.Connection(str(data / "ingest.db"))
        connection.set_busy_timeout(5000)
        while not stop.is_set():
            with connection:
                connection.executemany("INSERT INTO t VALUES (?)", [(n,) for n in range(100)])
        connection.close()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for n in range(5):
            copy_database(data / "ingest.db", tmp_path / f"{n}.db")
    finally:
        stop.set()
        writer.join()
    for n in range(5):
        assert rows(tmp_path / f"{n}.db") % 100 == 1
        with apsw.Connection(str(tmp_path / f"{n}.db")) as copied:
            assert copied.pragma("integrity_check") == "ok"


def test_a_copy_waits_for_a_writer_that_has_the_file_to_itself(data: Path, tmp_path: Path):
    writer = apsw.Connection(str(data / "ingest.db"), flags=apsw.SQLITE_OPEN_READWRITE)
    writer.pragma("journal_mode", "delete")
    writer.execute("BEGIN EXCLUSIVE; INSERT INTO t VALUES (8)")
    copying = threading.Thread(target=copy_database, args=(data / "ingest.db", tmp_path / "copy.db"))
    copying.start()
    copying.join(0.2)
    assert copying.is_alive()
    writer.execute("COMMIT")
    copying.join()
    writer.close()
    assert rows(tmp_path / "copy.db") == 2


def test_it_refuses_a_folder_that_is_there_and_a_folder_without_files(data: Path, tmp_path: Path):
    with pytest.raises(PenstockError, match="there already"):
        back_up(data, data)
    with pytest.raises(PenstockError, match="no files of Penstock"):
        back_up(tmp_path / "nothing", tmp_path / "copy")


def test_a_copy_that_fails_leaves_nothing(data: Path, tmp_path: Path):
    (data / "processor.db").write_bytes(b"this is no database, but longer than a header would be" * 100)
    with pytest.raises(PenstockError, match="could not be copied"):
        back_up(data, tmp_path / "copy")
    assert {path.name for path in tmp_path.iterdir()} == {"data"}
