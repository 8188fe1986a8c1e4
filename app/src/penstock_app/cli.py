"""The `penstock` command line; errors become exit codes: 0 done, 1 failed, 2 wrong usage."""

from __future__ import annotations

import os
import sys
from typing import Any

import typer
from rich.console import Console
from rich.markup import escape
from typer.core import TyperGroup

from penstock.errors import PenstockError, SqlErrors

__all__ = ["program", "run_program"]


class _Commands(TyperGroup):
    """Commands whose reader may leave: `penstock tail | head` ends quietly."""

    def invoke(self, ctx: Any) -> Any:
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:
            # What is still buffered has nowhere to go; the flush at exit must not complain either.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(0) from None
        return result


program = typer.Typer(
    name="penstock",
    cls=_Commands,
    help="Real-time, event-driven information systems: ingest, streaming SQL, publishing, queries.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


def run_program() -> None:
    """Parse the arguments, run the command, translate errors."""
    from penstock_app import (
        commands_accounts,
        commands_applications,
        commands_backup,
        commands_cases,
        commands_client,
        commands_clients,
        commands_keys,
        commands_query,
        commands_rules,
        commands_sample,
        commands_sql,
        commands_store,
        commands_up,
        commands_upkeep,
    )  # registers the commands; imported when needed

    for module in (
        commands_up,
        commands_sql,
        commands_cases,
        commands_store,
        commands_upkeep,
        commands_client,
        commands_query,
        commands_rules,
        commands_applications,
        commands_sample,
        commands_backup,
        commands_accounts,
        commands_clients,
        commands_keys,
    ):
        module.register(program)
    try:
        program()
    except PenstockError as error:
        _say(error)
        sys.exit(1)
    except OSError as error:  # a file or folder of the command line that cannot be used
        _say(PenstockError("bad_request", f"{error.filename or 'file'}: {error.strerror or error}"))
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


def _say(error: PenstockError) -> None:
    console = Console(stderr=True, highlight=False)
    findings = error.errors if isinstance(error, SqlErrors) else ()
    file = f"{error.extra['file']}:" if "file" in error.extra else ""
    for finding in findings:
        place = f"{escape(file)}{finding.line}:{finding.column}"
        console.print(f"[bold red]{place}[/]: {escape(finding.message)} [dim]({finding.code})[/]", soft_wrap=True)
        console.print(f"    {escape(finding.remedy)}", soft_wrap=True)
    if not findings:
        console.print(f"[bold red]{error.code}[/]: {escape(error.detail)}", soft_wrap=True)
