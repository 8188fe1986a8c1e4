"""Applications over REST: registered, seen by their owner alone, limited, rotated, deleted with their tokens."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import aiohttp
import pytest
from publish.conftest import Gateway, a_token, close_of, events, receive
from publish.plans_rig import one_by_one
from websockets.exceptions import InvalidStatus

from penstock.errors import PenstockError
from penstock.http.access import Principal
from penstock_publish.applications.application import Application, check_application, refuse_wider_scope
from penstock_publish.applications.rows import (
    TABLES,
    find_application,
    insert_application,
    replace_application,
)
from penstock_publish.applications.settings import ApplicationSettings
from penstock_publish.gateway_database import open_gateway_database
from penstock_publish.oauth.client_rows import CLIENTS, DETAILS, find_client
from penstock_publish.oauth.revocation_rows import REVOKED, RevocationLimits
from penstock_publish.plans.settings import BUILT_IN

MINE = "applications:write *:read data:read"


class Caller:
    """Requests as one subject."""

    def __init__(self, gateway: Gateway, http: aiohttp.ClientSession, subject: str, scope: str = MINE) -> None:
        self.gateway, self.http = gateway, http
        self.headers = {"Authorization": f"Bearer {a_token(gateway.authority, scope, client_id=subject)}"}

    async def call(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        url = f"{self.gateway.url}{path}"
        async with self.http.request(method, url, json=body, headers=self.headers) as reply:
            return reply.status, await reply.json(content_type=None) if reply.status != 204 else None

    async def add(self, **members: object) -> dict[str, Any]:
        status, answer = await self.call("POST", "/v1/applications", {"name": "a", "scope": "*:read"} | members)
        assert status == 201, answer
        return answer


@pytest.fixture
def ada(gateway, http) -> Caller:
    return Caller(gateway, http, "ada")


async def token_of(gateway: Gateway, http: aiohttp.ClientSession, client_id: str, secret: str) -> tuple[int, Any]:
    form = {"grant_type": "client_credentials", "client_id": client_id, "client_secret": secret}
    async with http.post(f"{gateway.url}/oauth/token", data=form) as reply:
        return reply.status, await reply.json()


async def bearer(gateway: Gateway, http: aiohttp.ClientSession, added: dict[str, Any]) -> dict[str, str]:
    status, answer = await token_of(gateway, http, added["client_id"], added["client_secret"])
    assert status == 200, answer
    return {"Authorization": f"Bearer {answer['access_token']}"}


async def test_an_application_is_registered_with_its_secret_shown_once(gateway, http, ada):
    added = await ada.add(name="Wall board", description="The hall", scope="orders:read", plan="silver")
    application = added["application"]
    assert application == {
        "id": added["client_id"],
        "name": "Wall board",
        "description": "The hall",
        "plan": "silver",
        "scope": "orders:read",
        "redirect_uris": [],
        "owner": "ada",
        "created_at": "2023-11-14T22:13:20.000Z",
    }
    assert await ada.call("GET", "/v1/applications") == (200, {"applications": [application], "next": None})
    assert await ada.call("GET", f"/v1/applications/{application['id']}") == (200, application)
    status, token = await token_of(gateway, http, added["client_id"], added["client_secret"])
    assert (status, token["scope"]) == (200, "orders:read")
    async with gateway.subscribe("orders", headers={"Authorization": f"Bearer {token['access_token']}"}) as ws:
        assert (await receive(ws, 1))[0]["sys"] == "open"


async def test_another_owners_application_does_not_exist_for_others_and_admins_see_all(gateway, http, ada):
    added = await ada.add()
    path = f"/v1/applications/{added['client_id']}"
    eve, admin = Caller(gateway, http, "eve"), Caller(gateway, http, "root", "apps:admin")
    for method, where in (
        ("GET", path), ("PUT", path), ("DELETE", path), ("POST", f"{path}/secret"), ("GET", f"{path}/usage"),
    ):  # fmt: skip
        status, problem = await eve.call(method, where, {} if method == "PUT" else None)
        assert (method, status, problem["code"]) == (method, 404, "not_found")
        status, absent = await eve.call(method, where.replace(added["client_id"], "app-none"), {})
        assert absent["detail"] == problem["detail"].replace(added["client_id"], "app-none")
    assert (await eve.call("GET", "/v1/applications"))[1] == {"applications": [], "next": None}
    assert [one["id"] for one in (await admin.call("GET", "/v1/applications"))[1]["applications"]] == [
        added["client_id"]
    ]
    assert (await admin.call("PUT", path, {"plan": "unlimited"}))[1]["plan"] == "unlimited"
    assert (await ada.call("GET", path))[1]["plan"] == "unlimited"


async def test_without_the_scope_nothing_of_applications_can_be_asked(gateway, http):
    reader = Caller(gateway, http, "ada", "*:read data:read")
    for method, path in (("GET", "/v1/applications"), ("POST", "/v1/applications"), ("GET", "/v1/applications/x")):
        status, problem = await reader.call(method, path, {} if method == "POST" else None)
        assert (status, problem["code"]) == (403, "insufficient_scope")
    reader.headers = {}
    assert (await reader.call("GET", "/v1/plans"))[0] == 401


async def test_an_application_gets_no_scope_that_its_creator_does_not_have(ada):
    added = await ada.add(name="kept", scope="orders:read applications:write")
    path = f"/v1/applications/{added['client_id']}"
    for scope in ("data:query", "apps:admin", "*:read ingest:write", "orders:read apps:admin"):
        status, problem = await ada.call("POST", "/v1/applications", {"name": "a", "scope": scope})
        assert (status, problem["code"]) == (403, "insufficient_scope")
        assert (await ada.call("PUT", path, {"scope": scope}))[0] == 403
    assert (await ada.call("PUT", path, {"scope": "alerts:read"}))[1]["scope"] == "alerts:read"
    assert len((await ada.call("GET", "/v1/applications"))[1]["applications"]) == 1


async def test_an_application_cannot_make_one_that_may_more_than_itself(gateway, http, ada):
    added = await ada.add(scope="orders:read applications:write")
    child = Caller(gateway, http, "x")
    child.headers = await bearer(gateway, http, added)
    assert (await child.call("POST", "/v1/applications", {"name": "b", "scope": "*:read"}))[0] == 403
    assert (await child.add(scope="orders:read"))["application"]["owner"] == added["client_id"]


def test_what_an_application_had_before_stays_whoever_changes_it():
    principal = Principal("s", "c", frozenset({"orders:read"}), 0.0, "t")
    refuse_wider_scope("orders:read", principal)
    with pytest.raises(PenstockError, match="alerts:read"):
        refuse_wider_scope("alerts:read", principal)
    refuse_wider_scope("orders:read alerts:read", principal, before="alerts:read")


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("name", ""), ("name", " a"), ("name", "a" * 81), ("name", "a\u202eb"), ("name", "a\nb"),
        ("description", "d" * 1_001),
        ("scope", ""), ("scope", "orders:read  alerts:read"), ("scope", 'orders:read"'), ("scope", "ä:read"),
        ("plan", "platinum"),
        ("redirect_uris", ("http://example.org/back",)), ("redirect_uris", ("https://example.org/#f",)),
        ("redirect_uris", ("https://user@example.org/",)), ("redirect_uris", ("javascript:alert(1)",)),
        ("redirect_uris", ("//example.org/",)), ("redirect_uris", ("https://*.example.org/",)),
        ("redirect_uris", ("http://127.0.0.1.example.org/",)), ("redirect_uris", ("https://example.org/a b",)),
        ("redirect_uris", ("https://example.org:port/",)), ("redirect_uris", ("https://example.org/\\@evil",)),
        ("redirect_uris", tuple(f"https://example.org/{n}" for n in range(11))),
    ],
)  # fmt: skip
def test_what_is_no_application_is_refused(member, value):
    whole = Application("app-1", "a", "", "bronze", "*:read", (), "ada", 0)
    check_application(whole, BUILT_IN, ApplicationSettings())
    with pytest.raises(PenstockError) as refused:
        check_application(replace(whole, **{member: value}), BUILT_IN, ApplicationSettings())
    assert refused.value.code == "bad_request"


async def test_bodies_that_are_no_application_leave_nothing(ada):
    for body in (
        {"name": "", "scope": "*:read"},
        {"name": "a"},
        {"name": "a", "scope": "*:read", "owner": "eve"},
        [],
    ):
        status, problem = await ada.call("POST", "/v1/applications", body)
        assert (status, problem["code"]) == (400, "bad_request")
    assert (await ada.call("GET", "/v1/applications"))[1] == {"applications": [], "next": None}


async def test_addresses_to_come_back_to_are_kept_and_let_people_log_in(gateway, ada):
    uris = ["https://example.org/back?x=1", "http://127.0.0.1:8000/cb", "http://[::1]/cb", "http://localhost/cb"]
    added = await ada.add(redirect_uris=uris)
    assert added["application"]["redirect_uris"] == uris

    def find(connection):
        return find_client(connection, added["client_id"])

    client = await gateway.authority.database.run("looking", find)
    assert client.redirect_uris == tuple(uris)
    assert client.grants == {"client_credentials", "authorization_code", "refresh_token"}
    await ada.call("PUT", f"/v1/applications/{added['client_id']}", {"redirect_uris": []})
    assert (await gateway.authority.database.run("looking", find)).grants == {"client_credentials"}


@pytest.mark.parametrize("gateway", [{"applications": {"per_owner_max": 2, "total_max": 3}}], indirect=True)
async def test_applications_are_limited_for_an_owner_and_in_all_and_names_are_taken_once(gateway, http, ada):
    first = await ada.add(name="one")
    status, problem = await ada.call("POST", "/v1/applications", {"name": "one", "scope": "*:read"})
    assert (status, problem["code"]) == (409, "name_taken")
    await ada.add(name="two")
    assert (await ada.call("PUT", f"/v1/applications/{first['client_id']}", {"name": "two"}))[0] == 409
    status, problem = await ada.call("POST", "/v1/applications", {"name": "three", "scope": "*:read"})
    assert (status, "per_owner_max" in problem["detail"]) == (409, True)
    bob = Caller(gateway, http, "bob")
    await bob.add(name="one")
    status, problem = await bob.call("POST", "/v1/applications", {"name": "two", "scope": "*:read"})
    assert (status, "total_max" in problem["detail"]) == (409, True)


@pytest.mark.parametrize("gateway", [{"applications": {"per_owner_max": 3}}], indirect=True)
async def test_what_an_application_registers_counts_for_its_owner(gateway, http, ada):
    child = Caller(gateway, http, "x")
    for name in ("one", "two"):
        child.headers = await bearer(gateway, http, await ada.add(name=name, scope="orders:read applications:write"))
    await child.add(name="three", scope="orders:read")
    for caller in (ada, child):
        status, problem = await caller.call("POST", "/v1/applications", {"name": "four", "scope": "orders:read"})
        assert (status, "per_owner_max" in problem["detail"]) == (409, True)
    await Caller(gateway, http, "bob").add(name="four", scope="orders:read")


async def test_a_new_secret_ends_the_old_one(gateway, http, ada):
    added = await ada.add()
    status, renewed = await ada.call("POST", f"/v1/applications/{added['client_id']}/secret")
    assert status == 200
    assert (await token_of(gateway, http, added["client_id"], added["client_secret"]))[0] == 401
    assert (await token_of(gateway, http, added["client_id"], renewed["client_secret"]))[0] == 200
    assert (await ada.call("PUT", f"/v1/applications/{added['client_id']}", {"name": "renamed"}))[0] == 200
    assert (await token_of(gateway, http, added["client_id"], renewed["client_secret"]))[0] == 200


async def test_who_has_less_than_an_application_does_not_get_its_secret(gateway, http, ada):
    added = await ada.add(scope="orders:read data:read")
    path = f"/v1/applications/{added['client_id']}/secret"
    status, problem = await Caller(gateway, http, "ada", "applications:write orders:read").call("POST", path)
    assert (status, problem["scope"]) == (403, "data:read")
    assert (await token_of(gateway, http, added["client_id"], added["client_secret"]))[0] == 200
    assert (await Caller(gateway, http, "root", "apps:admin").call("POST", path))[0] == 200


async def test_a_deleted_application_loses_its_tokens_and_its_sockets_at_once(gateway, http, ada):
    added = await ada.add()
    headers = await bearer(gateway, http, added)
    async with gateway.subscribe("orders", headers=headers) as ws:
        await receive(ws, 1)
        assert (await ada.call("DELETE", f"/v1/applications/{added['client_id']}"))[0] == 204
        code, reason = await close_of(ws)
        assert (code, reason["code"]) == (4401, "invalid_token")
    with pytest.raises(InvalidStatus) as refused:
        async with gateway.subscribe("orders", headers=headers):
            pass
    assert refused.value.response.status_code == 401
    status, answer = await token_of(gateway, http, added["client_id"], added["client_secret"])
    assert (status >= 400, answer["error"]) == (True, "invalid_client")
    async with http.get(f"{gateway.url}/oauth/revocations") as reply:
        assert [one["jti"] for one in (await reply.json())["revoked"]] == [f"client:{added['client_id']}"]
    assert (await ada.call("GET", f"/v1/applications/{added['client_id']}"))[0] == 404


async def test_owners_choose_among_the_open_plans_and_all_are_listed(ada):
    status, answer = await ada.call("GET", "/v1/plans")
    assert status == 200
    plans = {plan["name"]: plan for plan in answer["plans"]}
    assert list(plans) == ["bronze", "silver", "gold", "unlimited"]
    assert plans["bronze"]["messages_per_day"] == 50_000
    assert plans["unlimited"]["queries_per_s"] is None
    assert [name for name, plan in plans.items() if plan["self_service"]] == ["bronze", "silver", "gold"]
    assert (await ada.add())["application"]["plan"] == "bronze"
    status, problem = await ada.call(
        "POST", "/v1/applications", {"name": "b", "scope": "*:read", "plan": "unlimited"}
    )
    assert (status, problem["code"]) == (403, "insufficient_scope")


OWN = {"plans": {"own": {"tiny": {"messages_per_s": 1, "burst_s": 1}}, "self_service": ["tiny", "gold"]}}


@pytest.mark.parametrize("gateway", [OWN], indirect=True)
async def test_a_larger_plan_counts_at_once_for_what_is_open(gateway, http, ada):
    added = await ada.add(plan="tiny")
    headers = await bearer(gateway, http, added)
    async with one_by_one(gateway) as send, gateway.subscribe("orders", headers=headers) as ws:
        await receive(ws, 1)
        await send(0, 30)
        assert [event["d"]["n"] for event in await events(ws, 2)] == [0, 1]
        assert (await receive(ws, 1))[0]["limit"] == "messages_per_s"
        assert (await ada.call("PUT", f"/v1/applications/{added['client_id']}", {"plan": "gold"}))[0] == 200
        await gateway.pass_time(0.5)  # the debt is paid at the new rate
        assert [event["d"]["n"] for event in await events(ws, 28)] == list(range(2, 30))


async def test_a_body_that_takes_its_time_brings_nothing_back_that_was_taken_away_meanwhile(gateway, http, ada):
    path = f"/v1/applications/{(await ada.add(plan='gold', scope='orders:read data:read'))['client_id']}"
    admin = Caller(gateway, http, "root", "apps:admin *:read data:read")

    async def body() -> AsyncIterator[bytes]:
        yield b'{"name":'
        assert (await admin.call("PUT", path, {"plan": "bronze", "scope": "data:read"}))[0] == 200
        yield b'"renamed"}'

    headers = ada.headers | {"Content-Type": "application/json"}
    async with http.put(f"{gateway.url}{path}", data=body(), headers=headers) as reply:
        assert reply.status == 200
    _, kept = await ada.call("GET", path)
    assert (kept["name"], kept["plan"], kept["scope"]) == ("renamed", "bronze", "data:read")


async def test_a_change_of_what_somebody_else_has_just_changed_is_a_conflict(tmp_path):
    database = open_gateway_database(tmp_path)
    database.create(CLIENTS, DETAILS, REVOKED, *TABLES)
    first = Application("app-1", "a", "", "bronze", "orders:read", (), "ada", 0)
    with database.transaction("testing") as connection:
        insert_application(connection, first, "hash", ApplicationSettings(), RevocationLimits())
        replace_application(connection, replace(first, plan="silver"), before=first)
        with pytest.raises(PenstockError, match="changed by somebody else"):
            replace_application(connection, replace(first, name="b"), before=first)
        assert find_application(connection, "app-1") == replace(first, plan="silver")
    database.close()


async def test_usage_is_counted_by_day_and_shown_to_the_owner(gateway, http, ada):
    added = await ada.add(plan="gold")
    headers = await bearer(gateway, http, added)
    usage = f"/v1/applications/{added['client_id']}/usage"
    async with gateway.subscribe("orders", headers=headers) as ws:
        await receive(ws, 1)
        await gateway.orders(0, 3)
        await events(ws, 3)
    async with http.get(f"{gateway.url}/v1/topics/orders?after=earliest", headers=headers) as page:
        size_bytes = len(await page.read())
    status, answer = await ada.call("GET", f"{usage}?days=2")
    assert status == 200
    yesterday, today = answer["days"]
    assert yesterday == {"day": "2023-11-13", "messages": 0, "bytes": 0, "connections": 0, "queries": 0, "refused": 0}
    assert {**today, "bytes": 0} == {**yesterday, "day": "2023-11-14", "messages": 6, "connections": 1, "queries": 1}
    assert today["bytes"] > size_bytes
    gateway.clock.jump(3 * 3_600)
    ada.headers = Caller(gateway, http, "ada").headers
    assert [one["messages"] for one in (await ada.call("GET", usage))[1]["days"]] == [0, 0, 0, 0, 0, 6, 0]
    for days in ("0", "400", "x", "-1"):
        assert (await ada.call("GET", f"{usage}?days={days}"))[0] == 400


async def test_the_list_is_read_in_pages_and_loses_nothing_to_what_comes_and_goes(gateway, http, ada):
    added = []
    for number in range(5):
        added.append((await ada.add(name=f"app {number}"))["client_id"])
        gateway.clock.jump(1 if number % 2 else 0)  # some in the same millisecond
    await Caller(gateway, http, "bob").add()
    url, seen = f"{gateway.url}/v1/applications?limit=2", []
    while url:
        async with http.get(url, headers=ada.headers) as reply:
            page = await reply.json()
            link = reply.links.get("next")
        assert (link is None) == (page["next"] is None) and len(page["applications"]) <= 2
        seen += [one["id"] for one in page["applications"]]
        if len(seen) == 2:
            await ada.call("DELETE", f"/v1/applications/{seen[1]}")  # the place goes on to count
        url = str(link["url"]) if link else ""
    assert sorted(seen) == sorted(added) and len(page["applications"]) == 1
    for query, code in (("limit=0", "bad_request"), ("limit=1001", "bad_request"), ("limit=x", "bad_request"),
                        ("cursor=!", "bad_cursor"), ("cursor=YQ", "bad_cursor"), ("cursor=MSBhAGI", "bad_cursor"),
                        ("cursor=%00", "bad_cursor")):  # fmt: skip
        status, problem = await ada.call("GET", f"/v1/applications?{query}")
        assert (query, status, problem["code"]) == (query, 400, code)
