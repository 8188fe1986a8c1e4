"""Lifecycle of topics: who sees a draft, what a deprecated topic says, what a retired one refuses."""

from __future__ import annotations

import asyncio
import json
from email.utils import parsedate_to_datetime

import pytest
from publish.conftest import close_of, events, receive
from websockets.exceptions import InvalidStatus

from penstock.errors import PenstockError
from penstock.ports.clock import SystemClock
from penstock_publish.gateway_database import open_gateway_database
from penstock_publish.lifecycle.registry import Lifecycles
from penstock_publish.lifecycle.routes import LifecycleChange, changed
from penstock_publish.lifecycle.states import PUBLISHED, Lifecycle, State
from penstock_publish.settings import LifecycleSettings

ADMIN = "apps:admin *:read"
NOW_S = 1_700_000_000


async def put(gateway, http, topic: str, scope: str = ADMIN, **change: object) -> tuple[int, dict[str, object]]:
    url = f"{gateway.url}/v1/topics/{topic}/lifecycle"
    async with http.put(url, json=change, headers=gateway.headers(scope)) as reply:
        return reply.status, await reply.json(content_type=None)


async def listed(gateway, http, scope: str = "*:read") -> dict[str, dict[str, object]]:
    async with http.get(f"{gateway.url}/v1/topics", headers=gateway.headers(scope)) as reply:
        return {topic["topic"]: topic["lifecycle"] for topic in (await reply.json())["topics"]}


async def read_page(gateway, http, topic: str, scope: str = "*:read") -> tuple[int, dict[str, object], object]:
    url = f"{gateway.url}/v1/topics/{topic}?after=earliest"
    async with http.get(url, headers=gateway.headers(scope)) as reply:
        return reply.status, await reply.json(content_type=None), reply.headers


async def test_a_topic_of_which_nothing_was_said_is_published_in_version_1(gateway, http):
    topics = await listed(gateway, http)
    assert topics["orders"] == PUBLISHED.as_json()
    assert (topics["orders"]["state"], topics["orders"]["version"]) == ("published", "1")
    _, _, headers = await read_page(gateway, http, "orders")
    assert not {"Deprecation", "Sunset"} & set(headers)


async def test_only_who_administers_apps_may_read_or_change_a_lifecycle(gateway, http):
    status, problem = await put(gateway, http, "orders", scope="*:read", state="retired")
    assert (status, problem["code"]) == (403, "insufficient_scope")
    url = f"{gateway.url}/v1/topics/orders/lifecycle"
    async with http.get(url, headers=gateway.headers("*:read")) as reply:
        assert reply.status == 403
    async with http.get(url, headers=gateway.headers(ADMIN)) as reply:
        assert await reply.json() == {"topic": "orders", **PUBLISHED.as_json()}
    for unknown in ("nothing", "hidden"):
        status, problem = await put(gateway, http, unknown, state="draft")
        assert (status, problem["code"]) == (404, "unknown_topic")


async def test_a_draft_is_there_for_administrators_and_for_nobody_else(gateway, http):
    async with (
        gateway.subscribe("orders") as reader,
        gateway.subscribe("orders", headers=gateway.headers(ADMIN)) as administrator,
    ):
        await receive(reader, 1)
        await receive(administrator, 1)
        status, lifecycle = await put(gateway, http, "orders", state="draft", version="2.0", description="Soon.")
        assert (status, lifecycle["state"], lifecycle["version"]) == (200, "draft", "2.0")
        code, reason = await close_of(reader)
        assert (code, reason["code"]) == (4404, "unknown_topic")
        await gateway.orders(1, 1)
        assert (await events(administrator, 1))[0]["d"]["n"] == 1
    assert "orders" not in await listed(gateway, http)
    assert (await listed(gateway, http, ADMIN))["orders"]["description"] == "Soon."
    status, problem, _ = await read_page(gateway, http, "orders")
    assert (status, problem["code"]) == (404, "unknown_topic")
    assert (await read_page(gateway, http, "orders", ADMIN))[0] == 200
    async with http.get(f"{gateway.url}/asyncapi.json") as reply:
        assert "orders" not in (await reply.json())["channels"]
    async with http.get(f"{gateway.url}/asyncapi.json", headers=gateway.headers(ADMIN)) as reply:
        assert "orders" in (await reply.json())["channels"]


async def test_a_deprecated_topic_says_so_in_headers_and_on_sockets_that_are_open_or_open_later(gateway, http):
    async with gateway.subscribe("orders") as before:
        await receive(before, 1)
        status, _ = await put(
            gateway, http, "orders", state="deprecated", successor="alerts", sunset="2027-01-31T00:00:00Z"
        )
        assert status == 200
        [notice] = await receive(before, 1)
    assert notice == {
        "sys": "deprecated", "t": "orders", "at": "2023-11-14T22:13:20Z", "sunset": "2027-01-31T00:00:00Z",
        "successor": "alerts",
    }  # fmt: skip
    async with gateway.subscribe("orders") as after:
        assert [message["sys"] for message in await receive(after, 2)] == ["open", "deprecated"]
    async with http.get(
        f"{gateway.url}/v1/topics/orders", headers={**gateway.headers(), "Accept": "text/event-stream"}
    ) as reply:
        lines = [await reply.content.readline() for _ in range(6)]
    assert json.loads(lines[5].removeprefix(b"data: ")) == notice
    status, _, headers = await read_page(gateway, http, "orders")
    assert status == 200
    assert headers["Deprecation"] == f"@{NOW_S}"
    assert parsedate_to_datetime(headers["Sunset"]).isoformat() == "2027-01-31T00:00:00+00:00"
    links = headers.getall("Link")
    assert '</v1/topics/alerts>; rel="successor-version"' in links
    assert any('rel="next"' in link for link in links)


async def test_a_retired_topic_is_410_and_its_sockets_are_closed_for_good(gateway, http):
    async with gateway.subscribe("orders") as reader:
        await receive(reader, 1)
        await put(gateway, http, "orders", state="retired", successor="alerts")
        code, reason = await close_of(reader)
    assert (code, reason["code"], reason["retry_ms"]) == (4404, "topic_retired", None)
    status, problem, _ = await read_page(gateway, http, "orders")
    assert (status, problem["code"], problem["successor"]) == (410, "topic_retired", "alerts")
    with pytest.raises(InvalidStatus) as refusal:
        async with gateway.subscribe("orders"):
            pass
    assert refusal.value.response.status_code == 410
    async with http.post(f"{gateway.url}/v1/tickets", json={"topic": "orders"}, headers=gateway.headers()) as reply:
        assert reply.status == 410
    assert (await listed(gateway, http))["orders"]["state"] == "retired"
    await put(gateway, http, "orders", state="published")
    assert (await read_page(gateway, http, "orders"))[0] == 200


async def test_a_socket_with_several_topics_stays_when_one_of_them_is_retired(gateway, http):
    async with gateway.subscribe("alerts") as socket:
        await receive(socket, 1)
        await socket.send('{"id":1,"sub":"orders"}')
        while "ok" not in (await receive(socket, 1))[0]:
            pass
        await put(gateway, http, "orders", state="retired")
        said = {}
        while said.get("sys") != "end":
            [said] = await receive(socket, 1)
        assert (said["t"], said["code"], said["retry_ms"]) == ("orders", "topic_retired", None)
        await gateway.orders(1, 1, stream="alerts")
        assert (await events(socket, 1))[0]["t"] == "alerts"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"state": "gone"}, "another shape"),
        ({"state": "draft", "colour": "red"}, "another shape"),
        ({"state": "published", "successor": "alerts"}, "only a deprecated or retired"),
        ({"state": "deprecated", "successor": "orders"}, "its own successor"),
        ({"state": "deprecated", "successor": "hidden"}, "no topic 'hidden'"),
        ({"state": "deprecated", "sunset": "2027-01-31T00:00:00"}, "needs a zone"),
        ({"state": "deprecated", "sunset": "0001-01-01T00:00:00+14:00"}, "between 1970 and 9998"),
        ({"state": "retired", "sunset": "9999-12-31T23:59:59-14:00"}, "between 1970 and 9998"),
        ({"state": "published", "description": "a\x00b"}, "cannot be seen"),
        ({"state": "published", "version": "two words"}, "version is"),
        ({"state": "published", "version": ""}, "version is"),
        ({"state": "published", "description": "x" * 4_001}, "longer than 4000"),
    ],
)
async def test_a_change_that_makes_no_sense_is_refused_with_the_reason(gateway, http, change, why):
    status, problem = await put(gateway, http, "orders", **change)
    assert (status, problem["code"]) == (400, "bad_request")
    assert why in problem["detail"]


def test_the_time_of_deprecation_is_kept_while_the_topic_is_ending():
    def after(before: Lifecycle, state: State, now_s: int) -> Lifecycle:
        return changed("orders", before, LifecycleChange(state), settings=LifecycleSettings(), now_s=now_s)

    deprecated = after(PUBLISHED, State.DEPRECATED, 100)
    assert after(deprecated, State.RETIRED, 200).deprecated_at_s == 100
    assert after(deprecated, State.PUBLISHED, 200).deprecated_at_s is None


async def test_a_change_outlives_the_process(tmp_path):
    for expected in (PUBLISHED, Lifecycle(State.DEPRECATED, "3", "Old.", "alerts", 2, 1)):
        database = open_gateway_database(tmp_path)
        lifecycles = Lifecycles(database, clock=SystemClock(), settings=LifecycleSettings())
        await lifecycles.load()
        assert lifecycles.of("orders") == expected
        await lifecycles.put("orders", Lifecycle(State.DEPRECATED, "3", "Old.", "alerts", 2, 1), changed_by="tester")
        database.close()


async def test_another_replica_hears_of_a_change(tmp_path, postgres_url):
    databases = [await asyncio.to_thread(open_gateway_database, tmp_path, postgres_url) for _ in range(2)]
    first, second = (
        Lifecycles(database, clock=SystemClock(), settings=LifecycleSettings(poll_s=0.02)) for database in databases
    )
    heard = asyncio.Queue()
    second.on_change(lambda topic, lifecycle: heard.put_nowait((topic, lifecycle)))
    stop = asyncio.Event()
    following = asyncio.create_task(second.run(stop))
    retired = Lifecycle(State.RETIRED)
    await first.put("orders", retired, changed_by="tester")
    async with asyncio.timeout(10):
        assert await heard.get() == ("orders", retired)
    with pytest.raises(PenstockError, match="topic_retired"):
        await second.check("orders", None)
    stop.set()
    await following
    for database in databases:
        await asyncio.to_thread(database.close)
