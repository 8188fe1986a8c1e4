"""Deduplication that keeps the last row: of rows with the same event time, the one that came last (Flink)."""

from __future__ import annotations

from dataclasses import replace

from penstock_processor.logical.changes import updating
from penstock_processor.logical.plan import Node
from penstock_processor.logical.plan_keyed import TopN

__all__ = ["deduplicate"]


def deduplicate(node: Node) -> Node:
    """Marks a ranking that keeps one row, the one with the latest event time of rows that stay."""
    match node:
        case TopN(limit=1, order=(key,)) if key.descending and not updating(node.input):
            times = {field.name for field in node.input.fields if field.rowtime}
            return replace(node, latest=key.column in times)
        case _:
            return node
