"""What goes wrong inside ends in an answer or a close, never in silence."""

import asyncio
import gc
import json
import socket

import aiohttp
import pytest
from aiohttp import web
from publish.conftest import close_of, events, loopback_socket, orders_batch, serving, totals_batch
from websockets.asyncio.client import connect

from penstock.errors import PenstockError
from penstock.http.access import Principal
from penstock.http.socket_life import Life, Pace
from penstock.logs.memory import MemoryLog
from penstock.model.batch import Encoding, NewBatch, Op
from penstock.ports.clock import SystemClock
from penstock_publish.door.intake import DoorIntake
from penstock_publish.door.replicas import Replicas
from penstock_publish.settings import DoorSettings, PublishSettings
from penstock_publish.topics.caller import Caller
from penstock_publish.topics.hub import Hub
from penstock_publish.topics.lines import Pub
from penstock_publish.topics.publishing import Publisher
from penstock_publish.topics.rows import SnapshotRows
from penstock_publish.topics.wire import UPGRADED, Wire, take_over

PRINCIPAL = Principal("tester", "tester", frozenset({"*:read"}), float("inf"), "jti")


async def test_a_log_that_cannot_be_decoded_closes_who_reads_it_from_the_start(gateway):
    await gateway.commit(NewBatch("orders", 0, Encoding.ARROW, b"no frame", 1))
    async with gateway.subscribe("orders", after="earliest") as ws:
        code, reason = await close_of(ws)
    assert (code, reason["code"], reason["retry_ms"]) == (4503, "internal", 1_000)


class FailsOnce:
    """An intake with a defect."""

    needs_bearer = False

    def __init__(self) -> None:
        self.asked = 0

    async def submit(self, stream, body, *, principal, bearer):
        self.asked += 1
        if self.asked == 1:
            raise ValueError("a defect")
        return {"accepted": 1}


async def test_an_intake_that_fails_as_nobody_foresaw_answers_and_the_next_line_is_sent():
    said: list[dict[str, object]] = []
    publisher = Publisher(FailsOnce(), said.append, waiting_max=1)
    async with asyncio.timeout(5):
        for number in range(4):
            await publisher.put(Pub("orders", b"{}", number), b"{}", PRINCIPAL, None)
        await publisher.close(2)
    assert [(line["id"], line.get("err")) for line in said] == [(0, "internal"), (1, None), (2, None), (3, None)]


async def test_a_socket_whose_upgrade_ends_during_a_stop_is_closed_and_the_stop_ends():
    clock, settings = SystemClock(), PublishSettings(close_wait_s=0.2)
    hub = Hub(MemoryLog(clock=clock), clock, settings)
    stopping = asyncio.Event()

    async def serve(wire: Wire) -> None:
        life = Life(clock.monotonic_s() + 60, Pace(60, 60, None), clock.monotonic_s())
        caller = Caller(wire, PRINCIPAL, life, send_buffer_bytes=1_000)
        hub.enter(caller)
        while await wire.receive() is not None:
            pass
        hub.leave(caller)

    async def upgrade(request: web.Request) -> web.StreamResponse:
        await stopping.wait()  # looks for its place in the log, and was let in before
        wire = take_over(request, hub.wires)
        wire.serve(serve(wire))
        return UPGRADED

    sock = loopback_socket()
    async with serving(sock, [web.get("/", upgrade)]) as url, aiohttp.ClientSession() as http:
        connecting = asyncio.create_task(http.ws_connect(url))
        await asyncio.sleep(0.1)
        await hub.drain()
        stopping.set()
        async with asyncio.timeout(5):
            ws = await connecting
            message = await ws.receive()
            await hub.wires.closed()
    assert message.type is aiohttp.WSMsgType.CLOSE
    assert (message.data, json.loads(message.extra)["code"]) == (1001, "draining")


@pytest.mark.parametrize("gateway", [{"close_wait_s": 0.1, "ping_s": 10}], indirect=True)
async def test_an_event_stream_that_nobody_reads_is_cut_off_once_its_token_is_no_good(gateway):
    loop, token = asyncio.get_running_loop(), gateway.token()
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        sock.setblocking(False)
        await loop.sock_connect(sock, ("127.0.0.1", int(gateway.url.rpartition(":")[2])))
        reader, writer = await asyncio.open_connection(sock=sock, limit=1_000)
        lines = ("GET /v1/topics/orders HTTP/1.1", "Host: test", "Accept: text/event-stream")
        writer.write("\r\n".join((*lines, f"Authorization: Bearer {token}", "", "")).encode())
        await reader.readuntil(b"\r\n\r\n")
        for _ in range(40):  # more than the kernel and the send buffer take
            await gateway.commit(orders_batch([("k" * 20_000, n, "north") for n in range(10)]))
            await asyncio.sleep(0.01)
        gateway.authority.revoked_now(await gateway.authority.access.verified(token))
        await asyncio.sleep(0.5)
        async with asyncio.timeout(5):
            got = await reader.read()
        writer.close()
    assert not got.endswith(b"0\r\n\r\n")  # cut off, not brought to its end: it would wait for that for ever


@pytest.mark.parametrize("name", ["../../v1/apps", "a/b", "..", "."])
async def test_a_line_reaches_no_other_path_of_the_ingest_gateway_than_that_of_its_stream(name: str):
    asked: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.json_response({"accepted": 1})

    async with serving(loopback_socket(), [web.post("/{path:.*}", answer)]) as url:
        replicas = Replicas("ingest", [url], DoorSettings())
        replicas.open()
        intake = DoorIntake(replicas)
        with pytest.raises(PenstockError) as refused:
            await intake.submit(name, b"{}", principal=PRINCIPAL, bearer="token")
        await intake.submit("a b?c#d", b"{}", principal=PRINCIPAL, bearer="token")
        await replicas.close()
    assert refused.value.code == "unknown_stream"
    assert asked == ["/v1/streams/a b?c#d/events"]


@pytest.mark.parametrize("gateway", [{"rows_held_s": 0.2, "send_buffer_bytes": 4_096}], indirect=True)
async def test_who_does_not_read_the_rows_of_a_table_holds_none_in_memory_and_loses_none(gateway):
    before = {id(one) for one in gc.get_objects() if type(one) is SnapshotRows}  # in tracebacks of other tests
    regions = [f"{n:04}" + "x" * 2_000 for n in range(4_000)]
    batch = totals_batch([(region, "2024-01-01", 1, Op.INSERT, False) for region in regions])
    await gateway.commit(batch)
    await gateway.apply(0, batch)
    url, narrow = f"{gateway.url.replace('http', 'ws', 1)}/v1/topics/totals?after=earliest", socket.socket()
    narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    narrow.connect(("127.0.0.1", int(gateway.url.rpartition(":")[2])))
    narrow.setblocking(False)
    options = {"compression": None, "max_queue": 1, "max_size": None, "ping_interval": None}
    async with connect(url, additional_headers=gateway.headers(), sock=narrow, **options) as deaf:
        for _ in range(20):
            await asyncio.sleep(0.3)
            held = [one for one in gc.get_objects() if type(one) is SnapshotRows and id(one) not in before]
            if not held:
                break
        assert held == [], "it has read a few, and the gateway keeps its place alone"
        await gateway.commit(totals_batch([(regions[7], "2024-01-01", 2, Op.UPDATE_AFTER, False)]))
        rows = [event["d"] for event in await events(deaf, 4_001)]
    assert sorted(row["region"] for row in rows[:-1]) == regions
    assert (rows[-1]["region"], rows[-1]["sum_n"]) == (regions[7], 2)
