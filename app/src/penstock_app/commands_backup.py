"""The command `backup`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

__all__ = ["register"]

DEFAULT_DATA = Path("penstock-data")


def register(program: typer.Typer) -> None:
    """Add the command of this file."""
    program.command()(backup)


def backup(
    folder: Annotated[Path, typer.Argument(help="New folder for the copy.")],
    *,
    data: Annotated[Path, typer.Option(envvar="PENSTOCK_DATA", help="Data folder to copy.")] = DEFAULT_DATA,
) -> None:
    """Copy the data folder while everything runs. To restore: stop, and start with the copy as data folder."""
    from penstock_app.backups import back_up

    sizes = back_up(data, folder)
    screen = Console(highlight=False)
    for name, size_bytes in sizes.items():
        screen.print(f"{size_bytes:>14,}  {name}", markup=False)
    screen.print(f"{folder} is complete", soft_wrap=True, markup=False)
