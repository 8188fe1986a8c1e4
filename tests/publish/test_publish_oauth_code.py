"""The authorization code grant with PKCE over real HTTP: the way through, and each attack of RFC 9700 on it."""

from __future__ import annotations

import asyncio
import base64
from dataclasses import replace

import pytest
from joserfc import jwt
from joserfc.jwk import KeySet
from publish.oauth_rig import BACK, CHALLENGE, MACHINE, PERSONS, PORTAL, TERMINAL, VERIFIER, browsing

from penstock_publish.oauth.forms import FORM_COOKIE
from penstock_publish.oauth.revocation_rows import AccessToken

WRONG_TRADES = [
    ({"code_verifier": VERIFIER + "x"}, "invalid_grant"),
    ({"code_verifier": CHALLENGE}, "invalid_grant"),  # as it would be with plain
    ({"code_verifier": None}, "invalid_request"),
    ({"code_verifier": "short"}, "invalid_request"),
    ({"redirect_uri": None}, "invalid_grant"),
    ({"redirect_uri": "https://portal.example/back"}, "invalid_grant"),
    ({"code": "made-up"}, "invalid_grant"),
    ({"code": None}, "invalid_request"),
    ({"resource": "https://elsewhere.example"}, "invalid_target"),
]
WITHOUT_PKCE = [
    {"code_challenge": None, "code_challenge_method": None},
    {"code_challenge": None},
    {"code_challenge_method": None},
    {"code_challenge_method": "plain"},
    {"code_challenge": VERIFIER, "code_challenge_method": "plain"},
    {"code_challenge": CHALLENGE + "="},
    {"code_challenge": "short"},
    {"response_mode": "fragment"},
]
UNREGISTERED = [
    None,
    "",
    "https://portal.example/back",
    BACK + "&x=1",
    BACK + "/",
    BACK.upper(),
    "https://portal.example.attacker.example/back?from=penstock",
    "https://attacker.example/back?from=penstock",
    "https://portal.example@attacker.example/back?from=penstock",
    "https://portal.example:8443/back?from=penstock",
    "http://portal.example/back?from=penstock",
    "https://portal.example/back/../back?from=penstock",
    "https://portal.example/b%61ck?from=penstock",
    BACK + "#x",
    "//attacker.example",
    "javascript:alert(1)",
    "https://portal.example/bäck",
    'https://portal.example/back"',
]
LOOPBACK = [
    ("http://127.0.0.1:51004/back", True),
    ("http://127.0.0.1/back", True),
    ("http://localhost:7000/back", True),
    ("http://localhost:7001/back", False),
    ("http://127.0.0.1:51004/back/x", False),
    ("http://127.0.0.1:51004/back?x=1", False),
    ("http://127.0.0.1:51004@attacker.example/back", False),
    ("http://127.0.0.1.attacker.example:51004/back", False),
    ("https://127.0.0.1:51004/back", False),
    ("http://[::1]:51004/back", False),
    ("http://127.0.0.1:99999/back", False),
]


@pytest.fixture(params=["sqlite", "postgresql"])
async def browser(tmp_path, clock, request):
    url = request.getfixturevalue("postgres_url") if request.param == "postgresql" else None
    async with browsing(tmp_path, clock, database_url=url) as opened:
        yield opened


@pytest.fixture
async def alone(tmp_path, clock):
    """For what does not depend on the database."""
    async with browsing(tmp_path, clock) as opened:
        yield opened


async def test_a_person_allows_an_application_which_gets_tokens_for_what_was_asked(browser, clock):
    page = await browser.ask()
    assert page.status == 200
    assert (
        "The &lt;b&gt;portal&lt;/b&gt;" in page.text and "Read the topic orders <code>orders:read</code>" in page.text
    )
    assert "data:read" not in page.text and "https://portal.example" in page.text
    sent = await browser.submit("/oauth/authorize", {**page.hidden, "decision": "allow"})
    assert sent.status == 303 and sent.location.startswith(BACK + "&")
    assert {**sent.back, "code": ""} == {"from": "penstock", "code": "", "state": "st/1 2", "iss": browser.url}
    reply = await browser.trade(sent.back["code"])
    assert reply.status == 200 and reply.headers["Cache-Control"] == "no-store"
    assert {**reply.body, "access_token": "", "refresh_token": ""} == {
        "access_token": "", "refresh_token": "", "token_type": "Bearer", "expires_in": 3600, "scope": "orders:read",
    }  # fmt: skip
    keys = KeySet.import_key_set(browser.authority.embedded.keys.public_jwks())
    claims = jwt.decode(str(reply.body["access_token"]), keys, algorithms=["ES256"]).claims
    assert (claims["sub"], claims["client_id"], claims["scope"]) == ("page", "portal", "orders:read")
    assert await browser.use(reply.body["access_token"]) == 200


async def test_a_code_used_twice_is_refused_and_ends_what_was_made_from_it(browser):
    heard: list[str] = []
    browser.authority.on_revocation(heard.append)
    code = await browser.code()
    first = await browser.trade(code)
    refreshed = await browser.refresh(first.body["refresh_token"])
    assert [await browser.use(reply.body["access_token"]) for reply in (first, refreshed)] == [200, 200]
    again = await browser.trade(code)
    assert (again.status, again.body["error"]) == (400, "invalid_grant")
    assert [await browser.use(reply.body["access_token"]) for reply in (first, refreshed)] == [401, 401]
    assert len(heard) == 2
    assert (await browser.refresh(refreshed.body["refresh_token"])).body["error"] == "invalid_grant"


async def test_of_two_who_use_a_code_at_once_none_is_left_with_tokens(browser):
    code = await browser.code()
    replies = await asyncio.gather(*(browser.trade(code) for _ in range(2)))
    assert sorted(reply.status for reply in replies) == [200, 400]
    [won] = [reply for reply in replies if reply.status == 200]
    assert await browser.use(won.body["access_token"]) == 401


async def test_a_code_holds_sixty_seconds(browser, clock):
    early, late = await browser.code(), await browser.code()
    await clock.advance(59)
    assert (await browser.trade(early)).status == 200
    await clock.advance(1)
    assert (await browser.trade(late)).body["error"] == "invalid_grant"


async def test_a_code_is_bound_to_verifier_redirect_and_resource(alone):
    code = await alone.code()
    for changes, error in WRONG_TRADES:
        sent = {"code": code, **changes}
        reply = await alone.trade(sent.pop("code"), **sent)
        assert (reply.status, reply.body["error"]) == (400, error), changes
    assert (await alone.trade(code)).status == 200  # who has not the verifier cannot spoil it for who has


async def test_a_code_of_one_application_is_nothing_to_another(alone):
    thief = replace(TERMINAL, redirect_uris=(BACK,))
    await alone.authority.embedded.put_client(thief)
    code = await alone.code()
    for client in (thief, MACHINE):
        reply = await alone.trade(code, client, redirect_uri=BACK)
        assert reply.status == 400 and reply.body["error"] in ("invalid_grant", "unauthorized_client")
    assert (await alone.trade(code)).status == 200


@pytest.mark.parametrize("client", [PORTAL, TERMINAL], ids=["confidential", "public"])
async def test_pkce_with_s256_is_asked_of_every_client(alone, client):
    for changes in WITHOUT_PKCE:
        reply = await alone.ask(client, **changes)
        assert reply.status == 303 and reply.location.startswith(client.redirect_uris[0]), changes
        assert (reply.back["error"], reply.back["state"]) == ("invalid_request", "st/1 2")
        assert (reply.back["iss"], "code" in reply.back) == (alone.url, False)


async def test_nobody_is_sent_to_an_address_that_is_not_registered(alone):
    for uri in UNREGISTERED:
        reply = await alone.ask(redirect_uri=uri)
        assert reply.status == 400 and "Location" not in reply.headers, uri
        assert "This cannot be done" in reply.text and "http-equiv" not in reply.text


async def test_an_unknown_application_is_told_to_the_person_only(alone):
    for changes in ({"client_id": "nobody"}, {"client_id": None}, {"client_id": "<script>"}):
        reply = await alone.ask(**changes)
        assert reply.status == 400 and "Location" not in reply.headers and "<script>" not in reply.text
    twice = await alone.get(f"/oauth/authorize?{alone.request()}&redirect_uri=https%3A%2F%2Fattacker.example")
    assert twice.status == 400 and "sent twice" in twice.text


async def test_a_program_may_listen_on_any_port_of_loopback(alone):
    for uri, registered in LOOPBACK:
        reply = await alone.ask(TERMINAL, redirect_uri=uri)
        assert reply.status == (200 if registered else 400), uri
        if registered:
            assert (await alone.tokens(TERMINAL, redirect_uri=uri))["scope"] == "orders:read"


async def test_the_free_port_is_for_programs_without_a_secret(alone):
    await alone.authority.embedded.put_client(replace(PORTAL, redirect_uris=("http://127.0.0.1/back",)))
    assert (await alone.ask(redirect_uri="http://127.0.0.1:51004/back")).status == 400
    assert (await alone.ask(redirect_uri="http://127.0.0.1/back")).status == 200


async def test_who_does_not_allow_is_sent_back_with_that(alone):
    reply = await alone.allow(decision="deny")
    assert reply.location.startswith(BACK)
    assert (reply.back["error"], reply.back["state"], reply.back["iss"]) == ("access_denied", "st/1 2", alone.url)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"scope": "root"}, "invalid_scope"),
        ({"scope": "orders:read apps:admin"}, "invalid_scope"),
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"response_type": None}, "invalid_request"),
        ({"resource": "https://elsewhere.example"}, "invalid_target"),
    ],
    ids=str,
)
async def test_what_cannot_be_granted_is_told_to_the_application(alone, changes, error):
    reply = await alone.ask(**changes)
    assert (reply.status, reply.back["error"], reply.back["state"]) == (303, error, "st/1 2")


async def test_a_client_without_the_grant_gets_no_code(alone):
    await alone.authority.embedded.put_client(replace(PORTAL, grants=frozenset({"client_credentials"})))
    assert (await alone.ask()).back["error"] == "unauthorized_client"
    await alone.authority.embedded.put_client(replace(PORTAL, grants=PERSONS - {"refresh_token"}))
    assert "refresh_token" not in await alone.tokens()


async def test_a_person_passes_on_only_what_is_theirs(tmp_path, clock):
    async with browsing(tmp_path, clock, page_scope="*:read") as browser:
        body = await browser.tokens(scope="orders:read data:read")
        assert body["scope"] == "orders:read"
        assert (await browser.ask(scope="data:read")).back["error"] == "access_denied"


async def test_the_resource_of_this_gateway_becomes_an_audience(alone):
    body = await alone.tokens(resource=alone.url + "/")
    keys = KeySet.import_key_set(alone.authority.embedded.keys.public_jwks())
    assert jwt.decode(str(body["access_token"]), keys, algorithms=["ES256"]).claims["aud"] == ["penstock", alone.url]
    assert await alone.use(body["access_token"]) == 200


async def test_the_pages_cannot_be_framed_and_have_no_script(alone):
    for page in (await alone.ask(), await alone.ask(client_id="nobody"), await alone.get("/oauth/authorize")):
        policy = page.headers["Content-Security-Policy"]
        assert "frame-ancestors 'none'" in policy and "default-src 'none'" in policy and "unsafe" not in policy
        assert page.headers["X-Frame-Options"] == "DENY" and page.headers["Cache-Control"] == "no-store"
        assert "<script" not in page.text and "style=" not in page.text
    policy = (await alone.ask()).headers["Content-Security-Policy"]
    assert policy.endswith("form-action 'self' https://portal.example")


async def test_a_forged_answer_counts_for_nothing(alone):
    page = await alone.ask()
    fields = {**page.hidden, "decision": "allow"}
    forged = [
        ({**fields, "secret": "x" * 43}, {}),
        ({**fields, "secret": ""}, {}),
        (fields, {"Origin": "https://attacker.example", "Sec-Fetch-Site": "cross-site"}),
        (fields, {"Origin": "null", "Sec-Fetch-Site": "cross-site"}),
        (fields, {"Content-Type": "text/plain"}),
    ]
    for form, headers in forged:
        reply = await alone.submit("/oauth/authorize", form, **headers)
        assert reply.status in (403, 415) and "Location" not in reply.headers
    alone.http.cookie_jar.clear()
    for cookie in ("", f"{FORM_COOKIE}=", f"{FORM_COOKIE}={'y' * 43}"):
        assert (await alone.submit("/oauth/authorize", fields, Cookie=cookie)).status == 403
    cookie = page.headers["Set-Cookie"]
    assert "HttpOnly" in cookie and "SameSite=Strict" in cookie and "Path=/oauth" in cookie


async def test_the_list_of_revoked_tokens_is_made_when_it_changes_and_not_for_everybody_who_asks(alone, clock):
    async def listed() -> list[str]:
        async with alone.http.get(f"{alone.url}/oauth/revocations") as reply:
            return [one["jti"] for one in (await reply.json())["revoked"]]

    made: list[str] = []
    revocations = alone.authority.revocations
    alone.authority.revocations = lambda: made.append("once more") or revocations()
    assert [await listed() for _ in range(3)] == [[]] * 3 and len(made) == 1
    alone.authority.end_tokens([AccessToken("a", clock.now_ms() / 1000 + 100)])
    assert [await listed() for _ in range(3)] == [["a"]] * 3 and len(made) == 2
    clock.jump(200)
    assert await listed() == []


async def test_the_metadata_is_true_to_it(alone):
    async with alone.http.get(f"{alone.url}/.well-known/oauth-authorization-server") as reply:
        found = await reply.json()
    assert found["authorization_endpoint"] == f"{alone.url}/oauth/authorize"
    assert found["introspection_endpoint"] == f"{alone.url}/oauth/introspect"
    assert (found["response_types_supported"], found["code_challenge_methods_supported"]) == (["code"], ["S256"])
    assert found["authorization_response_iss_parameter_supported"] is True
    assert found["grant_types_supported"] == ["authorization_code", "client_credentials", "refresh_token"]
    assert "none" in found["token_endpoint_auth_methods_supported"]
    assert "none" not in found["introspection_endpoint_auth_methods_supported"]


async def test_a_page_of_another_origin_can_be_a_client(alone):
    origin = {"Origin": "https://portal.example"}
    metadata = await alone.get("/.well-known/oauth-authorization-server", **origin)
    tokens = await alone.trade(await alone.code(TERMINAL), TERMINAL)
    wrong = await alone.trade("made-up", TERMINAL)
    for reply in (metadata, tokens, wrong):
        assert reply.headers["Access-Control-Allow-Origin"] == "*"
        assert "Access-Control-Allow-Credentials" not in reply.headers
    asked = await alone.ask(TERMINAL)  # what a session opens is not for other origins
    assert "Access-Control-Allow-Origin" not in asked.headers


@pytest.mark.parametrize("credentials", [b"portal:\xff", b"\xff\xfe", b"\xff:\x00"])
@pytest.mark.parametrize("path", ["token", "revoke", "introspect"])
async def test_credentials_that_are_no_text_are_no_credentials(alone, path, credentials):
    headers = {"Authorization": "Basic " + base64.b64encode(credentials).decode()}
    form = {"grant_type": "client_credentials", "token": "x"}
    async with alone.http.post(f"{alone.url}/oauth/{path}", data=form, headers=headers) as reply:
        assert (reply.status, (await reply.json())["error"]) == (401, "invalid_client")
