"""What a client gives: events, gaps, notices, results of publishing. Nothing here does anything."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Event", "Gap", "Notice", "Published", "QueryResult", "Rejection", "Token"]


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a topic.

    `cursor` names the place after it: pass it as `after=` and you get what follows. `key` is text (a composite key is
    its JSON array), None where the topic has none. Of tables `op` is `+I`, `+U` or `-D` and `complete` says that the
    row's window has ended; of streams both are None. `data` are the columns; `line` is the envelope as it came.
    """

    topic: str
    cursor: str
    key: str | None
    op: str | None
    complete: bool | None
    data: dict[str, Any]
    line: str = field(default="", repr=False, compare=False)
    acknowledge: Callable[[str], None] | None = field(default=None, repr=False, compare=False)

    def ack(self) -> None:
        """This event and all before it are done with: a durable subscription goes on after it. Else: nothing."""
        if self.acknowledge is not None:
            self.acknowledge(self.cursor)


@dataclass(frozen=True, slots=True)
class QueryResult:
    """Rows of a SQL query. `columns`: SQL types by name, in order; `truncated`: the server has more."""

    columns: dict[str, str]
    rows: tuple[dict[str, Any], ...]
    truncated: bool


@dataclass(frozen=True, slots=True)
class Gap:
    """Events that did not come: after `from_cursor`, up to and with `to_cursor`; `events` None: unknown how many.

    They are gone by the topic's retention, or were skipped because this subscriber was too slow; what the log still
    has, `history(topic, after=gap.from_cursor)` gives.
    """

    topic: str
    from_cursor: str
    to_cursor: str
    events: int | None


@dataclass(frozen=True, slots=True)
class Notice:
    """What else happens on a subscription: `kind` is open, expiring, hb, quota, or whatever the server says; and of
    the client itself `closed` (with `code`), `unreachable`, `refused` (with `detail`), `renewed`. `fields` has all.
    """

    topic: str
    kind: str
    fields: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Rejection:
    """An event that was not accepted: `index` counts the events of the whole call."""

    index: int
    id: str | None
    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class Published:
    """What became of the events of one call; `rejections` are the first of them (`rejections_kept_max`)."""

    accepted: int = 0
    duplicate: int = 0
    rejected: int = 0
    rejections: tuple[Rejection, ...] = ()

    @property
    def sent(self) -> int:
        """Events of the call so far."""
        return self.accepted + self.duplicate + self.rejected


@dataclass(frozen=True, slots=True)
class Token:
    """An access token; `expires_in_s` None: unknown, it is used until it is refused."""

    text: str = field(repr=False)
    expires_in_s: float | None = None
