"""Expressions and plan nodes as text: stable, readable, one line a node. The print is what explain tests compare."""

from __future__ import annotations

import datetime as dt
import re
from functools import partial

from penstock.expressions.nodes import Call, Case, Cast, ColumnRef, Expr, Literal
from penstock.model.types import Kind
from penstock_processor.logical.bounded_joins import BoundedJoin, TemporalJoin, WindowJoin
from penstock_processor.logical.match_printing import match_text
from penstock_processor.logical.plan import (
    Aggregate,
    AggregateCall,
    Expand,
    Filter,
    FinalAggregate,
    GroupAggregate,
    IntervalJoin,
    JoinKind,
    Named,
    Node,
    PartialAggregate,
    Project,
    Repartition,
    Route,
    Scan,
    Union,
    WindowAssign,
    WindowKind,
)
from penstock_processor.logical.plan_keyed import Ranked, RegularJoin, SortKey, TopN
from penstock_processor.logical.plan_lookup import LookupJoin
from penstock_processor.logical.plan_match import MatchRecognize
from penstock_processor.logical.plan_over import OverAggregate, WindowTopN
from penstock_processor.logical.plan_proctime import ProcessingTime
from penstock_processor.logical.plan_unnest import Unnest
from penstock_processor.logical.rewrite import inputs_of

__all__ = ["expr_text", "interval_text", "name_text", "node_line", "tree_text"]

_PLAIN_NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_UNITS_MS = (("DAY", 86_400_000), ("HOUR", 3_600_000), ("MINUTE", 60_000), ("SECOND", 1_000))


def expr_text(expr: Expr, *, typed: bool = False) -> str:
    """SQL-like text; operators in parentheses, so that equal text means equal trees. `typed` names column types."""
    match expr:
        case ColumnRef():
            return f"{name_text(expr.name)}:{expr.type}" if typed else name_text(expr.name)
        case Literal():
            return _literal(expr)
        case Cast():
            return f"{'TRY_CAST' if expr.lenient else 'CAST'}({expr_text(expr.arg, typed=typed)} AS {expr.target})"
        case Case():
            parts = [f"WHEN {expr_text(w, typed=typed)} THEN {expr_text(t, typed=typed)}" for w, t in expr.branches]
            if expr.otherwise is not None:
                parts.append(f"ELSE {expr_text(expr.otherwise, typed=typed)}")
            return f"CASE {' '.join(parts)} END"
        case Call():
            return _call(expr.function, [expr_text(a, typed=typed) for a in expr.args])
        case _:
            raise TypeError(f"no text for {type(expr).__name__}")


def tree_text(node: Node, *, typed: bool = False) -> list[str]:
    """One line a node, inputs indented below."""
    lines = [node_line(node, typed=typed)]
    for one in inputs_of(node):
        lines.extend("  " + line for line in tree_text(one, typed=typed))
    return lines


def node_line(node: Node, *, typed: bool = False) -> str:
    """What the node does, without its inputs."""
    match node:
        case Scan():
            return f"Scan {name_text(node.relation)}"
        case Filter():
            return f"Filter {expr_text(node.predicate, typed=typed)}"
        case Project():
            return f"Project {', '.join(_named(n, typed=typed) for n in node.exprs)}"
        case Unnest():
            return _unnest(node, typed=typed)
        case ProcessingTime():
            return f"ProcessingTime {name_text(node.column)}"
        case WindowAssign():
            return _window(node)
        case Aggregate():
            return f"Aggregate {_grouping(node, typed=typed)}{_updates(node)}"
        case Expand():
            texts = [expr_text(key.expr, typed=typed) for key in node.keys]
            sets = ", ".join(f"({', '.join(texts[n] for n in each)})" for each in node.sets)
            return f"Expand {', '.join(_named(n, typed=typed) for n in node.keys)}: {sets}"
        case GroupAggregate():
            # How long state is kept is no part of what it is: it stays when the setting changes.
            kept = "" if typed else f" [kept {interval_text(node.ttl_ms)}]"
            return f"GroupAggregate {_grouping(node, typed=typed)}{kept}"
        case PartialAggregate():
            return f"{'PartialAggregate' if node.combined else 'Rows to aggregate'} {_grouping(node.of, typed=typed)}"
        case FinalAggregate():
            return f"FinalAggregate {_grouping(node.of, typed=typed)}{_updates(node.of)}"
        case Repartition():
            return _repartition(node)
        case Union():
            return "Union"
        case MatchRecognize():
            text = partial(expr_text, typed=typed)
            return match_text(node, text, interval=interval_text, name=name_text, kept=not typed)
        case IntervalJoin() | TemporalJoin() | WindowJoin():
            return _join(node, typed=typed)
        case LookupJoin():
            return _lookup(node, typed=typed)
        case RegularJoin():
            kept = "" if typed or node.ttl_ms is None else f" [kept {interval_text(node.ttl_ms)}]"
            return f"{_join(node, typed=typed)}{kept}"
        case Ranked():
            return f"Ranked {_ranking(node.partition, node.order)}"
        case OverAggregate():
            return _over(node, typed=typed)
        case WindowTopN():
            latest = " latest first" if node.latest else ""
            return f"WindowTopN {node.limit} {_ranking(node.partition, node.order)}{latest}"
        case TopN():
            return _top(node, typed=typed)
        case _:
            raise TypeError(f"no text for {type(node).__name__}")


def name_text(name: str) -> str:
    """A name as SQL writes it: in backticks where it needs them."""
    return name if _PLAIN_NAME.fullmatch(name) else "`" + name.replace("`", "``") + "`"


def interval_text(ms: int) -> str:
    """`1 DAY`, `90 SECOND`, `0.500 SECOND`: the largest unit that divides."""
    for unit, unit_ms in _UNITS_MS:
        if ms % unit_ms == 0 and (ms or unit == "SECOND"):
            return f"{ms // unit_ms} {unit}"
    return f"{'-' if ms < 0 else ''}{abs(ms) // 1000}.{abs(ms) % 1000:03d} SECOND"


def _literal(expr: Literal) -> str:
    value = expr.value
    if value is None:
        return "NULL" if expr.type.kind is Kind.NULL else f"CAST(NULL AS {expr.type})"
    if expr.type.kind is Kind.INTERVAL and isinstance(value, int):
        return f"INTERVAL {interval_text(value)}"
    match value:
        case bool():
            return str(value).upper()
        case str():
            return "'" + value.replace("'", "''") + "'"
        case bytes():
            return f"x'{value.hex()}'"
        case dt.datetime():
            return f"TIMESTAMP '{value.isoformat(sep=' ', timespec='milliseconds')}'"
        case dt.date():
            return f"DATE '{value.isoformat()}'"
        case dt.time():
            return f"TIME '{value.isoformat()}'"
        case float():
            return repr(value) if "e" in repr(value) else f"{value!r}e0"
        case _:
            return str(value)


def _call(function: str, args: list[str]) -> str:
    word = function.upper()
    infix = (
        not word.replace("_", "").replace(" ", "").isalnum()
        or word in ("AND", "OR", "LIKE", "NOT LIKE", "SIMILAR TO")
        or (word.startswith("IS ") and len(args) == 2)
    )
    if word in ("LIKE", "SIMILAR TO") and len(args) == 3:
        return f"({args[0]} {word} {args[1]} ESCAPE {args[2]})"
    if word == "IS JSON":
        kind = args[1].strip("'")
        return f"({args[0]} IS {kind})"
    if infix and len(args) >= 2:
        return f"({f' {word} '.join(args)})"
    if word.startswith("IS ") and len(args) == 1:
        return f"({args[0]} {word})"
    if len(args) == 1 and word in ("NOT", "-", "+"):
        return f"({word} {args[0]})"
    return f"{word}({', '.join(args)})"


def _named(named: Named, *, typed: bool) -> str:
    text = expr_text(named.expr, typed=typed)
    plain = isinstance(named.expr, ColumnRef) and named.expr.name == named.name
    return text if plain else f"{text} AS {name_text(named.name)}"


def _grouping(node: Aggregate | GroupAggregate, *, typed: bool) -> str:
    by = [_named(k, typed=typed) for k in node.keys]
    by += node.window_columns if isinstance(node, Aggregate) else ()
    calls = ", ".join(_aggregate_call(c, typed=typed) for c in node.calls) or "nothing else"
    return f"by {', '.join(by) or 'nothing'}: {calls}"


def _updates(node: Aggregate) -> str:
    late = f" [late {interval_text(node.lateness_ms)}]" if node.lateness_ms else ""
    return f"{' [early]' if node.early else ''}{late}"


def _unnest(node: Unnest, *, typed: bool) -> str:
    names = ", ".join(map(name_text, node.names))
    text = f"Unnest {expr_text(node.collection, typed=typed)} AS {names}"
    return f"{'Outer ' if node.outer else ''}{text}{' WITH ORDINALITY' if node.ordinality else ''}"


def _repartition(node: Repartition) -> str:
    match node.route:
        case Route.HASH:
            return f"Repartition by {', '.join(name_text(name) for name in node.by)}"
        case Route.SAME:
            return "Repartition to the same partition"
        case Route.FIRST:
            return "Repartition to the first partition"


def _ranking(partition: tuple[str, ...], order: tuple[SortKey, ...]) -> str:
    by = f"by {', '.join(name_text(name) for name in partition)} " if partition else ""
    keys = []
    for key in order:
        usual = key.nulls_last == key.descending
        nulls = "" if usual else " NULLS LAST" if key.nulls_last else " NULLS FIRST"
        keys.append(f"{name_text(key.column)}{' DESC' if key.descending else ''}{nulls}")
    return f"{by}order {', '.join(keys)}"


def _top(node: TopN, *, typed: bool) -> str:
    rank = " with rank" if node.ranked else ""
    kept = "" if typed or node.ttl_ms is None else f" [kept {interval_text(node.ttl_ms)}]"
    latest = " latest first" if node.latest else ""
    return f"TopN {node.limit} {_ranking(node.partition, node.order)}{latest}{rank}{kept}"


def _over(node: OverAggregate, *, typed: bool) -> str:
    by = f"by {', '.join(name_text(name) for name in node.partition)} " if node.partition else ""
    preceding = "all" if node.preceding is None else node.preceding if node.rows else interval_text(node.preceding)
    frame = f"{'rows' if node.rows else 'range'} {preceding} before"
    calls = ", ".join(_aggregate_call(call, typed=typed) for call in node.calls)
    return f"Over {by}order {name_text(node.time_column)} {frame}: {calls}"


def _window(node: WindowAssign) -> str:
    if node.kind is WindowKind.ATTACHED:
        return "Windows of the input"
    if node.kind is WindowKind.SESSION:
        by = f" by {', '.join(name_text(name) for name in node.partition)}" if node.partition else ""
        return f"SESSION {name_text(node.time_column)} gap {interval_text(node.size_ms)}{by}"
    word = "by" if node.kind is WindowKind.CUMULATE else "every"
    slide = f" {word} {interval_text(node.slide_ms)}" if node.slide_ms != node.size_ms else ""
    offset = f" offset {interval_text(node.offset_ms)}" if node.offset_ms else ""
    return f"{node.kind} {name_text(node.time_column)} size {interval_text(node.size_ms)}{slide}{offset}"


def _aggregate_call(call: AggregateCall, *, typed: bool) -> str:
    arg = "*" if call.arg is None else expr_text(call.arg, typed=typed)
    options = "".join(f", {option!r}" for option in call.options)
    text = f"{call.function}({'DISTINCT ' if call.distinct else ''}{arg}{options})"
    if call.filter is not None:
        text += f" FILTER (WHERE {expr_text(call.filter, typed=typed)})"
    return f"{text} AS {name_text(call.name)}"


def _lookup(node: LookupJoin, *, typed: bool) -> str:
    keys = " AND ".join(
        f"{expr_text(key, typed=typed)} = {name_text(column)}"
        for key, column in zip(node.left_keys, node.key_columns, strict=True)
    )
    kind = "" if node.kind is JoinKind.INNER else f"{node.kind} "
    residual = f" residual {expr_text(node.residual, typed=typed)}" if node.residual is not None else ""
    shown = ", ".join(
        column.name if column.name == name else f"{column.name} AS {name}"
        for column, name in zip(node.table.columns, node.right_names, strict=True)
    )
    return f"{kind}LookupJoin {name_text(node.table.name)} on {keys}{residual} with ({shown})"


def _join(node: BoundedJoin | RegularJoin, *, typed: bool) -> str:
    keys = " AND ".join(
        f"{expr_text(left, typed=typed)} = {expr_text(right, typed=typed)}"
        for left, right in zip(node.left_keys, node.right_keys, strict=True)
    )
    residual = f" residual {expr_text(node.residual, typed=typed)}" if node.residual is not None else ""
    sides = [
        "("
        + ", ".join(
            f.name if f.name == new else f"{f.name} AS {new}" for f, new in zip(side.fields, names, strict=True)
        )
        + ")"
        for side, names in ((node.left, node.left_names), (node.right, node.right_names))
    ]
    kind = "" if node.kind is JoinKind.INNER else f"{node.kind} "
    within = ""
    if isinstance(node, IntervalJoin):
        between = f"{name_text(node.left_time)} - {name_text(node.right_time)}"
        within = f" within {interval_text(node.lower_ms)} <= {between} <= {interval_text(node.upper_ms)}"
    elif isinstance(node, TemporalJoin):
        order = " in order" if node.in_order else ""
        within = f" as of {name_text(node.left_time)} by {name_text(node.right_time)}{order}"
    return f"{kind}{type(node).__name__} on {keys}{within}{residual} left {sides[0]} right {sides[1]}"
