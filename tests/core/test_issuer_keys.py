"""Keys of issuers: which of a set count, how they are found, and that nobody can make us ask for them too often."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from token_issuer import IssuerServer, TokenMaker, b64, new_key

from penstock.errors import PenstockError
from penstock.http.discovery import check_address, metadata_urls, read_metadata
from penstock.http.followed_issuer import FollowSettings
from penstock.http.issuers import Issuers
from penstock.http.listener import HttpSettings, Listener
from penstock.http.open_issuer import OpenedIssuer, ResourceRules, open_issuer
from penstock.http.settings import IssuerSettings, TokenLimits
from penstock.http.signatures import verifying_keys
from penstock.ports.clock import SystemClock

CLOCK = SystemClock()
FOLLOW = FollowSettings(keys_refresh_s=3600.0, timeout_s=60.0)
RULES = ResourceRules(audience="penstock", leeway_s=5, cache_max=100, follow=FOLLOW, limits=TokenLimits())
ES256 = new_key("ES256").as_dict(private=False)
RS256 = new_key("RS256").as_dict(private=False)
ALL = ("ES256", "ES384", "RS256", "PS256", "EdDSA")


def roca_modulus() -> int:
    """A number of 2048 bits that is 1 modulo the small primes, which makes it a power of 65537 there."""
    primes = [p for p in range(3, 168) if all(p % q for q in range(2, p))]
    product = 1
    for prime in primes:
        product *= prime
    return product * ((1 << 2047) // product + 2) + 1


REFUSED_KEYS: dict[str, dict[str, object]] = {
    "for encryption (use)": {**ES256, "use": "enc"},
    "for encryption (key_ops)": {**ES256, "key_ops": ["encrypt"]},
    "for signing only (key_ops)": {**ES256, "key_ops": ["sign"]},
    "of another algorithm": {**ES256, "alg": "ES512"},
    "of another family's algorithm": {**ES256, "alg": "RS256"},
    "for encryption (alg)": {**RS256, "alg": "RSA-OAEP"},
    "a shared secret": {"kty": "oct", "k": b64(b"x" * 32), "alg": "HS256"},
    "of an unknown type": {"kty": "AKP", "alg": "ML-DSA-44", "pub": "AA"},
    "of another curve": {**new_key("ES384").as_dict(private=False), "alg": "ES256"},
    "with a point off the curve": {**ES256, "x": ES256["y"]},
    "with a curve of its own making": {**ES256, "crv": "P-257"},
    "without a coordinate": {name: value for name, value in ES256.items() if name != "y"},
    "short": {"kty": "RSA", "n": b64((3**646).to_bytes(128, "big")), "e": "AQAB"},
    "endless": {"kty": "RSA", "n": b64(b"\xff" * 4096), "e": "AQAB"},
    "with the exponent 1": {**RS256, "e": "AQ"},
    "with an even exponent": {**RS256, "e": "Ag"},
    "of the chip that chose weak primes": {"kty": "RSA", "n": b64(roca_modulus().to_bytes(256, "big")), "e": "AQAB"},
    "with a modulus that is no text": {**RS256, "n": 7},
    "with a padded modulus": {**RS256, "n": f"{RS256['n']}="},
    "a list": {"kty": ["EC"]},
}


@pytest.mark.parametrize("name", REFUSED_KEYS)
def test_a_key_is_passed_over_that_is(name):
    good = {**ES256, "kid": "good"}
    document = {"keys": [{"kid": "bad", **REFUSED_KEYS[name]}, good, None, 7]}
    assert list(verifying_keys(document, algorithms=ALL, keys_max=10)) == ["good"]


def test_keys_that_share_a_name_are_all_passed_over():
    twice = [{**ES256, "kid": "k"}, {**new_key("ES256").as_dict(private=False), "kid": "k"}, {**ES256, "kid": "k"}]
    with pytest.raises(ValueError, match="no key for"):
        verifying_keys({"keys": twice}, algorithms=ALL, keys_max=10)
    secret = {"kty": "oct", "k": "AAAA", "kid": "k"}
    with pytest.raises(ValueError, match="no key for"):
        verifying_keys({"keys": [secret, {**ES256, "kid": "k"}]}, algorithms=ALL, keys_max=10)


def test_of_a_private_key_the_public_half_is_kept():
    private = new_key("RS256").as_dict(private=True)
    [key] = verifying_keys({"keys": [private]}, algorithms=ALL, keys_max=10).values()
    assert not key.is_private and "d" not in key.as_dict()


def test_a_key_set_with_too_many_keys_is_refused():
    with pytest.raises(ValueError, match="more than 2"):
        verifying_keys({"keys": [ES256] * 3}, algorithms=ALL, keys_max=2)


@pytest.mark.parametrize(
    ("issuer", "first", "second"),
    [
        ("https://id.example", "https://id.example/.well-known/oauth-authorization-server",
         "https://id.example/.well-known/openid-configuration"),
        ("https://id.example/realms/a", "https://id.example/.well-known/oauth-authorization-server/realms/a",
         "https://id.example/realms/a/.well-known/openid-configuration"),
        ("https://id.example/", "https://id.example/.well-known/oauth-authorization-server",
         "https://id.example/.well-known/openid-configuration"),
    ],
)  # fmt: skip
def test_metadata_is_looked_for_where_the_standards_put_it(issuer, first, second):
    assert metadata_urls(issuer)[:2] == (first, second)


@pytest.mark.parametrize(
    ("url", "loopback", "allowed"),
    [
        ("https://id.example/keys", True, True),
        ("http://127.0.0.1:9/keys", True, True),
        ("http://localhost/keys", True, True),
        ("http://[::1]/keys", True, True),
        ("http://id.example/keys", True, False),
        ("http://127.0.0.1/keys", False, False),
        ("https://localhost/keys", False, False),
        ("http://2130706433/keys", True, False),
        ("http://169.254.169.254/latest", True, False),
        ("file:///etc/passwd", True, False),
        ("gopher://127.0.0.1/", True, False),
        ("https://user@id.example/keys", True, False),
        ("https:///keys", True, False),
        ("http://[::1", True, False),
        ("", True, False),
    ],
)
def test_keys_are_fetched_by_https_and_by_http_on_loopback_only(url, loopback, allowed):
    if allowed:
        check_address(url, insecure_http=False, loopback=loopback)
    else:
        with pytest.raises(ValueError, match="'"):
            check_address(url, insecure_http=False, loopback=loopback)


@pytest.mark.parametrize(
    "document",
    [
        [],
        {},
        {"issuer": "https://id.example/"},
        {"issuer": "https://evil.example", "jwks_uri": "https://evil.example/keys"},
        {"issuer": "https://id.example", "jwks_uri": "http://id.example/keys"},
        {"issuer": "https://id.example", "jwks_uri": "https://127.0.0.1/keys"},
        {"issuer": "https://id.example", "jwks_uri": "http://127.0.0.1/keys"},
        {"issuer": "https://id.example", "jwks_uri": "file:///keys"},
        {"issuer": "https://id.example", "jwks_uri": 7},
    ],
    ids=str,
)
def test_metadata_of_another_issuer_or_with_unsafe_addresses_is_refused(document):
    with pytest.raises(ValueError, match=r"metadata|address|https|loopback"):
        read_metadata(document, "https://id.example", insecure_http=False)


@asynccontextmanager
async def listening(**settings: object) -> AsyncIterator[tuple[IssuerServer, OpenedIssuer]]:
    """An issuer with its server, and what checks its tokens, running."""
    listener = Listener(HttpSettings(port=0, drain_s=0.2))
    server = IssuerServer(TokenMaker(listener.url, CLOCK))
    await listener.serve(server.routes())
    opened = open_issuer(IssuerSettings.model_validate({"issuer": listener.url, **settings}), RULES, clock=CLOCK)
    stop = asyncio.Event()
    running = [asyncio.create_task(role.run(stop)) for role in opened.roles]
    try:
        yield server, opened
    finally:
        stop.set()
        await asyncio.wait_for(asyncio.gather(*running), 5)
        await listener.close()


async def known(opened: OpenedIssuer) -> Issuers:
    assert opened.trusted.keys is not None
    for _ in range(500):
        if opened.trusted.keys.known:
            return Issuers([opened.trusted])
        await asyncio.sleep(0.01)
    raise AssertionError("its keys did not come")


async def refused(opened: OpenedIssuer) -> None:
    for _ in range(1_000):
        if opened.roles[0].ready()[0].detail.startswith("no keys"):
            return
        await asyncio.sleep(0.01)
    raise AssertionError("its keys were not refused")


async def test_the_key_set_is_found_by_the_issuers_metadata():
    async with listening() as (server, opened):
        issuers = await known(opened)
        assert (await issuers.verified(server.maker.token())).subject.endswith(":somebody")
        assert server.asked == {"keys": 1, "metadata": 1, "introspect": 0}


@pytest.mark.parametrize("changes", [{"issuer": "https://evil.example"}, {"jwks_uri": None}])
async def test_metadata_that_does_not_hold_gives_no_keys(changes):
    async with listening() as (server, opened):
        server.metadata.update(changes)
        server.metadata = {name: value for name, value in server.metadata.items() if value is not None}
        await refused(opened)
        assert opened.roles[0].ready()[0].ok, "other issuers' tokens can be checked"
        with pytest.raises(PenstockError, match="not_ready"):
            await Issuers([opened.trusted]).verified(server.maker.token())


async def test_ten_thousand_tokens_with_made_up_keys_make_one_fetch_in_a_cooldown():
    async with listening(keys_min_interval_s=3600.0) as (server, opened):
        issuers = await known(opened)
        body, signature = b64(json.dumps(server.maker.claims())), b64(bytes(64))

        async def send(number: int) -> str:
            head = b64(json.dumps(server.maker.header(kid=f"made-up-{number}")))
            try:
                await issuers.verified(f"{head}.{body}.{signature}")
            except PenstockError as error:
                return error.code
            return "taken"

        outcomes = await asyncio.gather(*(send(number) for number in range(10_000)))
        assert set(outcomes) == {"invalid_token"}
        assert server.asked["keys"] == 2
        assert len(opened.trusted.keys._unknown) <= FOLLOW.unknown_keys_max


async def test_one_fetch_serves_all_who_wait_for_the_new_key():
    async with listening(keys_min_interval_s=0.01) as (server, opened):
        issuers = await known(opened)
        await asyncio.sleep(0.02)
        rotated = TokenMaker(server.maker.issuer, CLOCK, kid="k2")
        server.keys = {"keys": [server.maker.jwk(), rotated.jwk()]}
        tokens = [rotated.token(jti=f"t{number}") for number in range(50)]
        found = await asyncio.gather(*(issuers.verified(token) for token in tokens))
        assert len({principal.token_id for principal in found}) == 50
        assert server.asked["keys"] == 2
        assert await issuers.verified(server.maker.token())


async def test_a_key_asked_for_in_vain_is_not_asked_for_again_at_once():
    async with listening(keys_min_interval_s=0.01) as (server, opened):
        issuers = await known(opened)
        forged = TokenMaker(server.maker.issuer, CLOCK, kid="gone").token()
        for _ in range(5):
            await asyncio.sleep(0.02)
            with pytest.raises(PenstockError, match="kid"):
                await issuers.verified(forged)
        assert server.asked["keys"] == 2


@pytest.mark.parametrize(
    "answer",
    [
        "<html>maintenance</html>",
        '{"keys": []}',
        '{"keys": "' + "x" * (FOLLOW.keys_max_bytes + 1) + '"}',
        web.HTTPInternalServerError(),
        web.HTTPFound("http://169.254.169.254/latest/meta-data"),
    ],
    ids=["html", "empty", "huge", "500", "redirect"],
)
async def test_while_the_key_set_is_broken_the_old_keys_count_and_no_redirect_is_followed(answer):
    async with listening(keys_min_interval_s=0.01) as (server, opened):
        issuers = await known(opened)
        server.keys = answer
        await asyncio.sleep(0.02)
        with pytest.raises(PenstockError, match="kid"):
            await issuers.verified(TokenMaker(server.maker.issuer, CLOCK, kid="k2").token())
        assert await issuers.verified(server.maker.token())


OF_OTHERS = {"keys": [{**RS256, "kid": "e", "use": "enc"}]}


async def test_when_the_last_key_for_us_is_taken_out_of_the_set_its_tokens_are_refused():
    async with listening(keys_min_interval_s=0.01) as (server, opened):
        issuers, token = await known(opened), server.maker.token()
        assert (await issuers.verified(token)).subject.endswith(":somebody")
        server.keys = OF_OTHERS
        await asyncio.sleep(0.02)
        earlier, told = issuers.verify(token), []
        assert opened.trusted.keys is not None
        opened.trusted.keys.on_retired(told.append)
        assert issuers.counts(earlier)
        for refused_token in (TokenMaker(server.maker.issuer, CLOCK, kid="k2").token(), token):
            with pytest.raises(PenstockError, match="kid"):
                await issuers.verified(refused_token)
        assert (told, issuers.counts(earlier)) == (["k1"], False)
        assert "none for ES256" in opened.roles[0].ready()[0].detail


async def test_an_issuer_that_makes_its_first_key_with_its_first_token_is_followed():
    async with listening(keys_min_interval_s=3600.0) as (server, opened):
        server.keys = OF_OTHERS  # before it is asked
        issuers = await known(opened)
        server.keys = server.maker.jwks()  # right after we have asked by ourselves
        assert (await issuers.verified(server.maker.token())).subject.endswith(":somebody")


async def test_a_key_set_that_takes_too_long_holds_nobody_longer_than_the_time_limit():
    async def slow(request: web.Request) -> web.Response:
        await asyncio.sleep(30)
        raise AssertionError("nobody waits so long")

    listener = Listener(HttpSettings(port=0, drain_s=0.2))
    await listener.serve([web.get("/keys", slow)])
    rules = ResourceRules("penstock", 5, 100, FOLLOW.model_copy(update={"timeout_s": 0.1}), TokenLimits())
    settings = IssuerSettings(issuer=listener.url, jwks_url=f"{listener.url}/keys")
    opened = open_issuer(settings, rules, clock=CLOCK)
    stop = asyncio.Event()
    running = asyncio.create_task(opened.roles[0].run(stop))
    started_s = time.monotonic()
    await refused(opened)
    assert time.monotonic() - started_s < 20
    stop.set()
    await running
    await listener.close()


@pytest.mark.parametrize("algorithm", ["RS256", "PS256", "ES384", "EdDSA", "Ed25519"])
def test_an_issuers_keys_may_be_in_a_file(tmp_path: Path, algorithm):
    maker = TokenMaker("https://id.example/realm", CLOCK, algorithm=algorithm)
    (tmp_path / "keys.json").write_text(json.dumps(maker.jwks()))
    settings = IssuerSettings(issuer=maker.issuer, jwks_file=tmp_path / "keys.json", algorithms=(algorithm,))
    opened = open_issuer(settings, RULES, clock=CLOCK)
    assert opened.roles == ()
    assert Issuers([opened.trusted]).verify(maker.token()).client_id == "id.example:tester"


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({"issuer": "id.example"}, "an address"),
        ({"issuer": "http://id.example"}, "not https"),
        ({"issuer": "https://id.example", "jwks_url": "http://id.example/keys"}, "not https"),
        ({"issuer": "https://id.example", "jwks_file": "/nowhere/keys.json"}, "jwks_file"),
        (
            {
                "issuer": "https://id.example",
                "introspection": {"client_id": "rs", "client_secret_env": "NOT_SET_ANYWHERE"},
            },
            "NOT_SET_ANYWHERE",
        ),
    ],
)
def test_what_is_wrong_with_an_issuer_is_said_at_the_start(settings, names):
    with pytest.raises(PenstockError, match=names):
        open_issuer(IssuerSettings.model_validate(settings), RULES, clock=CLOCK, environment={})
