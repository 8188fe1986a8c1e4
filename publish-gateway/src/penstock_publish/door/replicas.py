"""The replicas of one service behind the door: which of them is asked, and whom a request may be sent to next."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from penstock.role import Check
from penstock_publish.door.service_link import ServiceLink
from penstock_publish.metrics import DOOR_SERVICE_UP
from penstock_publish.settings import DoorSettings

__all__ = ["Replicas"]


class Replicas:
    """Links to one or several processes of `role`. `open` before use, `close` at the end."""

    def __init__(self, role: str, urls: Sequence[str], settings: DoorSettings) -> None:
        self.role = role
        self._settings = settings
        self._links = [ServiceLink(role, url, settings) for url in urls]
        self._preferred = self._links[0]

    @property
    def several(self) -> bool:
        """Whether there is somebody else to ask."""
        return len(self._links) > 1

    def in_turn(self) -> list[ServiceLink]:
        """Every replica once: that which answered last (so that a caller reads what it wrote), those that are known
        to be away at the end.
        """
        others = [link for link in self._links if link is not self._preferred]
        return sorted([self._preferred, *others], key=lambda link: link.is_away)

    def answered(self, link: ServiceLink) -> None:
        """Ask this one first from now on."""
        self._preferred = link

    def check(self) -> Check:
        """Ready once one of them has answered."""
        checks = [link.check() for link in self._links]
        details = [check.detail for check in checks]
        return Check(f"service {self.role}", any(check.ok for check in checks), "; ".join(details))

    def open(self) -> None:
        """Make the pools of connections; must be called on the event loop."""
        for link in self._links:
            link.open()

    async def watch(self) -> None:
        """Ask each now and then whether it is there."""
        while True:
            await asyncio.gather(*(link.ask() for link in self._links))
            DOOR_SERVICE_UP.labels(self.role).set(any(not link.is_away for link in self._links))
            await asyncio.sleep(self._settings.watch_s)

    async def close(self) -> None:
        """Release the connections."""
        for link in self._links:
            await link.close()
