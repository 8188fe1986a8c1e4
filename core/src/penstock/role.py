"""A role of a process, and the ports that the roles of one process share."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from aiohttp import web

from penstock.http.access import Access
from penstock.observe.traces import Traces
from penstock.ports.clock import Clock
from penstock.ports.inlet import Inlet
from penstock.ports.log import Log
from penstock.ports.store import Store

__all__ = ["Check", "LogPorts", "Ports", "Role"]


@dataclass(frozen=True, slots=True)
class Ports:
    """Opened once per process by `app`; every role gets the same ones."""

    log: Log
    store: Store
    clock: Clock
    access: Access
    traces: Traces = field(default_factory=Traces)
    inlet: Inlet | None = None  # where the log has one


class LogPorts(Protocol):
    """Those of the ports that accepting events needs; `Ports` has them all."""

    @property
    def log(self) -> Log:
        """Where events are appended."""
        ...

    @property
    def clock(self) -> Clock:
        """What event times are judged by."""
        ...

    @property
    def inlet(self) -> Inlet | None:
        """What other producers leave, where the log has that."""
        ...


@dataclass(frozen=True, slots=True)
class Check:
    """One part of `/readyz`."""

    name: str
    ok: bool
    detail: str


class Role(Protocol):
    """What `build(settings, ports)` of each service returns. `app` mounts the routes and runs it."""

    name: str

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """HTTP routes of this role, mounted on one listener or on its own."""
        ...

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set, then finish what was begun and return. Raises when the role cannot go on."""
        ...

    def ready(self) -> Sequence[Check]:
        """State of this role's parts, cheap and without I/O."""
        ...
