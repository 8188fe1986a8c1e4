"""Who answers for a person: nobody but that person, and only for what that person was shown."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from publish.oauth_rig import PORTAL, Browser, browsing

from penstock.errors import PenstockError
from penstock.http.credentials import SESSION_COOKIE
from penstock_publish.oauth.clients import PAGE_CLIENT
from penstock_publish.oauth.people import ACCOUNT_PREFIX

PASSWORD = "correct horse battery staple"
CHEAP = {"scrypt_log2_n": 14, "scrypt_p": 1}


@pytest.fixture
async def browser(tmp_path, clock):
    async with browsing(tmp_path, clock, page_open="never", login=CHEAP) as opened:
        accounts = opened.authority.embedded.logins._accounts
        await asyncio.to_thread(accounts.add, "ann", PASSWORD, "orders:read alerts:read", now_s=clock.now_ms() / 1000)
        yield opened


def session(browser: Browser, client_id: str, scope: str) -> dict[str, str]:
    token = browser.authority.embedded.issuer.issue(client_id, scope, subject=f"{ACCOUNT_PREFIX}ann")
    return {"Cookie": f"{SESSION_COOKIE}={token}"}


async def test_an_application_cannot_answer_for_the_person_whose_token_it_holds(browser):
    link = f"/oauth/authorize?{browser.request()}"
    own = await browser.get(link, **session(browser, PAGE_CLIENT, "orders:read"))
    assert 'name="decision"' in own.text
    taken = await browser.get(link, **session(browser, PORTAL.client_id, "orders:read"))
    assert 'name="password"' in taken.text and 'name="decision"' not in taken.text
    # Nor with a form of its own making.
    cookie = session(browser, PORTAL.client_id, "orders:read")["Cookie"] + f"; penstock_form={own.hidden['secret']}"
    sent = await browser.submit("/oauth/authorize", {**own.hidden, "decision": "allow"}, Cookie=cookie)
    assert "Location" not in sent.headers and 'name="password"' in sent.text


async def test_an_application_gets_no_more_than_the_person_was_shown(browser):
    assert (await browser.log_in("ann", PASSWORD, scope=None)).status == 303
    page = await browser.ask(scope=None)
    assert "alerts:read" not in page.text
    await browser.authority.embedded.put_client(replace(PORTAL, scope="orders:read alerts:read"))
    again = await browser.submit("/oauth/authorize", {**page.hidden, "decision": "allow"})
    assert again.status == 200 and "<code>alerts:read</code>" in again.text
    allowed = await browser.submit("/oauth/authorize", {**again.hidden, "decision": "allow"})
    assert (await browser.trade(allowed.back["code"])).body["scope"] == "orders:read alerts:read"


async def test_the_answer_to_a_page_that_somebody_else_was_shown_is_asked_for_again(browser):
    assert (await browser.log_in("ann", PASSWORD)).status == 303
    page = await browser.ask()
    fields = {**page.hidden, "decision": "allow", "subject": f"{ACCOUNT_PREFIX}bob"}
    again = await browser.submit("/oauth/authorize", fields)
    assert again.status == 200 and "<b>ann</b>" in again.text


async def test_a_session_that_was_ended_elsewhere_begins_no_grant_before_this_process_has_heard_of_it(browser):
    assert (await browser.log_in("ann", PASSWORD)).status == 303
    page = await browser.ask()
    accounts = browser.authority.embedded.logins._accounts
    await asyncio.to_thread(accounts.set_password, "ann", PASSWORD + "!")
    refused = await browser.submit("/oauth/authorize", {**page.hidden, "decision": "allow"})
    assert refused.status == 401 and "this session has ended" in refused.text


async def test_a_login_under_way_while_the_password_is_changed_opens_no_session(browser):
    embedded = browser.authority.embedded
    entered = await embedded.logins.enter("ann", PASSWORD, "192.0.2.7")
    assert entered is not None and "scrypt" not in repr(entered)
    await asyncio.to_thread(embedded.logins._accounts.set_password, "ann", PASSWORD + "!")
    with pytest.raises(PenstockError, match="has just been changed"):
        await embedded.begin_session(entered)
    assert len(embedded._clients.revoked(0.0)) == 1


async def test_an_address_that_must_wait_keeps_no_account_from_logging_in(tmp_path, clock):
    limits = {**CHEAP, "failures_address_max": 2, "failures_account_max": 3}
    async with browsing(tmp_path, clock, page_open="never", login=limits) as guessed:
        accounts, now_s = guessed.authority.embedded.logins._accounts, clock.now_ms() / 1000
        await asyncio.to_thread(accounts.add, "ann", PASSWORD, "orders:read", now_s=now_s)
        for _ in range(2):
            assert await asyncio.to_thread(accounts.enter, "ann", "x" * 12, "192.0.2.7", now_s=now_s) is None
        for _ in range(5):
            with pytest.raises(PenstockError, match="too many"):
                await asyncio.to_thread(accounts.enter, "ann", "x" * 12, "192.0.2.7", now_s=now_s)
        assert await asyncio.to_thread(accounts.enter, "ann", PASSWORD, "192.0.2.8", now_s=now_s) is not None
