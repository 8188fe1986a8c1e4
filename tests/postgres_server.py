"""A real PostgreSQL server of the test's own: on a free loopback port, durable, able to crash; and its fixtures.

Needs Debian's or Ubuntu's package `postgresql`. `postgres_server` is one server for the whole run, `postgres_url` a
fresh database on it; a test that crashes or restarts a server starts its own: `with PostgresServer() as server`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

__all__ = ["PostgresServer", "postgres_server", "postgres_url"]

_PROGRAMS = Path("/usr/lib/postgresql")
_SYSTEM_USER = "postgres"  # the server refuses to run as root
_START_S = 30.0
_STOP_S = 20.0
_databases = count(1)


class PostgresServer:
    """One server. Databases belong to the role `penstock`, which is no superuser, as in production.

    `fsync` and `synchronous_commit` are what a fresh installation has: on. Text sorts as in English where the server
    can (ICU), so that whoever needs byte order has to ask for it.
    """

    #: Role that owns the databases and that their URLs name.
    owner = "penstock"

    def __init__(self, folder: Path | None = None) -> None:
        self._own_folder = folder is None
        self.folder = folder or Path(tempfile.mkdtemp(prefix="penstock-pg-"))
        self.data = self.folder / "data"
        self.port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None
        programs = self.programs()
        if programs is None:
            raise RuntimeError(f"no PostgreSQL in {_PROGRAMS}")
        self._programs = programs
        self._as_user: dict[str, object] = {}
        if os.geteuid() == 0:
            shutil.chown(self.folder, _SYSTEM_USER, _SYSTEM_USER)
            self._as_user = {"user": _SYSTEM_USER, "group": _SYSTEM_USER, "extra_groups": []}

    @staticmethod
    def programs() -> Path | None:
        """Folder of the newest server's programs; None where there is none."""
        found = [path.parent for path in _PROGRAMS.glob("*/bin/initdb")]
        return max(found, key=lambda path: float(path.parent.name), default=None)

    def __enter__(self) -> PostgresServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        if self._own_folder:
            shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def pid(self) -> int:
        """Process id of the postmaster."""
        assert self._process is not None, "not started"
        return self._process.pid

    def url(self, database: str = "postgres") -> str:
        """URL of a database as its owner."""
        return f"postgresql://{self.owner}@127.0.0.1:{self.port}/{database}"

    def admin_url(self, database: str = "postgres") -> str:
        """URL of a database as the superuser."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Start, the first time with a new cluster; returns when connections are accepted."""
        if not self.data.exists():
            self._create_cluster()
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._programs / "postgres", "-D", self.data],
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C at pytest reaches the server through `stop` only
                **self._as_user,
            )
        self._wait_until_ready()
        with self._admin() as connection:
            known = connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (self.owner,)).fetchone()
            if known is None:
                connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(self.owner)))

    def stop(self) -> None:
        """An orderly, fast shutdown: sessions are ended, everything is written. Does nothing when not running."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()
        self._process = None

    def kill(self) -> None:
        """A crash: SIGKILL for the postmaster and everything that it started, as if the machine had stopped."""
        assert self._process is not None, "not started"
        self._process.send_signal(signal.SIGSTOP)  # so that it starts nobody while we count
        children = _children(self._process.pid)
        for pid in (self._process.pid, *children):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait(_STOP_S)
        deadline = time.monotonic() + _STOP_S
        while any(_alive(pid) for pid in children):
            assert time.monotonic() < deadline, "killed children of the postmaster live on"
            time.sleep(0.01)
        self._process = None

    def restart(self) -> None:
        """Stop and start on the same port with the same data."""
        self.stop()
        self.start()

    def database(self, name: str) -> str:
        """A fresh, empty database (one of that name is dropped first): its URL."""
        self.drop(name)
        with self._admin() as connection:
            connection.execute(
                sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(name), sql.Identifier(self.owner))
            )
        return self.url(name)

    def drop(self, name: str) -> None:
        """Drop a database, whoever is connected."""
        with self._admin() as connection:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def logged(self) -> str:
        """What the server has logged."""
        return (self.folder / "server.log").read_text(errors="replace")

    def _admin(self) -> psycopg.Connection[tuple[object, ...]]:
        return psycopg.connect(self.admin_url(), autocommit=True, connect_timeout=5)

    def _create_cluster(self) -> None:
        initdb = self._programs / "initdb"
        asked = [initdb, "-D", self.data, "-U", "postgres", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8"]
        if b"--icu-locale" in subprocess.run([initdb, "--help"], capture_output=True, check=True).stdout:
            asked += ["--locale-provider=icu", "--icu-locale=en-US"]
        done = subprocess.run(asked, capture_output=True, check=False, **self._as_user)
        assert done.returncode == 0, done.stderr.decode()
        with (self.data / "postgresql.conf").open("a") as file:
            file.write(
                f"\nlisten_addresses = '127.0.0.1'\nport = {self.port}\n"
                f"unix_socket_directories = '{self.folder}'\nmax_connections = 200\n"
            )

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + _START_S
        while True:
            assert self._process is not None
            assert self._process.poll() is None, f"PostgreSQL ended at start:\n{self.logged()}"
            try:
                self._admin().close()
            except psycopg.OperationalError:
                assert time.monotonic() < deadline, f"PostgreSQL does not answer:\n{self.logged()}"
                time.sleep(0.05)
            else:
                return


@pytest.fixture(scope="session")
def postgres_server(need) -> Iterator[PostgresServer]:
    """One PostgreSQL server for the whole run. Who crashes it restarts it."""
    need("postgres", PostgresServer.programs() is not None, "apt-get install postgresql")
    with PostgresServer() as server:
        yield server


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """URL of a fresh database, dropped afterwards."""
    name = f"test_{next(_databases)}"
    yield postgres_server.database(name)
    postgres_server.drop(name)


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def _children(parent: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if _stat(entry)[1] == str(parent):
                    found.append(int(entry.name))
    return found


def _alive(pid: int) -> bool:
    try:
        return _stat(Path(f"/proc/{pid}"))[0] != "Z"
    except OSError:
        return False


def _stat(process: Path) -> list[str]:
    # "pid (name) state parent ...", where the name may hold blanks and parentheses.
    return (process / "stat").read_text().rpartition(")")[2].split()
