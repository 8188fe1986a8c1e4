"""A PostgreSQL database as the store's: connections with limits, one moment per reading transaction, its failures.

Penstock's own tables lie in the schema `penstock_store`, views for people and other programs in `penstock`
(`stores.views`). The connections of a store have `search_path = penstock_store`, so statements name no schema.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import psycopg
import sqlalchemy as sa
from psycopg.errors import (
    DataError,
    InsufficientPrivilege,
    LockNotAvailable,
    ProgramLimitExceeded,
    QueryCanceled,
    ReadOnlySqlTransaction,
    UndefinedColumn,
    UndefinedTable,
)
from sqlalchemy.pool import NullPool, QueuePool

from penstock.errors import PenstockError
from penstock.stores.database import ReadDeadline
from penstock.stores.settings import StoreSettings
from penstock.stores.views import VIEWS_SCHEMA

__all__ = ["AUTH_SCHEMA", "TABLES_SCHEMA", "PostgresDatabase"]

TABLES_SCHEMA = "penstock_store"
#: Clients and keys of the authorization server (`penstock_publish.oauth.shared_database`).
AUTH_SCHEMA = "penstock_auth"

_LOCK = int.from_bytes(b"penstock", "big")  # of pg_advisory_xact_lock: who migrates or prepares
_RETRY_AFTER_S = 2.0
_CANCEL_S = 5.0  # how long telling the server to stop a statement may take


class PostgresDatabase:
    """Implements `stores.database.Database` over `postgresql://user@host:port/database`.

    The URL's query takes libpq's parameters (`sslmode`, `sslrootcert`, `passfile`, ...); a password is better kept in
    a password file than in the URL. `bad_request` for a URL that cannot be read.
    """

    def __init__(self, url: str, settings: StoreSettings) -> None:
        try:
            parsed = sa.make_url(url.replace("postgres://", "postgresql://", 1))
        except (sa.exc.ArgumentError, ValueError):
            raise PenstockError(
                "bad_request", "the store's URL cannot be read; write postgresql://user@host:port/database"
            ) from None
        if not parsed.database:
            raise PenstockError(
                "bad_request", "the store's URL names no database: postgresql://user@host:port/database"
            )
        self.address = parsed.set(query={}).render_as_string(hide_password=True)
        self._url = parsed.set(drivername="postgresql+psycopg")
        self._settings = settings

    def writing_engine(self) -> sa.Engine:
        """READ COMMITTED: a compare-and-set that waited for another writer sees what that one wrote."""
        return self._engine({"default_transaction_isolation": "read committed"}, poolclass=NullPool)

    def reading_engine(self) -> sa.Engine:
        """Read-only transactions that see one moment: the position and the rows belong together."""
        return self._engine(
            {"default_transaction_isolation": "repeatable read", "default_transaction_read_only": "on"},
            poolclass=QueuePool,
            pool_size=self._settings.readers,
            max_overflow=0,
            pool_pre_ping=True,  # a server that came back is used again without one failed read per connection
        )

    def querying_engine(self) -> sa.Engine:
        """As for reading, under `query_role` where there is one; one process of the server a query."""
        role = self._settings.query_role
        session = {} if role is None else {"role": role}
        return self._engine(
            {
                "default_transaction_isolation": "repeatable read",
                "default_transaction_read_only": "on",
                "max_parallel_workers_per_gather": "0",
                "jit": "off",
                **session,
            },
            poolclass=QueuePool,
            pool_size=self._settings.query_readers,
            max_overflow=0,
            pool_pre_ping=True,
        )

    def shared_engine(self, schema: str) -> sa.Engine:
        """An engine that reads and writes tables of another schema, for a few threads."""
        return self._engine(
            {"default_transaction_isolation": "read committed", "search_path": schema},
            poolclass=QueuePool,
            pool_size=self._settings.readers,
            max_overflow=0,
            pool_pre_ping=True,
        )

    def exists(self) -> bool:
        """A server is asked each time."""
        return True

    def lock_format(self, connection: sa.Connection) -> None:
        """Wait for other processes that migrate or prepare; make the schemas that are missing."""
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
        for schema in (TABLES_SCHEMA, VIEWS_SCHEMA, AUTH_SCHEMA):
            # Not IF NOT EXISTS: that needs the right to create schemas even where there is nothing to create.
            if connection.exec_driver_sql(f"SELECT to_regnamespace('{schema}') IS NULL").scalar():
                connection.exec_driver_sql(f"CREATE SCHEMA {schema}")

    def describe(self, connection: sa.Connection) -> dict[str, str]:
        """Version, what decides about durability, encoding."""

        def show(name: str) -> str:
            return str(connection.exec_driver_sql(f"SHOW {name}").scalar())

        names = ("fsync", "synchronous_commit", "full_page_writes", "wal_sync_method", "server_encoding")
        return {
            "database": self.address,
            "engine": f"PostgreSQL {show('server_version')}",
            **{name: show(name) for name in names},
        }

    def check_durable(self, settings: Mapping[str, str]) -> None:
        """fsync and synchronous_commit on, UTF8; or `store_unavailable`."""
        if settings["fsync"] != "on" or settings["synchronous_commit"] == "off":
            raise PenstockError(
                "store_unavailable",
                f"{self.address} runs with fsync={settings['fsync']}, "
                f"synchronous_commit={settings['synchronous_commit']}: it would lose what it has confirmed; switch "
                "both on",
            )
        if settings["server_encoding"] != "UTF8":
            raise PenstockError(
                "store_unavailable",
                f"{self.address} has the encoding {settings['server_encoding']}; CREATE DATABASE ... ENCODING 'UTF8'",
            )

    @contextmanager
    def bounded(self, connection: sa.Connection, deadline: ReadDeadline) -> Iterator[None]:
        """The server's own statement timeout, and a cancel request when the caller goes away."""
        raw = connection.connection.driver_connection
        assert raw is not None  # a checked-out connection
        timeout_ms = max(1, round(deadline.left_s() * 1000))
        connection.exec_driver_sql(f"SET LOCAL statement_timeout = {timeout_ms}")
        deadline.tell(lambda: raw.cancel_safe(timeout=_CANCEL_S))
        try:
            yield
        finally:
            deadline.tell(None)

    @contextmanager
    def translated(self, doing: str) -> Iterator[None]:
        """See `Database.translated`."""
        try:
            yield
        except sa.exc.DBAPIError as error:
            raise _failure(doing, error.orig or error, self.address) from error
        except psycopg.Error as error:  # COPY goes past SQLAlchemy
            raise _failure(doing, error, self.address) from error

    def _engine(self, session: Mapping[str, str], **pool: object) -> sa.Engine:
        limits = self._settings
        session = {
            "search_path": TABLES_SCHEMA,
            "lock_timeout": f"{round(limits.lock_wait_s * 1000)}ms",
            "idle_in_transaction_session_timeout": f"{round(limits.idle_transaction_s * 1000)}ms",
            **session,
        }
        given = self._url.query.get("options", "")
        options = [given if isinstance(given, str) else " ".join(given)]
        options += [f"-c {name}={value.replace(' ', chr(92) + ' ')}" for name, value in session.items()]
        return sa.create_engine(
            self._url,
            connect_args={
                "options": " ".join(options).strip(),
                "connect_timeout": max(2, round(limits.connect_s)),
                "application_name": "penstock-store",
                # A server that has gone without a word is noticed within about ten seconds.
                "keepalives_idle": 5,
                "keepalives_interval": 2,
                "keepalives_count": 3,
                "tcp_user_timeout": 10_000,
                # No prepared statements: after a deploy the same text may mean other columns.
                "prepare_threshold": None,
            },
            **pool,
        )


def _failure(doing: str, error: BaseException, address: str) -> PenstockError:
    if isinstance(error, QueryCanceled):
        return PenstockError(
            "query_timeout",
            f"{doing} took longer than allowed: narrow the filter or the range",
            retry_after_s=_RETRY_AFTER_S,
        )
    if isinstance(error, (UndefinedTable, UndefinedColumn)):
        return PenstockError(
            "not_ready", f"{doing}: the relation is being changed, ask again", retry_after_s=_RETRY_AFTER_S
        )
    if isinstance(error, DataError):
        what = str(error).strip().splitlines()[0]
        return PenstockError("out_of_range", f"{doing}: {what}; narrow it, or CAST to DOUBLE or DECIMAL first")
    if isinstance(error, ProgramLimitExceeded):
        what = str(error).strip().splitlines()[0]
        return PenstockError("too_large", f"{doing}: {what}; make it smaller")
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    remedy = "check that the server runs and can be reached"
    if isinstance(error, (InsufficientPrivilege, ReadOnlySqlTransaction)):
        remedy = "let a role that may create schemas in this database run `penstock migrate`, see docs/store.md"
    elif isinstance(error, LockNotAvailable):
        remedy = "somebody holds a lock on the relation, see pg_stat_activity"
    elif isinstance(error, psycopg.DatabaseError) and error.sqlstate is not None:
        remedy = "see the server's log"
    return PenstockError("store_unavailable", f"{doing}: {reason}; {address}: {remedy}", retry_after_s=_RETRY_AFTER_S)
