"""`penstock tail`: a topic as lines; the client library resumes by cursor after every break until told to stop."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass

import msgspec

from penstock.client import Gap, Notice
from penstock_app.api import Api

__all__ = ["TailRequest", "tail"]


@dataclass(frozen=True, slots=True)
class TailRequest:
    """What to subscribe to. `count` None: without end."""

    topic: str
    after: str
    count: int | None
    filter: str | None
    raw: bool


async def tail(
    api: Api, request: TailRequest, *, on_event: Callable[[str], None], on_notice: Callable[[str], None]
) -> None:
    """Call `on_event` with each line; notices (open, gap, expiring, closed, unreachable) go to `on_notice`.

    After a break it goes on from the last cursor. PenstockError when the first connection does not come about, or
    when the server says that this subscription will never do.
    """

    def on_gap(gap: Gap) -> None:
        told = {"sys": "gap", "t": gap.topic, "from": gap.from_cursor, "to": gap.to_cursor, "n": gap.events}
        on_notice(_line(told))

    def on_other(notice: Notice) -> None:
        on_notice(_line(notice.fields))

    seen = 0
    events = api.client.subscribe(
        request.topic, after=request.after, filter=request.filter, on_gap=on_gap, on_notice=on_other
    )
    async with aclosing(events):
        async for event in events:
            on_event(_line(event.data) if request.raw else event.line)
            seen += 1
            if seen == request.count:
                return


def _line(value: Mapping[str, object]) -> str:
    return msgspec.json.encode(value).decode()
