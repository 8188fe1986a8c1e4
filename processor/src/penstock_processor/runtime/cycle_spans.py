"""The span of a cycle: it goes on from the traces of the input batches, and the output batches carry it on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from penstock.observe.traces import Span, SpanKind, Traces, trace_of
from penstock_processor.logical.plan import AppPlan
from penstock_processor.runtime.app_worker import CycleResult
from penstock_processor.runtime.inputs import PartitionInput

__all__ = ["begin_cycle", "with_trace"]


def begin_cycle(traces: Traces, plan: AppPlan, inputs: Sequence[PartitionInput]) -> Span | None:
    """None, the rule, where no input has a trace that somebody follows."""
    found = (batch.trace for taken in inputs for batch in taken.batches)
    span = traces.follow(f"process {plan.name}", found, kind=SpanKind.CONSUMER)
    if span is not None:
        span.set_attributes(
            {
                "messaging.system": "penstock",
                "messaging.operation.type": "process",
                "messaging.operation.name": "process",
                "messaging.batch.message_count": sum(batch.count for taken in inputs for batch in taken.batches),
                "penstock.app": plan.name,
                "penstock.task": plan.task,
            }
        )
    return span


def with_trace(result: CycleResult, span: Span | None) -> CycleResult:
    """The cycle with the span on all that it appends."""
    if span is None:
        return result
    transaction, trace = result.transaction, trace_of(span)
    span.set_attributes(
        {
            "penstock.rows_out": sum(batch.count for batch in transaction.appends),
            "penstock.rejected": len(transaction.rejected),
        }
    )
    appends = [replace(batch, trace=trace) for batch in transaction.appends]
    return replace(result, transaction=replace(transaction, appends=appends))
