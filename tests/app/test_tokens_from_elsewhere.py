"""A Penstock whose tokens come from elsewhere: its sockets end with key and token there, its pages lead there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
from app.test_access_matrix import APP
from token_issuer import IssuerServer, TokenMaker

from penstock.http.listener import HttpSettings, Listener
from penstock.ports.clock import SystemClock
from penstock_app.appfiles import AppFile
from penstock_app.launch import Launch, serve
from penstock_app.settings import load_settings


@asynccontextmanager
async def penstock_of_another_issuer(folder: Path) -> AsyncIterator[tuple[str, IssuerServer, TokenMaker]]:
    """Its issuer signs JWTs, whose keys are fetched all the time, and has opaque tokens, asked about all the time."""
    clock, stop, at = SystemClock(), asyncio.Event(), asyncio.get_running_loop().create_future()
    listener = Listener(HttpSettings(port=0, drain_s=0.2))
    maker = TokenMaker(listener.url, clock)
    server = IssuerServer(maker)
    await listener.serve(server.routes())
    app, secret = folder / "shop.sql", folder / "secret"
    app.write_text(APP)
    secret.write_text("s3cret\n")
    introspection = {"client_id": "penstock", "client_secret_file": str(secret), "keep_s": 0.5, "keep_refused_s": 0}
    listed = {"issuer": listener.url, "jwks_url": f"{listener.url}/keys", "introspection": introspection}
    flags = {
        "data": folder / "data",
        "http": {"port": 0, "drain_s": 0.5},
        "auth": {"issuer": listener.url, "issuers": [listed]},
        "services": {"follow": {"keys_refresh_s": 0.2}},
    }
    launch = Launch(load_settings(None, flags), clock, [AppFile("shop", app)])

    async def ready(url: str) -> None:
        at.set_result(url)

    running = asyncio.create_task(serve(launch, on_ready=ready, stop=stop))
    try:
        yield await asyncio.wait_for(at, 60), server, maker
    finally:
        stop.set()
        await asyncio.wait_for(running, 30)
        await listener.close()


async def close_of(socket: aiohttp.ClientWebSocketResponse) -> int | None:
    while (await socket.receive(timeout=20)).type is aiohttp.WSMsgType.TEXT:
        pass
    return socket.close_code


async def answers(socket: aiohttp.ClientWebSocketResponse) -> bool:
    """Whether it takes a line still."""
    await socket.send_json({"id": "last", "sub": "totals"})
    while (message := await socket.receive(timeout=20)).type is aiohttp.WSMsgType.TEXT:
        if '"id":"last","ok":true' in message.data:
            return True
    return False


async def test_sockets_end_with_the_key_or_the_token_that_they_live_by_and_the_others_stay(tmp_path: Path):
    async with penstock_of_another_issuer(tmp_path) as (url, server, maker), aiohttp.ClientSession() as http:
        newer = TokenMaker(maker.issuer, maker.clock, kid="k2")
        server.keys = {"keys": [maker.jwk(), newer.jwk()]}
        tokens = {"old": maker.token(scope="*:read"), "new": newer.token(scope="*:read", jti="t2")}
        for name in ("gone", "narrowed", "kept"):
            server.active[name] = {**maker.claims(scope="*:read"), "jti": name}
            tokens[name] = name
        sockets = {}
        for name, token in tokens.items():
            headers = {"Authorization": f"Bearer {token}"}
            sockets[name] = await http.ws_connect(f"{url}/v1/topics/sales", headers=headers)
        server.keys = {"keys": [newer.jwk()]}
        del server.active["gone"]
        server.active["narrowed"] = {**server.active["narrowed"], "scope": "totals:read"}
        assert [await close_of(sockets[name]) for name in ("old", "gone", "narrowed")] == [4401, 4401, 4401]
        assert [await answers(sockets[name]) for name in ("new", "kept")] == [True, True]
        async with http.get(f"{url}/v1/data/totals", headers={"Authorization": "Bearer narrowed"}) as reply:
            assert reply.status == 403, "it is taken, and has other rights"


async def test_no_page_offers_a_login_or_an_application_where_tokens_come_from_elsewhere(tmp_path: Path):
    async with penstock_of_another_issuer(tmp_path) as (url, _, maker), aiohttp.ClientSession() as http:
        for path in ("/", "/docs", "/docs/applications", "/docs/topics/sales", "/docs/reference"):
            async with http.get(url + path) as reply:
                page = await reply.text()
                assert reply.status == 200, path
            assert f"<code>{maker.issuer}</code>" in page, path
            for gone in ("/oauth/", "/session", "client.json", 'id="signin"', 'id="register"', "an application</a>"):
                assert gone not in page, (path, gone)
        stranger = {"X-Forwarded-For": "192.0.2.7"}
        async with http.get(f"{url}/docs", headers=stranger) as reply:
            page = await reply.text()
        assert ("GET /asyncapi.json" in page, "totals" in page) == (True, False)
        sent = {**stranger, "Authorization": f"Bearer {maker.token(scope='totals:read')}"}
        async with http.get(f"{url}/asyncapi.json", headers=sent) as reply:
            document = await reply.text()
        assert ("totals" in document, "fleet_log" in document) == (True, False)
