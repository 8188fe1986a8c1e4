"""People who log in, and what they may pass on to an application. Pure but for the look-ups that are passed in."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from penstock.errors import PenstockError
from penstock.http.access import Principal

__all__ = ["ACCOUNT_PREFIX", "Person", "Rights", "checked_scope", "granted_scope", "meaning_of", "name_of",
           "subject_of"]  # fmt: skip

#: What `sub` of a person with an account begins with, so that no client has the same (RFC 9068, 5).
ACCOUNT_PREFIX = "account:"
#: What a person may do, by `sub`; None for who is not known any more.
Rights = Callable[[str], frozenset[str] | None]
_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]{1,200}")  # RFC 6749, 3.3
_MEANINGS = {
    "*:read": "Read every topic",
    "data:read": "Read stored rows and summaries",
    "data:query": "Query stored rows with SQL",
    "ingest:write": "Send events into streams",
    "apps:admin": "Change apps and rules, see and replay rejected events",
    "applications:write": "Register and change your applications",
}


@dataclass(frozen=True, slots=True)
class Person:
    """A person who is logged in: `sub` of the tokens, and all that this person may do.

    `session`: id of the token by which the person is known; empty where there is none.
    """

    subject: str
    scopes: frozenset[str]
    session: str = ""


def checked_scope(scope: str) -> str:
    """A scope that somebody typed, each word once; `bad_request` for characters that it cannot have."""
    scopes = scope.split()
    if not scopes or not all(_SCOPE.fullmatch(one) for one in scopes):
        raise PenstockError("bad_request", "a scope is one or more words such as 'orders:read data:read'")
    return " ".join(dict.fromkeys(scopes))


def granted_scope(asked: str, scopes: frozenset[str]) -> str:
    """The part of `asked` (separated by spaces) that is covered by `scopes`; empty where nothing is.

    A wildcard that was asked for becomes those of the person's scopes that it covers.
    """
    person = Principal("", "", scopes, 0.0, "")
    wanted = Principal("", "", frozenset(asked.split()), 0.0, "")
    found = [scope for scope in asked.split() if person.allows(scope)]
    found += sorted(scope for scope in scopes if wanted.allows(scope))
    return " ".join(dict.fromkeys(found))


def subject_of(name: str, account_id: str) -> str:
    """`sub` of a person: `account:<name>/<id>`, for an account without an id of its own `account:<name>`."""
    return f"{ACCOUNT_PREFIX}{name}/{account_id}" if account_id else f"{ACCOUNT_PREFIX}{name}"


def name_of(subject: str) -> str:
    """How a person is shown the own name: the account's, of its `sub`; another `sub` as it is."""
    name = subject.removeprefix(ACCOUNT_PREFIX)
    return subject if name == subject else name.partition("/")[0]


def meaning_of(scope: str) -> str:
    """What a scope allows, for people; empty for one that is not known here."""
    topic, _, action = scope.rpartition(":")
    return _MEANINGS.get(scope) or (f"Read the topic {topic}" if topic and action == "read" else "")
