"""Requests that somebody follows: their spans, and the trace under which their events travel on."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from ingest_edge import Edge, HeldLog, MakeEdge, until
from opentelemetry.sdk.trace import ReadableSpan
from span_memory import SpanMemory, context

from penstock.observe.traces import Traces
from penstock.testing.clock import ManualClock


@pytest.fixture
def memory() -> Iterator[SpanMemory]:
    memory = SpanMemory()
    yield memory
    memory.close()


def event(id_: str, **more: object) -> dict[str, object]:
    return {"id": id_, "ts": 0, **more}


async def traces_of(edge: Edge) -> list[str]:
    return [batch.trace for batch in await edge.log.read("arrivals", 0, 0, 1 << 20)]


def trace_id(span: ReadableSpan) -> int:
    assert span.context is not None
    return span.context.trace_id


async def test_a_batch_carries_the_span_of_its_request_and_no_request_without_a_trace_has_one(
    make_edge: MakeEdge, memory: SpanMemory
) -> None:
    edge = await make_edge(traces=Traces(memory))
    await edge.post(event("a"))
    await edge.post(event("b"), traceparent=context(7))
    await edge.post(event("c"), traceparent=context(8, sampled=False))
    await edge.post(event("d"), traceparent="rubbish")
    (span,) = memory.spans
    assert (span.name, trace_id(span), span.parent.span_id) == ("ingest arrivals", 7, 1)  # type: ignore[union-attr]  # it has one
    assert await traces_of(edge) == ["", context(7, span.context.span_id), "", ""]  # type: ignore[union-attr]  # as above


async def test_events_of_several_requests_travel_under_the_first_trace_to_which_the_others_link(
    make_edge: MakeEdge, memory: SpanMemory
) -> None:
    log = HeldLog(clock=ManualClock())
    edge = await make_edge(log=log, traces=Traces(memory))
    log.gate.clear()
    posts = [asyncio.create_task(edge.post(event("first")))]
    await log.until_waiting(1)
    for n, trace in enumerate((None, context(7), context(8), None, context(9))):
        headers = {} if trace is None else {"traceparent": trace}
        posts.append(asyncio.create_task(edge.post(event(str(n)), **headers)))
        await until(lambda: edge.role._http.requests >= len(posts))  # in this order
    log.gate.set()
    await asyncio.gather(*posts)
    spans = {trace_id(span): span for span in memory.spans}
    carried = context(7, spans[7].context.span_id)  # type: ignore[union-attr]  # it has one
    assert await traces_of(edge) == ["", carried]
    links = {trace: [link.context.trace_id for link in span.links] for trace, span in spans.items()}
    assert links == {7: [], 8: [7], 9: [7]}


async def test_a_span_counts_what_was_sent_and_has_the_status_of_the_reply(
    make_edge: MakeEdge, memory: SpanMemory
) -> None:
    edge = await make_edge(traces=Traces(memory))
    body = [event("a"), event("a"), event("b"), event("c", price="typed by somebody")]
    assert (await edge.post(body, traceparent=context(7)))[0] == 207
    assert (await edge.post(event("a"), stream="nothing", traceparent=context(8)))[0] == 404
    mixed, unknown = memory.spans
    assert mixed.attributes is not None and unknown.attributes is not None
    assert {name: mixed.attributes[name] for name in mixed.attributes if not name.startswith(("http", "url"))} == {
        "messaging.system": "penstock",
        "messaging.operation.type": "send",
        "messaging.operation.name": "ingest",
        "messaging.destination.name": "arrivals",
        "messaging.batch.message_count": 2,
        "penstock.duplicates": 1,
        "penstock.rejected": 1,
    }
    assert [span.attributes["http.response.status_code"] for span in (mixed, unknown)] == [207, 404]
    assert "typed by somebody" not in mixed.to_json()


async def test_a_gateway_that_records_nothing_passes_the_callers_trace_on(edge: Edge) -> None:
    await edge.post([event("a")], traceparent=context(7, 5))
    assert await traces_of(edge) == [context(7, 5)]
