"""Spans recorded by OpenTelemetry's SDK and sent to a collector over OTLP/HTTP. Imported only where traces are on.

A collector that is away disturbs nobody: spans wait in a bounded queue and are dropped; it is said once, and counted.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Sequence

import structlog
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBased, Sampler, SamplingResult, TraceIdRatioBased
from opentelemetry.trace import Link, SpanKind, TraceState
from opentelemetry.util.types import Attributes

from penstock.observe.metrics import TRACE_SPANS
from penstock.observe.settings import TracesSettings

__all__ = ["LinkedOrRatio", "TraceExport"]

_PATH = "/v1/traces"
_log = structlog.get_logger(__name__)


class TraceExport:
    """Implements `traces.Export`. `service` is the resource's `service.name`."""

    def __init__(self, settings: TracesSettings, *, service: str) -> None:
        # The SDK's own lines would come with every attempt, and with every span that finds the queue full.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        self._flush_s = settings.flush_s
        self._exporter = _SayingOnce(settings)
        self.provider = TracerProvider(
            sampler=ParentBased(LinkedOrRatio(settings.ratio)),
            resource=Resource.create(
                {"service.name": service, "service.instance.id": f"{socket.gethostname()}:{os.getpid()}"}
            ),
            shutdown_on_exit=False,  # `close` does it, in time
        )
        self.provider.add_span_processor(
            BatchSpanProcessor(
                self._exporter,
                max_queue_size=settings.queue_max_spans,
                max_export_batch_size=min(settings.batch_max_spans, settings.queue_max_spans),
                schedule_delay_millis=settings.export_interval_s * 1000,
            )
        )

    def close(self) -> None:
        """See `traces.Export`."""
        # The SDK waits up to 30 s, whatever it is told; a thread can be left behind.
        ending = threading.Thread(target=self.provider.shutdown, name="penstock-traces-end", daemon=True)
        ending.start()
        ending.join(self._flush_s)
        if ending.is_alive():
            self._exporter.shutdown()  # an attempt that waits for its repetition gives up


class LinkedOrRatio(Sampler):
    """For spans without a parent: those with a link to a recorded trace, and a share of the others."""

    def __init__(self, ratio: float) -> None:
        self._others = TraceIdRatioBased(ratio)

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        """See `Sampler`."""
        linked = any(link.context.trace_flags.sampled for link in links or ())
        sampler = ALWAYS_ON if linked else self._others
        return sampler.should_sample(parent_context, trace_id, name, kind, attributes, links, trace_state)

    def get_description(self) -> str:
        """See `Sampler`."""
        return f"LinkedOrRatio{{{self._others.get_description()}}}"


class _SayingOnce(SpanExporter):
    """The OTLP exporter; says once that the collector cannot be reached, and once that it can be again."""

    def __init__(self, settings: TracesSettings) -> None:
        endpoint = settings.endpoint
        if endpoint is not None and not endpoint.endswith(_PATH):
            endpoint = endpoint.rstrip("/") + _PATH
        self._inner = OTLPSpanExporter(endpoint=endpoint, timeout=settings.export_timeout_s)
        self._failing = False
        self._over = threading.Lock()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """See `SpanExporter`; called in the SDK's thread."""
        result = self._inner.export(spans)
        failed = result is not SpanExportResult.SUCCESS
        TRACE_SPANS.labels("failed" if failed else "exported").inc(len(spans))
        if failed != self._failing:
            self._failing = failed
            if failed:
                _log.warning("traces_dropped", remedy="check the collector at traces.endpoint; not said again")
            else:
                _log.info("traces_exported_again")
        return result

    def shutdown(self) -> None:
        """See `SpanExporter`; once."""
        if self._over.acquire(blocking=False):
            self._inner.shutdown()  # type: ignore[no-untyped-call]  # the exporter says nothing about its result

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """See `SpanExporter`."""
        return self._inner.force_flush(timeout_millis)
