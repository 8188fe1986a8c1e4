"""A subscription: topics followed over a socket each, given out as one row of events and gaps."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing

from penstock.client.calls import Calls
from penstock.client.errors import Refused
from penstock.client.following import Following, OnNotice, Wanted
from penstock.client.merging import Merged
from penstock.client.model import Event, Gap

__all__ = ["OnGap", "Subscription", "wanted_topics"]

OnGap = Callable[[Gap], None]


class Subscription:
    """`batches` gives what comes; whoever asks for the next batch is done with the one before.

    `read_ahead`: also with one topic, a task reads ahead of the caller.
    """

    def __init__(
        self,
        calls: Calls,
        wanted: Sequence[Wanted],
        *,
        on_gap: OnGap | None,
        on_notice: OnNotice | None,
        read_ahead: bool,
    ) -> None:
        self._on_gap = on_gap
        self._followings = {one.topic: Following(calls, one, on_notice=on_notice) for one in wanted}
        sources = [following.items() for following in self._followings.values()]
        merge = read_ahead or len(sources) > 1
        self._merged = Merged(sources, items_max=calls.limits.items_buffered_max) if merge else None
        self._source = sources[0] if self._merged is None else self._merged.batches()

    async def batches(self) -> AsyncGenerator[list[Event | Gap], None]:
        """Never empty lists; ends with `stop`."""
        async with aclosing(self._source) as source:
            async for found in source:
                items, done = _Batch(self._told(found)), found
                try:
                    if items:
                        yield items
                except GeneratorExit:  # the caller ends it in the middle
                    done = items[: max(0, items.handed - 1)]
                    raise
                finally:
                    for item in done:
                        self._followings[item.topic].consumed(item)

    async def stop(self) -> None:
        """End it, whoever waits in `batches`; no task and no socket is left."""
        if self._merged is not None:
            await self._merged.stop()
        for following in self._followings.values():
            await following.stop()

    def _told(self, items: list[Event | Gap]) -> list[Event | Gap]:
        if self._on_gap is None:
            return items
        for item in items:
            if isinstance(item, Gap):
                self._on_gap(item)
        return [item for item in items if isinstance(item, Event)]


class _Batch(list[Event | Gap]):
    """`handed`: how many of it the caller has been given; who asks for the next one is done with those before."""

    handed = 0

    def __iter__(self) -> Iterator[Event | Gap]:
        for item in super().__iter__():
            self.handed += 1
            yield item


def wanted_topics(
    topics: Sequence[str],
    *,
    after: str | Mapping[str, str] | None,
    filter: str | Mapping[str, str] | None,
    slow: str | None,
    credit: int | None,
    durable: str | None,
    auto_ack: bool,
    topics_max: int,
) -> list[Wanted]:
    """What each topic is asked for; `bad_request` where that cannot be told."""
    if not topics or len(topics) > topics_max or len(set(topics)) != len(topics):
        raise Refused("bad_request", f"name 1 to {topics_max} different topics")
    if isinstance(after, str) and len(topics) > 1 and after not in ("earliest", "latest"):
        raise Refused("bad_request", "a cursor belongs to one topic: give after={topic: cursor}")
    return [Wanted(topic, _of(after, topic), _of(filter, topic), slow, credit, durable, auto_ack) for topic in topics]


def _of(given: str | Mapping[str, str] | None, topic: str) -> str | None:
    return given if given is None or isinstance(given, str) else given.get(topic)
