"""Functions of text: characters and not bytes, borders, NULL, patterns."""

from __future__ import annotations

import re

import pytest
from core.expression_eval import evaluate, one
from hypothesis import given, settings
from hypothesis import strategies as st

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
        ("MD5(s) = MD5(s)", [True, True, True, True, None]),
    ],
)
def test_text_functions_over_empty_short_wide_and_null(sql: str, expected: list[object]) -> None:
    assert evaluate(sql, {"s": (types.STRING, TEXTS)}) == expected


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
