"""`penstock accounts`: people who log in at the embedded authorization server; it may run meanwhile."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from penstock_app.gateway_place import Config, Data, Store, gateway_place

if TYPE_CHECKING:
    from penstock_publish.oauth.accounts import AccountStore

__all__ = ["register"]

Name = Annotated[str, typer.Argument(help="The account's name: an e-mail address, or what people are called.")]
Scope = Annotated[str, typer.Option(help="All that the person may do, separated by spaces.")]
NewScope = Annotated[str, typer.Argument(help="All that the person may do, separated by spaces.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def register(program: typer.Typer) -> None:
    """Add the commands of this file."""
    accounts = typer.Typer(
        help="People who log in: add, list, remove, password, scope. A password is asked for, or read from input.",
        no_args_is_help=True,
    )
    for name, command in (
        ("add", add), ("list", list_accounts), ("remove", remove), ("password", password), ("scope", scope_of),
    ):  # fmt: skip
        accounts.command(name)(command)
    program.add_typer(accounts, name="accounts")


def add(
    name: Name, *, scope: Scope = "*:read data:read data:query", data: Data = None, store: Store = None,
    config: Config = None,
) -> None:  # fmt: skip
    """Add an account."""
    with _accounts(data, store, config) as accounts:
        added = accounts.add(name, _asked_password(), scope, now_s=_now_s())
    Console(highlight=False).print(f"{added.name} may use {added.scope}", markup=False, soft_wrap=True)


def list_accounts(*, data: Data = None, store: Store = None, config: Config = None, json: AsJson = False) -> None:
    """List the accounts."""
    with _accounts(data, store, config) as accounts:
        found = accounts.all()
    rows = [(one.name, one.scope, datetime.fromtimestamp(one.made_at_s, UTC).strftime("%Y-%m-%d")) for one in found]
    if json:
        shown = [dict(zip(("name", "scope", "made"), row, strict=True)) for row in rows]
        typer.echo(msgspec.json.encode(shown).decode())
        return
    if not rows:
        Console(highlight=False).print("no accounts; `penstock accounts add NAME` adds one", markup=False)
        return
    table = Table("name", "scope", "made", box=None)
    for row in rows:
        table.add_row(*map(Text, row))
    Console(highlight=False).print(table)


def remove(name: Name, *, data: Data = None, store: Store = None, config: Config = None) -> None:
    """Remove an account: its sessions, what it has granted to applications, and its own applications end."""
    from penstock_publish.applications.departure import remove_account

    with _accounts(data, store, config) as accounts:
        ended = remove_account(accounts, name, now_s=_now_s())
    if ended:
        typer.echo(f"ended with it: {len(ended)} applications ({', '.join(ended)})")


def password(name: Name, *, data: Data = None, store: Store = None, config: Config = None) -> None:
    """Change a password: the account's sessions, and what it has granted to applications, end."""
    with _accounts(data, store, config) as accounts:
        accounts.set_password(name, _asked_password())


def scope_of(name: Name, scope: NewScope, *, data: Data = None, store: Store = None, config: Config = None) -> None:
    """Change what a person may do: the account's sessions, and what it has granted to applications, end."""
    from penstock_publish.applications.departure import applications_beyond

    with _accounts(data, store, config) as accounts:
        beyond = applications_beyond(accounts, accounts.set_scope(name, scope))
    if beyond:
        typer.echo(
            f"These applications of the person keep scopes beyond that: {', '.join(beyond)}; "
            "`penstock applications remove` ends one.",
            err=True,
        )


@contextmanager
def _accounts(data: Path | None, store: str | None, config: Path | None) -> Iterator[AccountStore]:
    from penstock_publish.oauth.accounts import open_accounts

    place = gateway_place(data, store, config)
    opened, close = open_accounts(place.data, place.settings.auth.login, place.database_url)
    try:
        yield opened
    finally:
        close()


def _asked_password() -> str:
    """Never an argument: those are seen by others of the machine, and kept in histories."""
    if sys.stdin.isatty():
        return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True))
    return sys.stdin.readline().rstrip("\r\n")


def _now_s() -> float:
    from penstock.ports.clock import SystemClock

    return SystemClock().now_ms() / 1000
