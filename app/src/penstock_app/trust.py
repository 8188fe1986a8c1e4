"""How a process without the role publish checks tokens: with the keys of the issuer, fetched or read from a file."""

from __future__ import annotations

from collections.abc import Collection

from penstock.errors import PenstockError
from penstock.http.access import Access
from penstock.http.credentials import JwtAccess
from penstock.http.followed_issuer import FollowedIssuer
from penstock.http.tokens import TokenVerifier
from penstock.ports.clock import Clock
from penstock_app.settings import PenstockSettings

__all__ = ["followed_issuer", "remote_access"]


def followed_issuer(settings: PenstockSettings, names: Collection[str], *, clock: Clock) -> FollowedIssuer | None:
    """The issuer whose keys this process must fetch; None where it is the issuer, or reads them from a file."""
    follow = settings.services.follow
    if settings.auth.issuer is not None:
        if settings.auth.jwks_url is None:
            return None
        return FollowedIssuer(keys_url=settings.auth.jwks_url, revocations_url=None, clock=clock, settings=follow)
    if "publish" in names:
        return None
    url = settings.services.url_of("publish")
    return FollowedIssuer(
        keys_url=f"{url}/oauth/jwks.json", revocations_url=f"{url}/oauth/revocations", clock=clock, settings=follow
    )


def remote_access(
    settings: PenstockSettings, followed: FollowedIssuer | None, *, public_url: str, clock: Clock
) -> Access:
    """Checks tokens of `auth.issuer`, else of the publish gateway at `public_url`. Blocking where a file is read."""
    auth = settings.auth
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
