"""FROM a JOIN b ON ...: of inputs in equal windows a window join, with bounds in time on both sides an interval join.

Conditions are sorted into equal keys, bounds of windows, bounds in time, and the rest. For an inner join those of ON
and of WHERE mean the same and are taken together. Flink: "Window Join", "Interval Joins".
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from penstock.expressions.coercion import common_type
from penstock.expressions.literals import coerced
from penstock.expressions.nodes import Call, ColumnRef, Expr, Literal, Span
from penstock.model.types import Kind
from penstock_processor.logical.bounded_joins import BoundedJoin, WindowJoin
from penstock_processor.logical.changes import refuse_updating
from penstock_processor.logical.plan import Field, IntervalJoin, JoinKind, Node, WindowAssign, WindowKind
from penstock_processor.logical.rewrite import all_of, columns_read, conjuncts, replace_columns
from penstock_processor.logical.scope import Seen
from penstock_processor.logical.window_bounds import bound_of
from penstock_processor.sql.findings import refusal

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Side", "Terms", "bind_join", "in_windows", "is_bounded", "seen_behind", "seen_of_join", "terms_of"]

_FLIPPED = {">=": "<=", ">": "<", "<=": ">=", "<": ">", "=": "="}
_NEEDED = "Write ON a.key = b.key AND a.ts BETWEEN b.ts - INTERVAL '1' HOUR AND b.ts + INTERVAL '1' HOUR"


@dataclass(frozen=True, slots=True)
class Side:
    """One input under its alias."""

    alias: str
    node: Node


@dataclass
class Terms:
    """Terms of the condition by what they are for."""

    left_keys: list[Expr] = field(default_factory=list)
    right_keys: list[Expr] = field(default_factory=list)
    starts: list[tuple[str, str]] = field(default_factory=list)  # columns of window starts that must be equal
    ends: list[tuple[str, str]] = field(default_factory=list)
    lower_ms: int | None = None
    upper_ms: int | None = None
    residual: list[Expr] = field(default_factory=list)


def seen_of_join(left: Side, right: Side, *, at: Span) -> tuple[Seen, Seen]:
    """Both sides with frame names that are distinct: the right gets a number where names clash, as in Flink."""
    if left.alias == right.alias:
        raise refusal(
            at,
            "ambiguous_relation",
            message=f"Both inputs are called '{left.alias}'.",
            remedy="Give them aliases: FROM t AS a JOIN t AS b.",
        )
    taken = [f.name for f in left.node.fields]
    names: list[str] = []
    for f in right.node.fields:
        names.append(_free(f.name, {*taken, *names, *(g.name for g in right.node.fields if g is not f)}))
    return (
        Seen(left.alias, left.node.fields, tuple(taken)),
        Seen(right.alias, right.node.fields, tuple(names)),
    )


def bind_join(
    left: Side, right: Side, *, seen: tuple[Seen, Seen], condition: Iterable[Expr], kind: JoinKind, at: Span
) -> BoundedJoin:
    """The join node. `condition`: predicates over the frame names of `seen`. Raises SqlErrors."""
    times = _times(seen)
    found = terms_of(condition, seen)
    for side in (left, right):
        refuse_updating(side.node, at=at, reader="A join that is bounded in time")
    _find_windows(found, left=left, right=right, seen=seen)
    back = [{n: ColumnRef(f.type, name=f.name) for f, n in zip(s.fields, s.frame, strict=True)} for s in seen]
    fields = tuple(Field(n, f.type) for s in seen for f, n in zip(s.fields, s.frame, strict=True))
    left_keys = tuple(replace_columns(e, back[0]) for e in found.left_keys)
    right_keys = tuple(replace_columns(e, back[1]) for e in found.right_keys)
    sides = (left.node, right.node, seen[0].frame, seen[1].frame)
    if found.ends:
        left_end, right_end = back[0][found.ends[0][0]].name, back[1][found.ends[0][1]].name
        residual = all_of(found.residual)
        fields = fields[: len(seen[0].fields)] if kind.left_alone else fields
        return WindowJoin(fields, *sides, left_keys, right_keys, left_end, right_end, residual, kind)
    _check(found, left=left, right=right, times=times, at=at)
    left_time, right_time = (next(f.name for f in s.fields if f.rowtime) for s in seen)
    assert found.lower_ms is not None
    assert found.upper_ms is not None
    return IntervalJoin(
        fields,
        *sides,
        left_keys,
        right_keys,
        left_time=left_time,
        right_time=right_time,
        lower_ms=found.lower_ms,
        upper_ms=found.upper_ms,
        residual=all_of(found.residual),
        kind=kind,
    )


def in_windows(left: Side, right: Side, *, seen: tuple[Seen, Seen], condition: Iterable[Expr]) -> bool:
    """Whether the condition bounds the join by windows."""
    found = terms_of(condition, seen)
    _find_windows(found, left=left, right=right, seen=seen)
    return bool(found.ends)


def is_bounded(left: Side, right: Side, *, seen: tuple[Seen, Seen], condition: Iterable[Expr]) -> bool:
    """Whether the condition bounds the join by windows or in time on both sides; else it is a regular one."""
    found = terms_of(condition, seen)
    _find_windows(found, left=left, right=right, seen=seen)
    return bool(found.ends) or (found.lower_ms is not None and found.upper_ms is not None)


def terms_of(condition: Iterable[Expr], seen: tuple[Seen, Seen]) -> Terms:
    """Terms of predicates over the frame names of `seen`, by what they are for."""
    names = tuple(set(s.frame) for s in seen)
    found = Terms()
    for predicate in condition:
        for term in conjuncts(predicate):
            for part in _between_as_two(term):
                _sort(part, names, _times(seen), found)
    return found


def seen_behind(seen: tuple[Seen, Seen], kind: JoinKind) -> tuple[Seen, Seen]:
    """What is seen behind the join: the time of rows that may be padded is NULL in some, so it is no event time."""
    plain = [Seen(s.alias, tuple(Field(f.name, f.type) for f in s.fields), s.frame) for s in seen]
    return (
        plain[0] if kind.pads_right_rows else seen[0],
        plain[1] if kind.pads_left_rows else seen[1],
    )


def _find_windows(found: Terms, *, left: Side, right: Side, seen: tuple[Seen, Seen]) -> None:
    """Keys that are the starts or the ends of the same windows on both sides; both must be there."""
    places = [dict(zip(s.frame, s.fields, strict=True)) for s in seen]
    for first, second in zip(found.left_keys, found.right_keys, strict=True):
        if not isinstance(first, ColumnRef) or not isinstance(second, ColumnRef):
            continue
        bounds = bound_of(left.node, places[0][first.name].name), bound_of(right.node, places[1][second.name].name)
        if bounds[0] is None or bounds[1] is None or bounds[0][0] != bounds[1][0]:
            continue
        if _shape(bounds[0][1]) == _shape(bounds[1][1]):
            (found.starts if bounds[0][0] == "window_start" else found.ends).append((first.name, second.name))
    if not found.starts or not found.ends:
        found.ends = []


def _shape(windows: WindowAssign) -> tuple[WindowKind, int, int, int]:
    return windows.kind, windows.size_ms, windows.slide_ms, windows.offset_ms


def _times(seen: tuple[Seen, Seen]) -> tuple[str | None, ...]:
    """The time attribute of each side under its frame name."""
    return tuple(next((n for f, n in zip(s.fields, s.frame, strict=True) if f.rowtime), None) for s in seen)


def _sort(term: Expr, names: tuple[set[str], ...], times: tuple[str | None, ...], found: Terms) -> None:
    if isinstance(term, Call) and term.function in _FLIPPED and len(term.args) == 2:
        bound = _time_bound(term, times)
        if bound is not None:
            _narrow(found, *bound)
            return
        if term.function == "=" and _is_key(term, names, found):
            return
    found.residual.append(term)


def _is_key(term: Call, names: tuple[set[str], ...], found: Terms) -> bool:
    first, second = term.args
    reads = columns_read(first), columns_read(second)
    if not reads[0] or not reads[1]:
        return False
    if reads[0] <= names[1] and reads[1] <= names[0]:
        first, second = second, first
    elif not (reads[0] <= names[0] and reads[1] <= names[1]):
        return False
    wanted = common_type((first.type, second.type))
    if wanted is None:
        return False
    found.left_keys.append(coerced(first, wanted))
    found.right_keys.append(coerced(second, wanted))
    return True


def _time_bound(term: Call, times: tuple[str | None, ...]) -> tuple[str, int] | None:
    """(operator, ms) of `left.time - right.time <operator> ms`; None if the term is something else."""
    first, second = _time_term(term.args[0], times), _time_term(term.args[1], times)
    if first is None or second is None or first[0] == second[0]:
        return None
    if first[0] == 0:
        return term.function, second[1] - first[1]
    return _FLIPPED[term.function], first[1] - second[1]


def _time_term(expr: Expr, times: tuple[str | None, ...]) -> tuple[int, int] | None:
    """(side, added ms) of a time attribute plus or minus intervals."""
    if isinstance(expr, ColumnRef):
        return (times.index(expr.name), 0) if expr.name in times else None
    if isinstance(expr, Call) and expr.function in ("+", "-") and len(expr.args) == 2:
        base, added = expr.args
        if expr.function == "+" and isinstance(base, Literal):
            base, added = added, base
        if isinstance(added, Literal) and added.type.kind is Kind.INTERVAL and isinstance(added.value, int):
            found = _time_term(base, times)
            if found is not None:
                return found[0], found[1] + (added.value if expr.function == "+" else -added.value)
    return None


def _narrow(found: Terms, operator: str, ms: int) -> None:
    if operator in (">=", ">", "="):
        low = ms + 1 if operator == ">" else ms
        found.lower_ms = low if found.lower_ms is None else max(found.lower_ms, low)
    if operator in ("<=", "<", "="):
        high = ms - 1 if operator == "<" else ms
        found.upper_ms = high if found.upper_ms is None else min(found.upper_ms, high)


def _between_as_two(term: Expr) -> tuple[Expr, ...]:
    if isinstance(term, Call) and term.function == "BETWEEN" and len(term.args) == 3:
        value, low, high = term.args
        return (
            Call(term.type, function=">=", args=(value, low), span=term.span),
            Call(term.type, function="<=", args=(value, high), span=term.span),
        )
    return (term,)


def _check(found: Terms, *, left: Side, right: Side, times: tuple[str | None, ...], at: Span) -> None:
    for side, time in ((left, times[0]), (right, times[1])):
        if time is None:
            raise refusal(
                at,
                "no_event_time",
                message=f"'{side.alias}' has no event time, so the join would keep its rows for ever.",
                remedy="Declare WATERMARK on its table, or select the time attribute in its view unchanged; or SET "
                "'table.exec.state.ttl' = '1 d' (how long rows are kept).",
            )
    if found.lower_ms is None or found.upper_ms is None:
        missing = "no bound in time" if found.lower_ms is found.upper_ms else "a bound in time on one side only"
        raise refusal(
            at,
            "unbounded_state",
            message=f"The join has {missing}, so it would keep rows for ever.",
            remedy=f"{_NEEDED}, or join windows: ON a.key = b.key AND a.window_start = b.window_start AND "
            "a.window_end = b.window_end, or SET 'table.exec.state.ttl' = '1 d' (how long rows are kept).",
        )
    if not found.left_keys:
        raise refusal(at, "no_join_key", message="The join has no equality between its inputs.", remedy=f"{_NEEDED}.")
    if found.lower_ms > found.upper_ms:
        raise refusal(
            at,
            "never_true",
            message="No two times can satisfy the bounds of this join.",
            remedy="Let the lower bound lie below the upper bound.",
        )


def _free(name: str, taken: set[str]) -> str:
    number, free = 0, name
    while free in taken:
        free, number = f"{name}{number}", number + 1
    return free
