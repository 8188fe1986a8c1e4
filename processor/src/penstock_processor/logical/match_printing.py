"""A pattern as text and as JSON, for `explain` and for the identity that keeps its state."""

from __future__ import annotations

from collections.abc import Callable

from penstock.expressions.nodes import Expr
from penstock_processor.logical.plan_match import MatchAggregate, MatchOrder, MatchRecognize, PatternVariable, Reach

__all__ = ["match_json", "match_text", "pattern_text"]

Text = Callable[[Expr], str]


def match_text(
    node: MatchRecognize, text: Text, *, interval: Callable[[int], str], name: Callable[[str], str], kept: bool
) -> str:
    """One line. `text`, `interval`, `name`: how expressions, durations and names are printed.

    `kept`: with how long silent keys are kept, which may change without an end to the state.
    """
    parts = ["MatchRecognize"]
    if node.partition:
        parts.append(f"by {', '.join(map(name, node.partition))}")
    parts.append(f"order {', '.join([name(node.time_column), *(_order(term, name) for term in node.order)])}")
    parts.append(f"pattern ({pattern_text(node.pattern, name)})")
    parts += [] if node.within_ms is None else [f"within {interval(node.within_ms)}"]
    parts.append(f"skip {node.skip}{'' if node.skip_to is None else ' ' + name(node.skip_to)}")
    defined = [f"{name(v.name)} AS {text(v.condition)}" for v in node.pattern if v.condition is not None]
    parts += [f"define {', '.join(defined)}"] if defined else []
    parts.append(f"measures {', '.join(f'{text(m.expr)} AS {name(m.name)}' for m in node.measures) or 'none'}")
    hidden = [_reach(reach, name) for reach in node.reaches]
    hidden += [_aggregate(each, text, name) for each in node.aggregates]
    parts += [f"with {', '.join(hidden)}"] if hidden else []
    parts += [f"[kept {interval(node.ttl_ms)}]"] if kept and node.ttl_ms is not None else []
    return " ".join(parts)


def match_json(node: MatchRecognize, text: Text, name: Callable[[str], str]) -> dict[str, object]:
    """The node's own entries of `explain --json`."""
    return {
        "partition": list(node.partition),
        "time_column": node.time_column,
        "order": [{"column": term.column, "descending": term.descending} for term in node.order],
        "pattern": pattern_text(node.pattern, name),
        "within_ms": node.within_ms,
        "skip": str(node.skip),
        "skip_to": node.skip_to,
        "define": {v.name: text(v.condition) for v in node.pattern if v.condition is not None},
        "measures": [{"name": m.name, "expr": text(m.expr)} for m in node.measures],
        "reaches": [_reach(reach, name) for reach in node.reaches],
        "aggregates": [_aggregate(each, text, name) for each in node.aggregates],
    }


def pattern_text(pattern: tuple[PatternVariable, ...], name: Callable[[str], str]) -> str:
    """As PATTERN (...) says it."""
    return " ".join(f"{name(variable.name)}{_quantifier(variable)}" for variable in pattern)


def _quantifier(variable: PatternVariable) -> str:
    least, most = variable.least, variable.most
    if (least, most) == (1, 1):
        return ""
    text = {(0, None): "*", (1, None): "+", (0, 1): "?"}.get((least, most))
    if text is None:
        text = f"{{{least}}}" if least == most else f"{{{least},{'' if most is None else most}}}"
    reluctant = not variable.greedy and least != most and (least, most) != (0, 1)
    return f"{text}?" if reluctant else text


def _order(term: MatchOrder, name: Callable[[str], str]) -> str:
    nulls = "" if term.nulls_last == term.descending else " NULLS LAST" if term.nulls_last else " NULLS FIRST"
    return f"{name(term.column)}{' DESC' if term.descending else ''}{nulls}"


def _reach(reach: Reach, name: Callable[[str], str]) -> str:
    variable = "" if reach.variable is None else f"{name(reach.variable)}."
    offset = f", {reach.offset}" if reach.offset else ""
    return f"{reach.name} = {'FIRST' if reach.first else 'LAST'}({variable}{name(reach.column)}{offset})"


def _aggregate(each: MatchAggregate, text: Text, name: Callable[[str], str]) -> str:
    rows = "all" if each.variable is None else name(each.variable)
    return f"{each.name} = {each.function}({text(each.arg)}) of {rows}"
