"""Spans of the store: one per relation of a round that applies batches which somebody follows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from penstock.observe.traces import Span, SpanKind, Traces, within
from penstock_data.apply import Reading

__all__ = ["applying"]


@contextmanager
def applying(traces: Traces, readings: Sequence[Reading]) -> Iterator[None]:
    """Around the transaction of these readings."""
    with ExitStack() as spans:
        for reading in readings:
            span = _begin(traces, reading)
            if span is not None:
                spans.enter_context(within(span))
        yield


def _begin(traces: Traces, reading: Reading) -> Span | None:
    name = reading.spec.name
    span = traces.follow(f"apply {name}", (batch.trace for batch in reading.batches), kind=SpanKind.CONSUMER)
    if span is not None:
        span.set_attributes(
            {
                "messaging.system": "penstock",
                "messaging.operation.type": "process",
                "messaging.operation.name": "apply",
                "messaging.destination.name": name,
                "messaging.batch.message_count": sum(batch.count for batch in reading.batches),
            }
        )
    return span
