"""What becomes of a person's applications when the account is removed or may do less. Blocking; for commands."""

from __future__ import annotations

from penstock.http.access import Principal
from penstock.http.revocation import marked_client
from penstock_publish.applications.rows import TABLES, applications_of, delete_applications_of
from penstock_publish.oauth.accounts import Account, AccountStore

__all__ = ["applications_beyond", "remove_account"]


def remove_account(accounts: AccountStore, name: str, *, now_s: float) -> list[str]:
    """Remove an account with its sessions, what it has granted, and its applications, whose ids are returned.

    `not_found`. A gateway that runs on the same database closes what they have open within `auth.revocations_poll_s`.
    """
    accounts.database.create(*TABLES)
    subject = accounts.remove(name)
    # After the account is gone: whoever registers one meanwhile is refused, or had done so before this look.
    with accounts.database.transaction("deleting the applications of an account") as connection:
        ended = delete_applications_of(connection, subject, now_s)
    return [gone for token in ended if (gone := marked_client(token.token_id)) is not None]


def applications_beyond(accounts: AccountStore, account: Account) -> list[str]:
    """Ids of the person's applications that may do what the person may not (any more): they keep their scopes."""
    accounts.database.create(*TABLES)
    own = Principal(account.subject, "", frozenset(account.scope.split()), 0.0, "")
    with accounts.database.transaction("reading the applications of an account") as connection:
        found = applications_of(connection, account.subject)
    return [one.client_id for one in found if not all(own.allows(scope) for scope in one.scope.split())]
