"""Applications and their clients in the gateway's database, with a version that changes whenever one of them does.

A row and its client change in one transaction: there is no application that cannot log in, and no client that nobody
sees. Blocking.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict

import sqlalchemy as sa

from penstock.errors import PenstockError
from penstock.http.revocation import mark_of_client
from penstock_publish.applications.application import Application, grants_of
from penstock_publish.applications.paging import Place
from penstock_publish.applications.settings import ApplicationSettings
from penstock_publish.oauth.accounts import owner_is_there
from penstock_publish.oauth.client_rows import find_client, put_client, remove_client
from penstock_publish.oauth.clients import Client
from penstock_publish.oauth.grant_store import revoke_grants_of
from penstock_publish.oauth.revocation_rows import (
    TOKEN_LIFETIME_MAX_S,
    AccessToken,
    RevocationLimits,
    check_holder,
    remember_revoked,
)

__all__ = ["TABLES", "applications_of", "delete_application", "delete_applications_of", "find_application",
           "insert_application", "list_applications", "plans_of_all", "replace_application", "replace_secret",
           "version_of_all"]  # fmt: skip

_LOCK = int.from_bytes(b"applicat", "big") >> 1

_metadata = sa.MetaData()
_rows = sa.Table(
    "applications",
    _metadata,
    sa.Column("client_id", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("description", sa.Text, nullable=False),
    sa.Column("plan", sa.Text, nullable=False),
    sa.Column("scope", sa.Text, nullable=False),
    sa.Column("redirect_uris", sa.Text, nullable=False),  # a JSON array
    sa.Column("owner", sa.Text, nullable=False),
    sa.Column("created_at_ms", sa.BigInteger, nullable=False),
    sa.UniqueConstraint("owner", "name"),
)
#: One row: how often anything changed. Replicas look at it to see whether they must read the rest.
_version = sa.Table(
    "applications_version",
    _metadata,
    sa.Column("one", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("version", sa.BigInteger, nullable=False),
)
TABLES = (_rows, _version)


def insert_application(
    connection: sa.Connection,
    application: Application,
    secret_sha256: str,
    settings: ApplicationSettings,
    limits: RevocationLimits,
) -> None:
    """`conflict` where there are as many as may be, `name_taken` for a second one of this name and owner.

    `too_many_requests` where the owner has had too many deleted: each is remembered for a day, by all services.
    """
    _lock(connection)
    if not owner_is_there(connection, application.owner):
        raise PenstockError("invalid_token", "whoever this token is of has just been removed")
    count = sa.select(sa.func.count()).select_from(_rows)
    if connection.execute(count).scalar_one() >= settings.total_max:
        raise PenstockError("conflict", f"there are {settings.total_max} applications already (total_max)")
    if _count_of(connection, application.owner) >= settings.per_owner_max:
        detail = f"you have {settings.per_owner_max} applications already (per_owner_max); delete one"
        raise PenstockError("conflict", detail)
    check_holder(connection, _holder_of(_first_owner(_owners(connection), application.owner)), limits)
    _refuse_second_name(connection, application)
    connection.execute(sa.insert(_rows).values(**_values(application)))
    put_client(connection, _client(application, secret_sha256))
    _changed(connection)


def replace_application(connection: sa.Connection, application: Application, before: Application) -> None:
    """`not_found`, `name_taken`, and `conflict` where it is no longer as `before`; the secret stays."""
    _lock(connection)
    _refuse_second_name(connection, application)
    kept, client = find_application(connection, before.client_id), find_client(connection, before.client_id)
    if kept is None or client is None:
        raise PenstockError("not_found", "the application has just been deleted")
    if kept != before:  # what was allowed to `before` may be more than what it has by now
        raise PenstockError("conflict", "the application has just been changed by somebody else; try again")
    connection.execute(sa.update(_rows).where(_rows.c.client_id == before.client_id).values(**_values(application)))
    put_client(connection, _client(application, client.secret_sha256))
    _changed(connection)


def replace_secret(connection: sa.Connection, application: Application, secret_sha256: str) -> None:
    """`not_found` if it has just been deleted."""
    _lock(connection)
    kept = find_application(connection, application.client_id)
    if kept is None:
        raise PenstockError("not_found", "the application has just been deleted")
    put_client(connection, _client(kept, secret_sha256))


def delete_application(connection: sa.Connection, client_id: str, now_s: float) -> list[AccessToken]:
    """With its client and whatever it has registered; one that is not there is no error.

    All tokens of them are revoked from now on: the marks for that, and tokens that others have in their name.
    """
    _lock(connection)
    return _delete(connection, [client_id, *_registered_by(connection, client_id)], now_s)


def delete_applications_of(connection: sa.Connection, owner: str, now_s: float) -> list[AccessToken]:
    """Those of an owner, as of `delete_application`."""
    _lock(connection)
    return _delete(connection, _registered_by(connection, owner), now_s)


def find_application(connection: sa.Connection, client_id: str) -> Application | None:
    """One by its id."""
    row = connection.execute(sa.select(_rows).where(_rows.c.client_id == client_id)).mappings().one_or_none()
    return None if row is None else _application(row)


def list_applications(
    connection: sa.Connection, owner: str | None, after: Place | None, limit: int
) -> Sequence[Application]:
    """Those of an owner, or all, in the order in which they were registered."""
    query = sa.select(_rows).order_by(_rows.c.created_at_ms, _rows.c.client_id).limit(limit)
    if owner is not None:
        query = query.where(_rows.c.owner == owner)
    if after is not None:
        in_order = sa.tuple_(_rows.c.created_at_ms, _rows.c.client_id)
        query = query.where(in_order > sa.tuple_(sa.literal(after.created_at_ms), sa.literal(after.client_id)))
    return [_application(row) for row in connection.execute(query).mappings()]


def applications_of(connection: sa.Connection, owner: str) -> list[Application]:
    """Those of an owner, of those applications, and so on."""
    ids = _registered_by(connection, owner)
    return [found for one in ids if (found := find_application(connection, one)) is not None]


def plans_of_all(connection: sa.Connection) -> dict[str, str]:
    """The name of every application's plan by client."""
    return {row.client_id: row.plan for row in connection.execute(sa.select(_rows.c.client_id, _rows.c.plan))}


def version_of_all(connection: sa.Connection) -> int:
    """A number that grows with every change."""
    return connection.execute(sa.select(_version.c.version)).scalar() or 0


def _lock(connection: sa.Connection) -> None:
    """Changes wait for each other, or replicas could exceed limits together. SQLite has one connection."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")


def _count_of(connection: sa.Connection, owner: str) -> int:
    """How many an owner has, those included that applications of the owner have registered, and so on."""
    owners = _owners(connection)
    first = _first_owner(owners, owner)
    return sum(_first_owner(owners, client_id) == first for client_id in owners)


def _owners(connection: sa.Connection) -> dict[str, str]:
    """Application → who registered it, perhaps an application."""
    return {row.client_id: row.owner for row in connection.execute(sa.select(_rows.c.client_id, _rows.c.owner))}


def _first_owner(owners: Mapping[str, str], subject: str) -> str:
    while subject in owners:  # ids are given out once, so this comes to an end
        subject = owners[subject]
    return subject


def _holder_of(owner: str) -> str:
    """For whom the marks of deleted applications are counted; no client has such an id."""
    return f"applications {owner}"


def _registered_by(connection: sa.Connection, owner: str) -> list[str]:
    """Applications of an owner, of those applications, and so on."""
    owned: dict[str, list[str]] = {}
    for row in connection.execute(sa.select(_rows.c.client_id, _rows.c.owner)):
        owned.setdefault(row.owner, []).append(row.client_id)
    found = list(owned.get(owner, ()))
    for client_id in found:  # grows while it is read: ids are given out once, so this comes to an end
        found += owned.get(client_id, ())
    return found


def _delete(connection: sa.Connection, client_ids: Sequence[str], now_s: float) -> list[AccessToken]:
    owners, until_s = _owners(connection), now_s + TOKEN_LIFETIME_MAX_S
    marks = [
        AccessToken(mark_of_client(client_id), until_s, _holder_of(_first_owner(owners, client_id)))
        for client_id in client_ids
    ]
    ended: list[AccessToken] = []
    for client_id in client_ids:
        connection.execute(sa.delete(_rows).where(_rows.c.client_id == client_id))
        remove_client(connection, client_id)
        ended += revoke_grants_of(connection, client_id)  # of who was signed in with its secret
    remember_revoked(connection, marks)
    _changed(connection)
    return marks + ended


def _changed(connection: sa.Connection) -> None:
    version = version_of_all(connection)
    connection.execute(sa.delete(_version))
    connection.execute(sa.insert(_version).values(one=1, version=version + 1))


def _refuse_second_name(connection: sa.Connection, application: Application) -> None:
    same = sa.select(_rows.c.client_id).where(
        _rows.c.owner == application.owner,
        _rows.c.name == application.name,
        _rows.c.client_id != application.client_id,
    )
    if connection.execute(same).first() is not None:
        detail = f"you have an application '{application.name}' already; choose another name"
        raise PenstockError("name_taken", detail)


def _client(application: Application, secret_sha256: str) -> Client:
    return Client(
        application.client_id,
        secret_sha256,
        application.scope,
        name=application.name,
        redirect_uris=application.redirect_uris,
        grants=grants_of(application.redirect_uris),
    )


def _values(application: Application) -> dict[str, object]:
    return asdict(application) | {"redirect_uris": json.dumps(application.redirect_uris)}


def _application(row: sa.RowMapping) -> Application:
    return Application(**{**row, "redirect_uris": tuple(json.loads(row["redirect_uris"]))})
