"""Who may do what: every client, with tokens of every kind of issuer, on every topic with every action. Each cell."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from token_issuer import IssuerServer, TokenMaker

from penstock.http.listener import HttpSettings, Listener
from penstock.ports.clock import SystemClock
from penstock_app.appfiles import AppFile
from penstock_app.launch import Launch, serve
from penstock_app.settings import load_settings
from penstock_publish.authority import open_authority
from penstock_publish.settings import AuthSettings

APP = """
SET 'table.exec.state.ttl' = '1 h';
CREATE TABLE orders (id STRING, n BIGINT, region STRING, ts TIMESTAMP(3), WATERMARK FOR ts AS ts)
  WITH ('connector' = 'penstock', 'key' = 'id');
CREATE TABLE sales WITH ('connector' = 'penstock') AS SELECT id, n, region, ts FROM orders;
CREATE TABLE fleet_log WITH ('connector' = 'penstock', 'scope' = 'fleet:read')
  AS SELECT id, n, region, ts FROM orders;
CREATE TABLE hidden WITH ('connector' = 'penstock', 'publish' = 'false') AS SELECT id, n, region, ts FROM orders;
CREATE TABLE totals (region STRING, n BIGINT, PRIMARY KEY (region) NOT ENFORCED) WITH ('connector' = 'penstock');
INSERT INTO totals SELECT region, SUM(n) FROM orders GROUP BY region;
"""
SCOPE_OF = {"sales": "sales:read", "totals": "totals:read", "fleet_log": "fleet:read"}
TRANSPORTS = ("websocket", "events", "page", "ticket")

#: Client -> its scopes; None: it brings no token.
CLIENTS: dict[str, str | None] = {
    "nobody": None,
    "no scope that helps": "applications:write",
    "reader of one stream": "sales:read",
    "reader of one table": "totals:read",
    "reader by a topic's own scope": "fleet:read",
    "reader by the name of such a topic": "fleet_log:read",
    "reader of all topics": "*:read",
    "analyst": "data:read",
    "asker of SQL": "data:query",
    "sender": "ingest:write",
    "operator": "apps:admin",
    "reader and sender": "sales:read ingest:write",
}


def _grants(*entries: dict[str, object]) -> list[dict[str, object]]:
    return [{"type": "penstock", "actions": ["read"], **entry} for entry in entries]


#: Client -> its scopes, its authorization_details, and what it may do: topics, then other cells.
DETAILED: dict[str, tuple[str, list[dict[str, object]], set[str], set[str]]] = {
    "some rows of one stream": ("", _grants({"topics": ["sales"], "filter": "region = 'EU'"}), {"sales"}, set()),
    "some rows, and the data": (
        "data:read",
        _grants({"topics": ["sales"], "filter": "region = 'EU'"}),
        {"sales"},
        {"data totals", "data hidden", "data raw.orders", "summary totals", "list"},
    ),
    "some rows, all of them by scope, and the data": (
        "data:read sales:read",
        _grants({"topics": ["sales"], "filter": "region = 'EU'"}),
        {"sales"},
        {"data sales", "data totals", "data hidden", "data raw.orders", "summary sales", "summary totals", "list"},
    ),
    "topics by pattern": ("", _grants({"topics": ["*a*s"]}), {"sales", "totals"}, set()),
    "every topic by pattern": ("", _grants({"topics": ["*"]}), {"sales", "totals", "fleet_log"}, set()),
    "a topic by its scope's name": ("", _grants({"topics": ["fleet"]}), {"fleet_log"}, set()),
    "writer of one stream": ("", _grants({"actions": ["write"], "topics": ["orders"]}), set(), {"ingest"}),
    "writer of another stream": ("", _grants({"actions": ["write"], "topics": ["returns"]}), set(), set()),
    "writer with a filter": (
        "",
        _grants({"actions": ["write"], "topics": ["orders"], "filter": "n = 1"}),
        set(),
        set(),
    ),
}


def expected_of(scopes: str | None) -> dict[str, int]:
    """What the cells of a client with these scopes must be."""
    held = set((scopes or "").split())
    topics = {topic for topic, scope in SCOPE_OF.items() if scope in held or "*:read" in held}
    others = set()
    if "data:read" in held:
        others |= {"data sales", "data totals", "data hidden", "data raw.orders"}
        others |= {"summary sales", "summary totals", "list"}
    if "ingest:write" in held:
        others |= {"ingest"}
    if "apps:admin" in held:
        others |= {"app", "deploy"}
    return cells_of(topics, others, known=scopes is not None)


def cells_of(topics: set[str], others: set[str], *, known: bool = True) -> dict[str, int]:
    cells = {}
    for topic in (*SCOPE_OF, "hidden"):
        for transport in TRANSPORTS:
            good = 101 if transport == "websocket" else 200
            cells[f"{transport} {topic}"] = good if topic in topics else 404 if topic == "hidden" else 403
    for name in OTHERS:
        cells[name] = OTHERS[name].good if name in others else 403
    return cells if known else dict.fromkeys(cells, 401)


@dataclass(frozen=True)
class Call:
    """A request that is no topic's; `good`: the status where it is allowed."""

    method: str
    path: str
    body: str | None = None
    good: int = 200


EVENT = json.dumps({"id": "x", "n": 1, "region": "EU", "ts": "2026-01-05T09:00:00"})
OTHERS = {
    "list": Call("GET", "/v1/data"),
    "data sales": Call("GET", "/v1/data/sales"),
    "data totals": Call("GET", "/v1/data/totals"),
    "data hidden": Call("GET", "/v1/data/hidden"),
    "data raw.orders": Call("GET", "/v1/data/raw.orders"),
    "summary sales": Call("GET", "/v1/summaries/sales?time=ts&bucket=1h&agg=count(*)"),
    "summary totals": Call("GET", "/v1/summaries/totals?agg=count(*)", good=400),  # it has no time
    "ingest": Call("POST", "/v1/streams/orders/events", EVENT),
    "app": Call("GET", "/v1/apps/shop"),
    "deploy": Call("POST", "/v1/apps/shop/validate", "SELECT 1"),
}


async def cells(http: aiohttp.ClientSession, url: str, token: str | None) -> dict[str, int]:
    """The status of every cell."""
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    found: dict[str, int] = {}
    for topic in (*SCOPE_OF, "hidden"):
        at = f"{url}/v1/topics/{topic}"
        found[f"websocket {topic}"] = await upgraded(http, at, headers)
        async with http.get(at, headers={**headers, "Accept": "text/event-stream"}) as reply:
            found[f"events {topic}"] = reply.status
        async with http.get(at, headers=headers) as reply:
            found[f"page {topic}"] = reply.status
        async with http.post(f"{url}/v1/tickets", json={"topic": topic}, headers=headers) as reply:
            found[f"ticket {topic}"] = reply.status
    for name, call in OTHERS.items():
        sent = {**headers, "Content-Type": "application/sql" if name == "deploy" else "application/json"}
        async with http.request(call.method, url + call.path, data=call.body, headers=sent) as reply:
            found[name] = reply.status
            if reply.status == 401:
                assert "resource_metadata=" in reply.headers["WWW-Authenticate"], name
    return found


async def upgraded(http: aiohttp.ClientSession, url: str, headers: Mapping[str, str]) -> int:
    try:
        async with http.ws_connect(url, headers=headers) as socket:
            await socket.receive(timeout=5)
    except aiohttp.WSServerHandshakeError as refusal:
        return refusal.status
    return 101


async def token_from(http: aiohttp.ClientSession, credentials: Path, scope: str) -> str:
    """A token by client credentials."""
    client = json.loads(await asyncio.to_thread(credentials.read_text))
    form = {"grant_type": "client_credentials", "scope": scope}
    auth = {"Authorization": aiohttp.encode_basic_auth(client["client_id"], client["client_secret"])}
    async with http.post(client["token_url"], data=form, headers=auth) as reply:
        assert reply.status == 200, await reply.text()
        return str((await reply.json())["access_token"])


Issue = Callable[[str], Awaitable[str]]


@asynccontextmanager
async def everything(folder: Path) -> AsyncIterator[tuple[str, aiohttp.ClientSession, dict[str, Issue], TokenMaker]]:
    """A whole Penstock with the app; as issuers a second one, and one that signs with RS256 and can be asked."""
    clock, stop, at = SystemClock(), asyncio.Event(), asyncio.get_running_loop().create_future()
    other = Listener(HttpSettings(port=0, drain_s=0.2))
    authority = await open_authority(folder, AuthSettings(), clock=clock, public_url=other.url)
    await other.serve(authority.routes())
    third = Listener(HttpSettings(port=0, drain_s=0.2))
    maker = TokenMaker(third.url, clock, algorithm="RS256")
    server = IssuerServer(maker)
    await third.serve(server.routes())
    secret = folder / "secret"
    secret.write_text("s3cret\n")
    issuers = [
        {"issuer": other.url, "name": "other"},
        {
            "issuer": third.url,
            "algorithms": ["RS256"],
            "jwks_url": f"{third.url}/keys",
            "introspection": {"client_id": "penstock", "client_secret_file": str(secret)},
        },
    ]
    flags = {"data": folder / "data", "http": {"port": 0, "drain_s": 0.5}, "auth": {"issuers": issuers}}
    (folder / "shop.sql").write_text(APP)
    launch = Launch(load_settings(None, flags), clock, [AppFile("shop", folder / "shop.sql")])

    async def ready(url: str) -> None:
        at.set_result(url)

    running = asyncio.create_task(serve(launch, on_ready=ready, stop=stop))
    try:
        url = await asyncio.wait_for(at, 60)
        async with aiohttp.ClientSession() as http:

            async def opaque(scope: str) -> str:
                token = f"opaque-{len(server.active)}"
                server.active[token] = {**maker.claims(scope=scope), "jti": token}
                return token

            async def signed(scope: str) -> str:
                return maker.token(scope=scope)

            issue: dict[str, Issue] = {
                "embedded": lambda scope: token_from(http, folder / "data" / "client.json", scope),
                "another Penstock": lambda scope: token_from(http, folder / "client.json", scope),
                "RS256": signed,
                "opaque": opaque,
            }
            yield url, http, issue, maker
    finally:
        stop.set()
        await asyncio.wait_for(running, 30)
        await other.close()
        await third.close()
        await authority.close()


async def _first_event(http: aiohttp.ClientSession, url: str, token: str) -> None:
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    async with http.post(f"{url}/v1/streams/orders/events", data=EVENT, headers=headers) as reply:
        assert reply.status == 200
    for relation in ("sales", "totals", "hidden"):  # until they are in the store
        for _ in range(500):
            async with http.get(f"{url}/v1/data/{relation}", headers=headers) as reply:
                if reply.status == 200 and (await reply.json())["rows"]:
                    break
            await asyncio.sleep(0.02)


async def test_every_client_may_do_what_its_token_says_and_nothing_else(tmp_path):
    async with everything(tmp_path) as (url, http, issue, maker):
        await _first_event(http, url, await issue["embedded"]("data:read ingest:write"))
        count = 0
        for kind, get in issue.items():
            for client, scopes in CLIENTS.items():
                found = await cells(http, url, None if scopes is None else await get(scopes))
                assert found == expected_of(scopes), (kind, client)
                count += len(found)
        for client, (scopes, details, topics, others) in DETAILED.items():
            found = await cells(http, url, maker.token(scope=scopes, authorization_details=details))
            assert found == cells_of(topics, others), client
            count += len(found)
        assert count == (len(issue) * len(CLIENTS) + len(DETAILED)) * (16 + len(OTHERS)) > 1_400


async def test_a_token_that_is_wrong_in_one_way_opens_no_cell_and_is_not_logged(tmp_path, capfd):
    async with everything(tmp_path) as (url, http, _, maker):
        stranger, confused = (TokenMaker(maker.issuer, maker.clock, algorithm=name) for name in ("RS256", "ES256"))
        wrong = {
            "key": stranger.token(scope="*:read"),
            "issuer": maker.token(scope="*:read", iss="https://evil.example"),
            "audience": maker.token(scope="*:read", aud="billing"),
            "expired": maker.token(scope="*:read", exp=maker.clock.now_ms() // 1000 - 60),
            "algorithm": confused.token(scope="*:read"),
            "unknown to who is asked": "opaque-canary-5f3a",
        }
        for name, token in wrong.items():
            assert set((await cells(http, url, token)).values()) == {401}, name
    logged = "".join(capfd.readouterr())
    assert "roles_opened" in logged
    assert not [name for name, token in wrong.items() if token.rpartition(".")[2] in logged]
