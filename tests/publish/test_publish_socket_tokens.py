"""Tokens of a WebSocket, over real sockets: how they come, how they are renewed, when the socket ends with them."""

import asyncio
import base64
import json

import pytest
from publish.conftest import a_token, close_of, events, receive
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from penstock.http.access import Principal
from penstock.model.position import Cursor
from penstock_publish.oauth.key_keeper import open_key_keeper


def as_subprotocol(token):
    return "penstock.bearer." + base64.urlsafe_b64encode(token.encode()).rstrip(b"=").decode()


def open_socket(gateway, path="topics/orders", *, protocols=(), headers=None, origin=None):
    url = f"{gateway.url.replace('http', 'ws', 1)}/v1/{path}"
    return connect(
        url, subprotocols=protocols or None, additional_headers=headers or {}, origin=origin, compression=None,
        max_queue=None,
    )  # fmt: skip


async def refused(connection):
    with pytest.raises(InvalidStatus) as refusal:
        async with connection:
            pass
    return refusal.value.response.status_code, json.loads(refusal.value.response.body)["code"]


async def say(ws, **line):
    await ws.send(json.dumps(line))


async def test_a_token_comes_as_a_subprotocol_and_is_never_echoed_or_logged(gateway, capsys, caplog):
    token = gateway.token()
    offered = as_subprotocol(token)
    for protocols in (["penstock.v1", offered], [offered, "chat", "penstock.v1"]):
        async with open_socket(gateway, protocols=protocols, origin="https://elsewhere.example") as ws:
            assert ws.subprotocol == "penstock.v1"
            assert offered not in str(ws.response.headers)
            assert (await receive(ws, 1))[0]["sys"] == "open"
    assert await refused(open_socket(gateway, protocols=[offered])) == (400, "bad_request")
    said = capsys.readouterr()
    for text in (said.out, said.err, caplog.text):
        assert offered not in text
        assert token not in text


@pytest.mark.parametrize(
    ("protocols", "status", "code"),
    [
        (["penstock.v1"], 401, "unauthorized"),
        (["penstock.v1", "penstock.bearer.***"], 400, "bad_request"),
        (["penstock.v1", "penstock.bearer.YQ"], 401, "invalid_token"),
        (["penstock.v1", "penstock.bearer.YQ", "penstock.bearer.Yg"], 400, "bad_request"),
        (["penstock.v1", "penstock.bearer."], 401, "invalid_token"),
        (["penstock.v1", "penstock.bearer._w"], 400, "bad_request"),
    ],
)
async def test_what_is_wrong_with_the_subprotocol_is_said_before_the_upgrade(gateway, protocols, status, code):
    url = gateway.url.replace("http", "ws", 1) + "/v1/topics/orders"
    headers = {"Sec-WebSocket-Protocol": ", ".join(protocols)}
    assert await refused(connect(url, additional_headers=headers, compression=None)) == (status, code)


async def test_two_credentials_are_one_too_many(gateway):
    protocols = ["penstock.v1", as_subprotocol(gateway.token())]
    connection = open_socket(gateway, protocols=protocols, headers=gateway.headers())
    assert await refused(connection) == (400, "bad_request")


async def test_the_token_comes_in_the_first_message_then_everything_is_as_with_a_header(gateway):
    await gateway.orders(0, 3)
    async with open_socket(gateway, "topics/orders?auth=message&after=earliest&filter=n%20%3E%200") as ws:
        await say(ws, id=1, auth=gateway.token())
        assert await receive(ws, 1) == [{"id": 1, "ok": True, "exp": 3600}]
        assert (await receive(ws, 1))[0]["sys"] == "open"
        assert [event["d"]["n"] for event in await events(ws, 2)] == [1, 2]


async def test_lines_may_come_with_the_first_token(gateway):
    async with open_socket(gateway, "topics?auth=message") as ws:
        await ws.send(json.dumps({"auth": gateway.token()}) + "\n" + json.dumps({"id": 1, "sub": "orders"}))
        assert await receive(ws, 2) == [{"sys": "auth", "exp": 3600}, {"id": 1, "ok": True}]


@pytest.mark.parametrize(
    ("path", "first", "err", "close"),
    [
        ("topics/orders", '{"id":1,"auth":"nonsense"}', "invalid_token", 4401),
        ("topics/orders", '{"id":1,"sub":"orders"}', "bad_request", 4401),
        ("topics/orders", "hello", "bad_request", 4401),
        ("topics/orders", b"hello", "bad_request", 4401),
        ("topics/orders", "", "bad_request", 4401),
        ("topics/nothing", None, "unknown_topic", 4404),
        ("topics/alerts", None, "insufficient_scope", 4403),
        ("topics/orders?after=x", None, "bad_cursor", 4400),
        ("topics/orders?colour=red", None, "bad_request", 4400),
        ("topics?filter=x", None, "bad_request", 4400),
    ],
)
async def test_what_is_wrong_is_said_by_a_line_and_a_close_once_the_upgrade_is_done(gateway, path, first, err, close):
    joint = "&" if "?" in path else "?"
    async with open_socket(gateway, f"{path}{joint}auth=message") as ws:
        await ws.send(json.dumps({"auth": gateway.token("orders:read")}) if first is None else first)
        assert (await receive(ws, 1))[0]["err"] == err
        assert (await close_of(ws))[0] == close


async def test_who_says_nothing_is_closed_in_time(gateway):
    async with open_socket(gateway, "topics/orders?auth=message") as ws:
        await gateway.pass_time(9)
        assert ws.state.name == "OPEN"
        await gateway.pass_time(2)
        assert await close_of(ws) == (4408, {"code": "auth_timeout", "retry_ms": None, "after": None})


@pytest.mark.parametrize("gateway", [{"socket": {"unauthenticated_max": 1}}], indirect=True)
async def test_so_many_may_wait_for_their_token(gateway):
    async with open_socket(gateway, "topics?auth=message") as ws:
        assert await refused(open_socket(gateway, "topics?auth=message")) == (429, "too_many_requests")
        await say(ws, auth=gateway.token())
        await receive(ws, 1)
        async with open_socket(gateway, "topics?auth=message") as other:
            await say(other, auth=gateway.token())
            assert (await receive(other, 1))[0]["sys"] == "auth"


async def test_auth_is_message_or_nothing_and_no_way_around_the_origin_of_a_cookie(gateway):
    assert await refused(open_socket(gateway, "topics/orders?auth=later")) == (400, "bad_request")
    cookie = {"Cookie": f"penstock_session={gateway.token()}"}
    foreign = {"headers": cookie, "origin": "https://evil.example"}
    assert await refused(open_socket(gateway, **foreign)) == (403, "forbidden_origin")
    async with open_socket(gateway, "topics/orders?auth=message", **foreign) as ws:
        await say(ws, id=1, sub="orders")
        assert (await receive(ws, 1))[0]["err"] == "bad_request"
        assert (await close_of(ws))[0] == 4401


async def test_a_renewed_token_moves_the_end_of_the_socket(gateway):
    async with gateway.subscribe("orders") as ws:
        await ws.recv()
        await gateway.pass_time(3550, step_s=50)
        assert (await receive(ws, 1))[0]["sys"] == "expiring"
        await say(ws, auth=gateway.token())
        assert await receive(ws, 1) == [{"sys": "auth", "exp": 3600}]
        await gateway.pass_time(3500, step_s=50)
        await gateway.orders(0, 1)
        last = (await events(ws, 1))[0]["c"]
        await gateway.pass_time(60, step_s=10)
        assert (await receive(ws, 1))[0]["sys"] == "expiring"
        await gateway.pass_time(60, step_s=10)
        assert await close_of(ws) == (4401, {"code": "invalid_token", "retry_ms": None, "after": last})


async def test_a_token_of_another_caller_or_of_nobody_is_refused_and_the_old_one_still_counts(gateway):
    async with gateway.subscribe("orders") as ws:
        await ws.recv()
        for token in (a_token(gateway.authority, "*:read", client_id="another"), "nonsense", ""):
            await say(ws, id=1, auth=token)
            [reply] = await receive(ws, 1)
            assert (reply["id"], reply["err"], reply["retry"]) == (1, "invalid_token", False)
        await gateway.orders(0, 1)
        assert len(await events(ws, 1)) == 1
        await gateway.pass_time(3610, step_s=50)
        assert (await close_of(ws))[0] == 4401


async def test_what_the_new_token_does_not_allow_ends_with_a_notice_and_the_rest_goes_on(gateway):
    async with gateway.subscribe("orders") as ws:
        await say(ws, sub="alerts")
        await receive(ws, 2)
        await say(ws, id=1, auth=gateway.token("alerts:read"))
        found = await receive(ws, 2)
        after = Cursor("orders", 1, (0, 0)).text()
        assert {"id": 1, "ok": True, "exp": 3600} in found
        assert {"sys": "end", "t": "orders", "code": "insufficient_scope", "after": after, "retry_ms": None} in found
        await gateway.orders(0, 1)
        await gateway.orders(5, 1, stream="alerts")
        assert [event["t"] for event in await events(ws, 1)] == ["alerts"]
        await say(ws, id=2, sub="orders")
        assert (await receive(ws, 1))[0]["err"] == "insufficient_scope"
        await say(ws, id=3, auth=gateway.token("*:read"))
        await say(ws, id=4, sub="orders", after=after)
        assert [line.get("ok") for line in await receive(ws, 2)] == [True, True]
        assert [event["d"]["n"] for event in await events(ws, 1)] == [0]


def principal_of(gateway, token) -> Principal:
    return gateway.authority.access.issuers.verify(token)


async def test_the_newest_token_is_the_one_whose_revocation_closes_the_socket(gateway):
    first, second = gateway.token(), gateway.token()
    async with gateway.subscribe("orders", headers={"Authorization": f"Bearer {first}"}) as ws:
        await say(ws, auth=second)
        await receive(ws, 2)
        gateway.authority.revoked_now(principal_of(gateway, first))
        await gateway.orders(0, 1)
        assert len(await events(ws, 1)) == 1
        gateway.authority.revoked_now(principal_of(gateway, second))
        async with asyncio.timeout(1):
            assert (await close_of(ws))[0] == 4401


async def test_a_revoked_token_renews_nothing(gateway):
    token = gateway.token()
    gateway.authority.revoked_now(principal_of(gateway, token))
    async with gateway.subscribe("orders") as ws:
        await say(ws, id=1, auth=token)
        assert (await receive(ws, 2))[1]["err"] == "invalid_token"


async def ticket(gateway, http, **body):
    async with http.post(f"{gateway.url}/v1/tickets", json=body, headers=gateway.headers()) as reply:
        return (await reply.json())["ticket"]


async def test_a_ticket_for_a_topic_opens_no_other_until_a_token_comes(gateway, http):
    found = await ticket(gateway, http, topic="orders")
    async with open_socket(gateway, f"topics/orders?ticket={found}") as ws:
        await say(ws, id=1, sub="alerts")
        assert (await receive(ws, 2))[1]["err"] == "insufficient_scope"
        await say(ws, auth=gateway.token())
        await say(ws, id=2, sub="alerts")
        assert [line.get("ok") for line in await receive(ws, 2)] == [None, True]


async def test_a_ticket_for_no_topic_opens_a_socket_that_has_none(gateway, http):
    found = await ticket(gateway, http, topic=None)
    assert await refused(open_socket(gateway, f"topics/orders?ticket={found}")) == (401, "invalid_token")
    found = await ticket(gateway, http, topic=None)
    async with open_socket(gateway, f"topics?ticket={found}") as ws:
        await say(ws, id=1, sub="alerts")
        assert await receive(ws, 1) == [{"id": 1, "ok": True}]


@pytest.mark.parametrize("transport", ["header", "message", "sse"])
async def test_a_token_that_is_revoked_while_its_socket_opens_ends_it(gateway, http, transport):
    token = gateway.token()
    principal = await gateway.authority.access.verified(token)
    catalog = gateway.log.catalog

    async def revoked_meanwhile():
        gateway.log.catalog = catalog
        gateway.authority.revoked_now(principal)
        return await catalog()

    headers = {"Authorization": f"Bearer {token}"}
    if transport == "sse":
        gateway.log.catalog = revoked_meanwhile
        headers["Accept"] = "text/event-stream"
        async with http.get(f"{gateway.url}/v1/topics/orders", headers=headers) as reply:
            await asyncio.wait_for(reply.read(), 10)
        return
    query = "?auth=message" if transport == "message" else ""
    if not query:
        gateway.log.catalog = revoked_meanwhile
    async with open_socket(gateway, f"topics/orders{query}", headers={} if query else headers) as ws:
        if query:
            gateway.log.catalog = revoked_meanwhile
            await say(ws, auth=token)
        assert (await asyncio.wait_for(close_of(ws), 10))[0] == 4401


async def test_sockets_of_a_compromised_key_end_with_it_and_not_with_their_tokens(gateway):
    async with gateway.subscribe("orders") as ws:
        await receive(ws, 1)
        keeper, close = await asyncio.to_thread(
            open_key_keeper, gateway.data_dir, gateway.authority.settings, None, gateway.clock
        )
        await asyncio.to_thread(keeper.rotate, compromised=True)
        await asyncio.to_thread(close)
        closing = asyncio.create_task(close_of(ws))
        for _ in range(200):
            if closing.done():
                break
            await gateway.pass_time(0.5)
        assert (await asyncio.wait_for(closing, 10))[0] == 4401
    async with gateway.subscribe("orders") as ws:  # with a token of the new key
        assert (await receive(ws, 1))[0]["sys"] == "open"
