"""An app that several tasks share: its plan, cut into stages where rows move to the task that owns their key.

Stage 0 reads the sources, each later one only repartition streams of earlier ones; what is chained in memory is in
one stage. Task p of a stage reads its share of the inputs and writes partition p of the app's streams and tables. A
repartition stream has a partition for each pair of tasks (reader r, writer w: r * N + w), so that each has one writer
and its watermark is that writer's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

from penstock.errors import SqlErrors
from penstock.expressions.nodes import ColumnRef, Expr
from penstock.model.stream import Column, Relation, StreamSpec
from penstock.model.types import BYTES
from penstock_processor.logical.bounded_joins import BoundedJoin, TemporalJoin, WindowJoin, read_beside_keys
from penstock_processor.logical.changes import updating
from penstock_processor.logical.distribution import (
    ANYWHERE,
    Spread,
    join_keys,
    joined,
    of_groups,
    of_source,
    of_union,
    projected,
    renamed,
)
from penstock_processor.logical.identity import scans_of
from penstock_processor.logical.key_order import in_order_of_key
from penstock_processor.logical.plan import (
    Aggregate,
    AppPlan,
    Expand,
    Field,
    Filter,
    FinalAggregate,
    GroupAggregate,
    IntervalJoin,
    JoinKind,
    Named,
    Node,
    Part,
    PartialAggregate,
    Project,
    Repartition,
    Route,
    Scan,
    SourcePlan,
    Statement,
    Union,
    WindowAssign,
    WindowKind,
)
from penstock_processor.logical.plan_keyed import RegularJoin, TopN
from penstock_processor.logical.plan_lookup import LookupJoin
from penstock_processor.logical.plan_match import MatchRecognize
from penstock_processor.logical.plan_over import OverAggregate, WindowTopN
from penstock_processor.logical.plan_proctime import ProcessingTime, refused_in_parallel
from penstock_processor.logical.plan_unnest import Unnest
from penstock_processor.logical.topology import topological
from penstock_processor.sql.findings import refusal

__all__ = ["ROWS_COLUMN", "specs_of", "stages_of", "task_plans", "watermarks_name"]

#: Rows are of use until the readers have committed; they are never deleted before.
RETENTION_S = 600.0
#: The only column of a repartition stream: many rows, encoded. Every log keeps bytes exactly as they are.
ROWS_COLUMN = "rows"

_Cut = tuple[Node, int, Spread]  # a node, the stage that it is in, and how its rows are spread


def stages_of(plan: AppPlan) -> tuple[AppPlan, ...]:
    """What each stage does; the plan itself without parallelism. SqlErrors: what cannot be shared."""
    return (plan,) if plan.parallelism == 1 else _Cutter(plan).stages()


def task_plans(plan: AppPlan) -> list[AppPlan]:
    """The plan of every task, stage by stage."""
    if plan.parallelism == 1:
        return [plan]
    return [
        replace(stage, part=Part(number, partition, plan.parallelism))
        for number, stage in enumerate(stages_of(plan))
        for partition in range(plan.parallelism)
    ]


def specs_of(plan: AppPlan) -> list[StreamSpec]:
    """Every stream of the app for the catalog: the declared ones, then those between its tasks."""
    found = {name: source.spec for name, source in plan.sources.items()}
    for stage in stages_of(plan):
        found.update({name: source.spec for name, source in stage.sources.items()})
    return list(found.values())


def watermarks_name(app: str, relation: str) -> str:
    """The stream in which the tasks tell each other how far their partitions of a source are (no rows)."""
    return f"{app}-{relation}-watermarks"


class _Cutter:
    """Cuts one app, statements in the order of their dependencies."""

    def __init__(self, plan: AppPlan) -> None:
        self._plan = plan
        self._fragments: list[tuple[int, Statement]] = []
        self._streams: dict[str, SourcePlan] = {}
        self._spreads: dict[str, Spread] = {}
        self._stages: dict[str, int] = {}
        self._parts: dict[str, int] = {}  # repartition streams by statement

    def stages(self) -> tuple[AppPlan, ...]:
        """The stages' plans."""
        waiting: dict[str, list[tuple[Statement, _Cut]]] = {}
        writers = [statement.target for statement in self._plan.statements]
        for statement in topological(self._plan):
            cut = waiting.setdefault(statement.target, [])
            cut.append((statement, self._cut(statement.plan, statement)))
            if len(cut) == writers.count(statement.target):
                self._finish(statement.target, cut)
        count = 1 + max((stage for stage, _ in self._fragments), default=0)
        return tuple(self._stage(number) for number in range(count))

    def _stage(self, number: int) -> AppPlan:
        statements = tuple(statement for stage, statement in self._fragments if stage == number)
        names = {scan.relation for statement in statements for scan in scans_of(statement.plan)}
        names |= {statement.target for statement in statements}
        known: Mapping[str, SourcePlan] = self._plan.sources | self._streams
        sources = {
            name: source
            for name, source in known.items()
            if name in names or (number == 0 and source.spec.relation is Relation.SOURCE)
        }
        for name in [n for n in names if known[n].spec.relation is Relation.SOURCE and known[n].watermark]:
            spec = self._internal(watermarks_name(self._plan.name, name), self._plan.parallelism, "watermarks")
            sources[spec.name] = SourcePlan(spec)
        return replace(self._plan, sources=sources, statements=statements)

    def _finish(self, target: str, writers: list[tuple[Statement, _Cut]]) -> None:
        """The ends of the statements that write `target`, all in one stage and one row of a key in one task."""
        spec = self._plan.sources[target].spec
        common = writers[0][1][2]
        for _, (_, _, spread) in writers:
            common &= spread
        owned = common if not spec.primary_key else frozenset(d for d in common if set(d) <= set(spec.primary_key))
        moves = bool(spec.primary_key) and not owned
        reached = max(stage + moves for _, (_, stage, _) in writers)
        for statement, (node, stage, _) in writers:
            if moves or stage < reached:
                if spec.emit == "early":
                    raise refusal(
                        statement.span,
                        "parallel_early",
                        message=f"Several tasks would update rows of '{target}', which has 'emit' = 'early'.",
                        remedy="Let one statement write the table, or remove 'emit' or SET 'parallelism.default'.",
                    )
                if self._plan.sources[target].lateness_ms:
                    raise _parallel_late(statement)
                route = Route.HASH if moves else Route.SAME
                required = tuple((c.name, "null_value", f"'{c.name}' of {target} must not be NULL")
                                 for c in spec.columns if not c.nullable or c.name in spec.primary_key)  # fmt: skip
                by = spec.primary_key if moves else ()
                node = self._moved(statement, node, stage, Repartition(node.fields, node, route, by, required))
            if spec.primary_key:
                node = in_order_of_key(node, spec.primary_key, whole=statement.plan, moved=moves)
            self._fragments.append((reached, replace(statement, plan=node, whole=statement.plan)))
        self._stages[target] = reached
        self._spreads[target] = frozenset({spec.primary_key}) if moves else common

    def _cut(self, node: Node, statement: Statement) -> _Cut:
        match node:
            case Scan():
                spec = self._plan.sources[node.relation].spec
                if spec.relation is Relation.SOURCE:
                    return node, 0, of_source(spec)
                return node, self._stages[node.relation], self._spreads[node.relation]
            case WindowAssign(kind=WindowKind.SESSION):
                return self._session_rows(node, statement)
            case Filter() | WindowAssign() | Unnest() | Expand():
                below, stage, spread = self._cut(node.input, statement)
                return replace(node, input=below), stage, spread
            case Project():
                below, stage, spread = self._cut(node.input, statement)
                return replace(node, input=below), stage, projected(spread, node.exprs)
            case Aggregate():
                return self._aggregate(node, statement)
            case GroupAggregate():
                return self._groups(node, statement)
            case OverAggregate():
                return self._over(node, statement)
            case TopN() | WindowTopN():
                return self._first_rows(node, statement)
            case LookupJoin():
                below, stage, spread = self._cut(node.left, statement)
                names = {f.name: [name] for f, name in zip(node.left.fields, node.left_names, strict=True)}
                return replace(node, left=below), stage, renamed(spread, names)
            case RegularJoin():
                return self._regular_join(node, statement)
            case MatchRecognize():
                return self._match(node, statement)
            case Union():
                cuts = [self._cut(branch, statement) for branch in node.inputs]
                inputs, reached = self._level(cuts, statement)
                return replace(node, inputs=inputs), reached, of_union(node, [spread for _, _, spread in cuts])
            case IntervalJoin() | TemporalJoin() | WindowJoin():
                return self._join(node, statement)
            case ProcessingTime():
                raise refused_in_parallel(statement)
        raise TypeError(f"no stages for {type(node).__name__}")

    def _aggregate(self, node: Aggregate, statement: Statement) -> _Cut:
        below, stage, spread = self._cut(node.input.input, statement)
        here = replace(node, input=replace(node.input, input=below))
        if node.input.kind is WindowKind.SESSION:
            spread = frozenset(each for each in spread if set(each) <= set(node.input.partition))
        groups = of_groups(node, spread)
        if groups:
            return here, stage, groups
        if node.input.kind is WindowKind.SESSION:
            return self._session(here, statement, stage)
        if node.lateness_ms:
            raise _parallel_late(statement)
        names = tuple(key.name for key in node.keys)
        fields = tuple(Field(key.name, key.expr.type) for key in node.keys)
        combined = all(call.combines for call in node.calls)
        partial = PartialAggregate(fields, here, combined)
        route = Route.HASH if names else Route.FIRST
        scan = self._moved(statement, partial, stage, Repartition(fields, partial, route, names))
        final = FinalAggregate(node.fields, scan, node, combined)
        return final, stage + 1, frozenset({names}) if names else ANYWHERE

    def _session(self, node: Aggregate, statement: Statement, stage: int) -> _Cut:
        """Rows move to the task that has their sessions: only there it is known what is late, and what to combine."""
        by = node.input.partition
        moved = replace(node, input=replace(node.input, input=self._sessions_moved(node.input, statement, stage)))
        return moved, stage + 1, of_groups(node, frozenset({by})) if by else ANYWHERE

    def _session_rows(self, node: WindowAssign, statement: Statement) -> _Cut:
        """Sessions that are not grouped: as above."""
        below, stage, spread = self._cut(node.input, statement)
        here, by = replace(node, input=below), node.partition
        together = frozenset(each for each in spread if set(each) <= set(by))
        if together:
            return here, stage, together
        scan = self._sessions_moved(here, statement, stage)
        return replace(node, input=scan), stage + 1, frozenset({by}) if by else ANYWHERE

    def _sessions_moved(self, node: WindowAssign, statement: Statement, stage: int) -> Scan:
        """The scan of rows that move to where their sessions are."""
        below, by = node.input, node.partition
        required = ((node.time_column, "no_event_time", "the time that its window goes by is NULL"),)
        route = Route.HASH if by else Route.FIRST
        return self._moved(statement, below, stage, Repartition(below.fields, below, route, by, required))

    def _match(self, node: MatchRecognize, statement: Statement) -> _Cut:
        """Rows move to the task that has their key; the watermark travels with them, so they are in order there."""
        below, stage, spread = self._cut(node.input, statement)
        here = frozenset(each for each in spread if set(each) <= set(node.partition))
        if here:
            return replace(node, input=below), stage, here
        by = node.partition
        route = Route.HASH if by else Route.FIRST
        required = ((node.time_column, "no_event_time", "the time that this pattern goes by is NULL"),)
        scan = self._moved(statement, below, stage, Repartition(below.fields, below, route, by, required))
        return replace(node, input=scan), stage + 1, frozenset({by}) if by else ANYWHERE

    def _join(self, node: BoundedJoin, statement: Statement) -> _Cut:
        left, right = self._cut(node.left, statement), self._cut(node.right, statement)
        keys, left_stays, right_stays = join_keys(node, left[2], right[2])
        [left_time], [right_time] = read_beside_keys(node)
        if not left_stays:
            kept = node.kind.pads_left_rows or node.kind is JoinKind.ANTI
            left = self._side(statement, left, keys, exprs=node.left_keys, time=left_time, kept=kept)
        if not right_stays:
            kept = node.kind.pads_right_rows
            right = self._side(statement, right, keys, exprs=node.right_keys, time=right_time, kept=kept)
        (left_node, right_node), reached = self._level([left, right], statement)
        return replace(node, left=left_node, right=right_node), reached, joined(node, keys)

    def _side(self, statement: Statement, cut: _Cut, keys: tuple[int, ...] | None, *, exprs: tuple[Expr, ...],
              time: str, kept: bool) -> _Cut:  # fmt: skip
        """One side of a join, moved to where its keys are. `kept`: rows with NULL in a key are of use, too."""
        node, stage, _ = cut
        below, by = _with_keys(node, [exprs[n] for n in keys or ()])
        route = Route.HASH if keys is not None else Route.FIRST
        required = ((time, "no_event_time", "the time that this join goes by is NULL"),)
        top = Repartition(below.fields, below, route, by, required, () if kept else by)
        scan = self._moved(statement, node, stage, top)
        return scan, stage + 1, ANYWHERE

    def _level(self, cuts: list[_Cut], statement: Statement) -> tuple[tuple[Node, ...], int]:
        """Inputs of one operator in one stage: what ends earlier is handed on, partition by partition."""
        reached = max(stage for _, stage, _ in cuts)
        return tuple(
            node
            if stage == reached
            else self._moved(statement, node, stage, Repartition(node.fields, node, Route.SAME))
            for node, stage, _ in cuts
        ), reached

    def _groups(self, node: GroupAggregate, statement: Statement) -> _Cut:
        """Rows move to the task that has their group, as they are: what a group gives depends on what it gave."""
        below, stage, spread = self._cut(node.input, statement)
        here = projected(spread, node.keys)
        if here:
            return replace(node, input=below), stage, here
        shown, by = _with_keys(below, [key.expr for key in node.keys])
        route = Route.HASH if by else Route.FIRST
        scan = self._moved(statement, below, stage, Repartition(shown.fields, shown, route, by))
        names = tuple(key.name for key in node.keys)
        return replace(node, input=scan), stage + 1, frozenset({names}) if names else ANYWHERE

    def _first_rows(self, node: TopN | WindowTopN, statement: Statement) -> _Cut:
        """Rows move to the task that has their group."""
        below, stage, spread = self._cut(node.input, statement)
        here = frozenset(each for each in spread if set(each) <= set(node.partition))
        if here:
            return replace(node, input=below), stage, here
        by = node.partition
        route = Route.HASH if by else Route.FIRST
        scan = self._moved(statement, below, stage, Repartition(below.fields, below, route, by))
        return replace(node, input=scan), stage + 1, frozenset({by}) if by else ANYWHERE

    def _regular_join(self, node: RegularJoin, statement: Statement) -> _Cut:
        """Rows of both sides move to the task that has their key."""
        cuts = [self._cut(node.left, statement), self._cut(node.right, statement)]
        keys, *stay = join_keys(node, cuts[0][2], cuts[1][2])
        for n, exprs in enumerate((node.left_keys, node.right_keys)):
            if not stay[n]:
                below, stage, _ = cuts[n]
                shown, by = _with_keys(below, [exprs[k] for k in keys or ()])
                route = Route.HASH if keys is not None else Route.FIRST
                scan = self._moved(statement, below, stage, Repartition(shown.fields, shown, route, by))
                cuts[n] = scan, stage + 1, ANYWHERE
        (left, right), reached = self._level(cuts, statement)
        return replace(node, left=left, right=right), reached, joined(node, keys)

    def _over(self, node: OverAggregate, statement: Statement) -> _Cut:
        """Rows move to the task that has their key; what is late is known there alone."""
        below, stage, spread = self._cut(node.input, statement)
        here, by = frozenset(each for each in spread if set(each) <= set(node.partition)), node.partition
        if here:
            return replace(node, input=below), stage, here
        required = ((node.time_column, "no_event_time", "the time that OVER goes by is NULL"),)
        route = Route.HASH if by else Route.FIRST
        scan = self._moved(statement, below, stage, Repartition(below.fields, below, route, by, required))
        return replace(node, input=scan), stage + 1, frozenset({by}) if by else ANYWHERE

    def _moved(self, statement: Statement, node: Node, stage: int, top: Repartition) -> Scan:
        """A repartition stream: its writer in `stage`, and the scan that stands for it in a later one."""
        number = self._parts[statement.name] = self._parts.get(statement.name, 0) + 1
        mark = hashlib.sha256(f"{statement.identity}|{number}".encode()).hexdigest()[:8]
        # No table's name has a hyphen, and Kafka takes no name with much else.
        name = f"{self._plan.name}-{statement.name.replace('#', '.')}-repartition-{mark}"
        spec = self._internal(name, self._plan.parallelism**2, "repartition")
        self._streams[name] = SourcePlan(spec)
        part = replace(statement, name=f"{statement.name}~{number}", target=name, plan=top, of=statement.name)
        self._fragments.append((stage, part))
        return Scan(node.fields, name, changes=updating(node))

    def _internal(self, name: str, partitions: int, kind: Literal["repartition", "watermarks"]) -> StreamSpec:
        return StreamSpec(
            name,
            self._plan.name,
            Relation.STREAM,
            (Column(ROWS_COLUMN, BYTES),),
            partitions=partitions,
            retention_s=RETENTION_S,
            internal=kind,
        )


def _with_keys(node: Node, exprs: Sequence[Expr]) -> tuple[Node, tuple[str, ...]]:
    """The node with a column for each expression, and the names of these columns."""
    by: list[str] = []
    made: list[Named] = []
    for n, expr in enumerate(exprs):
        by.append(expr.name if isinstance(expr, ColumnRef) else f"$h{n}")
        if not isinstance(expr, ColumnRef):
            made.append(Named(by[-1], expr))
    if not made:
        return node, tuple(by)
    shown = (*(Named(f.name, ColumnRef(f.type, name=f.name)) for f in node.fields), *made)
    return Project((*node.fields, *(Field(m.name, m.expr.type) for m in made)), node, shown), tuple(by)


def _parallel_late(statement: Statement) -> SqlErrors:
    return refusal(
        statement.span,
        "parallel_late",
        message=f"Several tasks would update rows of '{statement.target}', which has 'late' = 'update'.",
        remedy="Group by the columns that the source is spread by, or remove 'late' or SET 'parallelism.default'.",
    )
