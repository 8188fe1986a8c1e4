"""Reads an app's sources from the log, a bounded piece of each partition at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from penstock.errors import LogUnavailable
from penstock.ports.clock import Clock
from penstock.ports.log import Head, Log
from penstock_processor.logical.plan import AppPlan
from penstock_processor.rules.plan import followed
from penstock_processor.runtime.inputs import PartitionInput, bounded
from penstock_processor.runtime.other_tasks import OtherTasks
from penstock_processor.runtime.topology import followed_sources, input_partitions, read_relations
from penstock_processor.settings import ProcessorSettings

__all__ = ["SourceReader"]

StreamPartition = tuple[str, int]


class SourceReader:
    """Where each partition is read next, what was last said about its watermark, and whether it is idle.

    Runs ahead of the commits: it belongs to one term and is dropped with it.
    """

    def __init__(
        self,
        log: Log,
        clock: Clock,
        *,
        plan: AppPlan,
        positions: Mapping[StreamPartition, int],
        settings: ProcessorSettings,
    ) -> None:
        self._log = log
        self._clock = clock
        self._settings = settings
        self._read = read_relations(plan)
        self._partitions = input_partitions(plan)
        follows = followed(plan)
        self._from_now_on = None if any(stream == follows for stream, _ in positions) else follows
        self._internal = {name for name, source in plan.sources.items() if source.spec.internal}
        self._next: dict[StreamPartition, int | None] = {key: positions.get(key) for key in self._partitions}
        self._through: dict[StreamPartition, int] = {}
        self._idle_after_s = {key: self._idle_s(plan, key[0]) for key in self._partitions}
        self._active_s = dict.fromkeys(self._partitions, clock.monotonic_s())
        self._idle: set[StreamPartition] = set()
        self._others = [
            OtherTasks(log, clock, plan=plan, source=name, stream=stream, idle_after_s=self._idle_s(plan, name))
            for name, stream in followed_sources(plan)
        ]

    @property
    def streams(self) -> Sequence[str]:
        """Names of the sources, for `Log.wait`."""
        followed = {stream for other in self._others for stream in (other.source, other.stream)}
        return sorted({stream for stream, _ in self._partitions} | followed)

    def through(self) -> dict[str, int]:
        """Per source, the least explicit watermark of its partitions (only where all have one)."""
        found: dict[str, int] = {}
        for stream in {stream for stream, _ in self._partitions} - self._internal:
            marks = [self._through.get(key) for key in self._partitions if key[0] == stream]
            known = [ms for ms in marks if ms is not None]
            if len(known) == len(marks):
                found[stream] = min(known)
        return found

    async def next_inputs(self) -> list[PartitionInput]:
        """What is there now, [] if nothing is. The caller processes all of it before it asks again."""
        inputs = []
        for key in self._partitions:
            taken = await self._next_of(key)
            if taken is not None:
                inputs.append(taken)
        for others in self._others:
            inputs += await others.next_inputs()
        return inputs

    def until_idle_s(self) -> float | None:
        """Seconds until the next partition falls idle; None if none can."""
        now_s = self._clock.monotonic_s()
        waits = [
            after_s - (now_s - self._active_s[key])
            for key, after_s in self._idle_after_s.items()
            if after_s is not None and key not in self._idle
        ]
        waits += [wait_s for others in self._others if (wait_s := others.until_idle_s()) is not None]
        return max(0.0, min(waits)) if waits else None

    async def _next_of(self, key: StreamPartition) -> PartitionInput | None:
        stream, partition = key
        head = await self._log.head(stream, partition)  # before the batches: see Head.watermark_ms
        expected = self._next[key]
        # Without a position the source is new: it begins at the earliest event that the log has. A stream of another
        # app is followed from now on, but for partitions that it has got since then.
        new = head.next if stream == self._from_now_on else head.first
        start = new if expected is None else expected
        if start > head.next:
            raise LogUnavailable(
                f"the app is at {start} of {stream}/{partition}, beyond its end {head.next}: the log was restored or "
                "cut behind the app; restore both to the same moment, or remove the app and deploy it again"
            )
        taken = PartitionInput(stream, partition, expected, start)
        if start < head.next:
            taken = await self._with_batches(taken, head)
        if head.watermark_ms is not None and taken.next >= head.next:
            taken = self._with_through(taken, head.watermark_ms)
        elif stream in self._internal:
            marks = [batch.watermark_ms for batch in taken.batches if batch.watermark_ms is not None]
            taken = self._with_through(taken, marks[-1]) if marks else taken
        taken = self._with_idleness(taken)
        if taken.consumed is None and taken.through_ms is None and not taken.idle:
            return None
        self._next[key] = taken.next
        return taken

    async def _with_batches(self, taken: PartitionInput, head: Head) -> PartitionInput:
        stream, partition = taken.relation, taken.partition
        if stream not in self._read:
            return PartitionInput(stream, partition, taken.expected, head.next)
        batches = await self._log.read(
            stream,
            partition,
            taken.start,
            self._settings.cycle_bytes,
            self._settings.cycle_batches,
        )
        return PartitionInput(
            stream, partition, taken.expected, taken.start, bounded(batches, self._settings.cycle_rows)
        )

    def _with_through(self, taken: PartitionInput, through_ms: int) -> PartitionInput:
        key = (taken.relation, taken.partition)
        if self._through.get(key, through_ms - 1) >= through_ms:
            return taken
        self._through[key] = through_ms
        return PartitionInput(
            taken.relation, taken.partition, taken.expected, taken.start, taken.batches, through_ms, taken.idle
        )

    def _with_idleness(self, taken: PartitionInput) -> PartitionInput:
        key = (taken.relation, taken.partition)
        after_s = self._idle_after_s[key]
        now_s = self._clock.monotonic_s()
        if taken.batches or taken.through_ms is not None:
            self._active_s[key] = now_s
            self._idle.discard(key)
        elif after_s is not None and key not in self._idle and now_s - self._active_s[key] >= after_s:
            self._idle.add(key)
            return PartitionInput(
                taken.relation, taken.partition, taken.expected, taken.start, taken.batches, None, True
            )
        return taken

    def _idle_s(self, plan: AppPlan, relation: str) -> float | None:
        source = plan.sources[relation]
        if source.spec.internal:
            return None  # its writer says how far it is, as long as it works; idleness was judged at the source
        if source.idle_timeout_ms is not None:
            return source.idle_timeout_ms / 1000
        return self._settings.idle_timeout_s if source.spec.partitions > 1 else None
