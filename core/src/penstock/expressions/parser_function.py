"""CREATE FUNCTION for `FlinkParser`.

    CREATE [TEMPORARY] FUNCTION [IF NOT EXISTS] name AS 'file.function' LANGUAGE PYTHON

The node is `exp.Create` of kind FUNCTION: `this` is the name, `expression` the text behind AS.
https://nightlies.apache.org/flink/flink-docs-stable/docs/sql/reference/ddl/create/#create-function
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlglot import TokenType, exp

if TYPE_CHECKING:
    from penstock.expressions.parser import FlinkParser

__all__ = ["parse_create"]

_FORM = "Write CREATE FUNCTION name AS 'file.function' LANGUAGE PYTHON."


def parse_create(parser: FlinkParser) -> exp.Expr:
    """What stands behind CREATE; anything but a function is the parser's own business."""
    words = ("TEMPORARY", "FUNCTION") if parser._match_text_seq("TEMPORARY", advance=False) else ("FUNCTION",)
    if not parser._match_text_seq(*words):
        created: exp.Expr = parser._parse_create()
        return created
    parser._match_text_seq("IF", "NOT", "EXISTS")
    name = parser._parse_id_var(any_token=False)
    if name is None:
        parser._refuse("A function needs a name", _FORM)
    if parser._match(TokenType.L_PAREN, advance=False):
        parser._refuse("Types of a function are declared in Python", _FORM, parser._curr)
    parser._match(TokenType.ALIAS)
    text = parser._parse_string()
    if not isinstance(text, exp.Literal):
        parser._refuse("A function needs the place of its code", _FORM)
    if not parser._match_text_seq("LANGUAGE", "PYTHON"):
        parser._refuse("Functions are written in Python", _FORM)
    return exp.Create(this=name, kind="FUNCTION", expression=text)
