"""`penstock keys`: the signing keys of the embedded authorization server; it may run meanwhile."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from rich.console import Console

from penstock_app.gateway_place import Config, Data, Store, gateway_place

if TYPE_CHECKING:
    from penstock_publish.oauth.key_keeper import KeyKeeper
    from penstock_publish.oauth.key_schedule import SigningKey

__all__ = ["register"]

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Compromised = Annotated[
    bool, typer.Option("--compromised", help="The new key signs at once, and no token of before is taken any more.")
]


def register(program: typer.Typer) -> None:
    """Add the commands of this file."""
    keys = typer.Typer(help="Signing keys of tokens: list, rotate.", no_args_is_help=True)
    keys.command("list")(list_keys)
    keys.command("rotate")(rotate)
    program.add_typer(keys, name="keys")


def list_keys(*, data: Data = None, store: Store = None, config: Config = None, json: AsJson = False) -> None:
    """List the published keys, the one that signs last at the end."""
    with _keeper(data, store, config) as keeper:
        _print(sorted(keeper.keys.known, key=lambda key: key.signs_from_s), as_json=json)


def rotate(
    *, compromised: Compromised = False, data: Data = None, store: Store = None, config: Config = None,
    json: AsJson = False,
) -> None:  # fmt: skip
    """Make a new key: published now, it signs after auth.key_publish_s; old tokens hold until they expire."""
    with _keeper(data, store, config) as keeper:
        _print(keeper.rotate(compromised=compromised), as_json=json)


@contextmanager
def _keeper(data: Path | None, store: str | None, config: Path | None) -> Iterator[KeyKeeper]:
    from penstock.observe.logs import set_up_logs
    from penstock.ports.clock import SystemClock
    from penstock_publish.oauth.key_keeper import open_key_keeper

    set_up_logs(level="warning")
    place = gateway_place(data, store, config)
    keeper, close = open_key_keeper(place.data, place.settings.auth, place.database_url, SystemClock())
    try:
        yield keeper
    finally:
        close()


def _print(keys: Sequence[SigningKey], *, as_json: bool) -> None:
    shown = [
        {"kid": key.kid, "signs_from": datetime.fromtimestamp(key.signs_from_s, UTC).isoformat(timespec="seconds")}
        for key in keys
    ]
    if as_json:
        typer.echo(msgspec.json.encode(shown).decode())
        return
    out = Console(highlight=False, soft_wrap=True)
    for key in shown:
        out.print(f"{key['kid']}  signs from {key['signs_from']}", markup=False)
