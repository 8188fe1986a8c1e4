"""The store over PostgreSQL: the contract, and what only this adapter promises."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from penstock.ports.clock import SystemClock
from penstock.ports.store import Store
from penstock.stores.open import open_store
from penstock.testing.store_contract import StoreContract


class TestPostgresStore(StoreContract):
    """The suite over a fresh database for each test."""

    @pytest.fixture(autouse=True)
    def _database(self, postgres_url: str) -> None:
        self.url = postgres_url

    def open_store(self, *, writable: bool = True) -> Store:
        return open_store(self.url, clock=SystemClock(), writable=writable)

    def other_writers(self) -> Sequence[Store]:
        return [self.open_store()]
