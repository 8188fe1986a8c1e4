"""The syntax of JSON functions in SQL: clauses between the parentheses become arguments in a fixed order.

JSON_VALUE(text, path, type, on empty, default, on error, default), JSON_QUERY(text, path, type, wrapper, on empty,
on error), JSON_EXISTS(text, path, on error), JSON_OBJECT(on null, key, value, ...), JSON_ARRAY(on null, value, ...);
what is a word there is an `exp.Var`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlglot import TokenType, exp

__all__ = ["JSON_PARSERS", "is_json_kind"]

_VALUE_REMEDY = "Write JSON_VALUE(text, '$.a' RETURNING INTEGER DEFAULT 0 ON EMPTY NULL ON ERROR)."
_QUERY_REMEDY = "Write JSON_QUERY(text, '$.a' WITH CONDITIONAL ARRAY WRAPPER EMPTY ARRAY ON EMPTY NULL ON ERROR)."
_EXISTS_REMEDY = "Write JSON_EXISTS(text, '$.a' FALSE ON ERROR)."
_OBJECT_REMEDY = "Write JSON_OBJECT(KEY 'a' VALUE x, KEY 'b' VALUE y ABSENT ON NULL)."
_WRAPPERS = (("WITHOUT", "WITHOUT"), ("WITH CONDITIONAL", "CONDITIONAL"), ("WITH UNCONDITIONAL", "UNCONDITIONAL"),
             ("WITH", "UNCONDITIONAL"))  # fmt: skip


def is_json_kind(parser: Any) -> exp.Expr | None:
    """The word behind IS [NOT], if it is JSON [VALUE | SCALAR | ARRAY | OBJECT]."""
    if not parser._match_text_seq("JSON"):
        return None
    kind = parser._prev.text.upper() if parser._match_texts(("VALUE", "SCALAR", "ARRAY", "OBJECT")) else "VALUE"
    return exp.Var(this=f"JSON {kind}")


def _value(parser: Any) -> exp.Expr:
    text, path = _text_and_path(parser, "JSON_VALUE", _VALUE_REMEDY)
    returning = _returning(parser, _VALUE_REMEDY)
    modes: dict[str, tuple[exp.Expr, exp.Expr]] = {}
    while not _ends(parser):
        default: exp.Expr = exp.Null()
        if parser._match_text_seq("DEFAULT"):
            mode, default = "DEFAULT", parser._parse_bitwise() or exp.Null()
        else:
            mode = _word(parser, ("NULL", "ERROR"), _VALUE_REMEDY)
        modes[_on(parser, _VALUE_REMEDY)] = (exp.Var(this=mode), default)
    null = (exp.Var(this="NULL"), exp.Null())
    return _call("JSON_VALUE", [text, path, returning, *modes.get("EMPTY", null), *modes.get("ERROR", null)])


def _query(parser: Any) -> exp.Expr:
    text, path = _text_and_path(parser, "JSON_QUERY", _QUERY_REMEDY)
    returning = _returning(parser, _QUERY_REMEDY)
    wrapper = "WITHOUT"
    for words, found in _WRAPPERS:
        if parser._match_text_seq(*words.split()):
            parser._match_text_seq("ARRAY")
            if not parser._match_text_seq("WRAPPER"):
                parser._refuse("WITH in JSON_QUERY ends with WRAPPER", _QUERY_REMEDY)
            wrapper = found
            break
    modes: dict[str, exp.Expr] = {}
    while not _ends(parser):
        mode = _word(parser, ("NULL", "ERROR", "EMPTY"), _QUERY_REMEDY)
        if mode == "EMPTY":
            mode += " " + _word(parser, ("ARRAY", "OBJECT"), _QUERY_REMEDY)
        modes[_on(parser, _QUERY_REMEDY)] = exp.Var(this=mode)
    null = exp.Var(this="NULL")
    return _call("JSON_QUERY", [text, path, returning, exp.Var(this=wrapper), modes.get("EMPTY", null),
                                modes.get("ERROR", null)])  # fmt: skip


def _exists(parser: Any) -> exp.Expr:
    text, path = _text_and_path(parser, "JSON_EXISTS", _EXISTS_REMEDY)
    mode = "FALSE"
    if not _ends(parser):
        mode = _word(parser, ("TRUE", "FALSE", "UNKNOWN", "ERROR"), _EXISTS_REMEDY)
        if _on(parser, _EXISTS_REMEDY) != "ERROR":
            parser._refuse("JSON_EXISTS has no ON EMPTY", _EXISTS_REMEDY)
    return _call("JSON_EXISTS", [text, path, exp.Var(this=mode)])


def _object(parser: Any) -> exp.Expr:
    members: list[exp.Expr] = []
    mode = "NULL"
    while not _ends(parser):
        found = _on_null(parser)
        if found is not None:
            mode = found
            break
        parser._match_text_seq("KEY")
        members.append(_operand(parser, "JSON_OBJECT needs keys", _OBJECT_REMEDY))
        if not parser._match_text_seq("VALUE"):
            parser._refuse("JSON_OBJECT needs VALUE between a key and its value", _OBJECT_REMEDY)
        members.append(_operand(parser, "JSON_OBJECT needs a value", _OBJECT_REMEDY))
        if not parser._match(TokenType.COMMA):
            mode = _on_null(parser) or mode
            break
    return _call("JSON_OBJECT", [exp.Var(this=mode), *members])


def _array(parser: Any) -> exp.Expr:
    remedy = "Write JSON_ARRAY(a, b NULL ON NULL)."
    items: list[exp.Expr] = []
    mode = "ABSENT"
    while not _ends(parser):
        found = _on_null(parser)
        if found is not None:
            mode = found
            break
        items.append(_operand(parser, "JSON_ARRAY needs a value", remedy))
        if not parser._match(TokenType.COMMA):
            mode = _on_null(parser) or mode
            break
    return _call("JSON_ARRAY", [exp.Var(this=mode), *items])


#: Function name -> parser of what stands between its parentheses.
JSON_PARSERS: dict[str, Callable[[Any], exp.Expr]] = {
    "JSON_VALUE": _value,
    "JSON_QUERY": _query,
    "JSON_EXISTS": _exists,
    "JSON_OBJECT": _object,
    "JSON_ARRAY": _array,
}


def _call(name: str, arguments: list[exp.Expr]) -> exp.Expr:
    return exp.Anonymous(this=name, expressions=arguments)


def _ends(parser: Any) -> bool:
    return not parser._curr or parser._curr.token_type is TokenType.R_PAREN


def _operand(parser: Any, message: str, remedy: str) -> exp.Expr:
    found: exp.Expr | None = parser._parse_disjunction()
    if found is None:
        parser._refuse(message, remedy)
        raise AssertionError("_refuse raises")
    return found


def _text_and_path(parser: Any, name: str, remedy: str) -> tuple[exp.Expr, exp.Expr]:
    text = _operand(parser, f"{name} needs a text", remedy)
    if not parser._match(TokenType.COMMA):
        parser._refuse(f"{name} needs a path", remedy)
    return text, _operand(parser, f"{name} needs a path", remedy)


def _returning(parser: Any, remedy: str) -> exp.Expr:
    if not parser._match_text_seq("RETURNING"):
        return exp.Var(this="STRING")
    kind = parser._parse_types()
    if not isinstance(kind, exp.DataType):
        parser._refuse("RETURNING needs a type", remedy)
        raise AssertionError("_refuse raises")
    names = {exp.DType.TEXT: "STRING", exp.DType.VARCHAR: "STRING", exp.DType.BOOLEAN: "BOOLEAN",
             exp.DType.INT: "INTEGER", exp.DType.DOUBLE: "DOUBLE"}  # fmt: skip
    found = names.get(kind.this) if isinstance(kind.this, exp.DType) else None
    if found is None:
        parser._refuse("RETURNING takes STRING, BOOLEAN, INTEGER or DOUBLE", "CAST what it returns.")
        raise AssertionError("_refuse raises")
    return exp.Var(this=found)


def _word(parser: Any, words: tuple[str, ...], remedy: str) -> str:
    if not parser._match_texts(words):
        parser._refuse(f"{' or '.join(words)} is expected", remedy)
    return str(parser._prev.text.upper())


def _on(parser: Any, remedy: str) -> str:
    """EMPTY or ERROR behind ON."""
    if not parser._match(TokenType.ON):
        parser._refuse("ON EMPTY or ON ERROR is expected", remedy)
    return _word(parser, ("EMPTY", "ERROR"), remedy)


def _on_null(parser: Any) -> str | None:
    for mode in ("NULL", "ABSENT"):
        if parser._match_text_seq(mode, "ON", "NULL"):
            return mode
    return None
