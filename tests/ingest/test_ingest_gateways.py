"""Several gateways on one log: an id that reaches more than one of them is stored once, and counted once."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import cast

import msgspec
import pytest
from ingest_edge import ARRIVALS, until
from prometheus_client import REGISTRY

from penstock.codecs.ndjson import decode_lines
from penstock.errors import LogUnavailable, Outrun, PenstockError
from penstock.logs.postgres import PostgresLog
from penstock.model.batch import NewBatch, RejectedEvent
from penstock.model.position import Position
from penstock.ports.clock import SystemClock
from penstock.ports.log import Log
from penstock.ports.store import Store
from penstock.role import Ports
from penstock.testing.access import OpenAccess
from penstock.testing.log_contract_pair import until_deployed
from penstock_ingest.body import Form
from penstock_ingest.dedupe import Claim, DedupeIndex
from penstock_ingest.gateway import Accepted, Gateway
from penstock_ingest.settings import DedupeSettings, IngestSettings

SPEC = replace(ARRIVALS, partitions=3)
PLENTY_BYTES = 1 << 30


def event(id_: object) -> bytes:
    return msgspec.json.encode({"id": str(id_), "market": f"m{hash(str(id_)) % 7}", "ts": 0})


def gateway_on(log: Log, **dedupe: object) -> Gateway:
    settings = IngestSettings(dedupe=DedupeSettings(**dedupe))  # type: ignore[arg-type]  # the settings' fields
    return Gateway(settings, Ports(log, cast(Store, None), SystemClock(), OpenAccess()))


@pytest.fixture
async def logs(postgres_url: str) -> AsyncIterator[tuple[PostgresLog, PostgresLog]]:
    """The log as two processes have it open."""
    async with AsyncExitStack() as stack:
        opened = []
        for _ in range(2):
            opened.append(await PostgresLog.open(postgres_url, clock=SystemClock()))
            stack.push_async_callback(opened[-1].close)
        await opened[0].put_app("app", "", [SPEC], 0)
        await until_deployed(opened[1], "app")
        yield opened[0], opened[1]


@pytest.fixture
async def gateways(logs: tuple[PostgresLog, PostgresLog]) -> AsyncIterator[list[Gateway]]:
    """A gateway on each, learning from each other as the role makes them."""
    made = [gateway_on(log, news_poll_s=0.02) for log in logs]
    learning = [asyncio.ensure_future(gateway.learn_always()) for gateway in made]
    yield made
    for task in learning:
        task.cancel()
    for gateway in made:
        gateway.close()


async def stored(log: Log) -> list[str]:
    ids = []
    for partition in range(SPEC.partitions):
        await log.head("arrivals", partition)  # so that it knows of what the other has appended
        for batch in await log.read("arrivals", partition, 0, PLENTY_BYTES, 1_000_000):
            ids += [msgspec.json.decode(line)["id"] for line in decode_lines(batch.payload).split(b"\n")]
    return ids


async def send(gateway: Gateway, ids: Sequence[object]) -> Accepted:
    if len(ids) == 1:
        return await gateway.accept("arrivals", event(ids[0]), Form.OBJECT)
    return await gateway.accept("arrivals", b"\n".join(map(event, ids)), Form.NDJSON)


@pytest.mark.parametrize("seed", range(3))
async def test_the_same_ids_sent_to_both_at_the_same_time_are_stored_and_counted_once(
    logs: tuple[PostgresLog, PostgresLog], gateways: list[Gateway], seed: int
) -> None:
    draw = random.Random(seed)
    requests: list[tuple[int, list[int]]] = []
    for gateway in range(2):
        ids = list(range(1500)) * 2
        draw.shuffle(ids)
        while ids:
            count = draw.choice((1, 1, 1, 2, 20, 60))
            requests.append((gateway, ids[:count]))
            ids = ids[count:]
    draw.shuffle(requests)

    async def client(mine: list[tuple[int, list[int]]]) -> list[Accepted]:
        return [await send(gateways[gateway], ids) for gateway, ids in mine]

    replies = [
        reply for part in await asyncio.gather(*(client(requests[n::40]) for n in range(40))) for reply in part
    ]
    assert Counter(await stored(logs[0])) == Counter({str(n): 1 for n in range(1500)})
    assert sum(reply.accepted for reply in replies) == 1500
    assert sum(reply.duplicate for reply in replies) == 4 * 1500 - 1500
    assert not any(reply.rejected for reply in replies)


async def test_gateways_with_ids_of_their_own_do_not_outrun_each_other(
    logs: tuple[PostgresLog, PostgresLog], gateways: list[Gateway]
) -> None:
    before = REGISTRY.get_sample_value("penstock_ingest_outrun_appends_total", {"stream": "arrivals"}) or 0
    replies = await asyncio.gather(
        *(send(gateway, [f"{n}.{i}"]) for i in range(300) for n, gateway in enumerate(gateways))
    )
    assert all(reply.accepted == 1 for reply in replies)
    assert len(await stored(logs[0])) == 600
    after = REGISTRY.get_sample_value("penstock_ingest_outrun_appends_total", {"stream": "arrivals"}) or 0
    assert after == before


async def test_what_one_has_appended_the_other_learns_without_being_asked(gateways: list[Gateway]) -> None:
    one, other = gateways
    stream = await other.streams.get("arrivals")
    await send(one, range(50))
    await until(lambda: len(stream.index) == 50)
    assert (await send(other, range(50))).duplicate == 50


async def test_a_gateway_that_starts_later_knows_what_was_appended_before(
    logs: tuple[PostgresLog, PostgresLog], gateways: list[Gateway]
) -> None:
    await send(gateways[0], range(50))
    late = gateway_on(logs[1])
    reply = await send(late, range(40, 60))
    assert (reply.accepted, reply.duplicate) == (10, 10)
    late.close()


class OutrunLog:
    """A log on which another gateway is always faster, or whose outcome is unknown once."""

    def __init__(self, log: PostgresLog, error: PenstockError) -> None:
        self._log = log
        self._error = error
        self.times = 0
        self.left = 1 << 30

    def __getattr__(self, name: str) -> object:
        return getattr(self._log, name)

    async def append(
        self,
        batches: Sequence[NewBatch],
        rejected: Sequence[RejectedEvent] = (),
        replayed: Sequence[str] = (),
        *,
        known: Mapping[str, int] | None = None,
    ) -> list[Position]:
        assert known is not None
        if self.times < self.left:
            self.times += 1
            raise self._error
        return await self._log.append(batches, rejected, replayed, known=known)


async def test_a_request_that_is_outrun_again_and_again_is_told_to_come_back(
    logs: tuple[PostgresLog, PostgresLog],
) -> None:
    log = OutrunLog(logs[0], Outrun("arrivals"))
    gateway = gateway_on(cast(Log, log), outrun_attempts_max=4, outrun_pause_s=0)
    with pytest.raises(Outrun) as caught:
        await send(gateway, [1])
    assert (caught.value.status, caught.value.retryable, log.times) == (503, True, 4)
    log.left = 6  # two more in vain
    assert (await send(gateway, [1])).accepted == 1
    gateway.close()


async def test_after_an_unknown_outcome_and_an_append_elsewhere_the_id_is_known(
    logs: tuple[PostgresLog, PostgresLog], gateways: list[Gateway]
) -> None:
    log = OutrunLog(logs[0], LogUnavailable("the connection broke"))
    log.left = 1
    gateway = gateway_on(cast(Log, log))
    with pytest.raises(LogUnavailable):
        await send(gateway, [1, 2])
    await send(gateways[1], [1])
    reply = await send(gateway, [1, 2])
    assert (reply.accepted, reply.duplicate) == (1, 1)
    assert sorted(await stored(logs[1])) == ["1", "2"]
    gateway.close()


# -- the index


def test_an_id_that_is_learned_while_it_is_claimed_outlives_the_claim() -> None:
    index = DedupeIndex(window_ms=10_000, max_ids=10)
    ids = [bytes([n]) * 16 for n in range(3)]
    claim = index.claim(ids[:2], 0)
    assert isinstance(claim, Claim)
    index.remember([ids[0], ids[2]], 0)
    assert isinstance(index.claim([ids[0]], 0), list)  # still to be waited for
    index.give_up(claim)
    again = index.claim(ids, 0)
    assert isinstance(again, Claim)
    assert again.fresh == [False, True, False]
    index.confirm(again, 0)
    assert len(index) == 3
    later = index.claim(ids, 20_000)
    assert isinstance(later, Claim) and later.fresh is None


def test_an_id_that_is_learned_while_it_is_claimed_is_counted_once_when_the_claim_is_confirmed() -> None:
    index = DedupeIndex(window_ms=10_000, max_ids=10)
    claim = index.claim([b"a" * 16], 0)
    assert isinstance(claim, Claim)
    index.remember([b"a" * 16], 0)
    index.confirm(claim, 0)
    assert len(index) == 1
