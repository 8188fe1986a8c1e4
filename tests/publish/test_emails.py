"""E-mail alerts against a real SMTP server: sent once, tried again, gathered, kept where they fail, not misled."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from typing import Any

import pytest
from mail_server import MailServer, mail_server
from publish.conftest import Gateway, orders_batch, running_gateway

from penstock.errors import PenstockError
from penstock.role import Ports
from penstock_publish.gateway_database import DATABASE_FILE
from penstock_publish.oauth.clients import Client, hashed_secret
from penstock_publish.service import build
from penstock_publish.settings import PublishSettings

TO = ["ops@shop.example", "boss@shop.example"]


@pytest.fixture
async def post() -> AsyncIterator[MailServer]:
    async with mail_server() as found:
        yield found


def near(post: MailServer, **more: Any) -> dict[str, Any]:
    return {
        "host": "127.0.0.1",
        "port": post.port,
        "tls": "none",
        "from_address": "alerts@penstock.example",
        "recipient_domains": ["shop.example"],
        "idle_s": 0.05,
        "events_shown_max": 3,
    } | more


@pytest.fixture
async def mailing(tmp_path, clock, post: MailServer) -> AsyncIterator[Gateway]:
    async with running_gateway(tmp_path, clock, email=near(post)) as gateway:
        await known(gateway)
        yield gateway


async def known(gateway: Gateway) -> None:
    """The clients behind the tests' tokens."""
    for client_id in ("tester", "other"):
        await gateway.authority.embedded.put_client(Client(client_id, hashed_secret("s"), "*:read"))


async def call(
    gateway: Gateway, http, method: str, path: str, body: Any = None, *, client: str = "tester", scope: str = "*:read"
) -> tuple[int, Any]:
    token = gateway.authority.embedded.issuer.issue(client, scope)
    headers = {"Authorization": f"Bearer {token}"}
    async with http.request(method, gateway.url + path, json=body, headers=headers) as reply:
        return reply.status, await reply.json(content_type=None) if reply.status != 204 else None


async def made(gateway: Gateway, http, **asked: Any) -> dict[str, Any]:
    status, email = await call(gateway, http, "POST", "/v1/emails", {"topic": "orders", "to": TO, **asked})
    assert status == 201, email
    return email


async def until(condition: Any, gateway: Gateway | None = None, *, step_s: float = 1) -> None:
    """Wait for it; with a gateway its clock goes on every now and then."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)
            if gateway is not None:
                await gateway.clock.advance(step_s)


async def test_an_event_becomes_one_mail_to_all_recipients(mailing, http, post: MailServer):
    email = await made(mailing, http, subject="order {id}", body="{id} of {region}: {n} {{pieces}}")
    assert (email["to"], email["paused"]) == (TO, None)
    await mailing.orders(7, 1)
    await until(lambda: post.mails)
    await asyncio.sleep(0.2)
    [mail] = post.mails
    assert (mail.sender, mail.to) == ("alerts@penstock.example", tuple(TO))
    assert (mail.message["Subject"], mail.message["To"]) == ("order k1", ", ".join(TO))
    assert mail.message["Auto-Submitted"] == "auto-generated"
    assert mail.message["Message-ID"].endswith("@penstock.example>")
    assert mail.text == "k1 of north: 7 {pieces}\n"


async def test_without_templates_a_mail_names_topic_and_columns(mailing, http, post: MailServer):
    await made(mailing, http, filter="region = 'north'")
    await mailing.orders(0, 2)
    await until(lambda: post.mails)
    assert post.mails[0].message["Subject"] == "orders: 1 event"
    assert post.mails[0].text == "id: k1\nn: 1\nregion: north\n"


async def test_events_between_mails_are_gathered_and_counted(mailing, http, post: MailServer):
    await made(mailing, http, subject="order {n}", body="{n}")
    await mailing.orders(0, 1)
    await until(lambda: len(post.mails) == 1)
    sent_s = mailing.clock.monotonic_s()
    for first in (1, 5, 9):
        await mailing.orders(first, 4)
    await asyncio.sleep(0.2)
    assert len(post.mails) == 1
    await until(lambda: len(post.mails) == 2, mailing, step_s=10)
    assert mailing.clock.monotonic_s() - sent_s >= 300, "12 an hour"
    assert post.mails[1].message["Subject"] == "order 1 (+11)"
    assert post.mails[1].text == "1\n\n2\n\n3\n\nAnd 9 more events of orders.\n"


async def test_a_mail_for_which_there_was_no_room_is_tried_again_as_it_was(mailing, http, post: MailServer):
    answers = ["451 later", "452 full", "250 taken"]
    post.of_mail = lambda: answers.pop(0)
    await made(mailing, http)
    await mailing.orders(0, 1)
    await until(lambda: post.mails, mailing)
    assert len(post.offered) == 3
    assert len(set(post.offered)) == 1, "Message-ID and all"


async def test_recipients_who_have_a_mail_do_not_get_it_by_the_tries_for_others(mailing, http, post: MailServer):
    answers = {TO[0]: ["250 fine"], TO[1]: ["450 busy", "250 fine"]}
    post.of_recipient = lambda to: answers[to].pop(0)
    await made(mailing, http)
    await mailing.orders(0, 1)
    await until(lambda: len(post.mails) == 2, mailing)
    assert [mail.to for mail in post.mails] == [(TO[0],), (TO[1],)]


async def test_what_is_refused_for_good_is_kept_and_sent_again_on_demand(mailing, http, post: MailServer):
    post.of_mail = lambda: "554 spam, we think"
    email = await made(mailing, http, body="{n}")
    await mailing.orders(0, 1)
    await until(lambda: post.offered)
    path = f"/v1/emails/{email['id']}"
    failed: list[Any] = []
    for _ in range(200):
        failed = (await call(mailing, http, "GET", f"{path}/failed"))[1]["failed"]
        if failed:
            break
        await asyncio.sleep(0.01)
    [one] = failed
    assert (one["to"], one["events"]) == (TO, 1)
    assert one["reason"] == "the mail server answered 554 spam, we think"
    post.of_mail = lambda: "250 taken"
    assert await call(mailing, http, "POST", f"{path}/redeliver") == (200, {"delivered": 1, "left": 0})
    assert (await call(mailing, http, "GET", f"{path}/failed"))[1] == {"failed": []}
    [mail] = post.mails
    assert (mail.text, mail.message["Message-ID"]) == ("0\n", one["id"])
    await mailing.orders(1, 1)
    await until(lambda: len(post.mails) == 2, mailing, step_s=10)
    assert post.mails[1].text == "1\n", "it went on"


async def test_a_restart_loses_nothing(mailing, http, post: MailServer):
    post.of_mail = lambda: "451 later"
    await made(mailing, http, body="{n}")
    await mailing.orders(0, 2)
    await until(lambda: post.offered)
    mailing.stop.set()
    post.of_mail = lambda: "250 taken"
    settings = PublishSettings.model_validate({"email": near(post)})
    ports = Ports(mailing.log, mailing.store, mailing.clock, mailing.authority.access)
    stop = asyncio.Event()
    running = asyncio.create_task(build(settings, ports, authority=mailing.authority).run(stop))
    await until(lambda: post.mails, mailing)
    stop.set()
    await running
    [mail] = post.mails
    assert mail.text == "0\n\n1\n"
    first = post.offered[0].split(b"Message-ID: ")[1].split()[0].decode()
    assert mail.message["Message-ID"] == first, "a try after the restart can be told"


async def test_values_of_events_cannot_become_headers_recipients_or_the_end_of_a_mail(
    mailing, http, post: MailServer
):
    await made(mailing, http, subject="{id}", body="{id}|{region}")
    nasty = "x\r\nBcc: thief@evil.example\r\n\r\n<b>hi</b>"
    await mailing.commit(orders_batch([(nasty, 1, "\r\n.\r\nMAIL FROM:<me@evil.example>\r\n")]))
    await until(lambda: post.mails)
    await asyncio.sleep(0.1)
    [mail] = post.mails
    assert mail.to == tuple(TO)
    assert mail.message["Bcc"] is None
    assert mail.message["Subject"] == "x Bcc: thief@evil.example <b>hi</b>"
    assert "MAIL FROM:<me@evil.example>" in mail.text
    assert sum(command.upper().startswith("MAIL") for command in post.commands) == 1


@pytest.mark.parametrize(
    ("asked", "scope", "status", "code"),
    [
        ({"to": []}, "*:read", 400, "bad_request"),
        ({"to": ["ops@shop.example\r\nBcc: thief@evil.example"]}, "*:read", 400, "bad_request"),
        ({"to": ["ops@shop.example, thief@evil.example"]}, "*:read", 400, "bad_request"),
        ({"to": ["ops@evil.example"]}, "*:read", 400, "bad_request"),
        ({"to": ["ops@sub.shop.example"]}, "*:read", 400, "bad_request"),
        ({"subject": "hi\r\nBcc: thief@evil.example"}, "*:read", 400, "bad_request"),
        ({"subject": "{id.__class__}"}, "*:read", 400, "bad_request"),
        ({"body": "{id[0]}"}, "*:read", 400, "bad_request"),
        ({"body": "{id!r:>1000000}"}, "*:read", 400, "bad_request"),
        ({"body": "{"}, "*:read", 400, "bad_request"),
        ({"filter": "nope = 1"}, "*:read", 400, "bad_filter"),
        ({"topic": "nothing"}, "*:read", 404, "unknown_topic"),
        ({}, "alerts:read", 403, "insufficient_scope"),
    ],
)
async def test_what_cannot_be_a_subscription_is_refused(mailing, http, asked, scope, status, code):
    body = {"topic": "orders", "to": TO, **asked}
    found, said = await call(mailing, http, "POST", "/v1/emails", body, scope=scope)
    assert (found, said["code"]) == (status, code)


async def test_a_client_sees_and_ends_its_own_only(mailing, http, post: MailServer):
    email = await made(mailing, http)
    path = f"/v1/emails/{email['id']}"
    assert (await call(mailing, http, "GET", path, client="other"))[0] == 404
    assert (await call(mailing, http, "DELETE", path, client="other"))[0] == 404
    assert (await call(mailing, http, "GET", "/v1/emails", client="other"))[1] == {"emails": []}
    assert (await call(mailing, http, "GET", "/v1/emails"))[1] == {"emails": [email]}
    assert (await call(mailing, http, "DELETE", path))[0] == 204
    await mailing.orders(0, 1)
    await asyncio.sleep(0.2)
    assert post.offered == []
    assert (await call(mailing, http, "GET", path))[0] == 404


async def test_a_client_that_loses_its_scope_gets_nothing_more(mailing, http, post: MailServer):
    email = await made(mailing, http)
    await mailing.authority.embedded.put_client(Client("tester", hashed_secret("s"), "alerts:read"))
    await mailing.orders(0, 1)
    shown: dict[str, Any] = {}
    for _ in range(100):
        shown = (await call(mailing, http, "GET", f"/v1/emails/{email['id']}"))[1]
        if shown["paused"] is not None:
            break
        await asyncio.sleep(0.02)
    assert shown["paused"].startswith("insufficient_scope")
    assert post.offered == []


async def test_without_a_mail_server_the_error_names_the_setting(gateway, http):
    await known(gateway)
    status, said = await call(gateway, http, "POST", "/v1/emails", {"topic": "orders", "to": TO})
    assert (status, said["code"]) == (404, "not_found")
    assert "publish.email.host" in said["detail"]


async def test_a_mail_is_not_sent_again_because_the_database_is_away(mailing, http, post: MailServer):
    await made(mailing, http, body="{n}")
    elsewhere = sqlite3.connect(mailing.data_dir / DATABASE_FILE, isolation_level=None)

    def taken() -> str:
        elsewhere.execute("BEGIN EXCLUSIVE")
        return "250 taken"

    database = mailing.authority.database
    await database.run("waiting less", lambda one: one.exec_driver_sql("PRAGMA busy_timeout = 20"))
    post.of_mail = taken
    await mailing.orders(0, 1)
    await until(lambda: post.mails)
    with pytest.raises(PenstockError, match="locked"):
        await database.run("asking behind the delivery", lambda one: one.exec_driver_sql("SELECT 1 FROM emails"))
    elsewhere.execute("ROLLBACK")
    elsewhere.close()
    post.of_mail = lambda: "250 taken"
    await mailing.orders(1, 1)
    await until(lambda: len(post.offered) == 2, mailing, step_s=10)
    assert [mail.text for mail in post.mails] == ["0\n", "1\n"]


async def test_what_failed_is_sent_again_by_one_call_at_a_time(mailing, http, post: MailServer):
    post.of_mail = lambda: "554 no"
    email = await made(mailing, http)
    await mailing.orders(0, 1)
    path = f"/v1/emails/{email['id']}"
    for _ in range(200):
        if (await call(mailing, http, "GET", f"{path}/failed"))[1]["failed"]:
            break
        await asyncio.sleep(0.01)
    post.of_mail = lambda: "250 taken"
    calls = [call(mailing, http, "POST", f"{path}/redeliver") for _ in range(4)]
    assert all(status in (200, 409) for status, _ in await asyncio.gather(*calls))
    assert len(post.mails) == 1
