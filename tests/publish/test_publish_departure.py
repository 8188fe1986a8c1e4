"""What goes with who goes: an account's applications, what applications have registered, and nothing to an heir."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from functools import partial

import aiohttp
import pytest
from publish.conftest import Gateway, close_of, receive

from penstock.errors import PenstockError
from penstock_publish.applications.application import Application
from penstock_publish.applications.departure import applications_beyond, remove_account
from penstock_publish.applications.rows import TABLES, delete_application, insert_application
from penstock_publish.applications.settings import ApplicationSettings
from penstock_publish.gateway_database import open_gateway_database
from penstock_publish.oauth.accounts import Account, AccountStore, open_accounts
from penstock_publish.oauth.client_rows import CLIENTS, DETAILS
from penstock_publish.oauth.grant_store import CodeRequest, GrantStore
from penstock_publish.oauth.revocation_rows import REVOKED, AccessToken, RevocationLimits
from penstock_publish.oauth.settings import LoginSettings

PASSWORD = "correct horse battery staple"
SCOPE = "orders:read applications:write"


@pytest.fixture
def command(gateway: Gateway) -> Iterator[AccountStore]:
    """As `penstock accounts` has it, beside the process that runs."""
    opened, close = open_accounts(gateway.data_dir, LoginSettings(scrypt_log2_n=14, scrypt_p=1), None)
    yield opened
    close()


class Registrar:
    """Registers applications with one token, and gets tokens for them."""

    def __init__(self, gateway: Gateway, http: aiohttp.ClientSession, token: str) -> None:
        self.gateway, self.http = gateway, http
        self.headers = {"Authorization": f"Bearer {token}"}
        self.made: dict[str, str] = {}  # with which this one was registered

    async def register(self, name: str, scope: str = "orders:read") -> tuple[int, dict[str, str]]:
        url = f"{self.gateway.url}/v1/applications"
        async with self.http.post(url, json={"name": name, "scope": scope}, headers=self.headers) as reply:
            return reply.status, await reply.json()

    async def as_application(self, name: str, scope: str = "orders:read") -> Registrar:
        """One that this one registers."""
        status, made = await self.register(name, scope)
        assert status == 201, made
        token = await self.token_of(made["client_id"], made["client_secret"])
        found = Registrar(self.gateway, self.http, token or "")
        found.made = made
        return found

    async def token_of(self, client_id: str, secret: str) -> str | None:
        form = {"grant_type": "client_credentials", "client_id": client_id, "client_secret": secret}
        async with self.http.post(f"{self.gateway.url}/oauth/token", data=form) as reply:
            return (await reply.json()).get("access_token")

    async def status(self) -> int:
        async with self.http.get(f"{self.gateway.url}/v1/topics", headers=self.headers) as reply:
            return reply.status


async def an_account(gateway: Gateway, command: AccountStore, name: str = "ann") -> Account:
    return await asyncio.to_thread(partial(command.add, name, PASSWORD, SCOPE, now_s=gateway.clock.now_ms() / 1000))


def person(gateway: Gateway, http: aiohttp.ClientSession, account: Account) -> Registrar:
    """Somebody in the portal."""
    issued = gateway.authority.embedded.issuer.issue("page", SCOPE, subject=account.subject)
    return Registrar(gateway, http, issued)


async def test_a_removed_account_takes_its_applications_along_and_an_heir_of_its_name_has_none(
    gateway, http, command
):
    account = await an_account(gateway, command)
    ann, subject = person(gateway, http, account), account.subject
    board = await ann.as_application("board", SCOPE)
    child = await board.as_application("child")
    other = await person(gateway, http, await an_account(gateway, command, "bob")).as_application("board")
    async with gateway.subscribe("orders", headers=board.headers) as ws:
        await receive(ws, 1)
        now_s = gateway.clock.now_ms() / 1000
        ended = await asyncio.to_thread(partial(remove_account, command, "ann", now_s=now_s))
        assert set(ended) == {board.made["client_id"], child.made["client_id"]}
        await gateway.clock.advance(1)
        assert (await close_of(ws))[0] == 4401
    assert [await one.status() for one in (board, child, other)] == [401, 401, 200]
    for one in (board, child):
        assert await one.token_of(one.made["client_id"], one.made["client_secret"]) is None
    status, problem = await ann.register("late")  # with a token that this process does not know to be revoked
    assert (status, problem["code"]) == (401, "invalid_token")

    heir = await an_account(gateway, command)
    assert heir.name == "ann" and heir.subject != subject
    async with http.get(f"{gateway.url}/v1/applications", headers=person(gateway, http, heir).headers) as reply:
        assert (await reply.json())["applications"] == []


async def test_an_account_of_an_earlier_version_is_who_it_was_until_it_is_removed(gateway, command):
    await an_account(gateway, command)
    with command.database.transaction("as it was kept before") as connection:
        connection.exec_driver_sql("UPDATE accounts SET account_id = ''")
    before = await asyncio.to_thread(command.find, "account:ann")
    assert before is not None and before.subject == "account:ann"
    await asyncio.to_thread(partial(remove_account, command, "ann", now_s=0.0))
    heir = await an_account(gateway, command)
    assert await asyncio.to_thread(command.find, "account:ann") is None
    assert await asyncio.to_thread(command.find, heir.subject) == heir
    with pytest.raises(PenstockError, match="no account 'bob'"):
        await asyncio.to_thread(partial(remove_account, command, "bob", now_s=0.0))


async def test_a_deleted_application_takes_along_what_it_has_registered(gateway, http, command):
    ann = person(gateway, http, await an_account(gateway, command))
    board = await ann.as_application("board", SCOPE)
    child = await board.as_application("child", SCOPE)
    grandchild = await child.as_application("grandchild")
    url = f"{gateway.url}/v1/applications/{board.made['client_id']}"
    async with http.delete(url, headers=ann.headers) as reply:
        assert reply.status == 204
    assert [await one.status() for one in (board, child, grandchild)] == [401, 401, 401]
    async with http.get(f"{gateway.url}/v1/applications", headers=ann.headers) as reply:
        assert (await reply.json())["applications"] == []


def test_who_registers_and_deletes_without_end_is_told_to_wait(tmp_path):
    database = open_gateway_database(tmp_path)
    GrantStore(database)
    database.create(CLIENTS, DETAILS, REVOKED, *TABLES)
    limits = RevocationLimits(per_holder_max=3)

    def register(client_id: str, owner: str) -> None:
        application = Application(client_id, client_id, "", "bronze", "orders:read", (), owner, 0)
        with database.transaction("testing") as connection:
            insert_application(connection, application, "hash", ApplicationSettings(), limits)

    for number in range(2):
        register(f"app-{number}", "ada")
        with database.transaction("testing") as connection:
            delete_application(connection, f"app-{number}", 0.0)
    register("app-2", "ada")
    register("app-3", "app-2")  # what an application registers is ada's
    with database.transaction("testing") as connection:
        marks = delete_application(connection, "app-3", 0.0)
    assert [mark.token_id for mark in marks] == ["client:app-3"]
    for owner in ("ada", "app-2"):
        with pytest.raises(PenstockError, match="revocations_per_holder_max") as refused:
            register("app-4", owner)
        assert refused.value.status == 429
    register("app-4", "bob")
    database.close()


def test_tokens_that_others_have_in_the_name_of_a_deleted_application_end_with_it(tmp_path):
    database = open_gateway_database(tmp_path)
    grants = GrantStore(database)
    database.create(CLIENTS, DETAILS, REVOKED, *TABLES)
    board = Application("app-1", "board", "", "bronze", "orders:read", (), "ada", 0)
    with database.transaction("testing") as connection:
        insert_application(connection, board, "hash", ApplicationSettings(), RevocationLimits())
    # somebody signed in to the page with its secret, and let another application act
    asked = CodeRequest("portal", "app-1", "orders:read", "https://portal.example/back", "challenge")
    grants.begin("code", asked, now_s=0.0, code_lifetime_s=60.0, lifetime_s=1e6)
    grants.use_code("code", access=AccessToken("t", 100.0), refresh="r", now_s=1.0, idle_s=10.0)
    with database.transaction("testing") as connection:
        ended = delete_application(connection, "app-1", 2.0)
    assert {token.token_id for token in ended} == {"client:app-1", "t"}
    assert grants.by_refresh_token("r").revoked
    database.close()


async def test_who_takes_scopes_from_a_person_is_told_which_applications_keep_them(gateway, http, command):
    ann = person(gateway, http, await an_account(gateway, command))
    board = await ann.as_application("board", SCOPE)
    child = await board.as_application("child", "orders:read")
    await ann.as_application("other", "applications:write")
    changed = await asyncio.to_thread(command.set_scope, "ann", "applications:write")
    found = await asyncio.to_thread(applications_beyond, command, changed)
    assert found == [board.made["client_id"], child.made["client_id"]]
    wider = await asyncio.to_thread(command.set_scope, "ann", "*:read applications:write")
    assert await asyncio.to_thread(applications_beyond, command, wider) == []
