"""Registered clients: what is kept of them, in both databases, and rows of earlier versions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from penstock_publish.gateway_database import GatewayDatabase, open_gateway_database
from penstock_publish.oauth.client_store import ClientStore
from penstock_publish.oauth.clients import DEVELOPMENT_SCOPE, Client, Clients, hashed_secret
from penstock_publish.oauth.shared_database import SharedDatabase

PORTAL = Client(
    "portal",
    hashed_secret("s3"),
    "data:read",
    name="The portal",
    redirect_uris=("https://portal.example/back", "https://portal.example/b?x=1"),
    grants=frozenset({"authorization_code", "refresh_token"}),
)
TERMINAL = Client("terminal", "", "data:read", redirect_uris=("http://127.0.0.1/back",), public=True)


@pytest.fixture(params=["sqlite", "postgresql"])
def database(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[GatewayDatabase]:
    url = request.getfixturevalue("postgres_url") if request.param == "postgresql" else None
    opened = open_gateway_database(tmp_path, url)
    yield opened
    opened.close()


def clients_in(database: GatewayDatabase, tmp_path: Path) -> Clients:
    return ClientStore(tmp_path, database) if database.postgres is None else SharedDatabase(database, tmp_path)


def test_a_client_is_read_as_it_was_written_changed_and_removed(database, tmp_path):
    clients = clients_in(database, tmp_path)
    for client in (PORTAL, TERMINAL):
        clients.put(client)
    assert [clients.find("portal"), clients.find("terminal"), clients.find("x")] == [PORTAL, TERMINAL, None]
    changed = Client("portal", hashed_secret("s4"), "data:query", name="Portal")
    clients.put(changed)
    assert clients_in(database, tmp_path).find("portal") == changed
    clients.remove("portal")
    clients.remove("portal")
    assert [clients.find("portal"), clients.find("terminal")] == [None, TERMINAL]


def test_a_client_of_an_earlier_version_has_client_credentials_alone(database, tmp_path):
    if database.postgres is None:
        with database.transaction("being an earlier version") as connection:
            connection.exec_driver_sql(
                "CREATE TABLE clients (client_id VARCHAR NOT NULL PRIMARY KEY, secret_sha256 VARCHAR NOT NULL, "
                "scope VARCHAR NOT NULL)"
            )
    with database.transaction("being an earlier version") as connection:
        row = sa.text("INSERT INTO clients (client_id, secret_sha256, scope) VALUES ('old', :hash, 'data:read')")
        connection.execute(row, {"hash": hashed_secret("s")})
    client = clients_in(database, tmp_path).find("old")
    assert client == Client("old", hashed_secret("s"), "data:read")
    assert client.grants == {"client_credentials"} and not client.public and client.has_secret("s")


def test_a_public_client_has_no_secret_not_even_an_empty_one():
    assert not TERMINAL.has_secret("")
    assert not Client("terminal", hashed_secret(""), "data:read", public=True).has_secret("")


def test_the_development_client_may_register_applications(database, tmp_path):
    clients = clients_in(database, tmp_path)
    clients.ensure_development_client("http://127.0.0.1:1/oauth/token")
    found = clients.find("development")
    assert found is not None and found.scope == DEVELOPMENT_SCOPE and "applications:write" in found.scope.split()
