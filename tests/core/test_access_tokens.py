"""Checks of access tokens, attacks included. No sockets: the clock is moved by hand."""

import base64
import hmac
import json

import pytest
from joserfc import jws, jwt
from joserfc.jwk import ECKey, OctKey, RSAKey

from penstock.errors import PenstockError
from penstock.http.access import Principal
from penstock.http.tokens import TokenVerifier
from penstock.testing.clock import ManualClock

ISSUER = "http://127.0.0.1:8080"
KEY = ECKey.generate_key("P-256", private=True)
PUBLIC = ECKey.import_key(KEY.as_dict(private=False))


def a_clock() -> ManualClock:
    return ManualClock(1_700_000_000_000)


def a_verifier(clock: ManualClock, *, revoked: frozenset[str] | set[str] = frozenset(), cache_max: int = 8):
    return TokenVerifier(
        {"k1": PUBLIC},
        issuer=ISSUER,
        audience="penstock",
        clock=clock,
        revoked=revoked,
        leeway_s=5,
        cache_max=cache_max,
    )


def claims(clock: ManualClock, **changes: object) -> dict[str, object]:
    now_s = clock.now_ms() // 1000
    made: dict[str, object] = {
        "iss": ISSUER,
        "aud": "penstock",
        "sub": "c",
        "client_id": "c",
        "scope": "orders:read data:read",
        "iat": now_s,
        "exp": now_s + 3600,
        "jti": "t1",
    } | changes
    return {name: value for name, value in made.items() if value is not None}


def sign(body: dict[str, object], *, key: object = KEY, **header: object) -> str:
    merged = {"alg": "ES256", "typ": "at+jwt", "kid": "k1", **header}
    return jwt.encode({k: v for k, v in merged.items() if v is not None}, body, key, default_type=None,
                      algorithms=["ES256", "HS256", "RS256", "ES384"])  # fmt: skip


def test_a_valid_token_gives_its_principal():
    clock = a_clock()
    principal = a_verifier(clock).verify(sign(claims(clock)))
    assert principal == Principal(
        "c", "c", frozenset({"orders:read", "data:read"}), clock.now_ms() / 1000 + 3600, "t1"
    )


@pytest.mark.parametrize("typ", ["at+JWT", "application/at+jwt"])
def test_both_forms_of_the_type_are_accepted_without_case(typ):
    clock = a_clock()
    assert a_verifier(clock).verify(sign(claims(clock), typ=typ)).token_id == "t1"


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "http://127.0.0.1:8081"},
        {"iss": ISSUER + "/"},
        {"iss": None},
        {"aud": "other"},
        {"aud": None},
        {"aud": {"penstock": 1}},
        {"exp": None},
        {"exp": "9999999999"},
        {"exp": 1_699_999_000},
        {"iat": None},
        {"iat": 1_700_000_100},
        {"nbf": 1_700_000_100},
        {"jti": None},
        {"sub": None},
        {"client_id": None},
        {"client_id": 7},
        {"scope": ["orders:read"]},
    ],
    ids=str,
)
def test_a_token_with_wrong_or_missing_claims_is_refused(changes):
    clock = a_clock()
    with pytest.raises(PenstockError, match="invalid_token"):
        a_verifier(clock).verify(sign(claims(clock, **changes)))


@pytest.mark.parametrize(
    "header",
    [
        {"typ": None},
        {"typ": "JWT"},
        {"kid": None},
        {"kid": "k2"},
        {"kid": "../../signing-keys.json"},
        {"crit": ["exp"]},
    ],
    ids=str,
)
def test_a_token_with_another_type_or_key_id_is_refused(header):
    clock = a_clock()
    registry_free = jws.JWSRegistry(algorithms=["ES256"], strict_check_header=False)
    merged = {k: v for k, v in {"alg": "ES256", "typ": "at+jwt", "kid": "k1", **header}.items() if v is not None}
    try:
        token = jws.serialize_compact(merged, json.dumps(claims(clock)).encode(), KEY, registry=registry_free)
    except Exception:  # joserfc will not make a token with a bad 'crit'; make its header by hand
        token = _with_header(sign(claims(clock)), merged)
    with pytest.raises(PenstockError, match="invalid_token"):
        a_verifier(clock).verify(token)


def test_an_unsigned_token_is_refused():
    clock = a_clock()
    for alg in ("none", "None", "NONE"):
        unsigned = (
            _with_header(sign(claims(clock)), {"alg": alg, "typ": "at+jwt", "kid": "k1"}).rsplit(".", 1)[0] + "."
        )
        with pytest.raises(PenstockError, match="invalid_token"):
            a_verifier(clock).verify(unsigned)


def test_the_public_key_is_no_shared_secret():
    clock = a_clock()
    for secret in (json.dumps(PUBLIC.as_dict()).encode(), PUBLIC.as_bytes(encoding="DER"), PUBLIC.as_bytes()):
        signed_part = sign(claims(clock), key=OctKey.generate_key(256), alg="HS256").rpartition(".")[0]
        mac = hmac.digest(secret, signed_part.encode(), "sha256")
        forged = f"{signed_part}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"
        with pytest.raises(PenstockError, match="invalid_token"):
            a_verifier(clock).verify(forged)


def test_a_foreign_key_is_refused_even_if_the_token_carries_it():
    clock = a_clock()
    foreign = ECKey.generate_key("P-256", private=True)
    for header in ({}, {"jwk": foreign.as_dict(private=False)}, {"jku": "https://attacker.example/jwks.json"}):
        with pytest.raises(PenstockError, match="invalid_token"):
            a_verifier(clock).verify(sign(claims(clock), key=foreign, **header))
    with pytest.raises(PenstockError, match="invalid_token"):
        a_verifier(clock).verify(sign(claims(clock), key=RSAKey.generate_key(2048, private=True), alg="RS256"))


def test_a_changed_token_is_refused():
    clock = a_clock()
    head, body, signature = sign(claims(clock)).split(".")
    raised = base64.urlsafe_b64encode(json.dumps(claims(clock, scope="apps:admin")).encode()).rstrip(b"=").decode()
    for token in (
        f"{head}.{raised}.{signature}",
        f"{head}.{body}.",
        f"{head}.{body}",
        "",
        ".",
        "..",
        "x" * 9000,
        "\ud800",
    ):
        with pytest.raises(PenstockError, match="invalid_token"):
            a_verifier(clock).verify(token)


async def test_a_remembered_token_still_expires():
    clock = a_clock()
    verifier, token = a_verifier(clock), sign(claims(clock))
    await clock.advance(3600 + 4)
    verifier.verify(token)  # within the leeway
    await clock.advance(1)
    for _ in range(2):
        with pytest.raises(PenstockError, match="expired"):
            verifier.verify(token)


def test_a_remembered_token_can_be_revoked():
    clock = a_clock()
    revoked: set[str] = set()
    verifier, token = a_verifier(clock, revoked=revoked), sign(claims(clock))
    verifier.verify(token)
    revoked.add("t1")
    with pytest.raises(PenstockError, match="revoked"):
        verifier.verify(token)


def test_the_cache_is_bounded_and_what_fell_out_is_checked_again():
    clock = a_clock()
    verifier = a_verifier(clock, cache_max=2)
    tokens = [sign(claims(clock, jti=f"t{i}")) for i in range(4)]
    for token in (*tokens, *tokens):
        verifier.verify(token)
    assert len(verifier._cache) == 2


@pytest.mark.parametrize(
    ("granted", "wanted", "allowed"),
    [
        ("orders:read", "orders:read", True),
        ("orders:read", "lots:read", False),
        ("*:read", "lots:read", True),
        ("*:read", "data:read", False),
        ("*:read", "ingest:write", False),
        ("*:read", "apps:admin", False),
        ("data:read", "data:query", False),
        ("*:write", "ingest:write", False),
        ("", "orders:read", False),
    ],
)
def test_scopes_grant_what_they_name_and_the_wildcard_every_topic(granted, wanted, allowed):
    assert Principal("c", "c", frozenset(granted.split()), 0.0, "t").allows(wanted) is allowed


def _with_header(token: str, header: dict[str, object]) -> str:
    _, body, signature = token.split(".")
    head = base64.urlsafe_b64encode(json.dumps(header).encode()).rstrip(b"=").decode()
    return f"{head}.{body}.{signature}"
