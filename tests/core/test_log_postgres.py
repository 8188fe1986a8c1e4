"""The PostgreSQL adapter holds the contract of the log port, with and without its tail cache."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from penstock.logs.postgres import PostgresLog
from penstock.ports.log import Log
from penstock.testing.clock import ManualClock
from penstock.testing.log_contract import LogContract
from penstock.testing.log_contract_pair import PairContract, WritersContract
from penstock.testing.log_contract_streams import StreamContract
from penstock.testing.log_fixtures import SETTINGS


class TestPostgresLog(LogContract):
    @pytest.fixture
    async def log(self, clock: ManualClock, postgres_url: str) -> AsyncIterator[Log]:
        log = await PostgresLog.open(postgres_url, clock=clock, settings=SETTINGS)
        yield log
        await log.close()

    async def silence(self, clock: ManualClock, seconds: float) -> None:
        await asyncio.sleep(seconds)  # members live by the database's clock


class TestPostgresLogFromDisk(StreamContract):
    """Every read goes to the database."""

    @pytest.fixture
    async def log(self, clock: ManualClock, postgres_url: str) -> AsyncIterator[Log]:
        settings = SETTINGS.model_copy(update={"tail_cache_bytes": 0})
        log = await PostgresLog.open(postgres_url, clock=clock, settings=settings)
        yield log
        await log.close()


class TestTwoPostgresLogs(PairContract, WritersContract):
    """Two processes of a cluster, as far as the database can tell."""

    @pytest.fixture
    async def log(self, clock: ManualClock, postgres_url: str) -> AsyncIterator[Log]:
        log = await PostgresLog.open(postgres_url, clock=clock, settings=SETTINGS)
        yield log
        await log.close()

    @pytest.fixture
    async def other(self, clock: ManualClock, postgres_url: str) -> AsyncIterator[Log]:
        log = await PostgresLog.open(postgres_url, clock=clock, settings=SETTINGS)
        yield log
        await log.close()
