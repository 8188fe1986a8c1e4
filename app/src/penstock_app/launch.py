"""Start, run and stop a process: listen, open the ports, build the roles, deploy, wait, drain.

From the first moment `/livez` answers 200 and `/readyz` 503 with what is missing. The ladder at stop: ingest first
(nothing new comes in), then processor, publish and data, all within `drain_s`.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from penstock.errors import LogUnavailable, PenstockError
from penstock.http.listener import Listener, health_routes
from penstock.ports.clock import Clock
from penstock.role import Check, Role
from penstock_app.api import CLIENT_FILE, Api, read_credentials
from penstock_app.appfiles import AppFile, deploy_files, watch_files
from penstock_app.roles import ROLES, OpenedRoles
from penstock_app.samples import feed_samples
from penstock_app.settings import PenstockSettings
from penstock_app.starting import open_when_possible
from penstock_app.workers import stop_with_parent

if TYPE_CHECKING:
    from penstock_processor.service import ProcessorRole

__all__ = ["Launch", "deploy_when_possible", "serve"]

LOG_WATCH_S = 0.2
SAY_WAITING_EVERY_S = 5.0
#: What a role gets at least to finish, when those before it have used the time up.
CUT_OFF_S = 0.5

log = structlog.get_logger()

#: Called once when everything answers: the listener's URL.
OnReady = Callable[[str], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Launch:
    """What `penstock up` or `penstock run` was asked for."""

    settings: PenstockSettings
    clock: Clock
    apps: Sequence[AppFile] = ()
    watch: bool = False
    sample_folders: Sequence[Path] = ()
    roles: Collection[str] = ROLES
    worker: int | None = None  # the number of this process among workers that share the port

    def public_url(self, own_url: str) -> str:
        """The issuer of tokens: as set, else where the role publish answers."""
        services = self.settings.services
        return self.settings.public_url or (own_url if "publish" in self.roles else services.url_of("publish"))


async def serve(launch: Launch, *, on_ready: OnReady, stop: asyncio.Event | None = None) -> None:
    """Run the roles until SIGINT, SIGTERM or `stop`. PenstockError when the process cannot start or go on."""
    stop = stop or asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    if launch.worker is not None:
        stop_with_parent(stop)
    async with AsyncExitStack() as stack:
        listener = Listener(launch.settings.http, shared=launch.worker is not None)
        stack.push_async_callback(listener.close)
        opened = await open_when_possible(
            launch.settings,
            launch.roles,
            listener,
            public_url=launch.public_url(listener.url),
            clock=launch.clock,
            stack=stack,
            stop=stop,
        )
        if opened is not None:
            await _run(launch, listener, opened, on_ready=on_ready, stop=stop)


async def _run(
    launch: Launch, listener: Listener, opened: OpenedRoles, *, on_ready: OnReady, stop: asyncio.Event
) -> None:
    stops = {role.name: asyncio.Event() for role in opened.roles}
    running = {role.name: asyncio.create_task(role.run(stops[role.name]), name=role.name) for role in opened.roles}
    extras: list[asyncio.Task[None]] = []
    try:
        # Before the routes are open: until then a sender is told to wait, not that its stream does not exist.
        if opened.processor is not None and launch.apps:
            await deploy_when_possible(opened.processor, launch, stop=stop, log_failure=opened.log_failure)
        routes = [route for role in opened.roles for route in opened.routes_of(role)]
        await listener.serve(
            [
                *opened.routes,
                *routes,
                *health_routes(
                    lambda: [*ready_checks(opened.roles), *_worker(launch)],
                    opened.access,
                    launch.settings.http.probe_networks,
                ),
            ]
        )
        if await _until_ready(opened.roles, launch.clock, running=list(running.values()), stop=stop):
            await on_ready(listener.url)
        if launch.watch and opened.processor is not None:
            extras.append(
                asyncio.create_task(watch_files(opened.processor, launch.apps, launch.settings, launch.clock))
            )
        if launch.sample_folders:
            extras.append(asyncio.create_task(_feed(launch)))
        extras.append(asyncio.create_task(_watch_log(opened, launch.clock)))
        await _first_end(stop, roles=list(running.values()), extras=extras)
    finally:
        for task in extras:
            task.cancel()
        await asyncio.gather(*extras, return_exceptions=True)
        await _drain(running, stops, launch.settings.http.drain_s)
    for task in [*running.values(), *extras]:
        if not task.cancelled() and (error := task.exception()):
            raise error
    if not stop.is_set():
        raise PenstockError("internal", "a role stopped by itself, so this process ends; see the log above")


def _worker(launch: Launch) -> list[Check]:
    """Which of the workers answers, where there are several."""
    return [] if launch.worker is None else [Check("worker", True, f"{launch.worker}, process {os.getpid()}")]


async def deploy_when_possible(
    processor: ProcessorRole, launch: Launch, *, stop: asyncio.Event, log_failure: Callable[[], str | None]
) -> None:
    """Deploy the app files; again while the log cannot take them, as a broker that has just started cannot."""
    said_at_s: float | None = None
    while not stop.is_set():
        try:
            await deploy_files(processor, launch.apps, launch.settings.data)
        except LogUnavailable as error:
            if log_failure() is not None:  # for good: a sync that failed
                raise
            if said_at_s is None or launch.clock.monotonic_s() - said_at_s >= SAY_WAITING_EVERY_S:
                said_at_s = launch.clock.monotonic_s()
                log.warning("cannot_deploy_yet", code=error.code, detail=error.detail)
        else:
            return
        await launch.clock.sleep(launch.settings.services.open_retry_s)


def ready_checks(roles: Sequence[Role]) -> list[Check]:
    """The parts of `/readyz`, all roles together."""
    return [check for role in roles for check in role.ready()]


async def _until_ready(
    roles: Sequence[Role], clock: Clock, *, running: Sequence[asyncio.Task[None]], stop: asyncio.Event
) -> bool:
    """False when it was told to stop before; says now and then what it is waiting for."""
    say_at_s = clock.monotonic_s() + SAY_WAITING_EVERY_S
    while missing := [check for check in ready_checks(roles) if not check.ok]:
        if stop.is_set():
            return False
        if clock.monotonic_s() >= say_at_s:
            say_at_s += SAY_WAITING_EVERY_S
            log.warning("not_ready_yet", waiting_for={check.name: check.detail for check in missing})
        for task in running:
            if task.done():
                await task  # raises what stopped it
                raise PenstockError("internal", f"role {task.get_name()} stopped before it was ready")
        await clock.sleep(0.01)
    return True


async def _first_end(
    stop: asyncio.Event, *, roles: Sequence[asyncio.Task[None]], extras: Sequence[asyncio.Task[None]]
) -> None:
    """Return when it is told to stop, a role has ended or an extra has failed; an extra may run out of work."""
    stopping = asyncio.create_task(stop.wait())
    waiting: set[asyncio.Task[Any]] = {stopping, *roles, *extras}
    try:
        while True:
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if stopping in done or any(task in roles or task.exception() for task in done):
                return
    finally:
        stopping.cancel()


async def _drain(running: dict[str, asyncio.Task[None]], stops: dict[str, asyncio.Event], drain_s: float) -> None:
    """Stop one after the other; who has not finished when `drain_s` are over is cut off."""
    until_s = asyncio.get_running_loop().time() + drain_s
    for name, task in running.items():
        stops[name].set()
        left_s = max(CUT_OFF_S, until_s - asyncio.get_running_loop().time())
        _, late = await asyncio.wait([task], timeout=left_s)
        if late:
            log.warning("role_did_not_drain", role=name, after_s=drain_s)
            task.cancel()
            await asyncio.wait([task], timeout=drain_s)


async def _watch_log(opened: OpenedRoles, clock: Clock) -> None:
    """Raise when the log has failed for good (a sync that failed): nothing can be acknowledged any more."""
    while (failure := opened.log_failure()) is None:
        await clock.sleep(LOG_WATCH_S)
    raise LogUnavailable(f"the log failed and this process ends: {failure}; check the disk, then start again")


async def _feed(launch: Launch) -> None:
    """Feed the samples through the public door; the role publish may still be about to write its client."""
    while not (launch.settings.data / CLIENT_FILE).exists():
        await launch.clock.sleep(LOG_WATCH_S)
    async with Api.open(read_credentials(launch.settings.data)) as api:
        await feed_samples(api, list(launch.sample_folders), launch.settings.sample, clock=launch.clock)
