"""MATCH_RECOGNIZE behind a table or query of FROM, for `FlinkParser`: its clauses in order, each by its own grammar.

The node is `exp.MatchRecognize` with `this` (the rows), `partition_by`, `order`, `measures` (aliases), `after` (Var
`PAST LAST ROW`, `TO NEXT ROW`, `TO FIRST`, `TO LAST`; the latter two with `target`), `pattern` (a list of calls of
the variable's name with least, most or NULL, and whether it is reluctant), `within` and `define` (aliases).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from sqlglot import Token, TokenType, exp

if TYPE_CHECKING:
    from penstock.expressions.parser import FlinkParser

__all__ = ["parse_match"]

_PATTERN = "Write PATTERN (A B+ C), variables one after the other, each perhaps with *, +, ?, {n}, {n,} or {n, m}."
_AFTER = "Write AFTER MATCH SKIP PAST LAST ROW, TO NEXT ROW, TO FIRST variable, or TO LAST variable."
_ORDER = "Write MATCH_RECOGNIZE (PARTITION BY k ORDER BY ts MEASURES ... PATTERN (...) DEFINE ...)."


def parse_match(parser: FlinkParser, rows: exp.Expr) -> exp.Expr:
    """The clause at MATCH_RECOGNIZE, which stands next; a table around it that has its alias."""
    start = parser._curr
    parser._advance()
    if not parser._match(TokenType.L_PAREN):
        _refuse(parser, "MATCH_RECOGNIZE takes its clauses in parentheses", _ORDER)
    found = exp.MatchRecognize(this=rows)
    if parser._match(TokenType.PARTITION_BY):
        found.set("partition_by", parser._parse_csv(parser._parse_column))
    found.set("order", _order(parser))
    if parser._match_text_seq("MEASURES"):
        found.set("measures", parser._parse_csv(lambda: _measure(parser)))
    if parser._match_text_seq("ALL", "ROWS", "PER", "MATCH", advance=False):
        remedy = "Write ONE ROW PER MATCH, and what is wanted of the rows as measures."
        _refuse(parser, "ALL ROWS PER MATCH is not supported", remedy, parser._curr)
    parser._match_text_seq("ONE", "ROW", "PER", "MATCH")
    if parser._match_text_seq("AFTER", "MATCH", "SKIP"):
        _after(parser, found)
    if not parser._match_text_seq("PATTERN") or not parser._match(TokenType.L_PAREN):
        _refuse(parser, "MATCH_RECOGNIZE needs a PATTERN", _PATTERN)
    found.set("pattern", _pattern(parser))
    if parser._match_text_seq("WITHIN"):
        found.set("within", parser._parse_interval())
    if parser._match_text_seq("SUBSET"):
        _refuse(parser, "SUBSET is not supported", "Name the variables one by one.", parser._prev)
    if not parser._match_text_seq("DEFINE"):
        _refuse(parser, "MATCH_RECOGNIZE needs DEFINE", "Write DEFINE A AS A.price > 10 behind the pattern.")
    found.set("define", parser._parse_csv(lambda: _definition(parser)))
    if not parser._match(TokenType.R_PAREN):
        _refuse(parser, "This is no clause that MATCH_RECOGNIZE takes here", _ORDER)
    found.update_positions(start)
    table = exp.Table(this=found)
    if alias := parser._parse_table_alias(alias_tokens=parser.TABLE_ALIAS_TOKENS):
        table.set("alias", alias)
    return table


def _order(parser: FlinkParser) -> list[exp.Expr]:
    if not parser._match(TokenType.ORDER_BY):
        _refuse(parser, "MATCH_RECOGNIZE needs an order", "Write ORDER BY ts, the event time.")
    return parser._parse_csv(parser._parse_ordered)


def _measure(parser: FlinkParser) -> exp.Expr:
    parser._match_text_seq("FINAL")
    if parser._curr and parser._curr.text.upper() == "RUNNING" and parser._next.token_type is not TokenType.ALIAS:
        _refuse(parser, "RUNNING means nothing with ONE ROW PER MATCH", "Remove it.", parser._curr)
    value = parser._parse_disjunction()
    if value is None or not parser._match(TokenType.ALIAS):
        _refuse(parser, "A measure needs a name", "Write MEASURES LAST(A.price) AS price.")
    return exp.Alias(this=value, alias=_name(parser, "A measure needs a name", "Write AS name."))


def _definition(parser: FlinkParser) -> exp.Expr:
    remedy = "Write DEFINE A AS A.price > 10."
    name = _name(parser, "DEFINE needs a variable", remedy)
    if not parser._match(TokenType.ALIAS):
        _refuse(parser, "DEFINE needs AS and a condition", remedy)
    condition = parser._parse_disjunction()
    if condition is None:
        _refuse(parser, "DEFINE needs a condition", remedy)
    return exp.Alias(this=condition, alias=name)


def _after(parser: FlinkParser, found: exp.MatchRecognize) -> None:
    token = parser._prev
    for words in ("PAST LAST ROW", "TO NEXT ROW", "TO FIRST", "TO LAST"):
        if parser._match_text_seq(*words.split()):
            found.set("after", exp.Var(this=words).update_positions(token))
            if words in ("TO FIRST", "TO LAST"):
                found.set("target", _name(parser, "A variable is expected here", _AFTER))
            return
    _refuse(parser, "SKIP needs a place", _AFTER)


def _pattern(parser: FlinkParser) -> list[exp.Expr]:
    """Behind the first parenthesis, to the last one."""
    found: list[exp.Expr] = []
    while not parser._match(TokenType.R_PAREN):
        token = parser._curr
        if token.token_type is TokenType.PIPE:
            _refuse(parser, "Alternatives in a pattern are not supported",
                    "Define one variable by both conditions with OR, or match each in its own query.")  # fmt: skip
        if token.token_type in (TokenType.L_PAREN, TokenType.L_BRACE):
            _refuse(parser, "Groups in a pattern are not supported", "Write its variables one by one.")
        if token.text.upper() == "PERMUTE" and parser._next.token_type is TokenType.L_PAREN:
            _refuse(parser, "PERMUTE is not supported", "Write the variables in the order in which they come.")
        variable = _name(parser, "A variable of the pattern is expected here", _PATTERN)
        least, most = _quantifier(parser)
        reluctant = least is not None and bool(parser._match(TokenType.PLACEHOLDER))
        low = exp.Literal.number(1 if least is None else least)
        high = exp.Null() if most is None else exp.Literal.number(most)
        call = exp.Anonymous(this=variable.name, expressions=[low, high, exp.Boolean(this=reluctant)])
        call.set("greedy", least is not None and not reluctant)
        found.append(call.update_positions(token))
    if not found:
        _refuse(parser, "The pattern is empty", _PATTERN, parser._prev)
    return found


def _quantifier(parser: FlinkParser) -> tuple[int | None, int | None]:
    """(least, most); (None, 1): there is none. `most` None: no limit."""
    if parser._match(TokenType.STAR):
        return 0, None
    if parser._match(TokenType.PLUS):
        return 1, None
    if parser._match(TokenType.PLACEHOLDER):
        return 0, 1
    if not parser._match(TokenType.L_BRACE):
        return None, 1
    token = parser._curr
    least = _count(parser)
    most = least
    if parser._match(TokenType.COMMA):
        most = _count(parser)
        if least is None and most is None:
            _refuse(parser, "A quantifier needs a number", _PATTERN)
    elif least is None:
        _refuse(parser, "A quantifier needs a number", _PATTERN)
    if not parser._match(TokenType.R_BRACE):
        _refuse(parser, "This quantifier is not closed", _PATTERN)
    if most is not None and (most < 1 or most < (least or 0)):
        _refuse(parser, "This quantifier takes no row at all", "Write {n, m} with n <= m and m > 0.", token)
    return least or 0, most


def _count(parser: FlinkParser) -> int | None:
    if not parser._match(TokenType.NUMBER):
        return None
    text = parser._prev.text
    if not text.isdigit() or len(text) > 6:
        _refuse(parser, "A quantifier takes whole numbers", _PATTERN, parser._prev)
    return int(text)


def _name(parser: FlinkParser, message: str, remedy: str) -> exp.Identifier:
    name = parser._parse_id_var(any_token=False)
    if not isinstance(name, exp.Identifier):
        _refuse(parser, message, remedy)
    return name


def _refuse(parser: FlinkParser, message: str, remedy: str, token: Token | None = None) -> NoReturn:
    parser._refuse(message, remedy, token)
    raise AssertionError("raise_error raises")
