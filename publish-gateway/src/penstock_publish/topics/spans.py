"""The span of a fan-out: it goes on from the traces of the batches that go to a topic's subscribers."""

from __future__ import annotations

from collections.abc import Sequence

from penstock.model.batch import Batch
from penstock.observe.traces import Span, SpanKind, Traces
from penstock_publish.topics.live import LiveTopic

__all__ = ["begin_fan_out"]


def begin_fan_out(traces: Traces, topic: LiveTopic, batches: Sequence[Batch]) -> Span | None:
    """None, the rule, where no batch has a trace that somebody follows."""
    name = topic.spec.name
    span = traces.follow(f"publish {name}", (batch.trace for batch in batches), kind=SpanKind.PRODUCER)
    if span is not None:
        span.set_attributes(
            {
                "messaging.system": "penstock",
                "messaging.operation.type": "send",
                "messaging.operation.name": "publish",
                "messaging.destination.name": name,
                "messaging.batch.message_count": sum(batch.count for batch in batches),
                "penstock.subscribers": topic.connection_count,
            }
        )
    return span
