"""A private Flink dialect for sqlglot, and the two entries to it: statements and single expressions.

Function calls stay as written (`exp.Anonymous` with the name and the place): sqlglot's own function classes translate
between dialects and lose what Flink means. Special syntaxes become calls too: `EXTRACT(HOUR FROM ts)` is
EXTRACT(Var HOUR, ts), `TRIM(BOTH 'x' FROM s)` is TRIM(Var BOTH, 'x', s), `FLOOR(ts TO DAY)` is FLOOR(ts, Var DAY).
Table functions are `exp.Table(this=exp.Anonymous(TUMBLE, [exp.Table t, Anonymous DESCRIPTOR, ...]))`.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from sqlglot import Token, TokenType, exp
from sqlglot.dialects.dialect import Dialect
from sqlglot.errors import ErrorLevel, ParseError

from penstock.errors import PenstockError, SqlError, SqlErrors
from penstock.expressions.nodes import NOWHERE, Span
from penstock.expressions.parser import STATEMENT_REMEDY, FlinkParser
from penstock.expressions.settings import DEFAULT_LIMITS, ExpressionSettings
from penstock.expressions.tokens import FlinkTokenizer, scan

__all__ = ["Flink", "FlinkParser", "first_operand", "parse_expression", "parse_statements", "refuse_compiled_build",
           "run_parser", "span_of", "statement_text"]  # fmt: skip

_BEGIN_WITH_THIS = (exp.Binary, exp.Unary, exp.In, exp.Between, exp.Cast, exp.Alias, exp.Bracket, exp.AtTimeZone,
                    exp.SetOperation, exp.Subquery, exp.From, exp.Join, exp.Where)  # fmt: skip
_STATEMENTS = (TokenType.CREATE, TokenType.INSERT, TokenType.SET, TokenType.SELECT, TokenType.WITH)


def parse_statements(text: str, limits: ExpressionSettings = DEFAULT_LIMITS) -> list[exp.Expr]:
    """Syntax trees of the statements of an app, in text order. Raises SqlErrors: the first error of each statement.

    A statement set (`EXECUTE STATEMENT SET BEGIN ...; END;`) gives its statements. `span_of(node)` and
    `statement_text(node)` tell where a statement stood and what it said.
    """
    statements: list[exp.Expr] = []
    findings: list[SqlError] = []
    for tokens in _split(scan(text, limits)):
        if tokens[0].token_type not in _STATEMENTS:
            findings.append(_not_a_statement(tokens[0]))
            continue
        try:
            statement = run_parser(FlinkParser._parse_statement, tokens, text)
        except SqlErrors as error:
            findings.extend(error.errors)
            continue
        statement.meta.update(line=tokens[0].line, col=tokens[0].col,
                              text=text[tokens[0].start : tokens[-1].end + 1])  # fmt: skip
        statements.append(statement)
    if findings:
        raise SqlErrors(findings)
    return statements


def parse_expression(text: str, limits: ExpressionSettings = DEFAULT_LIMITS) -> exp.Expr:
    """Syntax tree of one scalar expression. Raises SqlErrors."""
    tokens = scan(text, limits)
    if not tokens:
        raise SqlErrors([SqlError(1, 1, "empty", "The expression is empty.", "Write one, for example: price > 10.")])
    for token in tokens:
        if token.token_type is TokenType.SEMICOLON:
            raise SqlErrors([SqlError(token.line, token.col, "syntax", "An expression ends before ';'.",
                                      "Remove the semicolon.")])  # fmt: skip
    return run_parser(FlinkParser._parse_disjunction, tokens, text)


@lru_cache(maxsize=1)
def refuse_compiled_build() -> None:
    """Raise if the compiled build of the parser is importable: it cannot be subclassed. Asked once a process."""
    if importlib.util.find_spec("sqlglotc") is not None:
        raise PenstockError(
            "internal",
            "the compiled build of sqlglot (package 'sqlglotc') is installed here and refuses dialects; "
            "remove it with: pip uninstall sqlglotc",
        )


def span_of(node: exp.Expr) -> Span:
    """Place of the first character of `node`: names, literals and calls carry it, operators begin with an operand."""
    start: exp.Expr | None = node
    while start is not None and not _has_place(start):
        start = first_operand(start)
    if start is not None:
        return Span(start.meta["line"], start.meta["col"])
    places = [(n.meta["line"], n.meta["col"]) for n in node.walk() if _has_place(n)]
    return Span(*min(places)) if places else NOWHERE


def first_operand(node: exp.Expr) -> exp.Expr | None:
    """The part that an expression's text begins with, as far as that is known by its kind."""
    if isinstance(node, exp.Column):
        return node.parts[0]
    if isinstance(node, exp.Select):
        return node.expressions[0] if node.expressions else None
    found = node.this if isinstance(node, _BEGIN_WITH_THIS) else None
    return found if isinstance(found, exp.Expr) else None


def _has_place(node: exp.Expr) -> bool:
    return bool(node._meta) and "line" in node.meta


def statement_text(node: exp.Expr) -> str:
    """Text of a statement as it was written, without the semicolon."""
    return str(node.meta["text"])


def run_parser(
    method: Callable[[Any], Any], tokens: list[Token], text: str, *, kind: type[FlinkParser] = FlinkParser
) -> exp.Expr:
    """What `method` of a parser of this kind makes of all tokens. Raises SqlErrors."""
    refuse_compiled_build()
    parser = kind(dialect=Flink(), error_level=ErrorLevel.IMMEDIATE)
    try:
        tree = parser.parse_all(method, tokens, text)
    except ParseError as error:
        raise SqlErrors([_syntax(error, tokens)]) from None
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):  # sqlglot's way with some broken texts
        tree = None
    except RecursionError:
        raise SqlErrors([SqlError(tokens[0].line, tokens[0].col, "too_deep", "This is nested too deeply.",
                                  "Split it: compute parts in a view or a computed column.")]) from None  # fmt: skip
    if not isinstance(tree, exp.Expr):
        raise SqlErrors([SqlError(tokens[0].line, tokens[0].col, "syntax", "Nothing can be made of this.",
                                  "Write a statement or an expression.")])  # fmt: skip
    return tree


def _syntax(error: ParseError, tokens: list[Token]) -> SqlError:
    first = error.errors[0] if error.errors else {}
    line, column = int(first.get("line") or tokens[-1].line), int(first.get("col") or tokens[-1].col)
    text = str(first.get("highlight") or "").strip()[:40]
    description = str(first.get("description") or "Unexpected text")
    message, _, remedy = description.partition(" | ")
    if not remedy:
        if description.startswith("Required keyword"):
            message = "Something is missing"
        elif "Unexpected token" in description:
            message = "This does not fit"
        message = f"{message.rstrip('.')} at '{text}'" if text else message
        remedy = "Check the spelling and the order."
    return SqlError(line, column, "syntax", f"{message.rstrip('.')}.", remedy)


def _not_a_statement(token: Token) -> SqlError:
    word = token.text.upper()
    remedy = STATEMENT_REMEDY
    if word == "FROM":
        remedy = "Write SELECT ... FROM ..."
    return SqlError(
        token.line, token.col, "unsupported_statement", f"A statement cannot begin with '{word}'.", remedy
    )


def _split(tokens: list[Token]) -> list[list[Token]]:
    """Statements between semicolons; the frame of a statement set is taken off."""
    statements: list[list[Token]] = []
    current: list[Token] = []
    in_set = False
    for token in tokens:
        if token.token_type is not TokenType.SEMICOLON:
            current.append(token)
            if len(current) == 4 and [t.text.upper() for t in current] == ["EXECUTE", "STATEMENT", "SET", "BEGIN"]:
                in_set, current = True, []
            continue
        if in_set and len(current) == 1 and current[0].token_type is TokenType.END:
            in_set = False
        elif current:
            statements.append(current)
        current = []
    if current and not (in_set and len(current) == 1 and current[0].token_type is TokenType.END):
        statements.append(current)
    return statements


class Flink(Dialect):
    """Flink SQL as far as Penstock speaks it."""

    Tokenizer = FlinkTokenizer
    Parser = FlinkParser
