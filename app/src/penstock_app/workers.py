"""Worker processes of the role publish on one port: started one after the other, watched, replaced, stopped together.

The kernel spreads new connections over the workers (SO_REUSEPORT). Each reads the log by itself; what they must agree
on (keys, clients, grants, revocations, tickets) is in the store's database. This process serves nobody.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

import structlog

from penstock.errors import PenstockError
from penstock.http.listener import Listener
from penstock.http.worker_metrics import METRICS_FOLDER, forget_process
from penstock.stores.open import is_postgres_url
from penstock_app.settings import PenstockSettings

__all__ = ["check_workers", "stop_with_parent", "supervise"]

#: Pause before a worker that ended is started again.
RESTART_S = 1.0
#: What workers get beyond `http.drain_s` before they are killed.
GRACE_S = 10.0

_log = structlog.get_logger(__name__)


def check_workers(settings: PenstockSettings, roles: Sequence[str]) -> None:
    """`bad_request` where several workers cannot be: other roles in the process, or nothing that they could share."""
    if list(roles) != ["publish"]:
        raise PenstockError(
            "bad_request",
            "publish.workers is for a process of the role publish alone: penstock run --role publish --workers N",
        )
    if not is_postgres_url(settings.store_address):
        raise PenstockError(
            "bad_request",
            "publish.workers needs a PostgreSQL store, in which workers share keys, clients and revocations: name it "
            "with --store postgresql://user@host/database (docs/operations.md), or leave --workers away, since "
            "over files one process serves the port",
        )


async def supervise(
    settings: PenstockSettings, arguments: Sequence[str], *, on_ready: Callable[[str], Awaitable[None]]
) -> None:
    """Run `settings.publish.workers` processes of the program with `arguments` until SIGINT or SIGTERM.

    PenstockError if one ends before it was ready the first time; later one that ends is replaced.
    """
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    with ExitStack() as stack:
        probe = Listener(settings.http)  # refuses what each worker would refuse, and a port that is in use
        await probe.close()
        http = settings.http.model_copy(update={"port": probe.port})
        held = Listener(http, shared=True)  # keeps the port while no worker listens
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="penstock-workers-")))
        command = [sys.executable, "-m", "penstock_app", *arguments, "--port", str(probe.port)]
        workers = _Workers(command, folder, stop=stop, patience_s=settings.http.drain_s + GRACE_S)
        try:
            await workers.start(settings.publish.workers)
            if not stop.is_set():
                await on_ready(probe.url)
            await stop.wait()
        finally:
            await workers.close()
            await held.close()


def stop_with_parent(stop: asyncio.Event) -> None:
    """In a worker: end as if told to when the process that started it is gone, which closes standard input."""
    loop, descriptor = asyncio.get_running_loop(), sys.stdin.fileno()

    def look() -> None:
        if not os.read(descriptor, 1):
            loop.remove_reader(descriptor)
            stop.set()

    loop.add_reader(descriptor, look)


class _Workers:
    """The processes and those that watch them."""

    def __init__(self, command: Sequence[str], folder: Path, *, stop: asyncio.Event, patience_s: float) -> None:
        self._command = command
        self._folder = folder
        self._stop = stop
        self._patience_s = patience_s
        self._processes: dict[int, asyncio.subprocess.Process] = {}
        self._watching: list[asyncio.Task[None]] = []

    async def start(self, count: int) -> None:
        """One after the other: the first makes what is missing in the data folder, the others find it."""
        for number in range(1, count + 1):
            if self._stop.is_set():
                return
            process = await self._start(number)
            if process.returncode is not None:
                if self._stop.is_set():
                    return
                detail = f"worker {number} ended with {process.returncode} before it was ready; see the log above"
                raise PenstockError("internal", detail)
            self._watching.append(asyncio.create_task(self._watch(number, process)))

    async def close(self) -> None:
        """Tell all to stop, wait for them, kill who does not."""
        for task in self._watching:
            task.cancel()
        await asyncio.gather(*self._watching, return_exceptions=True)
        running = [process for process in self._processes.values() if process.returncode is None]
        for process in running:
            with suppress(ProcessLookupError):
                process.terminate()
        try:
            async with asyncio.timeout(self._patience_s):
                await asyncio.gather(*(process.wait() for process in running))
        except TimeoutError:
            for process in running:
                with suppress(ProcessLookupError):
                    process.kill()
            await asyncio.gather(*(process.wait() for process in running))

    async def _start(self, number: int) -> asyncio.subprocess.Process:
        """A worker that is ready, or that has ended."""
        process = await asyncio.create_subprocess_exec(
            *self._command,
            "--worker",
            str(number),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, METRICS_FOLDER: str(self._folder)},
        )
        self._processes[number] = process
        assert process.stdout is not None
        async for line in process.stdout:
            if line.startswith(b"Ready: "):
                _log.info("worker_ready", worker=number, process=process.pid)
                return process
        await process.wait()
        return process

    async def _watch(self, number: int, process: asyncio.subprocess.Process) -> None:
        while True:
            code = await process.wait()
            if self._stop.is_set():
                return
            _log.warning("worker_ended", worker=number, process=process.pid, code=code)
            await asyncio.to_thread(forget_process, self._folder, process.pid)
            await asyncio.sleep(RESTART_S)
            process = await self._start(number)
