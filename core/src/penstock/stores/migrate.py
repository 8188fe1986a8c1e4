"""Bring a store's system tables to this version's format; refuse a newer one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import sqlalchemy as sa

from penstock.errors import PenstockError
from penstock.stores.database import Database

__all__ = ["HEAD", "REVISIONS", "VERSION_TABLE", "check_format", "migrate", "migrate_database", "pending_revisions",
           "revision_of"]  # fmt: skip

#: The revisions that this version knows, oldest first; a test holds them against the migrations folder.
REVISIONS = ("0001", "0002", "0003", "0004")

#: The revision that this version reads and writes.
HEAD = REVISIONS[-1]

VERSION_TABLE = "penstock_version"


def revision_of(connection: sa.Connection) -> str | None:
    """The database's revision; None before the first migration."""
    if not sa.inspect(connection).has_table(VERSION_TABLE):
        return None
    row = connection.exec_driver_sql(f"SELECT version_num FROM {VERSION_TABLE}").first()
    return None if row is None else str(row[0])


def check_format(connection: sa.Connection) -> None:
    """For who does not migrate: `not_ready` for an older format or none, `store_too_new` for a newer one."""
    found = revision_of(connection)
    if found == HEAD:
        return
    if found is None or found in REVISIONS:
        raise PenstockError(
            "not_ready",
            f"the store has format {found or 'none'}, this version reads {HEAD}: start the role data or run "
            "`penstock migrate`",
            retry_after_s=1.0,
        )
    raise _too_new(found)


def migrate(connection: sa.Connection) -> tuple[str | None, str]:
    """Upgrade within the caller's transaction: (revision before, revision now). `store_too_new` for a newer one."""
    before = revision_of(connection)
    if before == HEAD:
        return before, HEAD
    if before is not None and before not in REVISIONS:
        raise _too_new(before)
    # Alembic is imported only when there is something to do: it is a tenth of a start.
    from alembic.config import Config
    from alembic.runtime.environment import EnvironmentContext
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    script = ScriptDirectory.from_config(config)

    def upgrade(revision: Any, context: Any) -> Any:
        return script._upgrade_revs("head", revision)

    with EnvironmentContext(config, script, fn=upgrade) as environment:
        environment.configure(connection=connection, version_table=VERSION_TABLE, transactional_ddl=True)
        environment.run_migrations()
    return before, HEAD


def migrate_database(database: Database) -> tuple[str | None, str]:
    """Connect and upgrade: (revision before, revision now). Several processes at once wait for each other. Blocking.

    Errors: `store_too_new`, `store_unavailable`.
    """
    engine = database.writing_engine()
    try:
        with database.translated(f"migrating {database.address}"), engine.begin() as connection:
            database.lock_format(connection)
            return migrate(connection)
    finally:
        engine.dispose()


def pending_revisions(database: Database) -> tuple[str, ...]:
    """The revisions that `migrate_database` would apply, oldest first; makes and changes nothing. Blocking.

    Errors: `store_too_new`, `store_unavailable`.
    """
    if not database.exists():
        return REVISIONS
    engine = database.writing_engine()  # in SQLite a reader needs files that only a writer makes
    try:
        with database.translated(f"looking at {database.address}"), engine.connect() as connection:
            found = revision_of(connection)
    finally:
        engine.dispose()
    if found is None:
        return REVISIONS
    if found not in REVISIONS:
        raise _too_new(found)
    return REVISIONS[REVISIONS.index(found) + 1 :]


def _too_new(found: str) -> PenstockError:
    return PenstockError(
        "store_too_new",
        f"the store has format {found}, this version knows {HEAD}: run a newer penstock on this store, or delete the "
        "store and rebuild it from the log",
    )
