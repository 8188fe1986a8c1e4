"""The `penstock` command line; errors become exit codes: 0 done, 1 failed, 2 wrong usage."""

from __future__ import annotations

import sys

import typer
from rich.console import Console
from rich.markup import escape

from penstock.errors import PenstockError, SqlErrors

__all__ = ["program", "run_program"]

program = typer.Typer(
    name="penstock",
    help="Real-time, event-driven information systems: ingest, streaming SQL, publishing, queries.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


def run_program() -> None:
    """Parse the arguments, run the command, translate errors."""
    from penstock_app import (
        commands_client,
        commands_sql,
        commands_up,
    )  # registers the commands; imported when needed

    for module in (commands_up, commands_sql, commands_client):
        module.register(program)
    try:
        program()
    except PenstockError as error:
        _say(error)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()  # `penstock tail | head`: the reader has left, nothing to say
        sys.exit(0)


def _say(error: PenstockError) -> None:
    console = Console(stderr=True, highlight=False)
    findings = error.errors if isinstance(error, SqlErrors) else ()
    for finding in findings:
        console.print(
            f"[bold red]{finding.line}:{finding.column}[/] {escape(finding.message)} [dim]({finding.code})[/]"
        )
        console.print(f"    {escape(finding.remedy)}")
    if not findings:
        console.print(f"[bold red]{error.code}[/]: {escape(error.detail)}", soft_wrap=True)
