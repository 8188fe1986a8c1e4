"""Can it run as a stream? Last stage before the plan is handed on: updates, early results, cycles, partitions.

What would keep state for ever is refused while binding (grouping without a window, joins without time bounds); here
are the conditions that need the whole app.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from penstock.expressions.nodes import Span
from penstock.model.stream import Relation
from penstock_processor.logical.bounded_joins import TemporalJoin, WindowJoin
from penstock_processor.logical.changes import refuse_updating, unique_key, updating
from penstock_processor.logical.clock import reads_clock
from penstock_processor.logical.identity import scans_of
from penstock_processor.logical.nested_keys import refuse_nested_keys
from penstock_processor.logical.plan import (
    Aggregate,
    Filter,
    IntervalJoin,
    Node,
    Project,
    Scan,
    SourcePlan,
    Statement,
    WindowAssign,
    WindowKind,
)
from penstock_processor.logical.plan_match import MatchRecognize
from penstock_processor.logical.plan_over import OverAggregate, WindowTopN
from penstock_processor.logical.rewrite import inputs_of
from penstock_processor.logical.topology import find_cycle
from penstock_processor.logical.uniqueness import grouping_of, telling, unique_by
from penstock_processor.sql.findings import Findings, refusal

__all__ = ["check_app", "check_updates", "early", "late"]

#: Nodes whose operators take no rows back.
_APPEND_ONLY: tuple[tuple[type[Node], str], ...] = (
    (WindowAssign, "A window"),
    (IntervalJoin, "A join within bounds of time"),
    (WindowJoin, "A join of windows"),
    (TemporalJoin, "A temporal join"),
    (OverAggregate, "OVER"),
    (WindowTopN, "A ranking by windows"),
    (MatchRecognize, "MATCH_RECOGNIZE"),
)


def early(plan: Node, source: SourcePlan, *, at: Span) -> Node:
    """The plan that also emits while its window is open. Raises SqlErrors if the target cannot take updates of it."""
    _windowed(plan, source, option="'emit' = 'early'", code="early", at=at)
    return _marked(plan, early=True)


def late(plan: Node, source: SourcePlan, *, at: Span) -> Node:
    """The plan whose windows take late rows after they have fired. Raises SqlErrors as `early` does."""
    grouping = _windowed(plan, source, option="'late' = 'update'", code="late", at=at)
    if grouping.input.kind is WindowKind.SESSION:
        raise refusal(
            at,
            "unsupported",
            message=f"'{source.spec.name}' has 'late' = 'update', but sessions that have ended are forgotten.",
            remedy="Remove 'late' and 'lateness', or use TUMBLE, HOP or CUMULATE.",
        )
    return _marked(plan, lateness_ms=source.lateness_ms)


def _windowed(plan: Node, source: SourcePlan, *, option: str, code: str, at: Span) -> Aggregate:
    """The grouping on top, whose rows may be updated by the primary key. `code`: how codes of errors begin."""
    name, key = source.spec.name, source.spec.primary_key
    below = plan
    while isinstance(below, Project):
        below = below.input
    if isinstance(below, Filter) and grouping_of(below.input) is not None:
        raise refusal(
            at,
            f"{code}_having",
            message=f"'{name}' has {option}, but HAVING may take back a row that was emitted.",
            remedy="Remove HAVING and filter where rows are read, or remove the option.",
        )
    grouping = grouping_of(plan)
    if grouping is None:
        raise refusal(
            at,
            f"{code}_without_window",
            message=f"'{name}' has {option}, but this query has no window on top.",
            remedy="Remove the option, or group by window_start, window_end.",
        )
    if not unique_by(plan, set(key)):
        wanted = [k.name for k in grouping.keys] + [c for c in grouping.window_columns if c in telling(grouping)][:1]
        raise refusal(
            at,
            f"{code}_key",
            message=f"The primary key of '{name}' ({', '.join(key)}) does not tell its groups apart.",
            remedy=f"With {option} the key must hold all GROUP BY columns ({', '.join(wanted)}), selected unchanged.",
        )
    return grouping


def check_updates(plan: Node, source: SourcePlan, *, at: Span) -> None:
    """Whether the target can take the changes of the plan. Raises SqlErrors."""
    refuse_nested_keys(plan, at)
    _refuse_readers(plan, at)
    if not updating(plan):
        return
    if reads_clock(plan):
        raise refusal(
            at,
            "unsupported",
            message="The rows of this query are taken back later, when CURRENT_TIMESTAMP is another.",
            remedy="Use the event's own time, or write the rows to a stream with CURRENT_TIMESTAMP first.",
        )
    spec = source.spec
    if not spec.primary_key:
        raise refusal(
            at,
            "update_without_key",
            message=f"The rows of this query change, and '{spec.name}' is a stream: it takes nothing back.",
            remedy=f"Declare '{spec.name}' with the columns that tell the rows apart: {_wanted(plan)}.",
        )
    if spec.emit == "early":
        raise refusal(
            at,
            "early_without_window",
            message=f"'{spec.name}' has 'emit' = 'early', but this query has no window on top: it updates always.",
            remedy="Remove 'emit'.",
        )
    key = unique_key(plan, frozenset(spec.primary_key))
    if key is None or not key <= set(spec.primary_key):
        raise refusal(
            at,
            "update_key",
            message=f"The primary key of '{spec.name}' ({', '.join(spec.primary_key)}) does not tell this query's "
            "rows apart.",
            remedy="Group by what is the key, or read the last row of each key (a source has all of them, whatever "
            "key it declares): SELECT * FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY k ORDER BY ts DESC) AS n "
            "FROM t) WHERE n = 1."
            if key is None
            else "Group by what is the key, or select the columns that tell the rows apart unchanged and declare "
            f"{_wanted(plan)}.",
        )


def check_app(statements: tuple[Statement, ...], sources: Mapping[str, SourcePlan], findings: Findings) -> None:
    """Notes what is wrong between statements."""
    for statement in find_cycle(statements):
        findings.add(
            statement.span,
            "cycle",
            message=f"'{statement.target}' is written from itself, directly or through others.",
            remedy="Break the circle: let one of the statements read a source.",
        )
    for statement in statements:
        for relation in dict.fromkeys(scan.relation for scan in scans_of(statement.plan)):
            spec = sources[relation].spec
            if spec.relation is not Relation.TABLE or _insert_only(relation, statements, sources):
                continue
            if not (_as_versions(statement.plan, relation) and _upserted(relation, statements, sources)):
                findings.add(
                    statement.span,
                    "reads_updates",
                    message=f"'{relation}' is updated by its primary key; reading updates is not in this version.",
                    remedy=f"Put its query into a VIEW and read that, or write '{relation}' by one statement with "
                    "'emit' = 'final' and all GROUP BY columns in its primary key.",
                )


def _as_versions(node: Node, relation: str) -> bool:
    """Whether a plan reads the relation only as versions, each valid until the next one of its key."""
    match node:
        case Scan():
            return node.relation != relation
        case TemporalJoin():
            return _as_versions(node.left, relation)
        case _:
            return all(_as_versions(one, relation) for one in inputs_of(node))


def _upserted(relation: str, statements: tuple[Statement, ...], sources: Mapping[str, SourcePlan]) -> bool:
    """A table whose rows are replaced by newer ones of their key and never taken back."""
    source = sources[relation]
    writers = [s for s in statements if s.target == relation]
    return source.spec.emit == "final" and not source.lateness_ms and not any(updating(s.plan) for s in writers)


def _wanted(plan: Node) -> str:
    """The primary key that would do, as far as the plan selects it."""
    key = unique_key(plan)
    return f"PRIMARY KEY ({', '.join(sorted(key)) if key else '...'}) NOT ENFORCED"


def _refuse_readers(node: Node, at: Span) -> None:
    """Operators that take no rows back, over rows that change."""
    for below in inputs_of(node):
        reader = next((name for kind, name in _APPEND_ONLY if isinstance(node, kind)), None)
        if reader is not None:
            refuse_updating(below, at=at, reader=reader)
        _refuse_readers(below, at)


def _insert_only(relation: str, statements: tuple[Statement, ...], sources: Mapping[str, SourcePlan]) -> bool:
    """A table whose rows never change: one writer, final results only, one row a key."""
    writers = [s for s in statements if s.target == relation]
    spec = sources[relation].spec
    stays = spec.emit == "final" and not sources[relation].lateness_ms
    stays = stays and not any(updating(writer.plan) for writer in writers)
    return len(writers) == 1 and stays and unique_by(writers[0].plan, set(spec.primary_key))


def _marked(node: Node, *, early: bool = False, lateness_ms: int = 0) -> Node:
    match node:
        case Project():
            return replace(node, input=_marked(node.input, early=early, lateness_ms=lateness_ms))
        case Aggregate():
            return replace(node, early=early or node.early, lateness_ms=lateness_ms or node.lateness_ms)
        case _:
            return node
