"""Run by tests in a process of its own, to be killed or to have its disk fail: appends one event after the other.

Arguments: folder or URL of the log, settings as JSON, seconds to go on for, and what its events begin with. Writes a
line for each outcome: `ready`, `ok <n>` when the append of event n was acknowledged, `<code> <n>` when it was
refused, and at the end `failure <reason>`.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from pathlib import Path

import structlog

from penstock.errors import PenstockError
from penstock.logs.open import open_log
from penstock.logs.settings import LogSettings
from penstock.logs.sqlite import SqliteLog
from penstock.ports.clock import SystemClock
from penstock.ports.log import Log
from penstock.testing.log_fixtures import APP, new_batch, source


def say(line: str) -> None:
    os.write(1, f"{line}\n".encode())


async def opened(place: str, settings: LogSettings) -> Log:
    if "://" in place:
        return await open_log(place, roles=frozenset({"ingest", "processor"}), clock=SystemClock(), settings=settings)
    return await SqliteLog.open(Path(place), clock=SystemClock(), settings=settings)


async def main(place: str, settings: str, seconds: str, prefix: str = "") -> None:
    log = await opened(place, LogSettings(**json.loads(settings)))
    await log.put_app(APP, "", [source()], None)
    say("ready")
    until = time.monotonic() + float(seconds)
    n = 0
    while time.monotonic() < until:
        try:
            await log.append([new_batch("arrivals", 1, payload=f"{prefix}{n}".encode())])
            say(f"ok {n}")
        except PenstockError as error:
            say(f"{error.code} {n}")
            await asyncio.sleep(0.002)
        n += 1
    say(f"failure {log.failure()}")
    await log.close()


if __name__ == "__main__":
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))  # standard output is for outcomes
    asyncio.run(main(*sys.argv[1:]))
