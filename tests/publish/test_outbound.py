"""What webhooks and e-mail alerts have in common: rights, order, repeats, what failed, and who breaks."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import sqlite3
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hook_receiver import Receiver, receiver
from mail_server import MailServer, mail_server
from prometheus_client import REGISTRY
from publish.conftest import Gateway, running_gateway

from penstock.errors import PenstockError
from penstock.role import Ports
from penstock_publish.authority import open_authority
from penstock_publish.gateway_database import DATABASE_FILE
from penstock_publish.oauth.accounts import AccountStore
from penstock_publish.oauth.clients import Client, hashed_secret
from penstock_publish.oauth.settings import LoginSettings
from penstock_publish.service import build
from penstock_publish.settings import AuthSettings, PublishSettings

TO = ["ops@shop.example", "boss@shop.example"]


@pytest.fixture
async def there() -> AsyncIterator[Receiver]:
    async with receiver() as found:
        yield found


@pytest.fixture
async def post() -> AsyncIterator[MailServer]:
    async with mail_server() as found:
        yield found


@pytest.fixture
async def sending(tmp_path, clock, post: MailServer) -> AsyncIterator[Gateway]:
    """A gateway with webhooks and mails, and the client behind the tests' tokens."""
    hooks = {"insecure_http": True, "networks_allowed": ["127.0.0.0/8"], "idle_s": 0.05, "failed_max": 6}
    mails = {"host": "127.0.0.1", "port": post.port, "tls": "none", "from_address": "alerts@penstock.example",
             "recipient_domains": ["shop.example"], "idle_s": 0.05}  # fmt: skip
    async with running_gateway(tmp_path, clock, webhooks=hooks, email=mails) as gateway:
        await may(gateway, "*:read")
        yield gateway


async def may(gateway: Gateway, scope: str) -> None:
    """Let the tests' client have these scopes."""
    await gateway.authority.embedded.put_client(Client("tester", hashed_secret("s"), scope))


async def call(gateway: Gateway, http, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    async with http.request(method, gateway.url + path, json=body, headers=gateway.headers()) as reply:
        return reply.status, await reply.json(content_type=None) if reply.status != 204 else None


async def hooked(gateway: Gateway, http, there: Receiver) -> str:
    """The path of a new webhook."""
    status, made = await call(gateway, http, "POST", "/v1/webhooks", {"topic": "orders", "url": there.url})
    assert status == 201, made
    return f"/v1/webhooks/{made['id']}"


async def until(condition: Any, gateway: Gateway | None = None, *, step_s: float = 1) -> None:
    """Wait for it; with a gateway its clock goes on every now and then."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)
            if gateway is not None:
                await gateway.clock.advance(step_s)


async def shown(gateway: Gateway, http, path: str, *, true: Any) -> Any:
    """What it says once `true` holds for it."""
    async with asyncio.timeout(10):
        while True:
            found = (await call(gateway, http, "GET", path))[1]
            if true(found):
                return found
            await asyncio.sleep(0.01)


def numbers(there: Receiver) -> list[int]:
    return [event["d"]["n"] for taken in there.taken for event in taken["data"]["events"]]


async def refused_one_by_one(gateway: Gateway, there: Receiver, count: int) -> None:
    """So many requests that the receiver refuses, an event each, in the same millisecond."""
    there.answer = lambda _: 400
    for number in range(count):
        before = len(there.requests)
        await gateway.orders(number, 1)
        await until(lambda before=before: len(there.requests) > before)


async def test_nothing_is_sent_again_because_the_database_is_away(sending, http, there: Receiver):
    await hooked(sending, http, there)
    elsewhere = sqlite3.connect(sending.data_dir / DATABASE_FILE, isolation_level=None)

    def taken(_: Any) -> int:
        elsewhere.execute("BEGIN EXCLUSIVE")
        return 200

    database = sending.authority.database
    await database.run("waiting less", lambda one: one.exec_driver_sql("PRAGMA busy_timeout = 20"))
    there.answer = taken
    await sending.orders(0, 1)
    await until(lambda: there.taken)
    there.answer = lambda _: 200
    with pytest.raises(PenstockError, match="locked"):
        await database.run("asking behind the delivery", lambda one: one.exec_driver_sql("SELECT 1 FROM webhooks"))
    elsewhere.execute("ROLLBACK")
    elsewhere.close()
    await sending.orders(1, 1)
    await until(lambda: len(there.taken) > 1, sending)
    assert numbers(there) == [0, 1]


async def test_who_loses_the_right_between_two_tries_gets_no_other_one(sending, http, there: Receiver):
    path = await hooked(sending, http, there)
    there.answer = lambda _: 503
    await sending.orders(0, 1)
    await until(lambda: there.requests)
    await may(sending, "alerts:read")
    there.answer = lambda _: 200
    await sending.pass_time(30, step_s=1)
    found = await shown(sending, http, path, true=lambda one: one["paused"])
    assert found["paused"].startswith("insufficient_scope")
    assert (len(there.requests), there.taken) == (1, [])
    await may(sending, "orders:read")
    assert await call(sending, http, "POST", f"{path}/redeliver") == (200, {"delivered": 0, "left": 0})
    await until(lambda: numbers(there) == [0], sending)


async def test_who_lost_the_right_cannot_have_sent_again_what_failed(sending, http, there: Receiver):
    path = await hooked(sending, http, there)
    await refused_one_by_one(sending, there, 1)
    await shown(sending, http, f"{path}/failed", true=lambda one: one["failed"])
    await may(sending, "alerts:read")
    there.answer = lambda _: 200
    status, said = await call(sending, http, "POST", f"{path}/redeliver")
    assert (status, said["code"], there.taken) == (403, "insufficient_scope", [])


async def test_what_a_person_made_ends_with_the_rights_of_the_person(sending, http, there: Receiver):
    embedded = sending.authority.embedded
    accounts = AccountStore(sending.authority.database, embedded.context.store, LoginSettings())
    ann = await asyncio.to_thread(accounts.add, "ann@shop.example", "correct horse battery", "*:read", now_s=0.0)
    token = embedded.issuer.sign("tester", "orders:read", subject=ann.subject).text
    headers, asked = {"Authorization": f"Bearer {token}"}, {"topic": "orders", "url": there.url}
    async with http.post(f"{sending.url}/v1/webhooks", json=asked, headers=headers) as reply:
        path = f"/v1/webhooks/{(await reply.json())['id']}"
    await sending.orders(0, 1)
    await until(lambda: numbers(there) == [0])
    await asyncio.to_thread(accounts.set_scope, "ann@shop.example", "alerts:read")
    await sending.orders(1, 1)
    found = await shown(sending, http, path, true=lambda one: one["paused"])
    assert found["paused"].startswith("insufficient_scope")
    assert numbers(there) == [0]


async def test_one_that_breaks_again_and_again_is_paused_and_the_others_go_on(sending, http, there: Receiver):
    path = await hooked(sending, http, there)
    other = await hooked(sending, http, there)
    with sqlite3.connect(sending.data_dir / DATABASE_FILE) as writing:  # what no release writes
        writing.execute("UPDATE webhooks SET secret = 'whsec_x' WHERE id = ?", [path.rpartition("/")[2]])
    writing.close()
    await sending.orders(0, 1)
    broken: dict[str, Any] = {"paused": None}
    async with asyncio.timeout(10):
        while broken["paused"] is None:
            await sending.clock.advance(5)
            await asyncio.sleep(0.01)
            broken = (await call(sending, http, "GET", path))[1]
    assert broken["paused"].startswith("internal")
    await until(lambda: numbers(there) == [0])
    await sending.orders(1, 1)
    await until(lambda: numbers(there) == [0, 1], sending)
    assert (await call(sending, http, "GET", other))[1]["paused"] is None


async def test_what_is_sent_counts_in_the_plan_and_waits_for_it(tmp_path, clock, http, there: Receiver):
    hooks = {"insecure_http": True, "networks_allowed": ["127.0.0.0/8"], "idle_s": 60}
    plans = {"own": {"few": {"messages_per_day": 3}}, "clients": {"tester": "few"}}
    async with running_gateway(tmp_path, clock, webhooks=hooks, plans=plans) as gateway:
        await may(gateway, "*:read")
        await hooked(gateway, http, there)
        for first in (0, 2):
            await gateway.orders(first, 2)
            await until(lambda first=first: len(numbers(there)) == first + 2)
        await gateway.orders(4, 2)
        await gateway.pass_time(100, step_s=5)
        assert numbers(there) == [0, 1, 2, 3]
        clock.jump(86_400)
        await until(lambda: len(numbers(there)) == 6, gateway)
        assert numbers(there) == [0, 1, 2, 3, 4, 5], "the next day"


async def test_with_a_client_all_that_it_had_ends(sending, http, there: Receiver):
    await hooked(sending, http, there)
    await refused_one_by_one(sending, there, 1)
    await sending.authority.embedded.remove_client("tester")
    await sending.orders(5, 1)
    await asyncio.sleep(0.1)
    assert len(there.requests) == 1
    for listener in sending.authority._listeners:
        listener("client:tester")
    with sqlite3.connect(sending.data_dir / DATABASE_FILE) as reading:
        counted = "SELECT (SELECT count(*) FROM webhooks) + (SELECT count(*) FROM webhook_failures)"
        await until(lambda: reading.execute(counted).fetchone() == (0,), sending)
    reading.close()


async def test_what_failed_in_the_same_millisecond_keeps_the_order_of_the_topic(sending, http, there: Receiver):
    path = await hooked(sending, http, there)
    await refused_one_by_one(sending, there, 5)
    ids = [headers["webhook-id"] for headers, _ in there.requests]
    listed = await shown(sending, http, f"{path}/failed", true=lambda one: len(one["failed"]) == 5)
    assert [one["id"] for one in listed["failed"]] == ids
    there.answer = lambda _: 200
    assert await call(sending, http, "POST", f"{path}/redeliver") == (200, {"delivered": 5, "left": 0})
    assert numbers(there) == [0, 1, 2, 3, 4]


async def test_what_is_refused_again_does_not_hold_up_what_came_after_it_and_can_be_deleted(
    sending, http, there: Receiver
):
    path = await hooked(sending, http, there)
    await refused_one_by_one(sending, there, 3)
    poison = there.requests[0][0]["webhook-id"]
    there.answer = lambda said: 400 if said["data"]["events"][0]["d"]["n"] == 0 else 200
    await shown(sending, http, f"{path}/failed", true=lambda one: len(one["failed"]) == 3)
    assert await call(sending, http, "POST", f"{path}/redeliver") == (200, {"delivered": 2, "left": 1})
    assert numbers(there) == [1, 2]
    assert (await call(sending, http, "DELETE", f"{path}/failed/{poison}"))[0] == 204
    assert (await call(sending, http, "DELETE", f"{path}/failed/{poison}"))[0] == 404
    assert await call(sending, http, "POST", f"{path}/redeliver") == (200, {"delivered": 0, "left": 0})


async def test_an_operator_sees_what_waits_what_was_put_aside_and_what_is_paused(sending, http, there: Receiver):
    path = await hooked(sending, http, there)

    def measured(name: str, **more: str) -> float:
        return REGISTRY.get_sample_value(f"penstock_outbound_{name}", {"kind": "webhooks", **more}) or 0.0

    before = measured("events_total", outcome="refused")
    there.answer = lambda _: 503
    await sending.orders(0, 2)
    await until(lambda: there.requests)
    await until(lambda: measured("retrying") == 1)
    there.answer = lambda _: 400
    await until(lambda: measured("events_total", outcome="refused") == before + 2, sending)
    assert measured("retrying") == 0
    await refused_one_by_one(sending, there, 5)
    assert "failed_max" in (await shown(sending, http, path, true=lambda one: one["paused"]))["paused"]
    await until(lambda: measured("paused") == 1, sending)


async def test_a_new_secret_signs_beside_the_one_of_before_until_that_is_over(sending, http, there: Receiver):
    body = {"topic": "orders", "url": there.url}
    first = (await call(sending, http, "POST", "/v1/webhooks", body))[1]
    status, second = await call(sending, http, "POST", f"/v1/webhooks/{first['id']}/secret")
    assert (status, set(second)) == (200, {"id", "secret"})

    def signed(secret: str, number: int) -> str:
        headers, text = there.requests[number]
        said = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + text
        proof = hmac.new(base64.b64decode(secret.removeprefix("whsec_")), said, hashlib.sha256).digest()
        return "v1," + base64.b64encode(proof).decode()

    await sending.orders(0, 1)
    await until(lambda: len(there.requests) == 1)
    expected = f"{signed(second['secret'], 0)} {signed(first['secret'], 0)}"
    assert there.requests[0][0]["webhook-signature"] == expected
    sending.clock.jump(86_401)
    await sending.orders(1, 1)
    await until(lambda: len(there.requests) == 2)
    assert there.requests[1][0]["webhook-signature"] == signed(second["secret"], 1)


async def test_who_got_a_mail_by_a_redelivery_does_not_get_it_by_the_next_one(sending, http, post: MailServer):
    post.of_mail = lambda: "554 no"
    made = (await call(sending, http, "POST", "/v1/emails", {"topic": "orders", "to": TO}))[1]
    await sending.orders(0, 1)
    path = f"/v1/emails/{made['id']}"
    await shown(sending, http, f"{path}/failed", true=lambda one: one["failed"])
    post.of_mail = lambda: "250 taken"
    post.of_recipient = lambda to: "550 unknown" if to == TO[1] else "250 fine"
    assert await call(sending, http, "POST", f"{path}/redeliver") == (200, {"delivered": 0, "left": 1})
    assert [mail.to for mail in post.mails] == [(TO[0],)]
    assert [one["to"] for one in (await call(sending, http, "GET", f"{path}/failed"))[1]["failed"]] == [[TO[1]]]
    post.of_recipient = lambda _: "250 fine"
    assert await call(sending, http, "POST", f"{path}/redeliver") == (200, {"delivered": 1, "left": 0})
    assert [mail.to for mail in post.mails] == [(TO[0],), (TO[1],)]


async def test_who_loses_the_right_while_some_have_a_mail_does_not_send_it_to_them_again(
    sending, http, post: MailServer
):
    post.of_recipient = lambda to: "450 busy" if to == TO[1] else "250 fine"
    made = (await call(sending, http, "POST", "/v1/emails", {"topic": "orders", "to": TO}))[1]
    await sending.orders(0, 1)
    await until(lambda: post.mails)
    await may(sending, "alerts:read")
    post.of_recipient = lambda _: "250 fine"
    await sending.pass_time(30, step_s=1)
    path = f"/v1/emails/{made['id']}"
    await shown(sending, http, path, true=lambda one: one["paused"])
    await may(sending, "orders:read")
    assert await call(sending, http, "POST", f"{path}/redeliver") == (200, {"delivered": 1, "left": 0})
    assert [mail.to for mail in post.mails] == [(TO[0],), (TO[1],)]


async def test_a_part_that_breaks_for_good_ends_the_role_at_once(tmp_path, clock, sending):
    folder = tmp_path / "other"
    folder.mkdir()
    authority = await open_authority(folder, AuthSettings(), clock=clock, public_url="http://127.0.0.1:1")
    ports = Ports(sending.log, sending.store, clock, authority.access)
    running = asyncio.create_task(build(PublishSettings(), ports, authority=authority).run(asyncio.Event()))
    await asyncio.sleep(0.1)
    await authority.close()  # there is no database any more
    await until(running.done, sending, step_s=5)
    with pytest.raises(RuntimeError, match="after shutdown"):
        await running
