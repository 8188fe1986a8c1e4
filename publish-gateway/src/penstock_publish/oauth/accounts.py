"""Accounts of people, and their failed logins: rows of the gateway's database. Blocking."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import ModuleType

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from penstock.errors import PenstockError
from penstock_publish.gateway_database import GatewayDatabase, open_gateway_database
from penstock_publish.oauth.failures import network_of
from penstock_publish.oauth.grant_store import GrantStore
from penstock_publish.oauth.passwords import (
    SALT_BYTES,
    check_password,
    hash_password,
    is_password,
    needs_renewal,
)
from penstock_publish.oauth.people import ACCOUNT_PREFIX, checked_scope, name_of, subject_of
from penstock_publish.oauth.settings import LoginSettings

__all__ = ["Account", "AccountStore", "account_name", "open_accounts", "owner_is_there"]

_ID_BYTES = 8
_NAME = re.compile(r"[a-z0-9][a-z0-9._@+-]{0,63}")

_metadata = sa.MetaData()
_accounts = sa.Table(
    "accounts",
    _metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("password", sa.Text, nullable=False),
    sa.Column("scope", sa.Text, nullable=False),
    sa.Column("made_at_s", sa.Double, nullable=False),
    sa.Column("account_id", sa.Text, nullable=False, server_default=""),  # empty: made by an earlier version
)
_failures = sa.Table(
    "login_failures",
    _metadata,
    sa.Column("key", sa.Text, primary_key=True),  # account:<name> or address:<network>
    sa.Column("failures", sa.BigInteger, nullable=False),
    sa.Column("since_s", sa.Double, nullable=False),
)


@dataclass(frozen=True, slots=True)
class Account:
    """A person's account; `scope` is all that the person may do, separated by spaces. `password` is its hash.

    `account_id` is given out once: who has the name later is somebody else.
    """

    name: str
    scope: str
    made_at_s: float
    password: str = field(repr=False)
    account_id: str = ""

    @property
    def subject(self) -> str:
        """`sub` of the person's tokens."""
        return subject_of(self.name, self.account_id)


class AccountStore:
    """Accounts in the gateway's database. Times are epoch seconds of the caller's clock."""

    def __init__(self, database: GatewayDatabase, grants: GrantStore, settings: LoginSettings) -> None:
        self.database = database
        self._transaction = database.transaction
        self._grants = grants
        self._settings = settings
        self._nobody: str | None = None  # what the password of nobody is compared with
        database.create(*_metadata.sorted_tables)

    def add(self, name: str, password: str, scope: str, *, now_s: float) -> Account:
        """A new account; `name_taken`, or `bad_request` for a name or password that cannot be."""
        name, scope = account_name(name), checked_scope(scope)
        added = Account(name, scope, now_s, self._hashed(password), secrets.token_hex(_ID_BYTES))
        with self._transaction("adding an account") as connection:
            if connection.execute(sa.select(_accounts.c.name).where(_accounts.c.name == name)).first():
                raise PenstockError(
                    "name_taken", f"there is an account '{name}'; `penstock accounts password {name}` changes it"
                )
            connection.execute(sa.insert(_accounts).values(asdict(added)))
        return added

    def all(self) -> list[Account]:
        """Every account by name."""
        with self._transaction("listing accounts") as connection:
            rows = connection.execute(sa.select(_accounts).order_by(_accounts.c.name)).all()
        return [_account(row) for row in rows]

    def find(self, subject: str) -> Account | None:
        """The account behind `sub` of a token."""
        own = _accounts.c.name == name_of(subject)
        with self._transaction("looking up an account") as connection:
            row = connection.execute(sa.select(_accounts).where(own)).first()
        found = None if row is None else _account(row)
        return found if found is not None and found.subject == subject else None

    def is_current(self, account: Account) -> bool:
        """False if its password or scope has been changed since, or it was removed."""
        return self.find(account.subject) == account

    def remove(self, name: str) -> str:
        """Forget an account; what it has granted and its sessions end. `not_found`. Its `sub`.

        Applications of the person go with `applications.departure`.
        """
        with self._changing(name, "removing an account", forgiven=True) as (connection, account):
            connection.execute(sa.delete(_accounts).where(_accounts.c.name == account.name))
        return account.subject

    def set_password(self, name: str, password: str) -> None:
        """Change a password; what the account has granted and its sessions end. `not_found`, `bad_request`."""
        hashed = self._hashed(password)
        with self._changing(name, "changing a password", forgiven=True) as (connection, account):
            own = _accounts.c.name == account.name
            connection.execute(sa.update(_accounts).where(own).values(password=hashed))

    def set_scope(self, name: str, scope: str) -> Account:
        """Change what a person may do; sessions and grants of before end. `not_found`, `bad_request`."""
        checked = checked_scope(scope)
        with self._changing(name, "changing the scope of an account") as (connection, account):
            own = _accounts.c.name == account.name
            connection.execute(sa.update(_accounts).where(own).values(scope=checked))
        return replace(account, scope=checked)

    def enter(self, name: str, password: str, address: str, *, now_s: float) -> Account | None:
        """The account if the password is its own; `too_many_requests` after too many failures.

        An attempt is counted as a failure before the password is looked at, so that many at once, at several
        replicas, do not get more guesses. A name that is not known takes as long as one that is.
        """
        name = _same_case(name)[:100]
        own, place = f"account:{name}", f"address:{network_of(address)}"
        self._count(own, place, now_s)
        with self._transaction("looking up an account") as connection:
            row = connection.execute(sa.select(_accounts).where(_accounts.c.name == name)).first()
        looked_at = password[: self._settings.password_chars_max + 1]
        kept = row.password if row is not None else self._hash_of_nobody()
        if not is_password(looked_at, kept) or row is None:
            return None
        password_now = row.password
        if needs_renewal(password_now, self._settings):
            password_now = hash_password(looked_at, self._settings, salt=secrets.token_bytes(SALT_BYTES))
        with self._transaction("noting a login") as connection:
            # The address first, as in counting: in another order two logins could wait for each other.
            connection.execute(
                sa.update(_failures)
                .where(_failures.c.key == place, _failures.c.failures > 0)
                .values(failures=_failures.c.failures - 1)
            )
            connection.execute(sa.delete(_failures).where(_failures.c.key == own))
            if password_now != row.password:
                # Over the hash that was looked at only: not over a password that was changed meanwhile.
                unchanged = sa.and_(_accounts.c.name == name, _accounts.c.password == row.password)
                connection.execute(sa.update(_accounts).where(unchanged).values(password=password_now))
        return replace(_account(row), password=password_now)

    @contextmanager
    def _changing(self, name: str, doing: str, *, forgiven: bool = False) -> Iterator[tuple[sa.Connection, Account]]:
        """One that changes, in a transaction; then sessions and grants of before end. `forgiven`: failed logins."""
        name = _same_case(name)
        with self._transaction(doing) as connection:
            if forgiven:  # before the account's row, as in a login: in another order they could wait for each other
                connection.execute(sa.delete(_failures).where(_failures.c.key == f"account:{name}"))
            row = connection.execute(sa.select(_accounts).where(_accounts.c.name == name).with_for_update()).first()
            if row is None:
                raise _unknown(name)
            account = _account(row)
            yield connection, account
        # Not in the transaction: a login under way looks at the account after its session is there, so one of both
        # sees the other.
        self._grants.revoke_all(account.subject)

    def _count(self, own: str, place: str, now_s: float) -> None:
        settings = self._settings
        # The address first: one that must wait counts against no account, or it could go on locking them all.
        limits = {place: settings.failures_address_max, own: settings.failures_account_max}
        wait_s: float | None = None
        with self._transaction("counting logins") as connection:
            _forget_failures(connection, now_s, settings)
            for key, limit in limits.items():
                failures, since_s = _add_failure(connection, key, now_s)
                if failures > limit:
                    wait_s = since_s + settings.failures_window_s - now_s
                    break
        if wait_s is not None:
            raise PenstockError(
                "too_many_requests",
                "too many failed logins; wait, or have the password set anew with `penstock accounts password`",
                retry_after_s=wait_s,
            )

    def _hashed(self, password: str) -> str:
        check_password(password, self._settings)
        return hash_password(password, self._settings, salt=secrets.token_bytes(SALT_BYTES))

    def _hash_of_nobody(self) -> str:
        if self._nobody is None:
            self._nobody = hash_password(
                secrets.token_urlsafe(), self._settings, salt=secrets.token_bytes(SALT_BYTES)
            )
        return self._nobody


def account_name(name: str) -> str:
    """`bad_request` for a name that an account cannot have."""
    name = _same_case(name)
    if not _NAME.fullmatch(name):
        raise PenstockError(
            "bad_request",
            f"'{name[:100]}' cannot be an account's name: take letters a-z, digits and . _ @ + -, 64 at most",
        )
    return name


def owner_is_there(connection: sa.Connection, subject: str) -> bool:
    """False for `sub` of a person whose account is gone; clients are not looked at."""
    if not subject.startswith(ACCOUNT_PREFIX):
        return True
    row = connection.execute(sa.select(_accounts).where(_accounts.c.name == name_of(subject))).first()
    return row is not None and _account(row).subject == subject


def open_accounts(
    data_dir: Path, settings: LoginSettings, database_url: str | None
) -> tuple[AccountStore, Callable[[], None]]:
    """Accounts of a data folder, or of the PostgreSQL database of the URL, and what closes them; for commands."""
    database = open_gateway_database(data_dir, database_url)
    try:
        return AccountStore(database, GrantStore(database), settings), database.close
    except BaseException:
        database.close()
        raise


def _account(row: sa.Row[tuple[object, ...]]) -> Account:
    return Account(row.name, row.scope, row.made_at_s, row.password, row.account_id)


def _same_case(name: str) -> str:
    return name.strip().lower()


def _add_failure(connection: sa.Connection, key: str, now_s: float) -> tuple[int, float]:
    dialect: ModuleType = postgresql if connection.dialect.name == "postgresql" else sqlite
    added = dialect.insert(_failures).values(key=key, failures=1, since_s=now_s)
    counted = added.on_conflict_do_update(index_elements=["key"], set_={"failures": _failures.c.failures + 1})
    row = connection.execute(counted.returning(_failures.c.failures, _failures.c.since_s)).one()
    return row.failures, row.since_s


def _forget_failures(connection: sa.Connection, now_s: float, settings: LoginSettings) -> None:
    connection.execute(sa.delete(_failures).where(_failures.c.since_s <= now_s - settings.failures_window_s))
    newest = sa.select(_failures.c.since_s).order_by(_failures.c.since_s.desc())
    limit = connection.execute(newest.offset(settings.failures_kept_max - 1).limit(1)).scalar()
    if limit is not None:
        connection.execute(sa.delete(_failures).where(_failures.c.since_s <= limit))


def _unknown(name: str) -> PenstockError:
    return PenstockError("not_found", f"there is no account '{name[:100]}'; `penstock accounts list` shows them")
