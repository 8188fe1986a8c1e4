"""Filters that a token demands (authorization_details): on every transport, beside any filter of the caller."""

from __future__ import annotations

import asyncio
import json

import pytest
from publish.conftest import events, orders_batch, totals_batch
from token_issuer import TokenMaker

from penstock.model.batch import Op

TOPICS = ["orders", "totals", "clicks"]
NORTH = [{"type": "penstock", "actions": ["read"], "topics": TOPICS, "filter": "region = 'north'"}]


@pytest.fixture
def maker(gateway, clock) -> TokenMaker:
    made = TokenMaker("https://id.example", clock)
    gateway.authority.access.trust([made.trusted()])
    return made


def bearer(maker: TokenMaker, details: object, *, scope: str = "") -> dict[str, str]:
    return {"Authorization": f"Bearer {maker.token(scope=scope, authorization_details=details)}"}


async def page(http, gateway, topic: str, headers: dict[str, str], **query: str) -> dict[str, object]:
    async with http.get(
        f"{gateway.url}/v1/topics/{topic}", params={"after": "earliest", **query}, headers=headers
    ) as reply:
        return {"status": reply.status, **await reply.json()}


async def test_a_page_has_the_granted_rows_only_whatever_else_is_asked_for(http, gateway, maker):
    await gateway.orders(0, 10)
    headers = bearer(maker, NORTH)
    for query, expected in [
        ({}, [1, 3, 5, 7, 9]),
        ({"filter": "n > 4"}, [5, 7, 9]),
        ({"filter": "TRUE"}, [1, 3, 5, 7, 9]),
        ({"filter": "n > 4 OR region = 'south'"}, [5, 7, 9]),
        ({"filter": "region = 'south'"}, []),
    ]:
        found = await page(http, gateway, "orders", headers, **query)
        assert [event["d"]["n"] for event in found["events"]] == expected, query


@pytest.mark.parametrize("text", ["TRUE) OR (TRUE", "TRUE -- ", "TRUE */", "1 = 1; SELECT 1", "\0('', 'x')"])
async def test_text_that_tries_to_close_the_tokens_filter_is_no_filter_at_all(http, gateway, maker, text):
    await gateway.orders(0, 4)
    found = await page(http, gateway, "orders", bearer(maker, NORTH), filter=text)
    rows = [event["d"]["region"] for event in found.get("events", [])]
    assert found["status"] == 400 or set(rows) <= {"north"}


async def test_a_long_poll_does_not_wake_for_rows_of_others(http, gateway, maker):
    url = f"{gateway.url}/v1/topics/orders"
    async with http.get(url, headers=bearer(maker, NORTH)) as reply:
        after = (await reply.json())["next"]

    async def poll() -> list[int]:
        headers = {**bearer(maker, NORTH), "Prefer": "wait=5"}
        async with http.get(url, params={"after": after}, headers=headers) as reply:
            return [event["d"]["n"] for event in (await reply.json())["events"]]

    polling = asyncio.create_task(poll())
    await asyncio.sleep(0.1)
    await gateway.commit(orders_batch([("a", 1, "south")]))
    await asyncio.sleep(0.1)
    await gateway.commit(orders_batch([("b", 2, "north")]))
    assert await asyncio.wait_for(polling, 6) == [2]


async def test_live_sockets_with_and_without_a_filter_get_the_granted_rows(gateway, maker):
    async with (
        gateway.subscribe("orders", headers=bearer(maker, NORTH)) as confined,
        gateway.subscribe("orders", headers=bearer(maker, NORTH), filter="n > 5") as narrower,
        gateway.subscribe("orders", after="earliest") as everything,
    ):
        for ws in (confined, narrower, everything):
            await asyncio.wait_for(ws.recv(), 5)
        await gateway.orders(0, 10)
        assert [e["d"]["n"] for e in await events(everything, 10)] == list(range(10))
        assert [e["d"]["n"] for e in await events(confined, 5)] == [1, 3, 5, 7, 9]
        assert [e["d"]["n"] for e in await events(narrower, 2)] == [7, 9]


async def test_an_event_stream_replays_and_follows_the_granted_rows(http, gateway, maker):
    await gateway.orders(0, 4)
    headers = {**bearer(maker, NORTH), "Accept": "text/event-stream"}
    found: list[int] = []
    async with http.get(f"{gateway.url}/v1/topics/orders", params={"after": "earliest"}, headers=headers) as reply:
        await gateway.orders(4, 4)
        while len(found) < 4:
            line = (await asyncio.wait_for(reply.content.readline(), 5)).decode()
            if line.startswith("data:") and "sys" not in line:
                found.append(json.loads(line[5:])["d"]["n"])
    assert found == [1, 3, 5, 7]


async def test_a_ticket_carries_the_filter_of_its_token(http, gateway, maker):
    async with http.post(
        f"{gateway.url}/v1/tickets", json={"topic": "orders"}, headers=bearer(maker, NORTH)
    ) as reply:
        ticket = (await reply.json())["ticket"]
    async with gateway.subscribe("orders", headers={}, ticket=ticket, after="earliest") as ws:
        await gateway.orders(0, 4)
        assert [e["d"]["n"] for e in await events(ws, 2)] == [1, 3]


async def test_a_tables_rows_changes_and_deleted_keys_are_those_of_the_granted_rows(gateway, maker):
    rows = [("north", "2018-01-01", 1, Op.INSERT, False), ("south", "2018-01-01", 2, Op.INSERT, False)]
    await gateway.commit(totals_batch(rows))
    await gateway.apply(0, totals_batch(rows))
    async with gateway.subscribe("totals", headers=bearer(maker, NORTH), after="earliest") as ws:
        assert [e["k"] for e in await events(ws, 1)] == ['["north","2018-01-01"]']
        await gateway.commit(
            totals_batch(
                [
                    ("south", "2018-01-01", None, Op.DELETE, False),
                    ("north", "2018-01-01", None, Op.DELETE, False),
                ]
            )
        )
        [deleted] = await events(ws, 1)
        assert (deleted["op"], deleted["k"]) == ("-D", '["north","2018-01-01"]')


async def test_the_key_of_a_deleted_row_is_not_shown_where_it_does_not_tell_whose_row_it_was(gateway, maker):
    details = [{"type": "penstock", "actions": ["read"], "topics": ["totals"], "filter": "sum_n < 10"}]
    async with gateway.subscribe("totals", headers=bearer(maker, details)) as ws:
        await asyncio.wait_for(ws.recv(), 5)
        await gateway.commit(totals_batch([("secret", "2018-01-01", None, Op.DELETE, False)]))
        await gateway.commit(totals_batch([("north", "2018-01-02", 5, Op.INSERT, False)]))
        [first] = await events(ws, 1)
        assert first["k"] == '["north","2018-01-02"]'


async def test_several_filters_are_alternatives_and_a_plain_scope_shows_all(http, gateway, maker):
    await gateway.orders(0, 6)
    entry = {"type": "penstock", "actions": ["read"], "topics": ["ord*"]}
    both = [{**entry, "filter": "n = 1"}, {**entry, "filter": "n = 4"}]
    found = await page(http, gateway, "orders", bearer(maker, both))
    assert [event["d"]["n"] for event in found["events"]] == [1, 4]
    found = await page(http, gateway, "orders", bearer(maker, both, scope="orders:read"))
    assert len(found["events"]) == 6
    found = await page(http, gateway, "orders", bearer(maker, both, scope="alerts:read"))
    assert [event["d"]["n"] for event in found["events"]] == [1, 4]


async def test_a_filter_that_does_not_fit_the_topic_opens_nothing(http, gateway, maker):
    details = [{"type": "penstock", "actions": ["read"], "topics": ["*"], "filter": "tenant = 'a'"}]
    found = await page(http, gateway, "orders", bearer(maker, details))
    assert (found["status"], found["code"]) == (403, "insufficient_scope")
    assert "authorization_details" in found["detail"]


async def test_topics_that_are_not_granted_are_neither_listed_nor_opened(http, gateway, maker):
    headers = bearer(maker, NORTH)
    async with http.get(f"{gateway.url}/v1/topics", headers=headers) as reply:
        assert [topic["topic"] for topic in (await reply.json())["topics"]] == ["clicks", "orders", "totals"]
    found = await page(http, gateway, "alerts", headers)
    assert (found["status"], found["code"]) == (403, "insufficient_scope")
