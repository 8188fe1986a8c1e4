"""Rows delivered to an HTTP endpoint that fails, stalls and refuses: none is lost, and what is refused is listed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from hook_receiver import Receiver, receiver
from processor.delivery_rig import SOURCE, CutLog, processor, until

from penstock.errors import PenstockError
from penstock_processor.replays import ReplayEvent, replay_events
from penstock_processor.runtime.delivery import DeliveryState


@pytest.fixture
async def endpoint() -> AsyncIterator[Receiver]:
    async with receiver() as found:
        yield found


def app(endpoint: Receiver, **options: str) -> str:
    given = {"connector": "http", "url": endpoint.url, "format": "json", **options}
    written = ", ".join(f"'{name}' = '{value}'" for name, value in given.items())
    return f"{SOURCE}CREATE TABLE alerts WITH ({written}) AS SELECT id, market, price FROM lots WHERE price < 100;\n"


def lots(first: int, count: int) -> list[dict[str, object]]:
    return [{"id": n, "market": f"m{n % 3}", "price": float(n)} for n in range(first, first + count)]


async def test_rows_arrive_in_order_in_batches_that_say_where_they_are(endpoint: Receiver):
    async with processor(app(endpoint, **{"sink.buffer-flush.max-rows": "4"})) as rig:
        await rig.send(lots(0, 10))
        await rig.caught_up("alerts")
    assert endpoint.taken == lots(0, 10)
    assert [len(msgspec.json.decode(body)) for _, body in endpoint.requests] == [4, 4, 2]
    keys = [headers["Idempotency-Key"] for headers, _ in endpoint.requests]
    assert keys == [f"alerts.{p}" for p in ("1.0.0-4", "1.0.4-8", "1.0.8-10")]


async def test_such_a_table_is_neither_published_nor_stored_unless_asked_for(endpoint: Receiver):
    async with processor(app(endpoint)) as rig:
        spec = (await rig.log.catalog()).streams["alerts"]
        assert not spec.publish and not spec.store
    async with processor(app(endpoint, store="true", publish="true")) as rig:
        spec = (await rig.log.catalog()).streams["alerts"]
        assert spec.publish and spec.store


async def test_an_endpoint_that_fails_gets_the_same_batch_again_until_it_takes_it(endpoint: Receiver):
    statuses = [500, 503, 429, 401]
    endpoint.answer = lambda _: statuses.pop(0) if statuses else 201
    async with processor(app(endpoint)) as rig:
        await rig.send(lots(0, 3))
        await rig.caught_up("alerts")
        assert await rig.rejected() == []
    assert endpoint.ids == [0, 1, 2]
    assert len({headers["Idempotency-Key"] for headers, _ in endpoint.requests}) == 1


async def test_the_batch_that_comes_again_is_the_same_although_more_rows_wait_by_then(endpoint: Receiver):
    endpoint.answer = lambda _: 503
    async with processor(app(endpoint)) as rig:
        await rig.send(lots(0, 2))
        await until(lambda: endpoint.requests)
        await rig.send(lots(2, 3))
        await until(lambda: rig.delivery.waiting == 5)
        asked = len(endpoint.requests)
        await until(lambda: len(endpoint.requests) > asked + 1)
        endpoint.answer = lambda _: 200
        await rig.caught_up("alerts")
    keys = [headers["Idempotency-Key"] for headers, _ in endpoint.requests]
    assert list(dict.fromkeys(keys)) == ["alerts.1.0.0-2", "alerts.1.0.2-5"]
    assert endpoint.ids == [0, 1, 2, 3, 4]


async def test_an_endpoint_that_stalls_is_given_up_in_time_and_asked_again(endpoint: Receiver):
    answers = [None]
    endpoint.answer = lambda _: answers.pop(0) if answers else 200
    async with processor(app(endpoint, **{"request.timeout": "50 ms"})) as rig:
        await rig.send(lots(0, 2))
        await rig.caught_up("alerts")
    assert endpoint.ids == [0, 1]
    assert len(endpoint.requests) == 2


async def test_a_stop_does_not_wait_for_an_endpoint_that_stalls_and_the_rows_come_after_it(endpoint: Receiver):
    log = CutLog()
    endpoint.answer = lambda _: None
    async with processor(app(endpoint), log) as rig:
        await rig.send(lots(0, 2))
        await until(lambda: endpoint.requests)
    assert not endpoint.released.is_set()  # it stopped all the same
    endpoint.answer = lambda _: 200
    async with processor(app(endpoint), log) as rig:
        await rig.caught_up("alerts")
    assert endpoint.ids == [0, 1]


async def test_one_bad_row_among_many_is_rejected_and_its_neighbours_arrive_in_order(endpoint: Receiver):
    endpoint.answer = lambda rows: 400 if any(row["id"] == 37 for row in rows) else 200
    async with processor(app(endpoint)) as rig:
        await rig.send(lots(0, 90))
        await rig.caught_up("alerts")
        (event,) = await rig.rejected()
        assert rig.delivery.rejected == 1
    assert endpoint.ids == [n for n in range(90) if n != 37]
    assert (event.stream, event.app, event.statement, event.code) == ("alerts", "shop", "alerts", "delivery_refused")
    assert event.position == (0, 37)
    assert msgspec.json.decode(event.raw)["id"] == 37
    assert "answers 400: status 400 it is" in event.detail


async def test_rows_are_rejected_after_as_many_retries_as_the_table_allows(endpoint: Receiver):
    endpoint.answer = lambda rows: 500 if rows[0]["id"] == 0 else 200
    async with processor(app(endpoint, **{"sink.max-retries": "2", "sink.buffer-flush.max-rows": "2"})) as rig:
        await rig.send(lots(0, 4))
        await rig.caught_up("alerts")
        events = await rig.rejected()
    assert endpoint.ids == [2, 3]
    assert sorted(msgspec.json.decode(event.raw)["id"] for event in events) == [0, 1]
    assert {event.code for event in events} == {"delivery_failed"}
    assert len(endpoint.requests) == 3 + 1


async def test_failures_of_the_log_are_no_retries_of_the_endpoint(endpoint: Receiver):
    log = CutLog()
    log.cuts = 3
    statuses = [200, 200, 200, 503]
    endpoint.answer = lambda _: statuses.pop(0) if statuses else 200
    async with processor(app(endpoint, **{"sink.max-retries": "2"}), log) as rig:
        await rig.send(lots(0, 2))
        await rig.caught_up("alerts")
        assert await rig.rejected() == []
    assert len(endpoint.requests) == 5


async def test_a_kill_between_delivery_and_commit_delivers_again_under_the_same_key(endpoint: Receiver):
    log = CutLog()
    log.cuts = 1
    async with processor(app(endpoint), log) as rig:
        await rig.send(lots(0, 5))
        await rig.caught_up("alerts")
    assert endpoint.ids == [0, 1, 2, 3, 4] * 2
    first, second = (headers["Idempotency-Key"] for headers, _ in endpoint.requests)
    assert first == second == "alerts.1.0.0-5"


async def test_a_restart_goes_on_where_the_last_delivery_was_committed(endpoint: Receiver):
    log = CutLog()
    async with processor(app(endpoint), log) as rig:
        await rig.send(lots(0, 5))
        await rig.caught_up("alerts")
    async with processor(app(endpoint), log) as rig:
        await rig.send(lots(5, 5))
        await rig.caught_up("alerts")
    assert endpoint.ids == list(range(10))


async def test_changes_of_a_table_say_what_they_are(endpoint: Receiver):
    sql = (
        SOURCE
        + "CREATE TABLE latest (market STRING, price DOUBLE, PRIMARY KEY (market) NOT ENFORCED) WITH "
        + f"('connector' = 'http', 'url' = '{endpoint.url}', 'format' = 'json', 'body' = 'lines');\n"
        + "INSERT INTO latest SELECT market, price FROM lots;\n"
    )
    async with processor(sql) as rig:
        await rig.send(lots(0, 1))
        await rig.caught_up("latest")
        (headers, body) = endpoint.requests[0]
    assert headers["Content-Type"] == "application/x-ndjson"
    assert [msgspec.json.decode(line) for line in body.splitlines()] == [
        {"market": "m0", "price": 0.0, "$op": endpoint.taken[0]["$op"]}
    ]
    assert endpoint.taken[0]["$op"] in ("+I", "+U")


async def test_one_row_a_request_refuses_each_for_itself(endpoint: Receiver):
    endpoint.answer = lambda row: 422 if row["id"] % 2 else 204
    async with processor(app(endpoint, body="object", method="PUT")) as rig:
        await rig.send(lots(0, 6))
        await rig.caught_up("alerts")
        events = await rig.rejected()
    assert endpoint.ids == [0, 2, 4]
    assert sorted(event.position[1] for event in events if event.position) == [1, 3, 5]


async def test_a_secret_comes_from_its_file_and_stands_in_no_text(endpoint: Receiver, tmp_path: Path):
    sql = app(endpoint, **{"header.Authorization": "Bearer ${hook_token}"})
    async with processor(sql, folder=tmp_path) as rig:
        await rig.send(lots(0, 1))
        await until(lambda: rig.delivery.state is DeliveryState.WAITING)
        assert "hook_token" in rig.delivery.detail
        (tmp_path / "hook_token").write_text("s3cret\n")
        await rig.caught_up("alerts")
        assert "s3cret" not in str((await rig.log.catalog()).streams["alerts"])
        assert "s3cret" not in str(rig.delivery.as_json())
    assert endpoint.requests[0][0]["Authorization"] == "Bearer s3cret"


async def test_rows_wait_for_others_only_as_long_as_the_table_says(endpoint: Receiver):
    options = {"sink.buffer-flush.interval": "1 h", "sink.buffer-flush.max-rows": "3"}
    async with processor(app(endpoint, **options)) as rig:
        await rig.send(lots(0, 2))
        await until(lambda: rig.delivery.waiting == 2)
        assert endpoint.requests == []
        await rig.send(lots(2, 1))
        await rig.caught_up("alerts")
    assert endpoint.ids == [0, 1, 2]


async def test_an_endpoint_that_is_away_leaves_the_app_running_and_the_process_ready(endpoint: Receiver):
    sql = app(endpoint).replace(endpoint.url, "http://127.0.0.1:9/hook")
    async with processor(sql) as rig:
        await rig.send(lots(0, 2))
        await until(lambda: rig.delivery.state is DeliveryState.WAITING)
        assert all(check.ok for check in rig.role.ready())
        assert (await rig.role.lag_events("shop")) == {"lots": 0}
        assert await rig.rejected() == []


async def test_a_refused_row_is_delivered_once_it_is_corrected_and_listed_again_while_it_is_not(endpoint: Receiver):
    endpoint.answer = lambda found: 422 if any(row["price"] == 1.0 for row in found) else 200
    async with processor(app(endpoint)) as rig:
        await rig.send(lots(0, 3))
        await rig.caught_up("alerts")
        (event,) = await rig.rejected()
        (result,) = await replay_events(rig.role, [ReplayEvent(event.id)], authorization="")
        assert [error["code"] for error in result.errors] == ["delivery_refused"]
        (again,) = await rig.rejected()
        assert (again.id, again.position) == (f"{event.id}#r1", (0, 1))
        (wrong,) = await replay_events(rig.role, [ReplayEvent(again.id, '{"id": "x"}')], authorization="")
        assert "wrong_type" in wrong.why
        corrected = ReplayEvent(f"{event.id}#r2", '{"id": 1, "market": "m1", "price": 1.5}')
        (result,) = await replay_events(rig.role, [corrected], authorization="")
        assert result.replayed
        assert await rig.rejected() == []
        assert await rig.position("alerts") == 3
    assert endpoint.ids == [0, 2, 1]
    assert endpoint.requests[-1][0]["Penstock-Position"] == "1.0.3-3"


async def test_no_row_is_replayed_while_the_endpoint_is_away(endpoint: Receiver):
    endpoint.answer = lambda found: 422 if found[0]["id"] == 0 else 503
    async with processor(app(endpoint, **{"sink.buffer-flush.max-rows": "1"})) as rig:
        await rig.send(lots(0, 2))
        await until(lambda: rig.delivery.rejected and rig.delivery.state is DeliveryState.WAITING)
        (event,) = await rig.rejected()
        with pytest.raises(PenstockError, match="not_ready"):
            await replay_events(rig.role, [ReplayEvent(event.id)], authorization="")
        assert [found.id for found in await rig.rejected()] == [event.id]
