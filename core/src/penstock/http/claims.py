"""From the claims of a token to its principal: RFC 9068 by default, or as an issuer's profile says. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from penstock.http.access import Principal
from penstock.http.authorization_details import read_authorization_details
from penstock.http.settings import TokenLimits

__all__ = ["TOKEN_TYPE", "BadClaims", "Expired", "TokenProfile", "accepts_type", "principal_of", "read_audience"]

TOKEN_TYPE = "at+jwt"

_TYPES = (TOKEN_TYPE, f"application/{TOKEN_TYPE}")  # RFC 9068, 4: both forms, compared without case
_LENIENT_TYPES = (*_TYPES, "jwt", "application/jwt")
#: Claims of ID tokens (OpenID Connect Core, 2 and 3.1.3.6; Back-Channel Logout, 2.4), which are no access tokens.
_OF_ID_TOKENS = ("nonce", "at_hash", "c_hash", "events")
_OTHER_KINDS = ("id", "refresh", "offline", "logout")  # the claim `typ`, as Keycloak writes it
_LAST_S = 253_402_300_799  # the year 9999
_TEXT_MAX = 1_024  # characters of a subject, client or token id


class BadClaims(ValueError):
    """The claims do not make a valid access token; the message says why."""


class Expired(BadClaims):
    """`exp` has passed."""


@dataclass(frozen=True, slots=True)
class TokenProfile:
    """How an issuer's tokens are read; the defaults are RFC 9068 with ES256. See `settings.IssuerSettings`."""

    algorithms: frozenset[str] = frozenset({"ES256"})
    lenient: bool = False
    scope_claim: str = "scope"
    scope_prefix: str = ""
    scope_map: Mapping[str, str] = field(default_factory=dict)
    name: str = ""
    limits: TokenLimits = field(default_factory=TokenLimits)


def accepts_type(header: Mapping[str, Any], profile: TokenProfile) -> bool:
    """True if `typ` of the header is that of an access token (RFC 8725, 3.11)."""
    kind = header.get("typ")
    if kind is None:
        return profile.lenient
    return isinstance(kind, str) and kind.lower() in (_LENIENT_TYPES if profile.lenient else _TYPES)


def principal_of(
    claims: Mapping[str, Any],
    profile: TokenProfile,
    *,
    issuer: str,
    audience: str,
    now_s: float,
    leeway_s: float,
    fallback_id: str,
) -> Principal:
    """The principal if issuer, audience and times hold; BadClaims or Expired. `fallback_id` stands for no `jti`."""
    if claims.get("iss") != issuer:
        raise BadClaims("its issuer ('iss') is another")
    if audience not in read_audience(claims.get("aud")):
        raise BadClaims(f"it is not for the audience '{audience}' ('aud')")
    expires_at_s = _check_times(claims, now_s=now_s, leeway_s=leeway_s, lenient=profile.lenient)
    if profile.lenient and (
        any(name in claims for name in _OF_ID_TOKENS) or str(claims.get("typ", "")).lower() in _OTHER_KINDS
    ):
        raise BadClaims("it is no access token")
    try:
        details = read_authorization_details(claims.get("authorization_details"), profile.limits)
    except ValueError as error:
        raise BadClaims(str(error)) from None
    token_id = fallback_id if profile.lenient and "jti" not in claims else _text(claims, "jti")
    return Principal(
        subject=_named(profile, _text(claims, "sub")),
        client_id=_named(profile, _client(claims, profile)),
        scopes=_scopes(claims, profile),
        expires_at_s=expires_at_s,
        token_id=_named(profile, token_id),
        details=details,
    )


def read_audience(value: object) -> tuple[str, ...]:
    """`aud` (RFC 7519, 4.1.3): a text or a list of texts; BadClaims otherwise."""
    if isinstance(value, str):
        return (value,)
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return tuple(value)
    raise BadClaims("'aud' is no text and no list of texts")


def _check_times(claims: Mapping[str, Any], *, now_s: float, leeway_s: float, lenient: bool) -> float:
    """`exp`, `iat` and `nbf` (RFC 7519, 4.1.4 to 4.1.6); `exp`."""
    expires_at_s = _time(claims, "exp")
    if expires_at_s is None:
        raise BadClaims("'exp' is missing")
    if expires_at_s <= now_s - leeway_s:
        raise Expired("the token has expired")
    issued_at_s, not_before_s = _time(claims, "iat"), _time(claims, "nbf")
    if issued_at_s is None and not lenient:
        raise BadClaims("'iat' is missing")
    for name, at_s in (("iat", issued_at_s), ("nbf", not_before_s)):
        if at_s is not None and at_s > now_s + leeway_s:
            raise BadClaims(f"'{name}' is in the future")
    return expires_at_s


def _time(claims: Mapping[str, Any], name: str) -> float | None:
    if name not in claims:
        return None
    value = claims[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise BadClaims(f"'{name}' is no number of seconds")
    if not 0 <= value <= _LAST_S:
        raise BadClaims(f"'{name}' is no time")
    return float(value)


def _client(claims: Mapping[str, Any], profile: TokenProfile) -> str:
    if not profile.lenient or "client_id" in claims:
        return _text(claims, "client_id")
    return _text(claims, "azp" if "azp" in claims else "sub")


def _text(claims: Mapping[str, Any], name: str) -> str:
    value = claims.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= _TEXT_MAX:
        raise BadClaims(f"'{name}' is no text of 1 to {_TEXT_MAX} characters")
    return value


def _named(profile: TokenProfile, text: str) -> str:
    return f"{profile.name}:{text}" if profile.name else text


def _scopes(claims: Mapping[str, Any], profile: TokenProfile) -> frozenset[str]:
    name = profile.scope_claim
    value = _claim(claims, name)
    if value is None:
        return frozenset()
    if isinstance(value, str):
        listed = value.split()
    elif name != "scope" and isinstance(value, list) and all(isinstance(one, str) for one in value):
        listed = value
    else:
        raise BadClaims(f"'{name}' holds no scopes")
    if len(listed) > profile.limits.scopes_max:
        raise BadClaims(f"it has more than {profile.limits.scopes_max} scopes")
    found: list[str] = []
    for scope in listed:
        if scope in profile.scope_map:
            found += profile.scope_map[scope].split()
        elif scope.startswith(profile.scope_prefix):
            found.append(scope[len(profile.scope_prefix) :])
    return frozenset(found) - {""}


def _claim(claims: Mapping[str, Any], name: str) -> object:
    """The claim of that very name, else the one that a path with dots leads to."""
    if name in claims:
        return claims[name]
    value: object = claims
    for part in name.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return None
        value = value[part]
    return value
