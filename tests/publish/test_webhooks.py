"""Webhooks against a real receiver: signed, in order, tried again, kept where they fail, of their owner only."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hook_receiver import Receiver, receiver
from publish.conftest import Gateway

from penstock.role import Ports
from penstock_publish.oauth.clients import Client, hashed_secret
from penstock_publish.service import build
from penstock_publish.settings import PublishSettings

NEAR = {"insecure_http": True, "networks_allowed": ["127.0.0.0/8"], "idle_s": 0.05, "batch_events_max": 3}
pytestmark = pytest.mark.parametrize("gateway", [{"webhooks": NEAR}], indirect=True)


@pytest.fixture
async def there() -> AsyncIterator[Receiver]:
    async with receiver() as found:
        yield found


async def call(
    gateway: Gateway, http, method: str, path: str, body: Any = None, *, client: str = "tester", scope: str = "*:read"
) -> tuple[int, Any]:
    assert gateway.authority.embedded is not None
    token = gateway.authority.embedded.issuer.issue(client, scope)
    headers = {"Authorization": f"Bearer {token}"}
    async with http.request(method, gateway.url + path, json=body, headers=headers) as reply:
        return reply.status, await reply.json(content_type=None) if reply.status != 204 else None


@pytest.fixture
async def registered(gateway) -> None:
    """The client behind the tests' tokens, which webhooks look up."""
    for client_id in ("tester", "other"):
        await gateway.authority.embedded.put_client(Client(client_id, hashed_secret("s"), "*:read"))


async def made(gateway: Gateway, http, url: str, **asked: str) -> dict[str, Any]:
    status, webhook = await call(gateway, http, "POST", "/v1/webhooks", {"topic": "orders", "url": url, **asked})
    assert status == 201, webhook
    return webhook


async def until(condition: Any, gateway: Gateway | None = None) -> None:
    """Wait for it; with a gateway its clock goes on by a second every now and then."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)
            if gateway is not None:
                await gateway.clock.advance(1)


def numbers(there: Receiver) -> list[int]:
    return [event["d"]["n"] for taken in there.taken for event in taken["data"]["events"]]


async def test_events_come_in_order_in_batches_signed_as_standard_webhooks_ask_for(
    gateway, http, there: Receiver, registered
):
    await gateway.orders(0, 2)
    webhook = await made(gateway, http, there.url)
    await gateway.orders(2, 5)
    await until(lambda: len(numbers(there)) == 5)
    assert numbers(there) == [2, 3, 4, 5, 6], "from when it was made"
    assert [len(taken["data"]["events"]) for taken in there.taken] == [3, 2]
    assert {(taken["type"], taken["data"]["topic"]) for taken in there.taken} == {("penstock.events", "orders")}
    key = base64.b64decode(webhook["secret"].removeprefix("whsec_"))
    for headers, body in there.requests:
        said = {name.lower(): text for name, text in headers.items()}
        signed = f"{said['webhook-id']}.{said['webhook-timestamp']}.".encode() + body
        proof = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
        assert said["webhook-signature"] == f"v1,{proof}"
        assert said["webhook-timestamp"] == str(gateway.clock.now_ms() // 1000)
    status, shown = await call(gateway, http, "GET", f"/v1/webhooks/{webhook['id']}")
    assert (status, "secret" in shown, shown["paused"]) == (200, False, None)


async def test_a_filter_and_a_beginning_can_be_chosen(gateway, http, there: Receiver, registered):
    await gateway.orders(0, 6)
    await made(gateway, http, there.url, after="earliest", filter="region = 'north'")
    await until(lambda: len(numbers(there)) == 3)
    assert numbers(there) == [1, 3, 5]


async def test_what_is_not_taken_is_sent_again_later_with_the_same_id(gateway, http, there: Receiver, registered):
    answers = [503, 429, 500, 200]
    there.answer = lambda _: answers.pop(0)
    there.retry_after = "30"
    await made(gateway, http, there.url)
    started_s = gateway.clock.monotonic_s()
    await gateway.orders(0, 2)
    await until(lambda: len(there.requests) == 4, gateway)
    assert gateway.clock.monotonic_s() - started_s >= 90, "three times what Retry-After asks for"
    assert len({headers["webhook-id"] for headers, _ in there.requests}) == 1
    assert len({body for _, body in there.requests}) == 1
    assert numbers(there) == [0, 1]


async def test_what_fails_for_good_is_kept_and_delivered_again_on_demand(gateway, http, there: Receiver, registered):
    there.answer = lambda _: 400
    webhook = await made(gateway, http, there.url)
    await gateway.orders(0, 1)
    await until(lambda: len(there.requests) == 1)
    there.answer = lambda _: 200
    await gateway.orders(1, 1)
    await until(lambda: numbers(there) == [1])
    path = f"/v1/webhooks/{webhook['id']}"
    _, listed = await call(gateway, http, "GET", f"{path}/failed")
    assert [(one["events"], one["reason"]) for one in listed["failed"]] == [(1, "the receiver answered 400")]
    assert listed["failed"][0]["id"] == there.requests[0][0]["webhook-id"]
    assert await call(gateway, http, "POST", f"{path}/redeliver") == (200, {"delivered": 1, "left": 0})
    assert numbers(there) == [1, 0]
    assert (await call(gateway, http, "GET", f"{path}/failed"))[1] == {"failed": []}


async def test_what_failed_is_delivered_again_by_one_call_at_a_time(gateway, http, there: Receiver, registered):
    there.answer = lambda _: 400
    webhook = await made(gateway, http, there.url)
    for number in range(5):
        await gateway.orders(number, 1)
        await until(lambda number=number: len(there.requests) == number + 1)
    there.answer = lambda _: 200
    path = f"/v1/webhooks/{webhook['id']}/redeliver"
    replies = await asyncio.gather(*(call(gateway, http, "POST", path) for _ in range(4)))
    assert sorted(status for status, _ in replies) == [200, 409, 409, 409]
    assert sorted(numbers(there)) == [0, 1, 2, 3, 4]


async def test_a_receiver_that_is_gone_pauses_its_webhook_until_it_is_resumed(
    gateway, http, there: Receiver, registered
):
    there.answer = lambda _: 410
    webhook = await made(gateway, http, there.url)
    await gateway.orders(0, 1)
    await until(lambda: len(there.requests) == 1)
    path = f"/v1/webhooks/{webhook['id']}"
    for _ in range(100):
        _, shown = await call(gateway, http, "GET", path)
        if shown["paused"] is not None:
            break
        await asyncio.sleep(0.01)
    assert shown["paused"] == "the receiver answered 410"
    there.answer = lambda _: 200
    assert (await call(gateway, http, "POST", f"{path}/redeliver"))[0] == 200
    await until(lambda: numbers(there) == [0], gateway)


async def test_a_restart_loses_nothing(gateway, http, there: Receiver, registered):
    there.answer = lambda _: 503
    await made(gateway, http, there.url)
    await gateway.orders(0, 4)
    await until(lambda: bool(there.requests))
    gateway.stop.set()
    there.answer = lambda _: 200
    settings = PublishSettings.model_validate({"webhooks": NEAR})
    ports = Ports(gateway.log, gateway.store, gateway.clock, gateway.authority.access)
    stop = asyncio.Event()
    running = asyncio.create_task(build(settings, ports, authority=gateway.authority).run(stop))
    await until(lambda: len(numbers(there)) == 4, gateway)
    stop.set()
    await running
    assert numbers(there) == [0, 1, 2, 3]
    assert len({headers["webhook-id"] for headers, _ in there.requests}) == 2, "a try after the restart is the same"


async def test_a_client_sees_and_ends_its_own_webhooks_only(gateway, http, there: Receiver, registered):
    webhook = await made(gateway, http, there.url)
    path = f"/v1/webhooks/{webhook['id']}"
    assert (await call(gateway, http, "GET", path, client="other"))[0] == 404
    assert (await call(gateway, http, "DELETE", path, client="other"))[0] == 404
    assert (await call(gateway, http, "GET", "/v1/webhooks", client="other"))[1] == {"webhooks": []}
    assert [one["id"] for one in (await call(gateway, http, "GET", "/v1/webhooks"))[1]["webhooks"]] == [webhook["id"]]
    assert (await call(gateway, http, "DELETE", path))[0] == 204
    await gateway.orders(0, 1)
    await asyncio.sleep(0.2)
    assert there.requests == []
    assert (await call(gateway, http, "GET", path))[0] == 404


async def test_a_client_that_loses_its_scope_gets_nothing_more(gateway, http, there: Receiver, registered):
    webhook = await made(gateway, http, there.url)
    await gateway.authority.embedded.put_client(Client("tester", hashed_secret("s"), "alerts:read"))
    await gateway.orders(0, 1)
    for _ in range(100):
        _, shown = await call(gateway, http, "GET", f"/v1/webhooks/{webhook['id']}")
        if shown["paused"] is not None:
            break
        await asyncio.sleep(0.02)
    assert shown["paused"].startswith("insufficient_scope")
    assert there.requests == []


@pytest.mark.parametrize(
    ("asked", "scope", "status", "code"),
    [
        ({"topic": "nothing", "url": "http://127.0.0.1/"}, "*:read", 404, "unknown_topic"),
        ({"topic": "orders", "url": "http://127.0.0.1/"}, "alerts:read", 403, "insufficient_scope"),
        ({"topic": "orders", "url": "http://127.0.0.1/", "filter": "nope = 1"}, "*:read", 400, "bad_filter"),
        ({"topic": "orders", "url": "http://127.0.0.1/", "after": "x"}, "*:read", 400, "bad_cursor"),
        ({"topic": "orders", "url": "http://10.0.0.1/"}, "*:read", 400, "bad_request"),
        ({"topic": "orders", "url": "ftp://example.org/"}, "*:read", 400, "bad_request"),
        ({"topic": "orders", "url": "http://me:pw@127.0.0.1/"}, "*:read", 400, "bad_request"),
        ({"topic": "orders", "url": "http://[::ffff:10.0.0.1]/"}, "*:read", 400, "bad_request"),
        ({"topic": "orders"}, "*:read", 400, "bad_request"),
    ],
)
async def test_what_cannot_be_a_webhook_is_refused(gateway, http, registered, asked, scope, status, code):
    found, said = await call(gateway, http, "POST", "/v1/webhooks", asked, scope=scope)
    assert (found, said["code"]) == (status, code)


async def test_a_redirect_is_not_followed(gateway, http, there: Receiver, registered):
    there.answer = lambda _: 307
    webhook = await made(gateway, http, there.url)
    await gateway.orders(0, 1)
    await until(lambda: len(there.requests) == 1)
    await asyncio.sleep(0.1)
    _, listed = await call(gateway, http, "GET", f"/v1/webhooks/{webhook['id']}/failed")
    assert [one["reason"] for one in listed["failed"]] == ["the receiver answered 307"]
    assert len(there.requests) == 1
