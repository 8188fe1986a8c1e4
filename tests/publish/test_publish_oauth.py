"""OAuth2 over real sockets: grants, revocation, metadata, the development client, challenges."""

import json
import stat

import aiohttp
import pytest
from aiohttp import encode_basic_auth, web
from joserfc import jwt
from joserfc.jwk import KeySet
from publish.conftest import a_token, loopback_socket, serving, url_of

from penstock.errors import PenstockError
from penstock.http.problem import guarded
from penstock.http.resource_metadata import metadata_url
from penstock_publish.authority import ensure_development_client, open_authority
from penstock_publish.oauth.clients import DEVELOPMENT_SCOPE
from penstock_publish.settings import AuthSettings


@pytest.fixture
async def authority(tmp_path, clock):
    sock = loopback_socket()
    url = url_of(sock)

    opened = await open_authority(tmp_path, AuthSettings(), clock=clock, public_url=url)

    async def guarded_resource(request: web.Request) -> web.Response:
        principal = await opened.access.require(request, request.match_info["scope"])
        return web.json_response({"client_id": principal.client_id})

    routes = [*opened.routes(), web.route("*", "/check/{scope}", guarded(guarded_resource))]
    async with serving(sock, routes):
        yield opened
    await opened.close()


@pytest.fixture
def credentials(authority, tmp_path) -> dict[str, str]:
    return json.loads((tmp_path / "client.json").read_text())


async def grant(http: aiohttp.ClientSession, credentials: dict[str, str], **form: str):
    auth = {"Authorization": encode_basic_auth(credentials["client_id"], credentials["client_secret"])}
    data = {"grant_type": "client_credentials", **form}
    async with http.post(credentials["token_url"], data=data, headers=auth) as reply:
        return reply.status, await reply.json(), reply.headers


async def test_the_development_client_gets_a_token_of_one_hour(http, authority, credentials, clock):
    status, body, headers = await grant(http, credentials)
    assert status == 200
    assert headers["Cache-Control"] == "no-store"
    assert {**body, "access_token": ""} == {
        "access_token": "", "token_type": "Bearer", "expires_in": 3600, "scope": DEVELOPMENT_SCOPE,
    }  # fmt: skip
    async with http.get(f"{authority.public_url}/oauth/jwks.json") as reply:
        jwks = await reply.json()
    assert all("d" not in key for key in jwks["keys"])
    token = jwt.decode(body["access_token"], KeySet.import_key_set(jwks), algorithms=["ES256"])
    now_s = clock.now_ms() // 1000
    assert token.header["typ"] == "at+jwt"
    assert {**token.claims, "jti": ""} == {
        "iss": authority.public_url, "aud": "penstock", "sub": "development", "client_id": "development",
        "scope": DEVELOPMENT_SCOPE, "iat": now_s, "exp": now_s + 3600, "jti": "",
    }  # fmt: skip
    async with http.get(f"{authority.public_url}/check/data:read", headers=bearer(body["access_token"])) as reply:
        assert (reply.status, await reply.json()) == (200, {"client_id": "development"})


async def test_the_secret_may_be_in_the_form_and_the_scope_be_narrowed(http, credentials):
    form = {
        "grant_type": "client_credentials",
        "client_id": credentials["client_id"],
        "client_secret": credentials["client_secret"],
        "scope": "orders:read data:read",
    }
    async with http.post(credentials["token_url"], data=form) as reply:
        assert (reply.status, (await reply.json())["scope"]) == (200, "orders:read data:read")


@pytest.mark.parametrize(
    ("form", "error"),
    [
        ({"scope": "root"}, "invalid_scope"),
        ({"scope": "data:read root"}, "invalid_scope"),
        ({"grant_type": "password"}, "unsupported_grant_type"),
        ({"grant_type": ""}, "invalid_request"),
    ],
)
async def test_a_wrong_request_gets_its_error_code(http, credentials, form, error):
    status, body, _ = await grant(http, credentials, **form)
    assert (status, body["error"]) == (400, error)


async def test_a_wrong_secret_or_client_gets_no_token(http, credentials):
    for change in ({"client_secret": "wrong"}, {"client_id": "nobody"}):
        status, body, headers = await grant(http, credentials | change)
        assert (status, body["error"]) == (401, "invalid_client")
        assert headers["WWW-Authenticate"].startswith("Basic ")


async def test_the_token_endpoint_reads_forms_only_and_small_ones(http, credentials):
    url = credentials["token_url"]
    async with http.post(url, json={"grant_type": "client_credentials"}) as reply:
        assert (reply.status, (await reply.json())["error"]) == (400, "invalid_request")
    async with http.post(
        url, data=b"scope=a&scope=b", headers={"Content-Type": "application/x-www-form-urlencoded"}
    ) as reply:
        assert (reply.status, (await reply.json())["error"]) == (400, "invalid_request")
    async with http.post(url, data={"grant_type": "x" * 20_000}) as reply:
        assert (reply.status, (await reply.json())["code"]) == (413, "too_large")


async def test_a_revoked_token_is_refused_and_the_listeners_hear_of_it(http, authority, credentials, tmp_path, clock):
    _, body, _ = await grant(http, credentials)
    token, heard = body["access_token"], []
    authority.on_revocation(heard.append)
    check, revoke = f"{authority.public_url}/check/data:read", f"{authority.public_url}/oauth/revoke"
    async with http.get(check, headers=bearer(token)) as reply:
        assert reply.status == 200
    auth = {"Authorization": encode_basic_auth(credentials["client_id"], credentials["client_secret"])}
    for _ in range(2):  # the second time there is nothing to revoke, which is no error (RFC 7009, 2.2)
        async with http.post(revoke, data={"token": token}, headers=auth) as reply:
            assert reply.status == 200
    async with http.get(check, headers=bearer(token)) as reply:
        assert (reply.status, (await reply.json())["code"]) == (401, "invalid_token")
    assert len(heard) == 1
    after_restart = await open_authority(tmp_path, AuthSettings(), clock=clock, public_url=authority.public_url)
    with pytest.raises(PenstockError, match="revoked"):
        after_restart.access.issuers.verify(token)
    await after_restart.close()


async def test_a_client_cannot_revoke_the_token_of_another(http, authority, credentials):
    token = a_token(authority, "data:read", client_id="somebody-else")
    auth = {"Authorization": encode_basic_auth(credentials["client_id"], credentials["client_secret"])}
    async with http.post(f"{authority.public_url}/oauth/revoke", data={"token": token}, headers=auth) as reply:
        assert (reply.status, (await reply.json())["error"]) == (400, "invalid_grant")
    async with http.post(f"{authority.public_url}/oauth/revoke", data={"token": token}) as reply:
        assert (reply.status, (await reply.json())["error"]) == (401, "invalid_client")
    async with http.get(f"{authority.public_url}/check/data:read", headers=bearer(token)) as reply:
        assert reply.status == 200


async def test_metadata_names_the_endpoints(http, authority):
    url = authority.public_url
    async with http.get(f"{url}/.well-known/oauth-authorization-server") as reply:
        server = await reply.json()
    assert (server["issuer"], server["token_endpoint"]) == (url, f"{url}/oauth/token")
    assert (server["revocation_endpoint"], server["jwks_uri"]) == (f"{url}/oauth/revoke", f"{url}/oauth/jwks.json")
    assert "client_credentials" in server["grant_types_supported"]
    async with http.get(f"{url}/.well-known/oauth-protected-resource") as reply:
        resource = await reply.json()
    assert (resource["resource"], resource["authorization_servers"]) == (url, [url])


async def test_without_a_token_the_challenge_names_the_metadata_and_no_error(http, authority):
    async with http.get(f"{authority.public_url}/check/data:read") as reply:
        challenge = reply.headers["WWW-Authenticate"]
        assert (reply.status, (await reply.json())["code"]) == (401, "unauthorized")
    metadata = f'resource_metadata="{authority.public_url}/.well-known/oauth-protected-resource"'
    assert challenge == f'Bearer realm="penstock", {metadata}'
    for header in ("Basic abc", "Bearer", "Token x"):
        async with http.get(f"{authority.public_url}/check/data:read", headers={"Authorization": header}) as reply:
            assert reply.status == 401


async def test_a_missing_scope_is_403_and_is_named(http, authority):
    token = a_token(authority, "*:read")
    for scope in ("data:read", "apps:admin"):
        async with http.get(f"{authority.public_url}/check/{scope}", headers=bearer(token)) as reply:
            assert (reply.status, (await reply.json())["code"]) == (403, "insufficient_scope")
            assert f'error="insufficient_scope", scope="{scope}"' in reply.headers["WWW-Authenticate"]


async def test_a_token_in_the_url_is_refused_with_the_remedy(http, authority):
    token = a_token(authority, "data:read")
    for headers in ({}, bearer(token)):
        url = f"{authority.public_url}/check/data:read?access_token={token}"
        async with http.get(url, headers=headers) as reply:
            body = await reply.json()
        assert (reply.status, body["code"]) == (400, "bad_request")
        assert "/v1/tickets" in body["detail"]


async def test_the_client_file_is_private_and_keeps_its_secret(authority, credentials, tmp_path):
    path = tmp_path / "client.json"
    assert credentials["scope"] == DEVELOPMENT_SCOPE
    for private in (path, tmp_path / "signing-keys.json", tmp_path / "publish.db"):
        assert stat.S_IMODE(private.stat().st_mode) == 0o600
    path.chmod(0o644)
    ensure_development_client(tmp_path, "http://127.0.0.1:9/oauth/token")
    again = json.loads(path.read_text())
    assert again == credentials | {"token_url": "http://127.0.0.1:9/oauth/token"}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.unlink()
    ensure_development_client(tmp_path, credentials["token_url"])
    assert json.loads(path.read_text())["client_secret"] != credentials["client_secret"]


async def test_keys_survive_a_restart_and_an_issuer_does_not_accept_another_one(tmp_path, clock):
    first = await open_authority(tmp_path, AuthSettings(), clock=clock, public_url="http://127.0.0.1:1")
    again = await open_authority(tmp_path, AuthSettings(), clock=clock, public_url="http://127.0.0.1:1")
    moved = await open_authority(tmp_path, AuthSettings(), clock=clock, public_url="http://127.0.0.1:2")
    token = a_token(first, "data:read")
    assert again.access.issuers.verify(token).client_id == "tester"
    with pytest.raises(PenstockError, match="invalid_token"):
        moved.access.issuers.verify(token)
    for opened in (first, again, moved):
        await opened.close()


async def test_an_external_issuer_brings_its_keys_and_turns_the_embedded_server_off(tmp_path, clock):
    other = tmp_path / "other"
    other.mkdir()
    issuer = await open_authority(other, AuthSettings(), clock=clock, public_url="https://id.example")
    assert issuer.embedded is not None
    jwks = tmp_path / "jwks.json"
    jwks.write_text(json.dumps(issuer.embedded.keys.public_jwks()))
    settings = AuthSettings(issuer="https://id.example", jwks_file=jwks)
    authority = await open_authority(tmp_path, settings, clock=clock, public_url="http://127.0.0.1:1")
    assert authority.access.issuers.verify(a_token(issuer, "data:read")).client_id == "tester"
    assert {route.path.partition("{")[0].rstrip("/") for route in authority.routes()} == {
        "/.well-known/oauth-protected-resource"
    }
    with pytest.raises(PenstockError, match="jwks_file"):
        await open_authority(
            tmp_path, AuthSettings(issuer="https://id.example"), clock=clock, public_url="http://127.0.0.1:1"
        )
    await issuer.close()
    await authority.close()


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def test_metadata_of_a_resource_is_found_by_its_own_path_too(http, authority):
    url = authority.public_url
    at = f"{url}/.well-known/oauth-protected-resource"
    async with http.get(f"{at}/v1/topics/orders") as reply:
        document = await reply.json()
    assert document["resource"] == f"{url}/v1/topics/orders", "clients compare it with what they asked for"
    assert document["authorization_details_types_supported"] == ["penstock"]
    for path in ("/v2", "/../v1/", "/v1/" + "x" * 400):
        async with http.get(at + path) as reply:
            assert reply.status == 404


@pytest.mark.parametrize(
    ("public_url", "expected"),
    [
        ("https://a.example", "https://a.example/.well-known/oauth-protected-resource"),
        ("https://a.example/", "https://a.example/.well-known/oauth-protected-resource"),
        ("https://a.example:8443/streams/", "https://a.example:8443/.well-known/oauth-protected-resource/streams"),
    ],
)
def test_the_metadata_of_a_server_below_a_path_is_before_that_path(public_url, expected):
    assert metadata_url(public_url) == expected
