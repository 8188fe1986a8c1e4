"""The command `sample`: what `penstock up --sample` feeds, into a system that runs elsewhere."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["register"]

DEFAULT_DATA = Path("penstock-data")


def register(program: typer.Typer) -> None:
    """Add the command of this file."""
    program.command()(sample)


def sample(
    apps: Annotated[list[Path], typer.Argument(help="Folders of the examples whose data is fed.")],
    *,
    data: Annotated[
        Path, typer.Option(envvar="PENSTOCK_DATA", help="Data folder of the role publish (for its client.json).")
    ] = DEFAULT_DATA,
    url: Annotated[
        str | None, typer.Option(help="Where the public door is from here; default: as client.json says.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="TOML file; see docs/settings.md.")] = None,
) -> None:
    """Feed the examples' data into a running system until stopped."""
    from penstock.observe.logs import set_up_logs
    from penstock.ports.clock import SystemClock
    from penstock_app.api import Api, read_credentials
    from penstock_app.appfiles import find_app
    from penstock_app.samples import feed_samples
    from penstock_app.settings import load_settings

    settings = load_settings(config, {})
    set_up_logs(level=settings.log_level)
    folders = [find_app(path).path.parent for path in apps]
    credentials = read_credentials(data)
    if url is not None:
        credentials = replace(credentials, token_url=f"{url.rstrip('/')}/oauth/token")

    async def run() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        async with Api.open(credentials) as api:
            feeding = asyncio.create_task(feed_samples(api, folders, settings.sample, clock=SystemClock()))
            stopped = asyncio.create_task(stop.wait())
            await asyncio.wait({feeding, stopped}, return_when=asyncio.FIRST_COMPLETED)
            stopped.cancel()
            feeding.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await feeding  # raises what ended it, if it ended by itself

    asyncio.run(run())
