"""Clients and revoked tokens: `publish.db` in the data folder. Blocking; used by one worker thread only.

Several replicas share a database instead: `oauth.shared_database`.

Secrets are made here, from 256 random bits, so a plain SHA-256 keeps them: there is nothing to guess that a slow hash
would protect. The file has one connection and a rollback journal; its writes are rare.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import sqlalchemy as sa

from penstock.errors import PenstockError
from penstock_publish.gateway_database import GatewayDatabase
from penstock_publish.oauth.keys import write_private

__all__ = ["CLIENT_FILE", "DEVELOPMENT_CLIENT", "DEVELOPMENT_SCOPE", "Client", "ClientStore", "Clients",
           "hashed_secret", "new_secret", "secret_in_file", "write_client_file"]  # fmt: skip

CLIENT_FILE = "client.json"
DEVELOPMENT_SCOPE = "*:read data:read data:query ingest:write apps:admin"
DEVELOPMENT_CLIENT = "development"

_metadata = sa.MetaData()
_clients = sa.Table(
    "clients",
    _metadata,
    sa.Column("client_id", sa.String, primary_key=True),
    sa.Column("secret_sha256", sa.String, nullable=False),
    sa.Column("scope", sa.String, nullable=False),
)
_revoked = sa.Table(
    "revoked_tokens",
    _metadata,
    sa.Column("token_id", sa.String, primary_key=True),
    sa.Column("expires_at_s", sa.Float, nullable=False),
)


@dataclass(frozen=True, slots=True)
class Client:
    """A registered client; `scope` is all that it may ask for, separated by spaces."""

    client_id: str
    secret_sha256: str
    scope: str

    def has_secret(self, secret: str) -> bool:
        """Compare in constant time."""
        return hmac.compare_digest(self.secret_sha256, hashed_secret(secret))


class Clients(Protocol):
    """Where clients and revoked tokens are kept."""

    def find(self, client_id: str) -> Client | None:
        """A client by its id."""
        ...

    def revoke(self, token_id: str, *, expires_at_s: float) -> None:
        """Remember a token as revoked until it would have expired."""
        ...

    def revoked(self, now_s: float) -> dict[str, float]:
        """Revoked token ids with their expiry in epoch seconds; what has expired is forgotten."""
        ...

    def revoked_since(self) -> dict[str, float] | None:
        """What others may have revoked since the last look; None where nobody else can. Called by its own thread."""
        ...

    def ensure_development_client(self, token_url: str) -> Path:
        """Make `<data>/client.json` and the client in it agree; returns the file's path."""
        ...


class ClientStore:
    """Implements `Clients` over `<data>/publish.db`."""

    def __init__(self, data_dir: Path, database: GatewayDatabase) -> None:
        self._data_dir = data_dir
        self._database = database
        database.create(*_metadata.sorted_tables)

    def find(self, client_id: str) -> Client | None:
        """A client by its id."""
        with self._database.transaction("looking up a client") as connection:
            row = connection.execute(sa.select(_clients).where(_clients.c.client_id == client_id)).one_or_none()
        return None if row is None else Client(row.client_id, row.secret_sha256, row.scope)

    def put(self, client_id: str, *, scope: str, secret: str | None = None) -> str:
        """Register or change a client; returns its secret, a new one where none is given."""
        secret = secret or new_secret()
        row = {"client_id": client_id, "secret_sha256": hashed_secret(secret), "scope": scope}
        with self._database.transaction("registering a client") as connection:
            connection.execute(sa.delete(_clients).where(_clients.c.client_id == client_id))
            connection.execute(sa.insert(_clients).values(**row))
        return secret

    def revoke(self, token_id: str, *, expires_at_s: float) -> None:
        """Remember a token as revoked until it would have expired."""
        with self._database.transaction("revoking a token") as connection:
            connection.execute(sa.delete(_revoked).where(_revoked.c.token_id == token_id))
            connection.execute(sa.insert(_revoked).values(token_id=token_id, expires_at_s=expires_at_s))

    def revoked(self, now_s: float) -> dict[str, float]:
        """Revoked token ids with their expiry in epoch seconds; what has expired is forgotten."""
        with self._database.transaction("reading revoked tokens") as connection:
            connection.execute(sa.delete(_revoked).where(_revoked.c.expires_at_s < now_s))
            return {row.token_id: row.expires_at_s for row in connection.execute(sa.select(_revoked))}

    def revoked_since(self) -> None:
        """The file has one process."""

    def ensure_development_client(self, token_url: str) -> Path:
        """Make `<data>/client.json` and the client in it agree, keeping the secret over restarts.

        The secret in the file counts: a deleted file means a new secret. Returns the file's path.
        """
        secret = self.put(DEVELOPMENT_CLIENT, scope=DEVELOPMENT_SCOPE, secret=secret_in_file(self._data_dir))
        return write_client_file(self._data_dir, secret=secret, token_url=token_url)


def new_secret() -> str:
    """256 random bits as text."""
    return secrets.token_urlsafe(32)


def secret_in_file(data_dir: Path) -> str | None:
    """The development client's secret in `<data>/client.json`; None without the file."""
    path = data_dir / CLIENT_FILE
    if not path.exists():
        return None
    try:
        secret = json.loads(path.read_text())["client_secret"]
    except (ValueError, KeyError, TypeError) as error:
        raise PenstockError(
            "internal", f"{path} is not a client file ({error}); delete it to get a new one"
        ) from None
    return str(secret)


def write_client_file(data_dir: Path, *, secret: str, token_url: str) -> Path:
    """Write `<data>/client.json` (mode 600) where it is not as it should be; returns its path."""
    path = data_dir / CLIENT_FILE
    text = json.dumps(
        {
            "client_id": DEVELOPMENT_CLIENT,
            "client_secret": secret,
            "token_url": token_url,
            "scope": DEVELOPMENT_SCOPE,
        },
        indent=2,
    )
    if not path.exists() or path.read_text() != text + "\n" or path.stat().st_mode & 0o077:
        write_private(path, text + "\n")
    return path


def hashed_secret(secret: str) -> str:
    """How a secret is kept."""
    return hashlib.sha256(secret.encode()).hexdigest()
