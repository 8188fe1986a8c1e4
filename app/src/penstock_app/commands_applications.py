"""`penstock applications`: applications of a running Penstock, listed, added, removed; their usage by day."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import msgspec
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

__all__ = ["register"]

Data = Annotated[
    Path, typer.Option(envvar="PENSTOCK_DATA", help="Data folder of the running system (for its client.json).")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Id = Annotated[str, typer.Argument(metavar="ID", help="Its id, which is its client_id.")]

DEFAULT_DATA = Path("penstock-data")
_PATH = "/v1/applications"
_COUNTED = ("messages", "bytes", "connections", "queries", "refused")


def register(program: typer.Typer) -> None:
    """Add the commands of this file."""
    applications = typer.Typer(help="Applications of a running Penstock: list, add, remove, usage.")
    applications.callback(invoke_without_command=True)(listed_by_default)
    for name, command in (("list", list_applications), ("add", add), ("remove", remove), ("usage", usage)):
        applications.command(name)(command)
    program.add_typer(applications, name="applications")


def listed_by_default(context: typer.Context, *, data: Data = DEFAULT_DATA, json: AsJson = False) -> None:
    """Applications of a running Penstock: without a command they are listed."""
    if context.invoked_subcommand is None:
        list_applications(data=data, json=json)


def list_applications(*, data: Data = DEFAULT_DATA, json: AsJson = False) -> None:
    """List applications with their plan, scopes and owner."""
    found: list[Any] = []
    params: dict[str, str] | None = None
    while True:
        page = _call(data, "GET", "", params=params)
        found += page["applications"]
        if page["next"] is None:
            break
        params = {"cursor": page["next"]}
    if json:
        _print_json({"applications": found})
    elif found:
        rows = [[one[key] for key in ("id", "name", "plan", "scope", "owner")] for one in found]
        _print_table(("id", "name", "plan", "scope", "owner"), rows)
    else:
        Console(stderr=True).print("There are no applications; `penstock applications add` makes one.")


def add(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What people call it.")],
    *,
    scope: Annotated[str, typer.Option(help="What it may do: scopes separated by spaces.")],
    plan: Annotated[str | None, typer.Option(help="Its plan [default: that of publish.plans.application].")] = None,
    description: Annotated[str, typer.Option(help="What it is for.")] = "",
    redirect_uri: Annotated[
        list[str] | None, typer.Option(help="Where people who log in are sent back to; may be repeated.")
    ] = None,
    data: Data = DEFAULT_DATA,
    json: AsJson = False,
) -> None:
    """Register an application; its secret is printed this once."""
    body: dict[str, object] = {"name": name, "scope": scope, "description": description}
    if plan is not None:
        body["plan"] = plan
    if redirect_uri:
        body["redirect_uris"] = redirect_uri
    answer = _call(data, "POST", "", body=body)
    if json:
        _print_json(answer)
        return
    _print(f"client_id {answer['client_id']}\nclient_secret {answer['client_secret']}")
    Console(stderr=True).print("Keep the secret: it cannot be shown again.")


def remove(application: Id, *, data: Data = DEFAULT_DATA) -> None:
    """Delete an application: its tokens and connections end."""
    _call(data, "DELETE", f"/{quote(application, safe='')}")
    _print(f"{application}: removed")


def usage(
    application: Id,
    *,
    days: Annotated[int, typer.Option(min=1, help="How many days, today included.")] = 7,
    data: Data = DEFAULT_DATA,
    json: AsJson = False,
) -> None:
    """What an application used, by UTC day."""
    answer = _call(data, "GET", f"/{quote(application, safe='')}/usage", params={"days": str(days)})
    if json:
        _print_json(answer)
        return
    rows = [[one["day"], *(f"{one[what]:,}" for what in _COUNTED)] for one in answer["days"]]
    _print_table(("day", *_COUNTED), rows)


def _call(data: Path, method: str, path: str, *, body: object = None, params: dict[str, str] | None = None) -> Any:
    from penstock_app.api import Api, read_credentials

    async def run() -> Any:
        async with Api.open(read_credentials(data)) as api:
            sent = None if body is None else msgspec.json.encode(body)
            return await api.call(method, _PATH + path, body=sent, params=params)

    return asyncio.run(run())


def _print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        if column == "id":
            table.add_column(column, no_wrap=True, overflow="ignore")  # it is copied from here
        else:
            table.add_column(column, justify="right" if column in _COUNTED else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    Console(highlight=False).print(table)


def _print_json(value: object) -> None:
    _print(msgspec.json.encode(value).decode())


def _print(text: str) -> None:
    sys.stdout.write(text + "\n")
