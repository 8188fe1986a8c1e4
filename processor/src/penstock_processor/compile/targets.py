"""What a statement's plan promises its target: new keys, event time, and how far it is complete."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from penstock.expressions.nodes import ColumnRef
from penstock.model.batch import Op
from penstock.model.stream import StreamSpec
from penstock.model.types import Kind
from penstock_processor.logical.bounded_joins import WindowJoin
from penstock_processor.logical.changes import updating
from penstock_processor.logical.plan import (
    Aggregate,
    Filter,
    Named,
    Node,
    Project,
    SourcePlan,
    Statement,
    Union,
    WindowAssign,
    WindowKind,
)
from penstock_processor.logical.plan_match import MATCH_INSTANT, MATCH_TIME, MatchRecognize
from penstock_processor.logical.plan_over import OverAggregate, WindowTopN
from penstock_processor.logical.uniqueness import telling
from penstock_processor.operators.session_aggregate import SessionAggregate
from penstock_processor.operators.session_rows import SessionRowsOperator
from penstock_processor.operators.step import MAX_WATERMARK
from penstock_processor.operators.windows import Windows

__all__ = ["completeness", "keeps_event_time", "operation", "windows_of"]


def operation(statement: Statement, target: StreamSpec, *, writers: int) -> Op:
    """The operation of an appended row: INSERT, or UPDATE_AFTER where the key may be in the table already."""
    if not target.primary_key:
        return Op.INSERT
    if writers == 1 and updating(statement.plan):
        return Op.INSERT  # the changes say which keys are new
    groups = _groups(statement.plan)
    if writers > 1 or groups is None:
        return Op.UPDATE_AFTER
    names = [field.name for field in statement.plan.fields]
    key = {names[n] for n, column in enumerate(target.columns) if column.name in target.primary_key}
    return Op.INSERT if all(group & key for group in groups) else Op.UPDATE_AFTER


def keeps_event_time(statement: Statement, source: SourcePlan) -> bool:
    """Whether the WATERMARK column of the target is the plan's time attribute, so that its watermark holds for it."""
    if source.watermark is None:
        return False
    fields = zip(statement.plan.fields, source.spec.columns, strict=False)
    return any(field.rowtime and column.name == source.watermark.column for field, column in fields)


def completeness(
    plan: Node, sessions: Sequence[SessionAggregate | SessionRowsOperator]
) -> Callable[[int], int | None]:
    """Watermark -> event time up to which the target is complete, by each of its window columns; None: unknown.

    A windowed result whose window_start lies below the first open window cannot come any more. Which sessions are
    open only their operators know: `sessions` are those of the plan that this task runs.
    """
    tops, patterns = _tops(plan), _patterns(plan)
    spans = [_span_ms(pattern) for pattern in patterns]
    windows = [windows_of(node) for node in tops if node.kind is not WindowKind.SESSION]
    elsewhere = len(tops) - len(windows) - len(sessions)

    def complete(watermark: int) -> int | None:
        if watermark == MAX_WATERMARK:
            return watermark
        if elsewhere or None in spans:
            return None
        aligned = [each.complete_to(watermark) for each in windows]
        begun = [watermark - span for span in spans if span is not None]
        return min([watermark, *begun, *aligned, *(each.complete_to(watermark) for each in sessions)])

    return complete


def windows_of(node: WindowAssign, *, sliced: bool = False) -> Windows:
    """The node's windows."""
    return Windows(node.size_ms, node.slide_ms, node.offset_ms, sliced, node.kind is WindowKind.CUMULATE)


def _tops(node: Node) -> list[WindowAssign]:
    """The windows that rows of the plan come out of."""
    match node:
        case Filter() | Project() | OverAggregate() | WindowTopN():
            return _tops(node.input)
        case Union():
            return [w for branch in node.inputs for w in _tops(branch)]
        case Aggregate(input=WindowAssign(kind=WindowKind.ATTACHED) as below):
            return _tops(below.input)
        case Aggregate():
            return [node.input]
        case WindowAssign():
            return [node]
        case WindowJoin():
            return [*_tops(node.left), *_tops(node.right)]
    return []


def _patterns(node: Node) -> list[MatchRecognize]:
    """The patterns that rows of the plan come out of."""
    match node:
        case Filter() | Project():
            return _patterns(node.input)
        case Union():
            return [pattern for branch in node.inputs for pattern in _patterns(branch)]
        case MatchRecognize():
            return [node]
    return []


def _span_ms(node: MatchRecognize) -> int | None:
    """How far before the time of a match times lie that it tells of; None: without bounds."""
    times = [each.expr for each in node.measures if _is_time(each)]
    if all(isinstance(expr, ColumnRef) and expr.name in (MATCH_TIME, MATCH_INSTANT) for expr in times):
        return 0
    return node.within_ms


def _is_time(measure: Named) -> bool:
    return measure.expr.type.is_timestamp or measure.expr.type.kind is Kind.DATE


def _groups(node: Node) -> list[set[str]] | None:
    """Of an aggregate's groups, the output columns that tell each apart; None without an aggregate."""
    match node:
        case Filter():
            return _groups(node.input)
        case Project():
            below = _groups(node.input)
            if below is None:
                return None
            kept = [(each.name, each.expr.name) for each in node.exprs if isinstance(each.expr, ColumnRef)]
            return [{name for name, column in kept if column in group} for group in below]
        case Aggregate():
            names = [field.name for field in node.fields]
            keys = [{name} for name in names[: len(node.keys)]]
            columns = names[len(node.keys) : len(node.keys) + len(node.window_columns)]
            return [*keys, set(columns) & telling(node)] if columns else keys
    return None
