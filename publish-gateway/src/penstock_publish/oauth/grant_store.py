"""Authorization codes, refresh tokens and the access tokens made from them: rows of the gateway's database. Blocking.

One login of a person at one application is a grant. Its tokens form a family (RFC 9700, 4.14): a code or a refresh
token that is used a second time was stolen, before or after, so the whole family is revoked. Codes and refresh tokens
are random and kept as SHA-256. What changes together is one transaction, so replicas agree on who was first.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

import sqlalchemy as sa

from penstock.errors import PenstockError
from penstock_publish.gateway_database import GatewayDatabase
from penstock_publish.oauth.clients import PAGE_CLIENT, hashed_secret, new_secret
from penstock_publish.oauth.revocation_rows import (
    REVOKED,
    AccessToken,
    RevocationLimits,
    check_holder,
    holder_of,
    remember_revoked,
)

__all__ = ["CodeRequest", "Grant", "GrantLimits", "GrantStore", "Reused", "revoke_grants_of"]

_metadata = sa.MetaData()
_grants = sa.Table(
    "oauth_grants",
    _metadata,
    sa.Column("grant_id", sa.Text, primary_key=True),
    sa.Column("client_id", sa.Text, nullable=False),
    sa.Column("subject", sa.Text, nullable=False, index=True),
    sa.Column("scope", sa.Text, nullable=False),
    sa.Column("resource", sa.Text, nullable=False),  # empty: none was named
    sa.Column("redirect_uri", sa.Text, nullable=False),
    sa.Column("code_challenge", sa.Text, nullable=False),
    sa.Column("code_sha256", sa.Text, nullable=False, unique=True),
    sa.Column("code_expires_at_s", sa.Double, nullable=False),
    sa.Column("ends_at_s", sa.Double, nullable=False, index=True),
    sa.Column("used", sa.Boolean, nullable=False),  # the code was traded for tokens
    sa.Column("revoked", sa.Boolean, nullable=False),
)
_refresh_tokens = sa.Table(
    "oauth_refresh_tokens",
    _metadata,
    sa.Column("token_sha256", sa.Text, primary_key=True),
    sa.Column("grant_id", sa.Text, nullable=False, index=True),
    sa.Column("issued_at_s", sa.Double, nullable=False),
    sa.Column("expires_at_s", sa.Double, nullable=False),
    sa.Column("used", sa.Boolean, nullable=False),
)
_access_tokens = sa.Table(
    "oauth_access_tokens",
    _metadata,
    sa.Column("token_id", sa.Text, primary_key=True),
    sa.Column("grant_id", sa.Text, nullable=False, index=True),
    sa.Column("expires_at_s", sa.Double, nullable=False),
)


#: An access token may outlive its grant by as much (the bound of `auth.token_lifetime_s`), and clocks may differ.
_OUTLIVES_S = 86_400.0
_CLOCKS_S = 300.0


@dataclass(frozen=True, slots=True)
class CodeRequest:
    """What a person has consented to, and what the code is bound to. `resource` empty: none was named."""

    client_id: str
    subject: str
    scope: str
    redirect_uri: str
    code_challenge: str
    resource: str = ""


@dataclass(frozen=True, slots=True)
class GrantLimits:
    """Grants of one person, and sessions apart from them: beyond that the oldest ends. Valid access tokens of one.

    `revocations`: room that must be there for a grant to begin.
    """

    per_person_max: int = 100
    tokens_max: int = 100
    revocations: RevocationLimits = field(default_factory=RevocationLimits)


@dataclass(frozen=True, slots=True)
class Grant:
    """A grant as found by its code or by a refresh token, whose expiry and use are `expires_at_s` and `used`."""

    grant_id: str
    client_id: str
    subject: str
    scope: str
    resource: str
    redirect_uri: str
    code_challenge: str
    ends_at_s: float
    revoked: bool
    issued_at_s: float
    expires_at_s: float
    used: bool


class Reused(Exception):
    """The code or refresh token was used before, or its grant has been revoked."""


class GrantStore:
    """Grants in the database of the gateway. Times are epoch seconds of the caller's clock."""

    def __init__(self, database: GatewayDatabase, limits: GrantLimits | None = None) -> None:
        self._transaction = database.transaction
        self._limits = limits or GrantLimits()
        database.create(REVOKED, *_metadata.sorted_tables)

    def begin(
        self,
        code: str,
        request: CodeRequest,
        *,
        now_s: float,
        code_lifetime_s: float,
        lifetime_s: float,
        session: str = "",
    ) -> list[AccessToken]:
        """Begin a grant that ends after `lifetime_s`, with its code. Grants that have ended are forgotten.

        Where the person has as many as may be the oldest is revoked: its access tokens, as `revoke` returns them.
        `too_many_requests` where too many tokens of the person were revoked at this client.
        `session`: id of the token by which the person consents; `Reused` if that has been revoked, here or elsewhere.
        """
        row = {
            "grant_id": new_secret(),
            **asdict(request),
            "code_sha256": hashed_secret(code),
            "code_expires_at_s": now_s + code_lifetime_s,
            "ends_at_s": now_s + lifetime_s,
            "used": False,
            "revoked": False,
        }
        with self._transaction("making an authorization code") as connection:
            _forget_ended(connection, now_s)
            _refuse_revoked(connection, session)
            ended = self._make_room(connection, request, now_s)
            connection.execute(sa.insert(_grants).values(row))
        return ended

    def begin_session(
        self, request: CodeRequest, access: AccessToken, *, now_s: float
    ) -> tuple[str, list[AccessToken]]:
        """Keep the token of a person's session of the page as a grant, so that it ends with the others.

        The grant, and tokens of the oldest session where that had to end, as of `begin`.
        """
        grant_id = new_secret()
        row = {
            "grant_id": grant_id,
            **asdict(request),
            "code_sha256": hashed_secret(new_secret()),  # nobody has this code
            "code_expires_at_s": 0.0,
            "ends_at_s": access.expires_at_s,
            "used": True,
            "revoked": False,
        }
        with self._transaction("beginning a session") as connection:
            _forget_ended(connection, now_s)
            ended = self._make_room(connection, request, now_s)
            connection.execute(sa.insert(_grants).values(row))
            _add_tokens(connection, grant_id, access, None, (0.0, 0.0))
        return grant_id, ended

    def by_code(self, code: str) -> Grant | None:
        """The grant of a code, used or not."""
        with self._transaction("looking up an authorization code") as connection:
            row = connection.execute(sa.select(_grants).where(_grants.c.code_sha256 == hashed_secret(code))).first()
        if row is None:
            return None
        return _grant(row, issued_at_s=0.0, expires_at_s=row.code_expires_at_s, used=row.used)

    def by_refresh_token(self, token: str) -> Grant | None:
        """The grant of a refresh token, used or not."""
        found = (
            sa.select(
                _grants,
                _refresh_tokens.c.issued_at_s,
                _refresh_tokens.c.expires_at_s,
                _refresh_tokens.c.used.label("token_used"),
            )
            .join(_refresh_tokens, _refresh_tokens.c.grant_id == _grants.c.grant_id)
            .where(_refresh_tokens.c.token_sha256 == hashed_secret(token))
        )
        with self._transaction("looking up a refresh token") as connection:
            row = connection.execute(found).first()
        if row is None:
            return None
        return _grant(row, issued_at_s=row.issued_at_s, expires_at_s=row.expires_at_s, used=row.token_used)

    def use_code(self, code: str, *, access: AccessToken, refresh: str | None, now_s: float, idle_s: float) -> None:
        """Trade a code for tokens; `Reused` if somebody was first."""
        unused = sa.and_(
            _grants.c.code_sha256 == hashed_secret(code), _grants.c.used.is_(False), _grants.c.revoked.is_(False)
        )
        with self._transaction("using an authorization code") as connection:
            if connection.execute(sa.update(_grants).where(unused).values(used=True)).rowcount != 1:
                raise Reused
            grant = connection.execute(
                sa.select(_grants.c.grant_id, _grants.c.ends_at_s).where(_grants.c.code_sha256 == hashed_secret(code))
            ).one()
            _add_tokens(connection, grant.grant_id, access, refresh, (now_s, min(now_s + idle_s, grant.ends_at_s)))

    def rotate(self, old: str, *, access: AccessToken, refresh: str, now_s: float, idle_s: float) -> None:
        """Trade a refresh token for the next one and an access token; `Reused` if somebody was first.

        `too_many_requests` where too many access tokens of the grant hold: nothing has been used then.
        """
        own = sa.select(_refresh_tokens.c.grant_id).where(_refresh_tokens.c.token_sha256 == hashed_secret(old))
        unused = sa.and_(_refresh_tokens.c.token_sha256 == hashed_secret(old), _refresh_tokens.c.used.is_(False))
        with self._transaction("using a refresh token") as connection:
            # The grant's row first: it serialises with a revocation of the family.
            valid = sa.and_(_grants.c.grant_id.in_(own), _grants.c.revoked.is_(False))
            if connection.execute(sa.update(_grants).where(valid).values(used=True)).rowcount != 1:
                raise Reused
            if connection.execute(sa.update(_refresh_tokens).where(unused).values(used=True)).rowcount != 1:
                raise Reused
            grant = connection.execute(
                sa.select(_grants.c.grant_id, _grants.c.ends_at_s).where(_grants.c.grant_id.in_(own))
            ).one()
            _forget_tokens(connection, grant.grant_id, now_s)
            self._check_tokens(connection, grant.grant_id, now_s)
            _add_tokens(connection, grant.grant_id, access, refresh, (now_s, min(now_s + idle_s, grant.ends_at_s)))

    def revoke(self, grant_id: str) -> list[AccessToken]:
        """Revoke a family; returns its access tokens, which are revoked from now on."""
        with self._transaction("revoking a grant") as connection:
            return _revoke(connection, [grant_id])

    def revoke_all(self, subject: str) -> list[AccessToken]:
        """Revoke whatever a person has granted, as `revoke` does."""
        with self._transaction("revoking the grants of a person") as connection:
            return revoke_grants_of(connection, subject)

    def _make_room(self, connection: sa.Connection, request: CodeRequest, now_s: float) -> list[AccessToken]:
        """Revoke the oldest where the person has as many as may be; sessions and grants end in the order they began.

        `too_many_requests` where the holder has had too many tokens revoked.
        """
        check_holder(connection, holder_of(request.client_id, request.subject), self._limits.revocations)
        of_page = _grants.c.client_id == PAGE_CLIENT
        alike = of_page if request.client_id == PAGE_CLIENT else sa.not_(of_page)
        held = sa.select(_grants.c.grant_id).where(
            _grants.c.subject == request.subject, alike, _grants.c.revoked.is_(False), _grants.c.ends_at_s > now_s
        )
        newest = held.order_by(_grants.c.ends_at_s.desc(), _grants.c.grant_id)
        older = connection.execute(newest.offset(self._limits.per_person_max - 1)).scalars()
        return _revoke(connection, list(older))

    def _check_tokens(self, connection: sa.Connection, grant_id: str, now_s: float) -> None:
        holding = _access_tokens.c.grant_id == grant_id, _access_tokens.c.expires_at_s > now_s
        expiries = list(connection.execute(sa.select(_access_tokens.c.expires_at_s).where(*holding)).scalars())
        if len(expiries) >= self._limits.tokens_max:
            raise PenstockError(
                "too_many_requests",
                f"{len(expiries)} access tokens of this login have not expired (auth.tokens_per_login_max): use the "
                "one that you have until shortly before it expires",
                retry_after_s=min(expiries) - now_s,
            )


def revoke_grants_of(connection: sa.Connection, subject: str) -> list[AccessToken]:
    """As `GrantStore.revoke_all`, inside a transaction."""
    # The rows of sessions are locked before the look: what is begun from one is seen, or is refused.
    held = _grants.c.subject == subject, _grants.c.revoked.is_(False)
    connection.execute(sa.update(_grants).where(*held).values(revoked=False))
    return _revoke(connection, list(connection.execute(sa.select(_grants.c.grant_id).where(*held)).scalars()))


def _forget_ended(connection: sa.Connection, now_s: float) -> None:
    """What has ended long ago, was revoked, or was allowed and never fetched: its tokens are unknown from now on."""
    unused = sa.and_(_grants.c.used.is_(False), _grants.c.code_expires_at_s < now_s - _CLOCKS_S)
    gone = sa.or_(_grants.c.ends_at_s < now_s - _OUTLIVES_S, unused, _grants.c.revoked.is_(True))
    ended = sa.select(_grants.c.grant_id).where(gone)
    for table in (_refresh_tokens, _access_tokens):
        connection.execute(sa.delete(table).where(table.c.grant_id.in_(ended)))
    connection.execute(sa.delete(_grants).where(gone))


def _forget_tokens(connection: sa.Connection, grant_id: str, now_s: float) -> None:
    """What has expired of one grant: an old refresh token that comes back after that is refused as unknown."""
    for table in (_access_tokens, _refresh_tokens):
        expired = table.c.grant_id == grant_id, table.c.expires_at_s < now_s - _CLOCKS_S
        connection.execute(sa.delete(table).where(*expired))


def _refuse_revoked(connection: sa.Connection, session: str) -> None:
    """Lock the row of the session's grant, if it has one, so that this serialises with a revocation; then look."""
    own = sa.select(_access_tokens.c.grant_id).where(_access_tokens.c.token_id == session)
    valid = sa.and_(_grants.c.grant_id.in_(own), _grants.c.revoked.is_(False))
    connection.execute(sa.update(_grants).where(valid).values(revoked=False))
    if connection.execute(sa.select(REVOKED.c.token_id).where(REVOKED.c.token_id == session)).first() is not None:
        raise Reused


def _add_tokens(
    connection: sa.Connection, grant_id: str, access: AccessToken, refresh: str | None, times: tuple[float, float]
) -> None:
    row = {"token_id": access.token_id, "grant_id": grant_id, "expires_at_s": access.expires_at_s}
    connection.execute(sa.insert(_access_tokens).values(row))
    if refresh is not None:
        issued_at_s, expires_at_s = times
        token = {"token_sha256": hashed_secret(refresh), "grant_id": grant_id, "issued_at_s": issued_at_s,
                 "expires_at_s": expires_at_s, "used": False}  # fmt: skip
        connection.execute(sa.insert(_refresh_tokens).values(token))


def _revoke(connection: sa.Connection, grant_ids: list[str]) -> list[AccessToken]:
    connection.execute(sa.update(_grants).where(_grants.c.grant_id.in_(grant_ids)).values(revoked=True))
    of_grants = _access_tokens.c.grant_id.in_(grant_ids)
    found = sa.select(_access_tokens, _grants.c.client_id, _grants.c.subject).join(
        _grants, _grants.c.grant_id == _access_tokens.c.grant_id
    )
    tokens = [
        AccessToken(row.token_id, row.expires_at_s, holder_of(row.client_id, row.subject))
        for row in connection.execute(found.where(of_grants))
    ]
    connection.execute(sa.delete(_access_tokens).where(of_grants))
    remember_revoked(connection, tokens)
    return tokens


def _grant(row: sa.Row[tuple[object, ...]], *, issued_at_s: float, expires_at_s: float, used: bool) -> Grant:
    return Grant(
        grant_id=row.grant_id,
        client_id=row.client_id,
        subject=row.subject,
        scope=row.scope,
        resource=row.resource,
        redirect_uri=row.redirect_uri,
        code_challenge=row.code_challenge,
        ends_at_s=row.ends_at_s,
        revoked=row.revoked,
        issued_at_s=issued_at_s,
        expires_at_s=expires_at_s,
        used=used,
    )
