"""States of a topic, and what follows from them for callers: who sees it, what replies and sockets say. Pure.

Headers: `Deprecation` (RFC 9745), `Sunset` (RFC 8594), `Link` with `successor-version` (RFC 5829) and `deprecation`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from enum import StrEnum
from urllib.parse import quote

from penstock.errors import PenstockError
from penstock.http.access import Principal

__all__ = [
    "ADMIN_SCOPE",
    "PUBLISHED",
    "Lifecycle",
    "State",
    "check_open",
    "deprecated_notice",
    "page_headers",
    "sees",
]

ADMIN_SCOPE = "apps:admin"


class State(StrEnum):
    """DRAFT: only who may change it sees it. DEPRECATED: works, and says so. RETIRED: 410, and no socket."""

    DRAFT = "draft"
    PUBLISHED = "published"
    DEPRECATED = "deprecated"
    RETIRED = "retired"


@dataclass(frozen=True, slots=True)
class Lifecycle:
    """Where a topic is. Times are epoch seconds; `deprecated_at_s` is when it first became deprecated."""

    state: State = State.PUBLISHED
    version: str = "1"
    description: str = ""
    successor: str | None = None
    sunset_at_s: int | None = None
    deprecated_at_s: int | None = None

    def as_json(self) -> dict[str, object]:
        """As callers see it; times in ISO 8601, UTC."""
        return {
            "state": self.state.value,
            "version": self.version,
            "description": self.description,
            "successor": self.successor,
            "sunset": _iso(self.sunset_at_s),
            "deprecated_at": _iso(self.deprecated_at_s),
        }


#: What a topic is of which nothing has been said.
PUBLISHED = Lifecycle()


def sees(lifecycle: Lifecycle, principal: Principal | None) -> bool:
    """False for drafts, unless the caller may change apps."""
    return lifecycle.state is not State.DRAFT or (principal is not None and principal.allows(ADMIN_SCOPE))


def check_open(topic: str, lifecycle: Lifecycle, principal: Principal | None) -> None:
    """`unknown_topic` (404) for a draft that is not the caller's to see, `topic_retired` (410) after the end."""
    if not sees(lifecycle, principal):
        raise PenstockError("unknown_topic", f"there is no topic '{topic}'; GET /v1/topics lists them")
    if lifecycle.state is State.RETIRED:
        instead = f"; use {lifecycle.successor} instead" if lifecycle.successor else ""
        extra: dict[str, object] = {"successor": lifecycle.successor} if lifecycle.successor else {}
        raise PenstockError("topic_retired", f"{topic} has been retired{instead}", extra=extra)


def page_headers(topic: str, lifecycle: Lifecycle) -> list[tuple[str, str]]:
    """Headers of replies about a deprecated topic; none otherwise."""
    if lifecycle.state is not State.DEPRECATED:
        return []
    headers = [("Link", f'</docs/topics/{quote(topic, safe="")}>; rel="deprecation"; type="text/html"')]
    if lifecycle.deprecated_at_s is not None:
        headers.append(("Deprecation", f"@{lifecycle.deprecated_at_s}"))
    if lifecycle.sunset_at_s is not None:
        sunset = datetime.fromtimestamp(lifecycle.sunset_at_s, UTC)
        headers.append(("Sunset", format_datetime(sunset, usegmt=True)))
    if lifecycle.successor:
        headers.append(("Link", f'</v1/topics/{quote(lifecycle.successor, safe="")}>; rel="successor-version"'))
    return headers


def deprecated_notice(topic: str, lifecycle: Lifecycle) -> dict[str, object] | None:
    """The `sys` line for live connections of a deprecated topic; None otherwise."""
    if lifecycle.state is not State.DEPRECATED:
        return None
    return {
        "sys": "deprecated",
        "t": topic,
        "at": _iso(lifecycle.deprecated_at_s),
        "sunset": _iso(lifecycle.sunset_at_s),
        "successor": lifecycle.successor,
    }


def _iso(at_s: int | None) -> str | None:
    return None if at_s is None else datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
