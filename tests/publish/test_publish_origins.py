"""Cross-site WebSocket hijacking: which pages may open a socket with the session's cookie, or with a ticket."""

from __future__ import annotations

import aiohttp
import msgspec
import pytest
from multidict import CIMultiDict

from penstock.http.access import Principal
from penstock.http.authorization_details import TopicGrant
from penstock.http.credentials import SESSION_COOKIE

#: `{own}` is the origin that would be right, `{host}` and `{port}` its parts.
FOREIGN = {
    "null": ["null"],
    "empty": [""],
    "another site": ["https://evil.example"],
    "ours before another": ["http://{host}:{port}.evil.example"],
    "ours as a name before another": ["http://{host}.evil.example:{port}"],
    "ours behind another": ["http://evil{host}:{port}"],
    "another scheme": ["https://{host}:{port}"],
    "another port": ["http://{host}:1"],
    "no port": ["http://{host}"],
    "upper case": ["HTTP://{host}:{port}"],
    "a dot at the end": ["http://{host}.:{port}"],
    "a slash at the end": ["{own}/"],
    "a path": ["{own}/page"],
    "ours as a user": ["http://{host}:{port}@evil.example"],
    "a subdomain": ["http://app.{host}:{port}"],
    "another name of this machine": ["http://localhost:{port}"],
    "another address of this machine": ["http://127.0.0.2:{port}"],
    "the address as a number": ["http://2130706433:{port}"],
    "IPv6": ["http://[::1]:{port}"],
    "a file": ["file://"],
    "an extension": ["chrome-extension://abcdefghijklmnop"],
    "two headers, ours first": ["{own}", "https://evil.example"],
    "two headers, ours last": ["https://evil.example", "{own}"],
    "a list": ["{own}, https://evil.example"],
    "a list with blanks": ["{own} https://evil.example"],
}


def headers_of(url: str, origins: list[str], **others: str) -> CIMultiDict[str]:
    host, port = url.removeprefix("http://").split(":")
    made = CIMultiDict(others)
    for origin in origins:
        made.add("Origin", origin.format(own=url, host=host, port=port))
    return made


async def upgraded(http: aiohttp.ClientSession, url: str, headers: CIMultiDict[str]) -> int:
    """101, or the status with which the upgrade is refused."""
    try:
        async with http.ws_connect(url, headers=headers) as socket:
            await socket.receive(timeout=5)
    except aiohttp.WSServerHandshakeError as refusal:
        return refusal.status
    return 101


@pytest.fixture
def cookie(gateway) -> str:
    return f"{SESSION_COOKIE}={gateway.token()}"


@pytest.mark.parametrize("name", FOREIGN)
async def test_a_cookie_opens_no_socket_from(http, gateway, cookie, name):
    headers = headers_of(gateway.url, FOREIGN[name], Cookie=cookie)
    assert await upgraded(http, f"{gateway.url}/v1/topics/orders", headers) == 403


async def test_a_cookie_opens_a_socket_from_our_own_page_only_and_not_without_an_origin(http, gateway, cookie):
    url = f"{gateway.url}/v1/topics/orders"
    assert await upgraded(http, url, headers_of(gateway.url, ["{own}"], Cookie=cookie)) == 101
    assert await upgraded(http, url, headers_of(gateway.url, [], Cookie=cookie)) == 403
    cross = headers_of(gateway.url, ["{own}"], Cookie=cookie, **{"Sec-Fetch-Site": "cross-site"})
    assert await upgraded(http, url, cross) == 403
    same_site = headers_of(gateway.url, ["{own}"], Cookie=cookie, **{"Sec-Fetch-Site": "same-site"})
    assert await upgraded(http, url, same_site) == 403


@pytest.mark.parametrize("name", FOREIGN)
async def test_a_ticket_for_a_page_opens_no_socket_from(http, gateway, name):
    ticket = await gateway_ticket(http, gateway, origin=gateway.url)
    headers = headers_of(gateway.url, FOREIGN[name])
    assert await upgraded(http, f"{gateway.url}/v1/topics/orders?ticket={ticket}", headers) in (401, 403)
    # It is used up: the right page cannot use it after somebody else has tried.
    headers = headers_of(gateway.url, ["{own}"])
    assert await upgraded(http, f"{gateway.url}/v1/topics/orders?ticket={ticket}", headers) == 401


async def test_a_ticket_opens_a_socket_from_the_page_that_it_was_made_for(http, gateway):
    for origin in (gateway.url, "https://app.example"):
        ticket = await gateway_ticket(http, gateway, origin=origin)
        headers = headers_of(gateway.url, [origin])
        assert await upgraded(http, f"{gateway.url}/v1/topics/orders?ticket={ticket}", headers) == 101
    ticket = await gateway_ticket(http, gateway, origin=None)
    headers = headers_of(gateway.url, ["https://evil.example"])
    assert await upgraded(http, f"{gateway.url}/v1/topics/orders?ticket={ticket}", headers) == 403


async def test_a_cookie_does_not_help_a_ticket_of_another_page(http, gateway, cookie):
    ticket = await gateway_ticket(http, gateway, origin="https://app.example")
    headers = headers_of(gateway.url, ["{own}"], Cookie=cookie)
    assert await upgraded(http, f"{gateway.url}/v1/topics/orders?ticket={ticket}", headers) == 403


def test_a_ticket_that_is_kept_in_a_database_keeps_its_filters():
    details = (TopicGrant(frozenset({"read"}), ("orders",), "a = 1"),)
    principal = Principal("s", "c", frozenset({"x:read"}), 1.0, "t", details)
    assert msgspec.json.decode(msgspec.json.encode(principal), type=Principal) == principal


async def gateway_ticket(http: aiohttp.ClientSession, gateway, *, origin: str | None) -> str:
    body = {"topic": "orders"} if origin is None else {"topic": "orders", "origin": origin}
    async with http.post(f"{gateway.url}/v1/tickets", json=body, headers=gateway.headers()) as reply:
        return str((await reply.json())["ticket"])
