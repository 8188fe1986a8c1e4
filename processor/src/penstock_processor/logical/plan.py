"""The logical plan: what an app does, with names resolved and types known. Printed by `penstock explain`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from penstock.expressions.nodes import Expr, Span
from penstock.model.stream import StreamSpec
from penstock.model.task import task_name
from penstock.model.types import DataType

__all__ = ["SET", "Aggregate", "AggregateCall", "AppPlan", "Expand", "Field", "Filter", "FinalAggregate",
           "GroupAggregate", "IntervalJoin", "JoinKind", "Named", "Node", "Part", "PartialAggregate", "Project",
           "Repartition", "Route", "Scan", "SourcePlan", "Statement", "Union", "Watermark", "WindowAssign",
           "WindowKind"]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Field:
    """An output column of a node. `rowtime`: the time attribute (at most one per node keeps it)."""

    name: str
    type: DataType
    rowtime: bool = False


@dataclass(frozen=True, slots=True)
class Named:
    """An expression with its output name."""

    name: str
    expr: Expr


@dataclass(frozen=True, slots=True)
class Watermark:
    """WATERMARK FOR column AS expr, over the physical and computed columns of the relation."""

    column: str
    expr: Expr


@dataclass(frozen=True, slots=True)
class SourcePlan:
    """How rows of a declared relation look to statements: physical and computed columns, and event time.

    `order`: names of all columns as they were declared, which is what `*` stands for; empty: computed ones come last.
    `lateness_ms`: how long late rows may update the rows of this table; 0: not at all.
    `version_key`: PRIMARY KEY where there is a watermark, too: rows are versions, as temporal joins read them.
    """

    spec: StreamSpec
    computed: tuple[Named, ...] = ()
    watermark: Watermark | None = None
    idle_timeout_ms: int | None = None
    order: tuple[str, ...] = ()
    version_key: tuple[str, ...] = ()
    proctime: str = ""  # the column AS PROCTIME(), which has no values
    lateness_ms: int = 0


@dataclass(frozen=True, slots=True)
class Node:
    """Any plan node; `fields` is its output schema."""

    fields: tuple[Field, ...]


@dataclass(frozen=True, slots=True)
class Scan(Node):
    """Rows of a declared relation (`AppPlan.sources`), physical and computed columns under their own names.

    `version_key`: its PRIMARY KEY where its rows are versions of rows that these columns tell apart. `proctime`: the
    column AS PROCTIME(), which nothing may read. `source`: no statement writes it.
    """

    relation: str
    version_key: tuple[str, ...] = ()
    proctime: str = ""
    source: bool = False
    changes: bool = False  # of a repartition stream: its rows can be taken back


@dataclass(frozen=True, slots=True)
class Filter(Node):
    """WHERE and HAVING: rows for which the predicate is true (not false, not NULL)."""

    input: Node
    predicate: Expr


@dataclass(frozen=True, slots=True)
class Project(Node):
    """SELECT list; one Named per field, in order."""

    input: Node
    exprs: tuple[Named, ...]


class WindowKind(StrEnum):
    """Window table-valued functions of this version."""

    TUMBLE = "TUMBLE"
    HOP = "HOP"
    CUMULATE = "CUMULATE"
    SESSION = "SESSION"
    ATTACHED = "ATTACHED"  # no function: rows that have the bounds of their windows already


@dataclass(frozen=True, slots=True)
class WindowAssign(Node):
    """Adds window_start, window_end, window_time. A row may lie in size/slide windows (HOP, CUMULATE).

    Windows are [start, end), aligned to epoch + offset_ms, in UTC. SESSION: from the first to the last row of equal
    values in the columns `partition` that are at most the gap, `size_ms`, apart, and the gap after that. ATTACHED
    adds no columns: `time_column` is the last millisecond of the window that a row comes out of.
    """

    input: Node
    kind: WindowKind
    time_column: str
    size_ms: int
    slide_ms: int  # = size_ms for TUMBLE and SESSION; the step of CUMULATE
    offset_ms: int
    partition: tuple[str, ...] = ()


_COLLECTING = frozenset({"ARRAY_AGG", "COLLECT", "LISTAGG", "PERCENTILE"})
_COMBINING = frozenset({"COUNT", "SUM", "AVG", "MIN", "MAX", "STDDEV", "STDDEV_POP", "STDDEV_SAMP", "VARIANCE",
                        "VAR_POP", "VAR_SAMP"})  # fmt: skip


@dataclass(frozen=True, slots=True)
class AggregateCall:
    """COUNT (arg None: COUNT(*)), SUM, AVG, MIN, MAX, STDDEV_* and VAR_*; `filter` is FILTER (WHERE ...).

    `options`: the constants behind the first argument, such as the separator of LISTAGG.
    """

    name: str  # output field
    function: str
    arg: Expr | None
    type: DataType
    distinct: bool = False
    filter: Expr | None = None
    options: tuple[str | float | int, ...] = ()

    @property
    def collects(self) -> bool:
        """Whether the result needs all values of a group."""
        return self.function in _COLLECTING

    @property
    def combines(self) -> bool:
        """Whether parts of a group can be computed in different tasks and put together."""
        return self.function in _COMBINING and not (self.distinct and self.function not in ("MIN", "MAX"))


@dataclass(frozen=True, slots=True)
class Aggregate(Node):
    """Grouping by window and keys. Fields: `keys` in order, then window_start, window_end, window_time where they are
    grouped by, then `calls`. `early`: also emit updates while the window is open (sink with emit=early).
    `lateness_ms`: so long after a window has fired, late rows still update what it gave (sink with late=update).
    """

    input: WindowAssign
    keys: tuple[Named, ...]
    window_columns: tuple[str, ...]  # of window_start, window_end, window_time: those in the GROUP BY
    calls: tuple[AggregateCall, ...]
    early: bool = False
    lateness_ms: int = 0

    @property
    def updates(self) -> bool:
        """Whether rows that were emitted may be updated."""
        return self.early or self.lateness_ms > 0


#: The column of Expand with the number of the grouping.
SET = "grouping$set"


@dataclass(frozen=True, slots=True)
class Expand(Node):
    """Rows once for each of the groupings `sets`, which have the keys of these numbers. Fields: those of `input`, the
    keys (NULL where a grouping does not have them), SET.
    """

    input: Node
    keys: tuple[Named, ...]
    sets: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class GroupAggregate(Node):
    """GROUP BY without a window: a row per group that changes with every row of the group. Fields: keys, calls.

    No keys: one group of all rows. No calls: SELECT DISTINCT. A group that no row has touched for `ttl_ms` of the
    app's clock is forgotten, and nothing is said of it.
    """

    input: Node
    keys: tuple[Named, ...]
    calls: tuple[AggregateCall, ...]
    ttl_ms: int


@dataclass(frozen=True, slots=True)
class Union(Node):
    """UNION ALL: inputs with equal types; names are those of the first."""

    inputs: tuple[Node, ...]


class JoinKind(StrEnum):
    """Which rows without a match a join gives (padded with NULL); SEMI and ANTI give rows of the left side alone."""

    INNER = "INNER"
    LEFT = "LEFT"
    RIGHT = "RIGHT"
    FULL = "FULL"
    SEMI = "SEMI"
    ANTI = "ANTI"

    @property
    def pads_left_rows(self) -> bool:
        """Rows of the left side without a match are padded."""
        return self in (JoinKind.LEFT, JoinKind.FULL)

    @property
    def pads_right_rows(self) -> bool:
        """Rows of the right side without a match are padded."""
        return self in (JoinKind.RIGHT, JoinKind.FULL)

    @property
    def left_alone(self) -> bool:
        """The output has the columns of the left side only."""
        return self in (JoinKind.SEMI, JoinKind.ANTI)


@dataclass(frozen=True, slots=True)
class IntervalJoin(Node):
    """Interval join of two append-only inputs; not SEMI, not ANTI.

    Matches when keys are equal (NULL never is), lower_ms <= left.time - right.time <= upper_ms, and `residual`
    (over both sides' renamed columns) is true. Output columns are `left_names` then `right_names`: the fields of each
    side renamed so that all are distinct. Output rowtime: none unless a Project keeps one side's time column.
    """

    left: Node
    right: Node
    left_names: tuple[str, ...]
    right_names: tuple[str, ...]
    left_keys: tuple[Expr, ...]  # over left.fields names
    right_keys: tuple[Expr, ...]
    left_time: str
    right_time: str
    lower_ms: int
    upper_ms: int
    residual: Expr | None
    kind: JoinKind = JoinKind.INNER


class Route(StrEnum):
    """Which task reads a row of a repartition stream: by the hash of columns, that of the same number, the first."""

    HASH = "hash"
    SAME = "same"
    FIRST = "first"


@dataclass(frozen=True, slots=True)
class Repartition(Node):
    """Top of the part of a statement that writes a repartition stream. `by`: columns of `input` (HASH only).

    Rows that could not be taken behind the stream are rejected here, where their event is known: `required` has the
    column that must have a value, the code and the detail. Rows with NULL in `dropped` are of no use there.
    """

    input: Node
    route: Route
    by: tuple[str, ...] = ()
    required: tuple[tuple[str, str, str], ...] = ()
    dropped: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PartialAggregate(Node):
    """What is left of `of` in front of a repartition stream: rows judged, and `combined` by window and key.

    Fields: the keys of `of`. Not combined (COUNT DISTINCT and its like): the rows with their arguments.
    """

    of: Aggregate
    combined: bool


@dataclass(frozen=True, slots=True)
class FinalAggregate(Node):
    """`of` over what its PartialAggregate wrote; same fields."""

    input: Scan
    of: Aggregate
    combined: bool


@dataclass(frozen=True, slots=True)
class Part:
    """What one task of a parallel app does: this stage, for this partition of `parallelism`."""

    stage: int
    partition: int
    parallelism: int

    @property
    def after_last_writer(self) -> int:
        """The partitions of a repartition stream that this task reads end before it."""
        return (self.partition + 1) * self.parallelism


@dataclass(frozen=True, slots=True)
class Statement:
    """One INSERT INTO or CREATE TABLE AS: `plan` (fields in the target's column order and types) goes to `target`.

    `name` is the target, with `#2`, `#3` for further writers in text order. `text` is the statement
    as written; `identity` is equal for two statements that compute the same, so state survives edits elsewhere.
    """

    name: str
    target: str
    plan: Node
    text: str
    identity: str
    span: Span
    of: str = ""  # the statement that this is a part of, in a stage of a parallel app; empty: itself
    whole: Node | None = None  # that statement's plan before it was divided

    @property
    def label(self) -> str:
        """The name under which people know it."""
        return self.of or self.name

    @property
    def undivided(self) -> Node:
        """The plan as it was before the app was divided into stages."""
        return self.whole or self.plan


@dataclass(frozen=True, slots=True)
class AppPlan:
    """An app: declared relations (sources, and targets that other statements read) and statements in text order."""

    name: str
    sql: str
    sources: dict[str, SourcePlan]  # every CREATE TABLE by name, also those written to
    statements: tuple[Statement, ...]
    settings: dict[str, str]  # SET 'key' = 'value'
    parallelism: int = 1
    part: Part | None = None  # of a stage: which task's plan this is; None: the whole app

    @property
    def task(self) -> str:
        """Name of the task that runs this plan."""
        return self.name if self.part is None else task_name(self.name, self.part.stage, self.part.partition)
