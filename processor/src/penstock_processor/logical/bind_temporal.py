"""JOIN t FOR SYSTEM_TIME AS OF o.ts: each row with the version of a row of `t` that was valid at its event time.

Versions are the rows of a table with PRIMARY KEY and WATERMARK, or of a query that keeps the last row of each key by
event time (ROW_NUMBER() OVER (PARTITION BY k ORDER BY ts DESC) ... = 1): that one's input has them all. Flink:
"Temporal Joins", "Versioned Tables".
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from penstock.expressions.nodes import Call, Cast, ColumnRef, Expr, Span
from penstock.model.types import BOOLEAN
from penstock_processor.logical.bind_join import Side, Terms, terms_of
from penstock_processor.logical.bounded_joins import TemporalJoin
from penstock_processor.logical.changes import refuse_updating
from penstock_processor.logical.plan import Field, JoinKind, Node, Project, Scan
from penstock_processor.logical.plan_keyed import SortKey, TopN
from penstock_processor.logical.rewrite import all_of, columns_read, replace_columns
from penstock_processor.logical.scope import Seen
from penstock_processor.sql.findings import refusal

__all__ = ["Versions", "bind_temporal_join", "versions_of"]


@dataclass(frozen=True, slots=True)
class Versions:
    """Every version as a row of `node`: `key` tells the rows of the table apart, `time` is when a version begins."""

    node: Node
    key: tuple[str, ...]
    time: str
    in_order: bool


def versions_of(side: Side, *, at: Span) -> Versions:
    """The versions behind a table or view. Raises SqlErrors: no_versions."""
    found = _versions(side.node)
    if found is None:
        raise refusal(
            at,
            "no_versions",
            message=f"'{side.alias}' has no versions in time.",
            remedy="Join a table with PRIMARY KEY (k) NOT ENFORCED and WATERMARK, or a view that keeps the last row: "
            "SELECT k, v, ts FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY k ORDER BY ts DESC) AS rn FROM t) "
            "WHERE rn = 1. Its key and its time must be selected unchanged.",
        )
    refuse_updating(found.node, at=at, reader="A temporal join")
    return found


def bind_temporal_join(left: Side, versions: Versions, *, time: ColumnRef, seen: tuple[Seen, Seen],
                       condition: Iterable[Expr], kind: JoinKind, at: Span) -> TemporalJoin:  # fmt: skip
    """The join node. `time`: the left side's event time; `condition`: predicates over the frame names of `seen`."""
    refuse_updating(left.node, at=at, reader="A temporal join")
    if kind not in (JoinKind.INNER, JoinKind.LEFT):
        raise refusal(
            at,
            "unsupported",
            message=f"A {kind} JOIN has no versions at a row's time: there is no row for those without a match.",
            remedy="Write JOIN or LEFT JOIN.",
        )
    found = terms_of(condition, seen)
    by_column = dict(zip(seen[1].frame, (f.name for f in seen[1].fields), strict=True))
    left_keys, right_keys = _keys(found, versions, by_column, at=at)
    back = [{n: ColumnRef(f.type, name=f.name) for f, n in zip(s.fields, s.frame, strict=True)} for s in seen]
    return TemporalJoin(
        tuple(Field(n, f.type) for s in seen for f, n in zip(s.fields, s.frame, strict=True)),
        left.node,
        versions.node,
        seen[0].frame,
        seen[1].frame,
        tuple(replace_columns(each, back[0]) for each in left_keys),
        tuple(replace_columns(each, back[1]) for each in right_keys),
        left_time=back[0][time.name].name,
        right_time=versions.time,
        residual=all_of(found.residual),
        kind=kind,
        in_order=versions.in_order,
    )


def _keys(found: Terms, versions: Versions, by_column: dict[str, str], *, at: Span) -> tuple[list[Expr], list[Expr]]:
    """Of the equal keys those of the versions, each once; the others become conditions. Raises SqlErrors."""
    chosen: dict[str, tuple[Expr, Expr]] = {}
    for first, second in zip(found.left_keys, found.right_keys, strict=True):
        plain = second.arg if isinstance(second, Cast) and not second.lenient else second
        column = by_column.get(plain.name) if isinstance(plain, ColumnRef) else None
        if column in versions.key and column not in chosen:
            chosen[column] = (first, second)
        else:
            found.residual.append(Call(BOOLEAN, function="=", args=(first, second), span=first.span))
    missing = [name for name in versions.key if name not in chosen]
    if missing:
        raise refusal(
            at,
            "no_join_key",
            message=f"ON does not say which '{missing[0]}' is meant, which tells the versions apart.",
            remedy=f"Write ON o.{missing[0]} = v.{missing[0]}: every column of the key, each equal to something of "
            "the other side.",
        )
    return [chosen[name][0] for name in versions.key], [chosen[name][1] for name in versions.key]


def _versions(node: Node) -> Versions | None:
    match node:
        case Scan(version_key=key) if key:
            time = next((f.name for f in node.fields if f.rowtime), None)
            return None if time is None else Versions(node, key, time, in_order=False)
        case TopN(limit=1, order=(SortKey(descending=True) as order,)):
            time = next((f.name for f in node.input.fields if f.rowtime), None)
            if order.column != time or time is None or not node.partition:
                return None
            return Versions(node.input, node.partition, time, in_order=True)
        case Project():
            below = _versions(node.input)
            return None if below is None else _projected(node, below)
        case _:
            return None


def _projected(node: Project, below: Versions) -> Versions | None:
    """Behind a projection that keeps key and time; a column that is the rank goes."""
    known = {f.name for f in below.node.fields}
    kept = [n for n, each in enumerate(node.exprs) if columns_read(each.expr) <= known]
    names: dict[str, str] = {}
    for n in kept:
        expr = node.exprs[n].expr
        if isinstance(expr, ColumnRef):
            names.setdefault(expr.name, node.exprs[n].name)
    if below.time not in names or any(column not in names for column in below.key):
        return None
    time = names[below.time]
    fields = tuple(replace(node.fields[n], rowtime=node.fields[n].name == time) for n in kept)
    made = Project(fields, below.node, tuple(node.exprs[n] for n in kept))
    return Versions(made, tuple(names[column] for column in below.key), time, below.in_order)
