"""Rotates the signing keys: for the running service, in the thread that follows others, and for `penstock keys`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import structlog

from penstock.ports.clock import Clock
from penstock_publish.gateway_database import GatewayDatabase, open_gateway_database
from penstock_publish.oauth.key_schedule import KeyRules, SigningKey, SigningKeys, keys_after
from penstock_publish.oauth.keys import FileKeys, KeyStore, make_key
from penstock_publish.settings import AuthSettings

__all__ = ["KeyKeeper", "key_rules", "open_key_keeper", "open_key_store"]

_DAY_S = 86_400.0
_log = structlog.get_logger(__name__)


class KeyKeeper:
    """The keys of a store and what is due for them. Blocking but for `keys`. Errors as of the store."""

    def __init__(self, store: KeyStore, rules: KeyRules, clock: Clock) -> None:
        self._store = store
        self._rules = rules
        self._clock = clock
        self.keys = SigningKeys(store.load(self._now_s()), clock)

    def follow(self) -> None:
        """Take over what others changed, and change what is due."""
        now_s = self._now_s()
        found = self._store.load(now_s)
        due = keys_after(found, now_s, self._rules, make=make_key)
        if {key.kid for key in due} != {key.kid for key in found}:
            found = self._change(now_s)
        self.keys.replace(found)

    def rotate(self, *, compromised: bool = False) -> list[SigningKey]:
        """Make a new key now, unless one waits already; `compromised`: it signs at once, and alone.

        Returns the keys, the one that signs last at the end.
        """
        found = self._change(self._now_s(), asked=True, compromised=compromised)
        self.keys.replace(found)
        return sorted(found, key=lambda key: key.signs_from_s)

    def _change(self, now_s: float, *, asked: bool = False, compromised: bool = False) -> list[SigningKey]:
        change = partial(
            keys_after, now_s=now_s, rules=self._rules, make=make_key, asked=asked, compromised=compromised
        )
        changed = self._store.change(now_s, change)
        _log.info("signing_keys_changed", keys={key.kid: key.signs_from_s for key in changed})
        return changed

    def _now_s(self) -> float:
        return self._clock.now_ms() / 1000


def key_rules(settings: AuthSettings) -> KeyRules:
    """What the settings say about keys."""
    days = settings.key_rotation_days
    return KeyRules(
        rotation_s=None if days is None else days * _DAY_S,
        publish_s=settings.key_publish_s,
        lifetime_s=settings.token_lifetime_s,
    )


def open_key_store(data_dir: Path, database: GatewayDatabase) -> KeyStore:
    """The file of a data folder, or the shared database."""
    if database.postgres is None:
        return FileKeys(data_dir)
    # Imported here: not needed for a single process.
    from penstock_publish.oauth.shared_keys import SharedKeys

    return SharedKeys(database, data_dir)


def open_key_keeper(
    data_dir: Path, settings: AuthSettings, database_url: str | None, clock: Clock
) -> tuple[KeyKeeper, Callable[[], None]]:
    """Keys of a data folder, or of the PostgreSQL database of the URL, and what closes them; for commands."""
    database = open_gateway_database(data_dir, database_url)
    try:
        return KeyKeeper(open_key_store(data_dir, database), key_rules(settings), clock), database.close
    except BaseException:
        database.close()
        raise
