"""Revoked tokens and logins over real HTTP: how many are kept, what ends for a new one, what followers are told."""

from __future__ import annotations

import asyncio
import sqlite3

import pytest
from publish.oauth_rig import MACHINE, PORTAL, TERMINAL, Browser, browsing

from penstock.http.followed_issuer import FollowedIssuer, FollowSettings
from penstock.ports.clock import SystemClock
from penstock_publish.oauth.revocation_rows import AccessToken
from penstock_publish.oauth.revoked_tokens import NEWS_MAX, RevokedTokens

LIMITS = {
    "revocations_per_holder_max": 2,
    "revocations_max": 3,
    "logins_per_person_max": 2,
    "tokens_per_login_max": 3,
}


@pytest.fixture(params=["sqlite", "postgresql"])
async def browser(tmp_path, clock, request):
    url = request.getfixturevalue("postgres_url") if request.param == "postgresql" else None
    async with browsing(tmp_path, clock, database_url=url, **LIMITS) as opened:
        yield opened


@pytest.fixture
async def alone(tmp_path, clock):
    async with browsing(tmp_path, clock) as opened:
        yield opened


async def own_token(browser: Browser) -> str:
    return str((await browser.call("/oauth/token", MACHINE, grant_type="client_credentials")).body["access_token"])


async def test_a_client_that_revokes_without_end_is_told_to_wait_and_takes_no_room_of_others(browser, clock):
    tokens = [await own_token(browser) for _ in range(3)]
    replies = [await browser.call("/oauth/revoke", MACHINE, token=token) for token in tokens]
    assert [reply.status for reply in replies] == [200, 200, 429]
    assert "auth.revocations_per_holder_max" in str(replies[2].body["detail"]) and replies[2].headers["Retry-After"]
    assert [await browser.use(token) for token in tokens] == [401, 401, 200]
    persons = await browser.tokens(PORTAL)
    assert (await browser.call("/oauth/revoke", PORTAL, token=str(persons["access_token"]))).status == 200
    others = await browser.tokens(TERMINAL)  # a place of the limit of all is taken by whoever asks next
    full = await browser.call("/oauth/revoke", TERMINAL, token=str(others["access_token"]))
    assert full.status == 429 and "(auth.revocations_max)" in str(full.body["detail"])
    for _ in range(2):  # past the expiry of all, and the time for which clocks may differ
        await clock.advance(3_600)
        await asyncio.sleep(0.05)
    await browser.authority._purge(browser.authority.embedded)
    assert (await browser.call("/oauth/revoke", MACHINE, token=await own_token(browser))).status == 200


async def test_what_has_expired_is_forgotten_while_the_process_runs(alone, clock, tmp_path):
    assert (await alone.call("/oauth/revoke", MACHINE, token=await own_token(alone))).status == 200

    def kept() -> int:
        with sqlite3.connect(tmp_path / "publish.db") as connection:
            return int(connection.execute("SELECT count(*) FROM revoked_tokens").fetchone()[0])

    assert kept() == 1
    async with asyncio.timeout(10):
        while kept():
            await clock.advance(600)
            await asyncio.sleep(0.01)
    assert alone.authority._revoked.expiries == {}


async def test_the_oldest_login_of_a_person_ends_for_one_too_many(browser, clock):
    logins = []
    for _ in range(3):
        logins.append(await browser.tokens(PORTAL))
        await clock.advance(1)
    assert [await browser.use(one["access_token"]) for one in logins] == [401, 200, 200]
    refreshed = [await browser.refresh(one["refresh_token"]) for one in logins]
    assert [reply.status for reply in refreshed] == [400, 200, 200]
    assert refreshed[0].body["error"] == "invalid_grant"


async def test_a_login_gets_no_token_after_the_other_and_loses_nothing_by_asking(browser, clock):
    reply = await browser.refresh((await browser.tokens(PORTAL))["refresh_token"])
    reply = await browser.refresh(reply.body["refresh_token"])
    last = reply.body["refresh_token"]
    refused = await browser.refresh(last)
    assert refused.status == 429 and 3_590 < int(refused.headers["Retry-After"]) <= 3_600
    assert "auth.tokens_per_login_max" in str(refused.body["detail"])
    await clock.advance(3_601)
    assert (await browser.refresh(last)).status == 200


async def test_who_follows_revocations_is_told_of_new_ones_only(alone, clock):
    async def asked(after: str = "") -> dict[str, object]:
        async with alone.http.get(f"{alone.url}/oauth/revocations", params={"after": after}) as reply:
            body: dict[str, object] = await reply.json()
            return body | {"revoked": [one["jti"] for one in body["revoked"]]}

    until_s = clock.now_ms() / 1000 + 100
    alone.authority.end_tokens([AccessToken("b", until_s), AccessToken("a", until_s)])
    whole = await asked()
    assert (whole["revoked"], whole["whole"]) == (["a", "b"], True)
    assert await asked(str(whole["next"])) == {"revoked": [], "whole": False, "next": whole["next"]}
    alone.authority.end_tokens([AccessToken("c", until_s)])
    news = await asked(str(whole["next"]))
    assert (news["revoked"], news["whole"]) == (["c"], False)
    for strange in ("elsewhere-2", "x", f"{news['next']}9" * 20, "\x00"):  # another process, or nonsense
        assert (await asked(strange))["revoked"] == ["a", "b", "c"]


async def test_a_follower_has_all_that_were_revoked_before_and_after_it_came(alone, clock):
    now_s = SystemClock().now_ms() / 1000
    follower = FollowedIssuer(
        keys_url=f"{alone.url}/oauth/jwks.json",
        revocations_url=f"{alone.url}/oauth/revocations",
        clock=SystemClock(),
        settings=FollowSettings(revocations_poll_s=0.01),
    )
    stop = asyncio.Event()
    running = asyncio.create_task(follower.run(stop))
    async with asyncio.timeout(10):
        for names in ({"a"}, {"a", "b"}, {"a", "b", "c"}):
            alone.authority.end_tokens([AccessToken(name, now_s + 100) for name in sorted(names)])
            while set(follower.revoked) != names:  # noqa: ASYNC110 - it sets no event
                await asyncio.sleep(0.01)
        alone.authority.end_tokens([AccessToken("d", now_s - 700), AccessToken("e", now_s + 100)])
        while "e" not in follower.revoked:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert set(follower.revoked) == {"a", "b", "c", "e"}
    stop.set()
    await running


def test_a_token_that_is_revoked_again_for_longer_is_news():
    tokens = RevokedTokens({"a": 10.0}, new_name=lambda: "me")
    first = tokens.whole(0.0).next
    tokens.add("a", 9.0)
    assert tokens.news(first, 0.0).revoked == [] and tokens.expiries == {"a": 10.0}
    tokens.add("a", 20.0)
    assert [one.exp for one in tokens.news(first, 0.0).revoked] == [20.0]
    tokens.forget(before_s=21.0)
    assert tokens.whole(0.0).revoked == [] and tokens.expiries == {}


def test_who_is_far_behind_reads_the_list_that_is_kept_for_all():
    tokens = RevokedTokens({}, new_name=lambda: "me")
    start = tokens.whole(0.0).next
    for number in range(NEWS_MAX):
        tokens.add(f"t{number}", 10.0)
    assert len(tokens.news(start, 0.0).revoked) == NEWS_MAX
    tokens.add("one more", 10.0)
    assert tokens.news(start, 0.0) is None
