"""JSON in texts: values and parts at a path, tests, and JSON made of columns.

Semantics: Flink 2.3, "JSON Functions"
(https://nightlies.apache.org/flink/flink-docs-release-2.3/docs/sql/functions/built-in-functions/#json-functions).
RETURNING a type that the value has not fails (`cast_failed`), as does ERROR ON EMPTY or ON ERROR (`bad_argument`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import polars as pl

from penstock.expressions.by_row import by_row, missing
from penstock.expressions.casts import cast_value
from penstock.expressions.coercion import Mismatch
from penstock.expressions.json_path import JsonPath, json_path
from penstock.expressions.json_text import quoted, read_json, shown, unquoted, write_json
from penstock.expressions.json_values import check_jsonable, json_of
from penstock.expressions.nodes import Call, Expr, Literal
from penstock.expressions.table import (
    BOOL,
    CONSTANT_TEXT,
    INTEGER,
    REAL,
    TEXT,
    Compiled,
    Function,
    Parameter,
    Typing,
    failing,
    merge_errors,
    plain,
    takes,
    typed,
)
from penstock.model.types import BOOLEAN, DOUBLE, INT, STRING, DataType, Kind

__all__ = ["FUNCTIONS"]

_RETURNING: dict[str, tuple[DataType, Parameter | None]] = {
    "STRING": (STRING, None), "BOOLEAN": (BOOLEAN, BOOL), "INTEGER": (INT, INTEGER), "DOUBLE": (DOUBLE, REAL),
}  # fmt: skip
_FOUND, _EMPTY, _FAILED, _OTHER = "=", "empty", "error", "other"  # what stands first in the answer for a row


def _word(args: Sequence[Expr], place: int) -> str:
    return str(args[place].value) if isinstance(args[place], Literal) else ""  # type: ignore[attr-defined]  # narrowed


def _path(args: Sequence[Expr]) -> JsonPath:
    return json_path(_word(args, 1))


def _value_check(args: Sequence[Expr]) -> Typing:
    takes(STRING, TEXT, CONSTANT_TEXT)(args[:2])
    _path(args)
    result, parameter = _RETURNING[_word(args, 2)]
    defaults = []
    for default in (args[4], args[6]):
        kind = default.type if parameter is None else parameter.accepts(default)
        if kind is None or (parameter is None and kind.kind not in (Kind.STRING, Kind.BOOLEAN, Kind.NULL)
                            and not kind.is_numeric):  # fmt: skip
            raise Mismatch(f"takes a DEFAULT of type {result}, not {default.type}.", f"Write CAST(x AS {result}).")
        defaults.append(STRING if kind.kind is Kind.NULL else kind)
    return Typing((STRING, STRING, STRING, STRING, defaults[0], STRING, defaults[1]), result)


def _answer(path: JsonPath, result: DataType) -> Callable[[str], str]:
    """For JSON_VALUE: `=` and the value as text, or what went wrong."""

    def answer(text: str) -> str:
        outcome, value = path.find(text)
        if outcome == "value" and isinstance(value, dict | list):
            outcome = "error" if path.strict else "empty"
        if outcome != "value":
            return outcome
        is_number = not isinstance(value, str | bool)
        fits = {
            Kind.STRING: True,
            Kind.BOOLEAN: isinstance(value, bool),
            Kind.INT: isinstance(value, int) and is_number and -(2**31) <= value < 2**31,
            Kind.DOUBLE: is_number,
        }[result.kind]
        return _FOUND + shown(value) if fits else _OTHER

    return answer


def _text_or_none(path: JsonPath) -> Callable[[str], str | None]:
    def found(text: str) -> str | None:
        outcome, value = path.find(text)
        return None if outcome != "value" or isinstance(value, dict | list) else shown(value)

    return found


def _value(call: Call, args: Sequence[Compiled]) -> Compiled:
    if call.type.kind is Kind.STRING and _word(call.args, 3) == _word(call.args, 5) == "NULL":
        return Compiled(by_row(_text_or_none(_path(call.args)), pl.String())(args[0].value), args[0].error)
    answer = by_row(_answer(_path(call.args), call.type), pl.String())(args[0].value)
    text = answer.str.slice(1)
    match call.type.kind:
        case Kind.BOOLEAN:
            value = text == "true"
        case Kind.INT:
            value = text.cast(pl.Int32, strict=False)
        case Kind.DOUBLE:
            value = text.cast(pl.Float64, strict=False)
        case _:
            value = text
    value = pl.when(answer.str.starts_with(_FOUND)).then(value)
    errors = [args[0].error, failing("cast_failed", answer == _OTHER)]
    for outcome, place in ((_EMPTY, 3), (_FAILED, 5)):
        here = answer == outcome
        if _word(call.args, place) == "ERROR":
            errors.append(failing("bad_argument", here))
        elif _word(call.args, place) == "DEFAULT":
            default = args[place + 1]
            value = pl.when(here).then(_default(default.value, call.args[place + 1].type, call.type)).otherwise(value)
            if default.error is not None:
                errors.append(pl.when(here).then(default.error))
    return Compiled(value, merge_errors(errors))


def _default(value: pl.Expr, source: DataType, target: DataType) -> pl.Expr:
    """A default in the returned type; as text a BOOLEAN is `true`, as in JSON."""
    made = cast_value(value, source, target).value
    return made.str.to_lowercase() if source.kind is Kind.BOOLEAN and target.kind is Kind.STRING else made


def _exists_check(args: Sequence[Expr]) -> Typing:
    takes(STRING, TEXT, CONSTANT_TEXT)(args[:2])
    _path(args)
    return Typing((STRING, STRING, STRING), BOOLEAN)


def _exists(call: Call, values: Sequence[pl.Expr]) -> Compiled:
    path, mode = _path(call.args), _word(call.args, 2)
    instead = {"TRUE": True, "FALSE": False}.get(mode)

    def there(text: str) -> bool | None:
        outcome, _ = path.find(text)
        return instead if outcome == "error" else outcome == "value"

    found = by_row(there, pl.Boolean())(values[0])
    return Compiled(found, failing("bad_argument", missing(found, [values[0]])) if mode == "ERROR" else None)


def _query_check(args: Sequence[Expr]) -> Typing:
    takes(STRING, TEXT, CONSTANT_TEXT)(args[:2])
    _path(args)
    if _word(args, 2) != "STRING":
        raise Mismatch(f"cannot return {_word(args, 2)}.", "Leave out RETURNING, and CAST what JSON_VALUE returns.")
    return Typing((STRING,) * 6, STRING)


def _query(call: Call, values: Sequence[pl.Expr]) -> Compiled:
    path, wrapper = _path(call.args), _word(call.args, 3)
    texts = {"EMPTY ARRAY": "[]", "EMPTY OBJECT": "{}"}
    instead = {"empty": texts.get(_word(call.args, 4)), "error": texts.get(_word(call.args, 5))}
    fails = tuple(o for o, place in (("empty", 4), ("error", 5)) if _word(call.args, place) == "ERROR")

    def part(text: str) -> str | None:
        outcome, value = path.find(text)
        if outcome == "value":
            if wrapper == "UNCONDITIONAL" or (wrapper == "CONDITIONAL" and not isinstance(value, list)):
                value = [value]
            if isinstance(value, dict | list):
                try:
                    return write_json(value)
                except RecursionError:
                    outcome = "error"
            else:
                outcome = "error" if path.strict else "empty"
        return _OTHER if outcome in fails else instead[outcome]

    found = by_row(part, pl.String())(values[0])
    return Compiled(found, failing("bad_argument", found == _OTHER) if fails else None)


def _is_json(call: Call, values: Sequence[pl.Expr]) -> Compiled:
    kind = _word(call.args, 1).removeprefix("JSON ")

    def test(text: str) -> bool:
        try:
            value = read_json(text)
        except ValueError:
            return False
        return {"VALUE": True, "ARRAY": isinstance(value, list), "OBJECT": isinstance(value, dict),
                "SCALAR": not isinstance(value, dict | list)}[kind]  # fmt: skip

    return Compiled(by_row(test, pl.Boolean())(values[0]).fill_null(value=False))


def _object_check(args: Sequence[Expr]) -> Typing:
    for key, value in zip(args[1::2], args[2::2], strict=True):
        if not (isinstance(key, Literal) and isinstance(key.value, str)):
            raise Mismatch("takes constant texts as keys.", "Write JSON_OBJECT(KEY 'a' VALUE x).")
        check_jsonable(value.type)
    return Typing(tuple(a.type for a in args), STRING)


def _object(call: Call, values: Sequence[pl.Expr]) -> Compiled:
    members = {str(key.value): place for place, key in enumerate(call.args) if place % 2 and isinstance(key, Literal)}
    keys = sorted(members, key=lambda key: key.encode("utf-16-be", "surrogatepass"))
    found = [
        pl.lit(write_json(key) + ":")
        + _member(call, values, members[key] + 1, absent=_word(call.args, 0) == "ABSENT")
        for key in keys
    ]
    return Compiled(_joined(found, "{", "}"))


def _array_check(args: Sequence[Expr]) -> Typing:
    for arg in args[1:]:
        check_jsonable(arg.type)
    return Typing(tuple(a.type for a in args), STRING)


def _array(call: Call, values: Sequence[pl.Expr]) -> Compiled:
    absent = _word(call.args, 0) == "ABSENT"
    return Compiled(_joined([_member(call, values, i, absent=absent) for i in range(1, len(values))], "[", "]"))


def _member(call: Call, values: Sequence[pl.Expr], place: int, *, absent: bool) -> pl.Expr:
    arg = call.args[place]
    built = isinstance(arg, Call) and arg.function in ("JSON_OBJECT", "JSON_ARRAY")  # JSON in JSON, no text
    made = values[place] if built else json_of(values[place], arg.type)
    return made if absent else made.fill_null("null")


def _joined(parts: list[pl.Expr], first: str, last: str) -> pl.Expr:
    if not parts:
        return pl.lit(first + last)
    return pl.lit(first) + pl.concat_list(parts).list.drop_nulls().list.join(",") + pl.lit(last)


def _string_check(args: Sequence[Expr]) -> Typing:
    if len(args) != 1:
        raise Mismatch(f"takes 1 argument, not {len(args)}.", "Check the arguments.")
    check_jsonable(args[0].type)
    return Typing((args[0].type,), STRING)


FUNCTIONS = (
    Function("JSON_VALUE", "JSON_VALUE(text, 'path' [RETURNING type] "
             "[{NULL | ERROR | DEFAULT x} ON {EMPTY | ERROR}])",
             "The scalar at a path of a JSON text, as STRING, BOOLEAN, INTEGER or DOUBLE. A path such as '$.a[0]' is "
             "strict: nothing there is an error, for which NULL is the default; for 'lax $.a' it is empty.",
             _value_check, _value,
             (("""JSON_VALUE('{"a": {"b": [1, 2.50]}}', '$.a.b[1]')""", '"2.50"'),
              ("""JSON_VALUE('{"a": 7}', '$.a' RETURNING INTEGER) + 1""", "8"),
              ("""JSON_VALUE('{"a": 7}', '$.b') IS NULL""", "true"),
              ("""JSON_VALUE('{"a": 7}', 'lax $.b' DEFAULT 'none' ON EMPTY)""", '"none"'),
              ("""JSON_VALUE('{"a b": true}', '$[''a b'']' RETURNING BOOLEAN)""", "true"),
              ("""JSON_VALUE('{"a": 7}', '$.b' ERROR ON ERROR)""", "error: bad_argument"))),
    Function("JSON_QUERY", "JSON_QUERY(text, 'path' [{WITHOUT | WITH [CONDITIONAL | UNCONDITIONAL]} [ARRAY] WRAPPER] "
             "[{NULL | EMPTY ARRAY | EMPTY OBJECT | ERROR} ON {EMPTY | ERROR}])",
             "The object or array at a path as JSON text with sorted keys; a scalar only in a wrapper.",
             _query_check, typed(_query),
             (("""JSON_QUERY('{"a": {"c": 1, "b": [true]}}', '$.a')""", '"{\\"b\\":[true],\\"c\\":1}"'),
              ("""JSON_QUERY('[{"c": "x"}, {"c": "y"}]', 'lax $[*].c')""", '"[\\"x\\",\\"y\\"]"'),
              ("""JSON_QUERY('{"a": 1}', '$.a') IS NULL""", "true"),
              ("""JSON_QUERY('{"a": 1}', '$.a' WITH CONDITIONAL ARRAY WRAPPER)""", '"[1]"'),
              ("""JSON_QUERY('{}', 'lax $.a' EMPTY OBJECT ON EMPTY)""", '"{}"'))),
    Function("JSON_EXISTS", "JSON_EXISTS(text, 'path' [{TRUE | FALSE | UNKNOWN | ERROR} ON ERROR])",
             "True if there is a value at the path; false is the default for an error.",
             _exists_check, typed(_exists),
             (("""JSON_EXISTS('{"a": [{"b": 1}]}', '$.a[0].b')""", "true"),
              ("""JSON_EXISTS('{}', '$.a')""", "false"),
              ("""JSON_EXISTS('{}', 'strict $.a' UNKNOWN ON ERROR) IS NULL""", "true"))),
    Function("IS JSON", "text IS [NOT] JSON [VALUE | SCALAR | ARRAY | OBJECT]", "True if the text is JSON, of a "
             "kind; false for NULL.", takes(BOOLEAN, TEXT, CONSTANT_TEXT), typed(_is_json),
             (("'[1, {}]' IS JSON", "true"), ("'[1]' IS JSON OBJECT", "false"), ("'{x}' IS NOT JSON", "true"))),
    Function("JSON_OBJECT", "JSON_OBJECT([[KEY] 'key' VALUE x, ...] [{NULL | ABSENT} ON NULL])",
             "A JSON object as text, its keys sorted. JSON_OBJECT and JSON_ARRAY within it are not quoted.",
             _object_check, typed(_object),
             (("JSON_OBJECT(KEY 'lot' VALUE 'a\"b', KEY 'kg' VALUE 1.50)",
               '"{\\"kg\\":1.50,\\"lot\\":\\"a\\\\\\"b\\"}"'),
              ("JSON_OBJECT('a' VALUE JSON_ARRAY(1, TRUE) ABSENT ON NULL)", '"{\\"a\\":[1,true]}"'),
              ("JSON_OBJECT()", '"{}"'))),
    Function("JSON_ARRAY", "JSON_ARRAY([x, ...] [{NULL | ABSENT} ON NULL])", "A JSON array as text; NULLs are left "
             "out unless NULL ON NULL says otherwise.", _array_check, typed(_array),
             (("JSON_ARRAY(1, '2', JSON_OBJECT('a' VALUE 3))", '"[1,\\"2\\",{\\"a\\":3}]"'),
              ("JSON_ARRAY()", '"[]"'))),
    Function("JSON_STRING", "JSON_STRING(x)", "A value as JSON text: text and times in quotes, BYTES in base64.",
             _string_check, typed(lambda call, v: Compiled(json_of(v[0], call.args[0].type))),
             (("JSON_STRING('a\"b')", '"\\"a\\\\\\"b\\""'), ("JSON_STRING(1.50)", '"1.50"'),
              ("JSON_STRING(TIMESTAMP '2018-01-01 10:00:00.5')", '"\\"2018-01-01T10:00:00.5\\""'))),
    Function("JSON_QUOTE", "JSON_QUOTE(text)", "The text as a JSON string, with escapes for all that is not ASCII.",
             takes(STRING, TEXT), plain(by_row(quoted, pl.String())),
             (("JSON_QUOTE('é/')", '"\\"\\\\u00e9\\\\/\\""'),)),
    Function("JSON_UNQUOTE", "JSON_UNQUOTE(text)", "The text in a JSON string; other texts as they are.",
             takes(STRING, TEXT), plain(by_row(unquoted, pl.String())),
             (("JSON_UNQUOTE('\"\\u00e9\\/\"')", '"é/"'), ("JSON_UNQUOTE('abc')", '"abc"'))),
)  # fmt: skip
