"""Rows of revoked tokens, alike in `publish.db` and in the shared PostgreSQL database. Blocking.

Whoever holds a token may revoke it and get another one, so there are limits for each holder and in all: beyond them
nothing more is revoked on demand, and beyond the first one no login of the holder begins. What the server itself must
revoke (a code used twice, the oldest of too many logins, a removed account) is always kept: a login brings few of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from types import ModuleType

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from penstock.errors import PenstockError
from penstock.http.access import Principal

__all__ = ["REVOKED", "TOKEN_LIFETIME_MAX_S", "AccessToken", "RevocationLimits", "check_holder", "check_room",
           "forget_expired", "holder_of", "remember_revoked", "token_of"]  # fmt: skip

#: Bound of `auth.token_lifetime_s`: so long it is remembered that a client is gone.
TOKEN_LIFETIME_MAX_S = 86_400.0
#: When a holder without room may try again: tokens expire all the time.
_RETRY_S = 60.0

#: PostgreSQL has one column more, `revoked_at`, with a default.
REVOKED = sa.Table(
    "revoked_tokens",
    sa.MetaData(),
    sa.Column("token_id", sa.Text, primary_key=True),
    sa.Column("expires_at_s", sa.Double, nullable=False),
    # `holder_of` the token; empty for a mark of a client that is gone, and for rows of an earlier version.
    sa.Column("holder", sa.Text, nullable=False, server_default="", index=True),
)


@dataclass(frozen=True, slots=True)
class AccessToken:
    """An access token by its id (`jti`) and expiry in epoch seconds. `holder`: as of `holder_of`."""

    token_id: str
    expires_at_s: float
    holder: str = ""


@dataclass(frozen=True, slots=True)
class RevocationLimits:
    """How many revoked tokens of one holder, and in all, there may be before no more is revoked on demand."""

    per_holder_max: int = 1_000
    total_max: int = 100_000


def holder_of(client_id: str, subject: str) -> str:
    """For whom revoked tokens are counted: a client, or what it has in the name of one person."""
    return f"{client_id} {subject}"


def token_of(principal: Principal) -> AccessToken:
    """The token of a verified caller."""
    holder = holder_of(principal.client_id, principal.subject)
    return AccessToken(principal.token_id, principal.expires_at_s, holder)


def check_holder(connection: sa.Connection, holder: str, limits: RevocationLimits) -> None:
    """`too_many_requests` where too many tokens of this holder are revoked."""
    if _count(connection, REVOKED.c.holder == holder) >= limits.per_holder_max:
        raise _full(f"{limits.per_holder_max} of your tokens (auth.revocations_per_holder_max)")


def check_room(connection: sa.Connection, holder: str, limits: RevocationLimits) -> None:
    """`too_many_requests` where there is no room for another one of this holder, or of anybody."""
    check_holder(connection, holder, limits)
    if _count(connection, REVOKED.c.holder != "") >= limits.total_max:
        raise _full(f"{limits.total_max} tokens (auth.revocations_max)")


def remember_revoked(connection: sa.Connection, tokens: Iterable[AccessToken]) -> None:
    """Keep them until they would have expired. One that is kept already stays as it is."""
    rows = [
        {"token_id": token.token_id, "expires_at_s": token.expires_at_s, "holder": token.holder}
        for token in sorted(
            tokens, key=lambda token: token.token_id
        )  # in order: nobody waits for each other in a ring
    ]
    if rows:
        dialect: ModuleType = postgresql if connection.dialect.name == "postgresql" else sqlite
        kept = dialect.insert(REVOKED)
        later = {"expires_at_s": kept.excluded.expires_at_s}
        connection.execute(kept.on_conflict_do_update(index_elements=["token_id"], set_=later), rows)


def forget_expired(connection: sa.Connection, before_s: float) -> None:
    """Delete those that expired before."""
    connection.execute(sa.delete(REVOKED).where(REVOKED.c.expires_at_s < before_s))


def _count(connection: sa.Connection, where: sa.ColumnElement[bool]) -> int:
    return connection.execute(sa.select(sa.func.count()).select_from(REVOKED).where(where)).scalar_one()


def _full(what: str) -> PenstockError:
    detail = f"{what} were revoked and have not expired yet; keep a token, or wait until some of them expire"
    return PenstockError("too_many_requests", detail, retry_after_s=_RETRY_S)
