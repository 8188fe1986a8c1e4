"""FROM a JOIN b ... JOIN c ...: which names are seen where, and which terms of WHERE a join can take.

Joins are taken from the left. A term of WHERE goes to the first inner join behind which all of its columns are there
(there it may be the key, or the bound in time), unless a later join pads rows of its left side.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from penstock.expressions.coercion import common_type
from penstock.expressions.literals import coerced
from penstock.expressions.nodes import Call, ColumnRef, Expr, Span
from penstock.model.types import BOOLEAN
from penstock_processor.logical.bind_join import Side, seen_of_join
from penstock_processor.logical.plan import Field, JoinKind, Named, Node, Project
from penstock_processor.logical.rewrite import columns_read, conjuncts
from penstock_processor.logical.scope import RowScope, Seen
from penstock_processor.sql.findings import refusal
from penstock_processor.sql.statements import Word

__all__ = ["Link", "Seats", "flagged", "merged", "shared_out", "with_merged"]


@dataclass(frozen=True, slots=True)
class Link:
    """One join: what is seen of its right side, in front of it and behind it, and the equalities of USING.

    `made`: columns that USING makes of both sides, where neither side has them always (FULL).
    """

    kind: JoinKind
    right: Seen
    before: tuple[Seen, ...]
    behind: tuple[Seen, ...]
    equal: tuple[Expr, ...] = ()
    made: tuple[Named, ...] = ()

    @property
    def scope(self) -> RowScope:
        """Names in reach of ON."""
        return RowScope((*self.before, self.right))


class Seats:
    """Gives each input names of its own, in the order of FROM."""

    def __init__(self, first: Side) -> None:
        fields = first.node.fields
        self.seen: tuple[Seen, ...] = (Seen(first.alias, fields, tuple(f.name for f in fields)),)
        self._taken = [Field(f.name, f.type) for f in fields]

    def add(self, right: Side, kind: JoinKind, using: tuple[Word, ...], *, at: Span) -> Link:
        """The next input. Raises SqlErrors."""
        if any(seen.alias == right.alias for seen in self.seen):
            raise refusal(
                at,
                "ambiguous_relation",
                message=f"Two inputs are called '{right.alias}'.",
                remedy="Give them aliases: FROM t AS a JOIN t AS b.",
            )
        before = self.seen
        seen = seen_of_join(Side("$left", Node(tuple(self._taken))), right, at=at)[1]
        self._taken += [Field(name, f.type) for f, name in zip(seen.fields, seen.frame, strict=True)]
        self.seen = (*before, seen)
        equal: list[Expr] = []
        made: list[Named] = []
        shown: list[tuple[Field, str]] = []
        for word in using:
            one, other = _column(word, before), _column(word, (seen,))
            equal.append(_equal(one, other, word))
            shown.append(self._merged(word, one, other, kind, made))
        if using:
            hidden = frozenset(word.text for word in using)
            both = tuple(replace(each, hidden=each.hidden | hidden) for each in self.seen)
            self.seen = (Seen("", tuple(f for f, _ in shown), tuple(name for _, name in shown)), *both)
        return Link(kind, seen, before, self.seen, tuple(equal), tuple(made))

    def _merged(self, word: Word, one: ColumnRef, other: ColumnRef, kind: JoinKind, made: list[Named]
                ) -> tuple[Field, str]:  # fmt: skip
        """The column that USING shows for both: of the side whose rows are all there."""
        if kind is not JoinKind.FULL:
            column = other if kind is JoinKind.RIGHT else one
            return Field(word.text, column.type), column.name
        type_ = common_type((one.type, other.type)) or one.type
        name = f"$using{len(self._taken)}"
        self._taken.append(Field(name, type_))
        both = (coerced(one, type_), coerced(other, type_))
        made.append(Named(name, Call(type_, function="COALESCE", args=both, span=word.span)))
        return Field(word.text, type_), name


def shared_out(where: Expr | None, links: list[Link]) -> tuple[list[list[Expr]], list[Expr]]:
    """The terms of WHERE that each join takes, and those that stay."""
    taken: list[list[Expr]] = [[] for _ in links]
    stay: list[Expr] = []
    for term in conjuncts(where):
        read = columns_read(term)
        for n, link in enumerate(links):
            there = {name for seen in link.scope.relations for name in seen.frame}
            safe = not any(later.kind.pads_right_rows for later in links[n + 1 :])
            if link.kind is JoinKind.INNER and safe and read <= there:
                taken[n].append(term)
                break
        else:
            stay.append(term)
    return taken, stay


def merged(node: Node, times: set[str], read: set[str]) -> Seen:
    """All inputs so far as the left side of the next join. Of several times one counts that its condition reads."""
    chosen = sorted(times & read) or sorted(times)
    fields = tuple(Field(f.name, f.type, f.name in chosen[:1]) for f in node.fields)
    return Seen("", fields, tuple(f.name for f in node.fields))


def with_merged(node: Node, made: tuple[Named, ...]) -> Node:
    """The join with the columns that USING makes beside its own."""
    if not made:
        return node
    shown = tuple(Named(f.name, ColumnRef(f.type, name=f.name)) for f in node.fields)
    return Project((*node.fields, *(Field(each.name, each.expr.type) for each in made)), node, (*shown, *made))


def flagged(seen: tuple[Seen, ...], times: set[str]) -> tuple[Seen, ...]:
    """The inputs with their time attributes: frame names in `times`."""
    return tuple(
        replace(each, fields=tuple(
            Field(f.name, f.type, name in times) for f, name in zip(each.fields, each.frame, strict=True)))
        for each in seen
    )  # fmt: skip


def _column(word: Word, seen: tuple[Seen, ...]) -> ColumnRef:
    found = [
        ColumnRef(f.type, name=name, span=word.span)
        for each in seen
        for f, name in zip(each.fields, each.frame, strict=True)
        if f.name == word.text and word.text not in each.hidden
    ]
    if len(found) != 1:
        what = "is in more than one input" if found else "is not"
        raise refusal(
            word.span,
            "ambiguous_column" if found else "unknown_column",
            message=f"'{word.text}' of USING {what} on {'the left' if found else 'both sides'} of the join.",
            remedy="Write ON a.key = b.key.",
        )
    return found[0]


def _equal(one: ColumnRef, other: ColumnRef, word: Word) -> Expr:
    wanted = common_type((one.type, other.type))
    if wanted is None:
        raise refusal(
            word.span,
            "type_mismatch",
            message=f"'{word.text}' is {one.type} on the left of the join and {other.type} on the right.",
            remedy="Write ON with a CAST.",
        )
    return Call(BOOLEAN, function="=", args=(coerced(one, wanted), coerced(other, wanted)), span=word.span)
