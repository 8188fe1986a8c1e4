"""Accounts and the login page over real HTTP: the way through, guessing, forged forms, open redirects."""

from __future__ import annotations

import asyncio
import re
import sqlite3
from urllib.parse import quote

import pytest
from joserfc import jwt
from joserfc.jwk import KeySet
from publish.conftest import loopback_socket, serving, url_of
from publish.oauth_rig import PORTAL, Browser, browsing
from yarl import URL

from penstock.errors import PenstockError
from penstock.http.credentials import SESSION_COOKIE
from penstock_publish.authority import open_authority
from penstock_publish.oauth.accounts import Account, AccountStore, account_name, open_accounts
from penstock_publish.oauth.passwords import hash_password, is_password, needs_renewal
from penstock_publish.oauth.settings import LoginSettings
from penstock_publish.settings import AuthSettings

PASSWORD = "correct horse battery staple"
CHEAP = {"scrypt_log2_n": 14, "scrypt_p": 1}
FOUR = {**CHEAP, "failures_account_max": 4}


@pytest.fixture(params=["sqlite", "postgresql"])
async def browser(tmp_path, clock, request):
    url = request.getfixturevalue("postgres_url") if request.param == "postgresql" else None
    async with browsing(tmp_path, clock, database_url=url, page_open="never", login=FOUR) as opened:
        await with_account(opened, clock)
        yield opened


@pytest.fixture
async def alone(tmp_path, clock):
    async with browsing(tmp_path, clock, page_open="never", login=CHEAP) as opened:
        await with_account(opened, clock)
        yield opened


def accounts_of(browser: Browser) -> AccountStore:
    return browser.authority.embedded.logins._accounts


async def with_account(browser: Browser, clock) -> Account:
    return await asyncio.to_thread(
        accounts_of(browser).add, "ann@example.org", PASSWORD, "orders:read", now_s=clock.now_ms() / 1000
    )


async def test_a_person_logs_in_allows_an_application_and_is_the_subject_of_its_tokens(browser):
    sent = await browser.log_in("Ann@example.org ", PASSWORD)
    assert (sent.status, sent.location) == (303, f"/oauth/authorize?{browser.request()}")
    cookie = sent.headers.getall("Set-Cookie")[0]
    assert cookie.startswith(f"{SESSION_COOKIE}=") and "HttpOnly" in cookie and "SameSite=Strict" in cookie
    page = await browser.get(sent.location)
    assert "<b>ann@example.org</b>" in page.text and "orders:read" in page.text
    body = await browser.tokens(scope="orders:read data:read")
    assert body["scope"] == "orders:read"  # the account has no more
    keys = KeySet.import_key_set(browser.authority.embedded.keys.public_jwks())
    claims = jwt.decode(str(body["access_token"]), keys, algorithms=["ES256"]).claims
    assert re.fullmatch(r"account:ann@example\.org/[0-9a-f]{16}", claims["sub"]) and claims["client_id"] == "portal"


async def test_a_request_from_another_site_is_asked_again_by_our_own_page(alone):
    await alone.log_in("ann@example.org", PASSWORD)
    session = alone.http.cookie_jar.filter_cookies(URL(alone.url))
    alone.http.cookie_jar.clear()
    path = f"/oauth/authorize?{alone.request()}"
    outside = await alone.get(path, **{"Sec-Fetch-Site": "cross-site"})
    assert 'http-equiv="refresh"' in outside.text and path.replace("&", "&amp;") in outside.text
    alone.http.cookie_jar.update_cookies(session)
    inside = await alone.get(path, **{"Sec-Fetch-Site": "same-origin"})
    assert 'value="allow"' in inside.text


async def test_a_wrong_password_and_an_unknown_account_look_the_same(alone):
    wrong = await alone.log_in("ann@example.org", PASSWORD + "x")
    nobody = await alone.log_in("bob@example.org", PASSWORD)
    assert wrong.status == nobody.status == 403
    assert wrong.text.replace("ann@example.org", "") == nobody.text.replace("bob@example.org", "")
    assert SESSION_COOKIE not in str(wrong.headers)


async def test_guessing_the_password_of_an_account_stops_for_a_quarter_of_an_hour(tmp_path, clock):
    limits = {**CHEAP, "failures_account_max": 3}
    async with browsing(tmp_path, clock, page_open="never", login=limits) as browser:
        await with_account(browser, clock)
        statuses = [(await browser.log_in("ann@example.org", f"guess {n}")).status for n in range(3)]
        assert statuses == [403, 403, 403]
        right = await browser.log_in("ann@example.org", PASSWORD)
        assert right.status == 429 and 890 <= int(right.headers["Retry-After"]) <= 900
        assert "too many failed logins" in right.text
        assert (await browser.log_in("bob@example.org", PASSWORD)).status == 403  # others are not kept out
        await clock.advance(901)
        assert (await browser.log_in("ann@example.org", PASSWORD)).status == 303
        alone_again = [(await browser.submit_login(f"guess {n}")).status for n in range(3)]
        assert alone_again == [403, 403, 403]  # a login has set the count back


async def test_guessing_over_many_accounts_stops_for_the_address(tmp_path, clock):
    limits = {**CHEAP, "failures_address_max": 2}
    async with browsing(tmp_path, clock, page_open="never", login=limits) as browser:
        await with_account(browser, clock)
        statuses = [(await browser.log_in(f"user{n}", PASSWORD)).status for n in range(2)]
        assert statuses == [403, 403]
        assert (await browser.log_in("ann@example.org", PASSWORD)).status == 429


async def test_guesses_at_once_get_no_more_tries(browser, clock):
    store, now_s = accounts_of(browser), clock.now_ms() / 1000

    def guess(n: int) -> str:
        try:
            return str(store.enter("ann@example.org", f"guess {n}", "192.0.2.7", now_s=now_s))
        except PenstockError as error:
            return error.code

    found = await asyncio.gather(*(asyncio.to_thread(guess, n) for n in range(6)))
    assert (found.count("None"), found.count("too_many_requests")) == (4, 2)


async def test_people_behind_one_ipv6_network_are_one_address(tmp_path, clock):
    limits = {**CHEAP, "failures_address_max": 1}
    async with browsing(tmp_path, clock, page_open="never", login=limits) as browser:
        store, now_s = accounts_of(browser), clock.now_ms() / 1000
        assert await asyncio.to_thread(store.enter, "a", "x" * 12, "2001:db8::1", now_s=now_s) is None
        with pytest.raises(PenstockError, match="too many"):
            await asyncio.to_thread(store.enter, "b", "x" * 12, "2001:db8::2", now_s=now_s)
        assert await asyncio.to_thread(store.enter, "c", "x" * 12, "2001:db8:1::1", now_s=now_s) is None


async def test_a_removed_account_or_a_new_password_ends_sessions_and_grants(browser, tmp_path):
    command, close = open_accounts(
        tmp_path, LoginSettings(**CHEAP), browser.database_url
    )  # as `penstock accounts` does
    for change in ("password", "remove"):
        sent = await browser.log_in("ann@example.org", PASSWORD)
        session = sent.headers.getall("Set-Cookie")[0].split(";")[0].partition("=")[2]
        tokens = await browser.tokens()
        assert [await browser.use(session), await browser.use(tokens["access_token"])] == [200, 200]
        if change == "password":
            await asyncio.to_thread(command.set_password, "ann@example.org", PASSWORD)
        else:
            await asyncio.to_thread(command.remove, "ann@example.org")
        await browser.learn_revocations()
        assert [await browser.use(session), await browser.use(tokens["access_token"])] == [401, 401]
        assert (await browser.refresh(tokens["refresh_token"])).body["error"] == "invalid_grant"
        browser.http.cookie_jar.clear()
    close()
    assert (await browser.log_in("ann@example.org", PASSWORD)).status == 403


async def test_a_login_from_another_site_counts_for_nothing(alone):
    page = await alone.get("/oauth/login")
    fields = {**page.hidden, "account": "ann@example.org", "password": PASSWORD}
    for form, headers in (
        ({**fields, "secret": "x" * 43}, {}),
        (fields, {"Origin": "https://attacker.example", "Sec-Fetch-Site": "cross-site"}),
        (fields, {"Origin": "null", "Sec-Fetch-Site": "cross-site"}),
    ):
        reply = await alone.submit("/oauth/login", form, **headers)
        assert reply.status == 403 and SESSION_COOKIE not in str(reply.headers)
    assert (await alone.submit("/oauth/login", fields)).location == "/"
    for name in ("Content-Security-Policy", "X-Frame-Options"):
        assert page.headers[name] in (page.headers["Content-Security-Policy"], "DENY")
    assert "frame-ancestors 'none'" in page.headers["Content-Security-Policy"]


async def test_a_login_leads_nowhere_else(alone):
    page = await alone.get("/oauth/login")
    for query in (
        "https://attacker.example",
        "//attacker.example",
        "\r\nSet-Cookie: a=b",
        "x=1&redirect_uri=//a.example",
    ):
        fields = {**page.hidden, "account": "ann@example.org", "password": PASSWORD, "query": query}
        reply = await alone.submit("/oauth/login", fields)
        if reply.status == 303:
            assert reply.location.startswith("/oauth/authorize?")
            assert (await alone.get(reply.location)).status == 400
            alone.http.cookie_jar.clear()
            page = await alone.get("/oauth/login")
        else:
            assert reply.status == 400 and "a=b" not in str(reply.headers)


async def test_a_login_from_the_portal_leads_back_to_it_and_to_nothing_else(alone):
    pages = ("/docs", "/docs/applications", "/docs/topics/a%2Fb", "/docs/relations/raw.orders")
    others = ("https://attacker.example", "//attacker.example", "/docs//attacker.example", "/docs/topics/a?b=c",
              "/docs\\\\attacker.example", "/oauth/authorize")  # fmt: skip
    for then, home in (*zip(pages, pages, strict=True), *((other, "/") for other in others)):
        page = await alone.get(f"/oauth/login?then={quote(then, safe='')}")
        fields = {**page.hidden, "account": "ann@example.org", "password": "wrong"}
        again = await alone.submit("/oauth/login", fields)
        reply = await alone.submit(
            "/oauth/login", {**again.hidden, "account": "ann@example.org", "password": PASSWORD}
        )
        assert (reply.status, reply.location) == (303, home)
        alone.http.cookie_jar.clear()


async def test_passwords_are_kept_as_scrypt_and_renewed_when_the_cost_rises(alone, tmp_path, clock):
    def kept() -> str:
        with sqlite3.connect(tmp_path / "publish.db") as connection:
            return connection.execute("SELECT password FROM accounts").fetchone()[0]

    first = kept()
    assert first.startswith("scrypt$14$8$1$") and PASSWORD not in first
    dearer = LoginSettings(scrypt_log2_n=15, scrypt_p=1)
    store = AccountStore(alone.authority.database, alone.authority.embedded.context.store, dearer)
    found = await asyncio.to_thread(store.enter, "ann@example.org", PASSWORD, "::1", now_s=clock.now_ms() / 1000)
    assert found is not None and found.subject.startswith("account:ann@example.org/")
    assert kept().startswith("scrypt$15$8$1$") and is_password(PASSWORD, kept())


async def test_an_account_that_exists_is_not_added_again_and_bad_ones_are_not(alone, clock):
    store = accounts_of(alone)
    for name, password, code in (
        ("ann@example.org", PASSWORD, "name_taken"),
        ("with space", PASSWORD, "bad_request"),
        ("", PASSWORD, "bad_request"),
        ("bob", "too short", "bad_request"),
        ("bob", "x" * 257, "bad_request"),
    ):
        with pytest.raises(PenstockError) as refused:
            await asyncio.to_thread(store.add, name, password, "orders:read", now_s=0.0)
        assert refused.value.code == code
    with pytest.raises(PenstockError, match="no account 'bob'"):
        await asyncio.to_thread(store.remove, "bob")
    assert [account.name for account in await asyncio.to_thread(store.all)] == ["ann@example.org"]
    assert account_name(" Ann.B@Example.org") == "ann.b@example.org"


def test_the_same_characters_from_another_keyboard_are_the_same_password():
    settings = LoginSettings(**CHEAP)
    kept = hash_password("Ångström passphrase", settings, salt=b"0" * 16)
    assert is_password("A\u030angstro\u0308m passphrase", kept) and not is_password("angstrom passphrase", kept)
    assert needs_renewal(kept, LoginSettings()) and not needs_renewal(kept, settings)


async def test_a_portal_without_scopes_of_the_person_is_told_so(alone):
    await alone.log_in("ann@example.org", PASSWORD)
    reply = await alone.ask(PORTAL, scope="data:read")
    assert (reply.status, reply.back["error"]) == (303, "access_denied")


async def test_over_https_the_cookies_are_for_https_alone(tmp_path, clock, http):
    settings = AuthSettings.model_validate({"page_open": "never", "login": CHEAP})
    authority = await open_authority(tmp_path, settings, clock=clock, public_url="https://events.example")
    sock = loopback_socket()
    async with serving(sock, authority.routes()), http.get(f"{url_of(sock)}/oauth/login") as page:
        assert "Secure" in page.headers["Set-Cookie"] and "SameSite=Strict" in page.headers["Set-Cookie"]
    await authority.close()
