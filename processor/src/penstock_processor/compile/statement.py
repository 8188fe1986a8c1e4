"""The operators of one statement, of the nodes of its plan."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from penstock.codecs.frames import polars_type
from penstock.expressions.compile import compile_expression
from penstock.expressions.nodes import ColumnRef
from penstock.model.batch import PENDING_COLUMN
from penstock.model.stream import StreamSpec
from penstock.model.types import TIMESTAMP
from penstock_processor.compile.aggregates import WINDOW_COLUMNS, argument_stage, by_window, shape_of
from penstock_processor.compile.groups import expand_operator, group_operator, keys_stage
from penstock_processor.compile.joins import join_operator, lookup_operator, lookup_side, side_stage
from penstock_processor.compile.keyed import keyed_side, regular_join, top_n
from penstock_processor.compile.match import match_shape, measure_stage
from penstock_processor.compile.over import over_shape, over_stage, window_ranking
from penstock_processor.compile.processing_time import clocked
from penstock_processor.compile.spreading import spread_of
from penstock_processor.compile.stages import (
    Planned,
    filter_stage,
    project_stage,
    read_columns,
    rename_stage,
    unnest_stage,
)
from penstock_processor.compile.targets import completeness, operation, windows_of
from penstock_processor.logical.bounded_joins import BoundedJoin, TemporalJoin, WindowJoin
from penstock_processor.logical.changes import updating
from penstock_processor.logical.plan import (
    Aggregate,
    AppPlan,
    Expand,
    Filter,
    FinalAggregate,
    GroupAggregate,
    IntervalJoin,
    Named,
    Node,
    PartialAggregate,
    Project,
    Repartition,
    Scan,
    Statement,
    Union,
    WindowAssign,
    WindowKind,
)
from penstock_processor.logical.plan_keyed import RegularJoin, TopN
from penstock_processor.logical.plan_lookup import LookupJoin
from penstock_processor.logical.plan_match import MatchRecognize
from penstock_processor.logical.plan_over import OverAggregate, WindowTopN
from penstock_processor.logical.plan_proctime import ProcessingTime
from penstock_processor.logical.plan_unnest import Unnest
from penstock_processor.logical.uniqueness import grouped_names
from penstock_processor.operators.aggregate import WindowAggregate
from penstock_processor.operators.chain import Chain, ChainOperator
from penstock_processor.operators.lateness import LAST_WINDOW
from penstock_processor.operators.lookup_join import LookupJoinOperator
from penstock_processor.operators.over import OverOperator
from penstock_processor.operators.pattern.match import MatchOperator
from penstock_processor.operators.processing_time import ProcessingTimeOperator
from penstock_processor.operators.relations import ScanOperator, error_column
from penstock_processor.operators.repartition import PartialAggregateOperator, RepartitionSink
from penstock_processor.operators.session_aggregate import SessionAggregate
from penstock_processor.operators.session_rows import SessionRowsOperator
from penstock_processor.operators.sessions import session_time
from penstock_processor.operators.sink import Sink
from penstock_processor.operators.step import AT, CHANGE, SLICE, Operator, Stateful
from penstock_processor.operators.union import UnionOperator
from penstock_processor.operators.window_assign import WindowAssignOperator
from penstock_processor.operators.window_results import SLOT
from penstock_processor.operators.window_top_n import WindowTopNOperator
from penstock_processor.operators.windows import Windows

__all__ = ["StatementBuilder"]


class StatementBuilder:
    """Operators of one statement. `place` starts the ids of its state."""

    def __init__(self, plan: AppPlan, place: str) -> None:
        self._plan = plan
        self._place = place
        self.stateful: list[Stateful] = []
        self.lookups: list[LookupJoinOperator] = []
        self.clocks: list[ProcessingTimeOperator] = []
        self._sessions: list[SessionAggregate | SessionRowsOperator] = []  # those that the target's rows come out of
        self._end_is_key = False

    def sink(self, statement: Statement, *, writers: int) -> Sink | RepartitionSink:
        """The whole statement, its columns under the target's names; or a part that ends in a repartition stream."""
        target = self._plan.sources[statement.target].spec
        if isinstance(statement.plan, Repartition):
            return self._repartition(statement, statement.plan, target)
        names = [column.name for column in target.columns]
        top = statement.plan
        key = {f.name for f, name in zip(top.fields, names, strict=True) if name in target.primary_key}
        self._end_is_key = bool(grouped_names(top, key) & {"window_end", "window_time"})
        if isinstance(top, Project):
            exprs = [Named(name, each.expr) for name, each in zip(names, top.exprs, strict=True)]
            root = self._build(top.input, (project_stage(exprs),), path="0", at_sink=True)
        else:
            root = self._build(top, (rename_stage(top.fields, names),), path="0", at_sink=True)
        op = operation(statement, target, writers=writers)
        complete = completeness(statement.undivided, self._sessions)
        return Sink(statement.name, target, root=root, op=op, complete=complete)

    def _repartition(self, statement: Statement, node: Repartition, target: StreamSpec) -> RepartitionSink:
        below, part = node.input, self._plan.part
        by = node.by
        columns: list[str] | None = None
        if isinstance(below, PartialAggregate):
            names = [key.name for key in below.of.keys]
            by = tuple(f"$k{names.index(name)}" for name in node.by)
        else:
            columns = [field.name for field in node.fields]
        return RepartitionSink(
            statement.name,
            statement.label,
            target,
            root=self._build(below, (), path="0"),
            spread=spread_of(node.route, by, part=part),
            columns=columns,
            required=node.required,
            dropped=node.dropped,
        )

    def _build(self, node: Node, above: tuple[Planned, ...], *, path: str, at_sink: bool = False) -> Operator:
        """The operator of `node` with the stateless stages `above` it, innermost first."""
        match node:
            case Filter():
                return self._build(node.input, (filter_stage(node.predicate), *above), path=path, at_sink=at_sink)
            case Project():
                return self._build(node.input, (project_stage(node.exprs), *above), path=path, at_sink=at_sink)
            case Unnest():
                return self._build(node.input, (unnest_stage(node), *above), path=path)
            case Scan():
                return self._scan(node, above)
            case ProcessingTime():
                below = self._build(node.input, (), path=f"{path}.0")
                self.clocks.append(clocked(node, below, f"{self._place}.{path}"))
                return _chained(self.clocks[-1], above)
            case MatchRecognize():
                return self._match(node, above, path=path)
            case Union():
                names = [field.name for field in node.fields]
                branches = []
                for n, branch in enumerate(node.inputs):
                    stages = (rename_stage(branch.fields, names), *above)
                    branches.append(self._build(branch, stages, path=f"{path}.{n}", at_sink=at_sink))
                return UnionOperator(branches, updating=updating(node))
            case WindowAssign():
                return _chained(self._assign(node, path, at_sink=at_sink), above)
            case Aggregate():
                return self._aggregate(node, above, path=path, at_sink=at_sink)
            case PartialAggregate():
                return self._partial(node, path=path)
            case FinalAggregate():
                windows = windows_of(node.of.input, sliced=not by_window(node.of))
                source = ScanOperator(node.input.relation)
                return self._grouped(
                    node.of, source, windows, above, path=path, at_sink=at_sink, combined=node.combined
                )
            case Expand():
                below = self._build(node.input, (keys_stage(node),), path=f"{path}.0")
                return _chained(expand_operator(node, below), above, hidden=_hidden_of(node))
            case GroupAggregate():
                return self._groups(node, above, path=path, at_sink=at_sink)
            case IntervalJoin() | TemporalJoin() | WindowJoin():
                return self._join(node, above, path=path)
            case OverAggregate():
                return self._over(node, above, path=path, at_sink=at_sink)
            case WindowTopN():
                return self._best_rows(node, above, path=path, at_sink=at_sink)
            case TopN():
                return self._first_rows(node, above, path=path)
            case LookupJoin():
                return self._lookup(node, above, path=path)
            case RegularJoin():
                return self._regular_join(node, above, path=path)
        raise TypeError(f"no operator for {type(node).__name__}")

    def _over(self, node: OverAggregate, above: tuple[Planned, ...], *, path: str, at_sink: bool) -> Operator:
        source = self._build(node.input, (over_stage(node),), path=f"{path}.0", at_sink=at_sink)
        operator = OverOperator(source, over_shape(node), f"{self._place}.{path}")
        self.stateful.append(operator)
        return _chained(operator, above)

    def _best_rows(self, node: WindowTopN, above: tuple[Planned, ...], *, path: str, at_sink: bool) -> Operator:
        source = self._build(node.input, (rename_stage(node.input.fields, [f.name for f in node.input.fields]),),
                             path=f"{path}.0", at_sink=at_sink)  # fmt: skip
        operator = WindowTopNOperator(source, window_ranking(node), f"{self._place}.{path}")
        self.stateful.append(operator)
        return _chained(operator, above)

    def _first_rows(self, node: TopN, above: tuple[Planned, ...], *, path: str) -> Operator:
        source = self._build(node.input, (), path=f"{path}.0")
        operator = top_n(node, source, operator=f"{self._place}.{path}")
        self.stateful.append(operator)
        return _chained(operator, above, hidden=(AT, CHANGE))

    def _match(self, node: MatchRecognize, above: tuple[Planned, ...], *, path: str) -> Operator:
        fields = node.input.fields
        source = self._build(node.input, (rename_stage(fields, [field.name for field in fields]),), path=f"{path}.0")
        chain = _chain((measure_stage(node), *above))
        operator = MatchOperator(source, match_shape(node), chain, f"{self._place}.{path}")
        self.stateful.append(operator)
        return operator

    def _regular_join(self, node: RegularJoin, above: tuple[Planned, ...], *, path: str) -> Operator:
        left = self._build(node.left, (keyed_side(node, "l"),), path=f"{path}.0")
        right = self._build(node.right, (keyed_side(node, "r"),), path=f"{path}.1")
        operator = regular_join(node, left, right, operator=f"{self._place}.{path}")
        self.stateful.append(operator)
        return _chained(operator, above, hidden=(AT, CHANGE) if updating(node) else (AT,))

    def _lookup(self, node: LookupJoin, above: tuple[Planned, ...], *, path: str) -> Operator:
        source = self._build(node.left, (lookup_side(node),), path=f"{path}.0")
        operator = lookup_operator(node, source, above, operator=f"{self._place}.{path}")
        self.lookups.append(operator)
        return operator

    def _scan(self, node: Scan, above: tuple[Planned, ...]) -> Operator:
        computed = self._plan.sources[node.relation].computed
        read = read_columns(above, node.fields)
        errors = tuple(
            error_column(each.name)
            for each in computed
            if each.name in read and compile_expression(each.expr).error is not None
        )
        scan = ScanOperator(node.relation)
        return _chained(scan, above, hidden=_hidden_of(node), input_errors=errors)

    def _assign(self, node: WindowAssign, path: str, *, at_sink: bool = False) -> Operator:
        types = {field.name: polars_type(field.type) for field in node.fields}
        dtypes = [types.get(name, polars_type(TIMESTAMP)) for name in WINDOW_COLUMNS]
        source = self._build(node.input, (), path=f"{path}.0")
        if node.kind is WindowKind.SESSION:
            return self._session_rows(node, source, dtypes, path=path, at_sink=at_sink)
        return WindowAssignOperator(source, windows_of(node), time_column=node.time_column, dtypes=dtypes)

    def _session_rows(self, node: WindowAssign, source: Operator, dtypes: Sequence[pl.DataType], *, path: str,
                      at_sink: bool) -> Operator:  # fmt: skip
        operator = SessionRowsOperator(source, gap_ms=node.size_ms, time_column=node.time_column,
                                       partition=node.partition, dtypes=dtypes,
                                       operator=f"{self._place}.{path}")  # fmt: skip
        self.stateful.append(operator)
        if at_sink:
            self._sessions.append(operator)
        return operator

    def _aggregate(self, node: Aggregate, above: tuple[Planned, ...], *, path: str, at_sink: bool) -> Operator:
        if node.input.kind is WindowKind.SESSION:
            return self._session(node, above, path=path, at_sink=at_sink)
        source, windows = self._arguments(node, path)
        return self._grouped(node, source, windows, above, path=path, at_sink=at_sink)

    def _session(self, node: Aggregate, above: tuple[Planned, ...], *, path: str, at_sink: bool) -> Operator:
        stage = argument_stage(node, session_time(pl.col(node.input.time_column)))
        stage = Planned(stage.stage, stage.reads | {node.input.time_column})
        source = self._build(node.input.input, (stage,), path=f"{path}.0")
        partition = [
            f"$k{n}" for n, key in enumerate(node.keys)
            if isinstance(key.expr, ColumnRef) and key.expr.name in node.input.partition
        ]  # fmt: skip
        early = node.early and at_sink
        chain = _chain(above, hidden=(AT, SLOT, PENDING_COLUMN), marking=True) if early else None
        operator = SessionAggregate(source, shape_of(node, None, chain), gap_ms=node.input.size_ms,
                                    partition=partition, operator=f"{self._place}.{path}",
                                    end_moves=self._end_is_key)  # fmt: skip
        self.stateful.append(operator)
        if at_sink:
            self._sessions.append(operator)
        return operator if early or not above else _chained(operator, above)

    def _partial(self, node: PartialAggregate, *, path: str) -> Operator:
        source, windows = self._arguments(node.of, path)
        shape = shape_of(node.of, windows, None)
        accumulators = shape.accumulators if node.combined else None
        return PartialAggregateOperator(source, windows, keys=shape.key_names, accumulators=accumulators)

    def _arguments(self, node: Aggregate, path: str) -> tuple[Operator, Windows]:
        """Rows with their slice (or window), keys and arguments."""
        per_window = by_window(node)
        windows = windows_of(node.input, sliced=not per_window)
        if per_window:
            hidden = (AT, SLICE, LAST_WINDOW)
            return _chained(self._assign(node.input, path), (argument_stage(node),), hidden=hidden), windows
        stage = argument_stage(node, windows.slice_of(pl.col(node.input.time_column)))
        stage = Planned(stage.stage, stage.reads | {node.input.time_column})
        return self._build(node.input.input, (stage,), path=f"{path}.0"), windows

    def _grouped(self, node: Aggregate, source: Operator, windows: Windows, above: tuple[Planned, ...], *, path: str,
                 at_sink: bool, combined: bool = False) -> Operator:  # fmt: skip
        updates = node.updates and at_sink
        chain = _chain(above, hidden=(AT, SLOT, PENDING_COLUMN), marking=True) if updates else None
        shape = shape_of(node, windows, chain, combined=combined)
        operator = WindowAggregate(source, shape, windows, f"{self._place}.{path}",
                                   pending=node.early, lateness_ms=node.lateness_ms)  # fmt: skip
        self.stateful.append(operator)
        return operator if updates or not above else _chained(operator, above)

    def _groups(self, node: GroupAggregate, above: tuple[Planned, ...], *, path: str, at_sink: bool) -> Operator:
        stage = argument_stage(node, pl.lit(0, pl.Int64).alias(SLICE))
        source = self._build(node.input, (stage,), path=f"{path}.0")
        operator = group_operator(node, source, f"{self._place}.{path}", at_sink=at_sink)
        self.stateful.append(operator)
        return _chained(operator, above, hidden=_hidden_of(node))

    def _join(self, node: BoundedJoin, above: tuple[Planned, ...], *, path: str) -> Operator:
        left = self._build(node.left, (side_stage(node, "l"),), path=f"{path}.0")
        right = self._build(node.right, (side_stage(node, "r"),), path=f"{path}.1")
        operator = join_operator(node, left, right, above, operator=f"{self._place}.{path}")
        self.stateful.append(operator)
        return operator


def _hidden_of(node: Node) -> tuple[str, ...]:
    """Hidden columns that chains above the node carry."""
    return (AT, CHANGE) if updating(node) else (AT,)


def _chain(stages: Sequence[Planned], *, hidden: tuple[str, ...] = (AT,), input_errors: tuple[str, ...] = (),
           marking: bool = False) -> Chain:  # fmt: skip
    return Chain([planned.stage for planned in stages], hidden=hidden, input_errors=input_errors, marking=marking)


def _chained(source: Operator, stages: Sequence[Planned], *, hidden: tuple[str, ...] = (AT,),
             input_errors: tuple[str, ...] = ()) -> Operator:  # fmt: skip
    if not stages and not input_errors:
        return source
    return ChainOperator(source, _chain(stages, hidden=hidden, input_errors=input_errors))
