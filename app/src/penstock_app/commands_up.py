"""`penstock up`, `penstock run` and `penstock init`."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Annotated, Any

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
RolePort = Annotated[
    int | None,
    typer.Option(
        min=0,
        max=65535,
        help="Port of the listener; 0 picks a free one [default: 8080 to 8083 by role].",
    ),
]
Roles = Annotated[
    list[str], typer.Option(metavar="ROLE", help="ingest, processor, publish or data; may be repeated.")
]
Host = Annotated[str | None, typer.Option(help="Address to bind; others than loopback need TLS or --insecure-http.")]
Watch = Annotated[bool, typer.Option("--watch", help="Deploy again whenever an app file changes.")]
Sample = Annotated[bool, typer.Option("--sample", help="Feed the samples beside the apps on a moved clock.")]
Log = Annotated[str | None, typer.Option(help="URL of the log: sqlite:///dir, postgresql://... or kafka://...")]
Store = Annotated[str | None, typer.Option(help="URL of the store: sqlite:///dir or postgresql://...")]
PublicUrl = Annotated[str | None, typer.Option(help="URL that clients use, behind a proxy.")]
TlsCert = Annotated[Path | None, typer.Option(help="PEM certificate chain.")]
TlsKey = Annotated[Path | None, typer.Option(help="PEM private key.")]
InsecureHttp = Annotated[bool | None, typer.Option("--insecure-http", help="Plain HTTP beyond loopback.")]
Workers = Annotated[
    int | None, typer.Option(min=1, max=64, help="Processes of the role publish on the port; needs PostgreSQL.")
]
Worker = Annotated[int | None, typer.Option(hidden=True, help="Number of this process among the workers.")]
Config = Annotated[Path | None, typer.Option(help="Settings file (TOML); keys in docs/settings.md.")]


def register(program: typer.Typer) -> None:
    """Add the commands of this file."""
    program.command()(up)
    program.command()(run)
    program.command()(init)


def up(
    apps: Apps = None,
    *,
    data: Data = None,
    port: Port = None,
    host: Host = None,
    log: Log = None,
    store: Store = None,
    public_url: PublicUrl = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    insecure_http: InsecureHttp = None,
    watch: Watch = False,
    sample: Sample = False,
    config: Config = None,
) -> None:
    """Run everything in one process: ingest, processor, publish, data. Ctrl-C stops it."""
    from penstock_app.roles import ROLES

    http = {"port": port, "host": host, "tls_cert": tls_cert, "tls_key": tls_key, "insecure_http": insecure_http}
    flags = {"data": data, "log_url": log, "store_url": store, "public_url": public_url, "http": http}
    _serve(_Asked(ROLES, apps or (), flags=flags, config=config, watch=watch, sample=sample))


def run(
    apps: Apps = None,
    *,
    role: Roles,
    data: Data = None,
    port: RolePort = None,
    host: Host = None,
    log: Log = None,
    store: Store = None,
    public_url: PublicUrl = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    insecure_http: InsecureHttp = None,
    watch: Watch = False,
    sample: Sample = False,
    config: Config = None,
    workers: Workers = None,
    worker: Worker = None,
) -> None:
    """Run some of the roles; the others run in processes of their own. SIGTERM or Ctrl-C drains and stops.

    Where the others are: settings `services.*`. Apps are deployed by the role processor.
    """
    from penstock_app.roles import ROLES

    for name in role:
        if name not in ROLES:
            raise typer.BadParameter(f"'{name}' is no role; there are {', '.join(ROLES)}", param_hint="--role")
    if apps and "processor" not in role:
        raise typer.BadParameter("apps are deployed by the role processor; start it with them", param_hint="APPS")
    http = {"port": port, "host": host, "tls_cert": tls_cert, "tls_key": tls_key, "insecure_http": insecure_http}
    flags = {"data": data, "log_url": log, "store_url": store, "public_url": public_url, "http": http}
    flags["publish"] = {"workers": workers}
    names = [name for name in ROLES if name in role]
    asked = _Asked(names, apps or (), flags=flags, config=config, watch=watch, sample=sample, worker=worker)
    _serve(asked)


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


@dataclass(frozen=True, slots=True)
class _Asked:
    """What was asked for on the command line; `flags` as settings have them, None where nothing was said."""

    roles: Sequence[str]
    apps: Sequence[Path]
    _: KW_ONLY
    flags: dict[str, Any]
    config: Path | None
    watch: bool
    sample: bool
    worker: int | None = None  # the number of this process among the workers


def _serve(asked: _Asked) -> None:
    import uvloop

    from penstock.observe.logs import set_up_logs
    from penstock.ports.clock import SystemClock
    from penstock_app.appfiles import find_app
    from penstock_app.launch import Launch, serve
    from penstock_app.settings import load_settings, with_default_port
    from penstock_app.workers import check_workers, supervise

    roles = asked.roles
    settings = with_default_port(load_settings(asked.config, asked.flags), roles)
    set_up_logs(level=settings.log_level)
    files = [find_app(path) for path in asked.apps]
    if len({file.name for file in files}) < len(files):
        raise PenstockError("name_taken", "two of the app files have the same name; an app is named after its file")
    beside = list(dict.fromkeys(file.path.resolve().parent for file in files))
    known = settings.processor.functions_folders
    processor = settings.processor.model_copy(update={"functions_folders": (*known, *beside)})
    settings = settings.model_copy(update={"processor": processor})
    folders = [file.path.parent for file in files] if asked.sample else []
    launch = Launch(settings, SystemClock(), files, asked.watch, folders, roles, asked.worker)

    async def banner(url: str) -> None:
        _print_banner(url, roles, [file.name for file in files], settings.data)

    if settings.publish.workers > 1:
        check_workers(settings, roles)
        if asked.worker is None:
            asyncio.run(supervise(settings, sys.argv[1:], on_ready=banner))
            return
    # The event loop shares the interpreter with threads that write, read and compute. At the default of 5 ms a busy
    # loop keeps a thread waiting for that long each time it comes back; see docs/decisions.
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(launch, on_ready=banner))


def _print_banner(url: str, roles: Sequence[str], apps: Sequence[str], data: Path) -> None:
    console = Console(highlight=False, soft_wrap=True)
    what = ", ".join(apps) or "what is deployed"
    if "processor" not in roles:
        what = f"the {'role' if len(roles) == 1 else 'roles'} {', '.join(roles)}"
    elif len(roles) < 4:
        what = f"the {'role' if len(roles) == 1 else 'roles'} {', '.join(roles)} with {what}"
    console.print(f"[bold]Penstock[/] runs {what}; data in {data}")
    if "publish" in roles:
        console.print(f"  page      {url}/")
        console.print(f"  API       {url}/docs")
        console.print("  terminal  penstock token | tail TOPIC | send STREAM FILE | rejected")
    console.print(f"Ready: {url}")
