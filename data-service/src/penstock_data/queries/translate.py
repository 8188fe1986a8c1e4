"""The text of a query and its parameters, to a select over the store's tables. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlglot import exp

from penstock.errors import PenstockError
from penstock.expressions.coercion import NULL, Mismatch
from penstock.expressions.literals import number
from penstock.expressions.nodes import Literal
from penstock.expressions.query import parse_query
from penstock.expressions.settings import ExpressionSettings
from penstock.model.stream import Column, StreamSpec
from penstock.model.types import BOOLEAN, DOUBLE, STRING, Kind
from penstock_data.queries.refusals import refused
from penstock_data.queries.scope import Relations, Statement
from penstock_data.queries.select import QueryBinder
from penstock_data.settings import SqlSettings

__all__ = ["Parameters", "Translated", "translate"]

#: As in the request: by place, or by name.
Parameters = Sequence[object] | Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Translated:
    """A query that may run: its select ends at `rows_max` + 1 rows. `relations`: what it reads."""

    select: sa.Select[tuple[object, ...]]
    columns: tuple[Column, ...]
    relations: Mapping[str, StreamSpec]


def translate(
    text: str, parameters: Parameters, relations: Relations, *, limits: SqlSettings, now_ms: int
) -> Translated:
    """The select, once every part is found on a whitelist. Raises SqlErrors, `bad_request` for parameters.

    `now_ms`: what CURRENT_TIMESTAMP is, everywhere in the query.
    """
    tree = parse_query(text, ExpressionSettings(text_chars_max=limits.text_chars_max, depth_max=limits.depth_max))
    _check_depth(tree, limits.tree_depth_max)
    by_place = sorted(node.meta["start"] for node in tree.find_all(exp.Placeholder) if not isinstance(node.this, str))
    statement = Statement(
        relations=relations,
        limits=limits,
        parameters=_literals(parameters, limits),
        now_ms=now_ms,
        places={start: place for place, start in enumerate(by_place)},
    )
    try:
        query = QueryBinder(statement, rows_max=limits.rows_max + 1).query(tree)
    except RecursionError:
        raise refused(tree, "too_deep", "This is nested too deeply.", "Split it with WITH.") from None
    _check_used(statement)
    names = [field.name for field in query.fields]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise refused(tree, "duplicate_column", f"Two columns of the result are called '{twice}'.",
                      f"Write {twice} AS another_name for one of them.")  # fmt: skip
    columns = tuple(Column(f.name, STRING if f.type.kind is Kind.NULL else f.type) for f in query.fields)
    return Translated(query.select, columns, statement.read)


def _check_depth(tree: exp.Expr, depth_max: int) -> None:
    level: list[exp.Expr] = [tree]
    for _ in range(depth_max):
        level = [child for node in level for child in node.iter_expressions()]
        if not level:
            return
    raise refused(tree, "too_deep", f"This query nests deeper than {depth_max} levels.",
                  "Split it with WITH; write IN (a, b, ...) for many alternatives.")  # fmt: skip


def _literals(parameters: Parameters, limits: SqlSettings) -> Sequence[Literal] | dict[str, Literal]:
    if len(parameters) > limits.parameters_max:
        raise PenstockError("bad_request", f"'params' has more than {limits.parameters_max} values")
    if isinstance(parameters, Mapping):
        return {name: _literal(value, f"'params.{name[:60]}'") for name, value in parameters.items()}
    return [_literal(value, f"'params[{i}]'") for i, value in enumerate(parameters)]


def _literal(value: object, where: str) -> Literal:
    match value:
        case None:
            return Literal(NULL, value=None)
        case bool():
            return Literal(BOOLEAN, value=value)
        case int():
            try:
                return number(str(abs(value)), negative=value < 0)
            except Mismatch as mismatch:
                raise PenstockError("bad_request", f"{where}: {mismatch.message} {mismatch.remedy}") from None
        case float():
            return Literal(DOUBLE, value=value)
        case str():
            return Literal(STRING, value=value)
    raise PenstockError(
        "bad_request", f"{where} is a text, a number, true, false or null; write one parameter a value"
    )


def _check_used(statement: Statement) -> None:
    known = statement.parameters
    unused = [name for name in known if name not in statement.used] if isinstance(known, dict) else []
    if unused:
        raise PenstockError("bad_request", f"the query has no ':{unused[0][:60]}', but 'params' gives it a value")
    if not isinstance(known, dict) and len(known) > len(statement.places):
        raise PenstockError(
            "bad_request", f"the query has {len(statement.places)} parameters (?), and 'params' gives {len(known)}"
        )
