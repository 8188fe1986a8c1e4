"""The port of outbound deliveries: how one kind of standing subscription is packed and sent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from penstock_publish.outbound.attempt import Attempt
from penstock_publish.outbound.reading import Gathered
from penstock_publish.outbound.standing import Served

__all__ = ["Courier", "Parcel"]


@dataclass(frozen=True, slots=True)
class Parcel:
    """What goes out as one: the same `id` and bytes for every try, by which a receiver tells repeats."""

    id: str
    body: bytes
    events: int


class Courier(Protocol[Served]):
    """It neither decides when something is sent, nor keeps anything but connections."""

    def recipients(self, standing: Served) -> tuple[str, ...]:
        """Who gets what is sent, one at least; `bad_request` where that is not allowed, or not any more."""
        ...

    def wait_s(self, standing: Served, now_ms: int) -> float:
        """How long events are gathered before the next parcel."""
        ...

    def pack(self, standing: Served, gathered: Gathered, now_ms: int) -> Parcel:
        """What says these events. Pure."""
        ...

    async def send(self, standing: Served, message: str, body: bytes, to: tuple[str, ...]) -> Attempt:
        """Try once; never raises for what the other side does."""
        ...

    def named(self, recipients: tuple[str, ...]) -> str:
        """Recipients as they are kept with what failed; empty where the subscription says it."""
        ...

    def sent_values(self, now_ms: int) -> Mapping[str, str | int]:
        """What is kept of a delivery beside the cursor."""
        ...

    async def close(self) -> None:
        """Take nothing more, and release the connections."""
        ...
