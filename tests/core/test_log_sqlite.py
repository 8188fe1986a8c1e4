"""The SQLite adapter holds the contract of the log port, with and without its tail cache."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from penstock.logs.sqlite import SqliteLog
from penstock.ports.log import Log
from penstock.testing.clock import ManualClock
from penstock.testing.log_contract import LogContract
from penstock.testing.log_fixtures import SETTINGS


class TestSqliteLog(LogContract):
    @pytest.fixture
    async def log(self, clock: ManualClock, tmp_path: Path) -> AsyncIterator[Log]:
        log = await SqliteLog.open(tmp_path / "log", clock=clock, settings=SETTINGS)
        yield log
        await log.close()


class TestSqliteLogFromDisk(LogContract):
    """Every read goes to the file."""

    @pytest.fixture
    async def log(self, clock: ManualClock, tmp_path: Path) -> AsyncIterator[Log]:
        settings = SETTINGS.model_copy(update={"tail_cache_bytes": 0})
        log = await SqliteLog.open(tmp_path / "log", clock=clock, settings=settings)
        yield log
        await log.close()
