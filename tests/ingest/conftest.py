"""A gateway on a real socket over the memory log."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any, cast

import aiohttp
import pytest
from ingest_edge import ARRIVALS, Edge, MakeEdge

from penstock.http.access import Access
from penstock.http.listener import HttpSettings, Listener
from penstock.logs.memory import MemoryLog
from penstock.model.stream import StreamSpec
from penstock.observe.traces import Traces
from penstock.ports.store import Store
from penstock.role import Ports
from penstock.testing.access import OpenAccess
from penstock.testing.clock import ManualClock
from penstock_ingest.service import build
from penstock_ingest.settings import IngestSettings


@pytest.fixture
async def make_edge() -> AsyncIterator[MakeEdge]:
    """Start gateways: `make_edge(*specs, settings=, access=, log=)`."""
    async with AsyncExitStack() as stack:

        async def make(
            *specs: StreamSpec,
            settings: IngestSettings | None = None,
            access: Access | None = None,
            log: Any = None,
            clock: ManualClock | None = None,
            traces: Traces | None = None,
        ) -> Edge:
            clock = clock or ManualClock()
            log = log or MemoryLog(clock=clock)
            await log.put_app("app", "", specs or (ARRIVALS,), None)
            # The gateway has no use for a store.
            ports = Ports(log, cast(Store, None), clock, access or OpenAccess(), traces or Traces())
            role = build(settings or IngestSettings(), ports)
            listener = Listener(HttpSettings(port=0, drain_s=1))
            await listener.serve(role.routes())
            stack.push_async_callback(listener.close)
            http = await stack.enter_async_context(aiohttp.ClientSession(listener.url))
            return Edge(role, log, clock, http)

        yield make


@pytest.fixture
async def edge(make_edge: MakeEdge) -> Edge:
    """A gateway with the stream `arrivals`."""
    return await make_edge()
