"""The wire towards peers that do not play along: limits hold whatever they do, and the end comes."""

import asyncio
import gc
import socket
import tracemalloc
import zlib
from collections import deque
from collections.abc import AsyncIterator, Callable

import pytest
from aiohttp import web
from publish.autobahn_cases import CLOSE, TEXT, client_frame
from publish.conftest import loopback_socket, serving
from structlog.testing import capture_logs
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from penstock.errors import PenstockError
from penstock.http.socket_life import Close
from penstock_publish.settings import PublishSettings
from penstock_publish.topics.frame_reader import FrameReader, Message
from penstock_publish.topics.wire import UPGRADED, Wire, Wires, take_over

HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
SETTINGS = {"close_wait_s": 0.2, "send_buffer_bytes": 20_000, "inbound_messages_max": 4}


class Place:
    """An endpoint whose handler the test gives."""

    def __init__(self) -> None:
        self.wires = Wires(PublishSettings.model_validate(SETTINGS))
        self.wire: asyncio.Future[Wire] = asyncio.get_running_loop().create_future()
        self.handler: Callable[[Wire], object] = ignore
        self.port = 0
        self.handshake = HANDSHAKE
        self.meanwhile = b""  # comes in right after the take-over

    async def upgrade(self, request: web.Request) -> web.StreamResponse:
        wire = take_over(request, self.wires)
        if self.meanwhile:
            wire.data_received(self.meanwhile)
        wire.serve(self.handler(wire))
        self.wire.set_result(wire)
        return UPGRADED

    async def raw(self, *, receive_bytes: int = 0) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """After the handshake; reads little ahead. `receive_bytes`: of the kernel's buffer; 0: as it likes."""
        sock = socket.socket()
        if receive_bytes:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", self.port))
        reader, writer = await asyncio.open_connection(sock=sock, limit=1_000)
        writer.write(self.handshake)
        await reader.readuntil(b"\r\n\r\n")
        return reader, writer


async def ignore(wire: Wire) -> None:
    while await wire.receive() is not None:
        pass


@pytest.fixture
async def place() -> AsyncIterator[Place]:
    opened, sock = Place(), loopback_socket()
    async with serving(sock, [web.get("/", opened.upgrade)]):
        opened.port = sock.getsockname()[1]
        yield opened
        async with asyncio.timeout(5):
            await opened.wires.closed()


async def test_pings_of_a_peer_that_reads_nothing_are_answered_as_far_as_its_buffer_goes(place):
    _, writer = await place.raw(receive_bytes=4_096)
    wire = await place.wire
    unsent: list[int] = []
    pings = client_frame(9, b"x" * 125) * 1_000
    while len(unsent) < 300 and (len(unsent) < 20 or unsent[-20] < 20_000):  # until well after the kernel is full
        writer.write(pings)
        await writer.drain()
        await asyncio.sleep(0)
        unsent.append(wire.unsent_bytes())
    writer.transport.abort()
    assert 20_000 <= unsent[-1] == max(unsent) <= 20_000 + 127


async def test_a_peer_that_breaks_a_rule_and_leaves_at_once_is_no_failure_of_ours(place):
    """Its end of the line is gone when ours is to be ended."""
    loop, sock = asyncio.get_running_loop(), socket.socket()
    sock.setblocking(False)
    await loop.sock_connect(sock, ("127.0.0.1", place.port))
    await loop.sock_sendall(sock, HANDSHAKE)
    assert (await loop.sock_recv(sock, 1_000)).startswith(b"HTTP/1.1 101 ")
    with capture_logs() as logged:
        sock.send(b"\x81\x05hello")  # no mask
        sock.close()  # before the server looks
        await place.wires.closed()
    assert logged == []


async def test_messages_that_nobody_takes_stop_the_reading_and_all_come_in_order(place):
    taken: list[str] = []
    go_on = asyncio.Event()

    async def slow(wire: Wire) -> None:
        await go_on.wait()
        while (message := await wire.receive()) is not None:
            taken.append(message[:6])

    place.handler = slow
    reader, writer = await place.raw()
    count = 600
    for n in range(count):
        writer.write(client_frame(TEXT, b"%06d" % n + b"x" * 50_000))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(writer.drain(), 0.3)  # 30 MB do not fit into what lies between
    inboxes = [one for one in gc.get_objects() if type(one) is deque and one and str(one[0])[6:9] == "xxx"]
    assert sum(len(message) for inbox in inboxes for message in inbox) <= 2 * 64 * 1024, (
        "as long as the largest, and one"
    )
    go_on.set()
    writer.write(client_frame(CLOSE, b"\x03\xe8"))
    async with asyncio.timeout(10):
        assert await reader.read() == b"\x88\x02\x03\xe8"
    assert taken == [f"{n:06d}" for n in range(count)]
    writer.close()


async def test_a_peer_that_never_answers_a_close_is_hung_up_on(place):
    reader, writer = await place.raw()
    (await place.wire).close(Close(1001, "draining", retry_ms=5), "c1")
    async with asyncio.timeout(5):
        assert (await reader.read()).endswith(b'{"code":"draining","retry_ms":5,"after":"c1"}')
        await place.wires.closed()
    writer.close()


async def test_a_peer_that_reads_nothing_gets_twice_the_time_and_is_then_cut_off(place):
    reader, writer = await place.raw()
    wire = await place.wire
    wire.write(b"\x81\x7e\xff\xff" + b"x" * 65_535)
    for _ in range(200):
        wire.write(b"\x81\x7e\xff\xff" + b"x" * 65_535)
    wire.close(Close(4409, "slow", retry_ms=0), None)
    async with asyncio.timeout(5):
        await place.wires.closed()
    writer.close()
    assert reader.at_eof() is False


@pytest.mark.parametrize(
    ("error", "code"), [(PenstockError("log_unavailable", "away"), "log_unavailable"), (ValueError("x"), "internal")]
)
async def test_a_handler_that_fails_closes_its_wire_with_4503(place, error, code):
    async def failing(wire: Wire) -> None:
        await wire.receive()
        raise error

    place.handler = failing
    async with connect(f"ws://127.0.0.1:{place.port}/") as ws:
        await ws.send("go")
        with pytest.raises(ConnectionClosed) as closed:
            await ws.recv()
    assert closed.value.rcvd.code == 4503
    assert f'"code":"{code}"' in closed.value.rcvd.reason


async def test_many_small_compressed_messages_in_one_segment_are_inflated_as_they_are_taken(place):
    sizes: list[int] = []
    go_on = asyncio.Event()

    async def slow(wire: Wire) -> None:
        await go_on.wait()
        while (message := await wire.receive()) is not None:
            sizes.append(len(message))

    place.handler = slow
    place.handshake = HANDSHAKE.replace(
        b"\r\n\r\n", b"\r\nSec-WebSocket-Extensions: permessage-deflate; client_no_context_takeover\r\n\r\n"
    )
    reader, writer = await place.raw()
    deflater = zlib.compressobj(9, zlib.DEFLATED, -15)
    small = (deflater.compress(b"x" * 60_000) + deflater.flush(zlib.Z_SYNC_FLUSH))[:-4]
    tracemalloc.start()
    try:
        writer.write(client_frame(TEXT, small, rsv=4) * 500)
        writer.write(client_frame(CLOSE, b"\x03\xe8"))
        await writer.drain()
        await asyncio.sleep(0.1)
        held_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held_bytes < 2_000_000  # not 500 * 60,000
    go_on.set()
    async with asyncio.timeout(10):
        assert await reader.read() == b"\x88\x02\x03\xe8"
    assert sizes == [60_000] * 500
    writer.close()


def test_empty_frames_of_a_message_without_end_are_not_kept():
    reader = FrameReader(limit_bytes=1_000)
    assert list(reader.feed(client_frame(TEXT, b"a", fin=False))) == []
    empty = client_frame(0, b"", fin=False) * 1_000
    tracemalloc.start()
    try:
        for _ in range(100):
            assert list(reader.feed(empty)) == []
        held_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held_bytes < 50_000
    assert list(reader.feed(client_frame(0, b"b"))) == [Message("ab")]


async def test_what_came_with_the_handshake_is_heard_before_what_comes_after_it(place):
    heard: list[str] = []

    async def keep(wire: Wire) -> None:
        while (message := await wire.receive()) is not None:
            heard.append(message)

    place.handler, place.meanwhile = keep, client_frame(TEXT, b"second")
    sock_reader, writer = await asyncio.open_connection("127.0.0.1", place.port)
    writer.write(HANDSHAKE + client_frame(TEXT, b"first"))
    await sock_reader.readuntil(b"\r\n\r\n")
    writer.write(client_frame(CLOSE, b"\x03\xe8"))
    async with asyncio.timeout(5):
        await sock_reader.read()
    assert heard == ["first", "second"]
    writer.close()
