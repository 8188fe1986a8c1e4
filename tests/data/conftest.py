"""A harness over a store of its own, and the role's routes on a free port of the loopback interface."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from data_harness import Harness

from penstock.ports.clock import SystemClock
from penstock.stores.open import open_store
from penstock_data.service import DataRole


@pytest.fixture(params=["sqlite", "postgres"])
async def harness(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Harness]:
    """Every test runs over both databases: a query means the same in each."""
    url = f"sqlite:///{tmp_path}" if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    store = open_store(url, clock=SystemClock())
    yield Harness(store, url)
    await store.close()


@pytest.fixture
async def serve() -> AsyncIterator[Callable[[DataRole], Any]]:
    """`await serve(role)`: a client of the role's routes on a real socket."""
    clients: list[TestClient[Any, Any]] = []

    async def start(role: DataRole) -> TestClient[Any, Any]:
        app = web.Application()
        app.add_routes(list(role.routes()))
        client = TestClient(TestServer(app))
        await client.start_server()
        clients.append(client)
        return client

    yield start
    for client in clients:
        await client.close()
