"""Rings, sessions and frames without sockets; then subscribers that do not read, with them."""

import asyncio
import json
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from publish.conftest import close_of, orders_batch
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode

from penstock.http.socket_life import CLOSE_REASON_BYTES_MAX, Close, Life, Pace, close_reason
from penstock.model.position import Cursor
from penstock_publish.topics.framing import (
    Encoding,
    Form,
    frame,
    frame_notice,
    open_notice,
)
from penstock_publish.topics.ring import Ring
from penstock_publish.topics.session import CreditSession, Session, Slow

PACE = Pace(expiring_s=60.0, ping_s=15.0, pings_missed_max=2)


def cursor_of(place: tuple[int, ...]) -> Cursor:
    return Cursor("orders", 1, place)


def a_session(slow: Slow = Slow.GAP, *, filtered: bool = False, form: Form = Form.ENVELOPE) -> Session:
    return Session(cursor_of, (0,), encoding=Encoding.LINES, form=form, slow=slow, filtered=filtered)


def a_ring(*, limit_bytes: int = 100) -> Ring:
    return Ring((0,), limit_bytes=limit_bytes)


def fill(ring: Ring, count: int, *, size_bytes: int = 10) -> None:
    for _ in range(count):
        ring.append(b"x" * size_bytes, 1, (ring.end[0] + 1,))


def parsed(data: bytes) -> list[Frame]:
    """Frames as another implementation reads them."""
    buffer, found = BytesIO(data), []

    def read_exact(count: int):
        chunk = buffer.read(count)
        assert len(chunk) == count
        return chunk
        yield  # a generator, as the parser wants it

    while buffer.tell() < len(data):
        parsing = Frame.parse(read_exact, mask=False)
        with pytest.raises(StopIteration) as done:
            next(parsing)
        found.append(done.value.value)
    return found


@given(st.lists(st.sampled_from([0, 1, 125, 126, 127, 65_535, 65_536, 70_000]), max_size=5))
def test_every_line_is_one_text_frame_whatever_its_length(sizes):
    lines = [b"a" * size for size in sizes]
    frames = parsed(frame(lines, [b"c"] * len(lines), Encoding.WS))
    assert [f.opcode for f in frames] == [Opcode.TEXT] * len(lines)
    assert [bytes(f.data) for f in frames] == lines


@given(st.lists(st.integers(0, 2**40), min_size=1, max_size=4), st.data())
def test_cursors_made_in_bulk_are_the_cursors_made_one_by_one(place, data):
    partition = data.draw(st.integers(0, len(place) - 1))
    offsets = data.draw(st.lists(st.integers(0, 2**40), max_size=20))
    texts = Cursor("orders", 3, tuple(place)).texts(partition, offsets)
    for text, offset in zip(texts, offsets, strict=True):
        expected = Cursor("orders", 3, (*place[:partition], offset, *place[partition + 1 :]))
        assert text.decode() == expected.text()
        assert Cursor.parse("orders", text.decode()) == expected


@given(st.text(max_size=30), st.text(max_size=200))
def test_a_close_reason_fits_into_a_control_frame(code, after):
    reason = close_reason(code, retry_ms=1, after=after)
    if len(code.encode()) <= 15:
        assert len(reason) <= CLOSE_REASON_BYTES_MAX or json.loads(reason)["after"] is None
    assert json.loads(reason)["code"] == code


def test_a_notice_is_one_line_on_every_encoding():
    notice = open_notice("orders", cursor_of((3,)).text())
    text = json.dumps(notice, separators=(",", ":")).encode()
    cursor = notice["c"].encode()
    assert frame_notice(notice, Encoding.LINES) == text + b"\n"
    assert frame_notice(notice, Encoding.SSE) == b"id: " + cursor + b"\nevent: sys\ndata: " + text + b"\n\n"
    assert [bytes(f.data) for f in parsed(frame_notice(notice, Encoding.WS))] == [text]


def test_a_ring_is_bounded_in_bytes_and_keeps_the_newest():
    ring = a_ring(limit_bytes=35)
    fill(ring, 10)
    assert (ring.first, ring.next, ring.size_bytes) == (7, 10, 30)
    ring.append(b"y" * 1000, 1, (11,))
    assert (ring.first, ring.next, ring.newest().data) == (10, 11, b"y" * 1000)
    with pytest.raises(IndexError):
        ring.chunk(9)


def test_chunks_without_matches_move_the_end_only():
    ring = a_ring()
    ring.append(b"", 0, (5,))
    assert (ring.next, ring.end, ring.start_of(0)) == (0, (5,), (5,))
    ring.append(b"x", 1, (6,))
    assert ring.chunk(0).start == (5,)


def test_a_session_that_keeps_up_gets_each_chunk_once():
    ring, session = a_ring(), a_session()
    session.join(ring, 0)
    for n in range(50):
        ring.append(b"%d\n" % n, 1, (n + 1,))
        assert session.take(limit_bytes=1000) == (b"%d\n" % n, 1, None)
        assert session.take(limit_bytes=1000) == (b"", 0, None)
    assert session.cursor_text == cursor_of((50,)).text()


def test_a_session_that_lags_catches_up_in_pieces_from_the_ring():
    ring, session = a_ring(), a_session()
    session.join(ring, 0)
    fill(ring, 8)
    pieces = []
    while (taken := session.take(limit_bytes=25))[0]:
        pieces.append(taken[1])
    assert pieces == [2, 2, 2, 2]
    assert session.place == (8,)


@pytest.mark.parametrize(("filtered", "lost"), [(False, 30), (True, None)])
def test_who_falls_off_the_ring_is_told_of_the_gap_and_goes_on_live(filtered, lost):
    ring, session = a_ring(), a_session(filtered=filtered)
    session.join(ring, 0)
    fill(ring, 30)
    data, events, close = session.take(limit_bytes=1000)
    assert json.loads(data) == {
        "sys": "gap", "t": "orders", "from": cursor_of((0,)).text(), "to": cursor_of((30,)).text(), "n": lost,
    }  # fmt: skip
    assert (events, close) == (0, None)
    ring.append(b"live\n", 1, (31,))
    assert session.take(limit_bytes=1000) == (b"live\n", 1, None)


def test_latest_skips_to_the_newest_as_soon_as_it_lags():
    ring, session = a_ring(), a_session(Slow.LATEST)
    session.join(ring, 0)
    session.lagging = True
    fill(ring, 3)
    data, events, _ = session.take(limit_bytes=1000)
    notice, _, rest = data.partition(b"\n")
    assert (json.loads(notice)["n"], rest, events) == (2, b"x" * 10, 1)
    assert session.place == (3,)
    assert session.lagging is False


def a_credit_session(credit: int, slow: Slow = Slow.GAP) -> CreditSession:
    shape = {"encoding": Encoding.LINES, "form": Form.ENVELOPE, "slow": slow, "filtered": False}
    return CreditSession(cursor_of, (0,), **shape, credit=credit)


def test_credit_is_spent_on_whole_chunks_and_what_is_too_much_is_left_to_the_log():
    ring, session = a_ring(), a_credit_session(5)
    session.join(ring, 0)
    fill(ring, 2)
    ring.append(b"x" * 30, 4, (6,))
    assert session.take(limit_bytes=1000) == (b"x" * 20, 2, None)
    assert session.take(limit_bytes=1000) == (b"", 0, None)
    assert (session.parked, session.live, session.credit, session.place) == (True, False, 3, (2,))


@pytest.mark.parametrize("slow", [Slow.GAP, Slow.CLOSE, Slow.LATEST])
def test_who_counts_credit_waits_outside_the_ring_however_long(slow):
    ring, session = a_ring(), a_credit_session(0, slow)
    session.join(ring, 0)
    fill(ring, 1)
    assert session.take(limit_bytes=1000)[1] == 0
    fill(ring, 100)
    assert session.take(limit_bytes=1000) == (b"", 0, None)
    assert (session.parked, session.place) == (True, (0,))


def test_close_is_asked_for_when_it_falls_off():
    ring, session = a_ring(), a_session(Slow.CLOSE)
    session.join(ring, 0)
    fill(ring, 5)
    assert session.take(limit_bytes=20)[2] is None
    fill(ring, 30)
    assert session.take(limit_bytes=20) == (b"", 0, Close(4409, "slow", retry_ms=0))
    assert session.cursor_text == cursor_of((2,)).text()


def test_a_token_is_warned_of_once_and_pings_go_out_until_it_ends():
    life = Life(3600.0, PACE, 0.0)
    assert life.tick(0.0).next_s == 15.0
    pings = 0
    for now_s in range(15, 3540, 15):
        life.heard()
        due = life.tick(float(now_s))
        pings += due.ping
        assert (due.expiring_in_s, due.close) == (None, None)
    assert pings == 235
    assert life.tick(3541.0).expiring_in_s == 59.0
    life.heard()
    assert life.tick(3550.0).expiring_in_s is None
    life.renew(7200.0)
    assert life.tick(3600.0).close is None
    life.heard()
    assert life.tick(7141.0).expiring_in_s == 59.0
    assert life.tick(7200.0).close == Close(4401, "invalid_token")


def test_raw_lines_get_their_cursor_by_heartbeat():
    ring, session = a_ring(), a_session(form=Form.RAW)
    session.join(ring, 0)
    fill(ring, 2)
    assert session.heartbeat() == b""  # there is something to send first
    session.take(limit_bytes=1000)
    assert json.loads(session.heartbeat()) == {"sys": "hb", "c": cursor_of((2,)).text()}


async def deaf_subscriber(gateway, slow: str):
    """A WebSocket client with a small receive window that does not read after the handshake."""
    url = f"{gateway.url.replace('http', 'ws', 1)}/v1/topics/orders?slow={slow}"
    return await connect(
        url, additional_headers=gateway.headers(), compression=None, max_queue=1, max_size=None, close_timeout=1,
        ping_interval=None,
    )  # fmt: skip


SMALL = {"ring_bytes_max": 200_000, "send_buffer_bytes": 20_000, "flush_bytes_max": 20_000}


async def flood(gateway, total_bytes: int) -> int:
    """Append more than all buffers on the way can hold; how many events."""
    text, count = "x" * 50_000, 0
    while count * 50_000 < total_bytes:
        await gateway.commit(orders_batch([(text, count, "x")]))
        count += 1
        await asyncio.sleep(0)
    await asyncio.sleep(0.05)
    return count


@pytest.mark.parametrize("gateway", [SMALL], indirect=True)
async def test_a_slow_subscriber_is_told_what_it_missed_and_holds_nobody_up(gateway):
    async with gateway.subscribe("orders", format="raw") as quick:
        slow = await deaf_subscriber(gateway, "gap")
        count = await flood(gateway, 16_000_000)
        got = 0
        while got < count:
            got += "sys" not in json.loads(await asyncio.wait_for(quick.recv(), 5))
        received, missed = 0, 0
        async with asyncio.timeout(10):
            while received + missed < count:
                message = json.loads(await slow.recv())
                missed += message["n"] if message.get("sys") == "gap" else 0
                received += "d" in message
            await gateway.commit(orders_batch([("live again", 0, "x")]))
            assert json.loads(await slow.recv())["k"] == "live again"
        assert missed > 0
        assert received > 0
        await slow.close()


@pytest.mark.parametrize("gateway", [SMALL], indirect=True)
async def test_a_slow_subscriber_that_asked_for_it_is_closed_with_4409(gateway):
    slow = await deaf_subscriber(gateway, "close")
    await flood(gateway, 16_000_000)
    last, close = None, None
    async with asyncio.timeout(10):
        while close is None:
            try:
                last = json.loads(await slow.recv()).get("c", last)
            except ConnectionClosed as closed:
                close = closed.rcvd
    assert (close.code, json.loads(close.reason)["after"]) == (4409, last)


@pytest.mark.parametrize("gateway", [SMALL], indirect=True)
async def test_whoever_replays_slowly_loses_nothing(gateway):
    count = await flood(gateway, 8_000_000)
    async with gateway.subscribe("orders", after="earliest") as ws:
        await gateway.commit(orders_batch([("last", 0, "x")]))
        seen = []
        while not seen or seen[-1] != "last":
            message = json.loads(await asyncio.wait_for(ws.recv(), 5))
            assert message.get("sys") in (None, "open")
            seen += [message["k"]] if "k" in message else []
    assert len(seen) == count + 1


async def test_an_unhurried_close_reaches_the_client(gateway):
    async with gateway.subscribe("orders") as ws:
        await ws.recv()
        gateway.stop.set()
        assert (await close_of(ws))[0] == 1001
