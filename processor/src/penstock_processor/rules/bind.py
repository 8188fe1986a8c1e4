"""A rule's texts bound over the columns of its source: the predicate and the select list, typed, with places."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache

from msgspec import structs
from sqlglot import exp

from penstock.codecs.frames import polars_type
from penstock.errors import SqlError, SqlErrors
from penstock.expressions.dialect import parse_expression, parse_statements, span_of
from penstock.expressions.nodes import Expr, Span
from penstock.expressions.reserved import RESERVED
from penstock.expressions.settings import DEFAULT_LIMITS
from penstock.model.stream import Column, StreamSpec
from penstock.model.types import STRING, Kind
from penstock_processor.logical.bind_table import NAME_CHARS_MAX
from penstock_processor.logical.expressions import PROCTIME, bind_condition, bind_value, rows_only
from penstock_processor.logical.plan import Field, Filter, Named, Project, Scan
from penstock_processor.logical.scope import RowScope, Seen
from penstock_processor.logical.select_list import Output, outputs_of
from penstock_processor.rules.model import Rule
from penstock_processor.rules.settings import RulesSettings
from penstock_processor.sql.findings import refusal
from penstock_processor.sql.parse import only

__all__ = ["RULE_COLUMN", "SEVERITY_COLUMN", "BoundRule", "RuleBinder", "bind_rule", "select_list", "spelled_out"]

#: The first columns of every row that a rule writes: which rule it was, and how severe.
RULE_COLUMN = "rule"
SEVERITY_COLUMN = "severity"

#: From the text of a select list, the source and its columns to what it gives.
SelectList = Callable[[str, str, tuple[Column, ...]], tuple[Named, ...]]

_HEAD = (Column(RULE_COLUMN, STRING, nullable=False), Column(SEVERITY_COLUMN, STRING, nullable=False))


class BoundRule:
    """A rule with its expressions. `columns` are those of the target, the first two included."""

    __slots__ = ("columns", "outputs", "predicate", "rule")

    def __init__(self, rule: Rule, predicate: Expr, outputs: tuple[Named, ...]) -> None:
        self.rule = rule
        self.predicate = predicate
        self.outputs = outputs
        self.columns = (*_HEAD, *(Column(each.name, each.expr.type) for each in outputs))

    def node(self, source: StreamSpec) -> Project:
        """The rule as a query, for those who ask what reads what."""
        fields = tuple(Field(c.name, c.type) for c in source.columns)
        kept = Filter(fields, Scan(fields, source.name), self.predicate)
        return Project(tuple(Field(e.name, e.expr.type) for e in self.outputs), kept, self.outputs)


def spelled_out(rule: Rule, source: StreamSpec) -> Rule:
    """The rule with the columns of `*` written out: what it writes does not change when the source gets new ones."""
    if rule.columns.strip() != "*":
        return rule
    return structs.replace(rule, columns=", ".join(_quoted(column.name) for column in source.columns))


class RuleBinder:
    """`bind_rule` that remembers rules, and select lists, which many rules have in common. For several threads."""

    def __init__(self, settings: RulesSettings) -> None:
        self._rules = lru_cache(maxsize=settings.bound_max)(self._bound)
        self._lists = lru_cache(maxsize=settings.select_lists_max)(select_list)

    def __call__(self, rule: Rule, columns: tuple[Column, ...]) -> BoundRule:
        """See `bind_rule`."""
        return self._rules(rule, columns)

    def _bound(self, rule: Rule, columns: tuple[Column, ...]) -> BoundRule:
        return bind_rule(rule, columns, lists=self._lists)


def bind_rule(rule: Rule, columns: tuple[Column, ...], *, lists: SelectList | None = None) -> BoundRule:
    """Names and types resolved over the physical columns of the source.

    SqlErrors with lines and columns of the field's text; `extra` has the `rule` and the `field`.
    """
    found: dict[str, list[SqlError]] = {}
    predicate: Expr | None = None
    outputs: tuple[Named, ...] = ()
    try:
        predicate = _predicate(rule.predicate, _scope(rule.source, columns))
    except SqlErrors as refused:
        found["predicate"] = refused.errors
    try:
        outputs = (lists or select_list)(rule.columns, rule.source, columns)
    except SqlErrors as refused:
        found["columns"] = refused.errors
    for field, errors in found.items():
        raise _of_field(rule, field, errors)
    assert predicate is not None
    return BoundRule(rule, predicate, outputs)


def select_list(text: str, source: str, columns: tuple[Column, ...]) -> tuple[Named, ...]:
    """The columns that a rule writes of the rows of `source`. SqlErrors."""
    return _outputs(text, _scope(source, columns))


class _RowValues:
    """Expressions over single rows."""

    def __init__(self, scope: RowScope) -> None:
        self._scope = scope

    def value(self, node: exp.Expr) -> Expr:
        return bind_value(node, self._scope, hook=_row_alone)

    def column(self, column: Expr) -> Expr:
        return column


def _row_alone(node: exp.Expr) -> Expr | None:
    """What may stand in a rule: functions of the row."""
    if isinstance(node, exp.Anonymous) and node.name.upper() == PROCTIME:
        raise refusal(span_of(node), "unsupported", message="PROCTIME() is no value.",
                      remedy="Use the event's own time or columns.")  # fmt: skip
    return rows_only("a rule")(node)


def _scope(source: str, columns: tuple[Column, ...]) -> RowScope:
    fields = tuple(Field(column.name, column.type) for column in columns)
    return RowScope((Seen(source, fields, tuple(field.name for field in fields)),))


def _predicate(text: str, scope: RowScope) -> Expr:
    _check_length(text)
    tree = parse_expression(text)
    return bind_condition(tree, scope, what="A rule", hook=_row_alone)


def _outputs(text: str, scope: RowScope) -> tuple[Named, ...]:
    _check_length(text)
    try:
        trees = parse_statements(f"SELECT\n{text}")
        tree = trees[0] if trees else None
        if len(trees) != 1 or not isinstance(tree, exp.Select) or not tree.expressions:
            at = Span(2, 1) if len(trees) < 2 else span_of(trees[1])
            raise refusal(at, "syntax", message="A select list is expected here.",
                          remedy="Write columns with commas between them: market, price * 2 AS twice.")  # fmt: skip
        only(tree, ("expressions",), where="a rule's columns")
        return tuple(_named(tree, scope))
    except SqlErrors as refused:  # the text begins on the second line of the statement that was made of it
        raise SqlErrors([replace(each, line=max(1, each.line - 1)) for each in refused.errors]) from None


def _named(tree: exp.Select, scope: RowScope) -> list[Named]:
    outputs: list[Named] = []
    for item, found in zip(tree.expressions, _one_by_one(tree, scope), strict=True):
        at = span_of(item)
        name = found.name
        if name is None:
            raise refusal(at, "unnamed_column", message="This column has no name.", remedy="Write ... AS name.")
        if name.startswith("$") or len(name) > NAME_CHARS_MAX or not name.isprintable():  # as in CREATE TABLE
            raise refusal(at, "bad_name", message=f"'{name[:80]}' cannot name a column.",
                          remedy=f"Use at most {NAME_CHARS_MAX} characters, and no $ in front.")  # fmt: skip
        head = name.lower() in (RULE_COLUMN, SEVERITY_COLUMN)  # databases do not tell upper from lower case
        if head or name.lower() in {each.name.lower() for each in outputs}:
            why = "is written by every rule already" if head else "is there twice"
            raise refusal(at, "name_taken", message=f"The column '{name}' {why}.",
                          remedy=f"Write the columns out, with {name} AS another name.")  # fmt: skip
        if found.expr.type.kind in (Kind.NULL, Kind.INTERVAL):
            raise refusal(at, "type_mismatch", message=f"A stream has no column of the type {found.expr.type}.",
                          remedy="CAST it, for example to STRING or BIGINT.")  # fmt: skip
        polars_type(found.expr.type)
        outputs.append(Named(name, found.expr))
    return outputs


def _one_by_one(tree: exp.Select, scope: RowScope) -> list[Output]:
    """The outputs of the list, one an item: a star stands alone or not at all."""
    for item in tree.expressions:
        inner = item.this if isinstance(item, exp.Alias) else item
        star = inner.this if isinstance(inner, exp.Column) else inner
        if isinstance(star, exp.Star):
            raise refusal(span_of(tree), "unsupported", message="* stands alone, or not at all.",
                          remedy="Write the columns out.")  # fmt: skip
    return outputs_of(tree, scope, _RowValues(scope))


def _check_length(text: str) -> None:
    limits = DEFAULT_LIMITS
    if len(text) > limits.predicate_chars_max:
        message = f"The text has {len(text):,} characters."
        raise SqlErrors(
            [SqlError(1, 1, "text_too_long", message, f"At most {limits.predicate_chars_max:,} are read.")]
        )


def _of_field(rule: Rule, field: str, errors: list[SqlError]) -> SqlErrors:
    made = SqlErrors(errors)
    made.detail = f"{field} of rule '{rule.name}', {made.detail}"
    made.extra.update(rule=rule.name, field=field)
    return made


def _quoted(name: str) -> str:
    plain = name.isascii() and name.isidentifier() and name.upper() not in RESERVED
    return name if plain else "`" + name.replace("`", "``") + "`"
