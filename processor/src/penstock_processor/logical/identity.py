"""What a statement computes, as canonical text: equal text, equal results, so state survives edits elsewhere.

Part of it: the plan with types, the watermark and the columns that it reads of each relation, and how the
target takes rows. Not part: names of views, layout, comments, columns that are not read.
"""

from __future__ import annotations

from collections.abc import Mapping

from penstock.model.stream import Column
from penstock_processor.logical.plan import Node, Project, Scan, SourcePlan
from penstock_processor.logical.printing import expr_text, name_text, tree_text
from penstock_processor.logical.rewrite import columns_read, inputs_of

__all__ = ["identity_of", "scans_of"]

VERSION = "1"


def identity_of(plan: Node, *, target: str, sources: Mapping[str, SourcePlan]) -> str:
    """Canonical text of the statement; some hundred to some thousand characters."""
    into = sources[target].spec
    lines = [
        f"identity {VERSION}",
        f"into {name_text(target)} ({_columns(into.columns)}) key ({', '.join(into.primary_key)}) emit {into.emit}",
        *tree_text(plan, typed=True),
    ]
    for relation in sorted({s.relation for s in scans_of(plan)}):
        lines += _relation(sources[relation], read=_columns_of(plan, relation))
    return "\n".join(lines)


def scans_of(node: Node) -> list[Scan]:
    """The scans below `node`, left to right."""
    found = [node] if isinstance(node, Scan) else []
    for one in inputs_of(node):
        found.extend(scans_of(one))
    return found


def _relation(source: SourcePlan, *, read: set[str]) -> list[str]:
    spec, mark = source.spec, source.watermark
    if mark is not None:
        read = read | columns_read(mark.expr) | {mark.column}
    computed = [c for c in source.computed if c.name in read]
    read = read | columns_read(*(c.expr for c in computed))
    lines = [f"relation {name_text(spec.name)} ({_columns(tuple(c for c in spec.columns if c.name in read))})"]
    lines += [f"  {name_text(c.name)} as {expr_text(c.expr, typed=True)}" for c in computed]
    lines += [] if mark is None else [f"  watermark {name_text(mark.column)} as {expr_text(mark.expr, typed=True)}"]
    lines += [] if source.idle_timeout_ms is None else [f"  idle {source.idle_timeout_ms} ms"]
    lines += [] if spec.partitions == 1 else [f"  partitions {spec.partitions}"]
    return lines


def _columns(columns: tuple[Column, ...]) -> str:
    return ", ".join(f"{name_text(c.name)} {c.type}{'' if c.nullable else ' NOT NULL'}" for c in columns)


def _columns_of(node: Node, relation: str) -> set[str]:
    """Columns of the relation that the (pruned) plan reads: those of a projection directly on the scan, or all."""
    if isinstance(node, Scan):
        return {f.name for f in node.fields} if node.relation == relation else set()
    if isinstance(node, Project) and isinstance(node.input, Scan):
        return columns_read(*(n.expr for n in node.exprs)) if node.input.relation == relation else set()
    return {name for one in inputs_of(node) for name in _columns_of(one, relation)}
