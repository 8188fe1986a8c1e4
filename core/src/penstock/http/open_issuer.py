"""From the settings of an issuer to what checks its tokens, and to what has to run for that."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from penstock.errors import PenstockError
from penstock.http.claims import TokenProfile
from penstock.http.discovery import check_address
from penstock.http.followed_issuer import FollowedIssuer, FollowSettings
from penstock.http.introspection import Introspector
from penstock.http.issuers import TrustedIssuer
from penstock.http.settings import IntrospectionSettings, IssuerSettings, TokenLimits
from penstock.http.signatures import VerifyingKey, verifying_keys
from penstock.http.tokens import TokenVerifier
from penstock.ports.clock import Clock
from penstock.role import Role

__all__ = ["OpenedIssuer", "ResourceRules", "name_of_issuer", "open_issuer"]


@dataclass(frozen=True, slots=True)
class ResourceRules:
    """What holds for every issuer: the audience where it has no other, clocks, and how much is remembered."""

    audience: str
    leeway_s: int
    cache_max: int
    follow: FollowSettings
    limits: TokenLimits


@dataclass(frozen=True, slots=True)
class OpenedIssuer:
    """An issuer whose tokens can be checked while `roles` run."""

    trusted: TrustedIssuer
    roles: tuple[Role, ...]


def open_issuer(
    settings: IssuerSettings,
    rules: ResourceRules,
    *,
    clock: Clock,
    required: bool = False,
    environment: Mapping[str, str] | None = None,
) -> OpenedIssuer:
    """`required`: the process is not ready without its keys. `bad_request` names the setting that is wrong. Blocking:
    files are read.
    """
    place = f"auth.issuers: {settings.issuer[:200]}"
    if urlsplit(settings.issuer).scheme not in ("http", "https"):
        raise PenstockError("bad_request", f"{place}: an issuer is an address, as `iss` of its tokens has it")
    asked_at = None if settings.introspection is None else settings.introspection.url
    for url in (settings.issuer, settings.jwks_url, asked_at):
        _check(url, place, insecure_http=settings.insecure_http)
    profile = TokenProfile(
        algorithms=frozenset(settings.algorithms),
        lenient=settings.profile == "jwt",
        scope_claim=settings.scope_claim,
        scope_prefix=settings.scope_prefix,
        scope_map=settings.scope_map,
        name=name_of_issuer(settings),
        limits=rules.limits,
    )
    audience = settings.audience or rules.audience
    introspector = None
    if settings.introspection is not None:
        introspector = Introspector(
            issuer=settings.issuer,
            audience=audience,
            secret=_secret(settings.introspection, place, os.environ if environment is None else environment),
            settings=settings.introspection,
            profile=profile,
            clock=clock,
            leeway_s=rules.leeway_s,
            insecure_http=settings.insecure_http,
        )
    roles: list[Role] = [] if introspector is None else [introspector]
    if settings.jwks_url is None and settings.jwks_file is None and introspector is not None:
        return OpenedIssuer(TrustedIssuer(settings.issuer, introspector=introspector), tuple(roles))
    followed = None
    if settings.jwks_file is not None:
        keys = _keys_in(settings.jwks_file, settings, rules.follow.keys_max)
    else:
        followed = _followed(settings, rules.follow, clock, required=required)
        keys = followed.keys
        roles.append(followed)
    verifier = TokenVerifier(
        keys,
        issuer=settings.issuer,
        audience=audience,
        clock=clock,
        revoked=frozenset(),
        leeway_s=rules.leeway_s,
        cache_max=rules.cache_max,
        profile=profile,
    )
    return OpenedIssuer(TrustedIssuer(settings.issuer, verifier, followed, introspector), tuple(roles))


def name_of_issuer(settings: IssuerSettings) -> str:
    """What stands before its subjects and clients."""
    return settings.name or urlsplit(settings.issuer).netloc


def _followed(settings: IssuerSettings, follow: FollowSettings, clock: Clock, *, required: bool) -> FollowedIssuer:
    return FollowedIssuer(
        keys_url=settings.jwks_url,
        revocations_url=None,
        clock=clock,
        settings=follow.model_copy(
            update={
                "keys_min_interval_s": settings.keys_min_interval_s,
                "revocations_poll_s": min(follow.keys_refresh_s, settings.keys_min_interval_s),
            }
        ),
        issuer=settings.issuer,
        algorithms=settings.algorithms,
        insecure_http=settings.insecure_http,
        required=required,
    )


def _check(url: str | None, place: str, *, insecure_http: bool) -> None:
    if url is None:
        return
    try:
        check_address(url, insecure_http=insecure_http)
    except ValueError as error:
        raise PenstockError("bad_request", f"{place}: {error}") from None


def _keys_in(path: Path, settings: IssuerSettings, keys_max: int) -> dict[str, VerifyingKey]:
    try:
        return verifying_keys(json.loads(path.read_text()), algorithms=settings.algorithms, keys_max=keys_max)
    except (OSError, ValueError) as error:
        raise PenstockError("bad_request", f"auth.issuers: jwks_file {path}: {error}") from None


def _secret(settings: IntrospectionSettings, place: str, environment: Mapping[str, str]) -> str:
    if settings.client_secret_env is not None:
        secret = environment.get(settings.client_secret_env, "")
        source = f"the environment variable {settings.client_secret_env}"
    else:
        assert settings.client_secret_file is not None, "the settings demand one of the two"
        source = str(settings.client_secret_file)
        try:
            secret = settings.client_secret_file.read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise PenstockError("bad_request", f"{place}: introspection: {source}: {error}") from None
    if not secret:
        raise PenstockError("bad_request", f"{place}: introspection: {source} holds no secret")
    return secret
