"""The inlet on a real broker: other producers, the same ids by HTTP, bad records, and several gateways."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from itertools import count
from typing import Any, cast
from uuid import uuid4

import aiohttp
import msgspec
import pytest
from confluent_kafka import Producer
from ingest_edge import ARRIVALS
from kafka_broker import KafkaBroker

from penstock.codecs.ndjson import decode_lines
from penstock.errors import LogUnavailable
from penstock.http.listener import HttpSettings, Listener
from penstock.logs.kafka import KafkaLog
from penstock.logs.kafka_names import parse_url
from penstock.logs.open import inlet_of
from penstock.model.batch import RejectedEvent
from penstock.model.stream import StreamSpec
from penstock.ports.clock import SystemClock
from penstock.ports.log import RejectedFilter
from penstock.ports.store import Store
from penstock.role import Ports
from penstock.testing.access import OpenAccess
from penstock_ingest.service import IngestRole, build
from penstock_ingest.settings import IngestSettings, InletSettings

A_WHILE_S = 30.0
_numbers = count()
SETTINGS = IngestSettings(inlet=InletSettings(beat_s=0.2, ttl_s=1.0, records_max=50))
AT = "2026-01-02T03:04:05Z"


def event(id_: str, **more: object) -> dict[str, object]:
    return {"id": id_, "market": f"m{len(id_) % 3}", "price": 1.5, "lots": 1, "ts": AT} | more


@dataclass
class Gateway:
    """An ingest role with a log, listener and client of its own: what a process would have."""

    role: IngestRole
    log: KafkaLog
    http: aiohttp.ClientSession
    stop: asyncio.Event
    run: asyncio.Task[None]

    async def post(self, events: Sequence[object], stream: str = "arrivals") -> dict[str, Any]:
        body = b"\n".join(e if isinstance(e, bytes) else msgspec.json.encode(e) for e in events)
        headers = {"Content-Type": "application/x-ndjson"}
        async with self.http.post(f"/v1/streams/{stream}/events", data=body, headers=headers) as reply:
            return {"status": reply.status, **await reply.json(content_type=None)}

    async def stored(self, stream: str = "arrivals") -> list[dict[str, Any]]:
        found = []
        for partition in range((await self.log.catalog()).streams[stream].partitions):
            offset = 0
            while batches := await self.log.read(stream, partition, offset, 1 << 30):
                offset = batches[-1].next
                for batch in batches:
                    found += [msgspec.json.decode(line) for line in decode_lines(batch.payload).split(b"\n")]
        return found

    async def stored_ids(self, wanted: int) -> list[str]:
        """Ids of what is stored, sorted, once there are so many of them."""
        async with asyncio.timeout(A_WHILE_S):
            while len(found := await self.stored()) < wanted:  # noqa: ASYNC110 # what is watched has no event to wait for
                await asyncio.sleep(0.02)
        return sorted(row["id"] for row in found)

    async def rejected(self, wanted: int) -> list[RejectedEvent]:
        async with asyncio.timeout(A_WHILE_S):
            while len(found := await self.log.rejected(RejectedFilter())) < wanted:  # noqa: ASYNC110 # what is watched has no event to wait for
                await asyncio.sleep(0.02)
        return found

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(A_WHILE_S):
            while not condition():  # noqa: ASYNC110 # what is watched has no event to wait for
                await asyncio.sleep(0.02)


@dataclass
class Cluster:
    """A log's URL, and gateways on it."""

    url: str
    broker: KafkaBroker
    stack: AsyncExitStack

    def produce(self, values: Sequence[bytes | None], *, stream: str = "arrivals", **record: Any) -> None:
        """As any producer does: nothing of ours, but the topic's name."""
        producer = Producer({"bootstrap.servers": self.broker.bootstrap, "enable.idempotence": True})
        for value in values:
            producer.produce(parse_url(self.url)[1].inlet(stream), value, **record)
        assert producer.flush(10) == 0

    async def gateway(self, spec: StreamSpec = ARRIVALS) -> Gateway:
        log = await KafkaLog.open(self.url, clock=SystemClock())
        self.stack.push_async_callback(log.close)
        await log.put_app("app", "", [spec], None)
        ports = Ports(log, cast(Store, None), SystemClock(), OpenAccess(), inlet=inlet_of(log))
        role = build(SETTINGS, ports)
        listener = Listener(HttpSettings(port=0, drain_s=1))
        await listener.serve(role.routes())
        self.stack.push_async_callback(listener.close)
        http = await self.stack.enter_async_context(aiohttp.ClientSession(listener.url))
        stop = asyncio.Event()
        run = asyncio.create_task(role.run(stop))
        made = Gateway(role, log, http, stop, run)

        async def end() -> None:
            stop.set()
            await asyncio.wait({run})

        self.stack.push_async_callback(end)
        return made


@pytest.fixture
async def cluster(kafka_broker: KafkaBroker) -> AsyncIterator[Cluster]:
    async with AsyncExitStack() as stack:
        yield Cluster(f"{kafka_broker.url}/i{uuid4().hex[:6]}.{next(_numbers)}", kafka_broker, stack)


async def test_ids_that_come_by_http_and_by_the_inlet_are_stored_once(cluster: Cluster) -> None:
    gateway = await cluster.gateway()
    reply = await gateway.post([event(f"h{n}") for n in range(10)])
    assert (reply["accepted"], reply["duplicate"]) == (10, 0)
    cluster.produce([msgspec.json.encode(event(f"h{n}")) for n in range(5, 15)], key=b"m1")
    assert await gateway.stored_ids(15) == sorted(f"h{n}" for n in range(15))
    reply = await gateway.post([event(f"h{n}") for n in range(16)])
    assert (reply["accepted"], reply["duplicate"]) == (1, 15)


async def test_records_that_are_no_good_events_are_listed_with_their_place_and_bytes(cluster: Cluster) -> None:
    gateway = await cluster.gateway()
    large = msgspec.json.encode(event("large", more="x" * 950_000))
    bad = [b"no json", None, b"", b"[1]", b'{"id":"x"}', b'{"id":\n"half', large]
    pretty = msgspec.json.format(msgspec.json.encode(event("pretty")), indent=2)
    cluster.produce([*bad, pretty, msgspec.json.encode(event("good"))])
    assert await gateway.stored_ids(2) == ["good", "pretty"]
    listed = sorted(await gateway.rejected(len(bad)), key=lambda one: one.position or (0, 0))
    codes = [one.code for one in listed]
    assert codes[:4] == ["bad_json", "bad_json", "bad_json", "wrong_type"]
    assert (codes[5], codes[6]) == ("bad_json", "too_large")
    assert [one.position for one in listed] == [(0, n) for n in range(len(bad))]
    assert [one.raw for one in listed[:5]] == [value or b"" for value in bad[:5]]
    assert "arrivals.in/0 at 4" in listed[4].detail
    assert len(listed[6].raw) == 64 * 1024


async def test_what_is_taken_is_not_taken_again_by_the_next_process(cluster: Cluster) -> None:
    keyless = replace(ARRIVALS, dedupe=(), partitions=3)
    first = await cluster.gateway(keyless)
    events = [msgspec.json.encode(event(f"e{n}")) for n in range(300)]
    cluster.produce(events[:150])
    await first.stored_ids(150)
    first.stop.set()
    await first.run
    cluster.produce(events[150:])
    second = await cluster.gateway(keyless)
    assert await second.stored_ids(300) == sorted(f"e{n}" for n in range(300))
    await asyncio.sleep(0.5)
    assert len(await second.stored()) == 300


async def test_the_other_gateway_hands_over_and_takes_over(cluster: Cluster) -> None:
    first = await cluster.gateway()
    await first.post([event("a0")])
    second = await cluster.gateway()
    reply = await second.post([event("a0"), event("a1"), b"{bad", event("a2")])
    assert (reply["status"], reply["accepted"], reply["duplicate"], reply["rejected"]) == (207, 3, 0, 1)
    assert [error["index"] for error in reply["errors"]] == [2]
    assert await second.stored_ids(3) == ["a0", "a1", "a2"]
    assert [one.raw for one in await second.rejected(1)] == [b"{bad"]
    assert first.log.inlet.is_admitter
    assert not second.log.inlet.is_admitter
    first.stop.set()
    await first.run
    await second.until(lambda: second.log.inlet.is_admitter)
    with pytest.raises(LogUnavailable):
        await first.log.append([], [RejectedEvent("", 0, "arrivals", "app", None, "bad_json", "", b"")])
    for _ in range(100):
        reply = await second.post([event("a1"), event("a3")])
        if reply["duplicate"] == 2:
            break
        await asyncio.sleep(0.1)
    assert (reply["accepted"], reply["duplicate"]) == (0, 2), "alone, it settles duplicates itself"
    assert await second.stored_ids(4) == ["a0", "a1", "a2", "a3"]


async def test_a_stream_is_complete_only_after_what_was_handed_over_before(cluster: Cluster) -> None:
    wide = replace(ARRIVALS, partitions=3)
    first = await cluster.gateway(wide)
    await first.post([event("a")])
    second = await cluster.gateway(wide)
    await second.post([event("b" * n) for n in range(1, 40)])
    async with second.http.post("/v1/streams/arrivals/watermark", json={"through": AT}) as reply:
        assert (reply.status, await reply.json()) == (200, {"through": "2026-01-02T03:04:05.000", "positions": []})
    async with asyncio.timeout(A_WHILE_S):
        while (await second.log.head("arrivals", 2)).watermark_ms is None:  # noqa: ASYNC110 # what is watched has no event to wait for
            await asyncio.sleep(0.02)
    assert len(await second.stored()) == 40
