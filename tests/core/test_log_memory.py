"""The memory adapter holds the contract of the log port."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from penstock.logs.memory import MemoryLog
from penstock.ports.log import Log
from penstock.testing.clock import ManualClock
from penstock.testing.log_contract import LogContract
from penstock.testing.log_fixtures import SETTINGS


class TestMemoryLog(LogContract):
    @pytest.fixture
    async def log(self, clock: ManualClock) -> AsyncIterator[Log]:
        log = MemoryLog(clock=clock, settings=SETTINGS)
        yield log
        await log.close()
