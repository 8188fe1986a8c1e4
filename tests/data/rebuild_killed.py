"""Run by a test in a process of its own, to be killed: rebuilds `lots`, one small step a line, then says `done`."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import structlog

from penstock.logs.sqlite import SqliteLog
from penstock.ports.clock import SystemClock
from penstock.stores.open import open_store
from penstock_data.rebuilder import Rebuilder
from penstock_data.settings import ApplierSettings


async def main(folder: str) -> None:
    log = await SqliteLog.open(Path(folder), roles=frozenset(), clock=SystemClock())
    store = open_store(f"sqlite:///{folder}", clock=SystemClock())
    settings = ApplierSettings(read_max_batches=4)
    rebuilder = Rebuilder(log, store, clock=SystemClock(), settings=settings)
    await rebuilder.rebuild("lots", on_progress=lambda progress: print(progress.done, flush=True))
    print("done", flush=True)
    await store.close()
    await log.close()


if __name__ == "__main__":
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    asyncio.run(main(sys.argv[1]))
