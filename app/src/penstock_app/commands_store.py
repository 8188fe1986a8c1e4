"""Commands for whoever runs the store: `migrate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

__all__ = ["register"]


def register(program: typer.Typer) -> None:
    """Add the commands of this file."""
    program.command()(migrate)


def migrate(
    *,
    store: Annotated[
        str | None, typer.Option(help="URL of the store [default: of the settings, else the data folder's].")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Data folder [default: penstock-data].")] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Only say what would run; exit 1 if there is something.")
    ] = False,
    config: Annotated[Path | None, typer.Option(help="Settings file (TOML); keys in docs/settings.md.")] = None,
) -> None:
    """Bring the store's tables to this version's format. Nothing happens where they have it."""
    from penstock.stores.migrate import HEAD, migrate_database, pending_revisions
    from penstock.stores.open import open_database
    from penstock_app.settings import load_settings

    settings = load_settings(config, {"data": data, "store_url": store})
    database = open_database(settings.store_address, settings.store)
    screen = Console(highlight=False)
    pending = pending_revisions(database)
    if not pending:
        screen.print(f"{database.address} has format {HEAD}; nothing to do", soft_wrap=True, markup=False)
        return
    screen.print(f"{database.address}: {', '.join(pending)} to run", soft_wrap=True, markup=False)
    if check:
        raise typer.Exit(1)
    before, now = migrate_database(database)
    screen.print(f"format {before or 'none'} -> {now}", markup=False)
