"""Signed tokens as text, and keys that verify them: JWS in compact form (RFC 7515), JWK (RFC 7517), read strictly.

What a token says about its own key (`jwk`, `jku`, `x5u`, `x5c`) is never used, and an algorithm counts only if it is
allowed, fits the key's type and curve, and is the key's own where the key names one (RFC 8725, 3.1). Pure.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from joserfc.errors import JoseError
from joserfc.jwk import ECKey, JWKRegistry, OKPKey, RSAKey
from joserfc.jws import JWSRegistry
from joserfc.util import urlsafe_b64decode

from penstock.http.settings import TokenLimits

__all__ = ["BadToken", "NoKeyFits", "NoSuchKey", "SignedText", "VerifyingKey", "read_json", "read_signed",
           "verify_signed", "verifying_keys"]  # fmt: skip

VerifyingKey = ECKey | RSAKey | OKPKey

#: Algorithm -> key type and curve. Shared secrets and "none" have no place here.
_KEY_OF: Mapping[str, tuple[str, str | None]] = {
    "ES256": ("EC", "P-256"),
    "ES384": ("EC", "P-384"),
    "RS256": ("RSA", None),
    "PS256": ("RSA", None),
    "EdDSA": ("OKP", "Ed25519"),  # as RFC 9864 names it: Ed25519
    "Ed25519": ("OKP", "Ed25519"),
}
_RSA_BITS = (2_048, 8_192)
_EXPONENT_MAX_BITS = 32
#: Members of a header by which a token brings its own key, or asks to be read in another way.
_REFUSED = ("jwk", "jku", "x5u", "x5c", "crit", "b64", "zip", "enc")


class BadToken(ValueError):
    """The text is no token that can be accepted; the message names why, never the token."""


class NoSuchKey(BadToken):
    """Its key is not among those of the issuer."""

    def __init__(self, kid: str) -> None:
        super().__init__("the token was signed with a key that is not known here (kid)")
        self.kid = kid


class NoKeyFits(ValueError):
    """A key set has keys, and none can verify by the algorithms asked for: they are gone, or not made yet."""


@dataclass(frozen=True, slots=True)
class SignedText:
    """A token taken apart, nothing verified: `header`, the `payload` bytes, `signed` and its `signature`."""

    header: Mapping[str, Any]
    payload: bytes
    signed: bytes
    signature: bytes

    @property
    def kid(self) -> str:
        """The id of the key that it was signed with."""
        return str(self.header["kid"])


def read_signed(token: str, limits: TokenLimits) -> SignedText:
    """Take a token apart; BadToken for everything that is not exactly three parts of strict base64url.

    The header must be a JSON object without double names that names `alg` and `kid` as texts.
    """
    parts = token.split(".")
    if len(parts) != 3:
        raise BadToken("it has not three parts (JWS in compact form)")
    if len(parts[0]) > limits.header_bytes_max:
        raise BadToken(f"its header is longer than {limits.header_bytes_max} bytes")
    try:
        head, body, signature = (part.encode("ascii") for part in parts)
        header = read_json(urlsafe_b64decode(head), depth_max=4)
        payload, signature = urlsafe_b64decode(body), urlsafe_b64decode(signature)
    except BadToken as error:
        raise BadToken(f"its header cannot be read: {error}") from None
    except ValueError:  # of the alphabet, of base64
        raise BadToken("it is no strict base64url") from None
    for name in _REFUSED:
        if name in header:
            raise BadToken(f"its header has '{name}', which is not accepted here")
    kid = header.get("kid")
    if not isinstance(header.get("alg"), str):
        raise BadToken("its 'alg' is missing")
    if not isinstance(kid, str) or not 0 < len(kid) <= limits.kid_chars_max:
        raise BadToken(f"its 'kid' is no text of at most {limits.kid_chars_max} characters")
    return SignedText(header, payload, f"{parts[0]}.{parts[1]}".encode(), signature)


def verify_signed(text: SignedText, keys: Mapping[str, VerifyingKey], algorithms: Collection[str]) -> VerifyingKey:
    """The key that made the signature; NoSuchKey, or BadToken if algorithm, key or signature do not hold."""
    algorithm = text.header["alg"]
    if algorithm not in algorithms or algorithm not in _KEY_OF:
        raise BadToken("its 'alg' is not allowed for this issuer")
    key = keys.get(text.kid)
    if key is None:
        raise NoSuchKey(text.kid)
    if not _fits(key, algorithm):
        raise BadToken("its 'alg' does not fit the key")
    try:
        good = JWSRegistry.algorithms[algorithm].verify(text.signed, text.signature, key)
    except (JoseError, ValueError, TypeError):
        good = False
    if not good:
        raise BadToken("its signature is wrong")
    return key


def read_json(data: bytes, *, depth_max: int) -> dict[str, Any]:
    """A JSON object (RFC 8259) in UTF-8 without double names, NaN and deeper nesting; else BadToken."""
    try:
        text = data.decode("utf-8")
        if _depth(text) > depth_max:
            raise BadToken(f"its JSON is nested deeper than {depth_max}")
        value = json.loads(text, object_pairs_hook=_single, parse_constant=_no_constant)
    except BadToken:
        raise
    except (ValueError, RecursionError):
        raise BadToken("it holds no JSON") from None
    if not isinstance(value, dict):
        raise BadToken("it holds no JSON object")
    return value


def verifying_keys(document: object, *, algorithms: Collection[str], keys_max: int) -> dict[str, VerifyingKey]:
    """The keys of a JSON Web Key Set that can verify one of `algorithms`, by `kid`, else by thumbprint.

    Passed over: keys for encryption (`use`, `key_ops`), of other algorithms (`alg`), broken or weak ones, and all
    that share a `kid`. ValueError if it is no key set, is empty, or has more than `keys_max` keys; NoKeyFits if
    none is left.
    """
    if not isinstance(document, dict) or not isinstance(document.get("keys"), list):
        raise ValueError("no JSON Web Key Set: it has no list of keys")
    listed = document["keys"]
    if len(listed) > keys_max:
        raise ValueError(f"the key set has more than {keys_max} keys")
    found: dict[str, VerifyingKey] = {}
    seen: set[str] = set()
    for jwk in listed:
        kid = jwk.get("kid") if isinstance(jwk, dict) else None
        key = _imported(jwk)
        name = kid if isinstance(kid, str) else None if key is None else key.thumbprint()
        if name is None:
            continue
        if name in seen:  # which one is meant cannot be known
            found.pop(name, None)
        elif key is not None and any(_fits(key, algorithm) for algorithm in algorithms):
            found[name] = key
        seen.add(name)
    if not found:
        kind = NoKeyFits if listed else ValueError
        raise kind(f"the key set has no key for {', '.join(algorithms)}")
    return found


def _imported(jwk: object) -> VerifyingKey | None:
    """The public half of a key; None for a secret, and for what is broken or weak."""
    if not isinstance(jwk, dict) or jwk.get("kty") not in ("EC", "RSA", "OKP"):
        return None
    try:
        if jwk["kty"] == "RSA" and not _RSA_BITS[0] <= 8 * len(urlsafe_b64decode(jwk["n"].encode())) <= _RSA_BITS[1]:
            return None  # before the import, which is slow for long ones and warns of short ones
        key = JWKRegistry.import_key(jwk)
        if key.is_private:
            key = JWKRegistry.import_key(key.as_dict(private=False))
    except (JoseError, ValueError, KeyError, TypeError, AttributeError):
        return None
    if isinstance(key, RSAKey):
        return key if _is_strong(key) else None
    return key if isinstance(key, (ECKey, OKPKey)) else None


def _is_strong(key: RSAKey) -> bool:
    numbers = key.public_key.public_numbers()
    if not _RSA_BITS[0] <= numbers.n.bit_length() <= _RSA_BITS[1]:
        return False
    if numbers.e < 3 or numbers.e % 2 == 0 or numbers.e.bit_length() > _EXPONENT_MAX_BITS:
        return False
    return not all(numbers.n % prime in powers for prime, powers in _ROCA)


def _fits(key: VerifyingKey, algorithm: str) -> bool:
    kty, curve = _KEY_OF.get(algorithm, ("", None))
    if key.key_type != kty or (curve is not None and getattr(key, "curve_name", None) != curve):
        return False
    use, operations, own = key.get("use"), key.get("key_ops"), key.get("alg")
    if own is not None and own != algorithm and {own, algorithm} != {"EdDSA", "Ed25519"}:
        return False
    return use in (None, "sig") and (operations is None or "verify" in operations)


def _powers(prime: int) -> frozenset[int]:
    """The powers of 65537 modulo a prime."""
    found, value = set(), 1
    while value not in found:
        found.add(value)
        value = value * 65_537 % prime
    return frozenset(found)


#: Moduli that a broken chip library made (CVE-2017-15361) are powers of 65537 modulo each of these primes; others
#: are so by chance once in 2^27. Of the primes up to 167 those where that says something.
_ROCA = tuple(
    (prime, _powers(prime))
    for prime in (11, 13, 17, 19, 37, 53, 61, 71, 73, 79, 97, 103, 107, 109, 127, 151, 157)
)  # fmt: skip


def _single(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise BadToken("a name stands in it twice")
    return made


def _no_constant(name: str) -> object:
    raise BadToken(f"{name} is no JSON")


def _depth(text: str) -> int:
    """At least the nesting of a JSON text: brackets in strings count, which only makes it stricter."""
    depth = deepest = 0
    for character in text:
        if character in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif character in "]}":
            depth -= 1
    return deepest
