"""Durable subscriptions over real sockets: at least once from the last acknowledgement, over restarts, take-overs."""

import asyncio
import json
import sqlite3
from contextlib import asynccontextmanager, closing

import pytest
from prometheus_client import REGISTRY
from publish.conftest import (
    close_of,
    events,
    receive,
    running_gateway,
    totals_batch,
)
from websockets.exceptions import InvalidStatus

from penstock.http.access import Principal
from penstock.http.socket_life import Close
from penstock.model.batch import Op
from penstock.model.position import Cursor
from penstock_publish.authority import open_authority
from penstock_publish.durable.positions import PositionKey
from penstock_publish.durable.registry import DurableSubscriptions, owner_of
from penstock_publish.gateway_database import open_gateway_database
from penstock_publish.settings import AuthSettings, DurableSettings
from penstock_publish.topics.history import After, Start


async def say(ws, **line):
    await ws.send(json.dumps(line))


async def acknowledged(ws, cursor):
    """Acknowledge, and wait for the reply."""
    await say(ws, id="ack", ack=cursor)
    while (await receive(ws, 1))[0].get("id") != "ack":
        pass


async def listed(gateway, http, scope="*:read"):
    async with http.get(f"{gateway.url}/v1/subscriptions", headers=gateway.headers(scope)) as reply:
        return (await reply.json())["subscriptions"]


async def test_who_comes_back_gets_what_was_not_acknowledged_and_nothing_before_it(gateway):
    async with gateway.subscribe("orders", durable="mine") as ws:
        await gateway.orders(0, 10)
        found = await events(ws, 10)
        await acknowledged(ws, found[3]["c"])
    await gateway.orders(10, 2)
    async with gateway.subscribe("orders", durable="mine") as ws:
        again = await events(ws, 8)
        assert [event["d"]["n"] for event in again] == list(range(4, 12))
        await acknowledged(ws, again[-1]["c"])
    async with gateway.subscribe("orders", durable="mine") as ws:
        await gateway.orders(50, 1)
        assert [event["d"]["n"] for event in await events(ws, 1)] == [50]


async def test_one_that_acknowledges_nothing_begins_where_it_began_at_first(gateway):
    async with gateway.subscribe("orders", durable="mine") as ws:
        await ws.recv()
    await gateway.orders(0, 3)
    async with gateway.subscribe("orders", durable="mine") as ws:
        assert [event["d"]["n"] for event in await events(ws, 3)] == [0, 1, 2]
    async with gateway.subscribe("orders", durable="mine", after="latest") as ws:
        await ws.recv()
        await gateway.orders(9, 1)
        assert [event["d"]["n"] for event in await events(ws, 1)] == [9]


async def test_an_older_acknowledgement_takes_nothing_back(gateway):
    async with gateway.subscribe("orders", durable="mine") as ws:
        await gateway.orders(0, 5)
        found = await events(ws, 5)
        await acknowledged(ws, found[4]["c"])
        await acknowledged(ws, found[1]["c"])
    async with gateway.subscribe("orders", durable="mine") as ws:
        assert (await receive(ws, 1))[0]["c"] == found[4]["c"]


async def test_rows_of_a_table_are_acknowledged_before_its_changes(gateway):
    batch = totals_batch([(f"r{n}", "2024-01-01", n, Op.INSERT, False) for n in range(6)])
    await gateway.commit(batch)
    await gateway.apply(0, batch)
    async with gateway.subscribe("totals", durable="mine", after="earliest") as ws:
        rows = await events(ws, 6)
        await acknowledged(ws, rows[1]["c"])
    async with gateway.subscribe("totals", durable="mine") as ws:
        rest = await events(ws, 4)
        assert [row["d"] for row in rest] == [row["d"] for row in rows[2:]]
        await acknowledged(ws, rest[-1]["c"])
        await gateway.commit(totals_batch([("r1", "2024-01-01", 77, Op.UPDATE_AFTER, False)]))
        change = (await events(ws, 1))[0]
        await acknowledged(ws, change["c"])
        await acknowledged(ws, rest[0]["c"])  # late: the log was reached
    async with gateway.subscribe("totals", durable="mine") as ws:
        assert (await receive(ws, 1))[0]["c"] == change["c"]


async def test_several_durable_topics_on_one_socket_each_with_credit(gateway):
    async with gateway.subscribe("orders", durable="mine", credit="2") as ws:
        await say(ws, sub="alerts", durable="mine", credit=1)
        await receive(ws, 2)
        await gateway.orders(0, 4)
        await gateway.orders(0, 4, stream="alerts")
        for event in await events(ws, 3):
            await acknowledged(ws, event["c"])
    async with gateway.subscribe("orders", durable="mine") as ws:
        assert [event["d"]["n"] for event in await events(ws, 2)] == [2, 3]
        await say(ws, sub="alerts", durable="mine")
        assert [event["d"]["n"] for event in await events(ws, 3)] == [1, 2, 3]


async def test_the_newer_holder_takes_over_and_the_older_is_closed_or_told(gateway):
    async with gateway.subscribe("orders", durable="mine") as older, gateway.subscribe("alerts") as by_line:
        await gateway.orders(0, 2)
        last = (await events(older, 2))[-1]["c"]
        await acknowledged(older, last)
        await say(by_line, id=1, sub="orders", durable="mine")
        assert await close_of(older) == (4409, {"code": "taken_over", "retry_ms": None, "after": last})
        assert [line.get("c") for line in await receive(by_line, 3)][2] == last
        async with gateway.subscribe("orders", durable="mine") as newest:
            assert (await receive(by_line, 1))[0]["code"] == "taken_over"
            await gateway.orders(5, 1)
            assert [event["d"]["n"] for event in await events(newest, 1)] == [5]
            await gateway.orders(5, 1, stream="alerts")
            assert [event["t"] for event in await events(by_line, 1)] == ["alerts"]


async def test_names_are_of_a_client_and_can_be_listed_and_deleted(gateway, http):
    async with (
        gateway.subscribe("orders", durable="mine") as ws,
        gateway.subscribe("alerts", durable="mine") as other,
    ):
        await gateway.orders(0, 1)
        [event] = await events(ws, 1)
        await acknowledged(ws, event["c"])
        alerts, orders = await listed(gateway, http, "data:read")
        assert (alerts["name"], alerts["topic"], alerts["acked_at"]) == ("mine", "alerts", None)
        assert (orders["topic"], orders["cursor"]) == ("orders", event["c"])
        assert orders["acked_at"].endswith("Z")
        url = f"{gateway.url}/v1/subscriptions/mine"
        async with http.delete(url, params={"topic": "orders"}, headers=gateway.headers()) as reply:
            assert reply.status == 204
        code, reason = await close_of(ws)
        assert (code, reason["code"]) == (4404, "unknown_subscription")
        assert [position["topic"] for position in await listed(gateway, http)] == ["alerts"]
        async with http.delete(url, headers=gateway.headers()) as reply:
            assert reply.status == 204
        assert (await close_of(other))[0] == 4404
        async with http.delete(url, headers=gateway.headers()) as reply:
            assert (reply.status, (await reply.json())["code"]) == (404, "not_found")
    async with http.get(f"{gateway.url}/v1/subscriptions") as reply:
        assert reply.status == 401


@pytest.mark.parametrize("gateway", [{"durable": {"per_client_max": 1}}], indirect=True)
async def test_a_client_has_so_many(gateway, http):
    async with gateway.subscribe("orders", durable="one") as ws:
        await ws.recv()
        await say(ws, id=1, sub="alerts", durable="two")
        assert (await receive(ws, 1))[0]["err"] == "too_many_requests"
        await say(ws, id=2, sub="alerts")
        assert (await receive(ws, 1))[0] == {"id": 2, "ok": True}
    assert [position["name"] for position in await listed(gateway, http)] == ["one"]


async def test_an_event_stream_cannot_answer_so_it_is_not_durable(gateway, http):
    headers = {**gateway.headers(), "Accept": "text/event-stream"}
    for option in ({"durable": "mine"}, {"credit": "1"}):
        async with http.get(f"{gateway.url}/v1/topics/orders", params=option, headers=headers) as reply:
            assert (reply.status, (await reply.json())["code"]) == (400, "bad_request")


async def test_what_was_acknowledged_is_there_after_a_restart_of_the_gateway(tmp_path, clock):
    async with running_gateway(tmp_path, clock) as gateway, gateway.subscribe("orders", durable="mine") as ws:
        await gateway.orders(0, 4)
        found = await events(ws, 4)
        await acknowledged(ws, found[1]["c"])
        await gateway.pass_time(1)
        await acknowledged(ws, found[2]["c"])  # written at the stop
    async with running_gateway(tmp_path, clock) as gateway:
        await gateway.orders(0, 6)
        async with gateway.subscribe("orders", durable="mine") as ws:
            assert [event["d"]["n"] for event in await events(ws, 3)] == [3, 4, 5]


class Broken:
    """The table of positions is away, as in a damaged file, until `mend`."""

    def __init__(self, data_dir):
        self._path = data_dir / "publish.db"

    def _rename(self, before, after):
        with closing(sqlite3.connect(self._path)) as connection:
            connection.execute(f"ALTER TABLE {before} RENAME TO {after}")

    def break_(self):
        self._rename("durable_subscriptions", "away")

    def mend(self):
        self._rename("away", "durable_subscriptions")


async def acknowledged_while_broken(gateway, http, broken):
    """Acknowledge the second of six events, then the fourth and fifth while nothing can be written: a clear close."""
    async with gateway.subscribe("orders", durable="mine") as ws:
        await gateway.orders(0, 6)
        found = await events(ws, 6)
        await acknowledged(ws, found[1]["c"])
        assert (await listed(gateway, http))[0]["cursor"] == found[1]["c"]  # by now it is written
        await asyncio.to_thread(broken.break_)
        await say(ws, id="a", ack=found[3]["c"])
        assert await receive(ws, 1) == [{"id": "a", "ok": True}]
        refused = {}
        for _ in range(100):
            await gateway.pass_time(0.5)
            await say(ws, id="b", ack=found[4]["c"])
            [refused] = await receive(ws, 1)
            if "err" in refused:
                break
        assert (refused["id"], refused.get("err"), refused.get("retry")) == ("b", "store_unavailable", True)
        await gateway.pass_time(6)
        code, reason = await close_of(ws)
        assert (code, reason["code"], reason["retry_ms"]) == (4503, "store_unavailable", 1_000)
    with pytest.raises(InvalidStatus) as refusal:
        await gateway.subscribe("orders", durable="mine")
    assert refusal.value.response.status_code == 503


async def test_acknowledgements_outlive_a_database_that_fails_for_a_while(gateway, http):
    broken = Broken(gateway.data_dir)
    await acknowledged_while_broken(gateway, http, broken)
    await asyncio.to_thread(broken.mend)
    await gateway.pass_time(0.5)
    async with gateway.subscribe("orders", durable="mine") as ws:
        [event] = await events(ws, 1)
        assert event["d"]["n"] == 5
        await acknowledged(ws, event["c"])
    assert (await listed(gateway, http))[0]["cursor"] == event["c"]


async def test_what_could_not_be_written_before_the_end_comes_again(tmp_path, clock, http):
    broken = Broken(tmp_path)
    async with running_gateway(tmp_path, clock) as gateway:
        await acknowledged_while_broken(gateway, http, broken)
    await asyncio.to_thread(broken.mend)
    async with running_gateway(tmp_path, clock) as gateway:
        await gateway.orders(0, 6)
        async with gateway.subscribe("orders", durable="mine") as ws:
            assert [event["d"]["n"] for event in await events(ws, 4)] == [2, 3, 4, 5]


def test_a_person_at_a_client_is_an_owner_of_its_own():
    callers = [("app", "app"), ("account:ann", "app"), ("account:ben", "app"), ("ann", 'app","account:')]
    owners = [owner_of(Principal(subject, client, frozenset(), 0.0, "")) for subject, client in callers]
    assert owners[0] == "app"
    assert len(set(owners)) == 4


KEY = PositionKey("shop", "mine", "orders")


def start_at(offset: int) -> Start:
    return Start(Cursor("orders", 1, (offset,)))


def after(offset: int) -> tuple[After, str]:
    cursor = Cursor("orders", 1, (offset,))
    return After("cursor", cursor), cursor.text()


@asynccontextmanager
async def two_replicas(tmp_path, clock, url):
    """Registries of two gateways that share a database, each looking at it as time passes."""
    opened = []
    for name in ("a", "b"):
        folder = tmp_path / name
        folder.mkdir()
        issuer = {"public_url": "http://127.0.0.1:8080", "database_url": url}
        opened.append(await open_authority(folder, AuthSettings(), clock=clock, **issuer))
    registries = [DurableSubscriptions(one.database, clock=clock, settings=DurableSettings()) for one in opened]
    for registry in registries:
        registry.start()
    try:
        yield registries
    finally:
        for registry, one in zip(registries, opened, strict=True):
            await registry.close()
            await one.close()


async def until(clock, done):
    for _ in range(200):
        if done():
            return
        await clock.advance(0.3)
        await asyncio.sleep(0.02)
    pytest.fail("it did not happen")


async def test_a_name_that_nobody_uses_for_long_is_forgotten_and_one_in_use_is_not(tmp_path, clock):
    settings = DurableSettings(expire_after_s=86_400, expire_check_s=7_200, flush_s=60)
    database = open_gateway_database(tmp_path)
    registry = DurableSubscriptions(database, clock=clock, settings=settings)
    before = REGISTRY.get_sample_value("penstock_durable_expired_total") or 0

    async def names() -> list[str]:
        return [position.key.name for position in await registry.of_owner("shop")]

    async def pass_hours(hours: int) -> None:
        for _ in range(2 * hours):
            await clock.advance(1_800)
            await names()  # in the thread in which names expire: what was begun there has ended

    registry.start()
    try:
        held = await registry.claim(PositionKey("shop", "held", "orders"), start_at(0))
        (await registry.claim(PositionKey("shop", "left", "orders"), start_at(0))).release()
        await pass_hours(23)
        assert await names() == ["held", "left"]
        await pass_hours(6)
        assert await names() == ["held"]
        assert REGISTRY.get_sample_value("penstock_durable_expired_total") == before + 1
        held.acknowledge(*after(7))
        held.release()
        await pass_hours(21)
        assert await registry.cursor(held.key) == after(7)[1]
        await pass_hours(6)
        assert await names() == []
    finally:
        await registry.close()
        await asyncio.to_thread(database.close)


async def test_replicas_share_positions_and_the_newer_holder_wins(tmp_path, clock, postgres_url):
    async with two_replicas(tmp_path, clock, postgres_url) as (a, b):
        lost: list[Close] = []
        first = await a.claim(KEY, start_at(0))
        first.give_to(lost.append)
        first.acknowledge(*after(3))
        await a.flush()
        assert await b.cursor(KEY) == after(3)[1]
        second = await b.claim(KEY, start_at(3))
        await until(clock, lambda: bool(lost))
        assert lost == [Close(4409, "taken_over")]
        first.acknowledge(*after(9))  # too late: it is not its own any more
        second.acknowledge(*after(5))
        await b.flush()
        assert await a.cursor(KEY) == after(5)[1]
        second.give_to(lost.append)
        assert await a.delete("shop", "mine", None)
        await until(clock, lambda: len(lost) == 2)
        assert lost[1] == Close(4404, "unknown_subscription")
        assert await b.cursor(KEY) is None
