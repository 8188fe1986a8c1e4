"""Rows, summaries and history for pages of other origins, compressed, by tag: in one process and through the door."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
import zstandard
from multidict import CIMultiDictProxy
from publish.conftest import ORDERS, TOTALS, a_token, orders_batch, totals_batch
from pydantic import ValidationError
from websockets.asyncio.client import connect

from penstock.http.listener import HttpSettings, Listener
from penstock.logs.memory import MemoryLog
from penstock.model.batch import Op
from penstock.ports.clock import SystemClock
from penstock.ports.log import Transaction
from penstock.role import Ports
from penstock.stores.open import open_store
from penstock_data.metrics import SQL_LEFT
from penstock_data.service import build as build_data
from penstock_data.settings import DataSettings
from penstock_publish.authority import open_authority
from penstock_publish.rest.codings import Coding, agreed_coding, encoder_of, is_compressible
from penstock_publish.service import build as build_publish
from penstock_publish.settings import AuthSettings, PublishSettings

SHOP = "https://shop.example"
ROWS = "/v1/data/totals?limit=200"
COUNTED = '{"columns":[{"name":"n","type":"BIGINT"}],"rows":[{"n":100}],"truncated":false}'
ONE = '{"columns":[{"name":"a","type":"INT"}],"rows":[{"a":1}],"truncated":false}'
PAGE = "/v1/topics/orders?after=earliest&limit=200"


@dataclass
class Edge:
    url: str
    http: aiohttp.ClientSession
    token: str
    admin: str

    async def get(
        self, path: str, *, method: str = "GET", bearer: bool = True, **fields: str
    ) -> tuple[int, CIMultiDictProxy[str], bytes]:
        """Status, fields and the body as it came; `_` in the name of a field stands for `-`."""
        sent = {name.replace("_", "-"): value for name, value in fields.items()}
        if bearer:
            sent["Authorization"] = f"Bearer {self.token}"
        skip = ("Accept-Encoding",)
        async with self.http.request(method, self.url + path, headers=sent, skip_auto_headers=skip) as reply:
            return reply.status, reply.headers, await reply.read()


@asynccontextmanager
async def running(folder: Path, arrangement: str, settings: Mapping[str, object]) -> AsyncIterator[Edge]:
    clock = SystemClock()
    async with AsyncExitStack() as stack:
        log = MemoryLog(clock=clock)
        await log.put_app("shop", "-- shop", (ORDERS, TOTALS), None)
        rows = [(f"region {n}", "2026-01-01", n, Op.INSERT, False) for n in range(100)]
        orders = [(f"k{n}", n, "north") for n in range(100)]
        term = (await log.acquire("shop")).term
        await log.commit(Transaction("shop", term, appends=[totals_batch(rows), orders_batch(orders)]))
        store = await asyncio.to_thread(open_store, f"sqlite:///{folder}", clock=clock, writable=True)
        stack.push_async_callback(store.close)
        listener = Listener(HttpSettings(port=0, drain_s=1))
        stack.push_async_callback(listener.close)
        authority = await open_authority(folder, AuthSettings(), clock=clock, public_url=listener.url)
        stack.push_async_callback(authority.close)
        ports = Ports(log, store, clock, authority.access)
        data = build_data(DataSettings(), ports)
        elsewhere, beside = {}, data.routes()
        if arrangement != "one process":
            other = Listener(HttpSettings(port=0, drain_s=1))
            stack.push_async_callback(other.close)
            await other.serve(data.routes())
            elsewhere, beside = {"data": [other.url]}, ()
        publish = build_publish(
            PublishSettings.model_validate(settings), ports, authority=authority, elsewhere=elsewhere
        )
        routes = [*publish.guard(authority.routes()), *publish.routes(), *publish.guard(beside)]
        stop = asyncio.Event()
        tasks = [asyncio.create_task(role.run(stop)) for role in (data, publish)]
        await listener.serve(routes)
        http = aiohttp.ClientSession(auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar())
        try:
            scope = "*:read data:read data:query"
            edge = Edge(listener.url, http, a_token(authority, scope), a_token(authority, f"{scope} apps:admin"))
            async with asyncio.timeout(10):
                while len(json.loads((await edge.get(ROWS))[2]).get("rows", ())) < 100:  # noqa: ASYNC110 - no event
                    await asyncio.sleep(0.01)
            yield edge
        finally:
            await http.close()
            stop.set()
            await asyncio.gather(*tasks)


@pytest.fixture(params=["one process", "through the door"])
async def edge(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Edge]:
    settings = {"cors_origins": [SHOP], "rest": {"compress_inline_bytes_max": 2_000, "compress_bytes_min": 600}}
    async with running(tmp_path, request.param, settings) as found:
        yield found


async def test_who_takes_a_coding_gets_rows_and_history_in_it_and_a_weak_tag(edge: Edge):
    for path in (ROWS, PAGE):
        status, plain, body = await edge.get(path)
        assert status == 200 and "Content-Encoding" not in plain and "Accept-Encoding" in plain["Vary"]
        assert plain["ETag"].startswith('"')
        _, fields, packed = await edge.get(path, Accept_Encoding="gzip")
        assert fields["Content-Encoding"] == "gzip" and gzip.decompress(packed) == body
        assert fields["ETag"] == "W/" + plain["ETag"] and len(packed) < len(body) / 3
        _, fields, packed = await edge.get(path, Accept_Encoding="gzip;q=0.5, deflate, zstd")
        assert fields["Content-Encoding"] == "zstd" and fields["Content-Type"] == plain["Content-Type"]
        assert zstandard.ZstdDecompressor().decompressobj().decompress(packed) == body
        _, fields, same = await edge.get(path, Accept_Encoding="br, gzip;q=0, identity")
        assert same == body and "Content-Encoding" not in fields and fields["ETag"] == plain["ETag"]
        _, head, nothing = await edge.get(path, method="HEAD", Accept_Encoding="gzip")
        if path == ROWS:
            assert head["Content-Encoding"] == "gzip" and head["ETag"] == "W/" + plain["ETag"] and not nothing


async def test_rows_of_a_draft_are_there_for_who_may_change_apps_and_for_nobody_else(edge: Edge):
    paths = (
        "/v1/data/totals",
        "/v1/data/tot%61ls?limit=1",
        "/v1/summaries/totals?agg=count(*)&bucket=1d&time=day",
        "/v1/data/raw.totals",
    )
    lifecycle, admin = f"{edge.url}/v1/topics/totals/lifecycle", {"Authorization": f"Bearer {edge.admin}"}
    before = [(await edge.get(path))[0] for path in paths]
    listed = (await edge.get("/v1/data"))[2]
    assert b'"totals"' in listed
    async with edge.http.put(lifecycle, json={"state": "draft"}, headers=admin) as reply:
        assert reply.status == 200
    for path in paths:
        status, _, body = await edge.get(path)
        assert (status, json.loads(body)["code"]) == (404, "unknown_relation"), path
    assert (await edge.get("/v1/data/totals", bearer=False))[0] in (401, 404)
    assert b'"/docs/relations/totals"' not in (await edge.get("/docs"))[2]
    assert b'"totals"' not in (await edge.get("/v1/data"))[2]
    assert (await edge.get("/v1/data", bearer=False, Authorization=f"Bearer {edge.admin}"))[2] == listed
    for path, status in zip(paths, before, strict=True):
        assert (await edge.get(path, bearer=False, Authorization=f"Bearer {edge.admin}"))[0] == status
    async with edge.http.put(lifecycle, json={"state": "published"}, headers=admin):
        assert [(await edge.get(path))[0] for path in paths] == before
    assert before[:2] == [200, 200]


async def test_queries_know_nothing_of_drafts_unless_their_caller_may_change_apps(edge: Edge):
    lifecycle, admin = f"{edge.url}/v1/topics/totals/lifecycle", {"Authorization": f"Bearer {edge.admin}"}

    async def ask(token: str, sql: str, **fields: str) -> tuple[int, str]:
        headers = {"Authorization": f"Bearer {token}", **fields}
        async with edge.http.post(f"{edge.url}/v1/query", json={"sql": sql}, headers=headers) as reply:
            return reply.status, (await reply.read()).decode()

    counted = "SELECT COUNT(*) AS n FROM totals"
    assert await ask(edge.token, counted) == (200, COUNTED)
    async with edge.http.put(lifecycle, json={"state": "draft"}, headers=admin) as reply:
        assert reply.status == 200
    for sql in (
        counted,
        "WITH x AS (SELECT * FROM `totals`) SELECT COUNT(*) AS n FROM x",
        "SELECT 1 AS a FROM total",
    ):
        status, answer = await ask(edge.token, sql, **{"Penstock-Hidden-Relations": ""})
        assert status == 422
        assert "There is no relation" in answer
        assert "Did you mean" not in answer
    assert await ask(edge.token, "SELECT 1 AS a") == (200, ONE)
    assert await ask(edge.admin, counted) == (200, COUNTED)
    async with edge.http.put(lifecycle, json={"state": "published"}, headers=admin):
        assert await ask(edge.token, counted) == (200, COUNTED)


async def test_a_query_passes_the_edge_as_rows_do(edge: Edge):
    sql = {"sql": "SELECT region, SUM(sum_n) AS n FROM totals GROUP BY region ORDER BY n DESC"}
    headers = {"Authorization": f"Bearer {edge.token}", "Origin": SHOP, "Accept-Encoding": "gzip"}
    async with edge.http.post(f"{edge.url}/v1/query", json=sql, headers=headers) as reply:
        assert reply.status == 200
        assert reply.headers["Access-Control-Allow-Origin"] == SHOP
        assert reply.headers["Content-Encoding"] == "gzip"
        rows = json.loads(gzip.decompress(await reply.read()))["rows"]
    assert len(rows) == 100
    assert rows[0] == {"region": "region 99", "n": 99}
    ask = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type"}
    async with edge.http.options(f"{edge.url}/v1/query", headers={"Origin": SHOP, **ask}) as reply:
        assert (reply.status, "POST" in reply.headers["Access-Control-Allow-Methods"]) == (204, True)
    async with edge.http.post(f"{edge.url}/v1/query", json=sql) as reply:
        assert reply.status == 401


async def test_a_query_ends_when_its_caller_leaves_the_edge(edge: Edge):
    left = SQL_LEFT._value.get()
    many = ", ".join(f"totals AS t{n}" for n in range(8))
    headers = {"Authorization": f"Bearer {edge.token}"}
    asked = asyncio.ensure_future(
        edge.http.post(f"{edge.url}/v1/query", json={"sql": f"SELECT COUNT(*) AS n FROM {many}"}, headers=headers)
    )
    await asyncio.sleep(0.3)
    assert not asked.done()
    asked.cancel()
    async with asyncio.timeout(4):  # its own limit is 5 s
        while SQL_LEFT._value.get() == left:  # noqa: ASYNC110 - no event
            await asyncio.sleep(0.02)


async def test_what_is_known_is_not_sent_again_and_its_tag_comes_back_as_it_was_known(edge: Edge):
    for path in (ROWS, PAGE, "/v1/data"):
        _, plain, _ = await edge.get(path)
        strong, weak = plain["ETag"], "W/" + plain["ETag"]
        for known, back in ((strong, strong), (weak, weak), (f'"x", {weak}', weak), ("*", strong)):
            status, fields, body = await edge.get(path, If_None_Match=known, Accept_Encoding="gzip")
            assert (status, body, fields["ETag"]) == (304, b"", back)
            assert "Accept-Encoding" in fields["Vary"] and "Content-Encoding" not in fields
        assert (await edge.get(path, If_None_Match='"other"'))[0] == 200


async def test_a_page_of_history_has_another_tag_when_more_has_come_or_another_form_is_asked_for(edge: Edge):
    tags = [
        (await edge.get("/v1/topics/orders?after=earliest" + more, Accept=accept))[1]["ETag"]
        for more, accept in (("", "*/*"), ("&limit=7", "*/*"), ("", "application/x-ndjson"), ("&format=raw", "*/*"))
    ]
    assert len(set(tags)) == 4


async def test_errors_and_small_replies_go_out_as_they_are(edge: Edge):
    for path, status in (("/v1/topics/nothing", 404), ("/v1/data/nothing", 404), ("/v1/data?limit=1", 200)):
        found, fields, body = await edge.get(path, Accept_Encoding="gzip, zstd")
        assert found == status and "Content-Encoding" not in fields
        assert isinstance(json.loads(body), dict)


async def test_a_page_of_an_allowed_origin_asks_first_and_reads_fields_and_errors(edge: Edge):
    wanted = {"Access_Control_Request_Method": "GET", "Access_Control_Request_Headers": "authorization"}
    for path in (ROWS, PAGE, "/v1/topics", "/v1/summaries/totals"):
        status, fields, body = await edge.get(path, method="OPTIONS", bearer=False, Origin=SHOP, **wanted)
        assert (status, body, fields["Access-Control-Allow-Origin"]) == (204, b"", SHOP)
        assert "GET" in fields["Access-Control-Allow-Methods"] and int(fields["Access-Control-Max-Age"]) > 0
        assert "Authorization" in fields["Access-Control-Allow-Headers"]
        assert "Access-Control-Allow-Credentials" not in fields
    for path, status in ((ROWS, 200), (PAGE, 200), ("/v1/data/nothing", 404), ("/v1/topics/nothing", 404)):
        found, fields, _ = await edge.get(path, Origin=SHOP)
        assert (found, fields["Access-Control-Allow-Origin"]) == (status, SHOP)
        assert {"ETag", "Link", "Retry-After", "RateLimit"} <= set(
            fields["Access-Control-Expose-Headers"].split(", ")
        )
        assert "Origin" in fields["Vary"] and "Access-Control-Allow-Credentials" not in fields
    status, fields, _ = await edge.get(ROWS, bearer=False, Origin=SHOP)
    assert (status, fields["Access-Control-Allow-Origin"]) == (401, SHOP)


async def test_a_page_of_any_other_origin_learns_nothing(edge: Edge):
    for origin in ("https://evil.example", "null", SHOP + ".evil.example", SHOP + ":444", SHOP.upper(), SHOP + "/"):
        for path in (ROWS, PAGE):
            status, fields, _ = await edge.get(
                path, method="OPTIONS", bearer=False, Origin=origin, Access_Control_Request_Method="GET"
            )
            assert status == 403 and "Access-Control-Allow-Origin" not in fields
            _, fields, _ = await edge.get(path, Origin=origin)
            assert "Access-Control-Allow-Origin" not in fields and "Origin" in fields["Vary"]
    cookie = f"penstock_session={edge.token}"
    status, fields, body = await edge.get(ROWS, bearer=False, Origin=SHOP, Cookie=cookie)
    assert (status, json.loads(body)["code"]) == (403, "forbidden_origin"), "allowed origins have no session"


async def test_paths_that_are_for_nobody_elsewhere_say_nothing_and_options_alone_is_no_method(edge: Edge):
    for path in ("/v1/applications", "/openapi.json"):
        assert "Access-Control-Allow-Origin" not in (await edge.get(path, Origin=SHOP))[1]
    status, fields, _ = await edge.get(PAGE, method="OPTIONS", bearer=False)
    assert status == 405 and "GET" in fields["Allow"]


async def test_a_page_of_an_allowed_origin_gets_a_ticket_for_its_socket_and_an_event_stream(edge: Edge):
    fields = {"Origin": SHOP, "Authorization": f"Bearer {edge.token}"}
    async with edge.http.post(edge.url + "/v1/tickets", json={"topic": "orders"}, headers=fields) as reply:
        assert reply.headers["Access-Control-Allow-Origin"] == SHOP and "Content-Encoding" not in reply.headers
        ticket = json.loads(await reply.read())["ticket"]
    url = edge.url.replace("http", "ws", 1) + f"/v1/topics/orders?ticket={ticket}"
    async with connect(url, origin=SHOP, compression=None) as socket:  # type: ignore[arg-type]  # a str is an Origin
        assert json.loads(await socket.recv())["sys"] == "open"
    wanted = {**fields, "Accept": "text/event-stream", "Accept-Encoding": "gzip"}
    async with edge.http.get(edge.url + "/v1/topics/orders", headers=wanted) as reply:
        assert reply.headers["Access-Control-Allow-Origin"] == SHOP and "Content-Encoding" not in reply.headers
        assert reply.headers["Vary"] == "Origin"


async def test_without_named_origins_no_reply_speaks_of_them(tmp_path: Path):
    async with running(tmp_path, "one process", {"rest": {"compression": False}}) as edge:
        _, fields, _ = await edge.get(ROWS, Origin=SHOP, Accept_Encoding="gzip")
        assert not [name for name in fields if name.startswith("Access-Control")]
        assert "Origin" not in fields["Vary"] and "Content-Encoding" not in fields
        assert (await edge.get(ROWS, method="OPTIONS", Origin=SHOP, Access_Control_Request_Method="GET"))[0] == 405


@pytest.mark.parametrize(
    ("accepted", "coding"),
    [
        (None, None), ("", None), ("identity", None), ("gzip", Coding.GZIP), ("x-gzip", Coding.GZIP), ("br", None),
        ("zstd", Coding.ZSTD), ("gzip, zstd", Coding.ZSTD), ("gzip;q=1, zstd;q=0.9", Coding.GZIP),
        ("*", Coding.ZSTD), ("*, zstd;q=0", Coding.GZIP), ("*;q=0", None), ("gzip;q=0", None), ("GZIP", Coding.GZIP),
        ("gzip;q=0.000", None), ("gzip;q=2", None), ("gzip;q=nan", None), ("gzip;q=0.1234", None), ("gzip;x", None),
        ("identity, gzip;q=0.5", None), ("identity;q=0.5, gzip;q=0.5", Coding.GZIP), ("identity;q=0, br", None),
        (" gzip ; q=0.3 ", Coding.GZIP), (",,gzip", Coding.GZIP), ("gzip, gzip;q=0", Coding.GZIP),
    ],
)  # fmt: skip
def test_the_coding_is_the_one_that_the_caller_likes_most(accepted, coding):
    assert agreed_coding(accepted) is coding


@pytest.mark.parametrize(
    ("fields", "size_bytes", "worth"),
    [
        ({"Content-Type": "application/json"}, 100, True), ({"Content-Type": "application/json"}, 99, False),
        ({"Content-Type": "text/csv; charset=utf-8"}, None, True), ({"Content-Type": "image/png"}, 1000, False),
        ({"Content-Type": "text/event-stream"}, None, False), ({}, 1000, False),
        ({"Content-Type": "text/plain", "Content-Encoding": "br"}, 1000, False),
        ({"Content-Type": "text/plain", "Cache-Control": "No-Transform"}, 1000, False),
        ({"Content-Type": "text/plain", "Content-Range": "bytes 0-9/10"}, 1000, False),
    ],
)  # fmt: skip
def test_only_text_that_is_long_enough_and_not_encoded_yet_is_compressed(fields, size_bytes, worth):
    assert is_compressible(200, fields, size_bytes=size_bytes, bytes_min=100) is worth
    assert not is_compressible(206, fields, size_bytes=size_bytes, bytes_min=100)


def test_each_piece_of_a_compressed_body_can_be_read_when_it_has_come():
    inflate = zlib.decompressobj(31)
    readers = {Coding.GZIP: inflate.decompress, Coding.ZSTD: zstandard.ZstdDecompressor().decompressobj().decompress}
    for coding, read in readers.items():
        encoder = encoder_of(coding)
        assert [read(encoder.encode(piece)) for piece in (b"one", b"two" * 50_000)] == [b"one", b"two" * 50_000]
        assert read(encoder.finish()) == b""
    assert inflate.eof


@pytest.mark.parametrize(
    "origin",
    ["*", "null", "", "shop.example", "https://shop.example/", "https://shop.example/a", "https://Shop.example",
     "https://shop.example:443", "http://shop.example:80", "file://", "https://*.shop.example/x", "https://a@b.example",
     "chrome-extension://abc", "https://a.example, https://b.example"],
)  # fmt: skip
def test_what_is_no_origin_as_browsers_write_it_is_refused_at_the_start(origin):
    with pytest.raises(ValidationError, match="is no origin"):
        PublishSettings.model_validate({"cors_origins": [origin]})
    fine = ("http://localhost:5173", "https://shop.example:8443", "http://[::1]:8080", "https://shop.example")
    assert PublishSettings.model_validate({"cors_origins": fine}).cors_origins == fine
