"""What webhooks decide without a server: where they may go, what a reply means, how long to wait."""

from __future__ import annotations

import asyncio
import ipaddress
import random

import pytest
from aiohttp import web
from publish.conftest import loopback_socket, serving

from penstock.errors import PenstockError
from penstock.ports.clock import SystemClock
from penstock_publish.outbound.attempt import Outcome
from penstock_publish.outbound.backoff import pause_s
from penstock_publish.webhooks.addresses import JudgingResolver, allowed, check_url
from penstock_publish.webhooks.outcome import verdict_of
from penstock_publish.webhooks.sender import Sender
from penstock_publish.webhooks.settings import WebhookSettings
from penstock_publish.webhooks.signing import new_secret


@pytest.mark.parametrize(
    ("address", "may"),
    [
        ("93.184.215.14", True),
        ("2606:2800:21f:cb07:6820:80da:af6b:8b2c", True),
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("192.168.1.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("::1", False),
        ("fe80::1", False),
        ("fd00::1", False),
        ("::ffff:127.0.0.1", False),
        ("2002:7f00:1::", False),
        ("64:ff9b::10.0.0.1", False),
        ("64:ff9b::93.184.216.34", True),
        ("64:ff9b:1::1", False),
        ("::ffff:0:10.0.0.1", False),
        ("::169.254.169.254", False),
        ("::", False),
        ("fec0::1", False),
    ],
)
def test_only_addresses_of_the_internet_are_gone_to(address: str, may: bool):
    assert allowed(ipaddress.ip_address(address), ()) is may


def test_networks_can_be_allowed_by_name():
    networks = (ipaddress.ip_network("10.1.0.0/16"),)
    assert allowed(ipaddress.ip_address("10.1.2.3"), networks)
    assert allowed(ipaddress.ip_address("::ffff:10.1.2.3"), networks)
    assert not allowed(ipaddress.ip_address("10.2.2.3"), networks)


async def test_a_name_that_leads_to_a_private_address_is_not_connected_to():
    with pytest.raises(OSError, match=r"localhost is .*must not go"):
        await JudgingResolver((), lookups_max=1).resolve("localhost", 80)
    near = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))
    [found, *_] = await JudgingResolver(near, lookups_max=1).resolve("localhost", 80)
    assert found["host"] in ("127.0.0.1", "::1")


@pytest.mark.parametrize(
    "url",
    [
        "https://example.org/hook?a=b",
        "https://93.184.215.14:8443/",
        "https://a_b.3com.example./",
        "https://xn--a-ecp.ru/",
    ],
)
def test_addresses_of_the_internet_over_tls_will_do(url: str):
    check_url(url, WebhookSettings())


@pytest.mark.parametrize(
    "url",
    ["http://example.org/", "https://127.0.0.1/", "https://[::1]/", "https:///x", "https://u@example.org/",
     "https://example.org/#x", "https://example.org:0/", "https://example.org/\n", "https://exa mple.org/",
     "https://127.1/", "https://2130706433/", "https://0x7f000001/", "https://0x7f.1/", "https://0177.0.0.1/",
     "https://127.0.0.1./", "https://[::ffff:7f00:1]/", "https://[fe80::1%25eth0]/", "https://[v1.a:b]/",
     "https://example.org%2f@127.0.0.1/", "https://example.org\\@127.0.0.1/", "https://%31%32%37.0.0.1/",
     "https://example.org:25/", "https://example.org:587/", "https://example.org:65536/", "https://example.org:-1/",
     "https://example.org/" + "x" * 3000],
)  # fmt: skip
def test_other_addresses_are_refused(url: str):
    with pytest.raises(PenstockError, match="bad_request"):
        check_url(url, WebhookSettings())


@pytest.mark.parametrize(
    ("status", "outcome"),
    [(200, "delivered"), (204, "delivered"), (301, "refused"), (400, "refused"), (401, "refused"), (404, "later"),
     (408, "later"), (410, "gone"), (429, "later"), (500, "later"), (503, "later")],
)  # fmt: skip
def test_a_status_says_what_to_do(status: int, outcome: str):
    assert verdict_of(status, None).outcome is Outcome(outcome)


def test_pauses_double_to_their_limit_and_a_receiver_can_ask_for_more():
    settings = WebhookSettings(backoff_first_s=2, backoff_max_s=60)
    chance = random.Random(3)
    for failures, bound_s in ((1, 2), (2, 4), (3, 8), (10, 60), (1000, 60)):
        waits = [pause_s(failures, None, settings=settings, chance=chance) for _ in range(50)]
        assert bound_s / 2 <= min(waits) <= max(waits) <= bound_s
    assert pause_s(1, 30.0, settings=settings, chance=chance) == 30.0
    assert pause_s(1, 9_999.0, settings=settings, chance=chance) == 60


async def test_receivers_that_never_answer_do_not_take_the_turn_of_others():
    never = asyncio.Event()

    async def slow(request: web.Request) -> web.Response:
        await never.wait()
        return web.Response()

    async def fast(request: web.Request) -> web.Response:
        return web.Response()

    networks = (ipaddress.ip_network("127.0.0.0/8"),)
    settings = WebhookSettings(insecure_http=True, networks_allowed=networks, request_timeout_s=5)
    sender = Sender(clock=SystemClock(), settings=settings)
    async with serving(loopback_socket(), [web.post("/slow", slow), web.post("/fast", fast)]) as url:
        waiting = [asyncio.create_task(sender.send(f"{url}/slow", [new_secret()], "m", b"{}")) for _ in range(120)]
        await asyncio.sleep(0.3)
        verdict = await sender.send(f"{url}/fast", [new_secret()], "m", b"{}")
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        await sender.close()
        never.set()
    assert verdict.outcome is Outcome.DELIVERED


async def test_an_address_that_is_not_looked_up_is_judged_where_it_is_connected_to():
    asked = []

    async def hook(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response()

    sender = Sender(clock=SystemClock(), settings=WebhookSettings(insecure_http=True))
    async with serving(loopback_socket(), [web.post("/hook", hook)]) as url:
        port = url.rpartition(":")[2]
        for host in ("127.0.0.1", "localhost", "127.1", "[::ffff:127.0.0.1]", "2130706433"):
            verdict = await sender.send(f"http://{host}:{port}/hook", [new_secret()], "m", b"{}")
            assert verdict.outcome is Outcome.LATER, host
    await sender.close()
    assert asked == []


async def test_a_reply_without_an_end_is_not_read():
    sent = 0

    async def endless(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        reply = web.StreamResponse()
        await reply.prepare(request)
        while sent < 1_000:
            await reply.write(b"x" * 100_000)
            sent += 1
        return reply

    networks = (ipaddress.ip_network("127.0.0.0/8"),)
    sender = Sender(clock=SystemClock(), settings=WebhookSettings(insecure_http=True, networks_allowed=networks))
    async with serving(loopback_socket(), [web.post("/endless", endless)]) as url:
        verdict = await sender.send(f"{url}/endless", [new_secret()], "m", b"{}")
        await sender.close()
    assert verdict.outcome is Outcome.DELIVERED
    assert sent < 300, "30 MB would lie somewhere else"


async def test_what_a_receiver_says_in_place_of_http_can_be_kept_in_any_database():
    async def nonsense(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 \x00\xff\xed\xa0\x80\x1b[31m " + b"x" * 1_000 + b"\r\n\r\n")
        await writer.drain()
        writer.close()

    networks = (ipaddress.ip_network("127.0.0.0/8"),)
    sender = Sender(clock=SystemClock(), settings=WebhookSettings(insecure_http=True, networks_allowed=networks))
    server = await asyncio.start_server(nonsense, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    verdict = await sender.send(f"http://127.0.0.1:{port}/", [new_secret()], "m", b"{}")
    assert verdict.outcome is Outcome.LATER
    assert verdict.detail.isprintable() and len(verdict.detail) <= 300
    await sender.close()
    server.close()
    await server.wait_closed()


async def test_a_long_event_is_sent_in_pieces_with_its_length():
    got: list[tuple[str | None, int]] = []

    async def hook(request: web.Request) -> web.Response:
        size = 0
        async for piece in request.content.iter_any():
            size += len(piece)
        got.append((request.headers.get("Content-Length"), size))
        return web.Response()

    networks = (ipaddress.ip_network("127.0.0.0/8"),)
    sender = Sender(clock=SystemClock(), settings=WebhookSettings(insecure_http=True, networks_allowed=networks))
    async with serving(loopback_socket(), [web.post("/hook", hook)]) as url:
        verdict = await sender.send(f"{url}/hook", [new_secret()], "m", b"x" * 1_500_000)
        await sender.close()
    assert verdict.outcome is Outcome.DELIVERED
    assert got == [("1500000", 1_500_000)]
