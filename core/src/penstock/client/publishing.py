"""Events into a source stream: NDJSON in bounded requests that may be repeated, since every event has an id."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, TypeVar
from urllib.parse import quote

import msgspec

from penstock.client.calls import Calls, Request
from penstock.client.errors import ClientError, Refused
from penstock.client.model import Published, Rejection

__all__ = ["Publisher", "added", "cut", "each", "event_line"]

NDJSON = "application/x-ndjson"
_ID = "id"
T = TypeVar("T")


class Publisher:
    """What `publish` does; remembers which streams settle repeated events."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._dedupes: dict[str, list[str]] = {}

    async def publish(
        self, stream: str, events: Iterable[Mapping[str, Any] | bytes] | AsyncIterator[Mapping[str, Any] | bytes]
    ) -> Published:
        """Send every event, in order; the result when all are durable. Raises the error of the first request that
        comes to nothing: those before it are stored.
        """
        limits, dedupe = self._calls.limits, await self.dedupe_of(stream)
        total, waiting, size_bytes = Published(), list[bytes](), 0
        async for event in each(events):
            line = event_line(event, self._calls.chance if dedupe == [_ID] else None)
            full = size_bytes + len(line) + 1 > limits.batch_bytes_max or len(waiting) >= limits.batch_events_max
            if waiting and full:
                total = await self._sent(stream, waiting, total, repeatable=bool(dedupe))
                waiting, size_bytes = [], 0
            waiting.append(line)
            size_bytes += len(line) + 1
        return await self._sent(stream, waiting, total, repeatable=bool(dedupe)) if waiting else total

    async def dedupe_of(self, stream: str) -> list[str]:
        """The columns by which the stream knows an event again; empty: it does not."""
        known = self._dedupes.get(stream)
        if known is None:
            shape = await self._calls.members(Request("GET", f"/v1/streams/{quote(stream, safe='')}"))
            known = list(shape["dedupe"])
            if len(self._dedupes) >= self._calls.limits.shapes_max:
                self._dedupes.pop(next(iter(self._dedupes)))
            self._dedupes[stream] = known
        return known

    async def _sent(self, stream: str, lines: list[bytes], before: Published, *, repeatable: bool) -> Published:
        try:
            reply = await self._calls.members(
                Request(
                    "POST",
                    f"/v1/streams/{quote(stream, safe='')}/events",
                    body=b"\n".join(lines),
                    content_type=NDJSON,
                    accept_status=(422,),
                    repeatable=repeatable,
                )
            )
        except ClientError as error:
            if repeatable or error.status:
                raise
            detail = f"{error.detail}; stream '{stream}' settles no repeated events, so nothing was sent again"
            raise type(error)(error.code, detail, status=error.status) from error
        if "accepted" not in reply:
            raise Refused("bad_request", f"stream '{stream}' took nothing: {str(reply)[:300]}", status=422)
        return added(before, reply, kept_max=self._calls.limits.rejections_kept_max)


def event_line(event: Mapping[str, Any] | bytes, chance: random.Random | None) -> bytes:
    """An event as JSON on one line; with `chance`, one without an id gets a random one. Bytes go as they are."""
    if isinstance(event, bytes):
        return event
    if chance is not None and event.get(_ID) is None:
        event = {**event, _ID: f"{chance.getrandbits(128):032x}"}
    return msgspec.json.encode(event)


def added(before: Published, reply: Mapping[str, Any], *, kept_max: int) -> Published:
    """The totals with one more reply; its errors count from the events before it."""
    room = max(0, kept_max - len(before.rejections))
    found = tuple(
        Rejection(before.sent + error["index"], error.get("id"), error["code"], error["detail"])
        for error in reply["errors"][:room]
    )
    return replace(
        before,
        accepted=before.accepted + reply["accepted"],
        duplicate=before.duplicate + reply["duplicate"],
        rejected=before.rejected + reply["rejected"],
        rejections=before.rejections + found,
    )


def cut(items: Iterable[T], events_max: int) -> Iterator[list[T]]:
    """Lists of at most `events_max`."""
    part: list[T] = []
    for item in items:
        part.append(item)
        if len(part) >= events_max:
            yield part
            part = []
    if part:
        yield part


async def each(events: Iterable[T] | AsyncIterator[T]) -> AsyncIterator[T]:
    """The items, wherever they come from."""
    if isinstance(events, Iterable):
        for event in events:
            yield event
    else:
        async for event in events:
            yield event
