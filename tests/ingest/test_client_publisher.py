"""The client's publisher over a WebSocket, against a real gateway: bounded, sent again, once, in order."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from ingest_edge import ARRIVALS, until
from ingest_socket_edge import SocketEdge, event, running_edge

from penstock.client import AsyncClient, Client, ClientLimits, Forbidden, NotFound, Refused, Unavailable
from penstock.errors import LogFull, LogUnavailable

QUICK = ClientLimits(backoff_first_s=0.01, backoff_max_s=0.05, attempts_max=8, publisher_in_flight_max=8)


@asynccontextmanager
async def client_of(edge: SocketEdge, **changed: object) -> AsyncIterator[AsyncClient]:
    settings = {"token": edge.token, "limits": QUICK, "random": random.Random(1), **changed}
    async with asyncio.timeout(20), AsyncClient(edge.url, **settings) as client:  # type: ignore[arg-type]
        yield client


def break_sockets(edge: SocketEdge) -> None:
    for session in edge.role._sockets._sessions:
        assert session._transport is not None
        session._transport.abort()


async def test_events_are_acknowledged_when_the_block_is_left():
    async with running_edge() as edge, client_of(edge) as client:
        async with client.publisher("arrivals") as publisher:
            await publisher.send(event(0))
            await publisher.send([event(number) for number in range(1, 2500)])
            assert (await publisher.flush()).accepted == 2500
            await publisher.send([event(1), event(2500, price="much"), b'{"id":"e2501","ts":1}'])
        found = publisher.published
        assert (found.accepted, found.duplicate, found.rejected) == (2501, 1, 1)
        assert [(one.index, one.id, one.code) for one in found.rejections] == [(2501, "e2500", "wrong_type")]
        assert await edge.stored() == [*(f"e{number}" for number in range(2500)), "e2501"]


async def test_what_was_under_way_when_the_socket_broke_is_stored_once():
    async with running_edge() as edge, client_of(edge) as client:
        async with client.publisher("arrivals") as publisher:
            for number in range(600):
                await publisher.send(event(number))
                if number % 150 == 149:
                    edge.log.gate.clear()
                    await until(lambda: edge.log.waiting > 0)
                    break_sockets(edge)
                    edge.log.gate.set()
        found = publisher.published
        assert found.accepted + found.duplicate == 600
        assert await edge.stored() == [f"e{number}" for number in range(600)]


async def test_events_without_an_id_get_one_so_that_a_break_does_not_double_them():
    async with running_edge() as edge, client_of(edge) as client:
        async with client.publisher("arrivals") as publisher:
            edge.log.gate.clear()
            await publisher.send({"market": "m", "ts": 1_514_764_800_000})
            await edge.log.until_waiting(1)
            break_sockets(edge)
            edge.log.gate.set()
        assert len(await edge.stored()) == 1


async def test_a_full_disk_is_waited_for_and_the_order_of_one_at_a_time_is_kept():
    one = replace(QUICK, publisher_in_flight_max=1, attempts_max=30)
    async with running_edge() as edge, client_of(edge, limits=one) as client:
        async with client.publisher("arrivals") as publisher:
            for number in range(40):
                if number in (3, 20):
                    edge.log.fail_before = LogFull("no room", retry_after_s=0.01)
                await publisher.send(event(number))
        assert publisher.published.accepted == 40
        assert await edge.stored() == [f"e{number}" for number in range(40)]


async def test_one_moment_of_a_full_disk_is_one_failure_however_many_messages_it_refuses():
    many = replace(QUICK, publisher_in_flight_max=30, batch_events_max=1, attempts_max=4)
    async with running_edge() as edge, client_of(edge, limits=many) as client:
        async with client.publisher("arrivals") as publisher:
            edge.log.gate.clear()
            await publisher.send(event(0))
            await edge.log.until_waiting(1)
            await publisher.send([event(number) for number in range(1, 30)])
            [session] = edge.role._sockets._sessions
            await until(lambda: session._read_count == 30)
            edge.log.gate.set()  # for the first alone; the others share an append
            edge.log.gate.clear()
            await until(lambda: publisher.published.accepted == 1)
            await edge.log.until_waiting(1)
            edge.log.fail_before = LogFull("no room", retry_after_s=0.01)
            edge.log.gate.set()
        assert publisher.published.accepted == 30


async def test_who_sends_too_fast_waits_and_is_bounded():
    async with running_edge() as edge, client_of(edge, limits=replace(QUICK, batch_events_max=5)) as client:
        edge.log.gate.clear()
        async with client.publisher("arrivals") as publisher:
            sending = asyncio.create_task(publisher.send([event(number) for number in range(200)]))
            await edge.log.until_waiting(1)
            await asyncio.sleep(0.05)
            assert not sending.done()
            assert len(publisher._unsent) + len(publisher._sent) == 8
            edge.log.gate.set()
            await sending
        assert await edge.stored() == [f"e{number}" for number in range(200)]


async def test_a_stream_that_settles_no_repetitions_is_not_sent_to_again():
    async with running_edge(replace(ARRIVALS, dedupe=())) as edge, client_of(edge) as client:

        async def publish() -> None:
            async with client.publisher("arrivals") as publisher:
                edge.log.gate.clear()
                await publisher.send(event(1))
                await edge.log.until_waiting(1)
                break_sockets(edge)
                edge.log.gate.set()

        with pytest.raises(Unavailable, match="settles no repeated events"):
            await publish()


@pytest.mark.parametrize("over", ["socket", "request"])
async def test_a_stream_that_settles_no_repetitions_is_not_sent_to_again_where_the_log_may_have_it(over: str):
    async with running_edge(replace(ARRIVALS, dedupe=())) as edge, client_of(edge) as client:

        async def publish() -> None:
            edge.log.fail_after = LogUnavailable("no answer")
            if over == "request":
                await client.publish("arrivals", [event(1)])
                return
            async with client.publisher("arrivals") as publisher:
                await publisher.send(event(1))

        with pytest.raises(Unavailable, match="log_unavailable"):
            await publish()
        assert await edge.stored() == ["e1"]


async def test_what_no_other_try_would_change_is_raised():
    async def publish(client: AsyncClient, stream: str, what: object) -> None:
        async with client.publisher(stream) as publisher:
            await publisher.send(what)  # type: ignore[arg-type]  # also what cannot be sent

    async with running_edge() as edge, client_of(edge) as client:
        with pytest.raises(NotFound):
            await publish(client, "nothing", event(1))
        with pytest.raises(Refused, match="bad_json"):
            await publish(client, "arrivals", b"[1")
        with pytest.raises(Refused, match="async with"):
            await client.publisher("arrivals").send(event(1))
    async with running_edge() as edge:
        other = edge.token(scope="arrivals:read ingest:write", sub="x")
        given = iter([other, edge.token(scope="data:read"), edge.token(scope="data:read", jti="t2")])
        async with client_of(edge, token=lambda: next(given)) as client:
            publisher = client.publisher("arrivals")
            await publisher.__aenter__()  # the columns are read with a token that may
            client.calls.tokens.forget()
            await publisher.send(event(1))
            with pytest.raises(Forbidden):
                await publisher.flush()
            await publisher.aclose()


async def test_a_token_that_ends_is_renewed_on_the_open_socket():
    lives = [70, 3600]

    async with running_edge() as edge:

        def token() -> str:
            return edge.token(exp=edge.clock.now_ms() // 1000 + lives.pop(0), jti=f"t{len(lives)}")

        async with client_of(edge, token=token) as client, client.publisher("arrivals") as publisher:
            await publisher.send(event(1))
            await publisher.flush()
            [session] = edge.role._sockets._sessions
            client.calls.clock = edge.clock  # half of what is left goes by before it is renewed
            await edge.pass_time(11)
            for _ in range(40):
                await edge.pass_time(1)
            await until(lambda: session._principal.token_id == "t0")
            await edge.pass_time(60)
            await publisher.send(event(2))
            await publisher.flush()
            assert edge.role._sockets._sessions == {session}


async def test_the_client_without_an_event_loop_publishes_the_same_way():
    async with running_edge() as edge:

        def work() -> int:
            with Client(edge.url, token=edge.token(), limits=QUICK) as client:
                with client.publisher("arrivals") as publisher:
                    publisher.send(event(0))
                    publisher.send(event(number) for number in range(1, 3000))
                    assert publisher.flush().accepted == 3000
                    publisher.send(event(3000))
                return publisher.published.accepted

        assert await asyncio.to_thread(work) == 3001
        assert await edge.stored() == [f"e{number}" for number in range(3001)]
