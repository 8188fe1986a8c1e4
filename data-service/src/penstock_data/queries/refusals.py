"""Findings about a query: where, what, and what to write instead."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

from sqlglot import exp

from penstock.errors import SqlError, SqlErrors
from penstock.expressions.dialect import span_of
from penstock.expressions.nodes import Span

__all__ = ["closest_of", "only", "refused", "refused_at"]

_REMEDIES = {
    "into": "Queries write nothing: deploy an app with INSERT INTO.",
    "locks": "Queries lock nothing: remove FOR ...",
    "recursive": "Write the levels out as joins.",
    "qualify": "Filter in an outer SELECT.",
    "hint": "Remove the hint.",
    "version": "Tables are read as they are now.",
    "distinct": "Write SELECT DISTINCT columns, or GROUP BY.",
    "method": "Write JOIN ... ON a = b.",
    "except_": "Name the columns.",
    "replace": "Name the columns.",
    "columns": "Name the columns in the SELECT list.",
    "match": "Write a join or window functions.",
    "joins": "Write the joins without parentheses, or a SELECT in them.",
    "ordinality": "Write ROW_NUMBER() OVER (ORDER BY ...).",
    "with_": "Write WITH before the whole query.",
    "windows": "Write the window in OVER (...).",
}


def closest_of(name: str, known: Iterable[str]) -> str:
    """The remedy for a name that is not known."""
    names = sorted(known)
    close = get_close_matches(name, names, n=1)
    return f"Did you mean {close[0]}?" if close else f"There are: {', '.join(names[:20]) or 'none'}."


def refused_at(span: Span, code: str, message: str, remedy: str) -> SqlErrors:
    """The error for one finding."""
    return SqlErrors([SqlError(span.line, span.column, code, message, remedy)])


def refused(node: exp.Expr, code: str, message: str, remedy: str) -> SqlErrors:
    """The error for one finding at a node."""
    return refused_at(span_of(node), code, message, remedy)


def only(node: exp.Expr, allowed: tuple[str, ...], *, where: str) -> None:
    """Refuses a node with more than the named parts: the parser reads more than queries may have."""
    for part, value in node.args.items():
        if part not in allowed and value:
            what = part.rstrip("_").upper().replace("_", " ")
            raise refused(
                node, "unsupported", f"{what} is not supported in {where}.", _REMEDIES.get(part, "Remove it.")
            )
