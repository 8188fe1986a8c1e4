"""Queries over stored rows: one SELECT in the SQL of apps, with parameters, EXCEPT and INTERSECT beside it."""

from __future__ import annotations

from sqlglot import TokenType, exp

from penstock.errors import SqlError, SqlErrors
from penstock.expressions.dialect import FlinkParser, run_parser
from penstock.expressions.settings import DEFAULT_LIMITS, ExpressionSettings
from penstock.expressions.tokens import scan

__all__ = ["QueryParser", "parse_query"]

_BEGINNINGS = (TokenType.SELECT, TokenType.WITH, TokenType.L_PAREN)
_REMEDY = "Send one SELECT; WITH may stand before it."


class QueryParser(FlinkParser):
    """Reads parameters: `?` is `exp.Placeholder()`, `:name` is `exp.Placeholder(this="name")`, both with a place."""

    def _parse_placeholder(self) -> exp.Expr | None:
        if self._match(TokenType.PLACEHOLDER):
            return exp.Placeholder().update_positions(self._prev)
        if self._curr is None or self._curr.token_type is not TokenType.COLON:
            return None
        token = self._curr
        self._advance()
        name = self._curr
        if name is None or name.start != token.end + 1:
            self._refuse("A parameter has a name", "Write :name, or ? for parameters by place.", token)
        self._advance()
        return exp.Placeholder(this=name.text).update_positions(token)


def parse_query(text: str, limits: ExpressionSettings = DEFAULT_LIMITS) -> exp.Expr:
    """Syntax tree of the one query in `text`; a semicolon may end it. Raises SqlErrors."""
    tokens = scan(text, limits, query=True)
    while tokens and tokens[-1].token_type is TokenType.SEMICOLON:
        tokens.pop()
    if not tokens:
        raise SqlErrors([SqlError(1, 1, "empty", "There is no query.", _REMEDY)])
    for token in tokens:
        if token.token_type is TokenType.SEMICOLON:
            raise SqlErrors([SqlError(token.line, token.col, "unsupported_statement", "A query is one statement.",
                                      "Remove what stands behind the semicolon, or send it by itself.")])  # fmt: skip
    first = tokens[0]
    if first.token_type not in _BEGINNINGS:
        raise SqlErrors([SqlError(first.line, first.col, "unsupported_statement",
                                  f"A query cannot begin with '{first.text.upper()[:40]}'.", _REMEDY)])  # fmt: skip
    return run_parser(QueryParser._parse_statement, tokens, text, kind=QueryParser)
