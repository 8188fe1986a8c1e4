"""The ingest routes over a real socket: replies, codes, limits, positions."""

from __future__ import annotations

import asyncio
import gzip
from dataclasses import replace
from typing import Any

import msgspec
import pytest
import zstandard
from ingest_edge import ARRIVALS, COLUMNS, Edge, HeldLog, MakeEdge, until

from penstock.errors import LogFull
from penstock.logs.memory import MemoryLog
from penstock.logs.settings import LogSettings
from penstock.model.position import Cursor
from penstock.model.stream import Relation, StreamSpec
from penstock.ports.clock import SystemClock
from penstock.testing.access import GrantedAccess
from penstock.testing.clock import ManualClock
from penstock_ingest.settings import IngestSettings

GOOD: dict[str, Any] = {"id": "1", "market": "Bagepalli", "price": 385.5, "lots": 3, "ts": "2018-01-01 00:00:00"}
DAY_MS = 1_514_764_800_000


def line(number: int, **changes: object) -> bytes:
    """One good event as JSON text."""
    return msgspec.json.encode({**GOOD, "id": str(number), **changes})


async def test_an_object_is_accepted_and_stored_as_received(edge: Edge) -> None:
    body = b'{"id":"1", "price": 1.50e0, "x": 12345678901234567890, "x": 2, "ts":"2018-01-01"}'
    status, reply = await edge.post(body)
    assert (status, reply["accepted"], reply["duplicate"], reply["rejected"]) == (200, 1, 0, 0)
    assert reply["errors"] == []
    assert await edge.stored() == [body]


async def test_positions_name_the_place_after_the_events(edge: Edge) -> None:
    await edge.post(GOOD)
    _, reply = await edge.lines(b"\n".join(line(n) for n in range(2, 5)))
    head = await edge.log.head("arrivals", 0)
    assert [Cursor.parse("arrivals", text) for text in reply["positions"]] == [
        Cursor("arrivals", head.epoch, (4,)),
    ]
    batches = await edge.log.read("arrivals", 0, 0, 1 << 20)
    assert [(b.min_time_ms, b.max_time_ms, b.count) for b in batches] == [(DAY_MS, DAY_MS, 1), (DAY_MS, DAY_MS, 3)]


async def test_an_array_is_accepted_element_by_element_on_one_line_each(edge: Edge) -> None:
    body = (
        b'[\r\n  {"id": "1",\n   "ts": 1514764800000},\n {"id":"2","ts":"2018-01-01","price":"no"},\n'
        b' 5 ,\n{"id":"3","ts":0}]'
    )
    status, reply = await edge.post(body)
    assert (status, reply["accepted"], reply["rejected"]) == (207, 2, 2)
    assert [(e["index"], e["id"], e["code"]) for e in reply["errors"]] == [
        (1, "2", "wrong_type"),
        (2, None, "wrong_type"),
    ]
    assert await edge.stored() == [b'{"id": "1",    "ts": 1514764800000}', b'{"id":"3","ts":0}']


async def test_a_bad_line_is_rejected_with_its_index_and_blank_lines_count(edge: Edge) -> None:
    body = b"\n".join([line(1), b"", b"{bad", b"  ", line(2), b'{"id":"3"}', b""])
    status, reply = await edge.lines(body)
    assert (status, reply["accepted"], reply["rejected"]) == (207, 2, 2)
    assert [(e["index"], e["id"], e["code"]) for e in reply["errors"]] == [
        (2, None, "bad_json"),
        (5, "3", "no_event_time"),
    ]
    kept = await edge.rejected()
    assert sorted((e.code, e.raw, e.app, e.statement) for e in kept) == [
        ("bad_json", b"{bad", "app", None),
        ("no_event_time", b'{"id":"3"}', "app", None),
    ]
    assert len({e.id for e in kept}) == 2 and all(e.id for e in kept)


async def test_when_all_are_rejected_the_reply_is_a_problem_with_the_same_members(edge: Edge) -> None:
    status, reply = await edge.lines(b'{"id":"1"}\n{"ts":0}\n')
    assert status == 422 and reply["code"] == "all_rejected" and reply["type"] == "/errors/all_rejected"
    assert (reply["accepted"], reply["duplicate"], reply["rejected"], reply["positions"]) == (0, 0, 2, [])
    assert [e["code"] for e in reply["errors"]] == ["no_event_time", "missing_column"]
    assert len(await edge.rejected()) == 2


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b'{"id":"1"', "bad_json"),
        (b'[{"id":"1","ts":0},{"id":]', "bad_json"),
        (b'[{"id":"1","ts":0}', "bad_json"),
        (line(1) + b"\n" + line(2), "bad_json"),
        (b"", "bad_json"),
        (b"  \n", "bad_json"),
        (b'{"id":"\xff","ts":0}', "bad_json"),
        (b'{"x":' * 5000, "bad_json"),
        (b"[" * 5000, "bad_json"),
        (b"5", "bad_request"),
        (b'"text"', "bad_request"),
        (b"null", "bad_request"),
    ],
)
async def test_an_object_or_array_that_cannot_be_read_is_refused_whole(edge: Edge, body: bytes, code: str) -> None:
    status, reply = await edge.post(body)
    assert (status, reply["code"]) == (400, code)
    assert await edge.stored() == [] and await edge.rejected() == []


async def test_nothing_in_an_empty_array_or_ndjson_body_is_fine(edge: Edge) -> None:
    for status, reply in (await edge.post(b"[]"), await edge.lines(b""), await edge.lines(b"\n\n")):
        assert (status, reply["accepted"], reply["rejected"], reply["positions"]) == (200, 0, 0, [])


@pytest.mark.parametrize(
    ("kind", "body", "accepted"),
    [
        ("application/json; charset=utf-8", line(1), 1),
        ("application/ndjson", line(1) + b"\r\n" + line(2) + b"\r\n", 2),
        ("application/jsonl", line(1), 1),
        (None, line(1), 1),
        (None, b"\n [" + line(1) + b"," + line(2) + b"]", 2),
        (None, line(1) + b"\n" + line(2), 2),
        (None, b'{"id":\n"1",\n"ts":0}', 1),
        ("application/json", b"\xef\xbb\xbf" + line(1), 1),
        ("application/json", b"\xef\xbb\xbf[" + line(1) + b"]", 1),
        ("application/x-ndjson", b"\xef\xbb\xbf" + line(1) + b"\n" + line(2), 2),
    ],
)
async def test_the_form_follows_the_type_or_the_look_of_the_body(
    edge: Edge, kind: str | None, body: bytes, accepted: int
) -> None:
    status, reply = await edge.post(body, kind=kind)
    assert (status, reply["accepted"]) == (200, accepted)
    assert len(await edge.stored()) == accepted
    assert b"\r" not in b"".join(await edge.stored())


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "application/json; charset=utf-16"]
)
async def test_other_media_types_are_refused(edge: Edge, kind: str) -> None:
    status, reply = await edge.post(line(1), kind=kind)
    assert (status, reply["code"]) == (415, "unsupported_media_type")


@pytest.mark.parametrize(
    ("encoding", "pack"),
    [
        ("gzip", gzip.compress),
        ("gzip", lambda data: gzip.compress(data[:7], mtime=0) + gzip.compress(data[7:])),
        ("zstd", zstandard.compress),
        ("zstd", lambda data: zstandard.compress(data[:7]) + zstandard.compress(data[7:])),
        ("identity", bytes),
        ("gzip", bytes),  # decoded by something in front, header left in place
    ],
)
async def test_compressed_bodies_are_read(edge: Edge, encoding: str, pack: Any) -> None:
    status, reply = await edge.post(pack(line(1)), Content_Encoding=encoding)
    assert (status, reply["accepted"]) == (200, 1)
    assert await edge.stored() == [line(1)]


@pytest.mark.parametrize(
    ("encoding", "body", "expected"),
    [
        ("br", line(1), (415, "unsupported_media_type")),
        ("gzip", gzip.compress(line(1), mtime=0)[:-9], (400, "bad_request")),
        ("gzip", b"\x1f\x8b" + b"x" * 50, (400, "bad_request")),
        ("zstd", zstandard.compress(line(1))[:4] + b"\xff" * 40, (400, "bad_request")),
        ("gzip", gzip.compress(b" " * 5_000_000, mtime=0), (413, "too_large")),
        ("zstd", zstandard.compress(b" " * 5_000_000), (413, "too_large")),
    ],
)
async def test_a_compressed_body_that_is_garbled_or_a_bomb_is_refused(
    make_edge: MakeEdge, encoding: str, body: bytes, expected: tuple[int, str]
) -> None:
    edge = await make_edge(settings=IngestSettings(body_max_bytes=1_000_000))
    status, reply = await edge.post(body, Content_Encoding=encoding)
    assert (status, reply["code"]) == expected


async def test_limits_answer_413_and_keep_nothing(make_edge: MakeEdge) -> None:
    edge = await make_edge(settings=IngestSettings(body_max_bytes=4096, event_max_bytes=512, events_max=5))
    long = line(1, market="x" * 600)
    six = [line(n) for n in range(6)]
    for body, kind in (
        (b" " * 4097, "application/json"),
        (long, "application/json"),
        (b"\n".join(six), "application/x-ndjson"),
        (b"\n" * 6 + b"x", "application/x-ndjson"),
        (b"[" + b",".join(six) + b"]", "application/json"),
    ):
        status, reply = await edge.post(body, kind=kind)
        assert (status, reply["code"]) == (413, "too_large")

    async def chunks() -> Any:
        for _ in range(50):
            yield b" " * 100

    async with edge.http.post("/v1/streams/arrivals/events", data=chunks()) as answer:
        assert answer.status == 413
    status, reply = await edge.lines(line(2) + b"\n" + long)
    assert (status, reply["accepted"], reply["errors"][0]["code"]) == (207, 1, "too_large")
    assert await edge.stored() == [line(2)]


async def test_streams_that_take_no_events_answer_404(make_edge: MakeEdge) -> None:
    derived = StreamSpec("cheap", "app", Relation.STREAM, COLUMNS, time_column="ts")
    edge = await make_edge(ARRIVALS, derived)
    status, reply = await edge.post(GOOD, stream="nowhere")
    assert (status, reply["code"]) == (404, "unknown_stream")
    status, reply = await edge.post(GOOD, stream="cheap")
    assert (status, reply["code"]) == (404, "unknown_stream") and "written by app 'app'" in reply["detail"]
    async with edge.http.get("/v1/streams/cheap") as answer:
        assert answer.status == 404


async def test_a_full_log_answers_503_and_the_same_events_may_come_again(
    make_edge: MakeEdge,
) -> None:
    clock = ManualClock()
    log = HeldLog(clock=clock)
    full = MemoryLog(clock=clock, settings=LogSettings(max_size_bytes=1))
    edge = await make_edge(log=full, clock=clock)
    async with edge.http.post("/v1/streams/arrivals/events", json=GOOD) as answer:
        assert answer.status == 503 and int(answer.headers["Retry-After"]) >= 1
        assert (await answer.json(content_type=None))["code"] == "log_full"
    edge = await make_edge(log=log, clock=clock)
    log.fail_before = LogFull("disk full")
    assert (await edge.post(GOOD))[0] == 503
    assert (await edge.post(GOOD))[1]["accepted"] == 1


async def test_too_much_in_flight_answers_429_with_retry_after(make_edge: MakeEdge) -> None:
    clock = ManualClock()
    log = HeldLog(clock=clock)
    edge = await make_edge(log=log, clock=clock, settings=IngestSettings(in_flight_max_bytes=1024))
    log.gate.clear()
    first = asyncio.create_task(edge.post(line(1, market="x" * 700)))
    await log.until_waiting(1)
    async with edge.http.post("/v1/streams/arrivals/events", data=line(2, market="x" * 700)) as answer:
        assert answer.status == 429 and int(answer.headers["Retry-After"]) >= 1
        assert (await answer.json(content_type=None))["code"] == "too_many_requests"
    log.gate.set()
    assert (await first)[0] == 200
    assert (await edge.post(line(2, market="x" * 700)))[0] == 200


async def test_a_key_stays_in_one_partition_and_each_touched_one_has_a_cursor(
    make_edge: MakeEdge,
) -> None:
    edge = await make_edge(replace(ARRIVALS, partitions=4))
    body = b"\n".join(line(n, market=f"market {n % 7}") for n in range(70))
    status, reply = await edge.lines(body)
    assert (status, reply["accepted"]) == (200, 70)
    stored = [await edge.stored(partition=partition) for partition in range(4)]
    assert sorted(text for lines in stored for text in lines) == sorted(body.split(b"\n"))
    homes: dict[bytes, set[int]] = {}
    for partition, lines in enumerate(stored):
        numbers = [int(text.split(b'"')[3]) for text in lines]
        assert numbers == sorted(numbers)
        for text in lines:
            homes.setdefault(text.split(b'"market":')[1].split(b",")[0], set()).add(partition)
    assert len(homes) == 7 and all(len(home) == 1 for home in homes.values())
    assert len(reply["positions"]) == sum(1 for lines in stored if lines)
    assert Cursor.parse("arrivals", reply["positions"][-1]).next == tuple(len(lines) for lines in stored)
    one = await edge.post(line(100, market="market 1"))
    (at,) = homes[b'"market 1"']
    assert Cursor.parse("arrivals", one[1]["positions"][0]).next == tuple(
        len(lines) + (partition == at) for partition, lines in enumerate(stored)
    )


async def test_a_watermark_goes_to_every_partition_without_events(make_edge: MakeEdge) -> None:
    edge = await make_edge(replace(ARRIVALS, partitions=2), replace(ARRIVALS, name="timeless", time_column=None))
    async with edge.http.post("/v1/streams/arrivals/watermark", json={"through": "2018-01-01T00:00:00Z"}) as answer:
        assert answer.status == 200
        assert (await answer.json())["through"] == "2018-01-01T00:00:00.000"
    heads = [await edge.log.head("arrivals", partition) for partition in range(2)]
    assert [(head.next, head.watermark_ms) for head in heads] == [(0, DAY_MS)] * 2
    for stream, body, expected in (
        ("arrivals", b'{"through":"2099-01-01"}', (422, "time_out_of_range")),
        ("arrivals", b'{"through":"soon"}', (400, "bad_request")),
        ("arrivals", b"{}", (400, "bad_request")),
        ("arrivals", b" " * 5000, (413, "too_large")),
        ("timeless", b'{"through":0}', (400, "bad_request")),
        ("nowhere", b'{"through":0}', (404, "unknown_stream")),
    ):
        async with edge.http.post(f"/v1/streams/{stream}/watermark", data=body) as answer:
            assert (answer.status, (await answer.json(content_type=None))["code"]) == expected


async def test_sources_are_described(make_edge: MakeEdge) -> None:
    edge = await make_edge(ARRIVALS, StreamSpec("cheap", "app", Relation.STREAM, COLUMNS))
    async with edge.http.get("/v1/streams") as answer:
        listed = (await answer.json())["streams"]
    async with edge.http.get("/v1/streams/arrivals") as answer:
        described = await answer.json()
    assert listed == [described]
    assert described["columns"][4] == {"name": "ts", "type": "TIMESTAMP(3)", "nullable": True}
    assert described["key"] == ["market"] and described["dedupe"] == ["id"] and described["partitions"] == 1


async def test_writing_needs_ingest_write_and_the_schema_either_scope(make_edge: MakeEdge) -> None:
    for scopes, post, get in (({"ingest:write"}, 200, 200), ({"data:read"}, 403, 200), ({"x:read"}, 403, 403)):
        edge = await make_edge(access=GrantedAccess(frozenset(scopes)))
        assert (await edge.post(GOOD))[0] == post
        async with edge.http.get("/v1/streams/arrivals") as answer:
            assert answer.status == get
        async with edge.http.post("/v1/streams/arrivals/watermark", json={"through": 0}) as answer:
            assert answer.status == post


async def test_a_client_that_leaves_in_the_middle_of_a_body_harms_nobody(edge: Edge) -> None:
    reader, writer = await asyncio.open_connection(edge.http._base_url.host, edge.http._base_url.port)  # type: ignore[union-attr] # set by the fixture
    writer.write(b"POST /v1/streams/arrivals/events HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\n{")
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    assert (await edge.post(GOOD))[0] == 200
    assert await edge.stored() == [line(1)]
    del reader


async def test_a_stopping_gateway_finishes_what_it_began_and_takes_nothing_new(make_edge: MakeEdge) -> None:
    log = HeldLog(clock=ManualClock())
    edge = await make_edge(log=log, clock=SystemClock())
    stop = asyncio.Event()
    running = asyncio.create_task(edge.role.run(stop))
    await until(lambda: edge.role.ready()[0].ok)
    log.gate.clear()
    begun = asyncio.create_task(edge.post(GOOD))
    await log.until_waiting(1)
    stop.set()
    await until(lambda: not edge.role.ready()[0].ok)
    status, reply = await edge.post(line(2))
    assert (status, reply["code"]) == (503, "draining") and not running.done()
    log.gate.set()
    assert (await begun)[0] == 200
    await running
