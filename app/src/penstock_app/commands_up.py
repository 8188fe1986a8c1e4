"""`penstock up` and `penstock init`."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from penstock.errors import PenstockError

__all__ = ["register"]

SWITCH_INTERVAL_S = 0.0005

Apps = Annotated[
    list[Path] | None, typer.Argument(help="SQL files, or folders with app.sql; none: what is deployed.")
]
Data = Annotated[
    Path | None, typer.Option(help="Folder of everything that must survive a restart [default: penstock-data].")
]
Port = Annotated[
    int | None, typer.Option(min=0, max=65535, help="Port of the listener; 0 picks a free one [default: 8080].")
]
Host = Annotated[str | None, typer.Option(help="Address to bind; others than loopback need TLS or --insecure-http.")]
Watch = Annotated[bool, typer.Option("--watch", help="Deploy again whenever an app file changes.")]
Sample = Annotated[bool, typer.Option("--sample", help="Feed the samples beside the apps on a moved clock.")]
Config = Annotated[Path | None, typer.Option(help="Settings file (TOML); keys in docs/settings.md.")]


def register(program: typer.Typer) -> None:
    """Add the commands of this file."""
    program.command()(up)
    program.command()(init)


def up(
    apps: Apps = None,
    *,
    data: Data = None,
    port: Port = None,
    host: Host = None,
    log: Annotated[str | None, typer.Option(help="URL of the log (sqlite:///dir).")] = None,
    store: Annotated[str | None, typer.Option(help="URL of the store (sqlite:///file).")] = None,
    public_url: Annotated[str | None, typer.Option(help="URL that clients use, behind a proxy.")] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="PEM certificate chain.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="PEM private key.")] = None,
    insecure_http: Annotated[bool | None, typer.Option("--insecure-http", help="Plain HTTP beyond loopback.")] = None,
    watch: Watch = False,
    sample: Sample = False,
    config: Config = None,
) -> None:
    """Run everything in one process: ingest, processor, publish, data. Ctrl-C stops it."""
    import uvloop

    from penstock.observe.logs import set_up_logs
    from penstock.ports.clock import SystemClock
    from penstock_app.appfiles import find_app
    from penstock_app.launch import Launch, serve
    from penstock_app.settings import load_settings

    settings = load_settings(
        config,
        {
            "data": data,
            "log_url": log,
            "store_url": store,
            "public_url": public_url,
            "http": {
                "port": port,
                "host": host,
                "tls_cert": tls_cert,
                "tls_key": tls_key,
                "insecure_http": insecure_http,
            },
        },
    )
    set_up_logs(level=settings.log_level)
    files = [find_app(path) for path in apps or ()]
    if len({file.name for file in files}) < len(files):
        raise PenstockError("name_taken", "two of the app files have the same name; an app is named after its file")
    folders = [file.path.parent for file in files] if sample else []
    launch = Launch(settings, SystemClock(), files, watch, folders)

    async def banner(url: str) -> None:
        _print_banner(url, [file.name for file in files], settings.data)

    # The event loop shares the interpreter with threads that write, read and compute. At the default of 5 ms a busy
    # loop keeps a thread waiting for that long each time it comes back; see docs/decisions.
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(launch, on_ready=banner))


def init(folder: Annotated[Path, typer.Argument(help="Folder to create.")]) -> None:
    """Write a commented starter app with a few events to try."""
    from penstock_app.starter import STARTER_FILES

    if folder.exists() and any(folder.iterdir()):
        raise PenstockError("conflict", f"{folder} is not empty; name a new folder")
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in STARTER_FILES.items():
        (folder / name).write_text(text)
    console = Console(highlight=False)
    console.print(f"Wrote {', '.join(STARTER_FILES)} to {folder}. Now:")
    console.print(f"  penstock up {folder} --watch", soft_wrap=True)


def _print_banner(url: str, apps: list[str], data: Path) -> None:
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"[bold]Penstock[/] runs {', '.join(apps) or 'what is deployed'}; data in {data}")
    console.print(f"  page      {url}/")
    console.print(f"  API       {url}/docs")
    console.print("  terminal  penstock token | tail TOPIC | send STREAM FILE | rejected")
    console.print(f"Ready: {url}")
