"""FROM t MATCH_RECOGNIZE (...): the clauses of a pattern bound to a plan node, and what Flink refuses refused here.

Flink: "Pattern Recognition". Variables of a pattern are distinct and stand in a row; a match has at least one row;
the last variable is not greedy.
"""

from __future__ import annotations

from sqlglot import exp

from penstock.errors import SqlErrors
from penstock.expressions.dialect import span_of
from penstock.expressions.nodes import ColumnRef, Expr, Literal, Span
from penstock.model.types import Kind
from penstock_processor.logical.changes import refuse_updating
from penstock_processor.logical.expressions import bind_constant
from penstock_processor.logical.match_expressions import MatchExpressions
from penstock_processor.logical.plan import Field, Named, Node
from penstock_processor.logical.plan_match import (
    MATCH_INSTANT,
    MATCH_TIME,
    MatchOrder,
    MatchRecognize,
    PatternVariable,
    Skip,
)
from penstock_processor.logical.scope import RowScope, Seen
from penstock_processor.logical.settings import STATE_TTL
from penstock_processor.sql.findings import closest, refusal
from penstock_processor.sql.limits import SqlLimits
from penstock_processor.sql.parse import identifier

__all__ = ["bind_match"]

#: Rows that quantifiers may count: each is a state of the pattern.
_STATES_MAX = 1_000


def bind_match(tree: exp.MatchRecognize, data: Node, *, limits: SqlLimits, ttl_ms: int | None) -> MatchRecognize:
    """The node over `data`, the rows in front of MATCH_RECOGNIZE. Raises SqlErrors.

    `ttl_ms`: after what time without use state is forgotten (table.exec.state.ttl).
    """
    at = span_of(tree)
    refuse_updating(data, at=at, reader="MATCH_RECOGNIZE")
    rows = RowScope((Seen("", data.fields, tuple(f.name for f in data.fields)),))
    time, order = _order(tree, data)
    names = [item.name for item in tree.args["pattern"]]
    expressions = MatchExpressions(rows, ColumnRef(time.type, name=time.name), names)
    partition = _partition(tree, data)
    pattern = _pattern(tree, expressions)
    measures = _measures(tree, expressions, taken={f.name for f in partition})
    if not measures:
        raise refusal(at, "syntax", message="MATCH_RECOGNIZE tells nothing of its matches.",
                      remedy="Write MEASURES A.price AS price behind ORDER BY.")  # fmt: skip
    skip, skip_to = _skip(tree, pattern)
    within_ms = _within(tree)
    if within_ms is None and ttl_ms is None and _waits(pattern):
        raise refusal(
            at,
            "unbounded_state",
            message="A match that has begun may wait for its next row for ever.",
            remedy=f"Write WITHIN INTERVAL '1' HOUR behind PATTERN (...), or SET '{STATE_TTL}' = '1 h' (how long a "
            "key is kept that has no row).",
        )
    fields = (*(Field(f.name, f.type) for f in partition),
              *(Field(m.name, m.expr.type, _is_time(m.expr)) for m in measures))  # fmt: skip
    once = [n for n, field in enumerate(fields) if field.rowtime][1:]
    shown = tuple(Field(f.name, f.type) if n in once else f for n, f in enumerate(fields))
    return MatchRecognize(
        shown, data, tuple(f.name for f in partition), time.name, order, pattern, skip, skip_to, within_ms, measures,
        tuple(expressions.reaches), tuple(expressions.aggregates), limits.pattern_matches_max,
        limits.pattern_rows_max, ttl_ms, span=at,
    )  # fmt: skip


def _waits(pattern: tuple[PatternVariable, ...]) -> bool:
    """Whether a match can have more than one row."""
    return len(pattern) > 1 or pattern[0].most is None or pattern[0].most > 1


def _is_time(expr: Expr) -> bool:
    return isinstance(expr, ColumnRef) and expr.name in (MATCH_TIME, MATCH_INSTANT)


def _named_column(node: exp.Expr, data: Node, *, what: str) -> Field:
    at = span_of(node)
    if not isinstance(node, exp.Column) or node.args.get("table"):
        raise refusal(at, "syntax", message=f"{what} takes names of columns.", remedy="Compute it in an inner query.")
    for field in data.fields:
        if field.name == node.name:
            return field
    names = [field.name for field in data.fields]
    raise refusal(
        at,
        "unknown_column",
        message=f"There is no column '{node.name}'.",
        remedy=closest(node.name, names, otherwise=f"Columns are {', '.join(names[:20])}."),
    )


def _partition(tree: exp.MatchRecognize, data: Node) -> list[Field]:
    found: list[Field] = []
    for node in tree.args.get("partition_by") or []:
        field = _named_column(node, data, what="PARTITION BY")
        if field in found:
            raise refusal(span_of(node), "name_taken", message=f"'{field.name}' is there twice.", remedy="Remove it.")
        found.append(field)
    return found


def _order(tree: exp.MatchRecognize, data: Node) -> tuple[Field, tuple[MatchOrder, ...]]:
    """The event time, and the order of rows of one moment."""
    terms = tree.args["order"]
    time = _named_column(terms[0].this, data, what="ORDER BY")
    at = span_of(terms[0].this)
    times = [f.name for f in data.fields if f.rowtime]
    if not time.rowtime:
        raise refusal(
            at,
            "no_event_time",
            message=f"'{time.name}' is not an event time here; patterns go by time first.",
            remedy=f"Begin ORDER BY with '{times[0]}'."
            if times
            else "MATCH_RECOGNIZE needs a column with WATERMARK; casts and functions lose it.",
        )
    if terms[0].args.get("desc"):
        raise refusal(at, "unsupported", message="Time goes forward only.", remedy=f"Write ORDER BY {time.name}.")
    found = []
    for term in terms[1:]:
        field = _named_column(term.this, data, what="ORDER BY")
        down = bool(term.args.get("desc"))
        found.append(MatchOrder(field.name, down, not term.args.get("nulls_first")))
    return time, tuple(found)


def _pattern(tree: exp.MatchRecognize, expressions: MatchExpressions) -> tuple[PatternVariable, ...]:
    conditions = _conditions(tree, expressions)
    found: list[PatternVariable] = []
    for item in tree.args["pattern"]:
        at, name = span_of(item), item.name
        if any(name == other.name for other in found):
            raise refusal(at, "name_taken", message=f"The pattern has '{name}' twice.",
                          remedy="Give the second one another name, and define it in the same way.")  # fmt: skip
        least, most = int(item.expressions[0].name), item.expressions[1]
        upper = None if isinstance(most, exp.Null) else int(most.name)
        optional = (least, upper) == (0, 1)
        if optional and item.expressions[2].this:
            raise refusal(at, "unsupported", message=f"The reluctant '{name}??' is not supported.",
                          remedy=f"Write {name}? or {name}{{0,2}}?.")  # fmt: skip
        greedy = bool(item.args.get("greedy")) and not optional and least != upper
        if least == 0 and found and found[-1].greedy:
            raise refusal(at, "unsupported", message=f"The optional '{name}' stands behind a greedy variable.",
                          remedy=f"Write a reluctant quantifier behind {found[-1].name}: *? or +?.")  # fmt: skip
        found.append(PatternVariable(name, least, upper, greedy, conditions.get(name)))
    last, at = found[-1], span_of(tree.args["pattern"][-1])
    if last.greedy:
        raise refusal(
            at,
            "unsupported",
            message=f"The last variable '{last.name}' is greedy: no match would ever be known to have ended.",
            remedy=f"Write a reluctant quantifier behind {last.name}, such as +? or {{1,3}}?, or what ends it.",
        )
    if all(variable.least == 0 for variable in found):
        raise refusal(at, "unsupported", message="This pattern matches no rows at all.",
                      remedy="Let at least one variable take a row: A+ instead of A*.")  # fmt: skip
    if sum(max(v.least, v.most or 1) for v in found) > _STATES_MAX:
        raise refusal(at, "too_large", message="The quantifiers count too many rows.",
                      remedy=f"At most {_STATES_MAX:,} in all; {{n,}} has no upper limit.")  # fmt: skip
    return tuple(found)


def _conditions(tree: exp.MatchRecognize, expressions: MatchExpressions) -> dict[str, Expr]:
    names = [item.name for item in tree.args["pattern"]]
    found: dict[str, Expr] = {}
    for definition in tree.args.get("define") or []:
        name, at = definition.alias, span_of(definition.args["alias"])
        if name not in names:
            raise refusal(at, "unknown_variable", message=f"The pattern has no variable '{name}'.",
                          remedy=closest(name, names, otherwise=f"Variables are {', '.join(names)}."))  # fmt: skip
        if name in found:
            raise refusal(at, "name_taken", message=f"'{name}' is defined twice.",
                          remedy="Combine the conditions with AND or OR.")  # fmt: skip
        found[name] = expressions.condition(definition.this, name)
    return found


def _measures(tree: exp.MatchRecognize, expressions: MatchExpressions, *, taken: set[str]) -> tuple[Named, ...]:
    found: list[Named] = []
    for measure in tree.args.get("measures") or []:
        at = span_of(measure.args["alias"])
        name = identifier(measure.args["alias"], otherwise=at, what="a measure").text
        if name in taken:
            raise refusal(at, "name_taken", message=f"The name '{name}' is given twice.", remedy="Use another name.")
        taken.add(name)
        found.append(Named(name, expressions.measure(measure.this)))
    return tuple(found)


def _skip(tree: exp.MatchRecognize, pattern: tuple[PatternVariable, ...]) -> tuple[Skip, str | None]:
    after = tree.args.get("after")
    skip = Skip.TO_NEXT_ROW if after is None else Skip(after.name)
    if skip in (Skip.PAST_LAST_ROW, Skip.TO_NEXT_ROW):
        return skip, None
    target = tree.args["target"]
    at, names = _place(target, tree), [variable.name for variable in pattern]
    if target.name not in names:
        raise refusal(at, "unknown_variable", message=f"The pattern has no variable '{target.name}'.",
                      remedy=closest(target.name, names, otherwise=f"Variables are {', '.join(names)}."))  # fmt: skip
    first = pattern[0]
    if target.name == first.name and first.least > 0 and (skip is Skip.TO_FIRST or first.most == 1):
        raise _endless(at, first.name)
    return skip, str(target.name)


def _endless(at: Span, name: str) -> SqlErrors:
    return refusal(
        at,
        "unsupported",
        message=f"A match begins with '{name}': to skip to it would find the same match for ever.",
        remedy="Write AFTER MATCH SKIP TO NEXT ROW.",
    )


def _place(node: exp.Expr, tree: exp.Expr) -> Span:
    return span_of(node) if "line" in node.meta else span_of(tree)


def _within(tree: exp.MatchRecognize) -> int | None:
    node = tree.args.get("within")
    if node is None:
        return None
    value = bind_constant(node)
    fits = isinstance(value, Literal) and value.type.kind is Kind.INTERVAL and isinstance(value.value, int)
    if not fits or value.value <= 0:  # type: ignore[attr-defined]  # a literal: just asked
        raise refusal(span_of(node), "type_mismatch", message="WITHIN takes an interval above zero.",
                      remedy="Write WITHIN INTERVAL '10' MINUTE.")  # fmt: skip
    return int(value.value)  # type: ignore[attr-defined]  # likewise
