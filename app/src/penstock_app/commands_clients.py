"""`penstock clients`: programs without a secret through which people log in; the gateway may run meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from penstock_app.gateway_place import Config, Data, Store, gateway_place

if TYPE_CHECKING:
    from penstock_publish.oauth.clients import Client, Clients

__all__ = ["register"]

Name = Annotated[str, typer.Argument(help="What people see when they are asked to allow it.")]
ClientId = Annotated[str, typer.Argument(metavar="CLIENT_ID", help="As `penstock clients list` shows it.")]
Scope = Annotated[str, typer.Option(help="All that it may ask for, separated by spaces.")]
RedirectUris = Annotated[
    list[str],
    typer.Option("--redirect-uri", help="Where people are sent back to; at http://127.0.0.1 any port. Repeat it."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def register(program: typer.Typer) -> None:
    """Add the commands of this file."""
    clients = typer.Typer(
        help="Programs that log people in and keep no secret: add, list, remove. (With a secret: applications.)",
        no_args_is_help=True,
    )
    for name, command in (("add", add), ("list", list_clients), ("remove", remove)):
        clients.command(name)(command)
    program.add_typer(clients, name="clients")


def add(
    name: Name, *, redirect_uri: RedirectUris, scope: Scope = "*:read", data: Data = None, store: Store = None,
    config: Config = None, json: AsJson = False,
) -> None:  # fmt: skip
    """Add a public client; prints its id."""
    from penstock_publish.oauth.public_clients import public_client

    made = public_client(name, scope=scope, redirect_uris=redirect_uri)
    with _clients(data, store, config) as clients:
        clients.put(made)
    typer.echo(msgspec.json.encode(_shown(made)).decode() if json else made.client_id)


def list_clients(*, data: Data = None, store: Store = None, config: Config = None, json: AsJson = False) -> None:
    """List every client."""
    with _clients(data, store, config) as clients:
        found = clients.all()
    if json:
        typer.echo(msgspec.json.encode([_shown(client) for client in found]).decode())
        return
    table = Table("client_id", "name", "secret", "grants", "scope", box=None)
    for client in found:
        grants = " ".join(sorted(client.grants))
        shown = (client.client_id, client.name, "no" if client.public else "yes", grants, client.scope)
        table.add_row(*map(Text, shown))  # not as markup: whoever registers an application chooses its name
    Console(highlight=False).print(table)


def remove(client_id: ClientId, *, data: Data = None, store: Store = None, config: Config = None) -> None:
    """Remove a public client: its tokens end."""
    from penstock.ports.clock import SystemClock
    from penstock_publish.oauth.public_clients import remove_public_client

    with _clients(data, store, config) as clients:
        remove_public_client(clients, client_id, now_s=SystemClock().now_ms() / 1000)


@contextmanager
def _clients(data: Path | None, store: str | None, config: Path | None) -> Iterator[Clients]:
    from penstock_publish.oauth.public_clients import open_clients

    place = gateway_place(data, store, config)
    opened, close = open_clients(place.data, place.database_url)
    try:
        yield opened
    finally:
        close()


def _shown(client: Client) -> dict[str, object]:
    return {
        "client_id": client.client_id,
        "name": client.name,
        "public": client.public,
        "grants": sorted(client.grants),
        "scope": client.scope,
        "redirect_uris": client.redirect_uris,
    }
