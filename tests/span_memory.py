"""Spans kept in memory, for tests of what begins and ends them."""

from __future__ import annotations

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ParentBased

from penstock.observe.trace_export import LinkedOrRatio

__all__ = ["SpanMemory", "context"]


def context(trace: int, span: int = 1, *, sampled: bool = True) -> str:
    """A traceparent."""
    return f"00-{trace:032x}-{span:016x}-{sampled:02x}"


class SpanMemory:
    """An `Export` for `Traces`; `spans` are those that have ended."""

    def __init__(self, ratio: float = 0.0) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider(sampler=ParentBased(LinkedOrRatio(ratio)), shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        return self._exporter.get_finished_spans()

    def close(self) -> None:
        self.provider.shutdown()
