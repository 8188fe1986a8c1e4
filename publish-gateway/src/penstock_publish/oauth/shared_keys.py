"""Signing keys in the store's PostgreSQL database, shared by replicas. Blocking."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import sqlalchemy as sa

from penstock_publish.gateway_database import GatewayDatabase
from penstock_publish.oauth.key_schedule import SigningKey
from penstock_publish.oauth.keys import Change, key_record, make_key, signing_key_of, signing_keys_in

__all__ = ["SharedKeys"]

_LOCK = int.from_bytes(b"sign_key", "big") >> 1

_keys = sa.Table(
    "signing_keys",
    sa.MetaData(),
    sa.Column("kid", sa.Text, primary_key=True),
    sa.Column("jwk", sa.Text, nullable=False),
    sa.Column("made_at", sa.DateTime(timezone=True), nullable=False),
)


class SharedKeys:
    """Implements `oauth.keys.KeyStore`. Errors: `store_unavailable`."""

    def __init__(self, database: GatewayDatabase, data_dir: Path) -> None:
        assert database.postgres is not None, "opened with the URL of a PostgreSQL database"
        self._data_dir = data_dir
        self._address = database.postgres.address
        self._transaction = database.transaction

    def load(self, now_s: float) -> list[SigningKey]:
        """The keys of all replicas."""
        with self._transaction("reading the signing keys") as connection:
            found = self._found(connection)
        return found or self.change(now_s, lambda keys: keys)

    def change(self, now_s: float, change: Change) -> list[SigningKey]:
        """As `KeyStore.change`; replicas wait for each other. The first key may be that of the data folder."""
        with self._transaction("changing the signing keys") as connection:
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
            before = self._found(connection)
            after = list(change(before or signing_keys_in(self._data_dir) or [make_key(now_s)]))
            self._write(connection, before, after, now_s)
        return after

    def _found(self, connection: sa.Connection) -> list[SigningKey]:
        rows = connection.execute(sa.select(_keys).order_by(_keys.c.made_at, _keys.c.kid)).all()
        # A row of an earlier version does not say since when it signs: since it was made.
        return [
            signing_key_of(json.loads(row.jwk), self._address, signs_from_s=row.made_at.timestamp()) for row in rows
        ]

    def _write(
        self, connection: sa.Connection, before: Sequence[SigningKey], after: Sequence[SigningKey], now_s: float
    ) -> None:
        known = {key.kid for key in before}
        gone = known - {key.kid for key in after}
        if gone:
            connection.execute(sa.delete(_keys).where(_keys.c.kid.in_(gone)))
        for key in after:
            if key.kid not in known:
                made_at = datetime.fromtimestamp(now_s, UTC)
                row = {"kid": key.kid, "jwk": json.dumps(key_record(key)), "made_at": made_at}
                connection.execute(sa.insert(_keys).values(row))
