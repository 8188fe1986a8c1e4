"""One Keycloak for all tests of this folder, and a Penstock that takes its tokens as the documentation says."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from app.test_access_matrix import APP
from keycloak_realm import Realm, open_realm
from keycloak_server import KeycloakServer

from penstock.ports.clock import SystemClock
from penstock_app.appfiles import AppFile
from penstock_app.launch import Launch, serve
from penstock_app.settings import load_settings

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "keycloak.md"
#: The configurations of the guide, in its order.
ROLES, INSTEAD, BESIDE, ASKED = "roles", "instead", "beside", "asked"

Configured = Callable[[str], str]


@pytest.fixture(scope="session")
def keycloak(need: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[KeycloakServer]:
    """A Keycloak with the realm of the guide."""
    missing = KeycloakServer.missing()
    need("keycloak", missing is None, missing or "")
    server = KeycloakServer(tmp_path_factory.mktemp("keycloak"))
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
async def realm(keycloak: KeycloakServer) -> AsyncIterator[Realm]:
    """Its realm, to be asked from the test's event loop."""
    async with open_realm(keycloak) as opened:
        yield opened


@pytest.fixture
async def configured(keycloak: KeycloakServer, realm: Realm, tmp_path: Path) -> Configured:
    """A configuration of the guide, with this Keycloak's address and the secret of the client `penstock`."""
    secret = tmp_path / "introspection"
    secret.write_text((await realm.client("penstock"))["secret"])
    blocks = re.findall(r"```toml\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    named = dict(zip((BESIDE, INSTEAD, ROLES, ASKED), blocks, strict=True))

    def made(name: str) -> str:
        text = named[name].replace("https://keycloak.example/realms/plant", keycloak.issuer)
        return text.replace("/run/secrets/introspection", str(secret))

    return made


Running = tuple[str, aiohttp.ClientSession]


@asynccontextmanager
async def running(folder: Path, configuration: str, **changes: Any) -> AsyncIterator[Running]:
    """A whole Penstock with this configuration; its address, and a session to call it with."""
    launch = _launch(folder, configuration, changes)
    stop, at = asyncio.Event(), asyncio.get_running_loop().create_future()

    async def ready(url: str) -> None:
        at.set_result(url)

    serving = asyncio.create_task(serve(launch, on_ready=ready, stop=stop))
    try:
        async with aiohttp.ClientSession() as http:
            yield await asyncio.wait_for(at, 60), http
    finally:
        stop.set()
        await asyncio.wait_for(serving, 30)


def _launch(folder: Path, configuration: str, changes: dict[str, Any]) -> Launch:
    app, config = folder / "shop.sql", folder / "penstock.toml"
    app.write_text(APP)
    config.write_text(configuration)
    flags = {"data": folder / "data", "http": {"port": 0, "drain_s": 0.5}, **changes}
    return Launch(load_settings(config, flags), SystemClock(), [AppFile("shop", app)])


def bearer(token: str) -> dict[str, str]:
    """The header."""
    return {"Authorization": f"Bearer {token}"}
