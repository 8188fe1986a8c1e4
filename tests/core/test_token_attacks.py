"""Attacks on access tokens (RFC 8725, RFC 9068, RFC 9700), each by its name: refused whatever the algorithm."""

from __future__ import annotations

import hmac
import json
from collections.abc import Callable

import pytest
from joserfc.jwk import ECKey, OKPKey, RSAKey
from token_issuer import TokenMaker, b64, new_key, signed

from penstock.errors import PenstockError
from penstock.http.issuers import Issuers, TrustedIssuer
from penstock.http.tokens import TOKEN_BYTES_MAX, UnknownKey
from penstock.testing.clock import ManualClock

ISSUER = "https://id.example"
NOW_S = 1_700_000_000
ALGORITHMS = ("ES256", "ES384", "RS256", "PS256", "EdDSA", "Ed25519")

Forge = Callable[[TokenMaker], str]
_CLOCK = ManualClock(NOW_S * 1000)
_MAKERS = {algorithm: TokenMaker(ISSUER, _CLOCK, algorithm=algorithm) for algorithm in ALGORITHMS}
_FOREIGN = {algorithm: new_key(algorithm) for algorithm in ALGORITHMS}


def parts(maker: TokenMaker) -> list[str]:
    return maker.token().split(".")


def with_header(**changes: object) -> Forge:
    """Signed by the right key, with another header."""
    return lambda maker: maker.token(changes)


def with_claims(**changes: object) -> Forge:
    """Signed by the right key, with other claims."""
    return lambda maker: maker.token(**changes)


def with_payload(text: Callable[[str], str | bytes]) -> Forge:
    """Signed by the right key over a payload made of the text of good claims."""
    return lambda maker: signed(
        maker.header(), text(json.dumps(maker.claims())), maker.key, algorithm=maker.algorithm
    )


def with_header_text(text: Callable[[str], str]) -> Forge:
    """Signed by the right key with a header made of the text of a good one."""
    return lambda maker: signed(
        text(json.dumps(maker.header())), json.dumps(maker.claims()), maker.key, algorithm=maker.algorithm
    )


def unsigned(alg: str) -> Forge:
    return lambda maker: f"{b64(json.dumps(maker.header(alg=alg)))}.{parts(maker)[1]}."


def with_signature(change: Callable[[str], str]) -> Forge:
    def forge(maker: TokenMaker) -> str:
        head, body, signature = parts(maker)
        return f"{head}.{body}.{change(signature)}"

    return forge


def by_secret(secret: Callable[[TokenMaker], bytes], alg: str = "HS256") -> Forge:
    """Key confusion: a MAC whose secret is something public."""

    def forge(maker: TokenMaker) -> str:
        text = f"{b64(json.dumps(maker.header(alg=alg)))}.{parts(maker)[1]}"
        return f"{text}.{b64(hmac.digest(secret(maker), text.encode(), f'sha{alg[2:]}'))}"

    return forge


def by_foreign_key(**header: Callable[[TokenMaker], object]) -> Forge:
    """Signed by the attacker, whose key the header offers."""

    def forge(maker: TokenMaker) -> str:
        made = maker.header(**{name: value(maker) for name, value in header.items()})
        return signed(made, json.dumps(maker.claims()), _FOREIGN[maker.algorithm], algorithm=maker.algorithm)

    return forge


def by_another_algorithm(maker: TokenMaker) -> str:
    other = "RS256" if maker.algorithm != "RS256" else "ES256"
    return signed(maker.header(alg=other), json.dumps(maker.claims()), _FOREIGN[other], algorithm=other)


def rsa_or_ec_text(maker: TokenMaker) -> bytes:
    public = maker.jwk()
    return str(public.get("n") or public.get("x")).encode()


ATTACKS: dict[str, Forge] = {
    # RFC 8725, 2.1 and 3.1, 3.2: the algorithm
    "alg none": unsigned("none"),
    "alg None": unsigned("None"),
    "alg nOnE": unsigned("nOnE"),
    "alg none with the signature left on": lambda maker: ".".join(
        [b64(json.dumps(maker.header(alg="none"))), *parts(maker)[1:]]
    ),
    "alg empty": with_header(alg=""),
    "alg missing": with_header(alg=None),
    "alg a list": with_header(alg=["ES256"]),
    "alg in lower case": lambda maker: maker.token({"alg": maker.algorithm.lower()}),
    "alg of another family, own key": by_another_algorithm,
    "HS256 with the public key in PEM": by_secret(lambda maker: maker.key.as_pem(private=False)),
    "HS256 with the public key in DER": by_secret(lambda maker: maker.key.as_der(private=False)),
    "HS256 with the JWK as text": by_secret(lambda maker: json.dumps(maker.jwk()).encode()),
    "HS256 with a member of the JWK": by_secret(rsa_or_ec_text),
    "HS256 with an empty secret": by_secret(lambda maker: b""),
    "HS256 with a common secret": by_secret(lambda maker: b"secret"),
    "HS512 with the public key in PEM": by_secret(lambda maker: maker.key.as_pem(private=False), "HS512"),
    # 3.3, 3.4: signatures that verify nothing
    "signature missing": lambda maker: ".".join(parts(maker)[:2]) + ".",
    "signature and its dot missing": lambda maker: ".".join(parts(maker)[:2]),
    "signature of zeros (psychic signatures)": with_signature(lambda s: b64(bytes(len(s) * 3 // 4))),
    "signature cut": with_signature(lambda s: s[:-8]),
    "signature with a byte more": with_signature(lambda s: s + "AAAA"),
    "signature in DER": with_signature(lambda s: b64(b"\x30\x06\x02\x01\x00\x02\x01\x00")),
    "signature of another token": lambda maker: ".".join([*parts(maker)[:2], maker.token(jti="t2").split(".")[2]]),
    "claims changed": lambda maker: ".".join(
        [parts(maker)[0], b64(json.dumps(maker.claims(scope="apps:admin"))), parts(maker)[2]]
    ),
    "signed by another key of the same kid": by_foreign_key(),
    # 3.10: what the token says about its key
    "jwk in the header": by_foreign_key(jwk=lambda maker: _FOREIGN[maker.algorithm].as_dict(private=False)),
    "jwk in the header, right signature": lambda maker: maker.token({"jwk": maker.jwk()}),
    "jku in the header": by_foreign_key(jku=lambda maker: "https://evil.example/keys"),
    "jku of the cloud's metadata": by_foreign_key(jku=lambda maker: "http://169.254.169.254/latest/"),
    "x5u in the header": by_foreign_key(x5u=lambda maker: "https://evil.example/cert.pem"),
    "x5c in the header": by_foreign_key(x5c=lambda maker: ["MIIB"]),
    "kid missing": with_header(kid=None),
    "kid unknown": with_header(kid="k2"),
    "kid empty": with_header(kid=""),
    "kid a number": with_header(kid=1),
    "kid a list": with_header(kid=["k1"]),
    "kid of 10 KB": with_header(kid="k" * 10_000),
    "kid a path": with_header(kid="../../../../dev/null"),
    "kid SQL": with_header(kid="x' UNION SELECT 'k1"),
    "kid a command": with_header(kid="k1|sleep 10"),
    "kid with a blank": with_header(kid="k1 "),
    "kid with a NUL": with_header(kid="k1\0"),
    # critical and unencoded payloads (RFC 7515, 4.1.11; RFC 7797)
    "crit unknown": with_header(crit=["exp"]),
    "crit empty": with_header(crit=[]),
    "b64 false": with_header(b64=False, crit=["b64"]),
    "b64 false without crit": with_header(b64=False),
    "zip": with_header(zip="DEF"),
    # 3.11: the type
    "typ missing": with_header(typ=None),
    "typ JWT, as of an ID token": with_header(typ="JWT"),
    "typ logout+jwt": with_header(typ="logout+jwt"),
    "typ with something behind it": with_header(typ="at+jwt; x=1"),
    "typ a list": with_header(typ=["at+jwt"]),
    # 3.8: the issuer
    "iss missing": with_claims(iss=None),
    "iss of another": with_claims(iss="https://evil.example"),
    "iss with a slash more": with_claims(iss=ISSUER + "/"),
    "iss with ours before": with_claims(iss=ISSUER + ".evil.example"),
    "iss with ours behind": with_claims(iss="https://evil.example/" + ISSUER),
    "iss in upper case": with_claims(iss=ISSUER.upper()),
    "iss a list": with_claims(iss=[ISSUER]),
    # 3.9: the audience
    "aud missing": with_claims(aud=None),
    "aud of another": with_claims(aud="billing"),
    "aud with ours within": with_claims(aud="penstock-billing"),
    "aud a list without ours": with_claims(aud=["billing", "Penstock"]),
    "aud an empty list": with_claims(aud=[]),
    "aud a list with a number": with_claims(aud=["penstock", 1]),
    "aud an object": with_claims(aud={"penstock": True}),
    # times
    "exp missing": with_claims(exp=None),
    "exp past": with_claims(exp=NOW_S - 5),
    "exp a text": with_claims(exp=str(NOW_S + 60)),
    "exp true": with_claims(exp=True),
    "exp negative": with_claims(exp=-1),
    "exp beyond all time": with_claims(exp=10**18),
    "exp NaN": with_payload(lambda t: t.replace(f'"exp": {NOW_S + 3600}', '"exp": NaN')),
    "exp infinite": with_payload(lambda t: t.replace(f'"exp": {NOW_S + 3600}', '"exp": 1e999')),
    "exp a list": with_claims(exp=[NOW_S + 60]),
    "nbf in the future": with_claims(nbf=NOW_S + 60),
    "nbf a text": with_claims(nbf="0"),
    "iat missing": with_claims(iat=None),
    "iat in the future": with_claims(iat=NOW_S + 60),
    "iat a text": with_claims(iat=str(NOW_S)),
    # who and what
    "sub missing": with_claims(sub=None),
    "sub empty": with_claims(sub=""),
    "sub a number": with_claims(sub=7),
    "client_id missing": with_claims(client_id=None),
    "jti missing": with_claims(jti=None),
    "scope a list": with_claims(scope=["apps:admin"]),
    "scope an object": with_claims(scope={"apps:admin": True}),
    "scopes without end": with_claims(scope=" ".join(f"s{n}" for n in range(600))),
    "authorization_details not understood": with_claims(authorization_details=[{"type": "penstock", "x": 1}]),
    # JSON (RFC 8259; RFC 8725, 3.7)
    "a claim twice": with_payload(lambda t: t[:-1] + ', "scope": "apps:admin"}'),
    "a header twice": with_header_text(lambda t: t[:-1] + ', "kid": "k1"}'),
    "claims a list": with_payload(lambda t: f"[{t}]"),
    "claims no JSON": with_payload(lambda t: t + "}"),
    "claims in UTF-16": with_payload(lambda t: t.encode("utf-16")),
    "claims with broken UTF-8": with_payload(lambda t: t.encode()[:-1] + b', "x": "\xff"}'),
    "claims nested too deep": with_payload(lambda t: t[:-1] + ', "x": ' + "[" * 40 + "]" * 40 + "}"),
    "header a list": with_header_text(lambda t: f"[{t}]"),
    # base64url and the compact form (RFC 7515, 2 and 3.1)
    "padding": lambda maker: maker.token() + "=",
    "padding in the header": lambda maker: "=.".join(maker.token().split(".", 1)),
    "the other base64 alphabet": with_signature(lambda s: "+/" + s[2:]),
    "a line end within": lambda maker: maker.token().replace(".", ".\n", 1),
    "a blank before": lambda maker: " " + maker.token(),
    "two parts": lambda maker: ".".join(parts(maker)[1:]),
    "four parts": lambda maker: maker.token() + ".AAAA",
    "five parts, as of a JWE": lambda maker: maker.token() + ".AAAA.AAAA",
    "JSON serialization": lambda maker: json.dumps(
        dict(zip(("protected", "payload", "signature"), parts(maker), strict=True))
    ),
    "letters that are no ASCII": lambda maker: maker.token() + "\u00e4",
    "half a surrogate": lambda maker: maker.token() + "\ud800",
    "longer than the limit": lambda maker: maker.token(note="x" * TOKEN_BYTES_MAX),
    "nothing": lambda maker: "",
    "dots": lambda maker: "..",
}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_good_token_is_taken(algorithm):
    maker = _MAKERS[algorithm]
    principal = maker.verifier().verify(maker.token(aud=["billing", "penstock"], exp=NOW_S + 60.5))
    assert (principal.subject, principal.client_id, principal.expires_at_s) == ("somebody", "tester", NOW_S + 60.5)


@pytest.mark.parametrize("algorithm", ["ES256", "RS256", "Ed25519"])
@pytest.mark.parametrize("name", ATTACKS)
def test_attack_is_refused(name, algorithm):
    maker = _MAKERS[algorithm]
    token = ATTACKS[name](maker)
    with pytest.raises(PenstockError) as refusal:
        maker.verifier().verify(token)
    assert refusal.value.code == "invalid_token"
    assert token[-20:] not in refusal.value.detail or not token


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("allowed", ALGORITHMS)
def test_only_the_algorithms_of_the_issuer_are_taken(algorithm, allowed):
    """EdDSA and Ed25519 are two names of one thing; a key of RS256 fits PS256, and still that must be allowed."""
    maker = _MAKERS[algorithm]
    verifier = maker.verifier(algorithms=frozenset({allowed}))
    if allowed == algorithm:
        verifier.verify(maker.token())
    else:
        with pytest.raises(PenstockError, match="alg"):
            verifier.verify(maker.token())


def test_a_token_is_checked_with_the_keys_of_its_own_issuer_only():
    ours, theirs = TokenMaker("https://a.example", _CLOCK), TokenMaker("https://b.example", _CLOCK)
    issuers = Issuers([ours.trusted(), theirs.trusted()])
    assert issuers.verify(ours.token()).subject == issuers.verify(theirs.token()).subject
    with pytest.raises(PenstockError, match="signature"):
        issuers.verify(theirs.token(iss=ours.issuer))
    with pytest.raises(PenstockError, match="issuer is not trusted"):
        issuers.verify(ours.token(iss="https://c.example"))
    other_kid = TokenMaker("https://b.example", _CLOCK, kid="k9")
    issuers = Issuers([ours.trusted(), other_kid.trusted()])
    with pytest.raises(UnknownKey):
        issuers.verify(signed(other_kid.header(), json.dumps(ours.claims()), other_kid.key, algorithm="ES256"))


def test_subjects_of_two_issuers_are_two_subjects():
    theirs = TokenMaker("https://b.example", _CLOCK)
    principal = theirs.verifier(name="partner").verify(theirs.token())
    assert (principal.subject, principal.client_id, principal.token_id) == (
        "partner:somebody", "partner:tester", "partner:t1",
    )  # fmt: skip


def test_two_issuers_of_one_name_or_with_introspection_are_a_mistake():
    maker = TokenMaker(ISSUER, _CLOCK)
    with pytest.raises(PenstockError, match="listed twice"):
        Issuers([maker.trusted(), maker.trusted()])


LENIENT: dict[str, tuple[dict[str, object], dict[str, object], bool]] = {
    "typ JWT": ({"typ": "JWT"}, {}, True),
    "typ missing": ({"typ": None}, {}, True),
    "typ of something else": ({"typ": "logout+jwt"}, {}, False),
    "jti missing": ({}, {"jti": None}, True),
    "iat missing": ({}, {"iat": None}, True),
    "client in azp": ({}, {"client_id": None, "azp": "portal"}, True),
    "an ID token by its nonce": ({"typ": "JWT"}, {"nonce": "n"}, False),
    "an ID token by its at_hash": ({"typ": "JWT"}, {"at_hash": "x"}, False),
    "an ID token by its kind": ({"typ": "JWT"}, {"typ": "ID"}, False),
    "a refresh token by its kind": ({"typ": "JWT"}, {"typ": "Refresh"}, False),
    "an access token by its kind": ({"typ": "JWT"}, {"typ": "Bearer"}, True),
    "another audience": ({"typ": "JWT"}, {"aud": "portal"}, False),
    "exp missing": ({"typ": "JWT"}, {"exp": None}, False),
}


@pytest.mark.parametrize("name", LENIENT)
def test_the_lenient_profile_takes_access_tokens_without_rfc_9068_and_nothing_else(name):
    header, claims, taken = LENIENT[name]
    maker = _MAKERS["RS256"]
    token, verifier = maker.token(header, **claims), maker.verifier(lenient=True)
    if taken:
        assert verifier.verify(token).client_id == claims.get("azp", "tester")
    else:
        with pytest.raises(PenstockError, match="invalid_token"):
            verifier.verify(token)


@pytest.mark.parametrize(
    ("profile", "claims", "scopes"),
    [
        ({"scope_claim": "scp"}, {"scp": ["orders:read", "data:read"]}, "data:read orders:read"),
        ({"scope_claim": "scp"}, {"scp": "orders:read"}, "orders:read"),
        ({"scope_claim": "scp"}, {}, ""),
        ({"scope_claim": "realm_access.roles"}, {"realm_access": {"roles": ["a:read"]}}, "a:read"),
        ({"scope_claim": "https://x.example/roles"}, {"https://x.example/roles": ["a:read"]}, "a:read"),
        ({"scope_prefix": "penstock/"}, {"scope": "openid penstock/a:read other/b:read"}, "a:read"),
        (
            {"scope_claim": "groups", "scope_map": {"admins": "apps:admin *:read"}, "scope_prefix": "ps-"},
            {"groups": ["admins", "staff", "ps-a:read"]},
            "*:read a:read apps:admin",
        ),
    ],
    ids=str,
)
def test_scopes_are_found_where_the_issuer_puts_them(profile, claims, scopes):
    maker = _MAKERS["ES256"]
    assert maker.verifier(**profile).verify(maker.token(**claims)).scopes == set(scopes.split())


def test_a_key_that_was_retired_or_replaced_ends_what_it_verified():
    maker = TokenMaker(ISSUER, _CLOCK)
    verifier = maker.verifier()
    token = maker.token()
    verifier.verify(token)
    verifier._keys.clear()
    with pytest.raises(UnknownKey):
        verifier.verify(token)
    verifier._keys["k1"] = ECKey.import_key(ECKey.generate_key("P-256").as_dict(private=False))
    with pytest.raises(PenstockError, match="signature"):
        verifier.verify(token)


def test_what_is_no_jwt_is_refused_where_nobody_can_be_asked():
    issuers = Issuers([TokenMaker("https://a.example", _CLOCK).trusted(), TokenMaker(ISSUER, _CLOCK).trusted()])
    for token in ("opaque", "", "a.b", "a.b.c", "x" * (TOKEN_BYTES_MAX + 1)):
        with pytest.raises(PenstockError, match="invalid_token"):
            issuers.verify(token)


def test_the_table_of_attacks_has_not_shrunk():
    assert len(ATTACKS) >= 100
    assert {RSAKey, ECKey, OKPKey} == {type(maker.key) for maker in _MAKERS.values()}
    assert isinstance(_MAKERS["ES256"].trusted(), TrustedIssuer)
