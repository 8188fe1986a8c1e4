"""Texts that no name can be, NUL above all, which PostgreSQL does not store: 400, with the place."""

from __future__ import annotations

import pytest
from aiohttp import encode_basic_auth
from publish.conftest import a_token
from publish.oauth_rig import PORTAL, Browser, browsing
from yarl import URL

NUL = "a\x00b"


@pytest.fixture(params=["sqlite", "postgresql"])
async def browser(tmp_path, clock, request):
    url = request.getfixturevalue("postgres_url") if request.param == "postgresql" else None
    async with browsing(tmp_path, clock, database_url=url, page_open="never") as opened:
        yield opened


async def token_reply(browser: Browser, **form: str) -> tuple[int, dict[str, str]]:
    async with browser.http.post(f"{browser.url}/oauth/token", data=form) as reply:
        return reply.status, await reply.json()


@pytest.mark.parametrize("path", ["token", "revoke", "introspect"])
async def test_a_client_id_with_a_control_character_is_named_as_what_is_wrong(browser, path):
    for headers, form in (
        ({}, {"client_id": NUL, "client_secret": "s"}),
        ({"Authorization": encode_basic_auth(NUL, "s")}, {}),
        ({"Authorization": encode_basic_auth("bücher", "s", encoding="utf-8")}, {}),
    ):
        fields = {"grant_type": "client_credentials", "token": "t", **form}
        async with browser.http.post(f"{browser.url}/oauth/{path}", data=fields, headers=headers) as reply:
            body = await reply.json()
        assert (reply.status, body["error"]) == (400, "invalid_request") and "client_id" in body["error_description"]


async def test_other_fields_of_the_token_endpoint_too(browser):
    for name in ("grant_type", "scope", "redirect_uri", "code", "code_verifier", "refresh_token", "resource"):
        form = {"grant_type": "authorization_code", "client_id": "terminal", "code": "c", name: NUL}
        status, body = await token_reply(browser, **form)
        error = "invalid_target" if name == "resource" else "invalid_request"
        assert (name, status, body["error"]) == (name, 400, error)
        assert name in body["error_description"]


async def test_the_page_refuses_them_in_logins_and_requests(browser):
    for name in ("client_id", "redirect_uri", "scope", "response_type", "state"):
        reply = await browser.ask(PORTAL, **{name: NUL})
        assert (name, reply.status) == (name, 400) and name in reply.text
    page = await browser.get("/oauth/login")
    fields = {**page.hidden, "password": "correct horse battery staple"}
    for account in (NUL, "\x7f", "a\nb"):
        reply = await browser.submit("/oauth/login", {**fields, "account": account})
        assert reply.status == 400 and "account" in reply.text
    for name in ("client_id", "client_secret"):
        sent = {"client_id": "portal", "client_secret": "x", name: NUL}
        async with browser.http.post(f"{browser.url}/session", json=sent) as reply:
            assert (name, reply.status) == (name, 400) and name in (await reply.json())["detail"]


@pytest.mark.parametrize(
    ("method", "path", "member", "place"),
    [
        ("POST", "", "name", "name"),
        ("POST", "", "description", "description"),
        ("POST", "", "scope", "scope"),
        ("POST", "", "plan", "plan"),
        ("POST", "", "redirect_uris", "redirect_uris"),
        ("GET", "/a%00b", None, "id in the path"),
        ("PUT", "/a%00b", None, "id in the path"),
        ("DELETE", "/a%0Ab", None, "id in the path"),
        ("POST", "/a%00b/secret", None, "id in the path"),
        ("GET", "/a%7Fb/usage", None, "id in the path"),
    ],
)
async def test_applications_name_the_field_or_the_path(gateway, http, method, path, member, place):
    headers = {"Authorization": f"Bearer {a_token(gateway.authority, 'applications:write *:read')}"}
    body: dict[str, object] = {"name": "a", "scope": "orders:read"} if not path else {}
    if member is not None:
        body[member] = [NUL] if member == "redirect_uris" else NUL
    url = URL(f"{gateway.url}/v1/applications{path}", encoded=True)
    async with http.request(method, url, json=body, headers=headers) as reply:
        problem = await reply.json()
    assert (reply.status, problem["code"]) == (400, "bad_request") and place in problem["detail"]


async def test_an_unknown_client_and_a_wrong_secret_look_the_same(browser):
    async def tried(**form: str) -> tuple[int, object, str]:
        sent = {"grant_type": "client_credentials", **form}
        async with browser.http.post(f"{browser.url}/oauth/token", data=sent) as reply:
            return reply.status, await reply.json(), reply.headers["WWW-Authenticate"]

    answers = [await tried(client_id=name, client_secret="wrong") for name in ("nobody", "portal", "terminal")]
    answers.append(await tried(client_id="nobody"))
    answers.append(await tried(client_id="portal"))
    assert answers == [answers[0]] * 5 and answers[0][0] == 401


async def test_a_client_says_who_it_is_in_one_way_only(browser):
    basic = {"Authorization": encode_basic_auth("machine", "m3")}
    for form, place in (({"client_secret": "m3"}, "client_secret"), ({"client_id": "portal"}, "client_id")):
        sent = {"grant_type": "client_credentials", **form}
        async with browser.http.post(f"{browser.url}/oauth/token", data=sent, headers=basic) as reply:
            body = await reply.json()
        assert (reply.status, body["error"]) == (400, "invalid_request") and place in body["error_description"]
