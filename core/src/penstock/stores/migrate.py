"""Bring a store's system tables to this version's format; refuse a newer one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import sqlalchemy as sa

from penstock.errors import PenstockError

__all__ = ["HEAD", "VERSION_TABLE", "migrate", "revision_of"]

#: The revision that this version reads and writes; a test holds it against the migrations folder.
HEAD = "0002"

VERSION_TABLE = "penstock_version"


def revision_of(connection: sa.Connection) -> str | None:
    """The database's revision; None before the first migration."""
    if not sa.inspect(connection).has_table(VERSION_TABLE):
        return None
    row = connection.exec_driver_sql(f"SELECT version_num FROM {VERSION_TABLE}").first()
    return None if row is None else str(row[0])


def migrate(connection: sa.Connection) -> tuple[str | None, str]:
    """Upgrade within the caller's transaction: (revision before, revision now). `store_too_new` for a newer one."""
    before = revision_of(connection)
    if before == HEAD:
        return before, HEAD
    # Alembic is imported only when there is something to do: it is a tenth of a start.
    from alembic.config import Config
    from alembic.runtime.environment import EnvironmentContext
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    script = ScriptDirectory.from_config(config)
    known = {revision.revision for revision in script.walk_revisions()}
    if before is not None and before not in known:
        raise PenstockError(
            "store_too_new",
            f"the store has format {before}, this version knows {HEAD}: run a newer penstock on this data folder, "
            "or delete the store and rebuild it from the log",
        )

    def upgrade(revision: Any, context: Any) -> Any:
        return script._upgrade_revs("head", revision)

    with EnvironmentContext(config, script, fn=upgrade) as environment:
        environment.configure(connection=connection, version_table=VERSION_TABLE, transactional_ddl=True)
        environment.run_migrations()
    return before, HEAD
