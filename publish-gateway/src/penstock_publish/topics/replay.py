"""From a start in the past to the ring: the rows of a table, then the log, until the live topic is met."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import dataclass

import structlog

from penstock.errors import PenstockError
from penstock.http.access import Principal
from penstock.http.socket_life import Close
from penstock.model.position import Cursor
from penstock.model.stream import StreamSpec
from penstock_publish.settings import PublishSettings
from penstock_publish.topics.connection import Connection
from penstock_publish.topics.framing import envelopes, frame, frame_notice, gap_notice
from penstock_publish.topics.history import History, Piece, Start, parse_after
from penstock_publish.topics.render import Filter
from penstock_publish.topics.request import TopicRequest
from penstock_publish.topics.ring import Place
from penstock_publish.topics.session import CreditSession

__all__ = ["Prepared", "Replay"]

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request that will be served."""

    spec: StreamSpec
    wanted: TopicRequest
    principal: Principal
    filter: Filter
    history: History
    start: Start


class _OutOfCredit(Exception):  # not an error: the subscriber has had all that it asked for
    """The rest of a piece waits for credit; the session's place is where to go on."""


class _Stalled(Exception):  # not an error: the subscriber does not read
    """Nothing could be written for so long that what is held for it is let go of."""


class Replay:
    """Brings connections from their start to the ring; one that starts at the ring's end is there at once."""

    def __init__(self, settings: PublishSettings) -> None:
        self._settings = settings

    def joins_at_once(self, prepared: Prepared, connection: Connection) -> bool:
        """The usual case, `latest` on a topic at rest: no replay, and no task for it."""
        place, number = connection.live.meeting_point(connection.kind)
        if prepared.start.key_hash is not None or prepared.start.cursor.next != place:
            return False
        return connection.live.join(connection, connection.kind, number)

    async def run(self, prepared: Prepared, connection: Connection) -> None:
        """Send what lies between the start and the ring, then go live; park where credit ends."""
        live, kind, session = connection.live, connection.kind, connection.session
        try:
            cursor = await self._send_current_rows(prepared, connection)
            while not connection.closed:
                if not session.allowance(1):
                    raise _OutOfCredit
                place, number = live.meeting_point(kind)
                if any(ours > theirs for ours, theirs in zip(cursor.next, place, strict=True)):
                    await asyncio.sleep(self._settings.lag_poll_ms / 1000)  # the tail has yet to come this far
                    continue
                cursor = await self._send_log(prepared, connection, cursor=cursor, place=place)
                if cursor.next == place and live.join(connection, kind, number):
                    return
        except _OutOfCredit:
            if isinstance(session, CreditSession):
                session.park()
        except PenstockError as error:
            _log.warning("replay_failed", topic=live.spec.name, code=error.code, detail=error.detail)
            connection.close(Close(4503, error.code, retry_ms=1_000))
        except Exception:  # outermost loop of a replay: its subscriber would wait for ever for what does not come
            _log.exception("replay_broken", topic=live.spec.name)
            connection.close(Close(4503, "internal", retry_ms=1_000))

    async def _send_current_rows(self, prepared: Prepared, connection: Connection) -> Cursor:
        """The place at which the first of them were read. They are in memory only while they are being taken."""
        start, history, session = prepared.start, prepared.history, connection.session
        while start.key_hash is not None and not connection.closed:
            try:
                await self._send_rows(prepared, connection, start)
                break
            except _Stalled:
                history.forget_rows()
            if not await connection.room(self._settings.lag_poll_ms / 1000):
                connection.close(Close(1001, "gone"))
                break
            start = await history.start(parse_after(prepared.spec, session.cursor_text))
            session.place = start.cursor.next
            if start.cursor.epoch != connection.live.cursor.epoch:
                connection.close(Close(1001, "topic_changed", retry_ms=0))
            elif start.notice is not None:
                connection.outlet.write(frame_notice(start.notice, connection.kind.encoding))
                session.resume = start.resume
        history.forget_rows()
        if not connection.closed:
            session.resume = None
        return start.cursor

    async def _send_rows(self, prepared: Prepared, connection: Connection, start: Start) -> None:
        held_s = self._settings.rows_held_s
        async with aclosing(prepared.history.pieces(start, until=start.cursor.next)) as pieces:
            async for piece in pieces:
                if not await self._write(prepared, connection, piece, within_s=held_s):
                    return
                connection.session.resume = piece.resume

    async def _send_log(self, prepared: Prepared, connection: Connection, *, cursor: Cursor, place: Place) -> Cursor:
        """Send the log from `cursor` to `place`; where the send stopped if the connection is closed."""
        if cursor.next == place:
            return cursor
        async for piece in prepared.history.pieces(Start(cursor), until=place):
            if not await self._write(prepared, connection, piece):
                return cursor
            cursor = piece.cursor
            connection.session.place = cursor.next
        if cursor.next != place:  # retention deleted the rest while we were reading
            end = Cursor(cursor.topic, cursor.epoch, place)
            lost = None if prepared.filter.text else sum(place) - sum(cursor.next)
            connection.outlet.write(frame_notice(gap_notice(cursor, end, events=lost), connection.kind.encoding))
            cursor = end
        return cursor

    async def _write(
        self, prepared: Prepared, connection: Connection, piece: Piece, *, within_s: float | None = None
    ) -> bool:
        """Write a piece once there is room, in parts where a plan counts; False if the connection is closed.

        `within_s`: `_Stalled` where there is no room for so long.
        """
        session, kind, flow = connection.session, connection.kind, connection.flow
        count = len(piece.rows)
        at_once = count if flow is None else flow.rows_max
        data = b"" if piece.notice is None else frame_notice(piece.notice, kind.encoding)
        first = 0
        while True:
            try:
                async with asyncio.timeout(within_s):
                    room = await connection.room(self._settings.lag_poll_ms / 1000)
            except TimeoutError:
                raise _Stalled from None
            if not room:
                connection.close(Close(1001, "gone"))  # or the replay would read the same piece again, for ever
                return False
            end = first + session.allowance(min(at_once, count - first))
            if end == first < count:
                raise _OutOfCredit
            cursors = piece.cursors[first:end]
            if cursors:
                lines = envelopes(prepared.spec.name, piece.rows[first:end], cursors, form=kind.form)
                data += frame(lines, cursors, kind.encoding)
            if data:
                connection.outlet.write(data)
                connection.live.tally.events += end - first
                session.spend(end - first)
                if flow is not None:
                    flow.sent(end - first, len(data))
                data = b""
            if end == count:
                return True
            _stop_inside(prepared, connection, cursors[-1].decode())
            first = end


def _stop_inside(prepared: Prepared, connection: Connection, cursor_text: str) -> None:
    """The last of what was written is inside a piece: resumed after this cursor."""
    after = parse_after(prepared.spec, cursor_text)
    if after.key_hash is not None:
        connection.session.resume = cursor_text
    elif after.cursor is not None:
        connection.session.place, connection.session.resume = after.cursor.next, None
