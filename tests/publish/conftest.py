"""A publish gateway on a free loopback port, with the clock in the test's hands."""

import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web

from penstock.testing.clock import ManualClock
from penstock_publish.authority import Authority


def loopback_socket() -> socket.socket:
    """A bound socket on a free port, so that the URL is known before the server is."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", 0))
    return sock


def url_of(sock: socket.socket) -> str:
    return f"http://127.0.0.1:{sock.getsockname()[1]}"


@asynccontextmanager
async def serving(sock: socket.socket, routes: Sequence[web.AbstractRouteDef]) -> AsyncIterator[str]:
    """Serve routes until the block ends."""
    application = web.Application()
    application.add_routes(routes)
    runner = web.AppRunner(application, shutdown_timeout=1)
    await runner.setup()
    await web.SockSite(runner, sock).start()
    try:
        yield url_of(sock)
    finally:
        await runner.cleanup()


def a_token(authority: Authority, scope: str, *, client_id: str = "tester") -> str:
    """A token without a round trip."""
    assert authority.embedded is not None
    return authority.embedded.issuer.issue(client_id, scope)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(1_700_000_000_000)


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:
        yield session
