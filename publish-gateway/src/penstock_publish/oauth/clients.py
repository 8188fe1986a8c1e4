"""Clients: what is known of them, where they are kept, and `client.json` of the development client.

Secrets are made here, from 256 random bits, so a plain SHA-256 keeps them: there is nothing to guess that a slow hash
would protect.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from penstock.errors import PenstockError
from penstock_publish.oauth.keys import write_private
from penstock_publish.oauth.revocation_rows import AccessToken, RevocationLimits

__all__ = ["CLIENT_FILE", "DEVELOPMENT_CLIENT", "DEVELOPMENT_SCOPE", "GRANTS", "NOBODY", "PAGE_CLIENT", "Client",
           "Clients", "development_client", "hashed_secret", "new_secret", "secret_in_file",
           "write_client_file"]  # fmt: skip

CLIENT_FILE = "client.json"
DEVELOPMENT_SCOPE = "*:read data:read data:query ingest:write apps:admin applications:write"
DEVELOPMENT_CLIENT = "development"
#: `client_id` of the page's own sessions; it is nobody's registered client.
PAGE_CLIENT = "page"
#: The grants that a client can have.
GRANTS = frozenset({"client_credentials", "authorization_code", "refresh_token"})


@dataclass(frozen=True, slots=True)
class Client:
    """A registered client; `scope` is all that it may ask for, separated by spaces.

    `redirect_uris`: where a person who logged in is sent back to, matched exactly. `grants`: some of `GRANTS`.
    `public`: it can keep no secret (a page, a command line), so it has none; `secret_sha256` is then empty.
    """

    client_id: str
    secret_sha256: str
    scope: str
    name: str = ""
    redirect_uris: tuple[str, ...] = ()
    grants: frozenset[str] = frozenset({"client_credentials"})
    public: bool = False

    def has_secret(self, secret: str) -> bool:
        """Compare in constant time; a public client has none."""
        return not self.public and hmac.compare_digest(self.secret_sha256, hashed_secret(secret))


#: Whom the secret of an unknown client is compared with, so that it takes as long.
NOBODY = Client("", hashlib.sha256(secrets.token_bytes(32)).hexdigest(), "", grants=frozenset())


class Clients(Protocol):
    """Where clients and revoked tokens are kept: `oauth.client_store`, `oauth.shared_database`. Blocking."""

    def find(self, client_id: str) -> Client | None:
        """A client by its id."""
        ...

    def all(self) -> list[Client]:
        """Every client by its id."""
        ...

    def put(self, client: Client) -> None:
        """Register or change a client."""
        ...

    def remove(self, client_id: str) -> None:
        """Forget a client: it gets no more tokens. One that is not there is no error."""
        ...

    def revoke(self, token: AccessToken, limits: RevocationLimits | None = None) -> None:
        """Remember a token as revoked until it would have expired.

        `limits`: for one whose holder asks for it; `too_many_requests` where there is no room.
        """
        ...

    def forget_revoked(self, before_s: float) -> None:
        """Forget tokens that expired before. Called by a thread of its own, as `revoked_since`."""
        ...

    def revoked(self, now_s: float) -> dict[str, float]:
        """Revoked token ids with their expiry in epoch seconds; what has expired is forgotten."""
        ...

    def revoked_since(self) -> dict[str, float]:
        """What others may have revoked since the last look. Called by a thread of its own."""
        ...

    def ensure_development_client(self, token_url: str) -> Path:
        """Make `<data>/client.json` and the client in it agree; returns the file's path."""
        ...


def development_client(secret: str) -> Client:
    """The client of `client.json`."""
    return Client(DEVELOPMENT_CLIENT, hashed_secret(secret), DEVELOPMENT_SCOPE, name="Development")


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
