"""Traces: spans that go on from what a request, or a batch of the log, says about the trace that it is part of.

OpenTelemetry's API only; its SDK is imported when spans are to be recorded (`open_traces`). A `Traces` that records
nothing passes the context on, so that others can. Whatever nobody follows gets no span and costs a look at its header
or at `Batch.trace`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Protocol

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    NoOpTracerProvider,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TracerProvider,
)

from penstock.errors import PenstockError
from penstock.model.traceparent import HEADER, is_sampled, read_traceparent
from penstock.observe.settings import TracesSettings

__all__ = [
    "Span",
    "SpanKind",
    "Traces",
    "current_trace",
    "describe_current",
    "link_current",
    "open_traces",
    "trace_fields",
    "trace_of",
    "within",
]

Attributes = Mapping[str, str | int]

#: Variables of OpenTelemetry that name a collector.
_ENDPOINT_VARIABLES = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_TRACE_ID = slice(3, 35)  # of a traceparent
_NOTE = "trace_id: "
_LINKS_MAX: int = TracesSettings.model_fields["links_max"].default


class Export(Protocol):
    """What records spans and sends them away."""

    @property
    def provider(self) -> TracerProvider:
        """Its tracers record."""
        ...

    def close(self) -> None:
        """Send what waits, within the time allowed. Blocking."""
        ...


class Traces:
    """Begins spans. Without `export` it records none; with `roots` a request without a trace may begin one."""

    def __init__(self, export: Export | None = None, *, roots: bool = False, links_max: int = _LINKS_MAX) -> None:
        self._export, self._roots, self._links_max = export, roots, links_max
        provider = NoOpTracerProvider() if export is None else export.provider
        self._tracer = provider.get_tracer("penstock")

    def of_request(self, headers: Mapping[str, str]) -> str | None:
        """The recorded trace that a request belongs to; "" if it may begin one, None if nobody follows it."""
        text = headers.get(HEADER)
        found = None if text is None else read_traceparent(text)
        if found is not None:
            return found if is_sampled(found) else None
        return "" if self._roots else None

    def begin(
        self,
        name: str,
        parent: str,
        *,
        kind: SpanKind,
        links: Sequence[str] = (),
        attributes: Attributes | None = None,
    ) -> Span:
        """A span that somebody must end; `parent` "": it begins a trace. At most `links_max` links are kept."""
        context = Context()
        if parent:
            context = trace.set_span_in_context(NonRecordingSpan(_context_of(parent)), context)
        kept = [Link(_context_of(text)) for text in links[: self._links_max]]
        span = self._tracer.start_span(name, context, kind=kind, links=kept, attributes=dict(attributes or {}))
        if len(links) > len(kept):
            span.set_attribute("penstock.links_dropped", len(links) - len(kept))
        return span

    def follow(self, name: str, traces: Iterable[str], *, kind: SpanKind) -> Span | None:
        """A span that goes on from these texts (`Batch.trace`, most of them ""); None if nobody follows any.

        It is a child where all are of one trace; else it begins one, with links to all. (Where nothing is recorded,
        the first is passed on.)
        """
        distinct = list(dict.fromkeys(text for text in traces if text))
        if not distinct:
            return None
        if self._export is None or all(text[_TRACE_ID] == distinct[0][_TRACE_ID] for text in distinct):
            return self.begin(name, distinct[0], kind=kind, links=distinct[1:])
        return self.begin(name, "", kind=kind, links=distinct)

    async def close(self) -> None:
        """Send the last spans."""
        if self._export is not None:
            await asyncio.to_thread(self._export.close)


def open_traces(settings: TracesSettings, *, service: str, environment: Mapping[str, str]) -> Traces:
    """As set; `service` is the resource's `service.name`. `bad_request` if the extra `tracing` is missing."""
    if settings.endpoint is None and not any(environment.get(name) for name in _ENDPOINT_VARIABLES):
        return Traces()
    try:
        from penstock.observe.trace_export import TraceExport
    except ImportError as error:
        raise PenstockError(
            "bad_request",
            f"traces are to be exported, but {error.name} is not installed: pip install 'penstock[tracing]', "
            f"or unset traces.endpoint and {_ENDPOINT_VARIABLES[0]}",
        ) from error
    export = TraceExport(settings, service=service)
    return Traces(export, roots=settings.ratio > 0, links_max=settings.links_max)


@contextmanager
def within(span: Span | None, *, end: bool = True) -> Iterator[None]:
    """The span, if there is one, is the current one inside: log lines carry its trace. It ends with the block.

    `end` False: only where the block fails, else somebody else ends it.
    """
    if span is None:
        yield
        return
    try:
        with trace.use_span(span, record_exception=False, set_status_on_exception=False):
            yield
    except BaseException as error:
        _fail(span, error)
        span.end()
        raise
    if end:
        span.end()


def trace_of(span: Span | None) -> str:
    """The span as `Batch.trace` and header; "" if it is not recorded by anybody."""
    context = None if span is None else span.get_span_context()
    if context is None or not (context.is_valid and context.trace_flags.sampled):
        return ""
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-01"


def current_trace() -> str:
    """`trace_of` the current span."""
    return trace_of(trace.get_current_span())


def describe_current(attributes: Attributes) -> None:
    """Set attributes of the current span."""
    trace.get_current_span().set_attributes(dict(attributes))


def link_current(text: str) -> None:
    """Link the current span to what `text` says: where it goes on."""
    trace.get_current_span().add_link(_context_of(text))


def trace_fields(error: BaseException) -> dict[str, str]:
    """`trace_id` of the span in which it was raised, for the log line about it; {} if nobody follows that."""
    notes = getattr(error, "__notes__", ())
    return next(({"trace_id": note.removeprefix(_NOTE)} for note in notes if note.startswith(_NOTE)), {})


def _fail(span: Span, error: BaseException) -> None:
    """The span gets the code only, as messages may quote what was sent; the error learns the trace."""
    code = error.code if isinstance(error, PenstockError) else type(error).__name__
    span.set_status(Status(StatusCode.ERROR, code))
    span.set_attribute("error.type", code)
    if text := trace_of(span):
        error.add_note(_NOTE + text[_TRACE_ID])


def _context_of(text: str) -> SpanContext:
    _, trace_id, span_id, flags = text.split("-")
    return SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=TraceFlags(int(flags, 16)))
