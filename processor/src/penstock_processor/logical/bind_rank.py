"""ROW_NUMBER() OVER (...) in a SELECT list, and the WHERE around it that makes the first N of each group of it.

Flink knows "Top-N" and "Deduplication" by this pattern: a query numbers rows, one around it keeps those up to a
constant. Here the numbering is bound to a `Ranked` node where it stands, also in a view or in WITH, and `limited`
finds it from the WHERE above it. A ranking by the start and end of a window is done once the window has ended.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from sqlglot import exp

from penstock.expressions.bind import Hook
from penstock.expressions.dialect import span_of
from penstock.expressions.nodes import Call, ColumnRef, Expr, Literal, Span
from penstock.model.types import BIGINT, Kind
from penstock_processor.logical.changes import refuse_updating, required_ttl, updating
from penstock_processor.logical.expressions import bind_value, rows_only
from penstock_processor.logical.plan import Field, Filter, Named, Node, Project
from penstock_processor.logical.plan_keyed import RANK, Ranked, SortKey, TopN
from penstock_processor.logical.plan_over import WindowTopN
from penstock_processor.logical.rewrite import all_of, conjuncts, inputs_of
from penstock_processor.logical.scope import RowScope
from penstock_processor.logical.select_list import Values
from penstock_processor.logical.window_bounds import end_among, is_time
from penstock_processor.sql.findings import refusal
from penstock_processor.sql.parse import only

__all__ = ["RankedGroups", "RankedRows", "limited", "refuse_unlimited"]

_FLIPPED = {">=": "<=", ">": "<", "<=": ">=", "<": ">", "=": "="}
_SORTABLE = frozenset(
    [Kind.STRING, Kind.BOOLEAN, Kind.BYTES, Kind.DATE, Kind.TIME, Kind.TIMESTAMP, Kind.TIMESTAMP_LTZ]
)
_PATTERN = "SELECT ... FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY k ORDER BY x DESC) AS rn FROM t) WHERE rn <= 3"


class RankedRows:
    """A SELECT list over rows, in which one ROW_NUMBER() OVER (...) may stand. `otherwise`: the hook for the rest."""

    def __init__(self, scope: RowScope, *, otherwise: Hook) -> None:
        self._scope = scope
        self._numbering = _Numbering(lambda node: bind_value(node, scope, hook=rows_only("OVER")))
        self._otherwise = otherwise

    def value(self, node: exp.Expr) -> Expr:
        """An expression of the list. Raises SqlErrors."""
        return bind_value(node, self._scope, hook=self._hook)

    def column(self, column: ColumnRef) -> Expr:
        """A column that a star stands for."""
        return column

    def over(self, node: Node) -> Node:
        """The rows that the list is computed on: `node`, with the rank beside them if the list has one."""
        return self._numbering.over(node)

    def _hook(self, node: exp.Expr) -> Expr | None:
        if isinstance(node, exp.Window) and _is_ranking(node):
            return self._numbering.found(node)
        return self._otherwise(node)


class RankedGroups:
    """A SELECT list over groups, in which one ROW_NUMBER() OVER (...) may be a column and ranks the groups."""

    def __init__(self, groups: Values) -> None:
        self._groups = groups
        self._numbering = _Numbering(groups.value)

    def value(self, node: exp.Expr) -> Expr:
        """An expression of the list. Raises SqlErrors."""
        ranking = isinstance(node, exp.Window) and _is_ranking(node)
        return self._numbering.found(node) if ranking else self._groups.value(node)

    def column(self, column: ColumnRef) -> Expr:
        """A column that a star stands for."""
        return self._groups.column(column)

    def over(self, node: Node) -> Node:
        """The groups, with the rank beside them if the list has one."""
        return self._numbering.over(node)


def limited(node: Node, where: Expr | None, *, ttl_ms: int | None) -> tuple[Node, Expr | None]:
    """`node` under a WHERE that bounds the rank of its rows: the first rows of each group, and the rest of WHERE.

    Anything else comes back as it is. `ttl_ms`: after what time without use rows are forgotten. Raises SqlErrors:
    never_true, unbounded_state.
    """
    for field in node.fields:
        if field.type != BIGINT:
            continue
        bounds = [_bound(term, field.name) for term in conjuncts(where)]
        lasts = [last for _, last in bounds if last is not None]
        if not lasts:
            continue
        changed = _first(node, field.name, min(lasts), ttl_ms)
        if changed is None:
            continue
        # What is left says more than "up to the limit": `rn = 2`, `rn BETWEEN 2 AND 3`, other columns.
        rest = [term for term, (first, last) in zip(conjuncts(where), bounds, strict=True)
                if last is None or first > 1]  # fmt: skip
        return changed, all_of(rest)
    return node, where


def refuse_unlimited(node: Node) -> None:
    """Raises SqlErrors if rows are numbered without end in a plan."""
    if isinstance(node, Ranked):
        raise refusal(
            node.span,
            "unbounded_state",
            message="Numbering every row would keep all of them, and change most numbers with each row.",
            remedy=f"Keep the first ones of each group: {_PATTERN}.",
        )
    for one in inputs_of(node):
        refuse_unlimited(one)


def _is_ranking(node: exp.Window) -> bool:
    return isinstance(node.this, exp.Anonymous) and node.this.name.upper() in ("ROW_NUMBER", "RANK", "DENSE_RANK")


class _Numbering:
    """The one ranking of a SELECT list. `bind`: expressions in it."""

    def __init__(self, bind: Callable[[exp.Expr], Expr]) -> None:
        self._bind = bind
        self._call: exp.Expr | None = None
        self._partition: list[Expr] = []
        self._order: list[tuple[Expr, bool, bool]] = []  # descending, NULLs last

    def found(self, call: exp.Expr) -> ColumnRef:
        """The rank's column. Raises SqlErrors."""
        at = span_of(call)
        if self._call is None:
            self._read(call)
        elif self._call != call:
            raise refusal(
                at,
                "unsupported",
                message="More than one ranking in one SELECT is not in this version.",
                remedy="Number the rows in one query and rank its result in another.",
            )
        self._call = call
        return ColumnRef(BIGINT, name=RANK, span=at)

    def over(self, node: Node) -> Node:
        """`node` with the rank, if there is one."""
        if self._call is None:
            return node
        columns = _Columns(node)
        partition = tuple(dict.fromkeys(columns.name(expr) for expr in self._partition))
        keys: dict[str, SortKey] = {}
        for expr, descending, nulls_last in self._order:
            name = columns.name(expr)
            keys.setdefault(name, SortKey(name, descending, nulls_last))
        below = columns.node()
        ranked = (*below.fields, Field(RANK, BIGINT))
        return Ranked(ranked, below, partition, tuple(keys.values()), span_of(self._call))

    def _read(self, call: exp.Expr) -> None:
        at, function = span_of(call), call.this.name.upper()
        if function != "ROW_NUMBER":
            raise refusal(
                at,
                "unsupported",
                message=f"{function} of a stream is not in this version.",
                remedy="Use ROW_NUMBER(); equal rows then rank as they came.",
            )
        only(call, ("this", "partition_by", "order", "over"), where="ROW_NUMBER() OVER (...)")
        if call.this.expressions:
            raise refusal(at, "argument_count", message="ROW_NUMBER takes no argument.", remedy="Write ROW_NUMBER().")
        order = call.args.get("order")
        if order is None:
            raise refusal(
                at,
                "syntax",
                message="ROW_NUMBER() OVER (...) has no ORDER BY, so no row is the first.",
                remedy="Add ORDER BY, for example: OVER (PARTITION BY k ORDER BY ts DESC).",
            )
        self._partition = [self._bind(each) for each in call.args.get("partition_by") or ()]
        for each in order.expressions:
            self._order.append(
                (self._sortable(each.this), bool(each.args.get("desc")), not each.args.get("nulls_first"))
            )

    def _sortable(self, node: exp.Expr) -> Expr:
        found = self._bind(node)
        if not (found.type.is_numeric or found.type.kind in _SORTABLE):
            raise refusal(
                span_of(node),
                "type_mismatch",
                message=f"Rows cannot be ordered by {found.type}.",
                remedy="Order by numbers, texts or times.",
            )
        return found


class _Columns:
    """The columns that rows are partitioned and ordered by; expressions are computed beside the rows."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._made: dict[str, Expr] = {}

    def name(self, expr: Expr) -> str:
        """The column of an expression."""
        if isinstance(expr, ColumnRef):
            return expr.name
        known = next((name for name, made in self._made.items() if made == expr), None)
        return known or self._make(expr)

    def _make(self, expr: Expr) -> str:
        name = f"$by{len(self._made)}"
        self._made[name] = expr
        return name

    def node(self) -> Node:
        """The input, with what was computed."""
        if not self._made:
            return self._node
        fields = self._node.fields
        shown = [Named(f.name, ColumnRef(f.type, name=f.name)) for f in fields]
        made = [Named(name, expr) for name, expr in self._made.items()]
        more = [Field(name, expr.type) for name, expr in self._made.items()]
        return Project((*fields, *more), self._node, (*shown, *made))


def _bound(term: Expr, name: str) -> tuple[int, int | None]:
    """(first, last) rank that a term of WHERE lets pass; (1, None) if it says nothing about the last one."""
    match term:
        case Call(function="BETWEEN", args=(ColumnRef(name=column), low, high)) if column == name:
            first, last = _whole(low), _whole(high)
            return (1, None) if first is None or last is None else (first, last)
        case Call(function=function, args=(one, other)) if function in _FLIPPED:
            if isinstance(other, ColumnRef):
                one, other, function = other, one, _FLIPPED[function]
            value = _whole(other)
            if not isinstance(one, ColumnRef) or one.name != name or value is None:
                return 1, None
            match function:
                case "<=":
                    return 1, value
                case "<":
                    return 1, value - 1
                case "=":
                    return value, value
    return 1, None


def _whole(expr: Expr) -> int | None:
    value = expr.value if isinstance(expr, Literal) else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _first(node: Node, name: str, limit: int, ttl_ms: int | None) -> Node | None:
    """`node` with its ranking limited, if `name` is the rank's column; rows of equal fields, fewer of them."""
    match node:
        case Project():
            expr = next(each.expr for each in node.exprs if each.name == name)
            below = _first(node.input, expr.name, limit, ttl_ms) if isinstance(expr, ColumnRef) else None
            return None if below is None else replace(node, input=below)
        case Filter():
            below = _first(node.input, name, limit, ttl_ms)
            return None if below is None else replace(node, input=below)
        case Ranked() if name == RANK:
            if limit < 1:
                raise _never(node.span)
            end = end_among(node.input, node.partition)
            if end is not None:
                refuse_updating(node.input, at=node.span, reader="A ranking by windows")
                last = limit == 1 and len(node.order) == 1 and node.order[0].descending
                latest = last and is_time(node.input, node.order[0].column)
                return WindowTopN(node.fields, node.input, node.partition, node.order, limit, end, latest, node.span)
            if node.partition or updating(node.input):
                required_ttl(ttl_ms, at=node.span, what="ROW_NUMBER() OVER (...)")
            return TopN(node.fields, node.input, node.partition, node.order, limit, ttl_ms=ttl_ms, span=node.span)
        case _:
            return None


def _never(at: Span) -> Exception:
    return refusal(
        at, "never_true", message="No row has a rank below 1.", remedy=f"Keep at least one row: {_PATTERN}."
    )
