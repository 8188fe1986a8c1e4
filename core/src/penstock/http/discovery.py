"""Where an issuer has its keys: its metadata (RFC 8414, OpenID Connect Discovery), fetched within limits.

Addresses are https, or plain HTTP on loopback, and redirects are not followed: whoever can answer for another host
could bring keys of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

import aiohttp
import msgspec

from penstock.http.listener import is_loopback

__all__ = ["IssuerMetadata", "check_address", "fetch_json", "fetch_metadata", "metadata_urls", "read_limited",
           "read_metadata"]  # fmt: skip


@dataclass(frozen=True, slots=True)
class IssuerMetadata:
    """What is taken from an issuer's metadata."""

    jwks_uri: str | None
    introspection_endpoint: str | None


def metadata_urls(issuer: str) -> tuple[str, ...]:
    """Where the metadata may be: RFC 8414, 3.1 (before the path), then OpenID Connect (behind it, and before it)."""
    parts = urlsplit(issuer)
    origin, path = f"{parts.scheme}://{parts.netloc}", parts.path.rstrip("/")
    found = (
        f"{origin}/.well-known/oauth-authorization-server{path}",
        f"{origin}{path}/.well-known/openid-configuration",
        f"{origin}/.well-known/openid-configuration{path}",
    )
    return tuple(dict.fromkeys(found))


def read_metadata(document: object, issuer: str, *, insecure_http: bool) -> IssuerMetadata:
    """Check a metadata document: `issuer` must be the very one asked for (RFC 8414, 3.3). ValueError otherwise."""
    if not isinstance(document, dict):
        raise ValueError("its metadata is no JSON object")
    if document.get("issuer") != issuer:
        raise ValueError(f"its metadata is that of another issuer: {str(document.get('issuer'))[:200]!r}")
    endpoints = []
    for name in ("jwks_uri", "introspection_endpoint"):
        url = document.get(name)
        if url is not None:
            if not isinstance(url, str):
                raise ValueError(f"'{name}' of its metadata is no address")
            check_address(url, insecure_http=insecure_http, loopback=is_loopback(urlsplit(issuer).hostname or ""))
        endpoints.append(url)
    return IssuerMetadata(*endpoints)


def check_address(url: str, *, insecure_http: bool, loopback: bool = True) -> None:
    """ValueError unless `url` is https, or plain HTTP where that is allowed: on loopback if `loopback`."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        raise ValueError(f"'{url[:200]}' is no address") from None
    if parts.scheme not in ("http", "https") or not host or parts.username is not None or parts.fragment:
        raise ValueError(f"'{url[:200]}' is no address that can be asked")
    if is_loopback(host) and not loopback:
        raise ValueError(f"'{url[:200]}' is on loopback and its issuer is not")
    if parts.scheme == "http" and not (insecure_http or is_loopback(host)):
        raise ValueError(f"'{url[:200]}' is not https (insecure_http would allow it)")


async def fetch_metadata(
    session: aiohttp.ClientSession, issuer: str, *, insecure_http: bool, max_bytes: int
) -> IssuerMetadata:
    """Ask for the metadata at each place where it may be; ValueError, or what aiohttp raises, if there is none."""
    trouble: Exception = ValueError("it has no metadata")
    for url in metadata_urls(issuer):
        try:
            document = await fetch_json(session, url, max_bytes=max_bytes)
        except (ValueError, aiohttp.ClientResponseError) as error:
            trouble = error
            continue
        return read_metadata(document, issuer, insecure_http=insecure_http)
    raise trouble


async def fetch_json(session: aiohttp.ClientSession, url: str, *, max_bytes: int) -> object:
    """The JSON at `url`; ValueError for a status that is not 200 (redirects too), a large body, or no JSON."""
    async with session.get(url, allow_redirects=False, headers={"Accept": "application/json"}) as reply:
        return msgspec.json.decode(await read_limited(reply, max_bytes))


async def read_limited(reply: aiohttp.ClientResponse, max_bytes: int, *, name: str = "keys_max_bytes") -> bytes:
    """The body of a 200; ValueError otherwise, and beyond `max_bytes`, which is the limit `name`."""
    if reply.status != 200:
        raise ValueError(f"{reply.url.with_query(None)} answers {reply.status}")
    body = bytearray()
    async for chunk in reply.content.iter_any():
        body += chunk
        if len(body) > max_bytes:
            raise ValueError(f"the reply of {reply.url.with_query(None)} has more than {max_bytes} bytes ({name})")
    return bytes(body)
