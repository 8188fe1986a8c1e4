"""Pages of the list of applications, in the order in which they were registered. Pure."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass

from penstock.errors import PenstockError
from penstock_publish.applications.application import Application
from penstock_publish.applications.settings import ApplicationSettings

__all__ = ["Place", "asked_page", "cursor_after"]


@dataclass(frozen=True, slots=True)
class Place:
    """After this application: when it was registered, and its id."""

    created_at_ms: int
    client_id: str


def asked_page(query: Mapping[str, str], settings: ApplicationSettings) -> tuple[Place | None, int]:
    """`cursor` and `limit` of a request; `bad_request`, `bad_cursor`."""
    most = settings.page_limit_max
    text = query.get("limit", str(settings.page_limit))
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:10]) <= most:
        raise PenstockError("bad_request", f"limit is a number from 1 to {most}")
    cursor = query.get("cursor", "")
    return (_place(cursor) if cursor else None), int(text)


def cursor_after(application: Application) -> str:
    """Where the page goes on that ends with it."""
    text = f"{application.created_at_ms} {application.client_id}"
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _place(cursor: str) -> Place:
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode("ascii")
        created_at_ms, client_id = text.split(" ")
        place = Place(int(created_at_ms), client_id)
    except ValueError:
        place = None
    if place is None or not place.client_id.isprintable() or not 0 <= place.created_at_ms < 1 << 62:
        raise PenstockError("bad_cursor", f"'{cursor[:40]}' is not a cursor of this list; use `next` of a page of it")
    return place
