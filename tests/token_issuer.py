"""An issuer for tests: keys, tokens with any claims, a server with metadata, key set and introspection."""

from __future__ import annotations

import base64
import json
from typing import Any

from aiohttp import web
from joserfc import jws
from joserfc.jwk import ECKey, OKPKey, RSAKey
from joserfc.jws import JWSRegistry

from penstock.http.claims import TokenProfile
from penstock.http.issuers import TrustedIssuer
from penstock.http.tokens import TokenVerifier
from penstock.ports.clock import Clock

AnyKey = ECKey | RSAKey | OKPKey


def new_key(algorithm: str) -> AnyKey:
    """A private key for an algorithm."""
    if algorithm in ("RS256", "PS256"):
        return RSAKey.generate_key(2048, private=True)
    if algorithm in ("EdDSA", "Ed25519"):
        return OKPKey.generate_key("Ed25519", private=True)
    return ECKey.generate_key("P-384" if algorithm == "ES384" else "P-256", private=True)


def b64(data: bytes | str) -> str:
    """Base64url without padding."""
    raw = data.encode() if isinstance(data, str) else data
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def signed(header: dict[str, object] | str, payload: bytes | str, key: Any, *, algorithm: str) -> str:
    """A token with exactly this header and payload, signed; no check keeps it from being nonsense."""
    head = header if isinstance(header, str) else json.dumps(header)
    text = f"{b64(head)}.{b64(payload)}"
    return f"{text}.{b64(JWSRegistry.algorithms[algorithm].sign(text.encode(), key))}"


class TokenMaker:
    """One issuer with one key."""

    def __init__(self, issuer: str, clock: Clock, *, algorithm: str = "ES256", kid: str = "k1") -> None:
        self.issuer, self.clock, self.algorithm, self.kid = issuer, clock, algorithm, kid
        self.key = new_key(algorithm)

    def claims(self, **changes: object) -> dict[str, object]:
        """Those of a good token, changed; None takes one away."""
        now_s = self.clock.now_ms() // 1000
        made: dict[str, object] = {
            "iss": self.issuer,
            "aud": "penstock",
            "sub": "somebody",
            "client_id": "tester",
            "scope": "orders:read data:read",
            "iat": now_s,
            "exp": now_s + 3600,
            "jti": "t1",
        } | changes
        return {name: value for name, value in made.items() if value is not None}

    def header(self, **changes: object) -> dict[str, object]:
        """That of a good token, changed; None takes one away."""
        made = {"alg": self.algorithm, "typ": "at+jwt", "kid": self.kid} | changes
        return {name: value for name, value in made.items() if value is not None}

    def token(self, header: dict[str, object] | None = None, **claims: object) -> str:
        """A signed token."""
        merged = self.header(**(header or {}))
        return signed(merged, json.dumps(self.claims(**claims)), self.key, algorithm=self.algorithm)

    def jwk(self, **changes: object) -> dict[str, object]:
        """The public key."""
        return {**self.key.as_dict(private=False), "kid": self.kid, **changes}

    def jwks(self) -> dict[str, object]:
        """The key set."""
        return {"keys": [self.jwk(use="sig", alg=self.algorithm)]}

    def verifier(self, **profile: object) -> TokenVerifier:
        """What checks its tokens."""
        made: dict[str, Any] = {"algorithms": frozenset({self.algorithm}), **profile}
        return TokenVerifier(
            {self.kid: type(self.key).import_key(self.jwk())},  # type: ignore[arg-type]  # a key's dict
            issuer=self.issuer,
            audience="penstock",
            clock=self.clock,
            revoked=frozenset(),
            leeway_s=5,
            cache_max=100,
            profile=TokenProfile(**made),
        )

    def trusted(self, **profile: object) -> TrustedIssuer:
        """For `JwtAccess.trust`."""
        return TrustedIssuer(self.issuer, self.verifier(**profile))


class IssuerServer:
    """Routes of an authorization server of others; what it answers can be changed, and is counted."""

    def __init__(self, maker: TokenMaker) -> None:
        self.maker = maker
        self.keys: object = maker.jwks()
        self.metadata: dict[str, object] = {
            "issuer": maker.issuer,
            "jwks_uri": f"{maker.issuer}/keys",
            "introspection_endpoint": f"{maker.issuer}/introspect",
        }
        self.active: dict[str, dict[str, object]] = {}
        self.asked = {"keys": 0, "metadata": 0, "introspect": 0}
        self.credentials: list[str] = []
        self.answer: web.Response | None = None  # instead of the next answers about tokens

    def routes(self) -> list[web.AbstractRouteDef]:
        """For a listener at the issuer's address."""
        return [
            web.get("/.well-known/oauth-authorization-server", self._metadata),
            web.get("/keys", self._keys),
            web.post("/introspect", self._introspect),
        ]

    async def _metadata(self, request: web.Request) -> web.Response:
        self.asked["metadata"] += 1
        return web.json_response(self.metadata)

    async def _keys(self, request: web.Request) -> web.Response:
        self.asked["keys"] += 1
        if isinstance(self.keys, web.HTTPException):
            raise self.keys
        return web.Response(text=self.keys if isinstance(self.keys, str) else json.dumps(self.keys))

    async def _introspect(self, request: web.Request) -> web.Response:
        self.asked["introspect"] += 1
        self.credentials.append(request.headers.get("Authorization", ""))
        form = await request.post()
        if self.answer is not None:
            return web.Response(status=self.answer.status, body=self.answer.body, headers=self.answer.headers)
        claims = self.active.get(str(form.get("token")))
        return web.json_response({"active": False} if claims is None else {"active": True, **claims})


def header_of(token: str) -> dict[str, object]:
    """The header of a token."""
    return dict(jws.extract_compact(token.encode()).headers())
