"""Duplicates: one id is stored once, whatever runs beside it, fails in between, or restarts."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ingest_edge import ARRIVALS, Edge, HeldLog, MakeEdge, until
from prometheus_client import REGISTRY

from penstock.errors import LogUnavailable, PenstockError
from penstock.model.types import BIGINT
from penstock.testing.clock import ManualClock
from penstock_ingest.dedupe import Claim, DedupeIndex
from penstock_ingest.settings import DedupeSettings, IngestSettings


def event(id_: object, **more: object) -> bytes:
    """One good event."""
    return msgspec.json.encode({"id": id_, "ts": 0, **more})


async def test_the_same_id_is_stored_once_and_counted(edge: Edge) -> None:
    status, reply = await edge.lines(b"\n".join([event("1"), event("2"), event("1", price=2.5)]))
    assert (status, reply["accepted"], reply["duplicate"]) == (200, 2, 1)
    status, reply = await edge.lines(b"\n".join([event("2"), event("3"), b"{", event("1")]))
    assert (status, reply["accepted"], reply["duplicate"], reply["rejected"]) == (207, 1, 2, 1)
    status, reply = await edge.post(event("3"))
    assert (status, reply["accepted"], reply["duplicate"], reply["positions"]) == (200, 0, 1, [])
    assert await edge.stored() == [event("1"), event("2"), event("3")]


async def test_a_stream_without_dedupe_stores_everything(make_edge: MakeEdge) -> None:
    edge = await make_edge(replace(ARRIVALS, dedupe=()))
    assert (await edge.lines(b"\n".join([event("1")] * 3)))[1]["accepted"] == 3
    assert await edge.log.ids("arrivals", 0) == []


async def test_a_key_of_several_columns_is_compared_by_value(make_edge: MakeEdge) -> None:
    edge = await make_edge(replace(ARRIVALS, dedupe=("id", "ts")))
    first = b"\n".join([event("1"), event("1", ts=1), event("1", ts="1970-01-01T00:00:00.001Z"), event("11")])
    _, reply = await edge.lines(first)
    assert (reply["accepted"], reply["duplicate"]) == (3, 1)
    _, reply = await edge.lines(event("1", ts="1970-01-01 01:00:00.001999999+01:00") + b"\n{")
    assert (reply["accepted"], reply["duplicate"]) == (0, 1)


async def test_a_number_may_be_the_key(make_edge: MakeEdge) -> None:
    columns = tuple(replace(c, type=BIGINT) if c.name == "id" else c for c in ARRIVALS.columns)
    edge = await make_edge(replace(ARRIVALS, columns=columns))
    _, reply = await edge.lines(b"\n".join([event(1), event(-0), event(1), b'{"id":-0,"ts":5}']))
    assert (reply["accepted"], reply["duplicate"]) == (2, 2)


async def test_the_window_forgets_and_a_restart_remembers(make_edge: MakeEdge) -> None:
    clock = ManualClock()
    settings = IngestSettings(dedupe=DedupeSettings(window_s=3600))
    edge = await make_edge(clock=clock, settings=settings)
    await edge.post(event("old"))
    await clock.advance(1800)
    await edge.post(event("new"))
    again = await make_edge(clock=clock, settings=settings, log=edge.log)
    _, reply = await again.lines(event("old") + b"\n" + event("new"))
    assert (reply["accepted"], reply["duplicate"]) == (0, 2)
    await clock.advance(1801)
    for gateway in (edge, again):
        _, reply = await gateway.post(event("new"))
        assert (reply["accepted"], reply["duplicate"]) == (0, 1)
    _, reply = await again.post(event("old"))
    assert (reply["accepted"], reply["duplicate"]) == (1, 0)


async def test_the_bound_on_ids_shortens_the_window_and_shows_it(make_edge: MakeEdge) -> None:
    clock = ManualClock()
    spec = replace(ARRIVALS, name="bounded")
    settings = IngestSettings(dedupe=DedupeSettings(window_s=3600, max_ids=10))
    edge = await make_edge(spec, clock=clock, settings=settings)
    for number in range(20):
        await edge.post(event(str(number)), stream="bounded")
        await clock.advance(60)
    edge.role._gateway.streams.report()
    assert REGISTRY.get_sample_value("penstock_ingest_dedupe_ids", {"stream": "bounded"}) == 10
    assert REGISTRY.get_sample_value("penstock_ingest_dedupe_window_seconds", {"stream": "bounded"}) == 600
    _, reply = await edge.lines(event("9") + b"\n" + event("10"), stream="bounded")
    assert (reply["accepted"], reply["duplicate"]) == (1, 1)
    again = await make_edge(spec, clock=clock, settings=settings, log=edge.log)
    _, reply = await again.lines(event("19") + b"\n" + event("0"), stream="bounded")
    assert (reply["accepted"], reply["duplicate"]) == (1, 1)


async def test_a_duplicate_of_an_event_in_flight_is_answered_when_that_is_durable(make_edge: MakeEdge) -> None:
    log = HeldLog(clock=ManualClock())
    edge = await make_edge(log=log)
    log.gate.clear()
    first = asyncio.create_task(edge.post(event("1")))
    await log.until_waiting(1)
    second = asyncio.create_task(edge.lines(event("1") + b"\n" + event("2")))
    other = asyncio.create_task(edge.lines(event("3")))
    await log.until_waiting(2)
    assert not second.done() and not first.done()
    log.gate.set()
    assert (await first)[1]["accepted"] == 1
    assert ((await second)[1]["accepted"], (await second)[1]["duplicate"]) == (1, 1)
    assert (await other)[1]["accepted"] == 1
    assert sorted(await edge.stored()) == [event("1"), event("2"), event("3")]


async def test_when_the_append_in_flight_fails_the_duplicate_is_accepted_instead(make_edge: MakeEdge) -> None:
    log = HeldLog(clock=ManualClock())
    edge = await make_edge(log=log)
    log.gate.clear()
    first = asyncio.create_task(edge.post(event("1")))
    await log.until_waiting(1)
    second = asyncio.create_task(edge.post(event("1")))
    log.fail_before = PenstockError("log_full", "no room", retry_after_s=1)
    log.gate.set()
    assert (await first)[0] == 503
    assert (await second)[1]["accepted"] == 1
    assert await edge.stored() == [event("1")]


@pytest.mark.parametrize("is_written", [True, False])
async def test_after_an_append_of_unknown_outcome_the_log_decides(make_edge: MakeEdge, is_written: bool) -> None:
    log = HeldLog(clock=ManualClock())
    edge = await make_edge(log=log)
    error = LogUnavailable("the disk did not answer")
    log.fail_after, log.fail_before = (error, None) if is_written else (None, error)
    log.gate.clear()
    first = asyncio.create_task(edge.post(event("1")))
    await log.until_waiting(1)
    second = asyncio.create_task(edge.post(event("1")))
    log.gate.set()
    assert (await first)[0] == 503
    assert (await second)[1]["duplicate" if is_written else "accepted"] == 1
    assert (await edge.post(event("1")))[1]["duplicate"] == 1
    assert await edge.stored() == [event("1")]


async def test_an_append_whose_client_left_still_counts(make_edge: MakeEdge) -> None:
    log = HeldLog(clock=ManualClock())
    edge = await make_edge(log=log)
    log.gate.clear()
    left = asyncio.create_task(edge.post(event("1")))
    await log.until_waiting(1)
    left.cancel()
    with pytest.raises(asyncio.CancelledError):
        await left
    second = asyncio.create_task(edge.post(event("1")))
    log.gate.set()
    assert (await second)[1]["duplicate"] == 1
    assert await edge.stored() == [event("1")]


async def test_many_requests_with_the_same_ids_at_once_store_each_once(make_edge: MakeEdge) -> None:
    edge = await make_edge(settings=IngestSettings(thread_min_bytes=0))
    bodies = [b"\n".join(event(str(n)) for n in range(start, start + 50)) for start in range(0, 100, 10)]
    replies = await asyncio.gather(*(edge.lines(body) for body in bodies * 4))
    assert all(status == 200 for status, _ in replies)
    assert sum(reply["accepted"] for _, reply in replies) == 140
    assert sum(reply["duplicate"] for _, reply in replies) == 50 * 40 - 140
    assert sorted(await edge.stored()) == sorted(event(str(n)) for n in range(140))


async def test_ids_outlive_a_change_of_the_stream_but_not_its_removal(edge: Edge) -> None:
    await edge.post(event("1"))
    columns = tuple(c for c in ARRIVALS.columns if c.name != "lots")
    await edge.log.put_app("app", "", (replace(ARRIVALS, columns=columns, unknown="reject"),), None)
    assert (await edge.post(event("1")))[1]["duplicate"] == 1
    assert (await edge.post(event("2", lots=1)))[1]["errors"][0]["code"] == "unknown_field"
    await edge.log.delete_app("app", None)
    assert (await edge.post(event("1")))[0] == 404
    await edge.log.put_app("app", "", (ARRIVALS,), None)
    assert (await edge.post(event("1")))[1]["accepted"] == 1
    assert (await edge.post(event("1")))[1]["duplicate"] == 1


@given(
    st.lists(
        st.tuples(
            st.lists(st.integers(0, 12), max_size=6),
            st.sampled_from(["confirm", "give up", "leave open", "settle all"]),
            st.integers(0, 5),
        ),
        max_size=30,
    )
)
def test_the_index_agrees_with_a_plain_model(steps: list[tuple[list[int], str, int]]) -> None:
    window_ms = 10_000
    index = DedupeIndex(window_ms=window_ms, max_ids=1000)
    confirmed: dict[bytes, int] = {}  # id -> confirmed at
    open_claims: list[Claim] = []
    now_ms = 0

    def confirm(claim: Claim) -> None:
        index.confirm(claim, now_ms)
        confirmed.update(dict.fromkeys(claim.ids, now_ms))

    for numbers, end, seconds in steps:
        now_ms += seconds * 1000
        ids = [bytes([number]) * 16 for number in numbers]
        live = {id_ for id_, at in confirmed.items() if at >= now_ms - window_ms}
        claimed = {id_ for claim in open_claims for id_ in claim.ids}
        outcome = index.claim(ids, now_ms)
        if claimed & set(ids):
            assert isinstance(outcome, list) and all(not claim.settled for claim in outcome)
            continue
        assert isinstance(outcome, Claim)
        expected = [id_ not in live and id_ not in ids[:place] for place, id_ in enumerate(ids)]
        assert (outcome.fresh or [True] * len(ids)) == expected
        assert outcome.ids == [id_ for id_, keep in zip(ids, expected, strict=True) if keep]
        confirmed = {id_: at for id_, at in confirmed.items() if id_ in live}
        if end == "confirm":
            confirm(outcome)
        elif end == "give up":
            index.give_up(outcome)
        else:
            open_claims.append(outcome)
        if end == "settle all":
            for claim in open_claims:
                confirm(claim)
            open_claims.clear()


def test_waiters_are_told_once_a_claim_is_settled() -> None:
    index = DedupeIndex(window_ms=1000, max_ids=10)
    claim = index.claim([b"a" * 16], 0)
    assert isinstance(claim, Claim)
    told: list[str] = []
    claim.on_settled(lambda: told.append("x"))
    assert told == []
    index.give_up(claim)
    assert told == ["x"] and claim.settled
    assert isinstance(index.claim([b"a" * 16], 0), Claim)


async def test_the_index_is_filled_before_the_role_is_ready(make_edge: MakeEdge) -> None:
    edge = await make_edge()
    await edge.post(event("1"))
    again = await make_edge(log=edge.log, clock=edge.clock)
    assert not again.role.ready()[0].ok
    stop = asyncio.Event()
    running = asyncio.create_task(again.role.run(stop))
    await until(lambda: again.role.ready()[0].ok)
    assert REGISTRY.get_sample_value("penstock_ingest_dedupe_ids", {"stream": "arrivals"}) == 1
    stop.set()
    await running
    assert not again.role.ready()[0].ok
