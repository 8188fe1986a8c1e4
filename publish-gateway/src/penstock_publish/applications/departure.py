"""What goes with a person whose account is removed. Blocking; for commands."""

from __future__ import annotations

from penstock.http.revocation import marked_client
from penstock_publish.applications.rows import TABLES, delete_applications_of
from penstock_publish.oauth.accounts import AccountStore

__all__ = ["remove_account"]


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
