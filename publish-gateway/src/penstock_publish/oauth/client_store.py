"""Clients and revoked tokens in `publish.db` of the data folder. Blocking; used by one worker thread only.

Several replicas share a database instead: `oauth.shared_database`.
"""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

from penstock_publish.gateway_database import GatewayDatabase
from penstock_publish.oauth.client_rows import (
    CLIENTS,
    DETAILS,
    find_client,
    list_clients,
    put_client,
    remove_client,
)
from penstock_publish.oauth.clients import Client, development_client, new_secret, secret_in_file, write_client_file
from penstock_publish.oauth.revocation_rows import (
    REVOKED,
    AccessToken,
    RevocationLimits,
    check_room,
    forget_expired,
    remember_revoked,
)

__all__ = ["ClientStore"]


class ClientStore:
    """Implements `Clients` over `<data>/publish.db`."""

    def __init__(self, data_dir: Path, database: GatewayDatabase) -> None:
        self._data_dir = data_dir
        self._database = database
        self._seen: object = None  # changes when another process has written into the file
        database.create(REVOKED, CLIENTS, DETAILS)

    def find(self, client_id: str) -> Client | None:
        """A client by its id."""
        with self._database.transaction("looking up a client") as connection:
            return find_client(connection, client_id)

    def all(self) -> list[Client]:
        """Every client by its id."""
        with self._database.transaction("listing clients") as connection:
            return list_clients(connection)

    def put(self, client: Client) -> None:
        """Register or change a client."""
        with self._database.transaction("registering a client") as connection:
            put_client(connection, client)

    def remove(self, client_id: str) -> None:
        """Forget a client."""
        with self._database.transaction("removing a client") as connection:
            remove_client(connection, client_id)

    def revoke(self, token: AccessToken, limits: RevocationLimits | None = None) -> None:
        """Remember a token as revoked until it would have expired."""
        with self._database.transaction("revoking a token") as connection:
            if limits is not None:
                check_room(connection, token.holder, limits)
            remember_revoked(connection, [token])

    def forget_revoked(self, before_s: float) -> None:
        """Forget tokens that expired before."""
        with self._database.transaction("forgetting revoked tokens") as connection:
            forget_expired(connection, before_s)

    def revoked(self, now_s: float) -> dict[str, float]:
        """Revoked token ids with their expiry in epoch seconds; what has expired is forgotten."""
        with self._database.transaction("reading revoked tokens") as connection:
            forget_expired(connection, now_s)
            return {row.token_id: row.expires_at_s for row in connection.execute(sa.select(REVOKED))}

    def revoked_since(self) -> dict[str, float]:
        """All of them where a command has written into the file, which else has one process; nothing otherwise."""
        with self._database.transaction("following revoked tokens") as connection:
            version = connection.exec_driver_sql("PRAGMA data_version").scalar()
            if version == self._seen:
                return {}
            self._seen = version
            return {row.token_id: row.expires_at_s for row in connection.execute(sa.select(REVOKED))}

    def ensure_development_client(self, token_url: str) -> Path:
        """Make `<data>/client.json` and the client in it agree, keeping the secret over restarts.

        The secret in the file counts: a deleted file means a new secret. Returns the file's path.
        """
        secret = secret_in_file(self._data_dir) or new_secret()
        self.put(development_client(secret))
        return write_client_file(self._data_dir, secret=secret, token_url=token_url)
