"""Whose lag the role data knows: every stored relation's behind its stream."""

from __future__ import annotations

from penstock.observe.lag import Consumer, LagGauges
from penstock.ports.log import Log
from penstock.ports.store import Store
from penstock_data.apply import is_stored
from penstock_data.metrics import LAG_EVENTS, LAG_SECONDS

__all__ = ["LAG_GAUGES", "store_consumers"]

LAG_GAUGES = LagGauges(LAG_EVENTS, LAG_SECONDS)


async def store_consumers(log: Log, store: Store) -> list[Consumer]:
    """One per stored relation, by the positions that the store has committed."""
    found = []
    for spec in (await log.catalog()).streams.values():
        if is_stored(spec):
            applied = await store.applied(spec.name)
            epoch = (await log.head(spec.name, 0)).epoch
            next_by_partition = applied.next if applied is not None and applied.epoch == epoch else {}
            found.append(Consumer((spec.name,), spec.name, spec.partitions, next_by_partition))
    return found
