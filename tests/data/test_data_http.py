"""The data service over HTTP: scopes, formats, tags, pages, refusals."""

from __future__ import annotations

import asyncio
import csv
import datetime as dt
import io
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from data_harness import ARRIVALS, DAILY, JAN_1_MS, LOTS, Harness, inserted, ndjson

from penstock.model.batch import Op
from penstock.ports.clock import SystemClock
from penstock.role import Ports
from penstock.testing.access import GrantedAccess
from penstock_data.service import build
from penstock_data.settings import DataSettings

DAY = dt.datetime(2018, 1, 1)


async def started(harness: Harness, serve: Any, **query: Any) -> Any:
    """A client over two lots, one raw event and an early table."""
    await harness.deploy(LOTS, DAILY, ARRIVALS)
    await harness.derive(
        LOTS,
        inserted(
            ('Bag"epalli, ä', 1.5, Decimal("12.50"), 2**53 + 1, True, DAY.date(), DAY),
            ("", float("inf"), None, None, None, None, None),
        ),
        watermark_ms=JAN_1_MS,
    )
    await harness.derive(DAILY, [("Goa", DAY, 2.0, 1, Op.INSERT, True)])
    await harness.receive(ARRIVALS, [ndjson({"id": "x", "market": "M", "ts": JAN_1_MS})])
    role = harness.role(**query)
    await harness.catch_up(role)
    return await serve(role)


async def test_rows_are_json_as_the_contract_writes_values(harness: Harness, serve: Any) -> None:
    client = await started(harness, serve)
    reply = await client.get("/v1/data/lots")
    assert reply.status == 200
    assert reply.headers["Content-Type"].startswith("application/json")
    first, second = (await reply.json())["rows"]
    assert first == {
        "market": 'Bag"epalli, ä', "tonnes": 1.5, "price": "12.50", "bags": 2**53 + 1, "organic": True,
        "harvested": "2018-01-01", "ts": "2018-01-01T00:00:00.000",
    }  # fmt: skip
    assert second == {**dict.fromkeys(first), "market": ""}
    assert (await reply.json())["next"] is None


async def test_ndjson_and_csv_by_accept(harness: Harness, serve: Any) -> None:
    client = await started(harness, serve)
    reply = await client.get("/v1/data/lots?select=market,price", headers={"Accept": "application/x-ndjson"})
    lines = (await reply.text()).splitlines()
    assert [msgspec.json.decode(line)["price"] for line in lines] == ["12.50", None]
    reply = await client.get("/v1/data/lots?select=market,price", headers={"Accept": "text/csv, */*;q=0.1"})
    text = await reply.text()
    assert reply.content_type == "text/csv"
    assert list(csv.reader(io.StringIO(text))) == [["market", "price"], ['Bag"epalli, ä', "12.50"], ["", ""]]
    assert text.splitlines()[2] == '"",'  # an empty text is quoted, NULL is not
    reply = await client.get("/v1/data/lots", headers={"Accept": "image/png"})
    assert (reply.status, (await reply.json())["code"]) == (406, "not_acceptable")


async def test_no_rows_are_an_empty_page_in_every_format(harness: Harness, serve: Any) -> None:
    client = await started(harness, serve)
    for accept, body in (
        ("application/json", '{"rows":[],"next":null}'),
        ("application/x-ndjson", ""),
        ("text/csv", "market\n"),
    ):
        reply = await client.get("/v1/data/lots?select=market&market=eq.none", headers={"Accept": accept})
        assert await reply.text() == body


async def test_a_tag_saves_the_second_transfer_until_something_changes(harness: Harness, serve: Any) -> None:
    client = await started(harness, serve)
    paths = ("/v1/data/lots", "/v1/summaries/lots", "/v1/data/raw.arrivals", "/v1/data")
    tags = {path: (await client.get(path)).headers["ETag"] for path in paths}
    assert len(set(tags.values())) == len(paths)
    for path, tag in tags.items():
        for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):
            reply = await client.get(path, headers={"If-None-Match": known})
            assert (reply.status, await reply.read()) == (304, b"")
            assert reply.headers["ETag"] == tag
    reply = await client.get("/v1/data/lots", headers={"If-None-Match": tags["/v1/data/lots"], "Accept": "text/csv"})
    assert reply.status == 200
    await harness.derive(LOTS, [], watermark_ms=JAN_1_MS + 1)
    await harness.receive(ARRIVALS, [b"{}"])
    await harness.catch_up(harness.role())
    for path in paths[:3]:
        assert (await client.get(path, headers={"If-None-Match": tags[path]})).status == 200


async def test_pages_are_followed_by_cursor_and_by_link(harness: Harness, serve: Any) -> None:
    client = await started(harness, serve)
    for path in ("/v1/data/lots?limit=1&market=neq.x%2By", "/v1/data/lots?limit=1&order=ts.desc"):
        first = await client.get(path)
        link = first.headers["Link"]
        assert link.endswith('; rel="next"')
        second = await client.get(link[1 : link.index(">")])
        rows = (await first.json())["rows"] + (await second.json())["rows"]
        assert {row["market"] for row in rows} == {'Bag"epalli, ä', ""}
        assert "Link" not in second.headers
        assert (await second.json())["next"] is None


async def test_summaries_say_how_far_they_are_complete(harness: Harness, serve: Any) -> None:
    client = await started(harness, serve)
    reply = await client.get("/v1/summaries/lots?bucket=1d&group=market&agg=sum(bags),count(*)&from=2018-01-01")
    assert await reply.json() == {
        "rows": [{"bucket": "2018-01-01T00:00:00.000", "market": 'Bag"epalli, ä', "sum_bags": 2**53 + 1, "count": 1}],
        "complete_to": "2018-01-01T00:00:00.000",
    }
    reply = await client.get("/v1/summaries/daily?bucket=1d&agg=sum(tonnes)")
    assert (await reply.json())["rows"] == [
        {"bucket": "2018-01-01T00:00:00.000", "sum_tonnes": 2.0, "complete": False}
    ]
    reply = await client.get("/v1/summaries/lots?agg=count(*)", headers={"Accept": "text/csv"})
    assert await reply.text() == "count\n2\n"


async def test_raw_events_are_read_under_their_own_name(harness: Harness, serve: Any) -> None:
    client = await started(harness, serve)
    reply = await client.get("/v1/data/raw.arrivals?_id=eq.x&select=_position,_id,_time,_body")
    (row,) = (await reply.json())["rows"]
    assert row == {
        "_position": "0:0",
        "_id": "x",
        "_time": "2018-01-01T00:00:00.000",
        "_body": '{"id":"x","market":"M","ts":1514764800000}',
    }
    reply = await client.get("/v1/data/arrivals")
    assert (reply.status, (await reply.json())["code"]) == (404, "unknown_relation")


async def test_the_list_names_every_relation_with_its_columns(harness: Harness, serve: Any) -> None:
    client = await started(harness, serve)
    found = {entry["name"]: entry for entry in (await (await client.get("/v1/data")).json())["relations"]}
    assert sorted(found) == ["daily", "lots", "raw.arrivals"]
    assert found["daily"]["primary_key"] == ["state", "day_start"]
    assert found["daily"]["columns"][-1] == {"name": "complete", "type": "BOOLEAN", "nullable": False}
    assert [c["name"] for c in found["raw.arrivals"]["columns"]][:6] == [
        "_position", "_received_at", "_id", "_time", "_key", "_body",
    ]  # fmt: skip
    assert found["lots"]["columns"][2] == {"name": "price", "type": "DECIMAL(10, 2)", "nullable": True}


@pytest.mark.parametrize("path", ["/v1/data", "/v1/data/lots", "/v1/data/raw.arrivals", "/v1/summaries/lots"])
async def test_every_route_needs_its_scope(harness: Harness, serve: Any, path: str) -> None:
    await started(harness, serve)
    access = GrantedAccess(frozenset({"*:read", "ingest:write"}))
    role = build(DataSettings(), Ports(harness.log, harness.store, SystemClock(), access))
    client = await serve(role)
    reply = await client.get(path)
    assert (reply.status, (await reply.json())["code"]) == (403, "insufficient_scope")


@pytest.mark.parametrize(
    "query",
    [
        "market=eq.x'; DROP TABLE r_lots; --",
        "market=like.%'%",
        'market=in.("\'","\');--")',
        "order=market;DROP TABLE r_lots",
        "select=market,(SELECT 1)",
        "market) OR 1=1 --=eq.1",
        'col."market"" OR 1=1 --"=eq.1',
        "limit=1;DROP TABLE r_lots",
        "cursor=' OR 1=1 --",
        "market=eq.\x00",
        "bags=eq.1 OR 1=1",
    ],
)
async def test_injection_is_a_value_or_a_refusal(harness: Harness, serve: Any, query: str) -> None:
    client = await started(harness, serve)
    name, _, value = query.partition("=")
    reply = await client.get("/v1/data/lots", params={name: value})
    body = await reply.json()
    assert (reply.status, body.get("rows")) == (200, []) or reply.status == 400, body
    assert len((await (await client.get("/v1/data/lots")).json())["rows"]) == 2


async def test_too_many_at_once_are_told_to_come_back(harness: Harness, serve: Any) -> None:
    client = await started(harness, serve, running_max=1, waiting_max=1)
    release = asyncio.Event()
    real = harness.store.select

    async def slow(*args: Any, **kwargs: Any) -> Any:
        await release.wait()
        return await real(*args, **kwargs)

    harness.store.select = slow  # type: ignore[method-assign]  # holds the only turn until the test says so
    waiting = [asyncio.create_task(client.get("/v1/data/lots")) for _ in range(4)]
    await asyncio.sleep(0.2)
    release.set()
    replies = await asyncio.gather(*waiting)
    assert sorted(reply.status for reply in replies) == [200, 200, 429, 429]
    assert {reply.headers["Retry-After"] for reply in replies if reply.status == 429} == {"1"}


async def test_a_read_that_takes_too_long_is_stopped_and_says_so(harness: Harness, serve: Any) -> None:
    client = await started(harness, serve, time_s=1e-9)
    rows = [(f"m{i}", 1.0, None, i, None, None, DAY) for i in range(20_000)]
    await harness.derive(LOTS, inserted(*rows))
    await harness.catch_up(harness.role())
    reply = await client.get("/v1/data/lots?market=like.%2525x&order=tonnes,bags.desc")
    assert (reply.status, (await reply.json())["code"]) == (503, "query_timeout")
    assert "Retry-After" in reply.headers


async def test_the_running_role_applies_answers_and_stops(harness: Harness, serve: Any) -> None:
    await harness.deploy(LOTS)
    role, stop = harness.role(), asyncio.Event()
    client = await serve(role)
    running = asyncio.create_task(role.run(stop))
    await harness.derive(LOTS, inserted(("a", 1.0, None, None, None, None, DAY)))
    async with asyncio.timeout(10):
        while True:
            reply = await client.get("/v1/data/lots?market=eq.a&select=tonnes")
            if reply.status == 200 and (await reply.json())["rows"] == [{"tonnes": 1.0}]:
                break
            await asyncio.sleep(0.01)
    assert [check.ok for check in role.ready()] == [True]
    stop.set()
    async with asyncio.timeout(5):
        await running
