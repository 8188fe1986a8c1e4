"""Where a webhook may go: an address is looked up once, judged, and that very address is connected to.

Otherwise a name could lead into the network of the gateway (SSRF), or say one address when it is judged and another
one when it is connected to (DNS rebinding).
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from urllib.parse import urlsplit

from aiohttp.abc import AbstractResolver, ResolveResult

from penstock.errors import PenstockError
from penstock_publish.webhooks.settings import WebhookSettings

__all__ = ["JudgingResolver", "allowed", "check_url"]

_Networks = Sequence[IPv4Network | IPv6Network]

#: IPv6 networks whose addresses end in an IPv4 address to which a translator may pass on (RFC 6052, 2.1; RFC 7915;
#: RFC 4291, 2.5.5.1).
_TRANSLATED = tuple(map(IPv6Network, ("64:ff9b::/96", "::ffff:0:0:0/96", "::/96")))
#: IPv6 networks of a site that `ipaddress` counts as global: translation by local rules (RFC 8215), and RFC 3879.
_LOCAL = tuple(map(IPv6Network, ("64:ff9b:1::/48", "fec0::/10")))


def check_url(url: str, settings: WebhookSettings) -> None:
    """`bad_request` says what is wrong with an address, as far as its text tells."""
    if len(url) > settings.url_chars_max or not url.isascii() or not url.isprintable() or " " in url:
        raise PenstockError("bad_request", f"url has at most {settings.url_chars_max} characters of ASCII")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise PenstockError("bad_request", f"url cannot be read: {error}") from None
    if parts.scheme != "https" and not (parts.scheme == "http" and settings.insecure_http):
        raise PenstockError("bad_request", "url begins with https:// (http:// where webhooks.insecure_http is set)")
    if not host or port == 0 or parts.username is not None or parts.password is not None or parts.fragment:
        raise PenstockError("bad_request", "url has a host, and neither a user nor a password nor a fragment")
    try:
        literal = ipaddress.ip_address(host)
    except ValueError:
        return
    if not allowed(literal, settings.networks_allowed):
        raise _forbidden(host, str(literal))


def allowed(address: IPv4Address | IPv6Address, networks: _Networks) -> bool:
    """True for addresses of the internet, and those of `networks`; an IPv4 address within IPv6 counts as itself."""
    if isinstance(address, IPv6Address):
        address = _embedded(address) or address
    if any(address.version == network.version and address in network for network in networks):
        return True
    if isinstance(address, IPv6Address) and any(address in network for network in _LOCAL):
        return False
    return address.is_global and not address.is_multicast


class JudgingResolver(AbstractResolver):
    """Looks a host up and gives the connector addresses that a webhook may go to; OSError where there is none."""

    def __init__(self, networks: _Networks) -> None:
        self._networks = networks

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """See aiohttp. One forbidden address among several forbids the host."""
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, family=family)
        results = []
        for kind, _, protocol, _, address in found:
            if not allowed(ipaddress.ip_address(address[0]), self._networks):
                raise OSError(f"{host} is {address[0]}, where webhooks must not go")
            results.append(
                ResolveResult(
                    hostname=host,
                    host=str(address[0]),
                    port=port,
                    family=kind,
                    proto=protocol,
                    flags=socket.AI_NUMERICHOST,
                )
            )
        return results

    async def close(self) -> None:
        """Nothing is kept."""


def _embedded(address: IPv6Address) -> IPv4Address | None:
    """The IPv4 address that is reached by way of this one, if any."""
    if any(address in network for network in _TRANSLATED) and not (address.is_loopback or address.is_unspecified):
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped or address.sixtofour


def _forbidden(host: str, address: str) -> PenstockError:
    return PenstockError(
        "bad_request", f"{host} is {address}, where webhooks must not go; webhooks.networks_allowed can allow it"
    )
