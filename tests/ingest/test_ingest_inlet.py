"""The inlet without a broker: who admits, what is made of records, and orders that wait for their time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import cast

import msgspec
import pytest
from ingest_edge import ARRIVALS

from penstock.codecs.ndjson import decode_lines
from penstock.logs.memory import MemoryLog
from penstock.logs.memory_inlet import MemoryInlet, MemoryInletTopics
from penstock.model.stream import StreamSpec
from penstock.ports.clock import SystemClock
from penstock.ports.inlet import InletRecord, NewInletRecord, Taken
from penstock.ports.log import RejectedFilter
from penstock.ports.store import Store
from penstock.role import Ports
from penstock.testing.access import OpenAccess
from penstock_ingest.body import Form
from penstock_ingest.inlet_notes import Note, note_of
from penstock_ingest.inlet_reading import pieces_of
from penstock_ingest.service import IngestRole
from penstock_ingest.settings import IngestSettings, InletSettings
from penstock_ingest.standing import decide

QUICK = InletSettings(beat_s=0.01, ttl_s=0.1, poll_s=0.01, retry_s=0.01, records_max=7)
WIDE = replace(ARRIVALS, partitions=3)
AT = "2026-01-02T03:04:05Z"


def event(id_: str, **more: object) -> bytes:
    return msgspec.json.encode({"id": id_, "market": f"m{len(id_)}", "price": 1.5, "lots": 1, "ts": AT} | more)


@pytest.mark.parametrize(
    ("members", "joined_s", "expected"),
    [
        (["b"], 0.0, (True, True, True)),
        (["a", "b"], 0.0, (False, False, False)),
        (["a", "b"], 2.5, (False, False, True)),
        (["b", "c"], 0.0, (True, False, False)),
        (["b", "c"], 9.0, (True, False, True)),
        ([], 9.0, (False, False, True)),
    ],
)
def test_the_oldest_gateway_admits_once_it_has_looked_around(
    members: Sequence[str], joined_s: float, expected: tuple[bool, bool, bool]
) -> None:
    made = decide(members, "b", joined_s=joined_s, settings=InletSettings())
    assert (made.admits, made.is_alone, made.is_settled) == expected


def test_an_order_stands_alone_and_positions_go_on() -> None:
    order = Note(through_ms=5, after=(1, 2)).header()
    records = [InletRecord(n, b"{}", order if n == 12 else {"penstock": b"theirs"}) for n in (10, 11, 12, 15)]
    pieces = pieces_of(Taken("arrivals", 0, records, None))
    assert [[one.offset for one in piece.taken.records] for piece in pieces] == [[10, 11], [12], [15]]
    assert [(piece.taken.expected, piece.taken.next) for piece in pieces] == [(None, 12), (12, 13), (13, 16)]
    assert [piece.order is not None for piece in pieces] == [False, True, False]
    assert note_of(order) == Note(through_ms=5, after=(1, 2))


class Shared:
    """One log and inlet, and gateways on it."""

    def __init__(self, *specs: StreamSpec) -> None:
        self.clock = SystemClock()
        self.log = MemoryLog(clock=self.clock)
        self.topics = MemoryInletTopics()
        self.specs = specs

    @asynccontextmanager
    async def gateway(self) -> AsyncIterator[IngestRole]:
        await self.log.put_app("app", "", self.specs, None)
        inlet = MemoryInlet(self.log, self.topics)
        ports = Ports(self.log, cast(Store, None), self.clock, OpenAccess(), inlet=inlet)
        role = IngestRole(IngestSettings(inlet=QUICK), ports)
        stop = asyncio.Event()
        run = asyncio.create_task(role.run(stop))
        yield role
        stop.set()
        await run

    def leave(self, *values: bytes, partition: int = 0, note: Note | None = None) -> None:
        for value in values:
            headers = {} if note is None else note.header()
            self.topics.leave("arrivals", NewInletRecord(partition, value, None, headers))

    async def stored(self, wanted: int) -> list[str]:
        """Ids, sorted, once there are so many."""
        async with asyncio.timeout(10):
            while len(ids := await self._ids()) < wanted:  # noqa: ASYNC110 # the log's own waiting is not the matter here
                await asyncio.sleep(0.005)
        return sorted(ids)

    async def taken(self, partition: int, position: int) -> None:
        async with asyncio.timeout(10):
            while self.topics.positions.get(("arrivals", partition), 0) < position:  # noqa: ASYNC110 # as above
                await asyncio.sleep(0.005)

    async def _ids(self) -> list[str]:
        found = []
        for partition in range(self.specs[0].partitions):
            for batch in await self.log.read("arrivals", partition, 0, 1 << 30):
                found += [msgspec.json.decode(line)["id"] for line in decode_lines(batch.payload).split(b"\n")]
        return found


async def test_records_and_requests_share_admission_and_dedupe() -> None:
    shared = Shared(ARRIVALS)
    shared.leave(*[event(f"a{n}") for n in range(20)], b"", b"[]", event("late", price="high"))
    async with shared.gateway() as role:
        assert await shared.stored(20) == sorted(f"a{n}" for n in range(20))
        await shared.taken(0, 23)
        gateway, handover = role._gateway, role._gateway.handover
        assert handover is not None
        async with asyncio.timeout(10):
            while not await handover.is_direct("arrivals"):  # noqa: ASYNC110 # as above
                await asyncio.sleep(0.005)
        reply = await gateway.accept("arrivals", b"\n".join([event("a3"), event("new")]), Form.NDJSON)
        assert (reply.accepted, reply.duplicate) == (1, 1)
        rejected = await shared.log.rejected(RejectedFilter())
    assert sorted((one.position, one.code) for one in rejected) == [
        ((0, 20), "bad_json"), ((0, 21), "wrong_type"), ((0, 22), "wrong_type")
    ]  # fmt: skip


async def test_a_stream_is_complete_only_when_the_other_partitions_are_taken() -> None:
    shared = Shared(WIDE)
    shared.leave(event("first"), partition=0)
    shared.leave(b"", partition=0, note=Note(through_ms=1000, after=(1, 3, 0)))
    async with shared.gateway():
        await shared.taken(0, 1)
        await asyncio.sleep(0.05)
        assert (await shared.log.head("arrivals", 0)).watermark_ms is None
        shared.leave(event("x"), event("y"), event("z"), partition=1)
        await shared.taken(0, 2)
        assert (await shared.log.head("arrivals", 2)).watermark_ms == 1000
        assert await shared.stored(4) == ["first", "x", "y", "z"]


async def test_gateways_hand_over_while_there_are_several_and_replays_arrive() -> None:
    shared = Shared(ARRIVALS)
    async with shared.gateway() as first:
        await first._gateway.accept("arrivals", b"[" + event("a") + b",{}]", Form.ARRAY)
        async with shared.gateway() as second:
            gateway = second._gateway
            reply = await gateway.accept("arrivals", event("a") + b"\n" + event("b"), Form.NDJSON)
            assert (reply.accepted, reply.duplicate, reply.positions) == (2, 0, [])
            assert await shared.stored(2) == ["a", "b"]
            (rejected,) = await shared.log.rejected(RejectedFilter())
            await gateway.replay_admission(rejected, event("c"))
            assert await shared.stored(3) == ["a", "b", "c"]
            await gateway.replay_admission(rejected, event("d"))
            await shared.taken(0, 4)
            assert await shared.log.rejected(RejectedFilter()) == []
            assert await shared.stored(3) == ["a", "b", "c"], "replayed once"


async def test_the_same_ids_sent_through_every_change_of_admitter_are_stored_once() -> None:
    shared = Shared(ARRIVALS)
    sent: set[str] = set()

    async def send(role: IngestRole, first: int) -> None:
        ids = [f"e{n}" for n in range(first, first + 5)]
        body = b"\n".join(event(id_) for id_ in ids)
        for _ in range(2):
            await role._gateway.accept("arrivals", body, Form.NDJSON)
        sent.update(ids)

    for number in range(4):
        async with shared.gateway() as first:
            await send(first, number * 10)
            async with shared.gateway() as second:
                await asyncio.gather(send(first, number * 10 + 5), send(second, number * 10 + 3))
            await send(first, number * 10 + 8)
    async with shared.gateway():
        assert await shared.stored(len(sent)) == sorted(sent)
