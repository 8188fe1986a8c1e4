"""Spans: whom they follow, how many links they keep, and what they cost where nobody follows."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator

import pytest
import structlog
from span_memory import SpanMemory, context
from trace_collector import TraceCollector

from penstock.errors import PenstockError
from penstock.observe.logs import add_trace
from penstock.observe.settings import TracesSettings
from penstock.observe.trace_export import TraceExport
from penstock.observe.traces import (
    SpanKind,
    Traces,
    current_trace,
    link_current,
    open_traces,
    trace_fields,
    trace_of,
    within,
)

SERVER = SpanKind.SERVER


@pytest.fixture
def memory() -> Iterator[SpanMemory]:
    memory = SpanMemory()
    yield memory
    memory.close()


def test_a_request_is_followed_only_if_its_caller_records_the_trace():
    traces = Traces()
    assert traces.of_request({}) is None
    assert traces.of_request({"traceparent": "nonsense"}) is None
    assert traces.of_request({"traceparent": context(1, sampled=False)}) is None
    assert traces.of_request({"traceparent": context(1)}) == context(1)


def test_with_a_ratio_a_request_without_a_trace_may_begin_one_but_not_against_its_caller():
    traces = Traces(SpanMemory(1.0), roots=True)
    assert traces.of_request({}) == ""
    assert traces.of_request({"traceparent": context(1, sampled=False)}) is None
    span = traces.begin("ingest s", "", kind=SERVER)
    assert trace_of(span).endswith("-01")
    span.end()


def test_batches_that_nobody_follows_get_no_span(memory: SpanMemory):
    assert Traces(memory).follow("process a", ["", "", ""], kind=SERVER) is None
    assert Traces(memory).follow("process a", [], kind=SERVER) is None
    assert memory.spans == ()


def test_batches_of_one_trace_are_followed_by_a_child(memory: SpanMemory):
    span = Traces(memory).follow("process a", ["", context(7, 1), context(7, 2), context(7, 1)], kind=SERVER)
    assert span is not None
    span.end()
    (found,) = memory.spans
    assert (found.context.trace_id, found.parent.span_id) == (7, 1)
    assert [link.context.span_id for link in found.links] == [2]
    assert trace_of(span) == context(7, found.context.span_id)


def test_batches_of_several_traces_begin_one_that_is_recorded_and_linked_to_all(memory: SpanMemory):
    span = Traces(memory).follow("process a", [context(7), context(8), ""], kind=SERVER)
    assert span is not None
    span.end()
    (found,) = memory.spans
    assert found.parent is None and found.context.trace_id not in (7, 8)
    assert [link.context.trace_id for link in found.links] == [7, 8]


@pytest.mark.parametrize("same", [True, False], ids=["one trace", "many traces"])
def test_links_are_bounded_and_the_span_says_how_many_were_dropped(memory: SpanMemory, same: bool):
    many = [context(7 if same else n, n) for n in range(1, 102)]
    span = Traces(memory, links_max=5).follow("process a", many, kind=SERVER)
    assert span is not None
    span.end()
    (found,) = memory.spans
    assert len(found.links) == 5
    assert found.attributes["penstock.links_dropped"] == (95 if same else 96)


def test_what_fails_within_a_span_fails_it_with_the_code_and_not_the_message(memory: SpanMemory):
    span = Traces(memory).begin("x", context(7), kind=SERVER)
    with pytest.raises(PenstockError) as raised, within(span, end=False):
        raise PenstockError("log_full", "a detail that may quote what was sent")
    (found,) = memory.spans
    assert trace_fields(raised.value) == {"trace_id": f"{7:032x}"}  # for the log line about it
    assert (found.status.description, found.attributes["error.type"], found.events) == ("log_full", "log_full", ())


def test_a_process_that_records_nothing_passes_the_trace_on():
    traces = Traces()
    span = traces.follow("process a", ["", context(7), context(8)], kind=SERVER)
    with within(span):
        assert current_trace() == trace_of(span) == context(7)
        link_current(context(8))
    assert current_trace() == ""


def test_within_no_span_there_is_no_trace():
    with within(None):
        assert current_trace() == ""


def test_log_lines_within_a_span_say_which_trace_they_belong_to():
    lines: list[structlog.typing.EventDict] = []

    def keep(_logger: object, _name: str, event: structlog.typing.EventDict) -> str:
        lines.append(dict(event))
        raise structlog.DropEvent

    log = structlog.wrap_logger(None, processors=[add_trace, keep])
    log.warning("before")
    with within(Traces().begin("x", context(7, 9), kind=SERVER)):
        log.warning("within")
    assert lines == [{"event": "before"}, {"event": "within", "trace_id": f"{7:032x}", "span_id": f"{9:016x}"}]


def test_without_a_collector_nothing_of_the_sdk_is_imported():
    text = (
        "import os, sys; import penstock_app.roles; from penstock.observe.traces import open_traces; "
        "from penstock.observe.settings import TracesSettings; "
        "open_traces(TracesSettings(), service='s', environment={}); "
        "sys.exit(str([n for n in sys.modules if n.startswith(('opentelemetry.sdk', 'opentelemetry.exporter'))]))"
    )
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr.strip() == "[]"


def test_a_missing_extra_is_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch):
    for name in [name for name in sys.modules if name.startswith("penstock.observe.trace_export")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(PenstockError, match=r"penstock\[tracing\]"):
        open_traces(TracesSettings(endpoint="http://127.0.0.1:1"), service="s", environment={})


@pytest.mark.parametrize("by_variable", [True, False])
async def test_spans_reach_the_collector_before_the_process_ends(monkeypatch: pytest.MonkeyPatch, by_variable: bool):
    with TraceCollector() as collector:
        settings = TracesSettings(endpoint=None if by_variable else collector.url, export_interval_s=60)
        environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url} if by_variable else {}
        for name, value in environment.items():
            monkeypatch.setenv(name, value)  # the exporter reads it by itself
        traces = await asyncio.to_thread(open_traces, settings, service="penstock-x", environment=environment)
        with within(traces.begin("x", context(7), kind=SERVER, attributes={"a": 1})):
            pass
        await traces.close()
        assert {(span.service, span.name, span.attributes["a"]) for span in collector.spans} == {
            ("penstock-x", "x", 1)
        }
        assert collector.paths == {"/v1/traces"}


async def test_a_collector_that_is_away_is_said_once_and_holds_nobody_up(capsys: pytest.CaptureFixture[str]):
    settings = TracesSettings(
        endpoint="http://127.0.0.1:9", export_interval_s=0.01, export_timeout_s=0.2, flush_s=0.1, queue_max_spans=4
    )
    with structlog.testing.capture_logs() as lines:
        export = await asyncio.to_thread(TraceExport, settings, service="penstock-x")
        traces = Traces(export)
        for _ in range(20):
            for _ in range(10):
                traces.begin("x", context(7), kind=SERVER).end()
            await asyncio.sleep(0.05)
        await traces.close()
    assert [line["event"] for line in lines] == ["traces_dropped"]
    assert capsys.readouterr().err == ""
