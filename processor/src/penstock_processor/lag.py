"""Whose lag the processor knows: each app's behind its sources, and the watermarks of what the app makes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.model.stream import Relation
from penstock.observe.lag import Consumer, LagGauges
from penstock_processor.metrics import LAG_EVENTS, LAG_SECONDS, WATERMARK_DELAY_SECONDS
from penstock_processor.rules.model import is_rules_app

if TYPE_CHECKING:
    from penstock_processor.service import ProcessorRole

__all__ = ["LAG_GAUGES", "app_consumers"]

LAG_GAUGES = LagGauges(LAG_EVENTS, LAG_SECONDS, WATERMARK_DELAY_SECONDS)


async def app_consumers(role: ProcessorRole) -> list[Consumer]:
    """One per stream of every app, by committed positions, wherever its tasks run; and what rules follow."""
    catalog = await role.ports.log.catalog()
    positions = {app: await role.source_positions(app) for app in catalog.apps}
    found = []
    for spec in catalog.streams.values():
        if spec.internal:
            continue  # between the tasks of a parallel app: its sources and results tell the same
        read = positions.get(spec.app, {}) if spec.relation is Relation.SOURCE else None
        own = None if read is None else {n: at for (stream, n), at in read.items() if stream == spec.name}
        found.append(Consumer((spec.app, spec.name), spec.name, spec.partitions, own))
    for app, read in positions.items():
        for stream in {name for name, _ in read} if is_rules_app(app) else ():
            own = {n: at for (name, n), at in read.items() if name == stream}
            found.append(Consumer((app, stream), stream, len(own), own))
    return found
