"""Codes and refresh tokens when several processes share a database: who was first is decided in it, once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from penstock_publish.gateway_database import GatewayDatabase, open_gateway_database
from penstock_publish.oauth.grant_store import CodeRequest, GrantStore, Reused
from penstock_publish.oauth.revocation_rows import AccessToken

ASKED = CodeRequest("portal", "account:ann", "orders:read", "https://portal.example/back", "challenge")


@pytest.fixture(params=["sqlite", "postgresql"])
def databases(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[list[GatewayDatabase]]:
    url = request.getfixturevalue("postgres_url") if request.param == "postgresql" else None
    opened = [open_gateway_database(tmp_path, url) for _ in range(3)]
    yield opened
    for database in opened:
        database.close()


async def race(works: list[partial[object]]) -> list[object]:
    """All at once, each in a thread; what they returned, or `Reused`."""

    def attempt(work: partial[object]) -> object:
        try:
            return work()
        except Reused:
            return Reused

    return list(await asyncio.gather(*(asyncio.to_thread(attempt, work) for work in works)))


def token(name: str) -> AccessToken:
    return AccessToken(name, 3600.0)


async def test_of_several_processes_one_uses_a_code_and_one_each_refresh_token(databases):
    stores = [GrantStore(database) for database in databases]
    for turn in range(3):
        code = f"code-{turn}"
        stores[0].begin(code, ASKED, now_s=0.0, code_lifetime_s=60.0, lifetime_s=1e6)
        used = await race(
            [
                partial(
                    store.use_code, code, access=token(f"a{turn}{n}"), refresh=f"r{turn}{n}", now_s=1.0, idle_s=10.0
                )
                for n, store in enumerate(stores)
            ]
        )
        assert used.count(Reused) == 2
        won = f"r{turn}{used.index(None)}"
        rotated = await race(
            [
                partial(store.rotate, won, access=token(f"b{turn}{n}"), refresh=f"s{turn}{n}", now_s=2.0, idle_s=10.0)
                for n, store in enumerate(stores)
            ]
        )
        assert rotated.count(Reused) == 2


async def test_a_refresh_that_races_with_a_revocation_leaves_no_token_alive(databases):
    stores = [GrantStore(database) for database in databases]
    for turn in range(5):
        code, old, new = f"code-{turn}", f"old-{turn}", f"new-{turn}"
        stores[0].begin(code, ASKED, now_s=0.0, code_lifetime_s=60.0, lifetime_s=1e6)
        stores[0].use_code(code, access=token(f"a{turn}"), refresh=old, now_s=1.0, idle_s=10.0)
        grant = stores[0].by_code(code)
        assert grant is not None
        rotated, revoked = await race(
            [
                partial(stores[1].rotate, old, access=token(f"b{turn}"), refresh=new, now_s=2.0, idle_s=10.0),
                partial(stores[2].revoke, grant.grant_id),
            ]
        )
        made = {f"a{turn}"} if rotated is Reused else {f"a{turn}", f"b{turn}"}
        assert {one.token_id for one in revoked} == made
        found = stores[0].by_refresh_token(new)
        assert found is None or found.revoked


def test_a_person_who_goes_takes_grants_and_sessions_along(databases):
    first, second = GrantStore(databases[0]), GrantStore(databases[1])
    first.begin("code", ASKED, now_s=0.0, code_lifetime_s=60.0, lifetime_s=1e6)
    first.use_code("code", access=token("granted"), refresh=None, now_s=1.0, idle_s=10.0)
    first.begin_session(ASKED, token("session"), now_s=1.0)
    assert {one.token_id for one in second.revoke_all("account:ann")} == {"granted", "session"}
    assert second.revoke_all("account:ann") == []


async def test_a_grant_that_is_begun_while_its_session_ends_ends_with_it(databases):
    stores = [GrantStore(database) for database in databases]
    for turn in range(8):
        stores[0].begin_session(ASKED, token(f"session-{turn}"), now_s=0.0)
        begin = partial(
            stores[1].begin, f"code-{turn}", ASKED, now_s=0.0, code_lifetime_s=60.0, lifetime_s=1e6,
            session=f"session-{turn}",
        )  # fmt: skip
        works = [begin, partial(stores[2].revoke_all, ASKED.subject)]
        await race(works if turn % 2 else works[::-1])
        found = stores[0].by_code(f"code-{turn}")
        assert found is None or found.revoked
    with pytest.raises(Reused):
        stores[0].begin("late", ASKED, now_s=0.0, code_lifetime_s=60.0, lifetime_s=1e6, session="session-0")
