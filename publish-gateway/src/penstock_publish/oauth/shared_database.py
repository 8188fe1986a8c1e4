"""Clients and revocations in the store's PostgreSQL database, shared by replicas. Blocking.

Tables of the schema `penstock_auth`, made by the store's migrations. The development client's secret is kept as it
is, so that each replica can write the same `client.json`; the signing keys beside it (`oauth.shared_keys`) are worth
more.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import sqlalchemy as sa

from penstock_publish.gateway_database import GatewayDatabase
from penstock_publish.oauth.client_rows import DETAILS, find_client, list_clients, put_client, remove_client
from penstock_publish.oauth.clients import (
    DEVELOPMENT_CLIENT,
    Client,
    development_client,
    new_secret,
    secret_in_file,
    write_client_file,
)
from penstock_publish.oauth.revocation_rows import (
    REVOKED,
    AccessToken,
    RevocationLimits,
    check_room,
    forget_expired,
    remember_revoked,
)

__all__ = ["SharedDatabase"]

#: How far a look at news goes back behind the last one: a revocation that was being committed then is not missed.
_OVERLAP = timedelta(seconds=60)
_LOCK = int.from_bytes(b"authorit", "big")

#: Beside `client_rows.CLIENTS`: the development client's secret as it is.
_secrets = sa.table("clients", sa.column("client_id"), sa.column("secret"))
#: Beside `revocation_rows.REVOKED`: when a row was written, by the database's clock.
_revoked = sa.table(
    "revoked_tokens",
    sa.column("token_id"),
    sa.column("expires_at_s"),
    sa.column("revoked_at", sa.DateTime(timezone=True)),
)


class SharedDatabase:
    """Implements `oauth.clients.Clients`. Errors: `store_unavailable`."""

    def __init__(self, database: GatewayDatabase, data_dir: Path) -> None:
        assert database.postgres is not None, "opened with the URL of a PostgreSQL database"
        self._data_dir = data_dir
        self._transaction = database.transaction
        database.create(DETAILS, REVOKED)
        self._seen: datetime | None = None  # the database's clock at the last look at revocations

    def find(self, client_id: str) -> Client | None:
        """A client by its id."""
        with self._transaction("looking up a client") as connection:
            return find_client(connection, client_id)

    def all(self) -> list[Client]:
        """Every client by its id."""
        with self._transaction("listing clients") as connection:
            return list_clients(connection)

    def put(self, client: Client) -> None:
        """Register or change a client."""
        with self._transaction("registering a client") as connection:
            put_client(connection, client)

    def remove(self, client_id: str) -> None:
        """Forget a client."""
        with self._transaction("removing a client") as connection:
            remove_client(connection, client_id)

    def revoke(self, token: AccessToken, limits: RevocationLimits | None = None) -> None:
        """Remember a token as revoked until it would have expired; other replicas see it at their next look."""
        with self._transaction("revoking a token") as connection:
            if limits is not None:
                check_room(connection, token.holder, limits)
            remember_revoked(connection, [token])

    def forget_revoked(self, before_s: float) -> None:
        """Forget tokens that expired before."""
        with self._transaction("forgetting revoked tokens") as connection:
            forget_expired(connection, before_s)

    def revoked(self, now_s: float) -> dict[str, float]:
        """Revoked token ids with their expiry in epoch seconds; what has expired is forgotten."""
        with self._transaction("reading revoked tokens") as connection:
            forget_expired(connection, now_s)
            return self._look(connection, _revoked.c.expires_at_s >= now_s)

    def revoked_since(self) -> dict[str, float]:
        """Those that may be new since the last look; some are told again."""
        with self._transaction("following revoked tokens") as connection:
            return self._look(
                connection, sa.true() if self._seen is None else _revoked.c.revoked_at > self._seen - _OVERLAP
            )

    def ensure_development_client(self, token_url: str) -> Path:
        """Make `<data>/client.json` and the client agree.

        The secret in the database counts, so that replicas have one; the first one takes that of the file, if any.
        """
        of_file = secret_in_file(self._data_dir)
        with self._transaction("registering the development client") as connection:
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
            own = _secrets.c.client_id == DEVELOPMENT_CLIENT
            known = sa.select(_secrets.c.secret).where(own)
            secret = connection.execute(known).scalar() or of_file or new_secret()
            put_client(connection, development_client(secret))
            connection.execute(sa.update(_secrets).where(own).values(secret=secret))
        return write_client_file(self._data_dir, secret=secret, token_url=token_url)

    def _look(self, connection: sa.Connection, where: sa.ColumnElement[bool]) -> dict[str, float]:
        now: datetime = connection.execute(sa.select(sa.func.clock_timestamp())).scalar_one()
        found = connection.execute(sa.select(_revoked.c.token_id, _revoked.c.expires_at_s).where(where)).all()
        self._seen = now
        return {row.token_id: row.expires_at_s for row in found}
