"""Failed attempts to be a client, by client and network address. Pure: in memory, the time is passed in.

Secrets have 256 random bits, so this is not what keeps them from being guessed: it keeps whoever tries from taking
the time of the others. It keeps no client out that has got in from the same address before: others may share the
address, behind a proxy for instance.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from dataclasses import dataclass

from penstock.errors import PenstockError
from penstock_publish.oauth.settings import ClientSecretSettings

__all__ = ["FailedClients", "network_of"]


@dataclass(slots=True)
class _Failures:
    count: int
    since_s: float


class FailedClients:
    """Counts in windows that begin with a failure. Times are of one clock that does not go back."""

    def __init__(self, settings: ClientSecretSettings) -> None:
        self._settings = settings
        self._counted: OrderedDict[tuple[str, str], _Failures] = OrderedDict()  # by begin of their window
        self._known: OrderedDict[tuple[str, str], None] = OrderedDict()  # who got in, the latest last

    def check(self, client_id: str, address: str, now_s: float) -> None:
        """`too_many_requests` for one that must wait."""
        if (network_of(address), client_id) in self._known:
            return
        for key, limit in self._limits(client_id, address):
            counted = self._counted.get(key)
            if counted is None or counted.count < limit:
                continue
            wait_s = counted.since_s + self._settings.failures_window_s - now_s
            if wait_s > 0:
                detail = "too many requests from here with a client that is not there, or not with its secret; wait"
                raise PenstockError("too_many_requests", detail, retry_after_s=wait_s)

    def failed(self, client_id: str, address: str, now_s: float) -> None:
        """Count one."""
        self._forget(now_s)
        for key, _ in self._limits(client_id, address):
            self._counted.setdefault(key, _Failures(0, now_s)).count += 1

    def succeeded(self, client_id: str, address: str) -> None:
        """It has proved who it is."""
        self._known[network_of(address), client_id] = None
        self._known.move_to_end((network_of(address), client_id))
        while len(self._known) > self._settings.failures_kept_max:
            self._known.popitem(last=False)

    def _limits(self, client_id: str, address: str) -> tuple[tuple[tuple[str, str], int], ...]:
        network = network_of(address)
        return (
            ((network, ""), self._settings.failures_address_max),
            ((network, client_id or "-"), self._settings.failures_client_max),
        )

    def _forget(self, now_s: float) -> None:
        while self._counted:
            key, oldest = next(iter(self._counted.items()))
            over = now_s - oldest.since_s >= self._settings.failures_window_s
            if not over and len(self._counted) < self._settings.failures_kept_max:
                return
            del self._counted[key]


def network_of(address: str) -> str:
    """An address as it is counted: whoever has an IPv6 address has its /64."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address[:100]
    return str(found) if found.version == 4 else str(ipaddress.ip_network((found, 64), strict=False))
