"""Waiting for roles: until ready, until told to stop, until one of them ends; and the ladder at stop."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from penstock.errors import PenstockError
from penstock.ports.clock import SystemClock
from penstock.role import Check
from penstock_app import launch


class Part:
    """A role without routes that notes when it ends."""

    def __init__(self, name: str, ended: list[str], *, ok: bool = True) -> None:
        self.name = name
        self.ok = ok
        self._ended = ended

    def routes(self) -> Sequence[object]:
        return ()

    def ready(self) -> Sequence[Check]:
        return [Check(self.name, self.ok, "as the test says")]

    async def run(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self._ended.append(self.name)


async def test_a_process_that_never_gets_ready_can_be_stopped():
    stop = asyncio.Event()
    asyncio.get_running_loop().call_later(0.05, stop.set)
    ready = await launch._until_ready([Part("one", [], ok=False)], SystemClock(), running=[], stop=stop)
    assert not ready
    assert await launch._until_ready([Part("one", [])], SystemClock(), running=[], stop=stop)


async def test_a_role_that_ends_before_it_is_ready_is_named():
    async def nothing() -> None:
        return None

    task = asyncio.create_task(nothing(), name="ingest")
    await task
    with pytest.raises(PenstockError, match="role ingest stopped"):
        await launch._until_ready([Part("x", [], ok=False)], SystemClock(), running=[task], stop=asyncio.Event())


async def test_an_extra_that_has_no_more_work_does_not_end_the_process():
    async def nothing() -> None:
        return None

    async def broken() -> None:
        raise PenstockError("log_unavailable", "the disk failed")

    stop = asyncio.Event()
    role = asyncio.create_task(asyncio.Event().wait())
    waiting = asyncio.create_task(launch._first_end(stop, roles=[role], extras=[asyncio.create_task(nothing())]))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    stop.set()
    await asyncio.wait_for(waiting, 5)
    failing = asyncio.create_task(broken())
    await asyncio.wait_for(launch._first_end(asyncio.Event(), roles=[role], extras=[failing]), 5)
    assert isinstance(failing.exception(), PenstockError)
    role.cancel()
    await asyncio.wait([role])
    await asyncio.wait_for(launch._first_end(asyncio.Event(), roles=[role], extras=[]), 5)


async def test_roles_stop_one_after_the_other_and_one_that_hangs_is_cut_off():
    ended: list[str] = []
    stops = {name: asyncio.Event() for name in ("ingest", "stuck", "data")}
    running = {name: asyncio.create_task(Part(name, ended).run(stops[name])) for name in ("ingest", "data")}
    stuck = asyncio.create_task(asyncio.Event().wait())
    await launch._drain({"ingest": running["ingest"], "stuck": stuck, "data": running["data"]}, stops, 0.05)
    assert ended == ["ingest", "data"]
    assert stuck.cancelled()
