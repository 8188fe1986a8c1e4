"""Apps over HTTP on the memory log: deploy, replace, refuse, remove, explain, statistics; state survives edits."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import polars as pl
import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestClient, TestServer

from penstock.codecs.arrow import decode_frame
from penstock.codecs.ndjson import encode_lines
from penstock.http.access import Access
from penstock.logs.memory import MemoryLog
from penstock.model.batch import Encoding, NewBatch
from penstock.model.position import Position
from penstock.ports.log import Transaction
from penstock.role import Ports
from penstock.testing.access import GrantedAccess, OpenAccess
from penstock.testing.clock import ManualClock
from penstock_processor.service import ProcessorRole, build
from penstock_processor.settings import ProcessorSettings

APP = """CREATE TABLE arrivals (
  market STRING, tonnes DOUBLE, price DOUBLE, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '1' SECOND
) WITH ('connector' = 'penstock', 'key' = 'market');
CREATE TABLE cheap WITH ('connector' = 'penstock') AS SELECT market, price FROM arrivals WHERE price < 500;
CREATE TABLE totals (market STRING, tonnes DOUBLE, lots BIGINT, day_start TIMESTAMP(3),
  PRIMARY KEY (market, day_start) NOT ENFORCED
) WITH ('connector' = 'penstock', 'emit' = 'early');
INSERT INTO totals SELECT market, SUM(tonnes), COUNT(*), window_start
FROM TABLE(TUMBLE(TABLE arrivals, DESCRIPTOR(ts), INTERVAL '1' DAY)) GROUP BY market, window_start, window_end;
"""
SQL = {"Content-Type": "application/sql"}
Client = TestClient[web.Request, web.Application]


class System:
    """The processor role on a memory log, served on a free loopback port."""

    def __init__(self, client: Client, role: ProcessorRole, log: MemoryLog) -> None:
        self.client = client
        self.role = role
        self.log = log
        self.sent = 0

    async def send(self, *events: dict[str, Any]) -> None:
        lines = [msgspec.json.encode(event) for event in events]
        await self.log.append([NewBatch("arrivals", 0, Encoding.NDJSON_ZSTD, encode_lines(lines), len(lines))])
        self.sent += len(lines)

    async def rows(self, stream: str) -> list[dict[str, Any]]:
        batches = await self.log.read(stream, 0, 0, 1 << 30, 1 << 20)
        return pl.concat([decode_frame(b.payload) for b in batches]).to_dicts() if batches else []

    async def caught_up(self, app: str = "produce") -> None:
        await self.until(lambda: self._is_caught_up(app))

    async def _is_caught_up(self, app: str) -> bool:
        return (await self.log.positions(app)).get(("arrivals", 0)) == self.sent

    async def until(self, condition: Callable[[], Awaitable[object]]) -> None:
        for _ in range(4000):
            if await condition():
                return
            await asyncio.sleep(0.001)
        raise AssertionError("it did not happen")


@asynccontextmanager
async def system_on(log: MemoryLog, clock: ManualClock, access: Access, **settings: Any) -> AsyncIterator[System]:
    # The store is not a port that this role uses.
    ports = Ports(log=log, store=None, clock=clock, access=access)  # type: ignore[arg-type]  # see above
    role = build(ProcessorSettings(wait_s=0.05, **settings), ports)
    application = web.Application()
    application.add_routes(role.routes())
    stop = asyncio.Event()
    task = asyncio.create_task(role.run(stop))
    async with TestClient(TestServer(application)) as client:
        try:
            yield System(client, role, log)
        finally:
            stop.set()
            await asyncio.wait_for(task, 10)


@pytest.fixture
async def system() -> AsyncIterator[System]:
    clock = ManualClock()
    async with system_on(MemoryLog(clock=clock), clock, OpenAccess()) as made:
        yield made


def arrival(market: str, tonnes: float, price: float, minute: int) -> dict[str, Any]:
    return {"market": market, "tonnes": tonnes, "price": price, "ts": f"2018-01-01T00:{minute:02}:00.000"}


async def put(system: System, text: str, **headers: str) -> tuple[int, dict[str, Any]]:
    async with system.client.put("/v1/apps/produce", data=text.encode(), headers={**SQL, **headers}) as reply:
        return reply.status, await reply.json(content_type=None)


async def test_an_app_is_deployed_read_and_listed_with_its_version(system: System) -> None:
    status, answer = await put(system, APP, **{"If-None-Match": "*"})
    assert (status, answer["version"]) == (201, 1)
    async with system.client.get("/v1/apps/produce") as reply:
        assert reply.headers["ETag"] == '"1"'
        found = await reply.json()
        assert found["sql"] == APP
        assert found["streams"] == ["arrivals", "cheap", "totals"]
    async with system.client.get("/v1/apps/produce", headers={"Accept": "application/sql"}) as reply:
        assert reply.content_type == "application/sql"
        assert await reply.text() == APP
    for known in ('"1"', 'W/"1"', '"7", "1"', "*"):
        async with system.client.get("/v1/apps/produce", headers={"If-None-Match": known}) as reply:
            assert (reply.status, reply.headers["ETag"], await reply.read()) == (304, '"1"', b"")
    async with system.client.get("/v1/apps/produce", headers={"If-None-Match": '"2"'}) as reply:
        assert reply.status == 200
    async with system.client.get("/v1/apps") as reply:
        assert [app["name"] for app in (await reply.json())["apps"]] == ["produce"]


async def test_a_literal_changed_takes_effect_while_the_other_statement_keeps_its_state(system: System) -> None:
    await put(system, APP)
    await system.send(arrival("Agra", 10, 400, 1), arrival("Agra", 20, 700, 2))
    await system.caught_up()
    status, answer = await put(system, APP.replace("price < 500", "price < 800"), **{"If-Match": '"1"'})
    assert (status, answer["version"]) == (200, 2)
    await system.send(arrival("Agra", 30, 700, 3), arrival("Agra", 40, 900, 4))
    await system.caught_up()
    assert [row["price"] for row in await system.rows("cheap")] == [400.0, 700.0]
    last = (await system.rows("totals"))[-1]
    assert (last["tonnes"], last["lots"]) == (100.0, 4), "the window remembers what came before the edit"


async def test_a_bad_edit_is_refused_with_its_places_and_the_old_app_runs_on(system: System) -> None:
    await put(system, APP)
    status, answer = await put(system, APP.replace("price < 500", "prize < 500"))
    assert (status, answer["code"]) == (422, "sql_error")
    assert answer["errors"][0]["line"] == 4
    assert answer["errors"][0]["remedy"]
    await system.send(arrival("Agra", 10, 400, 1))
    await system.caught_up()
    assert len(await system.rows("cheap")) == 1


async def test_validate_answers_without_deploying(system: System) -> None:
    async with system.client.post("/v1/apps/produce/validate", data=APP.encode(), headers=SQL) as reply:
        assert await reply.json() == {"valid": True, "errors": [], "streams": ["arrivals", "cheap", "totals"]}
    bad = APP.replace("SUM(tonnes)", "SUM(tons)")
    async with system.client.post("/v1/apps/produce/validate", data=bad.encode(), headers=SQL) as reply:
        answer = await reply.json()
        assert answer["valid"] is False
        assert {"line", "column", "code", "message", "remedy"} <= set(answer["errors"][0])
    async with system.client.get("/v1/apps/produce") as reply:
        assert reply.status == 404


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"If-Match": '"7"'}, 412),
        ({"If-None-Match": "*"}, 412),
        ({"If-Match": "seven"}, 412),
        ({"If-None-Match": '"1"'}, 400),
    ],
)
async def test_a_condition_that_does_not_hold_changes_nothing(
    system: System, headers: dict[str, str], code: int
) -> None:
    await put(system, APP)
    status, _ = await put(system, APP.replace("500", "800"), **headers)
    assert status == code
    await system.send(arrival("Agra", 10, 700, 1), arrival("Agra", 10, 400, 1))
    await system.caught_up()
    assert [row["price"] for row in await system.rows("cheap")] == [400.0]


async def test_a_removed_app_is_gone_with_its_streams(system: System) -> None:
    await put(system, APP)
    async with system.client.delete("/v1/apps/produce", headers={"If-Match": '"1"'}) as reply:
        assert reply.status == 204
    for path in ("", "/explain", "/statistics"):
        async with system.client.get(f"/v1/apps/produce{path}") as reply:
            assert reply.status == 404
            assert (await reply.json())["code"] == "unknown_app"
    assert not (await system.log.catalog()).streams
    assert [check.name for check in system.role.ready()] == ["processor"]


async def test_lag_counts_what_is_not_yet_committed(system: System) -> None:
    await put(system, APP)
    await system.send(arrival("Agra", 10, 400, 1))
    await system.caught_up()
    # A role that shares the log and runs nothing sees what the log alone says.
    bystander = build(ProcessorSettings(), system.role.ports)
    assert await bystander.lag_events("produce") == {"arrivals": 0}
    commit, go_on = system.log.commit, asyncio.Event()

    async def slowly(transaction: Transaction) -> list[Position]:
        await go_on.wait()
        return await commit(transaction)

    system.log.commit = slowly  # type: ignore[method-assign]  # a commit that is still under way
    await system.send(arrival("Agra", 20, 700, 2), arrival("Agra", 30, 800, 3))
    await asyncio.sleep(0.05)  # time to read them; the answer is the same before and after
    assert await bystander.lag_events("produce") == {"arrivals": 2}
    go_on.set()
    await system.caught_up()
    assert await bystander.lag_events("produce") == {"arrivals": 0}


async def test_statistics_count_rows_lag_and_rejections(system: System) -> None:
    await put(system, APP)
    await system.send(arrival("Agra", 10, 400, 1), arrival("Agra", 20, 700, 2))
    await system.caught_up()
    async with system.client.get("/v1/apps/produce/statistics") as reply:
        found = await reply.json()
    assert found["state"] == "running"
    assert found["sources"]["arrivals"]["rows"] == 2
    assert found["sources"]["arrivals"]["lag_events"] == 0
    assert found["statements"]["cheap"] == {"rows_out": 1, "rejected": 0, "late": 0}
    assert found["cycles"] >= 1


async def test_explain_prints_the_plan_as_json_and_as_text(system: System) -> None:
    await put(system, APP)
    async with system.client.get("/v1/apps/produce/explain") as reply:
        assert "cheap" in await reply.text()
        assert reply.content_type == "application/json"
    async with system.client.get("/v1/apps/produce/explain", headers={"Accept": "text/plain"}) as reply:
        assert "totals" in await reply.text()


async def test_what_is_no_app_text_is_refused(system: System) -> None:
    async with system.client.put("/v1/apps/produce", data=b"\xff\xfe", headers=SQL) as reply:
        assert reply.status == 400
    async with system.client.put("/v1/apps/produce", json={"sql": APP}) as reply:
        assert reply.status == 415
    async with system.client.put("/v1/apps/1bad", data=APP.encode(), headers=SQL) as reply:
        assert reply.status == 400
    big = APP + "-- " + "x" * (1 << 20)
    async with system.client.put("/v1/apps/produce", data=io.BytesIO(big.encode()), headers=SQL) as reply:
        assert reply.status == 413


async def test_every_route_needs_the_admin_scope() -> None:
    clock = ManualClock()
    async with system_on(MemoryLog(clock=clock), clock, GrantedAccess(frozenset({"data:read"}))) as system:
        for route in system.role.routes():
            assert isinstance(route, web.RouteDef)
            path = route.path.replace("{app}", "produce").replace("{rule}", "hot")
            async with system.client.request(route.method, path, data=b"{}") as reply:
                assert reply.status == 403, f"{route.method} {path}"


async def test_apps_run_again_after_a_restart_and_go_on_where_they_were() -> None:
    clock = ManualClock()
    log = MemoryLog(clock=clock)
    async with system_on(log, clock, OpenAccess()) as first:
        await put(first, APP)
        await first.send(arrival("Agra", 10, 400, 1))
        await first.caught_up()
    async with system_on(log, clock, OpenAccess()) as second:
        second.sent = 1
        await second.send(arrival("Agra", 5, 300, 2))
        await second.caught_up()
        assert [row["price"] for row in await second.rows("cheap")] == [400.0, 300.0]
        assert (await second.rows("totals"))[-1]["tonnes"] == 15.0


async def test_one_broken_app_does_not_keep_the_others_from_running() -> None:
    clock = ManualClock()
    log = MemoryLog(clock=clock)
    await log.put_app("broken", "SELECT", [], 0)
    async with system_on(log, clock, OpenAccess()) as system:
        await put(system, APP)
        await system.send(arrival("Agra", 10, 400, 1))
        await system.caught_up()
        checks = {check.name: check for check in system.role.ready()}
        assert checks["app produce"].ok
        assert not checks["app broken"].ok
        assert "cannot run" in checks["app broken"].detail


async def test_a_stream_of_another_app_keeps_its_owner(system: System) -> None:
    await put(system, APP)
    async with system.client.put("/v1/apps/other", data=APP.encode(), headers=SQL) as reply:
        assert reply.status == 409
        assert (await reply.json())["code"] == "name_taken"
    assert system.role.runner("other") is None
    async with ClientSession() as outside, outside.get(system.client.make_url("/v1/apps")) as reply:
        assert [app["name"] for app in (await reply.json())["apps"]] == ["produce"]
