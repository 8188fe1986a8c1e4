"""Where a webhook may go: an address is looked up once, judged, and that very address is connected to.

Otherwise a name could lead into the network of the gateway (SSRF), or say one address when it is judged and another
one when it is connected to (DNS rebinding).
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from urllib.parse import urlsplit

from aiohttp import AddrInfoType
from aiohttp.abc import AbstractResolver, ResolveResult

from penstock.errors import PenstockError
from penstock_publish.webhooks.settings import WebhookSettings

__all__ = ["JudgingResolver", "allowed", "check_url", "judging_sockets"]

_Networks = Sequence[IPv4Network | IPv6Network]
#: A host name as DNS has them; the last label of one is no number (RFC 3696, 2), that of an address is.
_NAME = re.compile(r"(?:[A-Za-z0-9_-]{1,63}\.)*(?=[A-Za-z0-9-]*[A-Za-z])(?!0[xX])[A-Za-z0-9-]{1,63}\.?")
#: Below it are protocols that a request must not be mistaken for, such as SMTP.
_PORT_MIN = 1_024
_PORTS = (80, 443)

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
    if port is not None and not (port in _PORTS or port >= _PORT_MIN):
        raise PenstockError("bad_request", f"url has port 443 or 80, or one from {_PORT_MIN} on")
    if not host or parts.username is not None or parts.password is not None or parts.fragment:
        raise PenstockError("bad_request", "url has a host, and neither a user nor a password nor a fragment")
    try:
        literal = ipaddress.ip_address(host)
    except ValueError:
        # Whoever connects may take `127.1` or `0x7f000001` for an address, which nobody has judged.
        if _NAME.fullmatch(host) is None:
            raise PenstockError("bad_request", "the host of url is neither a name nor a plain address") from None
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
    """Looks a host up and gives the connector addresses that a webhook may go to; OSError where there is none.

    In threads of its own, `lookups_max`: names of others may take as long as their servers like.
    """

    def __init__(self, networks: _Networks, *, lookups_max: int) -> None:
        self._networks = networks
        self._threads = ThreadPoolExecutor(lookups_max, thread_name_prefix="penstock-webhook-names")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """See aiohttp. One forbidden address among several forbids the host."""
        looking = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM, family=family)
        found = await asyncio.get_running_loop().run_in_executor(self._threads, looking)
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
        """Look nothing up any more."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def judging_sockets(networks: _Networks) -> Callable[[AddrInfoType], socket.socket]:
    """Makes sockets for addresses that a webhook may go to; OSError for others.

    The last word: an address that stands in the URL itself is never looked up.
    """

    def made(info: AddrInfoType) -> socket.socket:
        family, kind, protocol, _, place = info
        if not allowed(ipaddress.ip_address(str(place[0])), networks):
            raise OSError(f"{place[0]} is where webhooks must not go")
        return socket.socket(family, kind, protocol)

    return made


def _embedded(address: IPv6Address) -> IPv4Address | None:
    """The IPv4 address that is reached by way of this one, if any."""
    if any(address in network for network in _TRANSLATED) and not (address.is_loopback or address.is_unspecified):
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped or address.sixtofour


def _forbidden(host: str, address: str) -> PenstockError:
    return PenstockError(
        "bad_request", f"{host} is {address}, where webhooks must not go; webhooks.networks_allowed can allow it"
    )
