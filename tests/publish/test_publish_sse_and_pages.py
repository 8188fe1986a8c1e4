"""Event streams, history pages, long-poll and tickets, with real sockets."""

import asyncio
import json

import pytest
from publish.conftest import orders_batch, running_gateway
from websockets.exceptions import InvalidStatus

from penstock.model.position import Cursor
from penstock_publish.lifecycle.states import PUBLISHED
from penstock_publish.operations import OPERATIONS


async def sse_events(reply, count: int) -> list[dict[str, str]]:
    """The next events of a stream, as the HTML standard reads them; comments do not count."""
    found: list[dict[str, str]] = []
    event: dict[str, str] = {}
    async with asyncio.timeout(5):
        while len(found) < count:
            line = (await reply.content.readline()).decode().removesuffix("\n")
            if line:
                name, _, value = line.partition(": ")
                if name not in ("", ":"):
                    event[name] = value
            elif event:
                found.append(event)
                event = {}
    return found


def stream(gateway, http, topic: str, *, headers: dict[str, str] | None = None, **query: str):
    sent = {"Accept": "text/event-stream", **(gateway.headers() if headers is None else headers)}
    return http.get(f"{gateway.url}/v1/topics/{topic}", params=query, headers=sent)


def page(gateway, http, topic: str, *, headers: dict[str, str] | None = None, **query: str):
    return http.get(
        f"{gateway.url}/v1/topics/{topic}", params=query, headers={**gateway.headers(), **(headers or {})}
    )


async def test_an_event_stream_carries_the_cursor_as_id_and_resumes_after_last_event_id(gateway, http):
    async with stream(gateway, http, "orders") as reply:
        assert reply.headers["Content-Type"] == "text/event-stream"
        assert reply.headers["X-Accel-Buffering"] == "no"
        [opened] = await sse_events(reply, 1)
        assert (opened["event"], json.loads(opened["data"])["sys"]) == ("sys", "open")
        await gateway.orders(0, 4)
        got = await sse_events(reply, 4)
    assert [json.loads(event["data"])["d"]["n"] for event in got] == [0, 1, 2, 3]
    assert all(json.loads(event["data"])["c"] == event["id"] for event in got)
    headers = gateway.headers() | {"Last-Event-ID": got[1]["id"]}
    async with stream(gateway, http, "orders", headers=headers, after="earliest") as reply:
        await gateway.orders(4, 1)
        assert [json.loads(e["data"])["d"]["n"] for e in (await sse_events(reply, 4))[1:]] == [2, 3, 4]


async def test_an_event_stream_is_kept_alive_by_comments_and_ends_with_the_token(gateway, http):
    async with stream(gateway, http, "orders") as reply:
        await sse_events(reply, 1)
        await gateway.pass_time(16, step_s=4)
        assert await asyncio.wait_for(reply.content.readline(), 5) == b":\n"
        await gateway.pass_time(3600, step_s=60)
        rest = await asyncio.wait_for(reply.content.read(), 5)
        assert b'data: {"sys":"expiring"' in rest


async def test_a_reader_that_leaves_while_the_past_is_sent_does_not_hold_up_others(gateway, http):
    for first in range(0, 120_000, 20_000):  # more than the sockets' buffers take
        await gateway.orders(first, 20_000)
    async with stream(gateway, http, "orders", after="earliest") as reply:
        await sse_events(reply, 2)
        reply.close()
    async with asyncio.timeout(20), page(gateway, http, "orders", after="earliest", limit="1") as reply:
        assert (await reply.json())["events"][0]["d"]["n"] == 0


async def test_a_drained_event_stream_says_when_to_come_back(gateway, http):
    async with stream(gateway, http, "orders") as reply:
        await sse_events(reply, 1)
        gateway.stop.set()
        hint = (await asyncio.wait_for(reply.content.read(), 5)).decode()
        assert hint.startswith("retry: ") and hint.endswith("\n\n")
        assert 1000 <= int(hint.removeprefix("retry: ")) <= 2000


async def test_a_gap_is_announced_on_every_transport(gateway, http):
    await gateway.orders(0, 10, stream="alerts")
    await gateway.clock.advance(7200)
    await gateway.orders(10, 1, stream="alerts")
    await gateway.log.trim({})
    after, to = Cursor("alerts", 1, (2,)).text(), Cursor("alerts", 1, (10,)).text()
    gap = {"sys": "gap", "t": "alerts", "from": after, "to": to, "n": 8}
    async with stream(gateway, http, "alerts", after=after) as reply:
        got = await sse_events(reply, 3)
        assert (json.loads(got[1]["data"]), got[1]["id"]) == (gap, to)
    async with page(gateway, http, "alerts", after=after) as reply:
        body = await reply.json()
        assert (body["gap"], [e["d"]["n"] for e in body["events"]]) == (gap, [10])
    async with page(gateway, http, "alerts", after=after, headers={"Accept": "application/x-ndjson"}) as reply:
        lines = [json.loads(line) for line in (await reply.text()).splitlines()]
        assert (lines[0], lines[1]["d"]["n"]) == (gap, 10)


@pytest.mark.parametrize("gateway", [{"read_bytes_max": 1024}], indirect=True)
async def test_a_page_tells_every_gap_that_it_met(gateway, http, monkeypatch):
    read = gateway.log.read

    async def read_and_lose(*asked):
        """The log, of which retention deletes the rest after the first piece."""
        found = await read(*asked)
        monkeypatch.setattr(gateway.log, "read", read)
        await gateway.clock.advance(7200)
        await gateway.orders(25, 1, stream="alerts")
        await gateway.log.trim({})
        return found[:1]

    await gateway.orders(0, 10, stream="alerts")
    await gateway.clock.advance(7200)
    for first in (10, 15, 20):
        await gateway.orders(first, 5, stream="alerts")
    await gateway.log.trim({})
    monkeypatch.setattr(gateway.log, "read", read_and_lose)
    async with page(gateway, http, "alerts", after=Cursor("alerts", 1, (2,)).text()) as reply:
        body = await reply.json()
    places = {name: Cursor("alerts", 1, (name,)).text() for name in (2, 10, 15, 25)}
    met = [(gap["from"], gap["to"], gap["n"]) for gap in body["gaps"]]
    assert met == [(places[2], places[10], 8), (places[15], places[25], 10)]
    assert body["gap"] == body["gaps"][0]
    assert [event["d"]["n"] for event in body["events"]] == [10, 11, 12, 13, 14, 25]


async def test_pages_follow_each_other_without_loss(gateway, http):
    for partition in (0, 1):
        for first in range(0, 60, 20):
            await gateway.orders(first, 20, partition=partition)
    after, sizes, seen = "earliest", [], []
    while not sizes or sizes[-1]:
        async with page(gateway, http, "orders", after=after, limit="50") as reply:
            assert reply.status == 200
            body = await reply.json()
            assert f"after={body['next']}" in reply.headers["Link"]
        after = body["next"]
        sizes.append(len(body["events"]))
        seen += [event["c"] for event in body["events"]]
    assert sizes == [50, 50, 20, 0]
    assert len(set(seen)) == 120
    assert after == Cursor("orders", 1, (60, 60)).text()


async def test_a_page_is_a_hundred_events_by_default_and_ten_thousand_at_most(gateway, http):
    await gateway.orders(0, 150)
    async with page(gateway, http, "orders", after="earliest") as reply:
        assert len((await reply.json())["events"]) == 100
    for limit in ("0", "10001", "-1", "x", "1e3"):
        async with page(gateway, http, "orders", limit=limit) as reply:
            assert (reply.status, (await reply.json())["code"]) == (400, "bad_request")


async def test_latest_is_an_empty_page_whose_cursor_leads_on(gateway, http):
    await gateway.orders(0, 3)
    async with page(gateway, http, "orders") as reply:
        body = await reply.json()
        assert body == {"events": [], "next": Cursor("orders", 1, (3, 0)).text()}
    await gateway.orders(3, 1)
    async with page(gateway, http, "orders", after=body["next"], format="raw") as reply:
        assert (await reply.json())["events"] == [{"id": "k0", "n": 3, "region": "north"}]


async def test_a_long_poll_waits_for_the_first_event_that_matches(gateway, http):
    async def ask() -> list[dict[str, object]]:
        wait = {"Prefer": "wait=5"}
        async with page(gateway, http, "orders", headers=wait, filter="n = 7", after="earliest") as reply:
            assert reply.headers["Preference-Applied"] == "wait=5"
            return (await reply.json())["events"]

    waiting = asyncio.create_task(ask())
    await asyncio.sleep(0.1)
    await gateway.orders(0, 3)
    await asyncio.sleep(0.02)
    assert not waiting.done()
    await gateway.orders(7, 1)
    assert [event["d"]["n"] for event in await waiting] == [7]


@pytest.mark.parametrize("gateway", [{"page_wait_max_s": 0.05}], indirect=True)
async def test_an_empty_long_poll_is_no_error_and_has_a_longest_wait(gateway, http):
    async with page(gateway, http, "orders", headers={"Prefer": "wait=600"}) as reply:
        assert (reply.status, (await reply.json())["events"]) == (200, [])


async def test_a_page_with_a_filter_stops_searching_at_its_limit_and_leads_on(tmp_path, clock, http):
    async with running_gateway(tmp_path, clock, page_scan_bytes_max=1024) as gateway:
        for first in range(0, 400, 10):
            await gateway.orders(first, 10)
        after, requests, found = "earliest", 0, []
        while not found:
            async with page(gateway, http, "orders", after=after, filter="n = 399") as reply:
                body = await reply.json()
            after, found, requests = body["next"], body["events"], requests + 1
        assert found[0]["d"]["n"] == 399
        assert requests > 5


async def test_other_media_types_are_not_acceptable(gateway, http):
    async with page(gateway, http, "orders", headers={"Accept": "image/png"}) as reply:
        assert (reply.status, (await reply.json())["code"]) == (406, "not_acceptable")


async def ticket_for(gateway, http, topic: str, *, origin: str | None = None, scope: str = "*:read"):
    headers = gateway.headers(scope) | ({} if origin is None else {"Origin": origin})
    async with http.post(f"{gateway.url}/v1/tickets", json={"topic": topic}, headers=headers) as reply:
        return reply.status, await reply.json()


async def test_a_ticket_opens_one_socket_from_its_origin_once(gateway, http):
    origin = "https://shop.example"
    status, body = await ticket_for(gateway, http, "orders", origin=origin)
    assert (status, body["expires_in"]) == (200, 30)
    async with gateway.subscribe("orders", headers={}, origin=origin, ticket=body["ticket"]) as ws:
        assert json.loads(await ws.recv())["sys"] == "open"
    assert await refused_code(gateway, "orders", origin=origin, ticket=body["ticket"]) == (401, "invalid_token")


async def test_a_ticket_is_bound_to_topic_origin_and_time(gateway, http):
    origin = "https://shop.example"
    for topic, other, wait_s, expected in [
        ("alerts", origin, 0.0, (401, "invalid_token")),
        ("orders", "https://evil.example", 0.0, (403, "forbidden_origin")),
        ("orders", None, 0.0, (403, "forbidden_origin")),
        ("orders", origin, 30.5, (401, "invalid_token")),
    ]:
        _, body = await ticket_for(gateway, http, "orders", origin=origin)
        await gateway.pass_time(wait_s, step_s=10)
        assert await refused_code(gateway, topic, origin=other, ticket=body["ticket"]) == expected


async def test_a_ticket_opens_an_event_stream_but_no_page(gateway, http):
    _, body = await ticket_for(gateway, http, "orders", origin="https://shop.example")
    headers = {"Origin": "https://shop.example"}
    async with http.get(
        f"{gateway.url}/v1/topics/orders", params={"ticket": body["ticket"]}, headers=headers
    ) as reply:
        assert (reply.status, (await reply.json())["code"]) == (400, "bad_request")
    async with stream(gateway, http, "orders", headers=headers, ticket=body["ticket"]) as reply:
        assert reply.headers["Access-Control-Allow-Origin"] == "https://shop.example"
        assert len(await sse_events(reply, 1)) == 1


async def test_who_gets_a_ticket(gateway, http):
    assert (await ticket_for(gateway, http, "orders", scope="alerts:read"))[0] == 403
    assert (await ticket_for(gateway, http, "nothing"))[0] == 404
    async with http.post(f"{gateway.url}/v1/tickets", json={"topic": "orders"}) as reply:
        assert reply.status == 401
    async with http.post(f"{gateway.url}/v1/tickets", json={"topc": "orders"}, headers=gateway.headers()) as reply:
        assert (reply.status, (await reply.json())["code"]) == (400, "bad_request")


async def test_the_list_shows_the_topics_that_the_token_may_read(gateway, http):
    async with http.get(f"{gateway.url}/v1/topics", headers=gateway.headers()) as reply:
        topics = {topic["topic"]: topic for topic in (await reply.json())["topics"]}
    assert sorted(topics) == ["alerts", "clicks", "orders", "totals"]
    assert topics["totals"] == {
        "topic": "totals", "app": "shop", "relation": "table", "scope": "totals:read", "key": ["region", "day"],
        "columns": [
            {"name": "region", "type": "STRING", "nullable": False},
            {"name": "day", "type": "DATE", "nullable": False},
            {"name": "sum_n", "type": "BIGINT", "nullable": True},
        ],
        "time_column": None, "partitions": 1, "early": True,
            "lifecycle": PUBLISHED.as_json(),
    }  # fmt: skip
    async with http.get(f"{gateway.url}/v1/topics", headers=gateway.headers("orders:read")) as reply:
        assert [topic["topic"] for topic in (await reply.json())["topics"]] == ["orders"]


async def refused_code(gateway, topic: str, *, origin: str | None, ticket: str) -> tuple[int, str]:
    with pytest.raises(InvalidStatus) as refusal:
        async with gateway.subscribe(topic, headers={}, origin=origin, ticket=ticket):
            pass
    return refusal.value.response.status_code, json.loads(refusal.value.response.body)["code"]


async def test_documents_describe_what_is_there(gateway, http):
    async with http.get(f"{gateway.url}/openapi.json") as reply:
        document = await reply.json()
    assert document["openapi"].startswith("3.1")
    assert document["components"]["schemas"]["topic.orders"]["properties"]["d"]["properties"]["n"]["type"] == [
        "integer", "null",
    ]  # fmt: skip
    async with http.get(f"{gateway.url}/asyncapi.json") as reply:
        events = await reply.json()
    assert events["asyncapi"] == "3.0.0"
    assert events["channels"]["totals"]["address"] == "/v1/topics/totals"
    async with http.get(f"{gateway.url}/asyncapi.json", headers={"Host": "events.example"}) as reply:
        assert (await reply.json())["channels"].keys() == {"/v1/topics", "/v1/streams"}  # strangers see no topic
    async with http.get(f"{gateway.url}/docs") as reply:
        text = await reply.text()
    assert 'href="/docs/topics/totals"' in text
    assert "totals:read" in text


async def test_every_route_of_the_gateway_is_documented(gateway):
    for_people = {"/", "/static/{name}", "/openapi.json", "/asyncapi.json", "/errors/{code}"}
    for_people |= {route.path for route in gateway.routes if route.path.startswith("/docs")}
    documented = {(operation.method.upper(), operation.path) for operation in OPERATIONS}
    routes = {(route.method, route.path) for route in gateway.routes if route.path not in for_people}
    routes -= {("POST", "/oauth/authorize"), ("POST", "/oauth/login")}  # the forms of their pages
    routes -= {("GET", "/.well-known/oauth-protected-resource/{path:.+}")}  # documented with the one of the server
    assert len(routes) > 8
    assert routes <= documented


async def test_an_envelope_has_what_its_schema_requires_and_nothing_else(gateway, http):
    await gateway.commit(orders_batch([("a", 1, None)]))
    async with http.get(f"{gateway.url}/openapi.json") as reply:
        schema = (await reply.json())["components"]["schemas"]["topic.orders"]
    async with page(gateway, http, "orders", after="earliest") as reply:
        [event] = (await reply.json())["events"]
    assert set(schema["required"]) == set(event) == set(schema["properties"])
    assert set(schema["properties"]["d"]["properties"]) == set(event["d"])


async def test_the_type_of_a_problem_leads_to_its_line_in_the_documentation(gateway, http):
    async with http.get(f"{gateway.url}/v1/topics") as reply:
        where = (await reply.json())["type"]
    async with http.get(f"{gateway.url}{where}") as reply:
        assert (reply.status, reply.history[0].headers["Location"]) == (200, "/docs/reference#error-unauthorized")
        assert 'id="error-unauthorized"' in await reply.text()
    async with http.get(f"{gateway.url}/errors/nothing") as reply:
        assert (reply.status, (await reply.json())["code"]) == (404, "not_found")


async def test_a_long_poll_whose_token_is_revoked_meanwhile_gets_no_events(gateway, http):
    headers = gateway.headers()
    polling = asyncio.create_task(
        http.get(f"{gateway.url}/v1/topics/orders", headers=headers | {"Prefer": "wait=20"})
    )
    await asyncio.sleep(0.3)
    gateway.authority.revoked_now(await gateway.authority.access.verified(headers["Authorization"].split()[1]))
    await gateway.orders(0, 1)
    async with await asyncio.wait_for(polling, 5) as reply:
        assert (reply.status, (await reply.json())["code"]) == (401, "invalid_token")
