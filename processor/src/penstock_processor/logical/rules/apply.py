"""The order of the rules: filters down and neighbours merged until nothing changes, then unused columns cut;
what is left of a ranking then tells whether it deduplicates."""

from __future__ import annotations

from collections.abc import Callable

from penstock_processor.logical.plan import Node
from penstock_processor.logical.rewrite import inputs_of, with_inputs
from penstock_processor.logical.rules.deduplicate import deduplicate
from penstock_processor.logical.rules.merge import merge
from penstock_processor.logical.rules.prune import prune
from penstock_processor.logical.rules.push_filters import push_filters

__all__ = ["apply_rules", "everywhere"]

PASSES_MAX = 64  # each pass moves a filter one node down; a plan of this depth does not pass the token limits


def apply_rules(node: Node) -> Node:
    """The plan as it is run: same fields, same rows, less work."""
    for _ in range(PASSES_MAX):
        changed = everywhere(everywhere(node, push_filters), merge)
        if changed == node:
            break
        node = changed
    return everywhere(everywhere(prune(node), merge), deduplicate)


def everywhere(node: Node, rule: Callable[[Node], Node]) -> Node:
    """`rule` on every node, inputs first."""
    return rule(with_inputs(node, tuple(everywhere(one, rule) for one in inputs_of(node))))
