"""The token pass, first stage of SQL: refuses what Flink's lexer or parser would not accept, bounds and places them.

sqlglot is lenient on purpose; a text that it accepts and Flink does not would make an app that cannot move. The
pass looks at characters first (strings, comments, quoted names, stray symbols), at neighbouring tokens second.
Flink's lexical rules: https://nightlies.apache.org/flink/flink-docs-stable/docs/sql/reference/queries/overview/
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from typing import ClassVar

from sqlglot import Token, Tokenizer, TokenType
from sqlglot.errors import TokenError

from penstock.errors import SqlError, SqlErrors
from penstock.expressions.settings import DEFAULT_LIMITS, ExpressionSettings

__all__ = ["NOT_SQL", "FlinkTokenizer", "Places", "QueryTokenizer", "is_table_function", "scan"]

_SYMBOLS = ("||", ">=", "<=", "<>", "=>")
_WORDS = """
    ALL AND AS ASC BETWEEN CASE CONSTRAINT CREATE CROSS DESC DISTINCT ELSE END ESCAPE EXISTS FALSE FILTER FOR
    FROM FULL GROUP|BY HAVING IN INNER INSERT INTERVAL INTO IS JOIN LEFT LIKE LIMIT NATURAL NOT NULL OFFSET ON
    OR ORDER|BY OUTER OVER OVERLAPS OVERWRITE PARTITION PARTITION|BY PRIMARY|KEY RANGE RIGHT ROWS SELECT SET
    SIMILAR|TO TABLE TEMPORARY THEN TRUE UNION USING VALUES VIEW WHEN WHERE WINDOW WITH BOOLEAN TINYINT SMALLINT INT
    INTEGER BIGINT
    DEC DECIMAL NUMERIC FLOAT DOUBLE DOUBLE|PRECISION CHAR VARCHAR STRING BINARY VARBINARY DATE TIME TIMESTAMP
    TIMESTAMP_LTZ
""".replace("\n", " ").split()

#: Words of other dialects, and of Flink beyond this version, that sqlglot would silently read as names or otherwise:
#: word -> remedy.
_REFUSED_WORDS = {
    "EXCEPT": "Combine inputs with UNION ALL; express differences with a join or a filter.",
    "INTERSECT": "Combine inputs with UNION ALL; express intersections with a join.",
    "MINUS": "Combine inputs with UNION ALL; express differences with a join or a filter.",
    "QUALIFY": "Filter a subquery that computes ROW_NUMBER() instead.",
    "PIVOT": "Write one aggregate with FILTER (WHERE ...) per column.",
    "UNPIVOT": "Write one SELECT per column and combine them with UNION ALL.",
    "TABLESAMPLE": "Filter with a condition instead.",
    "LATERAL": "Write CROSS JOIN LATERAL TABLE(function(t.column)) AS f(column).",
    "RECURSIVE": "Recursive queries do not exist in Flink SQL.",
    "ILIKE": "Write LOWER(x) LIKE 'pattern'.",
    "RLIKE": "Write REGEXP(x, 'pattern').",
}  # fmt: skip

_LEXEME = re.compile(
    r"""(?P<space>\s+)
      | (?P<comment>--[^\n]*|/\*(?!\+).*?\*/)
      | (?P<string>'(?:[^']|'')*')
      | (?P<name>`(?:[^`]|``)+`)
      | (?P<word>[\w$]+)
      | (?P<symbol>\|\||>=|<=|<>|=>|=(?!=)|/(?!\*)|[-+*%<>(),.;\[\]])""",
    re.VERBOSE | re.DOTALL,
)

#: A value that a query is given beside its text: by place, or by name.
_PARAMETER = re.compile(r"\?|:[A-Za-z_]\w{0,63}", re.ASCII)
#: What streams have no end for and stored rows do.
_OF_QUERIES = ("EXCEPT", "INTERSECT")

#: Quantifiers and the like; of Flink SQL only inside PATTERN (...) of MATCH_RECOGNIZE.
_PATTERN_SYMBOLS = "?{}|^"

#: What other dialects have -> (code, message, remedy).
NOT_SQL = {
    "::": ("cast_operator", "'::' is not a cast in Flink SQL.", "Write CAST(x AS type)."),
    "==": ("double_equals", "'==' is not an operator in Flink SQL.", "Write a single =."),
    "!=": ("bang_equals", "'!=' is not accepted by Flink SQL.", "Write <>."),
    "/*+": ("hint", "Hints are not supported.", "Write options in WITH ('option' = 'value')."),
    "/*": ("open_comment", "This comment is not closed.", "End it with */."),
    "'": ("open_string", "This string is not closed.", "End it with '; a quote inside is written ''."),
    "`": ("open_name", "This quoted name is not closed or empty.", "End it with a backtick."),
    '"': ("double_quote", "Double quotes mean nothing in Flink SQL.",
          "Write names in `backticks` and strings in 'single quotes'."),
}  # fmt: skip

_ENDS_LIST = {
    "FROM",
    "WHERE",
    "GROUP BY",
    "HAVING",
    "ORDER BY",
    "UNION",
    "LIMIT",
    "THEN",
    "WHEN",
    "END",
    "AS",
    "WITH",
}


class FlinkTokenizer(Tokenizer):
    """sqlglot's tokenizer reduced to Flink's lexemes: backtick names, strings without backslash escapes."""

    IDENTIFIERS: ClassVar[list[str | tuple[str, str]]] = ["`"]
    QUOTES: ClassVar[list[tuple[str, str] | str]] = ["'"]
    STRING_ESCAPES: ClassVar[list[str]] = ["'"]
    HEX_STRINGS: ClassVar[list[str | tuple[str, str]]] = [("x'", "'"), ("X'", "'")]
    COMMENTS: ClassVar[list[str | tuple[str, str]]] = ["--", ("/*", "*/")]
    NESTED_COMMENTS = False
    COMMANDS: ClassVar[set[TokenType]] = set()
    KEYWORDS: ClassVar[dict[str, TokenType]] = {
        **{key: Tokenizer.KEYWORDS[key] for key in _SYMBOLS},
        **{word.replace("|", " "): Tokenizer.KEYWORDS[word.replace("|", " ")] for word in _WORDS},
        "BYTES": TokenType.VARBINARY,
        "MATCH_RECOGNIZE": TokenType.MATCH_RECOGNIZE,
    }


class QueryTokenizer(FlinkTokenizer):
    """The lexemes of queries over stored rows: also EXCEPT and INTERSECT."""

    KEYWORDS: ClassVar[dict[str, TokenType]] = {
        **FlinkTokenizer.KEYWORDS,
        **{word: Tokenizer.KEYWORDS[word] for word in _OF_QUERIES},
    }


class Places:
    """Line and column (both 1-based) of character offsets in one text."""

    def __init__(self, text: str) -> None:
        self._starts = [0, *(m.end() for m in re.finditer("\n", text))]

    def at(self, offset: int) -> tuple[int, int]:
        """(line, column) of the character at `offset`."""
        line = bisect_right(self._starts, offset)
        return line, offset - self._starts[line - 1] + 1


def scan(text: str, limits: ExpressionSettings = DEFAULT_LIMITS, *, query: bool = False) -> list[Token]:
    """Tokens of `text` with `line` and `col` of their first character. Raises SqlErrors with every finding.

    `query`: a query over stored rows, which may also hold parameters (`?`, `:name`), EXCEPT and INTERSECT.
    """
    places = Places(text)
    if len(text) > limits.text_chars_max:
        raise SqlErrors([SqlError(1, 1, "text_too_long", f"The text has {len(text):,} characters.",
                                  f"At most {limits.text_chars_max:,} are read.")])  # fmt: skip
    findings = _characters(text, places, parameters=query)
    if findings:
        raise SqlErrors(findings)
    try:
        tokens = (QueryTokenizer() if query else FlinkTokenizer()).tokenize(text)
    except TokenError as error:
        raise SqlErrors(
            [SqlError(1, 1, "syntax", f"The text cannot be read: {error}.", "Check its last lines.")]
        ) from None
    for token in tokens:
        token.line, token.col = places.at(token.start)
    allowed = _OF_QUERIES if query else ()
    findings = [*_words(tokens, allowed), *_commas(tokens), *_depth(tokens, limits)]
    if findings:
        raise SqlErrors(sorted(findings, key=lambda f: (f.line, f.column)))
    return tokens


def _characters(text: str, places: Places, *, parameters: bool) -> list[SqlError]:
    """The first thing that is no lexeme of Flink SQL; what follows an open quote would only mislead."""
    at = depth = 0  # depth of parentheses since PATTERN (, 0 outside of it
    word = matching = ""
    while at < len(text):
        match = _LEXEME.match(text, at)
        if match is None and depth and text[at] in _PATTERN_SYMBOLS:
            at += 1
            continue
        if match is None:
            parameter = _PARAMETER.match(text, at) if parameters else None
            if parameter is None:
                return [_not_sql(text, at, places)]
            at = parameter.end()
            continue
        if match.lastgroup in ("word", "symbol"):
            depth = _pattern_depth(depth, match.group(), opens=bool(matching) and word == "PATTERN")
            word = match.group().upper()
            matching = word if word == "MATCH_RECOGNIZE" else "" if word == ";" else matching
        if match.lastgroup == "space" and not match.group().isascii():
            return [_not_sql(text, at, places)]
        at = match.end()
    return []


def _pattern_depth(depth: int, lexeme: str, *, opens: bool) -> int:
    """Open parentheses of PATTERN (...) behind this lexeme."""
    if lexeme == "(" and (depth or opens):
        return depth + 1
    return max(0, depth - 1) if lexeme == ")" else depth


def _not_sql(text: str, at: int, places: Places) -> SqlError:
    line, column = places.at(at)
    for lexeme, (code, message, remedy) in NOT_SQL.items():
        if text.startswith(lexeme, at):
            return SqlError(line, column, code, message, remedy)
    shown = text[at] if text[at].isprintable() and text[at] != " " else f"U+{ord(text[at]):04X}"
    return SqlError(line, column, "unexpected_character", f"'{shown}' is not part of Flink SQL here.",
                    "Remove it, or put it into a 'string' or a `quoted name`.")  # fmt: skip


def _words(tokens: list[Token], allowed: Sequence[str]) -> list[SqlError]:
    return [
        SqlError(token.line, token.col, "unsupported", f"{token.text.upper()} is not supported.", remedy)
        for n, token in enumerate(tokens)
        if token.token_type not in (TokenType.IDENTIFIER, TokenType.STRING)
        and (remedy := _REFUSED_WORDS.get(token.text.upper())) is not None
        and token.text.upper() not in allowed
        and not is_table_function(tokens[n : n + 2])
    ]


def is_table_function(tokens: Sequence[Token]) -> bool:
    """Whether these are LATERAL TABLE."""
    return [token.text.upper() for token in tokens] == ["LATERAL", "TABLE"]


def _commas(tokens: list[Token]) -> list[SqlError]:
    found = []
    for i, token in enumerate(tokens):
        if token.token_type is not TokenType.COMMA:
            continue
        following = tokens[i + 1] if i + 1 < len(tokens) else None
        stray = (
            following is None
            or following.token_type in (TokenType.R_PAREN, TokenType.COMMA, TokenType.SEMICOLON)
            or (following.token_type not in (TokenType.IDENTIFIER, TokenType.STRING)
                and following.text.upper() in _ENDS_LIST)
        )  # fmt: skip
        if stray or i == 0 or tokens[i - 1].token_type is TokenType.L_PAREN:
            found.append(SqlError(token.line, token.col, "stray_comma", "Nothing stands beside this comma.",
                                  "Remove the comma, or write what is missing."))  # fmt: skip
    return found


_OPENS = {TokenType.L_PAREN, TokenType.L_BRACKET, TokenType.CASE}
_CLOSES = {TokenType.R_PAREN, TokenType.R_BRACKET, TokenType.END}
_PREFIXES = {TokenType.NOT, TokenType.DASH, TokenType.PLUS}


def _depth(tokens: list[Token], limits: ExpressionSettings) -> list[SqlError]:
    """The place where nesting gets too deep for the parser; a run of prefix operators nests as well."""
    depth = prefixes = 0
    for token in tokens:
        if token.token_type is TokenType.SEMICOLON:
            depth = 0
        elif token.token_type in _OPENS:
            depth += 1
        elif token.token_type in _CLOSES:
            depth = max(0, depth - 1)
        prefixes = prefixes + 1 if token.token_type in _PREFIXES else 0
        if depth + prefixes > limits.depth_max:
            return [SqlError(token.line, token.col, "too_deep",
                             f"Nesting is deeper than {limits.depth_max} levels here.",
                             "Split the expression: compute parts in a view or a computed column.")]  # fmt: skip
    return []
