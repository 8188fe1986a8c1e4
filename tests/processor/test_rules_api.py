"""Rules over HTTP: put, read, changed, switched off and on, removed, tried on stored events, while events flow."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from processor.rules_rig import APP, System, lot, system_on

from penstock.errors import PenstockError
from penstock.logs.memory import MemoryLog
from penstock.ports.log import RejectedFilter
from penstock.testing.clock import ManualClock


@pytest.fixture
async def system() -> AsyncIterator[System]:
    clock = ManualClock()
    async with system_on(MemoryLog(clock=clock), clock) as made:
        await made.deploy()
        yield made


async def test_a_rule_is_put_read_listed_changed_by_version_and_deleted(system: System) -> None:
    body = {"source": "lots", "predicate": "price > 100", "target": "alerts"}
    status, answer, headers = await system.call("PUT", "/high", body, **{"If-None-Match": "*"})
    assert (status, headers["ETag"]) == (201, '"1"')
    assert {name: answer[name] for name in ("name", "source", "target", "severity", "enabled", "columns")} == {
        "name": "high", "source": "lots", "target": "alerts", "severity": "warning", "enabled": True,
        "columns": "market, price, n, ts",
    }  # fmt: skip
    assert (await system.call("PUT", "/high", body))[2]["ETag"] == '"1"', "nothing changed"
    changed = {**body, "predicate": "price > 200", "severity": "critical"}
    assert (await system.call("PUT", "/high", changed, **{"If-Match": '"7"'}))[0] == 412
    assert (await system.call("PUT", "/high", changed, **{"If-None-Match": "*"}))[0] == 412
    status, answer, headers = await system.call("PUT", "/high", changed, **{"If-Match": '"1"'})
    assert (status, headers["ETag"], answer["severity"]) == (200, '"2"', "critical")
    assert (await system.call("GET", "/high", **{"If-None-Match": '"2"'}))[0] == 304
    await system.put("low", "price < 5", target="lows")
    assert [rule["name"] for rule in (await system.call("GET", ""))[1]["rules"]] == ["high", "low"]
    assert (await system.call("GET", "?source=cheap"))[1] == {"rules": []}
    assert (await system.call("DELETE", "/high", **{"If-Match": '"1"'}))[0] == 412
    assert (await system.call("DELETE", "/high", **{"If-Match": '"2"'}))[0] == 204
    assert (await system.call("GET", "/high"))[0] == 404
    assert "alerts" not in (await system.log.catalog()).streams
    assert (await system.call("DELETE", "/low"))[0] == 204
    assert list((await system.log.catalog()).apps) == ["produce"]


async def test_hits_go_to_the_target_and_are_counted_from_when_the_rule_was_put(system: System) -> None:
    await system.send(lot("Agra", 900))
    await system.put("high", columns="market, price * 2 AS twice", severity="critical")
    assert (await system.rule("high"))["last_hit"] is None
    await system.send(lot("Agra", 150), lot("Pune", 50), lot("Pune", 300))
    await system.caught_up()
    rows = [(row["rule"], row["severity"], row["market"], row["twice"]) for row in await system.rows("alerts")]
    assert rows == [("high", "critical", "Agra", 300.0), ("high", "critical", "Pune", 600.0)]
    await system.until(lambda: _has_hits(system, "high", 2))
    assert (await system.rule("high"))["last_hit"] is not None
    assert (await system.rule("high"))["state"] == "running"


async def test_a_rule_is_switched_off_and_on_and_changed_while_another_goes_on(system: System) -> None:
    await system.put("high")
    await system.put("any", "TRUE")
    await system.send(lot("Agra", 150))
    await system.caught_up()
    await system.put("high", enabled=False)
    assert (await system.rule("high"))["state"] == "off"
    await system.send(lot("Agra", 250))
    await system.caught_up()
    await system.put("high", "price > 300")
    await system.send(lot("Agra", 290), lot("Agra", 350))
    await system.caught_up()
    found = [(row["rule"], row["price"]) for row in await system.rows("alerts")]
    assert found == [("any", 150.0), ("high", 150.0), ("any", 250.0), ("any", 290.0), ("any", 350.0), ("high", 350.0)]
    await system.until(lambda: _has_hits(system, "high", 2))
    await system.until(lambda: _has_hits(system, "any", 4))


async def test_a_rule_removed_and_put_again_counts_from_none(system: System) -> None:
    await system.put("high")
    await system.put("any", "TRUE")
    await system.send(lot("Agra", 150))
    await system.until(lambda: _has_hits(system, "high", 1))
    assert (await system.call("DELETE", "/high"))[0] == 204
    assert (await system.put("high"))["hits"] == 0
    await system.until(lambda: _is_running(system, "high"))
    assert (await system.rule("high"))["hits"] == 0
    assert (await system.rule("any"))["hits"] == 1


async def test_rules_read_derived_streams_and_the_rows_of_tables_that_stand(system: System) -> None:
    await system.put("bargain", "price < 100", source="cheap", target="bargains")
    await system.put("busy", "lots >= 2", source="totals", target="busy_markets")
    await system.send(lot("Agra", 50), lot("Agra", 400, second=1), lot("Agra", 700, second=2))
    await system.caught_up("lots", "produce")
    await system.caught_up("cheap")
    assert [row["price"] for row in await system.rows("bargains")] == [50.0]
    await system.caught_up("totals")
    assert await system.rows("busy_markets") == [], "the window is still open"
    await system.send(lot("Pune", 700, second=200))
    await system.caught_up("lots", "produce")
    await system.caught_up("totals")
    assert [(row["market"], row["lots"]) for row in await system.rows("busy_markets")] == [("Agra", 3)]


async def test_a_row_that_fails_is_rejected_for_one_rule_and_replayed_to_it(system: System) -> None:
    await system.put("ratio", "10 / n > 4")
    await system.put("any", "TRUE")
    await system.send(lot("Agra", 150, 0))
    await system.caught_up()
    (rejected,) = await system.log.rejected(RejectedFilter())
    assert (rejected.app, rejected.statement, rejected.code) == ("rules.lots", "ratio", "division_by_zero")
    fixed = {"id": rejected.id, "raw": '{"market":"Agra","price":150,"n":2,"ts":"2018-01-01T00:00:00"}'}
    async with system.client.post("/v1/rejected/replay", json={"events": [fixed]}) as reply:
        assert (reply.status, (await reply.json())["results"][0]["replayed"]) == (200, True)
    assert [row["rule"] for row in await system.rows("alerts")] == ["any", "ratio"]
    await system.until(lambda: _has_hits(system, "ratio", 1))


async def test_many_rules_are_put_in_one_request_or_none_of_them(system: System) -> None:
    rules = [{"name": f"r{n}", "source": "lots", "predicate": f"price > {n}", "target": "alerts"} for n in range(50)]
    bad = {"name": "bad", "source": "lots", "predicate": "prize > 1", "target": "alerts"}
    status, answer, _ = await system.call("POST", "", {"rules": [*rules, bad]})
    assert (status, answer["code"], answer["rule"], answer["field"]) == (422, "sql_error", "bad", "predicate")
    assert (answer["errors"][0]["line"], answer["errors"][0]["column"]) == (1, 1)
    assert "price" in answer["errors"][0]["remedy"]
    assert (await system.call("GET", ""))[1] == {"rules": []}
    status, answer, _ = await system.call("POST", "", {"rules": rules})
    assert (status, len(answer["rules"])) == (200, 50)
    await system.send(lot("Agra", 24.5))
    await system.caught_up()
    assert len(await system.rows("alerts")) == 25


async def test_one_event_goes_through_a_thousand_rules_into_one_batch(system: System) -> None:
    kinds = [
        "market = 'm{n}'",
        "price > {n}",
        "n = {n} AND price > 0",
        "price * 2 > {n} OR n = {n}",
        "n < {n} AND n > -{n}",
    ]
    rules = [
        {"name": f"r{n:04}", "source": "lots", "predicate": kinds[n % 5].format(n=n), "target": "alerts",
         "severity": ["info", "warning", "critical"][n % 3]}
        for n in range(1000)
    ]  # fmt: skip
    assert (await system.call("POST", "", {"rules": rules}))[0] == 200
    await system.send(lot("m5", 100.5, 2))
    await system.caught_up()
    hits = {
        n for n in range(1000)
        if [n == 5, n < 100.5, n == 2, n < 201 or n == 2, n > 2][n % 5]
    }  # fmt: skip
    rows = await system.rows("alerts")
    assert [row["rule"] for row in rows] == [f"r{n:04}" for n in sorted(hits)]
    assert len(await system.log.read("alerts", 0, 0, 1 << 20)) == 1
    await system.until(lambda: _has_hits(system, "r0004", 1))
    counted = {rule["name"] for rule in (await system.call("GET", ""))[1]["rules"] if rule["hits"] == 1}
    assert counted == {f"r{n:04}" for n in hits}


async def test_a_dry_run_shows_the_newest_rows_and_writes_nothing(system: System) -> None:
    await system.send(*[lot("Agra", float(n), n % 3) for n in range(100)])
    body = {"source": "lots", "predicate": "price >= 10 AND 10 / n > 4", "target": "alerts", "columns": "price",
            "severity": "info"}  # fmt: skip
    status, answer, _ = await system.call("POST", "/maybe/dry-run?rows=2", body)
    assert status == 200, answer
    assert (answer["events"], answer["hits"], answer["rejected"]) == (100, 60, 30)
    assert answer["errors"] == {"division_by_zero": 30}
    assert answer["rows"] == [
        {"rule": "maybe", "severity": "info", "price": 97.0}, {"rule": "maybe", "severity": "info", "price": 98.0},
    ]  # fmt: skip
    status, answer, _ = await system.call("POST", "/maybe/dry-run?events=10", body)
    assert (answer["events"], answer["hits"]) == (10, 6)
    assert "alerts" not in (await system.log.catalog()).streams
    assert (await system.call("GET", "/maybe"))[0] == 404
    assert (await system.call("POST", "/maybe/dry-run"))[0] == 404
    await system.put("kept", "price < 3", enabled=False)
    assert (await system.call("POST", "/kept/dry-run"))[1]["hits"] == 3
    await system.caught_up("lots", "produce")
    derived = {"source": "cheap", "predicate": "price < 3", "target": "x"}
    status, answer, _ = await system.call("POST", "/c/dry-run", derived)
    assert (answer["events"], answer["hits"]) == (100, 3)
    for query in ("events=0", "events=100001", "rows=x", "row=1"):
        assert (await system.call("POST", f"/maybe/dry-run?{query}", body))[0] == 400


async def test_partitions_are_all_read_and_a_dry_run_takes_its_share_of_each() -> None:
    clock = ManualClock()
    async with system_on(MemoryLog(clock=clock), clock) as system:
        await system.deploy(partitions=3)
        await system.put("any", "TRUE")
        for partition in range(3):
            await system.send(*[lot(f"m{partition}", float(n)) for n in range(5)], partition=partition)
        await system.caught_up()
        assert len(await system.rows("alerts")) == 15
        answer = (await system.call("POST", "/any/dry-run?events=7"))[1]
        assert (answer["events"], answer["hits"]) == (7, 7)
        await system.send(lot("m0", 9.0), lot("m0", 10.0))
        answer = (await system.call("POST", "/any/dry-run?rows=7"))[1]
        shown = [(row["market"], row["price"]) for row in answer["rows"]]
        assert shown == [("m0", 4), ("m0", 9), ("m0", 10), ("m1", 3), ("m1", 4), ("m2", 3), ("m2", 4)]
        body = {"source": "lots", "predicate": "price > 4 OR market = 'm1'", "target": "x", "columns": "price"}
        answer = (await system.call("POST", "/few/dry-run?rows=5", body))[1]
        assert [row["price"] for row in answer["rows"]] == [9, 10, 2, 3, 4]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"source": "nowhere", "predicate": "TRUE", "target": "a"}, 404, "unknown_stream"),
        ({"source": "lots", "predicate": "TRUE", "target": "lots"}, 409, "conflict"),
        ({"source": "lots", "predicate": "TRUE", "target": "cheap"}, 409, "name_taken"),
        ({"source": "lots", "predicate": "TRUE", "target": "no such name"}, 400, "bad_request"),
        ({"source": "lots", "predicate": "TRUE"}, 400, "bad_request"),
        ({"source": "lots", "predicate": "TRUE", "target": "a", "severity": "loud"}, 400, "bad_request"),
        ({"source": "lots", "predicate": "TRUE", "target": "a", "colour": "red"}, 400, "bad_request"),
        ({"name": "other", "source": "lots", "predicate": "TRUE", "target": "a"}, 400, "bad_request"),
        ({"source": "alerts", "predicate": "TRUE", "target": "a"}, 400, "bad_request"),
        ({"source": "lots", "predicate": "TRUE", "target": "alerts", "columns": "n"}, 409, "conflict"),
        ({"source": "lots", "predicate": "price", "target": "a"}, 422, "sql_error"),
        ({"source": "lots", "predicate": "TRUE", "target": "a", "columns": "price +"}, 422, "sql_error"),
        ([], 400, "bad_request"),
    ],
)  # fmt: skip
async def test_a_wrong_rule_is_refused_and_changes_nothing(
    system: System, body: dict[str, Any], status: int, code: str
) -> None:
    await system.put("high")
    before = await system.log.catalog()
    found, answer, _ = await system.call("PUT", "/wrong", body)
    assert (found, answer["code"]) == (status, code), answer
    assert await system.log.catalog() == before
    await system.send(lot("Agra", 150))
    await system.caught_up()
    assert len(await system.rows("alerts")) == 1


async def test_limits_on_rules_targets_and_requests_hold() -> None:
    clock = ManualClock()
    limits = {"rules_max": 3, "targets_max": 2, "put_max": 2, "body_max_bytes": 1024}
    async with system_on(MemoryLog(clock=clock), clock, rules=limits) as system:
        await system.deploy()

        def rules(*names: str) -> dict[str, object]:
            return {"rules": [{"name": n, "source": "lots", "predicate": "TRUE", "target": f"t_{n}"} for n in names]}

        assert (await system.call("POST", "", rules("a", "b", "c")))[0] == 400
        assert (await system.call("POST", "", rules("a", "b")))[0] == 200
        assert (await system.call("POST", "", rules("c")))[1]["code"] == "conflict", "targets"
        await system.put("c", target="t_a")
        assert (await system.call("POST", "", rules("d")))[1]["code"] == "conflict", "rules"
        assert (await system.call("PUT", "/a", {"predicate": "x" * 2000}))[0] == 413


async def test_an_app_cannot_take_away_what_rules_read_and_new_columns_change_nothing(system: System) -> None:
    await system.put("high")
    await system.put("bargain", "price < 100", source="cheap", target="bargains")
    text = APP.format(partitions=1)
    for wrong in (
        text.replace("price DOUBLE", "price STRING").replace("price <", "CAST(price AS DOUBLE) <"),
        text.replace("TABLE cheap", "TABLE cheaper"),
        text.replace("SELECT market, price", "SELECT market"),
    ):
        with pytest.raises(PenstockError, match=r"rule 'bargain'|rule 'high'") as refused:
            await system.role.deploy("produce", wrong)
        assert refused.value.code == "conflict"
    with pytest.raises(PenstockError, match="delete them first"):
        await system.role.remove("produce")
    wider = text.replace("n INT,", "n INT, grade STRING,").replace("SELECT market, price", "SELECT market, price, n")
    await system.deploy(wider)
    await system.send(lot("Agra", 150), lot("Agra", 50))
    await system.caught_up("lots", "produce")
    await system.caught_up()
    await system.caught_up("cheap")
    assert [row["price"] for row in await system.rows("alerts")] == [150.0]
    assert [row["price"] for row in await system.rows("bargains")] == [50.0]
    await system.put("graded", "grade = 'A'", columns="grade", target="graded")


async def test_apps_are_listed_without_rules_and_rules_are_no_apps(system: System) -> None:
    await system.put("high")
    async with system.client.get("/v1/apps") as reply:
        assert [app["name"] for app in (await reply.json())["apps"]] == ["produce"]
    for method in ("GET", "DELETE"):
        async with system.client.request(method, "/v1/apps/rules.lots") as reply:
            assert reply.status == 404
    assert {check.name for check in system.role.ready()} == {"processor", "app produce", "app rules.lots"}
    await asyncio.sleep(0)


async def _has_hits(system: System, name: str, hits: int) -> bool:
    return (await system.rule(name))["hits"] == hits


async def _is_running(system: System, name: str) -> bool:
    return (await system.rule(name))["state"] == "running"


@pytest.mark.parametrize(
    ("data", "tag", "code"),
    [
        (b"[" * 100_000, "", "bad_json"),
        (b'{"rule": "\xff"}', "", "bad_json"),
        (b'{"name": "' + b"n" * 5_000 + b'"}', "", "bad_request"),
        (b"", '"\u00b2"', "precondition_failed"),
        (b"", '"' + "1" * 5_000 + '"', "precondition_failed"),
    ],
)
async def test_a_request_out_of_all_form_is_one_that_is_answered(
    system: System, data: bytes, tag: str, code: str
) -> None:
    body = data or b'{"source": "lots", "predicate": "n > 1", "target": "alerts"}'
    headers = {"If-Match": tag} if tag else {}
    async with system.client.put("/v1/rules/odd", data=body, headers=headers) as reply:
        answer = await reply.json()
    assert (reply.status < 500, answer["code"]) == (True, code)
    assert len(answer["detail"]) < 300


async def test_a_limit_of_thousands_of_digits_is_no_limit_that_there_is(system: System) -> None:
    async with system.client.get("/v1/rejected", params={"limit": "1" * 5_000}) as reply:
        assert (reply.status, (await reply.json())["code"]) == (400, "bad_request")


@pytest.mark.parametrize("target", ["totals", "alerts"])
async def test_a_target_of_others_is_refused_before_rules_of_another_source_are_put(
    system: System, target: str
) -> None:
    rules = [
        {"name": "a", "source": "lots", "predicate": "n > 1", "target": "alerts"},
        {"name": "b", "source": "cheap", "predicate": "price > 1", "target": target},
    ]
    status, answer, _ = await system.call("POST", "", {"rules": rules})
    assert (status, answer["code"]) == (409, "name_taken")
    assert f"'{target}'" in answer["detail"]
    assert (await system.call("GET", ""))[1] == {"rules": []}
