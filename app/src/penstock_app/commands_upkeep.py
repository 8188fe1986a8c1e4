"""Commands that look after what is stored: `verify` and `rebuild`."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console

__all__ = ["register"]

Data = Annotated[Path | None, typer.Option(help="Data folder [default: penstock-data].")]
Log = Annotated[str | None, typer.Option(help="URL of the log [default: of the settings, else the data folder's].")]
Store = Annotated[str | None, typer.Option(help="URL of the store [default: as for the log].")]
Config = Annotated[Path | None, typer.Option(help="Settings file (TOML); keys in docs/settings.md.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def register(program: typer.Typer) -> None:
    """Add the commands of this file."""
    program.command()(verify)
    program.command()(rebuild)


def verify(
    *, data: Data = None, log: Log = None, store: Store = None, config: Config = None, json: AsJson = False
) -> None:
    """Compare log, archive and stored tables; exit 1 if they do not agree. Reads only: the system may run."""
    from penstock.observe.logs import set_up_logs
    from penstock_app.settings import load_settings
    from penstock_app.upkeep import verify_all

    settings = load_settings(config, {"data": data, "log_url": log, "store_url": store})
    set_up_logs(level="warning")
    screen = Console(stderr=True, highlight=False)
    with screen.status("looking") as status:
        report = asyncio.run(verify_all(settings, on_step=lambda step: status.update(f"looking at the {step}")))
    if json:
        typer.echo(msgspec.json.encode(asdict(report)).decode())
    else:
        out = Console(highlight=False, soft_wrap=True)
        for finding in report.findings:
            out.print(f"[bold red]{finding.code}[/] {finding.place}: ", end="")
            out.print(f"{finding.detail}; {finding.remedy}", markup=False)
        for line in report.not_compared:
            out.print(f"not compared: {line}", markup=False)
        counts = ", ".join(f"{number:,} {what}" for what, number in report.counts.items())
        verdict = f"{len(report.findings)} findings" if report.findings else "log, archive and store agree"
        out.print(f"{verdict} ({counts or 'nothing there yet'})", markup=False)
    if report.findings:
        raise typer.Exit(1)


def rebuild(
    relations: Annotated[
        list[str] | None, typer.Argument(help="Stored streams and tables; none: all of them.")
    ] = None,
    *,
    partial: Annotated[
        bool, typer.Option("--partial", help="Also where the log no longer has everything: older rows are lost.")
    ] = False,
    archive: Annotated[
        bool, typer.Option("--archive", help="Make the archive fit a log that was restored. The system is stopped.")
    ] = False,
    data: Data = None,
    log: Log = None,
    store: Store = None,
    config: Config = None,
) -> None:
    """Make stored tables again from the log, beside the old ones, and switch. The system may run, or be stopped."""
    from penstock.observe.logs import set_up_logs
    from penstock_app.settings import load_settings
    from penstock_app.upkeep import fit_archive, rebuild_relations

    settings = load_settings(config, {"data": data, "log_url": log, "store_url": store})
    set_up_logs(level="warning")
    screen = Console(highlight=False, soft_wrap=True)

    def say(line: str) -> None:
        screen.print(line, markup=False)

    if archive:
        asyncio.run(fit_archive(settings, say=say))
    else:
        asyncio.run(rebuild_relations(settings, relations or [], partial=partial, say=say))
