"""Functions of text: characters and not bytes, borders, NULL, patterns."""

from __future__ import annotations

import re

import pytest
from core.expression_eval import evaluate, one
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.errors import SqlErrors
from penstock.expressions.bind import bind_text
from penstock.model import types

TEXTS = ["", "a", "né😀b", "  x ", None]


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("CHAR_LENGTH(s)", [0, 1, 4, 4, None]),
        ("REVERSE(s)", ["", "a", "b😀én", " x  ", None]),
        ("LEFT(s, 2)", ["", "a", "né", "  ", None]),
        ("LEFT(s, 0)", ["", "", "", "", None]),
        ("LEFT(s, CAST(NULL AS INT))", [None] * 5),
        ("RIGHT(s, 2)", ["", "a", "😀b", "x ", None]),
        ("RIGHT(s, -1)", ["", "", "", "", None]),
        ("SUBSTRING(s, 2)", ["", "", "é😀b", " x ", None]),
        ("SUBSTRING(s, 0, 2)", ["", "a", "né", "  ", None]),
        ("SUBSTRING(s, -2, 1)", ["", "", "😀", "x", None]),
        ("SUBSTRING(s, 3, 0)", ["", "", "", "", None]),
        ("SUBSTRING(s, 1, CAST(NULL AS INT))", [None] * 5),
        ("UPPER(s)", ["", "A", "NÉ😀B", "  X ", None]),
        ("TRIM(s)", ["", "a", "né😀b", "x", None]),
        ("TRIM(TRAILING 'b' FROM s)", ["", "a", "né😀", "  x ", None]),
        ("LTRIM(s)", ["", "a", "né😀b", "x ", None]),
        ("BTRIM(s, ' x')", ["", "a", "né😀b", "", None]),
        ("INSTR(s, 'b')", [0, 0, 4, 0, None]),
        ("INSTR(s, '')", [1, 1, 1, 1, None]),
        ("POSITION('😀' IN s)", [0, 0, 3, 0, None]),
        ("REPLACE(s, ' ', '_')", ["", "a", "né😀b", "__x_", None]),
        ("REPEAT(s, 2)", ["", "aa", "né😀bné😀b", "  x   x ", None]),
        ("LPAD(s, 2, 'é')", ["éé", "éa", "né", "  ", None]),
        ("RPAD(s, 3, '.')", ["...", "a..", "né😀", "  x", None]),
        ("LPAD(s, 3, '')", [None] * 5),
        ("s || '!'", ["!", "a!", "né😀b!", "  x !", None]),
        ("CONCAT_WS(',', s, 'z')", [",z", "a,z", "né😀b,z", "  x ,z", "z"]),
        ("SPLIT_INDEX(s, 'é', 1)", [None, None, "😀b", None, None]),
        ("SPLIT_INDEX(s, 'é', -1)", [None] * 5),
        ("STARTSWITH(s, 'n')", [False, False, True, False, None]),
        ("ENDSWITH(s, '')", [True, True, True, True, None]),
        ("REGEXP(s, '^.$')", [False, True, False, False, None]),
        ("REGEXP_EXTRACT(s, '(é)(.)', 2)", [None, None, "😀", None, None]),
        ("REGEXP_REPLACE(s, '[a-z]', '$0\\')", ["", "$0\\", "$0\\é😀$0\\", "  $0\\ ", None]),
        ("ASCII(s)", [0, 97, 110, 32, None]),
        ("OVERLAY(s PLACING 'ZZ' FROM 1)", ["", "ZZ", "ZZ😀b", "ZZx ", None]),
        ("OVERLAY(s PLACING 'Z' FROM 2 FOR 0)", ["", "a", "nZ", " Z", None]),
        ("OVERLAY(s PLACING '' FROM 2)", ["", "a", "n", " ", None]),
        ("OVERLAY(s PLACING 'Z' FROM 2 FOR -1)", ["", "a", "nZ", " Z", None]),
        ("SPLIT_INDEX(s, ',', 0)", [None, "a", "né😀b", "  x ", None]),
        ("SPLIT_INDEX(s, '', 2)", [None, None, None, "x", None]),
        ("INITCAP(s || 'ÑB o''neil')", ["ÑB O'Neil", "AÑB O'Neil", "Né😀BÑB O'Neil", "  X ÑB O'Neil", None]),
        ("LOCATE('b', s || 'b', 2)", [0, 2, 4, 5, None]),
        ("LOCATE('b', s || 'b', -7)", [1, 2, 4, 5, None]),
        ("LOCATE('', s, 9)", [1, 1, 1, 1, None]),
        ("LOCATE('b', s, CAST(NULL AS INT))", [None] * 5),
        ("TRANSLATE(s, 'aéx', 'b😀')", ["", "b", "n😀😀b", "   ", None]),
        ("TRANSLATE(s, 'aa', 'xy')", ["", "x", "né😀b", "  x ", None]),
        ("TRANSLATE(s, 'a', NULL)", ["", "", "né😀b", "  x ", None]),
        ("TRANSLATE(s, NULL, 'a')", ["", "a", "né😀b", "  x ", None]),
        ("ELT(CHAR_LENGTH(s), 'one', NULL, 'three', s)", [None, "one", "né😀b", "  x ", None]),
        ("IS_ALPHA(s)", [False, True, False, False, False]),
        ("MD5(s) = MD5(s)", [True, True, True, True, None]),
    ],
)
def test_text_functions_over_empty_short_wide_and_null(sql: str, expected: list[object]) -> None:
    assert evaluate(sql, {"s": (types.STRING, TEXTS)}) == expected


def test_digits_and_numbers_are_those_of_java() -> None:
    texts = ["1", "\uff11", "1.5", "1e5", "0x10", "1d", "NaN", "Infinity", " 1 ", "+1", "-1", "1L", "9" * 20,
             "\u0663", "½", ".5", "5.", "1_0", "0x1p3", "", "-", ".", "abc", "1\u2003", None]  # fmt: skip
    table = {"s": (types.STRING, texts)}
    digits = [text for text, found in zip(texts, evaluate("IS_DIGIT(s)", table), strict=True) if found]
    assert digits == ["1", "\uff11", "9" * 20, "\u0663"]
    numbers = [text for text, found in zip(texts, evaluate("IS_DECIMAL(s)", table), strict=True) if found]
    assert numbers == ["1", "\uff11", "1.5", "1e5", "1d", "NaN", "Infinity", " 1 ", "+1", "-1", "9" * 20, "\u0663",
                       ".5", "5.", "0x1p3"]  # fmt: skip
    letters = {"s": (types.STRING, ["é", "一", "ß1", "a b", "😀", None])}
    assert evaluate("IS_ALPHA(s)", letters) == [True, True, False, False, False, False]


def test_texts_beyond_the_limit_reject_their_row_only() -> None:
    table = {"s": (types.STRING, ["ab", "ab", None]), "n": (types.INT, [2, 2**31 - 1, 2**31 - 1])}
    over = "error: overflow"
    assert evaluate("REPEAT(s, n)", table) == ["abab", over, None]
    assert evaluate("LPAD(s, n, 'x')", table) == ["ab", over, None]
    assert evaluate("RPAD(s, n, '')", table) == [None, None, None]


@pytest.mark.parametrize(
    ("sql", "remedy"),
    [
        ("TRANSLATE('a', 'b')", "arguments"), ("ELT('a', 'b')", "CAST(x AS BIGINT)"), ("ELT(1)", "arguments"),
        ("IS_DIGIT(1)", "CAST(x AS STRING)"), ("LOCATE('a', 'b', 'c')", "CAST(x AS INT)"),
    ],
)  # fmt: skip
def test_wrong_arguments_of_text_functions_have_a_place_and_a_remedy(sql: str, remedy: str) -> None:
    with pytest.raises(SqlErrors) as caught:
        bind_text("\n" + sql, [])
    (error,) = caught.value.errors
    assert (error.line, error.column, remedy in error.remedy) == (2, 1, True)


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=12), st.integers(-14, 14), st.integers(-2, 14))
def test_substring_reads_like_a_slice_of_characters(text: str, start: int, length: int) -> None:
    table = {"s": (types.STRING, [text]), "i": (types.INT, [start]), "n": (types.INT, [length])}
    first = start - 1 if start > 0 else 0 if start == 0 else len(text) + start
    expected = None if length < 0 else "" if first < 0 else text[first : first + length]
    assert evaluate("SUBSTRING(s, i, n)", table) == [expected]
    assert evaluate("SUBSTRING(s, i)", table) == ["" if first < 0 else text[first:]]


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=12), st.text(max_size=3))
def test_instr_counts_characters(text: str, part: str) -> None:
    table = {"s": (types.STRING, [text, text]), "p": (types.STRING, [part, None])}
    assert evaluate("INSTR(s, p)", table) == [text.find(part) + 1, None]


@settings(max_examples=150, deadline=None)
@given(st.text("ab%_!x\n", max_size=8), st.text("abx%_\n", max_size=8))
def test_like_agrees_with_a_plain_reading(pattern: str, text: str) -> None:
    body = "".join({"%": ".*", "_": "."}.get(c, re.escape(c)) for c in pattern)
    expected = re.fullmatch(body, text, re.DOTALL) is not None
    assert evaluate(f"s LIKE '{pattern}'", {"s": (types.STRING, [text])}) == [expected]


def test_replacements_are_taken_literally_also_for_single_rows() -> None:
    for rows in (["a.b$"], ["a.b$", None]):
        table = {"s": (types.STRING, rows), "fresh": (types.STRING, ["$0"] * len(rows))}
        rest = [None] * (len(rows) - 1)
        assert evaluate("REPLACE(s, '.', '$0')", table) == ["a$0b$", *rest]
        assert evaluate("REPLACE(s, '$', fresh)", table) == ["a.b$0", *rest]
        assert evaluate("REPLACE(s, '', '-')", table) == ["-a-.-b-$-", *rest]
        assert evaluate("REGEXP_REPLACE(s, '[.]', '${x}$1')", table) == ["a${x}$1b$", *rest]


def test_quotes_in_constants() -> None:
    assert one("'it''s'") == "it's"
    assert one("'a\\n'") == "a\\n"
    assert one("CHAR_LENGTH('''')") == 1
