"""Rows of clients, alike in `publish.db` and in the shared PostgreSQL database. Blocking.

What a client may do beyond client credentials is in a table beside: a client without a row there is one of before,
and has that grant alone.
"""

from __future__ import annotations

import json
from typing import Any

import sqlalchemy as sa

from penstock_publish.oauth.clients import Client

__all__ = ["CLIENTS", "DETAILS", "find_client", "list_clients", "put_client", "remove_client"]

_metadata = sa.MetaData()
CLIENTS = sa.Table(
    "clients",
    _metadata,
    sa.Column("client_id", sa.Text, primary_key=True),
    sa.Column("secret_sha256", sa.Text, nullable=False),
    sa.Column("scope", sa.Text, nullable=False),
)
DETAILS = sa.Table(
    "client_details",
    _metadata,
    sa.Column("client_id", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("redirect_uris", sa.Text, nullable=False),  # a JSON array
    sa.Column("grants", sa.Text, nullable=False),  # separated by spaces
    sa.Column("public", sa.Boolean, nullable=False),
)


def find_client(connection: sa.Connection, client_id: str) -> Client | None:
    """A client by its id."""
    row = connection.execute(_all().where(CLIENTS.c.client_id == client_id)).mappings().one_or_none()
    return None if row is None else _client(row)


def list_clients(connection: sa.Connection) -> list[Client]:
    """Every client by its id."""
    return [_client(row) for row in connection.execute(_all().order_by(CLIENTS.c.client_id)).mappings()]


def put_client(connection: sa.Connection, client: Client) -> None:
    """Register or change a client."""
    remove_client(connection, client.client_id)
    row = {"client_id": client.client_id, "secret_sha256": client.secret_sha256, "scope": client.scope}
    connection.execute(sa.insert(CLIENTS).values(row))
    details = {
        "client_id": client.client_id,
        "name": client.name,
        "redirect_uris": json.dumps(client.redirect_uris),
        "grants": " ".join(sorted(client.grants)),
        "public": client.public,
    }
    connection.execute(sa.insert(DETAILS).values(details))


def remove_client(connection: sa.Connection, client_id: str) -> None:
    """Forget a client; one that is not there is no error."""
    connection.execute(sa.delete(CLIENTS).where(CLIENTS.c.client_id == client_id))
    connection.execute(sa.delete(DETAILS).where(DETAILS.c.client_id == client_id))


def _all() -> sa.Select[Any]:
    return sa.select(
        CLIENTS, DETAILS.c.name, DETAILS.c.redirect_uris, DETAILS.c.grants, DETAILS.c.public
    ).select_from(CLIENTS.outerjoin(DETAILS, DETAILS.c.client_id == CLIENTS.c.client_id))


def _client(row: sa.RowMapping) -> Client:
    if row["name"] is None:
        return Client(row["client_id"], row["secret_sha256"], row["scope"])
    return Client(
        row["client_id"],
        row["secret_sha256"],
        row["scope"],
        name=row["name"],
        redirect_uris=tuple(json.loads(row["redirect_uris"])),
        grants=frozenset(row["grants"].split()),
        public=row["public"],
    )
