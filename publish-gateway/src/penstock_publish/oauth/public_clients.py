"""Public clients: programs on people's own machines and pages of others, which can keep no secret. For commands.

Applications with a secret are registered over HTTP (`penstock_publish.applications`).
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from pathlib import Path

from penstock.errors import PenstockError
from penstock.http.revocation import mark_of_client
from penstock_publish.gateway_database import open_gateway_database
from penstock_publish.oauth.client_store import ClientStore
from penstock_publish.oauth.clients import Client, Clients
from penstock_publish.oauth.people import checked_scope
from penstock_publish.oauth.redirects import check_redirect_uri
from penstock_publish.oauth.revocation_rows import TOKEN_LIFETIME_MAX_S, AccessToken

__all__ = ["open_clients", "public_client", "remove_public_client"]

_NAME_CHARS_MAX = 100


def public_client(name: str, *, scope: str, redirect_uris: Sequence[str]) -> Client:
    """A new client without a secret, for people only; `bad_request` for a name or an address that cannot be."""
    if not 1 <= len(name.strip()) <= _NAME_CHARS_MAX or not name.isprintable():
        raise PenstockError("bad_request", f"a name has 1 to {_NAME_CHARS_MAX} printable characters; people see it")
    if not redirect_uris:
        raise PenstockError("bad_request", "a public client needs an address to send people back to")
    for uri in redirect_uris:
        check_redirect_uri(uri)
    return Client(
        secrets.token_urlsafe(12),
        "",
        checked_scope(scope),
        name=name.strip(),
        redirect_uris=tuple(redirect_uris),
        grants=frozenset({"authorization_code", "refresh_token"}),
        public=True,
    )


def remove_public_client(clients: Clients, client_id: str, *, now_s: float) -> None:
    """Forget one and revoke its tokens; `not_found`, or `bad_request` for a client with a secret."""
    client = clients.find(client_id)
    if client is None:
        raise PenstockError(
            "not_found", f"there is no client '{client_id[:100]}'; `penstock clients list` shows them"
        )
    if not client.public:
        raise PenstockError(
            "bad_request", "this client has a secret; `penstock applications remove` ends applications"
        )
    clients.revoke(AccessToken(mark_of_client(client_id), now_s + TOKEN_LIFETIME_MAX_S))
    clients.remove(client_id)


def open_clients(data_dir: Path, database_url: str | None) -> tuple[Clients, Callable[[], None]]:
    """Clients of a data folder, or of the PostgreSQL database of the URL, and what closes them. Blocking."""
    database = open_gateway_database(data_dir, database_url)
    try:
        if database.postgres is None:
            return ClientStore(data_dir, database), database.close
        # Imported here: not needed for a single process.
        from penstock_publish.oauth.shared_database import SharedDatabase

        return SharedDatabase(database, data_dir), database.close
    except BaseException:
        database.close()
        raise
