"""WebSockets that live by tokens of a real Keycloak: how these come, end, are renewed and revoked, lose their key."""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
import time
from pathlib import Path
from typing import Any

import aiohttp
from app.test_access_matrix import EVENT
from keycloak.conftest import ASKED, BESIDE, INSTEAD, Configured, bearer, running
from keycloak_realm import Realm, claims_of

from penstock.client import AsyncClient

LINES_S = 20.0


async def lines(socket: aiohttp.ClientWebSocketResponse, until: str) -> list[dict[str, Any]]:
    """The lines that came, up to the first one that has this key, or this `sys`."""
    found: list[dict[str, Any]] = []
    while not found or not (until in found[-1] or found[-1].get("sys") == until):
        message = await socket.receive(timeout=LINES_S)
        assert message.type is aiohttp.WSMsgType.TEXT, (message, found)
        found += [json.loads(line) for line in message.data.splitlines()]
    return found


async def close_of(socket: aiohttp.ClientWebSocketResponse) -> int | None:
    """The code that it is closed with, whatever comes before."""
    while (await socket.receive(timeout=LINES_S)).type is aiohttp.WSMsgType.TEXT:
        pass
    return socket.close_code


async def short_lived(realm: Realm, lifetime_s: int) -> str:
    """A page like `dashboard` whose tokens hold so long."""
    name = f"page-{secrets.token_hex(4)}"
    await realm.copy_client(name, of="dashboard", attributes={"access.token.lifespan": str(lifetime_s)})
    return name


async def test_a_persons_token_comes_in_every_way_and_events_go_in_and_out_by_it(
    realm: Realm, configured: Configured, tmp_path: Path
):
    person = await realm.add_person("stream-readers", "stream-senders")
    token = (await realm.login(person, "openid *:read ingest:write"))["access_token"]
    subprotocol = "penstock.bearer." + base64.urlsafe_b64encode(token.encode()).rstrip(b"=").decode()
    async with running(tmp_path, configured(BESIDE)) as (url, http):
        at = f"{url}/v1/topics/sales?after=earliest"
        async with http.post(f"{url}/v1/tickets", json={"topic": "sales"}, headers=bearer(token)) as reply:
            ticket = (await reply.json())["ticket"]
        async with (
            http.ws_connect(at, headers=bearer(token)) as by_header,
            http.ws_connect(at, protocols=["penstock.v1", subprotocol]) as by_subprotocol,
            http.ws_connect(f"{at}&ticket={ticket}") as by_ticket,
            http.ws_connect(f"{at}&auth=message") as by_message,
        ):
            await by_message.send_json({"id": 1, "auth": token})
            await by_header.send_json({"id": 2, "pub": "orders", "d": json.loads(EVENT)})
            for socket in (by_header, by_subprotocol, by_ticket, by_message):
                assert (await lines(socket, "d"))[-1]["d"]["n"] == 1
        async with http.get(f"{url}/v1/topics/sales?after=earliest", headers=bearer(token)) as reply:
            assert [event["d"]["id"] for event in (await reply.json())["events"]] == ["x"]
        stream = {**bearer(token), "Accept": "text/event-stream"}
        async with http.get(f"{url}/v1/topics/sales?after=earliest", headers=stream) as reply:
            found = b""
            while b'"id":"x"' not in found:
                found += await asyncio.wait_for(reply.content.readany(), LINES_S)


async def test_a_socket_is_warned_renewed_by_a_refreshed_token_and_closed_at_the_end_of_the_last(
    realm: Realm, configured: Configured, tmp_path: Path
):
    page = await short_lived(realm, 8)
    person, other = await realm.add_person("stream-readers"), await realm.add_person("stream-readers")
    async with running(tmp_path, configured(BESIDE), publish={"expiring_s": 6}) as (url, http):
        tokens = await realm.login(person, "openid *:read", client_id=page)
        others = await realm.login(other, "openid *:read", client_id=page)
        async with http.ws_connect(f"{url}/v1/topics/sales", headers=bearer(tokens["access_token"])) as socket:
            first_end_s = claims_of(tokens["access_token"])[1]["exp"]
            warned = (await lines(socket, "expiring"))[-1]
            assert 0 < warned["in"] <= 6
            assert time.time() < first_end_s
            await socket.send_json({"id": 1, "auth": others["access_token"]})
            assert "err" in (await lines(socket, "id"))[-1], "a token of somebody else"
            renewed = await realm.refreshed(tokens["refresh_token"], client_id=page)
            await socket.send_json({"id": 2, "auth": renewed["access_token"]})
            assert (await lines(socket, "id"))[-1]["ok"] is True
            last_end_s = claims_of(renewed["access_token"])[1]["exp"]
            assert last_end_s > first_end_s
            await lines(socket, "expiring")
            assert await close_of(socket) == 4401
            assert time.time() >= last_end_s > first_end_s


async def test_a_new_key_is_found_by_its_first_token_and_a_key_taken_back_ends_tokens_and_sockets(
    realm: Realm, configured: Configured, tmp_path: Path
):
    follow = {"follow": {"keys_refresh_s": 1.0}}
    async with running(tmp_path, configured(INSTEAD), services=follow) as (url, http):
        at, old = f"{url}/v1/topics/sales", await realm.token("machine", "*:read ingest:write")
        stream = f"{url}/v1/streams/orders/connect"
        async with (
            http.ws_connect(at, headers=bearer(old)) as stays,
            http.ws_connect(at, headers=bearer(old)) as goes,
            http.ws_connect(stream, headers=bearer(old)) as sends,
        ):
            await realm.new_key()
            new = await realm.token("machine", "*:read")
            (old_header, _), (new_header, _) = claims_of(old), claims_of(new)
            assert old_header["kid"] != new_header["kid"]
            for token in (new, old):
                async with http.get(at, headers=bearer(token)) as reply:
                    assert reply.status == 200, await reply.text()
            await stays.send_json({"id": 1, "auth": new})
            assert (await lines(stays, "id"))[-1]["ok"] is True
            await realm.drop_key(old_header["kid"])
            assert await close_of(goes) == 4401
            assert await close_of(sends) == 4401
            async with http.get(at, headers=bearer(old)) as reply:
                assert (reply.status, "(kid)" in reply.headers["WWW-Authenticate"]) == (401, True)
            await stays.send_json({"id": 2, "sub": "totals"})
            assert (await lines(stays, "id"))[-1]["ok"] is True, "it lives by the new key"


async def test_a_revoked_token_and_a_person_who_is_logged_out_lose_sockets_and_requests_where_keycloak_is_asked(
    realm: Realm, configured: Configured, tmp_path: Path
):
    text = configured(ASKED).replace("keep_s = 10", "keep_s = 1")
    person = await realm.add_person("stream-readers")
    async with running(tmp_path, text) as (url, http):
        at = f"{url}/v1/topics/sales"
        tokens = {
            "revoked": await realm.token("machine", "*:read ingest:write"),
            "logged out": (await realm.login(person, "openid *:read"))["access_token"],
            "kept": await realm.token("machine", "*:read"),
        }
        sockets = {name: await http.ws_connect(at, headers=bearer(token)) for name, token in tokens.items()}
        stream = f"{url}/v1/streams/orders/connect"
        sends = await http.ws_connect(stream, headers=bearer(tokens["revoked"]))
        await realm.revoke("machine", tokens["revoked"])
        await realm.log_out(person)
        for name in ("revoked", "logged out"):
            assert await close_of(sockets[name]) == 4401, name
            async with http.get(at, headers=bearer(tokens[name])) as reply:
                assert reply.status == 401, name
        assert await close_of(sends) == 4401
        await sockets["kept"].send_json({"id": 1, "sub": "totals"})
        assert (await lines(sockets["kept"], "id"))[-1]["ok"] is True
        await sockets["kept"].close()


async def test_the_python_client_gets_and_renews_its_tokens_at_keycloak(
    realm: Realm, configured: Configured, tmp_path: Path
):
    name = f"client-{secrets.token_hex(4)}"
    await realm.copy_client(name, of="machine", attributes={"access.token.lifespan": "6"})
    file = tmp_path / "machine.json"
    made = {
        "client_id": name,
        "client_secret": (await realm.client(name))["secret"],
        "token_url": f"{realm.issuer}/protocol/openid-connect/token",
        "scope": "*:read data:read ingest:write",
    }
    file.write_text(json.dumps(made))
    async with (
        running(tmp_path, configured(INSTEAD), publish={"expiring_s": 3}) as (url, _),
        AsyncClient(url, client_file=file) as penstock,
    ):
        subscription = penstock.subscribe("sales", after="earliest")
        for number in range(3):
            result = await penstock.publish("orders", [{**json.loads(EVENT), "id": f"e{number}"}])
            assert result.accepted == 1
            assert (await asyncio.wait_for(anext(subscription), LINES_S)).data["id"] == f"e{number}"
            await asyncio.sleep(4)  # longer than a token, in the end
