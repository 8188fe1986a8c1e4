"""CROSS JOIN UNNEST(a) AS t(x) and LEFT JOIN UNNEST(a) AS t(x) ON TRUE behind a relation (Flink: "Joins", Array
Expansion). Of an array of rows the fields are columns; WITH ORDINALITY adds the number of the element.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlglot import exp

from penstock.expressions.dialect import span_of
from penstock.expressions.nodes import Span
from penstock.model.types import INT, DataType, Kind
from penstock_processor.logical.bind_join import Side
from penstock_processor.logical.expressions import bind_value, rows_only
from penstock_processor.logical.plan import Field, Node
from penstock_processor.logical.plan_unnest import Unnest
from penstock_processor.logical.scope import RowScope, Seen
from penstock_processor.sql.findings import refusal
from penstock_processor.sql.parse import identifier, only

__all__ = ["bind_unnests", "has_unnest"]

_REMEDY = "Write FROM t CROSS JOIN UNNEST(t.items) AS u(item), or LEFT JOIN UNNEST(t.items) AS u(item) ON TRUE."


def has_unnest(joins: Sequence[exp.Join]) -> bool:
    """Whether one of the joins is with UNNEST."""
    return any(isinstance(join.this, exp.Unnest) for join in joins)


def bind_unnests(first: Side, joins: Sequence[exp.Join]) -> tuple[Node, tuple[Seen, ...]]:
    """The relation with the elements of its collections, and the names of all columns. Raises SqlErrors."""
    node = first.node
    seen: tuple[Seen, ...] = (Seen(first.alias, node.fields, tuple(field.name for field in node.fields)),)
    for join in joins:
        if not isinstance(join.this, exp.Unnest):
            raise refusal(
                span_of(join),
                "unsupported",
                message="A join and UNNEST in one FROM are not in this version.",
                remedy="Put one of them into a view, or into a query in parentheses.",
            )
        node, added = _unnested(node, seen, join, join.this)
        seen = (*seen, added)
    return node, seen


def _unnested(node: Node, seen: tuple[Seen, ...], join: exp.Join, call: exp.Unnest) -> tuple[Node, Seen]:
    at = span_of(call)
    outer = _is_outer(join, at=at)
    collection = bind_value(call.expressions[0], RowScope(seen), hook=rows_only("UNNEST"))
    if collection.type.kind not in (Kind.ARRAY, Kind.MAP):
        raise refusal(
            at, "type_mismatch", message=f"UNNEST takes an array or a map, not {collection.type}.", remedy=_REMEDY
        )
    ordinality = bool(call.args.get("offset"))
    parts = _parts(collection.type, ordinality=ordinality)
    alias = call.args.get("alias")
    if alias is None or alias.this is None:
        raise refusal(at, "syntax", message="What UNNEST gives has no name.", remedy=_REMEDY)
    shown = [identifier(column, otherwise=at, what="a column").text for column in alias.args.get("columns") or ()]
    shown = shown or [name for name, _ in parts if name]
    if len(shown) != len(parts) or len(set(shown)) != len(shown):
        raise refusal(
            at,
            "column_count",
            message=f"UNNEST gives {len(parts)} columns here, {len(shown)} are named.",
            remedy=f"Name each once: AS {alias.name}({', '.join(f'c{n}' for n in range(1, len(parts) + 1))}).",
        )
    name = identifier(alias.this, otherwise=at, what="a table").text
    if any(each.alias == name for each in seen):
        raise refusal(
            at, "ambiguous_relation", message=f"Two inputs are called '{name}'.", remedy="Give it another alias."
        )
    taken = {field.name for field in node.fields}
    names = tuple(_free(each, taken) for each in shown)
    fields = tuple(Field(each, part) for each, (_, part) in zip(names, parts, strict=True))
    made = Unnest((*node.fields, *fields), node, collection, names, outer, ordinality)
    return made, Seen(name, tuple(Field(s, f.type) for s, f in zip(shown, fields, strict=True)), names)


def _is_outer(join: exp.Join, *, at: Span) -> bool:
    only(join, ("this", "on", "kind", "side"), where="a join with UNNEST")
    kind, side, on = join.args.get("kind") or "", join.side, join.args.get("on")
    always = on is None or (isinstance(on, exp.Boolean) and bool(on.this))
    if side not in ("", "LEFT") or kind not in ("", "CROSS", "INNER", "OUTER") or not always:
        raise refusal(
            at, "unsupported", message="UNNEST is joined with CROSS JOIN, or LEFT JOIN ON TRUE.", remedy=_REMEDY
        )
    return bool(side == "LEFT")


def _parts(collection: DataType, *, ordinality: bool) -> list[tuple[str, DataType]]:
    """Names, as far as they have any, and types of the new columns."""
    if collection.kind is Kind.MAP:
        key, value = collection.key_and_value
        parts = [("", key), ("", value)]
    elif collection.element.kind is Kind.ROW:
        parts = list(collection.element.parts)
    else:
        parts = [("", collection.element)]
    return [*parts, ("ORDINALITY", INT)] if ordinality else parts


def _free(name: str, taken: set[str]) -> str:
    number = 0
    while (found := f"{name}{number - 1}" if number else name) in taken:
        number += 1
    taken.add(found)
    return found
