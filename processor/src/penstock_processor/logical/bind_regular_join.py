"""FROM a JOIN b ON ... without bounds of windows or in time: both sides are kept for `table.exec.state.ttl`.

Flink: "Regular Joins". Time attributes of the inputs are plain times behind it, as in Flink.
"""

from __future__ import annotations

from collections.abc import Iterable

from penstock.expressions.coercion import common_type
from penstock.expressions.literals import coerced
from penstock.expressions.nodes import Call, ColumnRef, Expr, Span
from penstock_processor.logical.changes import required_ttl
from penstock_processor.logical.plan import Field, JoinKind, Node
from penstock_processor.logical.plan_keyed import RegularJoin
from penstock_processor.logical.rewrite import all_of, columns_read, conjuncts, replace_columns
from penstock_processor.logical.scope import Seen

__all__ = ["bind_regular_join"]


def bind_regular_join(
    left: Node, right: Node, *, seen: tuple[Seen, Seen], condition: Iterable[Expr], kind: JoinKind,
    ttl_ms: int | None, at: Span,
) -> RegularJoin:  # fmt: skip
    """The join node. `condition`: predicates over the frame names of `seen` (left, right).

    Without an equality every row meets every other, as in Flink. Raises SqlErrors: unbounded_state.
    """
    required_ttl(ttl_ms, at=at, what="A join without bounds in time")
    names = set(seen[0].frame), set(seen[1].frame)
    keys: list[tuple[Expr, Expr]] = []
    rest: list[Expr] = []
    for term in (term for predicate in condition for term in conjuncts(predicate)):
        key = _key(term, names)
        if key is None:
            rest.append(term)
        elif key not in keys:
            keys.append(key)
    back = [{n: ColumnRef(f.type, name=f.name) for f, n in zip(s.fields, s.frame, strict=True)} for s in seen]
    shown = seen[:1] if kind.left_alone else seen
    return RegularJoin(
        tuple(Field(n, f.type) for s in shown for f, n in zip(s.fields, s.frame, strict=True)),
        left,
        right,
        seen[0].frame,
        seen[1].frame,
        tuple(replace_columns(first, back[0]) for first, _ in keys),
        tuple(replace_columns(second, back[1]) for _, second in keys),
        all_of(rest),
        kind,
        ttl_ms,
        at,
    )


def _key(term: Expr, names: tuple[set[str], set[str]]) -> tuple[Expr, Expr] | None:
    """(left, right) of an equality between the sides."""
    if not isinstance(term, Call) or term.function != "=":
        return None
    first, second = term.args
    reads = columns_read(first), columns_read(second)
    if not reads[0] or not reads[1]:
        return None
    if reads[0] <= names[1] and reads[1] <= names[0]:
        first, second = second, first
    elif not (reads[0] <= names[0] and reads[1] <= names[1]):
        return None
    wanted = common_type((first.type, second.type))
    return None if wanted is None else (coerced(first, wanted), coerced(second, wanted))
