"""Rotation of signing keys: published before it signs, verifying until its last token has expired; by several."""

from __future__ import annotations

import asyncio
import json
import os

import aiohttp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from joserfc.jwk import ECKey
from publish.conftest import a_token, loopback_socket, serving, url_of

from penstock.errors import PenstockError
from penstock.http.credentials import JwtAccess
from penstock.http.followed_issuer import FollowedIssuer, FollowSettings
from penstock.http.problem import guarded
from penstock.http.tokens import TokenVerifier
from penstock_publish.authority import Authority, open_authority
from penstock_publish.oauth.key_keeper import KeyKeeper, open_key_keeper
from penstock_publish.oauth.key_schedule import KeyRules, SigningKey, keys_after, signing_at
from penstock_publish.oauth.keys import KEYS_FILE
from penstock_publish.settings import AuthSettings

DAY_S = 86_400
ISSUER = "http://127.0.0.1:1"
SETTINGS = AuthSettings(key_rotation_days=90, key_publish_s=900)
KEY = ECKey.generate_key("P-256", private=True)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest) -> str | None:
    return request.getfixturevalue("postgres_url") if request.param == "postgresql" else None


async def opened(folder, clock, url, settings: AuthSettings = SETTINGS) -> Authority:
    folder.mkdir(exist_ok=True)
    return await open_authority(folder, settings, clock=clock, public_url=ISSUER, database_url=url)


async def accepts(authority: Authority, token: str) -> bool:
    try:
        await authority.access.verified(token)
    except PenstockError:
        return False
    return True


def kids(authority: Authority) -> set[str]:
    return {key["kid"] for key in authority.embedded.keys.public_jwks()["keys"]}


async def test_a_rotation_by_command_reaches_every_replica_before_the_key_signs(tmp_path, clock, url):
    first = await opened(tmp_path / "a", clock, url)
    second = await opened(tmp_path / ("b" if url else "a"), clock, url)
    old_kid = first.embedded.keys.signing.kid
    keeper, close = await asyncio.to_thread(open_key_keeper, tmp_path / "a", SETTINGS, url, clock)
    rotated = await asyncio.to_thread(keeper.rotate)
    assert rotated[0].kid == old_kid and len(rotated) == 2
    assert len(await asyncio.to_thread(keeper.rotate)) == 2  # one waits already
    await asyncio.to_thread(close)
    new_kid = rotated[1].kid
    for replica in (first, second):
        await replica.embedded.follow_keys()
        assert kids(replica) == {old_kid, new_kid} and replica.embedded.keys.signing.kid == old_kid
    old_token = a_token(first, "data:read")
    await clock.advance(901)
    assert {replica.embedded.keys.signing.kid for replica in (first, second)} == {new_kid}
    new_token = a_token(second, "data:read")
    assert all([await accepts(replica, token) for replica in (first, second) for token in (old_token, new_token)])
    await clock.advance(3600 - 901)
    assert await accepts(second, old_token)  # its last second
    await clock.advance(901 + 300 + 1)
    for replica in (first, second):
        await replica.embedded.follow_keys()
        assert kids(replica) == {new_kid}
    again = await opened(tmp_path / "a", clock, url)
    assert kids(again) == {new_kid}
    for replica in (first, second, again):
        await replica.close()


async def test_a_key_is_replaced_after_its_time_by_one_new_key_of_all_replicas(tmp_path, clock, url):
    replicas = [await opened(tmp_path / ("ab"[n] if url else "a"), clock, url) for n in range(2)]
    [old_kid] = kids(replicas[0])
    clock.jump(90 * DAY_S - 900 - 1)
    await asyncio.gather(*(replica.embedded.follow_keys() for replica in replicas))
    assert kids(replicas[0]) == {old_kid}
    clock.jump(1)
    await asyncio.gather(*(replica.embedded.follow_keys() for replica in replicas))
    await asyncio.gather(*(replica.embedded.follow_keys() for replica in replicas))
    assert kids(replicas[0]) == kids(replicas[1]) and len(kids(replicas[0])) == 2
    assert {replica.embedded.keys.signing.kid for replica in replicas} == {old_kid}
    clock.jump(900)
    signing = {replica.embedded.keys.signing.kid for replica in replicas}
    assert len(signing) == 1 and signing != {old_kid}
    for replica in replicas:
        await replica.close()


async def test_after_a_compromise_no_token_of_before_is_taken(tmp_path, clock, url):
    authority = await opened(tmp_path / "a", clock, url)
    token = a_token(authority, "data:read")
    assert await accepts(authority, token)
    keeper, close = await asyncio.to_thread(open_key_keeper, tmp_path / "a", SETTINGS, url, clock)
    await asyncio.to_thread(keeper.rotate, compromised=True)
    await asyncio.to_thread(close)
    await authority.embedded.follow_keys()
    assert not await accepts(authority, token) and await accepts(authority, a_token(authority, "data:read"))
    await authority.close()


async def test_a_service_elsewhere_takes_tokens_all_through_a_rotation(tmp_path, clock, http):
    sock = loopback_socket()
    authority = await open_authority(tmp_path, SETTINGS, clock=clock, public_url=url_of(sock))
    follow = FollowSettings(keys_refresh_s=300, keys_min_interval_s=1)
    async with serving(sock, authority.routes()):
        issuer = FollowedIssuer(
            keys_url=f"{authority.public_url}/oauth/jwks.json", revocations_url=None, clock=clock, settings=follow
        )
        verifier = TokenVerifier(
            issuer.keys, issuer=authority.public_url, audience="penstock", clock=clock, revoked={}, leeway_s=5,
            cache_max=100,
        )  # fmt: skip
        access = JwtAccess(verifier, public_url=authority.public_url, keys=issuer)

        async def resource(request):
            await access.require(request, "data:read")
            return aiohttp.web.Response()

        elsewhere = loopback_socket()
        stop = asyncio.Event()
        running = asyncio.create_task(issuer.run(stop))
        async with serving(elsewhere, [aiohttp.web.get("/", guarded(resource))]):
            async with asyncio.timeout(5):
                while not issuer.known:  # noqa: ASYNC110 - set by a request of the follower
                    await asyncio.sleep(0.01)
            keeper, close = await asyncio.to_thread(open_key_keeper, tmp_path, SETTINGS, None, clock)
            statuses = []
            for step in range(4):
                if step == 1:
                    await asyncio.to_thread(keeper.rotate)
                if step > 1:
                    await clock.advance(901)
                await authority.embedded.follow_keys()
                headers = {"Authorization": f"Bearer {a_token(authority, 'data:read')}"}
                async with http.get(url_of(elsewhere), headers=headers) as reply:
                    statuses.append(reply.status)
            close()
            stop.set()
            await running
    assert statuses == [200] * 4
    await authority.close()


async def test_a_key_file_of_an_earlier_version_is_taken_as_it_is(tmp_path, clock):
    made = await opened(tmp_path / "a", clock, None)
    path = tmp_path / "a" / "signing-keys.json"
    token, stored = a_token(made, "data:read"), json.loads(path.read_text())
    await made.close()
    later = ECKey.generate_key("P-256", private=True)
    first = {**later.as_dict(private=True), "kid": "first"}
    path.write_text(
        json.dumps({"keys": [first, {k: v for k, v in stored["keys"][0].items() if k != "signs_from_s"}]})
    )
    os.utime(path, (clock.now_ms() / 1000, clock.now_ms() / 1000))
    again = await opened(tmp_path / "a", clock, None)
    assert again.embedded.keys.signing.kid == "first" and await accepts(again, token)
    assert all(
        set(key) == {"kty", "crv", "x", "y", "kid", "use", "alg"} for key in again.embedded.keys.public_jwks()["keys"]
    )
    path.write_text("{}")
    with pytest.raises(PenstockError, match="P-256"):
        await opened(tmp_path / "a", clock, None)
    await again.close()


def test_a_key_file_that_is_deleted_under_a_running_service_counts_at_the_next_start(tmp_path, clock):
    keeper, close = open_key_keeper(tmp_path, SETTINGS, None, clock)
    before = keeper.keys.signing.kid
    (tmp_path / "signing-keys.json").unlink()
    keeper.follow()
    assert keeper.keys.signing.kid == before
    close()
    other, close = open_key_keeper(tmp_path, SETTINGS, None, clock)
    assert other.keys.signing.kid != before and isinstance(other, KeyKeeper)
    close()


@settings(max_examples=60)
@given(
    steps=st.lists(st.tuples(st.floats(1, 5_000), st.booleans()), min_size=1, max_size=40),
    rotation_s=st.one_of(st.none(), st.floats(2_000, 20_000)),
)
def test_whenever_keys_change_no_token_loses_its_key_and_no_key_signs_unseen(steps, rotation_s):
    rules = KeyRules(rotation_s=rotation_s, publish_s=900.0, lifetime_s=3600.0)
    now_s, made = 0.0, 0
    keys = [SigningKey("0", KEY, 0.0)]
    seen_from_s = {"0": 0.0}
    tokens: list[tuple[str, float]] = []

    def make(signs_from_s: float) -> SigningKey:
        nonlocal made
        made += 1
        return SigningKey(str(made), KEY, signs_from_s)

    for passed_s, asked in steps:
        now_s += passed_s
        keys = keys_after(keys, now_s, rules, make=make, asked=asked)
        for key in keys:
            seen_from_s.setdefault(key.kid, now_s)
        signing = signing_at(keys, now_s)
        assert signing.kid == "0" or now_s >= seen_from_s[signing.kid] + rules.publish_s
        tokens = [(kid, exp) for kid, exp in tokens if exp > now_s]
        assert {kid for kid, _ in tokens} <= {key.kid for key in keys}
        tokens.append((signing.kid, now_s + rules.lifetime_s))


async def test_revocations_are_followed_on_while_the_key_file_cannot_be_written_or_read(tmp_path, clock):
    authority = await opened(tmp_path, clock, None)
    file = tmp_path / KEYS_FILE
    kept = file.read_text()
    for broken in ('{"keys": [7]}', json.dumps({"keys": [{**json.loads(kept)["keys"][0], "signs_from_s": "x"}]})):
        file.write_text(broken)
        with pytest.raises(PenstockError):
            await authority.embedded.follow_keys()
    file.write_text(kept)
    (tmp_path / f"{KEYS_FILE}.new").mkdir()  # what is written is put there first
    clock.jump(100 * DAY_S)
    with pytest.raises(PenstockError) as failed:
        await authority.embedded.follow_keys()
    assert failed.value.code == "store_unavailable"
    await authority.close()


async def test_a_revoked_token_stays_so_over_a_restart_as_long_as_clocks_may_differ(tmp_path, clock, url):
    lenient = AuthSettings(leeway_s=60, token_lifetime_s=100)
    authority = await opened(tmp_path, clock, url, lenient)
    token = a_token(authority, "orders:read")
    principal = await authority.access.verified(token)
    await authority.embedded.remember_revoked(principal)
    await authority.close()
    clock.jump(130)  # it has expired, and is taken for 30 s more
    again = await opened(tmp_path, clock, url, lenient)
    assert not await accepts(again, token)
    await again.close()


async def test_a_service_elsewhere_refuses_a_compromised_key_long_before_it_fetches_keys_again(tmp_path, clock):
    sock = loopback_socket()
    authority = await open_authority(tmp_path, SETTINGS, clock=clock, public_url=url_of(sock))
    async with serving(sock, authority.routes()):
        issuer = FollowedIssuer(
            keys_url=f"{authority.public_url}/oauth/jwks.json",
            revocations_url=f"{authority.public_url}/oauth/revocations",
            clock=clock,
            settings=FollowSettings(keys_refresh_s=300, revocations_poll_s=1),
        )
        stop = asyncio.Event()
        running = asyncio.create_task(issuer.run(stop))
        for _ in range(500):
            if issuer.known:
                break
            await asyncio.sleep(0.01)
        assert issuer.known
        keeper, close = await asyncio.to_thread(open_key_keeper, tmp_path, SETTINGS, None, clock)
        await asyncio.to_thread(keeper.rotate, compromised=True)
        await asyncio.to_thread(close)
        await authority.embedded.follow_keys()
        for _ in range(200):
            if set(issuer.keys) == kids(authority):
                break
            await clock.advance(0.1)
            await asyncio.sleep(0.01)
        assert set(issuer.keys) == kids(authority)
        stop.set()
        await running
    await authority.close()
