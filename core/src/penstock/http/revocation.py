"""All tokens of a client, revoked at once: a mark in the same lists that hold ids of single tokens.

So a client that is removed is known wherever revoked tokens are: in the database, at other replicas, and in services
that follow the issuer. Client ids are never given out twice.
"""

from __future__ import annotations

from collections.abc import Container

from penstock.http.access import Principal

__all__ = [
    "EVERY_TOKEN",
    "is_mark_of_key",
    "is_of_key",
    "is_revoked",
    "mark_of_client",
    "mark_of_key",
    "marked_client",
]

_PREFIX = "client:"
_KEY_PREFIX = "key:"
#: What listeners are told where all keys were replaced at once: every token of before is refused.
EVERY_TOKEN = "*"


def mark_of_client(client_id: str) -> str:
    """What stands for every token of this client."""
    return _PREFIX + client_id


def mark_of_key(issuer: str, kid: str) -> str:
    """What stands for every token that a key has signed, for listeners only: lists of keys say which ones count."""
    return f"{_KEY_PREFIX}{issuer} {kid}"


def is_mark_of_key(revoked_id: str) -> bool:
    """True if it stands for all tokens of a key."""
    return revoked_id.startswith(_KEY_PREFIX)


def is_of_key(principal: Principal, mark: str) -> bool:
    """True if the mark is of the key that signed the principal's token."""
    return principal.signed_by is not None and mark_of_key(*principal.signed_by) == mark


def marked_client(revoked_id: str) -> str | None:
    """The client that a mark is of; None for the id of a token."""
    return revoked_id.removeprefix(_PREFIX) if revoked_id.startswith(_PREFIX) else None


def is_revoked(principal: Principal, revoked: Container[str]) -> bool:
    """True if the token, or its client, is among those revoked."""
    return principal.token_id in revoked or _PREFIX + principal.client_id in revoked
