"""JSON functions: strict and lax paths, what is no JSON, types that are returned, JSON made of columns."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from core.expression_eval import evaluate, one
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.errors import SqlErrors
from penstock.expressions.bind import bind_text
from penstock.expressions.coercion import Mismatch
from penstock.expressions.json_path import json_path
from penstock.model import types
from penstock.model.stream import Column

BAD, CAST = "error: bad_argument", "error: cast_failed"

#: (document, path) -> what JSON_VALUE and JSON_QUERY find: a value, EMPTY or ERROR. From Flink 2.3.
FOUND = {
    ('{"a":1.10}', "$.a"): ("1.10", "ERROR"), ('{"a":1e2}', "lax $.a"): ("1E+2", "EMPTY"),
    ('{"a":12345678901234567890123}', "$.a"): ("12345678901234567890123", "ERROR"),
    ('{"a":-0.0}', "$.a"): ("0.0", "ERROR"), ('{"a":0.00000001}', "$.a"): ("1E-8", "ERROR"),
    ('{"a":true}', "$.a"): ("true", "ERROR"), ('{"a":"x"}', " STRICT  $.a "): ("x", "ERROR"),
    ('{"a":null}', "$.a"): ("ERROR", "ERROR"), ('{"a":null}', "lax $.a"): ("EMPTY", "EMPTY"),
    ('{"a":null}', "$.a.b"): ("ERROR", "ERROR"), ('{"a":null}', "lax $.a.b"): ("EMPTY", "EMPTY"),
    ('{"a":[1]}', "$.a"): ("ERROR", "[1]"), ('{"a":[1]}', "lax $.a"): ("EMPTY", "[1]"),
    ("{}", "$.a"): ("ERROR", "ERROR"), ("{}", "lax $.a"): ("EMPTY", "EMPTY"),
    ("x", "$.a"): ("ERROR", "ERROR"), ("x", "lax $.a"): ("EMPTY", "EMPTY"), ("", "$"): ("ERROR", "ERROR"),
    ("null", "lax $"): ("ERROR", "ERROR"), ("1 2", "$"): ("1", "ERROR"), ("1abc", "$"): ("ERROR", "ERROR"),
    ('{"a":1}x', "$.a"): ("1", "ERROR"), ('{"a":01}', "$.a"): ("ERROR", "ERROR"),
    ('{"a":NaN}', "$.a"): ("ERROR", "ERROR"), ('{"a":1,"a":2}', "$.a"): ("2", "ERROR"),
    ("[1,2,3]", "$[-1]"): ("3", "ERROR"), ("[1,2,3]", "$[5]"): ("ERROR", "ERROR"),
    ("[1,2,3]", "lax $[5]"): ("EMPTY", "EMPTY"), ("[[1,2],[3]]", "$[0][1]"): ("2", "ERROR"),
    ("[1,2]", "$[*]"): ("ERROR", "[1,2]"), ("[1]", "lax $[*]"): ("EMPTY", "[1]"), ("7", "$.*"): ("ERROR", "[]"),
    ("[1,2,3]", "$[0,2]"): ("ERROR", "[1,3]"), ("[1,2,3]", "$[1:]"): ("ERROR", "[2,3]"),
    ("[1,2,3]", "$[:-1]"): ("ERROR", "[1,2]"), ('{"a":{"b":7}}', "$..b"): ("ERROR", "[7]"),
    ('{"a":1,"b":2}', "$['b','a','x']"): ("ERROR", '{"a":1,"b":2}'),
    ('{"a b":3}', "$.['a b']"): ("3", "ERROR"), ('{"a.b":5}', '$["a.b"]'): ("5", "ERROR"),
    ('{"é":5}', "$.é"): ("5", "ERROR"), ('{"a-b":3}', "a-b"): ("3", "ERROR"), ('{"$a":5}', "$.$a"): ("5", "ERROR"),
    ('{"a":[{"b":1},{"c":2}]}', "$.a[*].b"): ("ERROR", "[1]"), ('{"a":1}', "$.a[0]"): ("ERROR", "ERROR"),
    ('{"a":1}', "$.b[*]"): ("ERROR", "ERROR"), ('{"a":1}', "lax $.b[*]"): ("EMPTY", "[]"),
    ('{"b":1,"a":{"z":1,"y":[1.50,2e3,"\\u00e9\\u001f\\n\\/"]}}', "$"):
        ("ERROR", '{"a":{"y":[1.50,2E+3,"é\\u001F\\n/"],"z":1},"b":1}'),
}  # fmt: skip


@pytest.mark.parametrize(("document", "path"), FOUND, ids=[f"{d[:20]} {p}" for d, p in FOUND])
def test_a_path_finds_what_flink_finds(document: str, path: str) -> None:
    value, part = FOUND[document, path]
    table = {"j": (types.STRING, [document, None])}
    quoted = path.replace("'", "''")
    found = evaluate(f"JSON_VALUE(j, '{quoted}' DEFAULT 'EMPTY' ON EMPTY DEFAULT 'ERROR' ON ERROR)", table)
    assert found == [value, None]
    default = None if value in ("EMPTY", "ERROR") else value
    assert evaluate(f"JSON_VALUE(j, '{quoted}')", table) == [default, None]
    texts = {"EMPTY": "[]", "ERROR": "{}"}
    found = evaluate(f"JSON_QUERY(j, '{quoted}' EMPTY ARRAY ON EMPTY EMPTY OBJECT ON ERROR)", table)
    assert found == [texts.get(part, part), None]


@pytest.mark.parametrize(
    ("clause", "expected"),
    [
        ("'$.a'", ["1", None, None, "x", "true", None]),
        ("'$.a' RETURNING INTEGER", [1, None, None, CAST, CAST, None]),
        ("'$.a' RETURNING DOUBLE", [1.0, None, None, CAST, CAST, None]),
        ("'$.a' RETURNING BOOLEAN", [CAST, None, None, CAST, True, None]),
        ("'$.a' RETURNING INTEGER DEFAULT 7 ON ERROR", [1, 7, 7, CAST, CAST, None]),
        ("'lax $.a' DEFAULT FALSE ON EMPTY", ["1", "false", "false", "x", "true", None]),
        ("'lax $.a' DEFAULT 1.50 ON EMPTY", ["1", "1.50", "1.50", "x", "true", None]),
        ("'$.a' ERROR ON ERROR", ["1", BAD, BAD, "x", "true", None]),
        ("'lax $.a' ERROR ON EMPTY", ["1", BAD, BAD, "x", "true", None]),
        ("'lax $.a' NULL ON EMPTY ERROR ON ERROR", ["1", None, None, "x", "true", None]),
        ("'$.a' DEFAULT CAST(j AS INT) ON ERROR", ["1", CAST, CAST, "x", "true", None]),
    ],
)
def test_json_value_returns_types_and_defaults(clause: str, expected: list[object]) -> None:
    documents = ['{"a":1}', "{}", "no JSON", '{"a":"x"}', '{"a":true}', None]
    if "CAST(j" in clause:
        clause = clause.replace("CAST(j AS INT)", "CAST(CAST(j AS INT) AS STRING)")
    assert evaluate(f"JSON_VALUE(j, {clause})", {"j": (types.STRING, documents)}) == expected


def test_numbers_beyond_their_type_reject_the_row() -> None:
    table = {"j": (types.STRING, ["2147483647", "2147483648", "1.0", "1e400", "null", None])}
    assert evaluate("JSON_VALUE(j, '$' RETURNING INTEGER)", table) == [2**31 - 1, CAST, CAST, CAST, None, None]
    doubles = [2**31 - 1, 2**31, 1.0, float("inf"), None, None]
    assert evaluate("JSON_VALUE(j, '$' RETURNING DOUBLE)", table) == doubles


def test_a_wrapper_makes_an_array_of_a_value() -> None:
    table = {"j": (types.STRING, ["1", "[1, 2]", '{"b":1}', "x", None])}
    assert evaluate("JSON_QUERY(j, '$')", table) == [None, "[1,2]", '{"b":1}', None, None]
    for words in ("CONDITIONAL ARRAY WRAPPER", "CONDITIONAL WRAPPER"):
        assert evaluate(f"JSON_QUERY(j, '$' WITH {words})", table) == ["[1]", "[1,2]", '[{"b":1}]', None, None]
    for words in ("UNCONDITIONAL ARRAY WRAPPER", "WRAPPER", "ARRAY WRAPPER"):
        assert evaluate(f"JSON_QUERY(j, '$' WITH {words})", table) == ["[1]", "[[1,2]]", '[{"b":1}]', None, None]
    assert evaluate("JSON_QUERY(j, '$' WITHOUT ARRAY WRAPPER ERROR ON ERROR)", table)[0] == BAD
    assert evaluate("JSON_QUERY(j, 'lax $.x' ERROR ON EMPTY)", table) == [BAD] * 4 + [None]


def test_json_exists_and_its_errors() -> None:
    table = {"j": (types.STRING, ['{"a":0}', '{"a":null}', "{}", "x", None])}
    assert evaluate("JSON_EXISTS(j, '$.a')", table) == [True, False, False, False, None]
    assert evaluate("JSON_EXISTS(j, '$.a' TRUE ON ERROR)", table) == [True, True, True, True, None]
    assert evaluate("JSON_EXISTS(j, '$.a' UNKNOWN ON ERROR)", table) == [True, None, None, None, None]
    assert evaluate("JSON_EXISTS(j, '$.a' ERROR ON ERROR)", table) == [True, BAD, BAD, BAD, None]
    assert evaluate("JSON_EXISTS(j, 'lax $.a' ERROR ON ERROR)", table) == [True, False, False, False, None]


def test_is_json_looks_at_the_first_value() -> None:
    texts = ["1", "[]", "{}", '"a"', "abc", "", " ", "1 2", "1abc", "truex", "{'a':1}", "NaN", "+1", ".5", "01",
             '"\n"', "[1,]", "\u00a01", '"\\ud800"', "\t1", " null ", '{"a":1}x', None]  # fmt: skip
    good = {0: "S", 1: "A", 2: "O", 3: "S", 7: "S", 18: "S", 19: "S", 20: "S", 21: "O"}
    table = {"j": (types.STRING, texts)}
    kinds = [good.get(i) for i in range(len(texts))]
    assert evaluate("j IS JSON", table) == [k is not None for k in kinds]
    assert evaluate("j IS NOT JSON VALUE", table) == [k is None for k in kinds]
    for word in ("SCALAR", "ARRAY", "OBJECT"):
        assert evaluate(f"j IS JSON {word}", table) == [k == word[0] for k in kinds]
        assert evaluate(f"j IS NOT JSON {word} AND TRUE", table) == [k != word[0] for k in kinds]


COLUMNS = {
    "s": (types.STRING, ['a"\\\n\x1fé😀/', "", None]),
    "i": (types.BIGINT, [-(2**63), 0, None]),
    "f": (types.FLOAT, [1.5, -0.0, None]),
    "d": (types.DOUBLE, [1e10, float("nan"), None]),
    "e": (types.DOUBLE, [1e-5, float("-inf"), None]),
    "n": (types.decimal(12, 8), [Decimal("1.50000000"), Decimal("0.00000001"), None]),
    "b": (types.BOOLEAN, [True, False, None]),
    "x": (types.BYTES, [b"\1\2\xff", b"", None]),
    "t": (types.TIMESTAMP, [datetime(2018, 1, 1, 10, 0, 10, 120_000), datetime(1969, 12, 31), None]),
    "z": (types.TIMESTAMP_LTZ, [datetime(2018, 1, 1, tzinfo=UTC), datetime(1969, 12, 31, tzinfo=UTC), None]),
}


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        ("s", ['"a\\"\\\\\\n\\u001Fé😀/"', '""', None]), ("i", ["-9223372036854775808", "0", None]),
        ("f", ["1.5", "0.0", None]), ("d", ["1.0E+10", '"NaN"', None]), ("e", ["0.000010", '"-Infinity"', None]),
        ("n", ["1.50000000", "1E-8", None]), ("b", ["true", "false", None]), ("x", ['"AQL/"', '""', None]),
        ("t", ['"2018-01-01T10:00:10.12"', '"1969-12-31T00:00:00"', None]),
        ("z", ['"2018-01-01T00:00:00Z"', '"1969-12-31T00:00:00Z"', None]),
    ],
)  # fmt: skip
def test_a_value_as_json(column: str, expected: list[object]) -> None:
    assert evaluate(f"JSON_STRING({column})", COLUMNS) == expected
    inside = [f'{{"k":{text or "null"}}}' for text in expected]
    assert evaluate(f"JSON_OBJECT('k' VALUE {column})", COLUMNS) == inside
    assert evaluate(f"JSON_ARRAY({column})", COLUMNS) == [*[f"[{text}]" for text in expected[:2]], "[]"]
    assert evaluate(f"JSON_ARRAY({column} NULL ON NULL)", COLUMNS)[2] == "[null]"


def test_objects_sort_their_keys_and_nest() -> None:
    assert evaluate("JSON_OBJECT(KEY 'b' VALUE i, 'a' VALUE s ABSENT ON NULL)", COLUMNS)[1:] == [
        '{"a":"","b":0}',
        "{}",
    ]
    sql = "JSON_OBJECT('o' VALUE JSON_OBJECT('k\"' VALUE b), 'a' VALUE JSON_ARRAY(i, JSON_ARRAY()), 't' VALUE '[1]')"
    assert evaluate(sql, COLUMNS)[1] == '{"a":[0,[]],"o":{"k\\"":false},"t":"[1]"}'
    assert one("JSON_OBJECT('a' VALUE 1, 'a' VALUE 2)") == '{"a":2}'
    assert one("JSON_ARRAY(NULL ON NULL)") == "[]"
    assert one("JSON_STRING(NULL)") is None


def test_quoting_and_unquoting() -> None:
    table = {"s": (types.STRING, ['a"b/\\', "é😀", "\n\t\x01", "", None])}
    assert evaluate("JSON_QUOTE(s)", table) == [
        '"a\\"b\\/\\\\"',
        '"\\u00e9\\ud83d\\ude00"',
        '"\\n\\t\x01"',
        '""',
        None,
    ]
    texts = ["123", '"abc"', '"a\\u00e9\\n"', '"a', '"', '""', "", '"\\x"', '"\\ud83d\\ude00"', '"a"b"', '"\\ud800"']
    expected = ["123", "abc", "aé\n", '"a', '"', "", "", '"\\x"', "😀", 'a"b', "?"]
    assert evaluate("JSON_UNQUOTE(s)", {"s": (types.STRING, [*texts, None])}) == [*expected, None]


@pytest.mark.parametrize(
    ("sql", "code", "remedy"),
    [
        ("JSON_VALUE(j)", "syntax", "JSON_VALUE("), ("JSON_VALUE(j, '$.a' RETURNING DATE)", "syntax", "CAST"),
        ("JSON_VALUE(j, '$.a' DEFAULT 1)", "syntax", "ON EMPTY"),
        ("JSON_VALUE(j, '$.a' NULL ON NULL)", "syntax", "ON"),
        ("JSON_VALUE(j, '$a')", "type_mismatch", "$.name"), ("JSON_VALUE(j, '')", "type_mismatch", "$.name"),
        ("JSON_VALUE(j, '$[?(@.a > 1)]')", "type_mismatch", "JSON_QUERY"),
        ("JSON_VALUE(j, j)", "type_mismatch", "quotes"),
        ("JSON_QUERY(j, '$.a.length()')", "type_mismatch", "JSON_QUERY"),
        ("JSON_VALUE(1, '$')", "type_mismatch", "CAST"),
        ("JSON_QUERY(j, '$' RETURNING INT)", "type_mismatch", "RETURNING"),
        ("JSON_QUERY(j, '$' WITH CONDITIONAL ARRAY)", "syntax", "WRAPPER"),
        ("JSON_QUERY(j, '$..')", "type_mismatch", "$"),
        ("JSON_VALUE(j, '$' RETURNING INT DEFAULT 'x' ON EMPTY)", "type_mismatch", "CAST(x AS INT)"),
        ("JSON_EXISTS(j, '$' TRUE ON EMPTY)", "syntax", "ON ERROR"),
        ("JSON_OBJECT(j VALUE 1)", "type_mismatch", "KEY"),
        ("JSON_OBJECT('a')", "syntax", "VALUE"), ("JSON_STRING(DATE '2018-01-01')", "type_mismatch", "CAST"),
        ("j IS JSON LIST", "syntax", ""), ("j IS WRONG", "syntax", "="),
        ("JSON_STRING(1, 2)", "type_mismatch", "arguments"),
    ],
)  # fmt: skip
def test_what_cannot_be_has_a_place_and_a_remedy(sql: str, code: str, remedy: str) -> None:
    with pytest.raises(SqlErrors) as caught:
        bind_text(sql, [Column("j", types.STRING)])
    (error,) = caught.value.errors
    assert (error.code, error.line) == (code, 1)
    assert error.column >= 1
    assert remedy in error.remedy


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=40, deadline=None)
@given(JSON, st.lists(st.sampled_from(["a", "b", 0, -1]), max_size=3))
def test_paths_agree_with_a_plain_reading(document: object, steps: list[str | int]) -> None:
    path = "$" + "".join(f"[{s}]" if isinstance(s, int) else f".{s}" for s in steps)
    value = document
    for step in steps:
        try:
            # A text has no elements; for any other wrong shape there is the except.
            value = None if isinstance(value, str) else value[step]  # type: ignore[index]  # see above
        except (KeyError, IndexError, TypeError):
            value = None
    text = json.dumps(document, ensure_ascii=False)
    table = {"j": (types.STRING, [text, text])}
    part = evaluate(f"JSON_QUERY(j, '{path}')", table)[0]
    scalar = evaluate(f"JSON_VALUE(j, 'lax {path}')", table)[1]
    if isinstance(value, dict | list):
        assert isinstance(part, str)
        assert json.loads(part) == value
        assert part == json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":")) or "\\u" in part
        assert scalar is None
    else:
        assert part is None
        kind = {True: "true", False: "false"} if isinstance(value, bool) else {}
        assert scalar == (None if value is None else kind.get(value, str(value)))  # type: ignore[call-overload]  # a bool
    assert evaluate(f"JSON_EXISTS(j, '{path}')", table)[0] is (value is not None)


@settings(max_examples=150, deadline=None)
@given(st.text("$.[]*'\"ab01,:-? (@)laxstrict\\", max_size=12))
def test_any_text_is_a_path_or_a_clear_refusal(text: str) -> None:
    try:
        outcome = json_path(text).find('{"a":[{"b":1}]}')[0]
    except Mismatch as refusal:
        outcome = "error" if refusal.remedy else "empty"
    assert outcome in ("value", "empty", "error")
