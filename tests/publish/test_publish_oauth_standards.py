"""The authorization server against what its standards say of errors, parameters and metadata."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from aiohttp import encode_basic_auth
from publish.oauth_rig import BACK, MACHINE, PORTAL, TERMINAL, VERIFIER, browsing

ROOT = Path(__file__).parents[2]
CODE = {"grant_type": "authorization_code", "code": "none", "redirect_uri": BACK, "code_verifier": VERIFIER}
TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
ERRORS = [  # of RFC 6749, 5.2
    (PORTAL, {}, 400, "invalid_request"),
    (PORTAL, {"grant_type": "authorization_code"}, 400, "invalid_request"),
    (PORTAL, {"grant_type": "refresh_token"}, 400, "invalid_request"),
    (PORTAL, CODE, 400, "invalid_grant"),
    (PORTAL, {"grant_type": "refresh_token", "refresh_token": "none"}, 400, "invalid_grant"),
    (PORTAL, {"grant_type": "client_credentials"}, 400, "unauthorized_client"),
    (MACHINE, CODE, 400, "unauthorized_client"),
    (MACHINE, {"grant_type": "client_credentials", "scope": "data:read"}, 400, "invalid_scope"),
    (MACHINE, {"grant_type": "client_credentials", "resource": "https://elsewhere.example"}, 400, "invalid_target"),
    (MACHINE, {"grant_type": "password"}, 400, "unsupported_grant_type"),
    (MACHINE, {"grant_type": "implicit"}, 400, "unsupported_grant_type"),
    (MACHINE, {"grant_type": TOKEN_EXCHANGE}, 400, "unsupported_grant_type"),
    (MACHINE, {"grant_type": "urn:ietf:params:oauth:grant-type:device_code"}, 400, "unsupported_grant_type"),
    (TERMINAL, {"grant_type": "client_credentials"}, 401, "invalid_client"),
]


@pytest.fixture
async def alone(tmp_path, clock):
    async with browsing(tmp_path, clock) as opened:
        yield opened


async def test_the_token_endpoint_names_each_error_as_the_standard_does(alone):
    for client, form, status, error in ERRORS:
        reply = await alone.call("/oauth/token", client, **form)
        assert (reply.status, reply.body["error"]) == (status, error), form
        assert reply.body.keys() <= {"error", "error_description"}
        assert all(" " <= char <= "~" and char not in '"\\' for char in str(reply.body.get("error_description", "")))
        assert (reply.headers["Cache-Control"], reply.headers["Content-Type"]) == ("no-store", "application/json")
        assert ("WWW-Authenticate" in reply.headers) == (status == 401)


async def test_parameters_are_read_as_the_standard_says(alone):
    basic = {"Authorization": encode_basic_auth("machine", "m3")}
    body = "grant_type=client_credentials&scope=&resource=&of_the_future=1"
    headers = {**basic, "Content-Type": "application/x-www-form-urlencoded"}
    async with alone.http.post(f"{alone.url}/oauth/token?scope=root", data=body, headers=headers) as reply:
        assert (reply.status, (await reply.json())["scope"]) == (200, "orders:read"), "nothing is read of the address"
    async with alone.http.post(f"{alone.url}/oauth/token", data=f"{body}&scope=", headers=headers) as reply:
        assert (reply.status, (await reply.json())["error"]) == (400, "invalid_request")
    for path in ("token", "revoke", "introspect"):
        assert (await alone.get(f"/oauth/{path}?grant_type=client_credentials", **basic)).status == 405
    page = await alone.ask(of_the_future="1", resource="")
    assert page.status == 200


async def test_revocation_answers_as_the_standard_says(alone):
    assert (await alone.call("/oauth/revoke", MACHINE)).body["error"] == "invalid_request"
    for form in ({"token": "made-up"}, {"token": "made-up", "token_type_hint": "of_the_future"}):
        reply = await alone.call("/oauth/revoke", MACHINE, **form)
        assert (reply.status, reply.body) == (200, {})
    tokens = await alone.tokens(TERMINAL)
    hinted = {"token": str(tokens["access_token"]), "token_type_hint": "refresh_token"}  # a wrong hint is a hint
    assert (await alone.call("/oauth/revoke", TERMINAL, **hinted)).status == 200
    assert await alone.use(tokens["access_token"]) == 401


async def test_metadata_lists_what_there_is_and_nothing_else(alone):
    async with alone.http.get(f"{alone.url}/.well-known/oauth-authorization-server") as reply:
        found = await reply.json()
    secret = ["client_secret_basic", "client_secret_post"]
    places = {
        "authorization_endpoint": "authorize", "token_endpoint": "token", "revocation_endpoint": "revoke",
        "introspection_endpoint": "introspect", "jwks_uri": "jwks.json",
    }  # fmt: skip
    assert found == {
        "issuer": alone.url,
        **{name: f"{alone.url}/oauth/{path}" for name, path in places.items()},
        "scopes_supported": ["*:read", "data:read", "data:query", "ingest:write", "apps:admin", "applications:write"],
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": ["authorization_code", "client_credentials", "refresh_token"],
        "code_challenge_methods_supported": ["S256"],
        "authorization_response_iss_parameter_supported": True,
        "token_endpoint_auth_methods_supported": [*secret, "none"],
        "revocation_endpoint_auth_methods_supported": [*secret, "none"],
        "introspection_endpoint_auth_methods_supported": secret,
        "service_documentation": f"{alone.url}/docs",
    }
    for name in places:
        async with alone.http.options(found[name]) as reply:
            assert reply.status == 405, f"{urlsplit(found[name]).path} is there, and takes its own method only"
    for changes in ({"response_type": "token"}, {"response_type": "id_token"}, {"response_type": "code token"},
                    {"response_mode": "fragment"}, {"code_challenge_method": "plain"}):  # fmt: skip
        assert "code" not in (await alone.ask(**changes)).back, changes
    for path in ("/oauth/register", "/oauth/par", "/oauth/device", "/.well-known/openid-configuration"):
        assert (await alone.get(path)).status == 404


def test_every_test_that_the_list_of_standards_names_is_there():
    section = (ROOT / "docs/oauth.md").read_text().partition("## What of which standard")[2].partition("\n## ")[0]
    named = set(re.findall(r"`(test_\w+)`", section))
    text = "".join(path.read_text() for path in (ROOT / "tests/publish").glob("test_*.py"))
    assert len(named) >= 20 and named <= set(re.findall(r"def (test_\w+)\(", text))
