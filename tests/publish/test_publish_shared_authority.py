"""Replicas of the publish gateway on one PostgreSQL: one key, one set of clients, revocations known to all."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import psycopg
import pytest
from aiohttp.helpers import encode_basic_auth
from postgres_server import PostgresServer

from penstock.errors import PenstockError
from penstock.http.access import Principal
from penstock.ports.clock import SystemClock
from penstock_publish.authority import Authority, open_authority
from penstock_publish.oauth.clients import CLIENT_FILE
from penstock_publish.settings import AuthSettings

ISSUER = "http://127.0.0.1:1"


@pytest.fixture
async def replica(postgres_url: str, tmp_path: Path) -> AsyncIterator[Callable[..., object]]:
    """`await replica(name)`: an authority with a data folder of its own on the shared database."""
    async with AsyncExitStack() as stack:

        async def start(name: str, url: str = postgres_url) -> Authority:
            folder = tmp_path / name
            folder.mkdir(exist_ok=True)
            opened = await open_authority(
                folder, AuthSettings(), clock=SystemClock(), public_url=ISSUER, database_url=url
            )
            stack.push_async_callback(opened.close)
            return opened

        yield start


def principal_of(authority: Authority, token: str) -> Principal:
    return authority.access.issuers.verify(token)


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not true():  # noqa: ASYNC110 - what is waited for is in a database, which sets no event
            await asyncio.sleep(0.02)


async def test_replicas_that_start_at_once_have_one_key_and_one_client(replica, tmp_path, postgres_url):
    several = await asyncio.gather(*(replica(name) for name in "abcd"))
    sets = [one.embedded.keys.public_jwks() for one in several]
    assert all(found == sets[0] for found in sets)
    assert len(sets[0]["keys"]) == 1
    files = {(tmp_path / name / CLIENT_FILE).read_text() for name in "abcd"}
    assert len(files) == 1
    with psycopg.connect(postgres_url) as connection:
        assert connection.execute("SELECT count(*) FROM penstock_auth.clients").fetchone() == (1,)


async def test_a_token_of_one_replica_is_taken_by_the_other(replica, tmp_path):
    first, second = await replica("a"), await replica("b")
    written = json.loads((tmp_path / "a" / CLIENT_FILE).read_text())
    basic = {"Authorization": encode_basic_auth(written["client_id"], written["client_secret"])}
    reply = await second.embedded.token({"grant_type": "client_credentials", "scope": "data:read"}, basic)
    assert reply.status == 200
    assert principal_of(first, reply.body["access_token"]).scopes == {"data:read"}


async def test_a_revocation_at_one_replica_is_known_to_the_other_which_tells_its_listeners(replica):
    first, second = await replica("a"), await replica("b")
    heard: list[str] = []
    second.on_revocation(heard.append)
    token = first.embedded.issuer.issue("development", "data:read")
    other = first.embedded.issuer.issue("development", "data:read")
    principal = principal_of(second, token)
    await first.embedded.remember_revoked(principal)
    first.revoked_now(principal)
    await until(lambda: heard)
    assert heard == [principal.token_id]
    with pytest.raises(PenstockError, match="revoked"):
        principal_of(second, token)
    assert principal_of(second, other).client_id == "development"
    assert principal.token_id in {revoked.jti for revoked in second.revocations().revoked}
    third = await replica("c")
    with pytest.raises(PenstockError, match="revoked"):
        principal_of(third, token)


async def test_the_keys_of_a_data_folder_move_into_the_database(replica, tmp_path):
    folder = tmp_path / "a"
    folder.mkdir()
    alone = await open_authority(folder, AuthSettings(), clock=SystemClock(), public_url=ISSUER)
    token = alone.embedded.issuer.issue("development", "data:read")
    secret = json.loads((folder / CLIENT_FILE).read_text())["client_secret"]
    await alone.close()
    first, second = await replica("a"), await replica("b")
    assert principal_of(first, token).client_id == principal_of(second, token).client_id
    assert json.loads((tmp_path / "b" / CLIENT_FILE).read_text())["client_secret"] == secret


async def test_without_its_database_an_authority_says_so_and_goes_on_when_it_is_back(need, replica):
    need("postgres", PostgresServer.programs() is not None, "apt-get install postgresql")
    with PostgresServer() as server:
        url = server.database("auth")
        first, second = await replica("a", url), await replica("b", url)
        token = first.embedded.issuer.issue("development", "data:read")
        principal = principal_of(second, token)
        server.kill()
        with pytest.raises(PenstockError) as failed:
            await first.embedded.client("development", "secret")
        assert failed.value.code == "store_unavailable"
        await until(lambda: first.trouble and second.trouble)
        assert principal_of(second, token) == principal  # tokens need no database
        server.start()
        await until(lambda: not (first.trouble or second.trouble))
        await first.embedded.remember_revoked(principal)
        await until(lambda: principal.token_id in {revoked.jti for revoked in second.revocations().revoked})


async def test_with_a_sqlite_store_clients_stay_in_the_data_folder(tmp_path):
    opened = await open_authority(
        tmp_path, AuthSettings(), clock=SystemClock(), public_url=ISSUER, database_url=f"sqlite:///{tmp_path}"
    )
    await opened.close()
    assert (tmp_path / "publish.db").exists()
