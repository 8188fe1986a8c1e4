"""Whose tokens a process takes, and how it checks them: with keys of the issuers, fetched or read from a file."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from penstock.errors import PenstockError
from penstock.http.credentials import JwtAccess
from penstock.http.discovery import check_address
from penstock.http.followed_issuer import FollowedIssuer
from penstock.http.issuers import Issuers
from penstock.http.open_issuer import OpenedIssuer, ResourceRules, name_of_issuer, open_issuer
from penstock.http.signatures import VerifyingKey
from penstock.http.tokens import TokenVerifier
from penstock.ports.clock import Clock
from penstock_app.settings import PenstockSettings

__all__ = ["external_issuers", "followed_issuer", "remote_access"]

#: What stands before subjects and marks of the embedded issuer.
_OWN_NAMES = frozenset({"account", "client"})


def followed_issuer(settings: PenstockSettings, names: Collection[str], *, clock: Clock) -> FollowedIssuer | None:
    """The first issuer, if this process must fetch its keys; None where it is the issuer, reads them from a file, or
    has it among those of `external_issuers`.

    `bad_request` if `auth.jwks_url` is not https beyond loopback.
    """
    follow, auth = settings.services.follow, settings.auth
    if auth.listed_issuer:
        return None
    if auth.issuer is not None:
        if auth.jwks_file is not None and auth.jwks_url is None:
            return None
        try:
            check_address(auth.jwks_url or auth.issuer, insecure_http=False)
        except ValueError as error:
            raise PenstockError("bad_request", f"auth.issuer: {error}") from None
        return FollowedIssuer(
            keys_url=auth.jwks_url, revocations_url=None, clock=clock, settings=follow, issuer=auth.issuer
        )
    if "publish" in names:
        return None
    url = settings.services.url_of("publish")
    return FollowedIssuer(
        keys_url=f"{url}/oauth/jwks.json", revocations_url=f"{url}/oauth/revocations", clock=clock, settings=follow
    )


def external_issuers(settings: PenstockSettings, *, clock: Clock) -> Sequence[OpenedIssuer]:
    """Those of `auth.issuers`, beside the first one or with it; their roles must run. Blocking: files are read.

    `bad_request` for two of the same name, whose subjects could not be told apart, and for a name of ours.
    """
    auth = settings.auth
    names = list({one.issuer: name_of_issuer(one) for one in auth.issuers}.values())
    for name in names:
        if names.count(name) > 1 or name in _OWN_NAMES:
            why = "another issuer has it" if names.count(name) > 1 else "subjects of this Penstock begin so"
            raise PenstockError("bad_request", f"auth.issuers: the name '{name}' cannot be taken: {why}; set `name`")
    rules = ResourceRules(
        audience=auth.audience,
        leeway_s=auth.leeway_s,
        cache_max=auth.token_cache_max,
        follow=settings.services.follow,
        limits=auth.limits,
    )
    return [open_issuer(one, rules, clock=clock, required=one.issuer == auth.issuer) for one in auth.issuers]


def remote_access(
    settings: PenstockSettings, followed: FollowedIssuer | None, *, public_url: str, clock: Clock
) -> JwtAccess:
    """Checks tokens of `auth.issuer`, else of the publish gateway at `public_url`. Blocking where a file is read."""
    auth = settings.auth
    if auth.listed_issuer:  # the caller adds all that are listed
        return JwtAccess(Issuers([]), public_url=public_url)
    keys: Mapping[str, VerifyingKey]
    if followed is not None:
        keys = followed.keys
    elif auth.jwks_file is not None:
        from penstock_publish.oauth.keys import read_public_keys

        keys = read_public_keys(auth.jwks_file)
    else:
        raise PenstockError("bad_request", "auth.issuer needs that issuer's keys: auth.jwks_url, or auth.jwks_file")
    verifier = TokenVerifier(
        keys,
        issuer=auth.issuer or public_url.rstrip("/"),
        audience=auth.audience,
        clock=clock,
        revoked={} if followed is None else followed.revoked,
        leeway_s=auth.leeway_s,
        cache_max=auth.token_cache_max,
    )
    return JwtAccess(verifier, public_url=public_url, keys=followed)
