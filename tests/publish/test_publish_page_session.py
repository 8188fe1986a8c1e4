"""The page's session cookie: who gets one, and from where it counts."""

import json

import pytest
from aiohttp import web
from publish.conftest import a_token, loopback_socket, serving, url_of

from penstock.http.credentials import SESSION_COOKIE
from penstock.http.problem import guarded
from penstock_publish.authority import open_authority
from penstock_publish.settings import AuthSettings


@pytest.fixture
async def page(tmp_path, clock, request):
    sock = loopback_socket()
    settings = AuthSettings(page_open=getattr(request, "param", "loopback"))
    authority = await open_authority(tmp_path, settings, clock=clock, public_url=url_of(sock))

    async def check(request: web.Request) -> web.Response:
        principal = await authority.access.require(request, "data:read")
        return web.json_response({"client_id": principal.client_id})

    async def root(request: web.Request) -> web.Response:
        response = web.Response(text="page")
        response.headers["X-Open"] = str(authority.open_session(request, response))
        return response

    routes = [*authority.routes(), web.route("*", "/check", guarded(check)), web.get("/", root)]
    async with serving(sock, routes):
        yield authority
    await authority.close()


async def test_a_visitor_from_loopback_gets_a_session_that_scripts_cannot_read(http, page):
    async with http.get(page.public_url) as reply:
        cookie = reply.headers["Set-Cookie"]
        assert reply.headers["X-Open"] == "True"
    assert cookie.startswith(f"{SESSION_COOKIE}=")
    assert "HttpOnly" in cookie and "SameSite=Strict" in cookie and "Path=/" in cookie
    async with http.get(f"{page.public_url}/check") as reply:
        assert await reply.json() == {"client_id": "page"}
    async with http.get(page.public_url) as reply:  # a valid session is kept
        assert "Set-Cookie" not in reply.headers and reply.headers["X-Open"] == "True"


async def test_a_foreign_name_for_loopback_gets_no_session(http, page):
    for host in ("attacker.example", "127.0.0.1.attacker.example", "192.168.0.7:8080"):
        async with http.get(page.public_url, headers={"Host": host}) as reply:
            assert "Set-Cookie" not in reply.headers and reply.headers["X-Open"] == "False"


@pytest.mark.parametrize("page", ["never"], indirect=True)
async def test_the_page_can_be_closed(http, page):
    async with http.get(page.public_url) as reply:
        assert "Set-Cookie" not in reply.headers


@pytest.mark.parametrize("page", ["always"], indirect=True)
async def test_the_page_can_be_opened_to_everybody(http, page):
    async with http.get(page.public_url, headers={"Host": "events.example"}) as reply:
        assert "Set-Cookie" in reply.headers


async def test_a_client_can_log_in_and_out(http, page, tmp_path):
    file = json.loads((tmp_path / "client.json").read_text())
    login = {"client_id": file["client_id"], "client_secret": file["client_secret"]}
    async with http.post(f"{page.public_url}/session", json=login | {"client_secret": "x"}) as reply:
        assert (reply.status, (await reply.json())["code"]) == (401, "unauthorized")
    async with http.post(f"{page.public_url}/session", json=login) as reply:
        assert (reply.status, await reply.json()) == (200, {"scope": file["scope"], "expires_in": 3600})
        token = reply.cookies[SESSION_COOKIE].value
    async with http.get(f"{page.public_url}/check") as reply:
        assert await reply.json() == {"client_id": "development"}
    async with http.delete(f"{page.public_url}/session", headers={"Origin": page.public_url}) as reply:
        assert reply.status == 204
    async with http.get(f"{page.public_url}/check", headers={"Authorization": f"Bearer {token}"}) as reply:
        assert (reply.status, (await reply.json())["code"]) == (401, "invalid_token")


async def test_a_login_from_another_origin_or_as_a_form_is_refused(http, page, tmp_path):
    login = json.loads((tmp_path / "client.json").read_text())
    async with http.post(
        f"{page.public_url}/session", json=login, headers={"Origin": "https://evil.example"}
    ) as reply:
        assert (reply.status, (await reply.json())["code"]) == (403, "forbidden_origin")
    async with http.post(
        f"{page.public_url}/session", data=json.dumps(login), headers={"Content-Type": "text/plain"}
    ) as reply:
        assert reply.status == 415


@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [
        ("GET", {}, 200),
        ("GET", {"Sec-Fetch-Site": "same-origin"}, 200),
        ("GET", {"Sec-Fetch-Site": "none"}, 200),
        ("GET", {"Sec-Fetch-Site": "same-site"}, 403),
        ("GET", {"Sec-Fetch-Site": "cross-site"}, 403),
        ("GET", {"Origin": "https://evil.example"}, 403),
        ("POST", {}, 403),
        ("POST", {"Origin": "null"}, 403),
        ("POST", {"Origin": "https://evil.example"}, 403),
        ("POST", {"Origin": "{own}"}, 200),
        ("POST", {"Sec-Fetch-Site": "same-origin"}, 200),
        ("POST", {"Sec-Fetch-Site": "none"}, 403),
        ("POST", {"Origin": "{own}", "Sec-Fetch-Site": "cross-site"}, 403),
        ("DELETE", {}, 403),
        ("GET", {"Connection": "Upgrade", "Upgrade": "websocket"}, 403),
        ("GET", {"Connection": "Upgrade", "Upgrade": "websocket", "Origin": "http://localhost:3000"}, 403),
        ("GET", {"Connection": "Upgrade", "Upgrade": "websocket", "Origin": "{own}"}, 200),
    ],
    ids=str,
)
async def test_a_cookie_counts_only_for_requests_of_our_own_page(http, page, method, headers, status):
    token = a_token(page, "data:read")
    sent = {name: value.replace("{own}", page.public_url) for name, value in headers.items()}
    sent["Cookie"] = f"{SESSION_COOKIE}={token}"
    async with http.request(method, f"{page.public_url}/check", headers=sent) as reply:
        assert reply.status == status
        if status == 403:
            assert (await reply.json())["code"] == "forbidden_origin"


async def test_a_bearer_token_needs_no_origin(http, page):
    headers = {"Authorization": f"Bearer {a_token(page, 'data:read')}", "Origin": "https://elsewhere.example"}
    async with http.post(f"{page.public_url}/check", headers=headers) as reply:
        assert reply.status == 200


async def test_who_comes_through_a_proxy_on_this_machine_gets_no_session_unasked(http, page):
    for name in ("Forwarded", "Via", "X-Forwarded-For", "X-Real-IP"):
        async with http.get(page.public_url, headers={name: "203.0.113.9"}) as reply:
            assert "Set-Cookie" not in reply.headers and reply.headers["X-Open"] == "False"
