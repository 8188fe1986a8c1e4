"""Where the publish gateway keeps what commands change beside it: the data folder, or a database of replicas."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from penstock_app.settings import PenstockSettings

__all__ = ["Config", "Data", "GatewayPlace", "Store", "gateway_place"]

Data = Annotated[Path | None, typer.Option(help="Data folder [default: penstock-data].")]
Store = Annotated[
    str | None, typer.Option(help="URL of the store [default: of the settings, else the data folder's].")
]
Config = Annotated[Path | None, typer.Option(help="Settings file (TOML); keys in docs/settings.md.")]


@dataclass(frozen=True, slots=True)
class GatewayPlace:
    """`database_url` None: it is all in files of the data folder, which is there."""

    settings: PenstockSettings
    data: Path
    database_url: str | None


def gateway_place(data: Path | None, store: str | None, config: Path | None) -> GatewayPlace:
    """What the options of a command, settings and environment say together."""
    from penstock.stores.open import is_postgres_url
    from penstock_app.folders import make_data_folder
    from penstock_app.settings import load_settings

    settings = load_settings(config, {"data": data, "store_url": store})
    make_data_folder(settings, ["publish"])
    address = settings.store_address
    return GatewayPlace(settings, settings.data, address if is_postgres_url(address) else None)
