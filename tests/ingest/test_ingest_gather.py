"""Single events that arrive during an append share the next one, and each gets the reply it would have got alone."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from ingest_edge import ARRIVALS, Edge, HeldLog, MakeEdge, until

from penstock.errors import PenstockError
from penstock.model.position import Cursor, Position
from penstock.testing.clock import ManualClock
from penstock_ingest.gather import Gatherer
from penstock_ingest.settings import IngestSettings


def event(id_: str) -> bytes:
    """One good event."""
    return b'{"id":"%s","ts":0}' % id_.encode()


async def until_requests(edge: Edge, count: int) -> None:
    """Return once so many requests are being answered."""
    await until(lambda: edge.role._http.requests >= count)


async def test_events_that_arrive_during_an_append_share_the_next_one(make_edge: MakeEdge) -> None:
    log = HeldLog(clock=ManualClock())
    edge = await make_edge(log=log)
    log.gate.clear()
    first = asyncio.create_task(edge.post(event("0")))
    await log.until_waiting(1)
    others = [asyncio.create_task(edge.post(event(str(n)))) for n in range(1, 9)]
    await until_requests(edge, 9)
    log.gate.set()
    replies = [reply for _, reply in await asyncio.gather(first, *others)]
    assert all((reply["accepted"], reply["duplicate"], reply["errors"]) == (1, 0, []) for reply in replies)
    batches = await log.read("arrivals", 0, 0, 1 << 20)
    assert [batch.count for batch in batches] == [1, 8]
    # Each cursor names the place after the very event that the request sent.
    stored = await edge.stored()
    for n, reply in enumerate(replies):
        (position,) = reply["positions"]
        assert stored[Cursor.parse("arrivals", position).next[0] - 1] == event(str(n))


async def test_each_of_a_group_gets_its_own_reply_whatever_the_others_are(make_edge: MakeEdge) -> None:
    log = HeldLog(clock=ManualClock())
    edge = await make_edge(log=log)
    log.gate.clear()
    first = asyncio.create_task(edge.post(event("0")))
    await log.until_waiting(1)
    bodies = [
        event("1"),
        b'{"id":"bad","price":"x"}',
        b"",
        event("1"),
        b'{"id":',
        event("2"),
        event("3") + event("4"),
    ]
    others = [asyncio.create_task(edge.post(body)) for body in bodies]
    await until_requests(edge, 1 + len(bodies))
    log.gate.set()
    replies = await asyncio.gather(*others)
    assert [status for status, _ in replies] == [200, 422, 400, 200, 400, 200, 400]
    assert [reply.get("accepted") for _, reply in replies] == [1, 0, None, 0, None, 1, None]
    assert replies[3][1]["duplicate"] == 1
    assert (await first)[1]["accepted"] == 1
    assert sorted(await edge.stored()) == [event("0"), event("1"), event("2")]


async def test_a_group_of_repeated_ids_stores_the_first_and_counts_the_others(make_edge: MakeEdge) -> None:
    log = HeldLog(clock=ManualClock())
    edge = await make_edge(log=log)
    log.gate.clear()
    first = asyncio.create_task(edge.post(event("0")))
    await log.until_waiting(1)
    others = [asyncio.create_task(edge.post(event(name))) for name in ("0", "1", "1", "2", "0")]
    await until_requests(edge, 6)
    log.gate.set()
    await first
    replies = [reply for _, reply in await asyncio.gather(*others)]
    assert [(reply["accepted"], reply["duplicate"]) for reply in replies].count((1, 0)) == 2
    assert all(len(reply["positions"]) == reply["accepted"] for reply in replies)
    assert sorted(await edge.stored()) == [event("0"), event("1"), event("2")]


class FailingLog(HeldLog):
    """Refuses the second append."""

    appends = 0

    async def append(self, *batches: Any) -> list[Position]:
        self.appends += 1
        if self.appends == 2:
            raise PenstockError("log_full", "no room", retry_after_s=1)
        return await super().append(*batches)


async def test_a_group_that_cannot_be_written_is_refused_to_all(make_edge: MakeEdge) -> None:
    log = FailingLog(clock=ManualClock())
    edge = await make_edge(log=log)
    log.gate.clear()
    first = asyncio.create_task(edge.post(event("0")))
    await log.until_waiting(1)
    others = [asyncio.create_task(edge.post(event(str(n)))) for n in range(1, 5)]
    await until_requests(edge, 5)
    log.gate.set()
    assert (await first)[0] == 200
    assert [status for status, _ in await asyncio.gather(*others)] == [503] * 4
    assert (await edge.post(event("1")))[1]["accepted"] == 1
    assert sorted(await edge.stored()) == [event("0"), event("1")]


async def test_single_events_of_a_partitioned_stream_keep_their_partitions(make_edge: MakeEdge) -> None:
    edge = await make_edge(replace(ARRIVALS, partitions=4))
    replies = await asyncio.gather(*(edge.post(event(str(n))) for n in range(20)))
    assert all(reply["accepted"] == 1 and len(reply["positions"]) == 1 for _, reply in replies)
    stored = [line for partition in range(4) for line in await edge.stored(partition=partition)]
    assert sorted(stored) == sorted(event(str(n)) for n in range(20))


async def test_more_than_may_wait_are_answered_429(make_edge: MakeEdge) -> None:
    log = HeldLog(clock=ManualClock())
    edge = await make_edge(log=log, settings=IngestSettings(gather_waiting_max=1))
    log.gate.clear()
    first = asyncio.create_task(edge.post(event("0")))
    await log.until_waiting(1)
    second = asyncio.create_task(edge.post(event("1")))
    await until_requests(edge, 2)
    status, reply = await edge.post(event("2"))
    assert (status, reply["code"]) == (429, "too_many_requests")
    log.gate.set()
    assert [status for status, _ in await asyncio.gather(first, second)] == [200, 200]


async def test_a_fault_in_storing_reaches_every_caller() -> None:
    async def broken(texts: object, traces: object) -> list[int]:
        raise ValueError("a fault")

    gatherer = Gatherer[int](broken, group_max=10, waiting_max=10, retry_after_s=1)
    for reply in [gatherer.add(b"1"), gatherer.add(b"2")]:
        with pytest.raises(ValueError, match="a fault"):
            await reply


async def test_groups_are_no_greater_than_allowed_and_keep_the_order() -> None:
    groups: list[list[bytes]] = []

    async def store(texts: object, traces: object) -> list[bytes]:
        groups.append(list(texts))  # type: ignore[call-overload]  # what the gatherer hands over
        return groups[-1]

    gatherer = Gatherer[bytes](store, group_max=2, waiting_max=10, retry_after_s=1)
    replies = [gatherer.add(b"%d" % n) for n in range(5)]
    assert await asyncio.gather(*replies) == [b"0", b"1", b"2", b"3", b"4"]
    assert groups == [[b"0", b"1"], [b"2", b"3"], [b"4"]]
