"""Tokens that a real Keycloak issued: who may do what with them, and which are refused."""

from __future__ import annotations

import json
import secrets
from collections.abc import Awaitable, Callable

import pytest
from app.test_access_matrix import CLIENTS, EVENT, cells, expected_of
from keycloak.conftest import ASKED, BESIDE, INSTEAD, ROLES, Configured, bearer, running
from keycloak_realm import Realm, claims_of

#: Rights of the matrix that the realm of the guide does not have.
MORE = ("sales:read", "totals:read", "fleet:read", "fleet_log:read", "applications:write")


async def _client(realm: Realm, **changes: object) -> str:
    """A program with all roles, which may ask for every right of the matrix."""
    name = f"client-{secrets.token_hex(4)}"
    await realm.copy_client(name, of="machine", **changes)
    client = await realm.client(name)
    person = await realm.admin("GET", f"/clients/{client['id']}/service-account-user")
    role = await realm.admin("GET", "/roles/stream-admins")
    await realm.admin("POST", f"/users/{person['id']}/role-mappings/realm", [role])
    await realm.add_scopes(*MORE, to=name)
    return name


@pytest.mark.parametrize(
    ("configuration", "attributes", "algorithms"),
    [
        (BESIDE, {}, ("RS256", "JWT")),
        (INSTEAD, {"client.use.lightweight.access.token.enabled": "true"}, ("RS256", "JWT")),
        (INSTEAD, {"access.token.header.type.rfc9068": "true"}, ("RS256", "at+jwt")),
        (INSTEAD, {"access.token.signed.response.alg": "ES256"}, ("ES256", "JWT")),
        (ASKED, {"client.use.lightweight.access.token.enabled": "true"}, ("RS256", "JWT")),
    ],
    ids=["beside the embedded server", "lightweight", "at+jwt", "ES256", "lightweight and asked about"],
)
async def test_every_client_may_do_what_its_token_says_and_nothing_else(
    realm: Realm,
    configured: Configured,
    tmp_path,
    configuration: str,
    attributes: dict[str, str],
    algorithms: tuple[str, str],
):
    name = await _client(realm, attributes=attributes)
    text = configured(configuration).replace('["RS256"]', f'["{algorithms[0]}"]')
    async with running(tmp_path, text) as (url, http):
        for client, scopes in CLIENTS.items():
            token = None if scopes is None else await realm.token(name, scopes)
            if token is not None:
                header, _ = claims_of(token)
                assert (header["alg"], header["typ"]) == algorithms
            assert await cells(http, url, token) == expected_of(scopes), client


async def test_a_person_gets_what_was_asked_for_and_roles_allow_and_no_other_kind_of_token_opens_anything(
    realm: Realm, configured: Configured, tmp_path
):
    everything = "openid *:read data:read data:query ingest:write apps:admin"
    reader, sender = await realm.add_person("stream-readers"), await realm.add_person("stream-senders")
    async with running(tmp_path, configured(BESIDE)) as (url, http):
        tokens = await realm.login(reader, everything)
        assert await cells(http, url, tokens["access_token"]) == expected_of("*:read data:read data:query")
        asked_less = await realm.login(reader, "openid data:read")
        assert await cells(http, url, asked_less["access_token"]) == expected_of("data:read")
        renewed = await realm.refreshed(tokens["refresh_token"])
        assert await cells(http, url, renewed["access_token"]) == expected_of("*:read data:read data:query")
        sends = (await realm.login(sender, everything))["access_token"]
        assert await cells(http, url, sends) == expected_of("ingest:write")
        for kind in ("id_token", "refresh_token"):
            assert set((await cells(http, url, tokens[kind])).values()) == {401}, kind


async def test_an_id_token_opens_nothing_even_where_its_audience_is_the_one_of_the_configuration(
    realm: Realm, configured: Configured, tmp_path
):
    tokens = await realm.login(await realm.add_person("stream-readers"), "openid *:read")
    assert claims_of(tokens["id_token"])[1]["aud"] == "dashboard"
    text = configured(BESIDE) + 'audience = "dashboard"\n'
    async with running(tmp_path, text) as (url, http):
        async with http.get(f"{url}/v1/topics", headers=bearer(tokens["id_token"])) as reply:
            assert (reply.status, "it is no access token" in reply.headers["WWW-Authenticate"]) == (401, True)
        async with http.get(f"{url}/.well-known/oauth-protected-resource") as reply:
            assert (await reply.json())["authorization_servers"] == [url, realm.issuer]


async def test_roles_are_rights_where_the_configuration_says_which(realm: Realm, configured: Configured, tmp_path):
    reader, admin = (
        await realm.add_person("stream-readers"),
        await realm.add_person("stream-admins", "stream-senders"),
    )
    async with running(tmp_path, configured(ROLES)) as (url, http):
        for person, rights in ((reader, "*:read data:read data:query"), (admin, "apps:admin ingest:write")):
            token = (await realm.login(person, "openid"))["access_token"]
            assert await cells(http, url, token) == expected_of(rights)
        machine = await realm.token("machine")
        assert await cells(http, url, machine) == expected_of("*:read data:read data:query ingest:write")


Wrong = Callable[[Realm], Awaitable[str]]


async def _without_audience(realm: Realm) -> str:
    name = await _client(realm, defaultClientScopes=["basic", "roles"])
    return await realm.token(name, "*:read")


async def _for_others(realm: Realm) -> str:
    name = await _client(realm, defaultClientScopes=["basic", "roles"])
    client = await realm.client(name)
    mapper = {
        "name": "audience",
        "protocol": "openid-connect",
        "protocolMapper": "oidc-audience-mapper",
        "config": {"included.custom.audience": "billing", "access.token.claim": "true"},
    }
    await realm.admin("POST", f"/clients/{client['id']}/protocol-mappers/models", mapper)
    return await realm.token(name, "*:read")


async def _of_another_algorithm(realm: Realm) -> str:
    name = await _client(realm, attributes={"access.token.signed.response.alg": "RS512"})
    return await realm.token(name, "*:read")


async def _changed(realm: Realm) -> str:
    head, claims, signature = (await realm.token("machine", "*:read")).split(".")
    middle = len(signature) // 2
    other = "A" if signature[middle] != "A" else "B"
    return f"{head}.{claims}.{signature[:middle]}{other}{signature[middle + 1 :]}"


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (_without_audience, "'aud' is no text"),
        (_for_others, "not for the audience 'penstock'"),
        (_of_another_algorithm, "its 'alg' is not allowed"),
        (_changed, "its signature is wrong"),
    ],
)
async def test_a_token_that_is_wrong_in_one_way_is_refused_and_the_reply_says_why(
    realm: Realm, configured: Configured, tmp_path, wrong: Wrong, reason: str
):
    token = await wrong(realm)
    async with running(tmp_path, configured(BESIDE)) as (url, http):
        assert set((await cells(http, url, token)).values()) == {401}
        async with http.get(f"{url}/v1/topics", headers=bearer(token)) as reply:
            assert reason in reply.headers["WWW-Authenticate"]


async def test_a_token_of_another_realm_of_the_same_server_is_refused(realm: Realm, configured: Configured, tmp_path):
    async with running(tmp_path, configured(BESIDE)) as (url, http):
        await realm.admin("GET", "/roles")  # with a token of the realm `master`
        async with http.get(f"{url}/v1/topics", headers=bearer(realm.administrators_token)) as reply:
            assert reply.status == 401
            assert "its issuer is not trusted here" in reply.headers["WWW-Authenticate"]


async def test_metadata_lead_to_the_realm_and_from_there_to_its_keys(realm: Realm, configured: Configured, tmp_path):
    async with running(tmp_path, configured(INSTEAD)) as (url, http):
        for path in ("", "/v1/topics/sales"):
            async with http.get(f"{url}/.well-known/oauth-protected-resource{path}") as reply:
                document = await reply.json()
            assert document["authorization_servers"] == [realm.issuer]
            assert document["resource"] == url + path
        async with http.get(f"{url}/.well-known/oauth-authorization-server") as reply:
            assert reply.status == 404, "this Penstock is none"
        # Both documents of the issuer that clients and Penstock look for are there, and say the same.
        at, realm_path = realm.issuer.split("/realms/")
        for where in (f"{realm.issuer}/.well-known/openid-configuration",
                      f"{at}/.well-known/oauth-authorization-server/realms/{realm_path}"):  # fmt: skip
            async with http.get(where) as reply:
                assert (await reply.json())["issuer"] == realm.issuer
        async with http.get(f"{url}/readyz") as reply:
            assert f"keys of {realm.issuer}" in await reply.text()


async def test_the_portal_with_keycloak_alone_leads_there_and_registers_nothing(
    realm: Realm, configured: Configured, tmp_path
):
    async with running(tmp_path, configured(INSTEAD)) as (url, http):
        async with http.get(f"{url}/openapi.json") as reply:
            scheme = (await reply.json())["components"]["securitySchemes"]["oauth2"]
        assert scheme["openIdConnectUrl"] == f"{realm.issuer}/.well-known/openid-configuration"
        for path in ("/docs", "/docs/applications", "/docs/reference"):
            async with http.get(url + path) as reply:
                page = await reply.text()
                assert reply.status == 200, page
            assert realm.issuer in page, path
            assert "/oauth/token" not in page, path
        token = await realm.token(await _client(realm), "applications:write sales:read")
        body = {"name": "shop", "scope": "sales:read"}
        async with http.post(f"{url}/v1/applications", json=body, headers=bearer(token)) as reply:
            assert reply.status == 409
            assert "register the client there" in (await reply.json())["detail"]


async def test_a_client_of_the_realm_has_the_plan_that_the_configuration_names(
    realm: Realm, configured: Configured, tmp_path
):
    text = configured(BESIDE) + '\n[publish.plans.clients]\n"plant:machine" = "bronze"\n'
    async with running(tmp_path, text) as (url, http):
        token = await realm.token("machine", "*:read data:read ingest:write")
        headers = bearer(token)
        async with http.post(f"{url}/v1/streams/orders/events", json=json.loads(EVENT), headers=headers) as reply:
            assert reply.status == 200, await reply.text()
            assert json.loads(await reply.text())["accepted"] == 1
        async with http.get(f"{url}/v1/data/sales", headers=headers) as reply:
            assert (reply.status, "RateLimit" in reply.headers) == (200, True)
        other = await realm.token(await _client(realm), "data:read")
        async with http.get(f"{url}/v1/data/sales", headers=bearer(other)) as reply:
            assert (reply.status, "RateLimit" in reply.headers) == (200, False)
