"""Before a log or store on a server can be opened: alive, not ready, why, and stoppable."""

from __future__ import annotations

import asyncio
import socket
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import pytest

from penstock.errors import PenstockError
from penstock.http.listener import HttpSettings, Listener
from penstock.ports.clock import SystemClock
from penstock_app.services_settings import ServicesSettings
from penstock_app.settings import PenstockSettings, load_settings, with_default_port
from penstock_app.starting import open_when_possible


def settings(folder: Path, log_url: str) -> PenstockSettings:
    return PenstockSettings(data=folder, log_url=log_url, services=ServicesSettings(open_retry_s=0.02))


async def opened(made: PenstockSettings, stop: asyncio.Event, listener: Listener) -> object:
    async with AsyncExitStack() as stack:
        return await open_when_possible(
            made, ("ingest",), listener, public_url=listener.url, clock=SystemClock(), stack=stack, stop=stop
        )


async def test_a_server_that_is_away_is_waited_for_and_said_to_be(tmp_path: Path):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        place = f"127.0.0.1:{nobody.getsockname()[1]}"
        listener, stop = Listener(HttpSettings(port=0, drain_s=0.2)), asyncio.Event()
        task = asyncio.create_task(
            opened(settings(tmp_path, f"postgresql://penstock@{place}/penstock"), stop, listener)
        )
        await asyncio.sleep(0)
        async with asyncio.timeout(20), aiohttp.ClientSession(listener.url) as client:
            detail = ""
            while place.rpartition(":")[2] not in detail:
                async with client.get("/readyz") as reply:
                    assert reply.status == 503
                    detail = (await reply.json())["parts"]["log and store"]["detail"]
            async with client.get("/livez") as reply:
                assert reply.status == 200
            async with client.post("/v1/streams/x/events") as reply:
                assert (reply.status, reply.headers["Retry-After"]) == (503, "1")
                assert (await reply.json(content_type=None))["code"] == "not_ready"
        assert not task.done()
        stop.set()
        assert await asyncio.wait_for(task, 10) is None
        await listener.close()


async def test_a_file_that_cannot_be_opened_does_not_heal_by_waiting(tmp_path: Path):
    (tmp_path / "ingest.db").write_bytes(b"no database at all" * 500)
    listener = Listener(HttpSettings(port=0, drain_s=0.2))
    with pytest.raises(PenstockError, match=r"ingest\.db"):
        await asyncio.wait_for(opened(settings(tmp_path, f"sqlite:///{tmp_path}"), asyncio.Event(), listener), 10)
    await listener.close()


@pytest.mark.parametrize(
    ("roles", "port"),
    [(("ingest",), 8081), (("data",), 8083), (("ingest", "processor"), 8081), (("data", "publish"), 8080)],
)
def test_a_role_has_a_port_of_its_own_unless_one_is_given(roles: tuple[str, ...], port: int):
    assert with_default_port(load_settings(None, {}), roles).http.port == port
    assert with_default_port(load_settings(None, {"http": {"port": 9000}}), roles).http.port == 9000
