"""Refresh tokens, revocation and introspection over real HTTP, with a moved clock, over both databases."""

from __future__ import annotations

import asyncio
import sqlite3
from dataclasses import replace

import pytest
from publish.oauth_rig import MACHINE, PORTAL, TERMINAL, browsing

from penstock.errors import PenstockError
from penstock_publish.oauth.public_clients import open_clients, remove_public_client

DAY_S = 86_400


@pytest.fixture(params=["sqlite", "postgresql"])
async def browser(tmp_path, clock, request):
    url = request.getfixturevalue("postgres_url") if request.param == "postgresql" else None
    async with browsing(tmp_path, clock, database_url=url) as opened:
        yield opened


@pytest.fixture
async def alone(tmp_path, clock):
    async with browsing(tmp_path, clock) as opened:
        yield opened


async def test_each_use_of_a_refresh_token_gives_the_next_one(browser, clock):
    tokens = await browser.tokens()
    seen = {tokens["refresh_token"]}
    for _ in range(3):
        await clock.advance(3700)
        assert await browser.use(tokens["access_token"]) == 401
        reply = await browser.refresh(tokens["refresh_token"])
        assert reply.status == 200 and reply.body["scope"] == "orders:read"
        tokens = reply.body
        assert await browser.use(tokens["access_token"]) == 200
        seen.add(tokens["refresh_token"])
    assert len(seen) == 4


async def test_an_old_refresh_token_that_comes_back_ends_the_family(browser):
    heard: list[str] = []
    browser.authority.on_revocation(heard.append)
    first = await browser.tokens()
    other = await browser.tokens()
    second = (await browser.refresh(first["refresh_token"])).body
    stolen = await browser.refresh(first["refresh_token"])
    assert (stolen.status, stolen.body["error"]) == (400, "invalid_grant")
    assert [await browser.use(found["access_token"]) for found in (first, second)] == [401, 401]
    assert len(heard) == 2
    assert (await browser.refresh(second["refresh_token"])).body["error"] == "invalid_grant"
    assert await browser.use(other["access_token"]) == 200  # another login is another family
    assert (await browser.refresh(other["refresh_token"])).status == 200


async def test_of_two_who_refresh_at_once_none_is_left_with_tokens(browser):
    tokens = await browser.tokens()
    replies = await asyncio.gather(*(browser.refresh(tokens["refresh_token"]) for _ in range(2)))
    assert sorted(reply.status for reply in replies) == [200, 400]
    [won] = [reply.body for reply in replies if reply.status == 200]
    assert await browser.use(won["access_token"]) == 401
    assert (await browser.refresh(won["refresh_token"])).body["error"] == "invalid_grant"


async def test_another_client_can_do_nothing_with_a_refresh_token(browser):
    tokens = await browser.tokens()
    for client in (TERMINAL, MACHINE):
        reply = await browser.refresh(tokens["refresh_token"], client)
        assert reply.status == 400 and reply.body["error"] in ("invalid_grant", "unauthorized_client")
        assert (await browser.call("/oauth/revoke", client, token=str(tokens["refresh_token"]))).status == 400
    unauthenticated = replace(PORTAL, public=True)  # names itself the portal, without the secret
    assert (await browser.refresh(tokens["refresh_token"], unauthenticated)).status == 401
    assert await browser.use(tokens["access_token"]) == 200
    assert (await browser.refresh(tokens["refresh_token"])).status == 200


async def test_a_refresh_token_ends_when_it_is_not_used_and_at_the_end_of_the_login(tmp_path, clock):
    async with browsing(tmp_path, clock, refresh_idle_s=7 * DAY_S, refresh_lifetime_s=20 * DAY_S) as browser:
        tokens, idle = await browser.tokens(), await browser.tokens()
        for _ in range(3):
            await clock.advance(6 * DAY_S)
            tokens = (await browser.refresh(tokens["refresh_token"])).body
            assert "access_token" in tokens
        assert (await browser.refresh(idle["refresh_token"])).body["error"] == "invalid_grant"
        await clock.advance(2 * DAY_S)
        assert (await browser.refresh(tokens["refresh_token"])).body["error"] == "invalid_grant"


async def test_a_refresh_may_ask_for_less_never_for_more_and_gets_what_is_allowed_today(alone):
    tokens = await alone.tokens(scope="orders:read data:read")
    less = (await alone.refresh(tokens["refresh_token"], scope="data:read")).body
    assert less["scope"] == "data:read" and await alone.use(less["access_token"]) == 403
    more = await alone.refresh(less["refresh_token"], scope="orders:read apps:admin")
    assert (more.status, more.body["error"]) == (400, "invalid_scope")
    whole = (await alone.refresh(less["refresh_token"])).body
    assert whole["scope"] == "orders:read data:read"
    await alone.authority.embedded.put_client(replace(PORTAL, scope="orders:read"))
    today = (await alone.refresh(whole["refresh_token"])).body
    assert today["scope"] == "orders:read"
    await alone.authority.embedded.remove_client("portal")
    assert (await alone.refresh(today["refresh_token"])).status in (400, 401)


async def test_revoking_a_refresh_token_ends_the_family(browser):
    for client in (PORTAL, TERMINAL):
        tokens = await browser.tokens(client)
        for _ in range(2):  # the second time there is nothing to revoke, which is no error
            reply = await browser.call("/oauth/revoke", client, token=str(tokens["refresh_token"]))
            assert (reply.status, reply.body) == (200, {})
        assert await browser.use(tokens["access_token"]) == 401
        assert (await browser.refresh(tokens["refresh_token"], client)).body["error"] == "invalid_grant"


async def test_introspection_tells_what_is_active_and_nothing_of_what_is_not(browser, clock):
    tokens = await browser.tokens()
    access = await browser.call("/oauth/introspect", MACHINE, token=str(tokens["access_token"]))
    now_s = clock.now_ms() // 1000
    assert {**access.body, "jti": ""} == {
        "active": True, "client_id": "portal", "sub": "page", "scope": "orders:read", "aud": "penstock", "jti": "",
        "iss": browser.url, "exp": now_s + 3600, "token_type": "Bearer",
    }  # fmt: skip
    refresh = str(tokens["refresh_token"])
    own = await browser.call("/oauth/introspect", PORTAL, token=refresh, token_type_hint="refresh_token")
    assert (own.body["active"], own.body["exp"]) == (True, now_s + 7 * DAY_S)
    inactive = [
        await browser.call("/oauth/introspect", MACHINE, token=refresh),  # somebody else's
        await browser.call("/oauth/introspect", MACHINE, token="made-up"),
    ]
    await browser.call("/oauth/revoke", PORTAL, token=refresh)
    inactive += [await browser.call("/oauth/introspect", PORTAL, token=str(token)) for token in tokens.values()]
    assert all((reply.status, reply.body) == (200, {"active": False}) for reply in inactive)


async def test_introspection_is_for_clients_with_a_secret(alone):
    tokens = await alone.tokens(TERMINAL)
    reply = await alone.call("/oauth/introspect", TERMINAL, token=str(tokens["access_token"]))
    assert (reply.status, reply.body["error"]) == (401, "invalid_client")
    assert (await alone.call("/oauth/introspect", PORTAL)).body["error"] == "invalid_request"


async def test_a_public_client_gets_no_token_for_itself(alone):
    reply = await alone.call("/oauth/token", TERMINAL, grant_type="client_credentials", client_secret="")
    assert (reply.status, reply.body["error"]) == (401, "invalid_client")


async def test_neither_codes_nor_refresh_tokens_are_kept_as_they_are(alone, tmp_path):
    code = await alone.code()
    tokens = (await alone.trade(code)).body
    with sqlite3.connect(tmp_path / "publish.db") as connection:
        kept = "\n".join(connection.iterdump())
    for secret in (code, tokens["refresh_token"], tokens["access_token"]):
        assert str(secret) not in kept


async def test_logins_that_have_ended_are_forgotten(alone, tmp_path, clock):
    await alone.tokens()
    await clock.advance(32 * DAY_S)
    await alone.code()
    with sqlite3.connect(tmp_path / "publish.db") as connection:
        counts = [
            connection.execute(f"SELECT count(*) FROM oauth_{name}").fetchone()[0]
            for name in ("grants", "refresh_tokens", "access_tokens")
        ]
    assert counts == [1, 0, 0]


async def test_odd_characters_are_an_error_of_the_caller(alone):
    for changes in ({"scope": 'a"b'}, {"grant_type": "bücher"}, {"client_id": "\n"}):
        async with alone.http.post(f"{alone.url}/oauth/token", data={"grant_type": "x", **changes}) as reply:
            assert (reply.status, (await reply.json())["error"]) == (400, "invalid_request")


async def test_removing_a_public_client_ends_its_tokens(browser, clock, tmp_path):
    tokens = await browser.tokens(TERMINAL)
    command, close = await asyncio.to_thread(open_clients, tmp_path, browser.database_url)
    with pytest.raises(PenstockError, match="has a secret"):
        await asyncio.to_thread(remove_public_client, command, "portal", now_s=0.0)
    await asyncio.to_thread(remove_public_client, command, "terminal", now_s=clock.now_ms() / 1000)
    await asyncio.to_thread(close)
    await browser.learn_revocations()
    assert await browser.use(tokens["access_token"]) == 401
    assert (await browser.refresh(tokens["refresh_token"], TERMINAL)).status in (400, 401)
