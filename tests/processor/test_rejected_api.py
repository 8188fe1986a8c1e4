"""Rejected events over HTTP: listed with their reason, corrected, replayed to their statement once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
import polars as pl
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from penstock.codecs.arrow import decode_frame
from penstock.codecs.ndjson import encode_lines
from penstock.logs.memory import MemoryLog
from penstock.model.batch import Encoding, NewBatch, RejectedEvent
from penstock.role import Ports
from penstock.testing.access import OpenAccess
from penstock.testing.clock import ManualClock
from penstock_processor.service import build
from penstock_processor.settings import ProcessorSettings

APP = """CREATE TABLE readings (
  id STRING, code STRING, amount DOUBLE, ts TIMESTAMP(3), WATERMARK FOR ts AS ts
) WITH ('connector' = 'penstock');
CREATE TABLE numbers WITH ('connector' = 'penstock') AS SELECT id, CAST(code AS INT) AS n FROM readings;
CREATE TABLE copies WITH ('connector' = 'penstock') AS SELECT id, code FROM readings;
CREATE TABLE totals (code STRING, amount DOUBLE, day_start TIMESTAMP(3), PRIMARY KEY (code, day_start) NOT ENFORCED)
WITH ('connector' = 'penstock');
INSERT INTO totals SELECT code, SUM(amount), window_start
FROM TABLE(TUMBLE(TABLE readings, DESCRIPTOR(ts), INTERVAL '1' DAY)) GROUP BY code, window_start, window_end;
"""
REPLAY = "/v1/rejected/replay"


class System:
    """The app above on a memory log; ingest is a list of what it was asked to replay."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.log = MemoryLog(clock=self.clock)
        self.to_ingest: list[tuple[str, bytes]] = []
        self.sent = 0
        self.client: TestClient[web.Request, web.Application]

    async def ingest(self, event: RejectedEvent, raw: bytes, authorization: str) -> dict[str, object]:
        """As ingest does: an event that is still bad is reported, a good one is appended and marked."""
        self.to_ingest.append((event.id, raw))
        if b"bad" in raw:
            return {"accepted": 0, "rejected": 1, "errors": [{"index": 0, "code": "bad_json", "detail": "still bad"}]}
        batch = NewBatch("readings", 0, Encoding.NDJSON_ZSTD, encode_lines([raw]), 1)
        await self.log.append([batch], replayed=[event.id])
        self.sent += 1
        return {"accepted": 1, "rejected": 0, "errors": []}

    async def send(self, *events: dict[str, Any]) -> None:
        for event in events:  # one batch each: lateness is judged between batches
            line = msgspec.json.encode(event)
            await self.log.append([NewBatch("readings", 0, Encoding.NDJSON_ZSTD, encode_lines([line]), 1)])
            self.sent += 1
            await self.until(self.is_caught_up)

    async def is_caught_up(self) -> bool:
        return (await self.log.positions("meter")).get(("readings", 0)) == self.sent

    async def until(self, condition: Callable[[], Awaitable[object]]) -> None:
        for _ in range(4000):
            if await condition():
                return
            await asyncio.sleep(0.001)
        raise AssertionError("it did not happen")

    async def rows(self, stream: str) -> list[dict[str, Any]]:
        batches = await self.log.read(stream, 0, 0, 1 << 30, 1 << 20)
        return pl.concat([decode_frame(b.payload) for b in batches]).to_dicts() if batches else []

    async def listed(self, **query: str) -> list[dict[str, Any]]:
        async with self.client.get("/v1/rejected", params=query) as reply:
            assert reply.status == 200
            events: list[dict[str, Any]] = (await reply.json())["events"]
            return events

    async def replay(self, *events: dict[str, str]) -> tuple[int, dict[str, Any]]:
        async with self.client.post(REPLAY, json={"events": list(events)}) as reply:
            return reply.status, await reply.json(content_type=None)


@pytest.fixture
async def system() -> AsyncIterator[System]:
    made = System()
    ports = Ports(log=made.log, store=None, clock=made.clock, access=OpenAccess())  # type: ignore[arg-type]  # unused
    role = build(ProcessorSettings(wait_s=0.05), ports, replay_admission=made.ingest)
    await role.deploy("meter", APP)
    application = web.Application()
    application.add_routes(role.routes())
    stop = asyncio.Event()
    task = asyncio.create_task(role.run(stop))
    async with TestClient(TestServer(application)) as client:
        made.client = client
        yield made
        stop.set()
        await asyncio.wait_for(task, 10)


def reading(number: int, code: str, day: int = 1) -> dict[str, Any]:
    return {"id": f"e{number}", "code": code, "amount": 1.5, "ts": f"2018-01-{day:02}T00:00:00"}


async def test_a_bad_row_is_listed_for_its_statement_and_the_others_took_it(system: System) -> None:
    await system.send(reading(1, "7"), reading(2, "seven"))
    [event] = await system.listed()
    assert (event["app"], event["statement"], event["stream"]) == ("meter", "numbers", "readings")
    assert msgspec.json.decode(event["raw"]) == reading(2, "seven")
    assert (event["partition"], event["offset"]) == (0, 1)
    assert event["replayed_at"] is None
    assert event["at"].endswith("Z")
    assert [row["n"] for row in await system.rows("numbers")] == [7]
    assert [row["id"] for row in await system.rows("copies")] == ["e1", "e2"]


async def test_a_corrected_event_goes_to_its_statement_only_and_only_once(system: System) -> None:
    await system.send(reading(2, "seven"))
    [event] = await system.listed()
    corrected = msgspec.json.format(msgspec.json.encode(reading(2, "7")), indent=2).decode()
    status, answer = await system.replay({"id": event["id"], "raw": corrected})
    assert status == 200
    assert answer["results"] == [{"id": event["id"], "replayed": True, "errors": []}]
    assert [row["n"] for row in await system.rows("numbers")] == [7]
    assert len(await system.rows("copies")) == 1, "the statement that took the event does not get it again"
    assert await system.listed() == []
    [again] = await system.listed(replayed="true")
    assert again["replayed_at"] is not None
    status, answer = await system.replay({"id": event["id"], "raw": corrected})
    assert (status, answer["code"]) == (409, "conflict")
    assert len(await system.rows("numbers")) == 1


async def test_an_event_that_fails_again_is_listed_under_a_new_id(system: System) -> None:
    await system.send(reading(2, "seven"))
    [event] = await system.listed()
    status, answer = await system.replay({"id": event["id"], "raw": '{"id":"e2","code":"eight"}'})
    assert (status, answer["code"]) == (422, "all_rejected")
    [second] = await system.listed()
    assert second["id"] == f"{event['id']}#r1"
    assert second["raw"] == '{"id":"e2","code":"eight"}'
    status, _ = await system.replay({"id": second["id"], "raw": "no json"})
    assert status == 422
    [third] = await system.listed()
    assert third["id"] == f"{event['id']}#r2"
    assert third["code"] == "bad_json"
    status, _ = await system.replay({"id": third["id"], "raw": '{"id":"e2","code":"8"}'})
    assert status == 200
    assert await system.rows("numbers") == [{"id": "e2", "n": 8, "$op": 0}]


async def test_what_two_statements_reject_of_a_replay_stays_two_events(system: System) -> None:
    more = (
        "CREATE TABLE halves WITH ('connector' = 'penstock') AS SELECT id, CAST(code AS SMALLINT) AS n FROM readings;"
    )
    async with system.client.put(
        "/v1/apps/meter", data=APP + more, headers={"Content-Type": "application/sql"}
    ) as reply:
        assert reply.status == 200
    await system.send({"id": "e1", "code": 7})
    [event] = await system.listed()
    assert (event["statement"], event["code"]) == ("", "wrong_type")
    assert (await system.replay({"id": event["id"], "raw": '{"id":"e1","code":"seven","ts":1}'}))[0] == 422
    ids = [f"{event['id']}#r1", f"{event['id']}#r1.1"]
    listed = {each["id"]: each["statement"] for each in await system.listed()}
    assert (sorted(listed), sorted(listed.values())) == (ids, ["halves", "numbers"])
    status, answer = await system.replay(*({"id": id_, "raw": '{"id":"e1","code":"eight","ts":1}'} for id_ in ids))
    assert [[error["statement"] for error in each["errors"]] for each in answer["results"]] == [
        [listed[i]] for i in ids
    ]
    again = {each["id"]: each["statement"] for each in await system.listed()}
    assert (status, again) == (422, {id_.replace("#r1", "#r2"): statement for id_, statement in listed.items()})


async def test_two_requests_at_once_replay_an_event_once(system: System) -> None:
    await system.send(reading(2, "seven"))
    [event] = await system.listed()
    corrected = {"id": event["id"], "raw": '{"id":"e2","code":"7"}'}
    answers = await asyncio.gather(*(system.replay(corrected) for _ in range(5)))
    assert sorted(status for status, _ in answers) == [200, 409, 409, 409, 409]
    assert len(await system.rows("numbers")) == 1


async def test_some_good_and_some_bad_is_207(system: System) -> None:
    await system.send(reading(1, "one"), reading(2, "two"))
    two, one = await system.listed()
    status, answer = await system.replay({"id": one["id"], "raw": '{"id":"e1","code":"1"}'}, {"id": two["id"]})
    assert status == 207
    assert [result["replayed"] for result in answer["results"]] == [True, False]
    assert answer["results"][1]["errors"][0]["id"] == f"{two['id']}#r1"


async def test_late_rows_are_listed_and_cannot_be_replayed(system: System) -> None:
    await system.send(reading(1, "1", day=1), reading(2, "2", day=9), reading(3, "3", day=1))
    [late] = await system.listed(code="late")
    assert late["statement"] == "totals"
    status, answer = await system.replay({"id": late["id"]})
    assert (status, answer["code"]) == (409, "conflict")
    assert "window" in answer["detail"]
    assert (await system.listed(code="late"))[0]["replayed_at"] is None


async def test_what_comes_out_of_state_is_listed_for_the_one_stream_that_its_statement_reads(system: System) -> None:
    tops = """CREATE TABLE tops WITH ('connector' = 'penstock') AS SELECT window_start, CAST(MAX(code) AS INT) AS top
    FROM TABLE(TUMBLE(TABLE readings, DESCRIPTOR(ts), INTERVAL '1' DAY)) GROUP BY window_start, window_end;"""
    async with system.client.put(
        "/v1/apps/meter", data=APP + tops, headers={"Content-Type": "application/sql"}
    ) as reply:
        assert reply.status == 200, await reply.text()
    await system.send(reading(1, "seven"), reading(2, "8", day=20))
    [event] = [event for event in await system.listed(stream="readings") if event["statement"] == "tops"]
    assert msgspec.json.decode(event["raw"])["window_start"]
    assert "offset" not in event
    status, answer = await system.replay({"id": event["id"]})
    assert status == 409
    assert "came out of state" in answer["detail"]


async def test_what_admission_rejected_is_replayed_through_ingest(system: System) -> None:
    await system.log.append(
        [], rejected=[RejectedEvent("a1", 5, "readings", "meter", None, "bad_json", "at byte 3", b"\xff{bad")]
    )
    [event] = await system.listed()
    assert event["encoding"] == "base64"
    assert event["statement"] is None
    status, answer = await system.replay({"id": "a1"})
    assert status == 422
    assert answer["results"][0]["errors"][0]["detail"] == "still bad"
    status, _ = await system.replay({"id": "a1", "raw": '{"id":"e1","code":"4","ts":"2018-01-01"}'})
    assert status == 200
    await system.until(system.is_caught_up)
    assert [row["n"] for row in await system.rows("numbers")] == [4]
    assert [id_ for id_, _ in system.to_ingest] == ["a1", "a1"]
    assert await system.listed() == []


async def test_pages_go_from_the_newest_back(system: System) -> None:
    for number in range(5):
        await system.clock.advance(1)
        await system.send(reading(number, "x"))
    async with system.client.get("/v1/rejected", params={"limit": "2"}) as reply:
        page = await reply.json()
    assert [msgspec.json.decode(e["raw"])["id"] for e in page["events"]] == ["e4", "e3"]
    rest = await system.listed(limit="10", before=page["next"])
    assert [msgspec.json.decode(e["raw"])["id"] for e in rest] == ["e2", "e1", "e0"]


@pytest.mark.parametrize("query", [{"limit": "0"}, {"limit": "many"}, {"replayed": "yes"}, {"color": "red"}])
async def test_a_query_that_means_nothing_is_refused(system: System, query: dict[str, str]) -> None:
    async with system.client.get("/v1/rejected", params=query) as reply:
        assert reply.status == 400


async def test_a_replay_that_means_nothing_is_refused_and_changes_nothing(system: System) -> None:
    await system.send(reading(2, "seven"))
    [event] = await system.listed()
    corrected = {"id": event["id"], "raw": '{"id":"e2","code":"7"}'}
    assert (await system.replay())[0] == 400
    assert (await system.replay(corrected, corrected))[0] == 400
    assert (await system.replay(corrected, {"id": "nobody"}))[0] == 404
    async with system.client.post(REPLAY, data=b"{") as reply:
        assert reply.status == 400
    assert len(await system.listed()) == 1
    assert await system.rows("numbers") == []


async def test_a_statement_that_left_the_app_cannot_be_replayed_to(system: System) -> None:
    await system.send(reading(2, "seven"))
    [event] = await system.listed()
    gone = "".join(line for line in APP.splitlines(keepends=True) if "numbers" not in line)
    async with system.client.put("/v1/apps/meter", data=gone, headers={"Content-Type": "application/sql"}) as reply:
        assert reply.status == 200
    status, answer = await system.replay({"id": event["id"]})
    assert (status, answer["code"]) == (409, "conflict")
    assert "left" in answer["detail"]
