"""A person with a browser and applications around the embedded authorization server, over real HTTP."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from html import unescape
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit

import aiohttp
from aiohttp import encode_basic_auth, web
from publish.conftest import loopback_socket, serving, url_of
from yarl import URL

from penstock.http.problem import guarded
from penstock.ports.clock import Clock
from penstock_publish.authority import Authority, open_authority
from penstock_publish.oauth.clients import Client, hashed_secret
from penstock_publish.page import page_routes
from penstock_publish.settings import AuthSettings

VERIFIER = "a-verifier-of-more-than-forty-three-characters-0123456789"
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).decode().rstrip("=")
BACK = "https://portal.example/back?from=penstock"
PERSONS = frozenset({"authorization_code", "refresh_token"})
PORTAL = Client(
    "portal",
    hashed_secret("s3"),
    "orders:read data:read",
    name="The <b>portal</b>",
    redirect_uris=(BACK,),
    grants=PERSONS,
)
TERMINAL = Client(
    "terminal", "", "orders:read", redirect_uris=("http://127.0.0.1/back", "http://localhost:7000/back"),
    grants=PERSONS, public=True,
)  # fmt: skip
MACHINE = Client("machine", hashed_secret("m3"), "orders:read")
_HIDDEN = re.compile(r'<input type="hidden" name="(\w+)" value="([^"]*)">')


@dataclass
class Reply:
    """What the browser or an application got; `back` are the parameters of the address that it is sent to."""

    status: int
    text: str
    headers: aiohttp.typedefs.LooseHeaders
    body: dict[str, object] = field(default_factory=dict)

    @property
    def location(self) -> str:
        return self.headers["Location"]

    @property
    def back(self) -> dict[str, str]:
        return dict(parse_qsl(urlsplit(self.location).query))

    @property
    def hidden(self) -> dict[str, str]:
        return {name: unescape(value) for name, value in _HIDDEN.findall(self.text)}


class Browser:
    """A person's browser with its cookies, and the applications' calls of the token endpoint."""

    def __init__(self, authority: Authority, http: aiohttp.ClientSession, database_url: str | None) -> None:
        self.database_url = database_url
        self.authority, self.http, self.url = authority, http, authority.public_url

    def request(self, client: Client = PORTAL, **changes: str | None) -> str:
        """The query of an authorization request; None takes a parameter away."""
        query: dict[str, str | None] = {
            "response_type": "code", "client_id": client.client_id, "redirect_uri": client.redirect_uris[0],
            "scope": "orders:read", "state": "st/1 2", "code_challenge": CHALLENGE, "code_challenge_method": "S256",
        }  # fmt: skip
        return urlencode({name: value for name, value in {**query, **changes}.items() if value is not None})

    async def get(self, path: str, **headers: str) -> Reply:
        url = URL(f"{self.url}{path}", encoded=True)
        async with self.http.get(url, headers=headers, allow_redirects=False) as reply:
            return Reply(reply.status, await reply.text(), reply.headers)

    async def ask(self, client: Client = PORTAL, **changes: str | None) -> Reply:
        """Follow the application's link."""
        return await self.get(f"/oauth/authorize?{self.request(client, **changes)}")

    async def submit(self, path: str, fields: dict[str, str], **headers: str) -> Reply:
        """Send a form as a browser does."""
        sent = {"Origin": self.url, "Sec-Fetch-Site": "same-origin", **headers}
        async with self.http.post(f"{self.url}{path}", data=fields, headers=sent, allow_redirects=False) as reply:
            return Reply(reply.status, await reply.text(), reply.headers)

    async def allow(self, client: Client = PORTAL, decision: str = "allow", **changes: str | None) -> Reply:
        """Follow the link and press a button."""
        page = await self.ask(client, **changes)
        assert page.status == 200, page.text
        return await self.submit("/oauth/authorize", {**page.hidden, "decision": decision})

    async def code(self, client: Client = PORTAL, **changes: str | None) -> str:
        """A code, by the whole way."""
        return (await self.allow(client, **changes)).back["code"]

    async def call(self, path: str, client: Client, **form: str | None) -> Reply:
        """The application calls an endpoint, with its secret if it has one."""
        secrets = {"portal": "s3", "machine": "m3"}
        fields = {name: value for name, value in form.items() if value is not None}
        headers = {}
        if client.public:
            fields.setdefault("client_id", client.client_id)
        else:
            headers["Authorization"] = encode_basic_auth(client.client_id, secrets[client.client_id])
        async with self.http.post(f"{self.url}{path}", data=fields, headers=headers) as reply:
            return Reply(reply.status, "", reply.headers, await reply.json())

    async def trade(self, code: str | None, client: Client = PORTAL, **changes: str | None) -> Reply:
        """A code for tokens."""
        form: dict[str, str | None] = {
            "grant_type": "authorization_code", "code": code, "redirect_uri": next(iter(client.redirect_uris), None),
            "code_verifier": VERIFIER,
        }  # fmt: skip
        return await self.call("/oauth/token", client, **{**form, **changes})

    async def refresh(self, token: object, client: Client = PORTAL, **form: str) -> Reply:
        """A refresh token for tokens."""
        return await self.call("/oauth/token", client, grant_type="refresh_token", refresh_token=str(token), **form)

    async def tokens(self, client: Client = PORTAL, **changes: str | None) -> dict[str, object]:
        """Access and refresh token, by the whole way."""
        redirect_uri = changes.get("redirect_uri", client.redirect_uris[0])
        reply = await self.trade(await self.code(client, **changes), client, redirect_uri=redirect_uri)
        assert reply.status == 200, reply.body
        return reply.body

    async def log_in(self, account: str, password: str, **asked: str | None) -> Reply:
        """Fill in the login page that an application's link leads to."""
        page = await self.ask(PORTAL, **asked)
        assert 'name="password"' in page.text, page.text
        return await self.submit("/oauth/login", {**page.hidden, "account": account, "password": password})

    async def submit_login(self, password: str) -> Reply:
        """Try a password at the login page alone, without a session."""
        self.http.cookie_jar.clear()
        page = await self.get("/oauth/login")
        return await self.submit("/oauth/login", {**page.hidden, "account": "ann@example.org", "password": password})

    async def learn_revocations(self) -> None:
        """What the authority does every now and then."""
        assert self.authority.embedded is not None
        self.authority._learn(await self.authority.embedded.revoked_elsewhere())

    async def use(self, token: object) -> int:
        """The status that a resource answers to a token."""
        headers = {"Authorization": f"Bearer {token}"}
        async with self.http.get(f"{self.url}/check", headers=headers) as reply:
            return reply.status


@asynccontextmanager
async def browsing(
    folder: Path, clock: Clock, *, database_url: str | None = None, **settings: object
) -> AsyncIterator[Browser]:
    """An authority with three clients and a resource that needs orders:read, on a free loopback port."""
    sock = loopback_socket()
    authority = await open_authority(
        folder,
        AuthSettings.model_validate(settings),
        clock=clock,
        public_url=url_of(sock),
        database_url=database_url,
    )
    assert authority.embedded is not None
    for client in (PORTAL, TERMINAL, MACHINE):
        await authority.embedded.put_client(client)

    async def resource(request: web.Request) -> web.Response:
        principal = await authority.access.require(request, "orders:read")
        return web.json_response({"subject": principal.subject})

    async with (
        aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as http,
        serving(sock, [*authority.routes(), *page_routes(authority), web.get("/check", guarded(resource))]),
    ):
        yield Browser(authority, http, database_url)
    await authority.close()
