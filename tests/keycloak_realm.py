"""What applications and administrators do with a real Keycloak's realm: clients, people, logins, tokens, keys."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import secrets
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

import aiohttp
from keycloak_server import ADMIN, KeycloakServer
from yarl import URL

__all__ = ["Person", "Realm", "claims_of", "open_realm"]

_BACK = "http://127.0.0.1:9000/back"
_ADMIN_TOKEN_S = 30.0  # it holds a minute


@dataclass(frozen=True)
class Person:
    """Somebody with an account."""

    name: str
    password: str


class Realm:
    """The realm `plant` of one server."""

    def __init__(self, server: KeycloakServer, http: aiohttp.ClientSession) -> None:
        self.issuer = server.issuer
        self._http, self._base = http, server.url
        self._admin: tuple[str, float] = ("", 0.0)

    @property
    def administrators_token(self) -> str:
        """The token of the admin API's last call: of the realm `master`."""
        return self._admin[0]

    async def admin(self, method: str, path: str, body: object = None) -> Any:
        """A call of the admin API below the realm; the JSON of the reply, if it has one."""
        if time.monotonic() - self._admin[1] > _ADMIN_TOKEN_S:
            form = {"grant_type": "password", "client_id": "admin-cli", "username": ADMIN[0], "password": ADMIN[1]}
            url = f"{self._base}/realms/master/protocol/openid-connect/token"
            async with self._http.post(url, data=form) as reply:
                assert reply.status == 200, await reply.text()
                self._admin = (await reply.json())["access_token"], time.monotonic()
        url = f"{self._base}/admin/realms/plant{path}"
        headers = {"Authorization": f"Bearer {self._admin[0]}"}
        async with self._http.request(method, url, json=body, headers=headers) as reply:
            text = await reply.text()
            assert reply.status < 300, f"{method} {path}: {reply.status} {text}"
            return json.loads(text) if text else None

    async def client(self, client_id: str) -> dict[str, Any]:
        """A client as the administrator sees it, with its secret."""
        [found] = await self.admin("GET", f"/clients?clientId={client_id}")
        return dict(found)

    async def copy_client(self, client_id: str, *, of: str, **changes: object) -> None:
        """A client like another one, with the same roles, changed."""
        kept = await self.client(of)
        original, attributes = kept["id"], {**kept["attributes"], **_mapping(changes.pop("attributes", {}))}
        for name in ("id", "secret", "protocolMappers"):
            kept.pop(name, None)
        await self.admin("POST", "/clients", {**kept, "clientId": client_id, "attributes": attributes, **changes})
        if kept["serviceAccountsEnabled"]:
            theirs = await self.admin("GET", f"/clients/{original}/service-account-user")
            own = await self.admin("GET", f"/clients/{(await self.client(client_id))['id']}/service-account-user")
            roles = await self.admin("GET", f"/users/{theirs['id']}/role-mappings/realm")
            await self.admin("POST", f"/users/{own['id']}/role-mappings/realm", roles)

    async def add_scopes(self, *names: str, to: str) -> None:
        """Client scopes of these names without roles, which `to` may ask for."""
        client = await self.client(to)
        known = {scope["name"]: scope["id"] for scope in await self.admin("GET", "/client-scopes")}
        for name in names:
            if name not in known:
                attributes = {"include.in.token.scope": "true"}
                made = {"name": name, "protocol": "openid-connect", "attributes": attributes}
                await self.admin("POST", "/client-scopes", made)
        known = {scope["name"]: scope["id"] for scope in await self.admin("GET", "/client-scopes")}
        for name in names:
            await self.admin("PUT", f"/clients/{client['id']}/optional-client-scopes/{known[name]}")

    async def add_person(self, *roles: str) -> Person:
        """Somebody new with these roles of the realm."""
        person = Person(f"person-{secrets.token_hex(4)}", secrets.token_urlsafe(12))
        account = {
            "username": person.name,
            "email": f"{person.name}@plant.example",
            "firstName": "Somebody",
            "lastName": "New",
            "enabled": True,
            "credentials": [{"type": "password", "value": person.password, "temporary": False}],
        }
        await self.admin("POST", "/users", account)
        [found] = await self.admin("GET", f"/users?exact=true&username={person.name}")
        named = [await self.admin("GET", f"/roles/{role}") for role in roles]
        await self.admin("POST", f"/users/{found['id']}/role-mappings/realm", named)
        return person

    async def log_out(self, person: Person) -> None:
        """End all sessions of a person, as an administrator does."""
        [found] = await self.admin("GET", f"/users?exact=true&username={person.name}")
        await self.admin("POST", f"/users/{found['id']}/logout")

    async def token(self, client_id: str, scope: str | None = None) -> str:
        """An access token by client credentials."""
        form = {"grant_type": "client_credentials"} | ({} if scope is None else {"scope": scope})
        return str((await self._tokens(form, client_id))["access_token"])

    async def revoke(self, client_id: str, token: str) -> None:
        """RFC 7009, by the client that the token was given to."""
        await self._form("revoke", {"token": token}, client_id)

    async def login(self, person: Person, scope: str, *, client_id: str = "dashboard") -> dict[str, Any]:
        """Tokens by authorization code with PKCE: the login page is filled in and sent, as a browser does it."""
        verifier, state = secrets.token_urlsafe(48), secrets.token_urlsafe(8)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        asked = {
            "response_type": "code",
            "client_id": client_id,
            "redirect_uri": _BACK,
            "scope": scope,
            "state": state,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        # As browsers do on loopback: cookies for an address without a name, and `Secure` ones over plain HTTP.
        jar = aiohttp.CookieJar(unsafe=True, treat_as_secure_origin=URL(self._base))
        async with aiohttp.ClientSession(cookie_jar=jar) as browser:
            async with browser.get(f"{self.issuer}/protocol/openid-connect/auth", params=asked) as reply:
                page = await reply.text()
                assert reply.status == 200, page
            found = re.search(r'<form[^>]*id="kc-form-login"[^>]*action="([^"]+)"', page)
            assert found is not None, page
            form = {"username": person.name, "password": person.password, "credentialId": ""}
            async with browser.post(html.unescape(found[1]), data=form, allow_redirects=False) as reply:
                assert reply.status == 302, await reply.text()
                at = urlsplit(reply.headers["Location"])
        answer = parse_qs(at.query)
        assert (answer["state"], answer["iss"]) == ([state], [self.issuer])
        traded = {"grant_type": "authorization_code", "code": answer["code"][0], "redirect_uri": _BACK}
        return await self._tokens({**traded, "code_verifier": verifier}, client_id)

    async def refreshed(self, refresh_token: str, *, client_id: str = "dashboard") -> dict[str, Any]:
        """New tokens by a refresh token."""
        return await self._tokens({"grant_type": "refresh_token", "refresh_token": refresh_token}, client_id)

    async def new_key(self, algorithm: str = "RS256") -> None:
        """A key that signs from now on; the older ones verify still."""
        config = {"priority": [str(1_000 + int(time.monotonic()))], "algorithm": [algorithm], "keySize": ["2048"]}
        made = {
            "name": f"rsa-{secrets.token_hex(4)}",
            "providerId": "rsa-generated",
            "providerType": "org.keycloak.keys.KeyProvider",
            "config": config,
        }
        await self.admin("POST", "/components", made)

    async def drop_key(self, kid: str) -> None:
        """Take a key out of the key set, as after its secret became known."""
        keys = (await self.admin("GET", "/keys"))["keys"]
        [provider] = [key["providerId"] for key in keys if key["kid"] == kid]
        await self.admin("DELETE", f"/components/{provider}")

    async def _tokens(self, form: Mapping[str, str], client_id: str) -> dict[str, Any]:
        return dict(json.loads(await self._form("token", form, client_id)))

    async def _form(self, endpoint: str, form: Mapping[str, str], client_id: str) -> str:
        client = await self.client(client_id)
        own = {"client_id": client_id} | ({} if client["publicClient"] else {"client_secret": client["secret"]})
        async with self._http.post(
            f"{self.issuer}/protocol/openid-connect/{endpoint}", data={**form, **own}
        ) as reply:
            text = await reply.text()
            assert reply.status == 200, text
            return text


@asynccontextmanager
async def open_realm(server: KeycloakServer) -> AsyncIterator[Realm]:
    """The realm, and a session to ask it with."""
    async with aiohttp.ClientSession() as http:
        yield Realm(server, http)


def claims_of(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and claims of a JWT, unverified."""
    header, claims, _ = token.split(".")
    parts = [json.loads(base64.urlsafe_b64decode(part + "==")) for part in (header, claims)]
    return parts[0], parts[1]


def _mapping(value: object) -> Mapping[str, str]:
    assert isinstance(value, Mapping)
    return value
