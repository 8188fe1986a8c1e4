"""Wrong secrets at the token endpoint: who tries too often waits, and nobody else does."""

from __future__ import annotations

import asyncio
import threading

from publish.oauth_rig import MACHINE, browsing

from penstock.errors import PenstockError
from penstock_publish.oauth.failures import FailedClients, network_of
from penstock_publish.oauth.settings import ClientSecretSettings

FEW = ClientSecretSettings(failures_client_max=2, failures_address_max=3, failures_window_s=60, failures_kept_max=100)


def waits(failed: FailedClients, client_id: str, address: str, now_s: float) -> float | None:
    try:
        failed.check(client_id, address, now_s)
    except PenstockError as error:
        return error.retry_after_s
    return None


def test_a_client_waits_where_it_failed_and_nowhere_else():
    failed = FailedClients(FEW)
    for _ in range(2):
        assert waits(failed, "a", "192.0.2.1", 10.0) is None
        failed.failed("a", "192.0.2.1", 10.0)
    assert waits(failed, "a", "192.0.2.1", 15.0) == 55.0
    assert waits(failed, "a", "192.0.2.2", 15.0) is None and waits(failed, "b", "192.0.2.1", 15.0) is None
    failed.failed("b", "192.0.2.1", 20.0)  # the third of this address
    assert waits(failed, "c", "192.0.2.1", 20.0) == 50.0
    assert [waits(failed, name, "192.0.2.1", 70.0) for name in "abc"] == [None] * 3


def test_who_has_got_in_from_an_address_is_not_kept_out_by_others_there():
    failed = FailedClients(FEW)
    failed.succeeded("a", "192.0.2.1")
    for _ in range(9):
        failed.failed("a", "192.0.2.1", 0.0)
    assert waits(failed, "a", "192.0.2.1", 1.0) is None
    assert waits(failed, "b", "192.0.2.1", 1.0) == 59.0
    for number in range(500):
        failed.succeeded(f"c{number}", "192.0.2.1")
    assert len(failed._known) == FEW.failures_kept_max and waits(failed, "a", "192.0.2.1", 1.0) == 59.0


def test_what_is_remembered_has_a_limit_and_the_oldest_goes_first():
    failed = FailedClients(FEW)
    for number in range(500):
        failed.failed(f"c{number}", f"192.0.{number // 250}.{number % 250}", float(number) / 100)
    assert len(failed._counted) <= FEW.failures_kept_max + 1
    assert network_of("2001:db8::1") == network_of("2001:db8::2") != network_of("2001:db8:0:1::1")


async def test_guesses_of_a_secret_end_with_429_for_all_endpoints_that_take_one(tmp_path, clock):
    async with browsing(tmp_path, clock, secrets={"failures_client_max": 3}) as browser:

        async def guess(path: str, client_id: str = "machine") -> int:
            form = {"grant_type": "client_credentials", "token": "t", "client_id": client_id, "client_secret": "no"}
            async with browser.http.post(f"{browser.url}/oauth/{path}", data=form) as reply:
                assert reply.status != 429 or int(reply.headers["Retry-After"]) <= 60
                return reply.status

        async def session() -> int:
            sent = {"client_id": "machine", "client_secret": "no"}
            async with browser.http.post(f"{browser.url}/session", json=sent) as reply:
                return reply.status

        nothing_proved = {"client_id": "machine", "client_secret": "no", "scope": "orders:read"}  # no grant_type
        async with browser.http.post(f"{browser.url}/oauth/token", data=nothing_proved) as reply:
            assert reply.status == 400
        assert [await guess("token"), await guess("revoke"), await session(), await guess("introspect")] == [
            401, 401, 401, 429,
        ]  # fmt: skip
        assert [await guess("token"), await session(), await guess("token", "portal")] == [429, 429, 401]
        assert (await browser.call("/oauth/token", MACHINE, grant_type="client_credentials")).status == 429
        await clock.advance(61)
        assert (await browser.call("/oauth/token", MACHINE, grant_type="client_credentials")).status == 200


async def test_the_queue_before_the_token_endpoint_has_a_limit(tmp_path, clock):
    async with browsing(tmp_path, clock, secrets={"waiting_max": 2}) as browser:

        async def ask() -> int:
            form = {"grant_type": "client_credentials", "client_id": "machine", "client_secret": "m3"}
            async with browser.http.post(f"{browser.url}/oauth/token", data=form) as reply:
                return reply.status

        release = threading.Event()
        worker = browser.authority.embedded._worker
        blocked = asyncio.get_running_loop().run_in_executor(worker, release.wait)  # all that come now wait
        asked = [asyncio.create_task(ask()) for _ in range(5)]
        try:
            async with asyncio.timeout(10):
                done: set[asyncio.Task[int]] = set()
                while len(done) < 3:
                    done, _ = await asyncio.wait(asked, timeout=0.05)
        finally:
            release.set()
        await blocked
        assert sorted(await asyncio.gather(*asked)) == [200, 200, 429, 429, 429]
