"""Settings of traces."""

from __future__ import annotations

from pydantic import BaseModel, Field

__all__ = ["TracesSettings"]


class TracesSettings(BaseModel, frozen=True):
    """Where spans go and how many; none are recorded without an endpoint."""

    endpoint: str | None = Field(
        default=None,
        pattern=r"^https?://\S+$",
        description="An OpenTelemetry collector that takes OTLP over HTTP, such as `http://127.0.0.1:4318`; default: "
        "what `OTEL_EXPORTER_OTLP_ENDPOINT` says, else traces are off. Needs the extra `tracing`.",
    )
    ratio: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Share of the requests without a `traceparent` that begin a trace; 0: only callers begin one.",
    )
    links_max: int = Field(default=32, ge=1, description="Most links of a span to the traces that it goes on from.")
    queue_max_spans: int = Field(
        default=2048, ge=1, description="Most spans that wait for the collector; beyond it the oldest are dropped."
    )
    batch_max_spans: int = Field(default=512, ge=1, description="Most spans in one request to the collector.")
    export_interval_s: float = Field(default=2.0, gt=0, description="How long a span waits for others to go with it.")
    export_timeout_s: float = Field(
        default=5.0, gt=0, description="How long a request to the collector is tried; then its spans are dropped."
    )
    flush_s: float = Field(default=2.0, gt=0, description="At stop: how long the last spans are waited for.")
