"""Topics over WebSocket, with real sockets: envelopes, resuming, filters, gaps, closing."""

import asyncio
import json
from dataclasses import replace

import pytest
from publish.conftest import ORDERS, SPECS, close_of, events, orders_batch, receive
from websockets.exceptions import ConnectionClosed, InvalidStatus

from penstock.codecs.ndjson import encode_lines
from penstock.model.batch import Encoding, NewBatch
from penstock.model.position import Cursor
from penstock.model.stream import Column
from penstock.model.types import DOUBLE


async def refused(connection) -> tuple[int, dict[str, object]]:
    with pytest.raises(InvalidStatus) as refusal:
        async with connection:
            pass
    response = refusal.value.response
    return response.status_code, json.loads(response.body)


async def test_an_event_arrives_in_its_envelope_one_a_message(gateway):
    async with gateway.subscribe("orders") as ws:
        [opened] = await receive(ws, 1)
        assert opened == {"sys": "open", "t": "orders", "c": Cursor("orders", 1, (0, 0)).text()}
        await gateway.commit(orders_batch([("a", 1, "north"), ("ä\n", 2, None)]))
        assert await receive(ws, 2) == [
            {
                "t": "orders",
                "c": Cursor("orders", 1, (1, 0)).text(),
                "k": "a",
                "d": {"id": "a", "n": 1, "region": "north"},
            },
            {
                "t": "orders",
                "c": Cursor("orders", 1, (2, 0)).text(),
                "k": "ä\n",
                "d": {"id": "ä\n", "n": 2, "region": None},
            },
        ]


async def test_a_stream_without_key_has_no_k_and_raw_has_the_columns_only(gateway):
    async with gateway.subscribe("alerts") as ws, gateway.subscribe("alerts", format="raw") as raw:
        await gateway.commit(orders_batch([("a", 1, "north")], stream="alerts"))
        assert "k" not in (await events(ws, 1))[0]
        assert await events(raw, 1) == [{"id": "a", "n": 1, "region": "north"}]


async def test_source_events_go_out_as_they_came_in(gateway):
    lines = [b'{"id":"a","n":1.50,"extra":{"x":[1, 2]}}', b'{"id":7,"id":"b"}', b'{"n":3}']
    async with gateway.subscribe("clicks") as ws:
        await ws.recv()
        await gateway.log.append([NewBatch("clicks", 0, Encoding.NDJSON_ZSTD, encode_lines(lines), 3)])
        messages = [await ws.recv() for _ in lines]
    for message, line in zip(messages, lines, strict=True):
        assert message.encode().endswith(b',"d":' + line + b"}")
    assert [json.loads(message)["k"] for message in messages] == ["a", "b", None]


async def test_after_latest_shows_nothing_old_and_after_earliest_everything(gateway):
    await gateway.orders(0, 5)
    async with gateway.subscribe("orders") as latest, gateway.subscribe("orders", after="earliest") as earliest:
        await gateway.orders(5, 1, partition=1)
        assert [e["d"]["n"] for e in await events(latest, 1)] == [5]
        assert [e["d"]["n"] for e in await events(earliest, 6)] == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("gateway", [{"merge_ms": 0}], indirect=True)
async def test_a_subscriber_that_reconnects_again_and_again_misses_nothing_and_gets_nothing_twice(gateway):
    total = 3_000
    seen: list[tuple[str, int]] = []

    async def produce() -> None:
        for first in range(0, total, 10):
            await gateway.orders(first, 10, partition=(first // 10) % 2)
            await asyncio.sleep(0.001)

    producing = asyncio.create_task(produce())
    after = "earliest"
    for take in (1, 7, 500, 3, 40, 900, 11):
        async with gateway.subscribe("orders", after=after) as ws:
            for event in await events(ws, take):
                seen.append((event["k"], event["d"]["n"]))
                after = event["c"]
    async with gateway.subscribe("orders", after=after) as ws:
        seen += [(event["k"], event["d"]["n"]) for event in await events(ws, total - len(seen))]
    await producing
    assert sorted(n for _, n in seen) == list(range(total))


async def test_order_per_partition_is_kept_for_every_subscriber(gateway):
    async with gateway.subscribe("orders") as first, gateway.subscribe("orders", after="earliest") as second:
        for start in range(0, 300, 3):
            await gateway.commit(*(orders_batch([(f"p{p}", start, "x")], partition=p) for p in (0, 1)))
        for ws in (first, second):
            got = await events(ws, 200)
            for key in ("p0", "p1"):
                assert [e["d"]["n"] for e in got if e["k"] == key] == list(range(0, 300, 3))


async def test_filters_select_before_the_upgrade_and_are_shared(gateway):
    async with (
        gateway.subscribe("orders", filter="n > 2 AND region = 'north'") as ws,
        gateway.subscribe("orders", filter="n > 100") as none,
        gateway.subscribe("orders") as every,
    ):
        await gateway.orders(0, 8)
        assert [e["d"]["n"] for e in await events(ws, 3)] == [3, 5, 7]
        assert [e["d"]["n"] for e in await events(every, 8)] == list(range(8))
        await gateway.orders(200, 1)
        assert [e["d"]["n"] for e in await events(none, 1)] == [200]
    async with gateway.subscribe("orders", after="earliest", filter="n = 6") as ws:
        assert [e["d"]["n"] for e in await events(ws, 1)] == [6]


async def test_a_source_can_be_filtered_by_what_its_columns_say(gateway):
    lines = [b'{"id":"a","n":1}', b'{"id":"b","n":"x"}', b'{"id":"c","n":3}']
    async with gateway.subscribe("clicks", filter="n >= 1") as ws:
        await gateway.log.append([NewBatch("clicks", 0, Encoding.NDJSON_ZSTD, encode_lines(lines), 3)])
        assert [e["k"] for e in await events(ws, 2)] == ["a", "c"]


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ({"filter": "n >"}, 400, "bad_filter"),
        ({"filter": "price > 3"}, 400, "bad_filter"),
        ({"filter": "n + 1"}, 400, "bad_filter"),
        ({"filter": "x" * 3000}, 400, "bad_filter"),
        ({"after": "nonsense"}, 400, "bad_cursor"),
        ({"after": Cursor("alerts", 1, (0,)).text()}, 400, "bad_cursor"),
        ({"after": Cursor("orders", 1, (0,)).text()}, 400, "bad_cursor"),
        ({"after": Cursor("orders", 1, (99, 0)).text()}, 400, "bad_cursor"),
        ({"after": Cursor("orders", 2, (0, 0)).text()}, 400, "bad_cursor"),
        ({"format": "xml"}, 400, "bad_request"),
        ({"slow": "never"}, 400, "bad_request"),
        ({"limit": "10"}, 400, "bad_request"),
        ({"colour": "red"}, 400, "bad_request"),
        ({"access_token": "x"}, 400, "bad_request"),
    ],
    ids=str,
)
async def test_what_is_wrong_with_the_request_is_said_before_the_upgrade(gateway, query, status, code):
    assert await refused(gateway.subscribe("orders", **query)) == (status, Problem(code))


class Problem:
    """Equal to a problem with this code and a detail."""

    def __init__(self, code: str) -> None:
        self.code = code

    def __eq__(self, other: object) -> bool:
        return isinstance(other, dict) and other["code"] == self.code and bool(other["detail"])

    def __repr__(self) -> str:
        return f"a problem with code {self.code}"


@pytest.mark.parametrize(
    ("topic", "scope", "status", "code"),
    [
        ("orders", "orders:read", 101, ""),
        ("orders", "*:read", 101, ""),
        ("orders", "alerts:read", 403, "insufficient_scope"),
        ("orders", "data:read ingest:write apps:admin data:query", 403, "insufficient_scope"),
        ("nothing", "*:read", 404, "unknown_topic"),
        ("hidden", "*:read", 404, "unknown_topic"),
        ("orders", None, 401, "unauthorized"),
        ("nothing", None, 401, "unauthorized"),
    ],
)
async def test_who_may_subscribe(gateway, topic, scope, status, code):
    headers = {} if scope is None else gateway.headers(scope)
    connection = gateway.subscribe(topic, headers=headers)
    if status == 101:
        async with connection as ws:
            assert (await receive(ws, 1))[0]["sys"] == "open"
    else:
        assert await refused(connection) == (status, Problem(code))


async def test_a_cookie_opens_a_socket_for_our_own_page_only(gateway):
    cookie = {"Cookie": f"penstock_session={gateway.token()}"}
    for origin in (None, "http://localhost:3000", "https://evil.example"):
        assert await refused(gateway.subscribe("orders", headers=cookie, origin=origin)) == (
            403,
            Problem("forbidden_origin"),
        )
    async with gateway.subscribe("orders", headers=cookie, origin=gateway.url) as ws:
        assert (await receive(ws, 1))[0]["sys"] == "open"


async def test_a_cursor_older_than_retention_is_answered_with_a_gap_and_the_earliest(gateway):
    await gateway.orders(0, 10, stream="alerts")
    await gateway.clock.advance(7200)
    await gateway.orders(10, 2, stream="alerts")
    assert await gateway.log.trim({}) == 10
    lost = Cursor("alerts", 1, (4,)).text()
    async with gateway.subscribe("alerts", after=lost) as ws:
        _, gap, *rest = await receive(ws, 4)
    assert gap == {"sys": "gap", "t": "alerts", "from": lost, "to": Cursor("alerts", 1, (10,)).text(), "n": 6}
    assert [event["d"]["n"] for event in rest] == [10, 11]


async def test_a_recreated_stream_sends_its_subscribers_away_and_their_cursors_lead_to_a_gap(gateway):
    await gateway.orders(0, 1, stream="alerts")
    async with gateway.subscribe("alerts", after="earliest") as ws:
        [event] = await events(ws, 1)
        changed = [spec if spec.name != "alerts" else _with_column(spec) for spec in SPECS]
        await gateway.log.put_app("shop", "-- shop 2", changed, None)
        assert await close_of(ws) == (1001, {"code": "topic_changed", "retry_ms": 0, "after": event["c"]})
    async with gateway.subscribe("alerts", after=event["c"]) as ws:
        _, gap = await receive(ws, 2)
        assert (gap["sys"], gap["from"], gap["n"]) == ("gap", event["c"], None)


async def test_a_dropped_topic_closes_with_4404(gateway):
    async with gateway.subscribe("alerts") as ws:
        await ws.recv()
        await gateway.log.put_app("shop", "-- less", [ORDERS], None)
        code, reason = await close_of(ws)
        assert (code, reason["code"]) == (4404, "unknown_topic")


async def test_at_stop_everybody_is_sent_away_with_the_cursor_and_a_hint(gateway):
    async with gateway.subscribe("orders") as ws:
        await gateway.orders(0, 3)
        last = (await events(ws, 3))[-1]["c"]
        gateway.stop.set()
        code, reason = await close_of(ws)
        assert (code, reason["code"], reason["after"]) == (1001, "draining", last)
        assert 1000 <= reason["retry_ms"] <= 2000, "spread, so that not all come back at once"
    assert await refused(gateway.subscribe("orders")) == (503, Problem("draining"))


async def test_a_revoked_token_closes_its_socket_and_no_other(gateway, http):
    credentials = json.loads(await asyncio.to_thread((gateway.data_dir / "client.json").read_text))
    form = {k: credentials[k] for k in ("client_id", "client_secret")}
    async with http.post(credentials["token_url"], data={**form, "grant_type": "client_credentials"}) as reply:
        token = (await reply.json())["access_token"]
    headers = {"Authorization": f"Bearer {token}"}
    async with gateway.subscribe("orders", headers=headers) as ws, gateway.subscribe("orders") as other:
        async with http.post(f"{gateway.url}/oauth/revoke", data={**form, "token": token}) as reply:
            assert reply.status == 200
        async with asyncio.timeout(1):
            code, reason = await close_of(ws)
        assert (code, reason["code"]) == (4401, "invalid_token")
        await gateway.orders(0, 1)
        assert len(await events(other, 1)) == 1
    assert await refused(gateway.subscribe("orders", headers=headers)) == (401, Problem("invalid_token"))


async def test_before_the_token_expires_there_is_a_warning_then_the_socket_is_closed(gateway):
    async with gateway.subscribe("orders") as ws:
        await ws.recv()
        await gateway.pass_time(3550, step_s=50)
        assert (await receive(ws, 1))[0] == {"sys": "expiring", "in": pytest.approx(60, abs=15)}
        await gateway.orders(0, 1)
        last = (await events(ws, 1))[0]["c"]
        await gateway.pass_time(60, step_s=10)
        assert await close_of(ws) == (4401, {"code": "invalid_token", "retry_ms": None, "after": last})


async def test_a_client_that_answers_pings_stays_and_one_that_does_not_is_closed(gateway):
    reader, writer = await asyncio.open_connection("127.0.0.1", int(gateway.url.rsplit(":", 1)[1]))
    writer.write(
        f"GET /v1/topics/orders HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n"
        f"Authorization: Bearer {gateway.token()}\r\n\r\n".encode()
    )
    assert b"101" in await reader.readuntil(b"\r\n\r\n")
    async with gateway.subscribe("orders") as ws:
        for _ in range(4):
            await gateway.pass_time(16, step_s=4)
        async with asyncio.timeout(5):
            silent = await reader.read(1 << 16)
            while chunk := await reader.read(1 << 16):
                silent += chunk
        assert silent.count(b"\x89\x00") == 2
        assert b"ping_timeout" in silent
        await gateway.orders(0, 1)
        assert len(await events(ws, 1)) == 1
    writer.close()


async def test_a_filtered_subscriber_learns_by_heartbeat_how_far_the_topic_is(gateway):
    async with gateway.subscribe("orders", filter="n < 0") as ws:
        await ws.recv()
        await gateway.orders(0, 5)
        await asyncio.sleep(0.05)
        await gateway.pass_time(16, step_s=4)
        assert await receive(ws, 1) == [{"sys": "hb", "c": Cursor("orders", 1, (5, 0)).text()}]


async def test_too_large_a_message_from_a_subscriber_closes_with_1009(gateway):
    async with gateway.subscribe("orders") as ws:
        await gateway.orders(0, 1)
        assert len(await events(ws, 1)) == 1
        await ws.send("x" * 70_000)
        with pytest.raises(ConnectionClosed) as closed:
            await asyncio.wait_for(ws.recv(), 5)
        assert closed.value.rcvd.code == 1009
        after = Cursor("orders", 1, (1, 0)).text()
        assert json.loads(closed.value.rcvd.reason) == {"code": "too_large", "retry_ms": None, "after": after}


@pytest.mark.parametrize(
    "gateway", [{"connections_max": 2, "filters_per_topic_max": 1, "subscribers_per_topic_max": 2}], indirect=True
)
async def test_limits_refuse_with_429(gateway):
    async with gateway.subscribe("orders", filter="n > 1"):
        assert await refused(gateway.subscribe("orders", filter="n > 2")) == (429, Problem("too_many_requests"))
        async with gateway.subscribe("orders", filter="n > 1"):
            assert await refused(gateway.subscribe("orders")) == (429, Problem("too_many_requests"))
            assert await refused(gateway.subscribe("alerts")) == (429, Problem("too_many_requests"))
    for _ in range(100):  # places are given back
        try:
            async with gateway.subscribe("alerts"):
                return
        except InvalidStatus:
            await asyncio.sleep(0.01)
    pytest.fail("the places of closed connections were not given back")


def _with_column(spec):
    return replace(spec, columns=(*spec.columns, Column("price", DOUBLE)))
