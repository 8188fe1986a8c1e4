"""A topic while somebody is subscribed to it: its rings, its connections, and the fan-out from one to the others.

No I/O of its own: the feed brings batches, connections write to their transports.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence

from penstock.http.socket_life import Close
from penstock.model.batch import Batch
from penstock.model.position import Cursor
from penstock.model.stream import StreamSpec
from penstock_publish.metrics import EVENTS_DELIVERED, EVENTS_FANNED_OUT, RING_BYTES
from penstock_publish.topics.connection import Connection, Tally
from penstock_publish.topics.render import Filter, Kind, Rendered, render
from penstock_publish.topics.ring import Place, Ring

__all__ = ["LiveTopic"]


class LiveTopic:
    """Rings by kind, connections by ring. `cursor` is the place up to which all rings are filled."""

    def __init__(self, spec: StreamSpec, cursor: Cursor, *, ring_bytes_max: int) -> None:
        self.spec = spec
        self.cursor = cursor
        self.tally = Tally()
        #: Version of the catalog in which the topic was last found unchanged.
        self.checked_version = -1
        self._ring_bytes_max = ring_bytes_max
        self._rings: dict[Kind, Ring] = {}
        self._filters: dict[str, Filter] = {}
        self._connections: dict[Kind, set[Connection]] = {}
        self._lagging: set[Connection] = set()
        #: Set while somebody's transport was full and has to be tried again.
        self.has_laggards = asyncio.Event()

    @property
    def connections(self) -> list[Connection]:
        """All of them, replaying ones included."""
        return [connection for group in self._connections.values() for connection in group]

    @property
    def connection_count(self) -> int:
        """How many there are."""
        return sum(len(group) for group in self._connections.values())

    @property
    def filter_texts(self) -> Collection[str]:
        """The filters in use."""
        return [text for text in self._filters if text]

    def cursor_of(self, place: Place) -> Cursor:
        """A place of this topic as a cursor."""
        return Cursor(self.spec.name, self.cursor.epoch, place)

    def add(self, connection: Connection, kind: Kind, filter_: Filter) -> None:
        """A new connection, which has yet to `join`; its ring begins here if it is the first of its kind."""
        self._filters.setdefault(kind.filter_text, filter_)
        if kind not in self._rings:
            self._rings[kind] = Ring(self.cursor.next, limit_bytes=self._ring_bytes_max)
        self._connections.setdefault(kind, set()).add(connection)

    def remove(self, connection: Connection, kind: Kind) -> None:
        """Forget a connection, and its ring and filter with the last of their kind."""
        self._lagging.discard(connection)
        group = self._connections.get(kind)
        if group is None:
            return
        group.discard(connection)
        if not group:
            del self._connections[kind], self._rings[kind]
            if all(other.filter_text != kind.filter_text for other in self._rings):
                del self._filters[kind.filter_text]

    def meeting_point(self, kind: Kind) -> tuple[Place, int]:
        """Where a replaying connection can go live: the place to read up to, and the chunk that follows it."""
        return self.cursor.next, self._rings[kind].next

    def join(self, connection: Connection, kind: Kind, number: int) -> bool:
        """Go live at chunk `number`; False if the ring has moved past it."""
        ring = self._rings[kind]
        if number < ring.first:
            return False
        connection.session.join(ring, number)
        self._pump(connection)
        return True

    def render(self, batches: Sequence[Batch]) -> tuple[Rendered, Mapping[Kind, Ring]]:
        """Bytes for every kind there is now. May run in a thread: it reads, and changes nothing."""
        rings = dict(self._rings)
        rendered = render(self.spec, self.cursor, batches, filters=dict(self._filters), kinds=tuple(rings))
        return rendered, rings

    def publish(self, batches: Sequence[Batch], rendered: Rendered, rings: Mapping[Kind, Ring]) -> None:
        """Append to the rings and write to everybody who can take it."""
        kinds_since = [kind for kind, ring in self._rings.items() if rings.get(kind) is not ring]
        unseen = batches if kinds_since else ()
        late = render(self.spec, self.cursor, unseen, filters=self._filters, kinds=kinds_since)
        before = sum(self.cursor.next)
        self.cursor = self.cursor_of(rendered.end)
        for kind, ring in self._rings.items():
            data, count = (late if kind in kinds_since else rendered).by_kind[kind]
            ring.append(data, count, rendered.end)
            if data:
                self._flush(kind)
        EVENTS_FANNED_OUT.inc(max(0, sum(rendered.end) - before))
        RING_BYTES.labels(self.spec.name).set(sum(ring.size_bytes for ring in self._rings.values()))
        self.report()

    def retry_laggards(self) -> None:
        """Try again those whose transport was full."""
        for connection in tuple(self._lagging):
            self._pump(connection)
        if not self._lagging:
            self.has_laggards.clear()
        self.report()

    def wake(self, connection: Connection) -> None:
        """Try a connection again that its application's plan had stopped."""
        if connection.session.live:
            self._pump(connection)
            self.report()

    def close_all(self, close: Close) -> None:
        """Close every connection."""
        for connection in self.connections:
            connection.close(close)

    def report(self) -> None:
        """Bring the delivery metric up to date."""
        if self.tally.events:
            EVENTS_DELIVERED.inc(self.tally.events)
            self.tally.events = 0

    def _flush(self, kind: Kind) -> None:
        for connection in tuple(self._connections.get(kind, ())):
            if connection.session.live and connection.pump():
                self._lagging.add(connection)
                self.has_laggards.set()

    def _pump(self, connection: Connection) -> None:
        if connection.pump():
            self._lagging.add(connection)
            self.has_laggards.set()
        else:
            self._lagging.discard(connection)
