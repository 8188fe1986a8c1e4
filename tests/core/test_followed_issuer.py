"""Following an issuer in another process: rotation, forged keys, revocations, and an issuer that goes away."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import aiohttp
import msgspec
import pytest
from aiohttp import web
from joserfc import jwt
from joserfc.jwk import ECKey

from penstock.http.credentials import JwtAccess
from penstock.http.followed_issuer import FollowedIssuer, FollowSettings, Revoked, RevokedToken
from penstock.http.listener import HttpSettings, Listener
from penstock.http.problem import guarded
from penstock.http.signatures import verifying_keys
from penstock.http.tokens import TokenVerifier
from penstock.ports.clock import SystemClock

ISSUER = "http://issuer.example"
QUICK = FollowSettings(revocations_poll_s=0.02, keys_refresh_s=3600, keys_min_interval_s=0.2, timeout_s=2)


class Issuer:
    """An issuer on a port of its own that can rotate, revoke and go away."""

    def __init__(self) -> None:
        self.keys = {"k1": ECKey.generate_key("P-256", private=True)}
        self.revoked: list[RevokedToken] = []
        self.asked_for_keys = 0
        self.listener: Listener | None = None
        self.port = 0

    async def start(self) -> None:
        self.listener = Listener(HttpSettings(port=self.port, drain_s=0.2))
        self.port = self.listener.port
        await self.listener.serve([web.get("/jwks", self._jwks), web.get("/revocations", self._list)])

    async def stop(self) -> None:
        assert self.listener is not None
        await self.listener.close()

    def token(self, kid: str = "k1", *, key: ECKey | None = None, jti: str = "t1") -> str:
        now_s = int(time.time())
        body = {"iss": ISSUER, "aud": "penstock", "sub": "c", "client_id": "c", "scope": "data:read", "iat": now_s,
                "exp": now_s + 600, "jti": jti}  # fmt: skip
        return jwt.encode({"alg": "ES256", "typ": "at+jwt", "kid": kid}, body, key or self.keys[kid])

    async def _jwks(self, request: web.Request) -> web.Response:
        self.asked_for_keys += 1
        return web.json_response({"keys": [{**k.as_dict(private=False), "kid": kid} for kid, k in self.keys.items()]})

    async def _list(self, request: web.Request) -> web.Response:
        return web.Response(body=msgspec.json.encode(Revoked(self.revoked)), content_type="application/json")


class Resource:
    """A service that checks tokens of the issuer."""

    def __init__(self, issuer: Issuer, settings: FollowSettings) -> None:
        base = f"http://127.0.0.1:{issuer.port}"
        clock = SystemClock()
        self.followed = FollowedIssuer(
            keys_url=f"{base}/jwks", revocations_url=f"{base}/revocations", clock=clock, settings=settings
        )
        verifier = TokenVerifier(
            self.followed.keys, issuer=ISSUER, audience="penstock", clock=clock, revoked=self.followed.revoked,
            leeway_s=5, cache_max=100,
        )  # fmt: skip
        self.access = JwtAccess(verifier, public_url=ISSUER, keys=self.followed)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Callable[[str], object]]:
        async def reply(request: web.Request) -> web.Response:
            await self.access.require(request, "data:read")
            return web.Response()

        listener = Listener(HttpSettings(port=0, drain_s=0.2))
        await listener.serve([web.get("/", guarded(reply))])
        stop = asyncio.Event()
        following = asyncio.create_task(self.followed.run(stop))

        async with aiohttp.ClientSession(listener.url) as client:

            async def ask(token: str) -> int:
                async with client.get("/", headers={"Authorization": f"Bearer {token}"}) as answer:
                    return answer.status

            try:
                yield ask
            finally:
                stop.set()
                await asyncio.wait_for(following, 5)
                await listener.close()


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    made = Issuer()
    await made.start()
    yield made
    await made.stop()


async def until(condition: Callable[[], object]) -> None:
    for _ in range(500):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not happen")


async def test_before_the_keys_are_here_the_reply_is_later_and_not_no(issuer: Issuer):
    token = issuer.token()
    await issuer.stop()
    resource = Resource(issuer, QUICK)
    async with resource.serving() as ask:
        assert await ask(token) == 503
        assert not resource.followed.ready()[0].ok
        assert str(issuer.port) in resource.followed.ready()[0].detail
        await issuer.start()
        await until(lambda: resource.followed.ready()[0].ok)
        assert await ask(token) == 200


async def test_a_token_with_a_new_key_is_taken_at_once_and_the_retired_key_no_more(issuer: Issuer):
    resource = Resource(issuer, QUICK)
    async with resource.serving() as ask:
        await until(lambda: resource.followed.known)
        old = issuer.token()
        issuer.keys = {"k2": ECKey.generate_key("P-256", private=True)}
        await asyncio.sleep(QUICK.keys_min_interval_s)
        assert await ask(issuer.token("k2")) == 200
        assert await ask(old) == 401


async def test_forged_keys_make_nobody_ask_the_issuer_more_often_than_allowed(issuer: Issuer):
    settings = QUICK.model_copy(update={"keys_min_interval_s": 3600.0})
    resource = Resource(issuer, settings)
    async with resource.serving() as ask:
        await until(lambda: resource.followed.known)
        forged = ECKey.generate_key("P-256", private=True)
        statuses = {await ask(issuer.token(f"x{n}", key=forged)) for n in range(20)}
        assert statuses == {401}
        assert await ask(issuer.token("k1", key=forged)) == 401
        assert issuer.asked_for_keys == 2, "once at the start, once because of all these tokens"


async def test_a_revoked_token_is_refused_and_what_is_known_outlives_the_issuer(issuer: Issuer):
    resource = Resource(issuer, QUICK)
    async with resource.serving() as ask:
        await until(lambda: resource.followed.known)
        good, bad = issuer.token(jti="good"), issuer.token(jti="bad")
        assert await ask(bad) == 200
        issuer.revoked = [RevokedToken("bad", time.time() + 600)]
        await until(lambda: "bad" in resource.followed.revoked)
        assert (await ask(good), await ask(bad)) == (200, 401)
        await issuer.stop()
        await until(lambda: "as of" in resource.followed.ready()[0].detail)
        assert (await ask(good), await ask(bad)) == (200, 401)
        assert resource.followed.ready()[0].ok
        await issuer.start()
        await until(lambda: "as of" not in resource.followed.ready()[0].detail)


@pytest.mark.parametrize("document", [{"keys": []}, {}, [], "no", {"keys": [{"kty": "oct", "k": "A" * 43}]}])
def test_a_key_set_without_a_usable_key_is_refused(document: object):
    with pytest.raises(ValueError, match=r"(?i)key"):
        verifying_keys(document, algorithms=("ES256",), keys_max=10)


async def test_a_reply_beyond_the_limit_is_not_read(issuer: Issuer):
    issuer.revoked = [RevokedToken("x" * 100, 0.0) for _ in range(100)]
    resource = Resource(issuer, QUICK.model_copy(update={"reply_max_bytes": 1024}))
    async with resource.serving() as ask:
        await until(lambda: "reply_max_bytes" in resource.followed.ready()[0].detail)
        assert await ask(issuer.token()) == 503


async def test_a_listener_that_serves_again_refuses_nobody_in_between():
    async def first(request: web.Request) -> web.Response:
        return web.Response(text="first")

    async def second(request: web.Request) -> web.Response:
        return web.Response(text="second")

    listener = Listener(HttpSettings(port=0, drain_s=1))
    await listener.serve([web.get("/", guarded(first))])
    seen: list[str] = []
    done = asyncio.Event()

    async def ask() -> None:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as client:
            while not done.is_set():
                async with client.get(listener.url) as answer:
                    seen.append(await answer.text())

    asking = asyncio.create_task(ask())
    await until(lambda: len(seen) > 5)
    await listener.serve([web.get("/", guarded(second))])
    await until(lambda: seen.count("second") > 5)
    done.set()
    await asyncio.wait_for(asking, 5)
    await listener.close()
    assert seen == sorted(seen), "first, then second, and no error between"
