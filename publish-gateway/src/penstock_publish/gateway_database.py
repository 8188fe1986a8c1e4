"""What the publish gateway keeps beside the log: one SQL database and worker thread; features have tables in it.

`publish.db` in the data folder, or the store's PostgreSQL database (schema `penstock_auth`), which replicas share.
SQLite: one connection and a rollback journal, since its writes are rare. A feature makes its tables with `create` and
reads and writes them with `run`; it decides nothing here.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, TypeVar

import sqlalchemy as sa
from sqlalchemy.pool import StaticPool

from penstock.errors import PenstockError
from penstock.stores.settings import StoreSettings

if TYPE_CHECKING:
    from penstock.stores.postgres import PostgresDatabase

__all__ = ["DATABASE_FILE", "GatewayDatabase", "open_gateway_database"]

DATABASE_FILE = "publish.db"
_READERS = 2  # connections to PostgreSQL: the worker thread, and one beside it
_LOCK = int.from_bytes(b"gateway_", "big") >> 1

_T = TypeVar("_T")


class GatewayDatabase:
    """The database behind features of the gateway. `postgres` None: the file, whose engine has one connection."""

    def __init__(self, engine: sa.Engine, *, postgres: PostgresDatabase | None) -> None:
        self.engine = engine
        self.postgres = postgres
        self._one_at_a_time = RLock()  # the file's connection is shared by threads
        self._closed = False
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="penstock-gateway-database")

    @contextmanager
    def transaction(self, doing: str) -> Iterator[sa.Connection]:
        """A transaction, for threads that may block. `store_unavailable` says what could not be done."""
        if self.postgres is not None:
            with self.postgres.translated(doing), self.engine.begin() as connection:
                yield connection
            return
        with self._one_at_a_time:
            if self._closed:
                raise PenstockError("store_unavailable", f"{doing}: this process is stopping")
            try:
                with self.engine.begin() as connection:
                    yield connection
            except sa.exc.DatabaseError as error:
                if type(error) not in (sa.exc.OperationalError, sa.exc.DatabaseError):
                    raise  # what was asked for is wrong, not the database; a damaged file is the base class itself
                detail = (
                    f"{doing}: {error.orig}; is there room on the disk of the data folder, and may we write there?"
                )
                raise PenstockError("store_unavailable", detail) from error

    def create(self, *tables: sa.Table) -> None:
        """Make what is missing of the tables; replicas that do so at once wait for each other. Blocking.

        A column that a later version has must be nullable or have a server default: older replicas write rows, too.
        """
        with self.transaction("making tables of the gateway") as connection:
            if self.postgres is not None:
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
            for table in tables:
                table.create(connection, checkfirst=True)
                _add_missing_columns(connection, table)

    async def run(self, doing: str, work: Callable[[sa.Connection], _T]) -> _T:
        """`work(connection)` inside a transaction, in the worker thread; errors as of `transaction`."""
        return await asyncio.get_running_loop().run_in_executor(self._worker, partial(self._run, doing, work))

    def close(self) -> None:
        """Finish what is under way and release file or connections. Blocking."""
        self._worker.shutdown()
        # A thread whose task was cancelled may still be at it: closing the connection under it ends the process.
        with self._one_at_a_time:
            self._closed = True
            self.engine.dispose()

    def _run(self, doing: str, work: Callable[[sa.Connection], _T]) -> _T:
        with self.transaction(doing) as connection:
            return work(connection)


def open_gateway_database(data_dir: Path, database_url: str | None = None) -> GatewayDatabase:
    """The database of that URL (PostgreSQL), migrated; without one the file (mode 600). Blocking.

    Errors: `store_unavailable`, `store_too_new`.
    """
    if database_url is not None:
        # Imported here: the driver is an extra, and not needed for a single process.
        from penstock.stores.migrate import migrate_database
        from penstock.stores.postgres import AUTH_SCHEMA, PostgresDatabase

        postgres = PostgresDatabase(database_url, StoreSettings(readers=_READERS))
        migrate_database(postgres)
        return GatewayDatabase(postgres.shared_engine(AUTH_SCHEMA), postgres=postgres)
    path = data_dir / DATABASE_FILE
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    engine = sa.create_engine(f"sqlite:///{path}", poolclass=StaticPool, connect_args={"check_same_thread": False})
    return GatewayDatabase(engine, postgres=None)


def _add_missing_columns(connection: sa.Connection, table: sa.Table) -> None:
    """For tables that an earlier version has made."""
    there = {column["name"] for column in sa.inspect(connection).get_columns(table.name)}
    missing = [column for column in table.columns if column.name not in there]
    for column in missing:
        definition = sa.schema.CreateColumn(column).compile(dialect=connection.dialect)
        connection.exec_driver_sql(f"ALTER TABLE {table.name} ADD COLUMN {definition}")
    for index in table.indexes if missing else ():
        index.create(connection, checkfirst=True)
