"""Limits of rankings that WHERE names from further away: above a join of the numbered rows, in a view around it.

`bind_rank.limited` sees the WHERE of the query right around a ranking. Here filters are first moved down to it.
"""

from __future__ import annotations

from penstock_processor.logical.bind_rank import limited
from penstock_processor.logical.plan import Filter, Node
from penstock_processor.logical.plan_keyed import Ranked
from penstock_processor.logical.rewrite import inputs_of
from penstock_processor.logical.rules.apply import PASSES_MAX, everywhere
from penstock_processor.logical.rules.merge import merge
from penstock_processor.logical.rules.push_filters import push_filters

__all__ = ["limit_ranks"]


def limit_ranks(node: Node, *, ttl_ms: int | None) -> Node:
    """The plan with the limits that its filters give; as it was if every ranking has one. Raises SqlErrors."""

    def limit(one: Node) -> Node:
        if not isinstance(one, Filter) or not isinstance(one.input, Ranked):
            return one
        changed, rest = limited(one.input, one.predicate, ttl_ms=ttl_ms)
        return changed if rest is None else Filter(changed.fields, changed, rest)

    for _ in range(PASSES_MAX):
        changed = node if not _ranked(node) else everywhere(everywhere(everywhere(node, push_filters), merge), limit)
        if changed == node:
            break
        node = changed
    return node


def _ranked(node: Node) -> bool:
    return isinstance(node, Ranked) or any(_ranked(one) for one in inputs_of(node))
