"""Regular expressions as Java reads them, and SIMILAR TO."""

from __future__ import annotations

import re

import polars as pl
import pytest
from core.expression_eval import evaluate, one
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.errors import SqlErrors
from penstock.expressions.bind import bind_text
from penstock.expressions.coercion import Mismatch
from penstock.expressions.java_regex import polars_pattern
from penstock.model import types
from penstock.model.stream import Column


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        (r"\d+", "\u06634", "4"), (r"\w+", "éa_1", "a_1"), (r"[\d.]+", "x1.5", "1.5"), (r"[^\d]", "1é", "é"),
        (r"\D", "\u0663", "\u0663"), (r"[\W]", "aé", "é"), (r"\s", "\u2003 ", " "), (r"\h", "a\u00a0", "\u00a0"),
        (r"\p{Alpha}+", "éab", "ab"), (r"[\p{Upper}\p{Digit}]+", "éAB1", "AB1"), (r"\P{Alpha}", "aé", "é"),
        (r"\p{L}+", "1é", "é"), (r"\p{IsAlphabetic}+", "1é", "é"), (r"\p{Punct}", "a!", "!"), (r"\pL", "1é", "é"),
        (r"\Qa.b\E+", "xa.bb", "a.bb"), (r"\Qa.b", "a.b", "a.b"), (r"a\Eb", "ab", "ab"),
        (".+", "a\rb", "a"), (".+", "a\u2028b", "a"), ("(?s).+", "a\nb", "a\nb"), ("(?i:A)b", "ab", "ab"),
        ("[]a]+", "x]a", "]a"), ("[*+]+", "a*+", "*+"), ("[[:alpha:]]+", "al:x", "al:"), ("[--/]+", "-./", "-./"),
        ("[a-c&&[^b]]+", "abc", "a"), ("[a~~b]", "~", "~"), (r"[\]\\]+", "]\\", "]\\"), ("a{2}?", "aaaa", "aa"),
        (r"\<\é\-", "<é-", "<é-"), (r"\u00e9\x41\t\e", "éA\t\x1b", "éA\t\x1b"),
        (r"(?<year>\d{4})", "in 2026", "2026"),
        (r"\\1", "\\1", "\\1"), ("a|b|", "c", ""), ("(?m)^b", "a\nb", "b"), (r"\bé\b", "é", "é"),
    ],
)  # fmt: skip
def test_a_pattern_finds_what_java_finds(pattern: str, text: str, expected: str) -> None:
    quoted = pattern.replace("'", "''")
    assert evaluate(f"REGEXP_SUBSTR(s, '{quoted}')", {"s": (types.STRING, [text])}) == [expected]


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        (r"REGEXP_COUNT(s, '\d')", [0, 3, 0, None]),
        (r"REGEXP_COUNT(s, 'x')", [0, 0, 0, None]),
        (r"REGEXP_INSTR(s, '\d')", [0, 3, 0, None]),
        (r"REGEXP_INSTR(s, '')", [1, 1, 1, None]),
        (r"REGEXP_SUBSTR(s, '[0-9]+')", [None, "12", None, None]),
        (r"REGEXP_EXTRACT(s, '(?<n>\d)(\d)', 2)", [None, "2", None, None]),
        (r"REGEXP_EXTRACT(s, 'é(x)?', 1)", [None, None, None, None]),
        (r"REGEXP_REPLACE(s, '\d+', '$0\')", ["", "né$0\\-$0\\", "a\nb", None]),
        (r"REGEXP_REPLACE(s, '\s', '')", ["", "né12-3", "ab", None]),
        (r"REGEXP(s, '')", [False, False, False, None]),
        (r"REGEXP(s, 'a.b')", [False, False, False, None]),
        (r"REGEXP(s, '^$')", [True, False, False, None]),
        (r"s SIMILAR TO ''", [True, False, False, None]),
        (r"s SIMILAR TO '%'", [True, True, True, None]),
        (r"s SIMILAR TO 'a_b'", [False, False, False, None]),
        (r"s NOT SIMILAR TO 'a%b'", [True, True, False, None]),
    ],
)
def test_regular_expressions_over_empty_wide_and_null(sql: str, expected: list[object]) -> None:
    assert evaluate(sql, {"s": (types.STRING, ["", "né12-3", "a\nb", None])}) == expected


@pytest.mark.parametrize(
    ("text", "pattern", "expected"),
    [
        ("abc", "abc", True), ("abc", "a", False), ("abc", "a%", True), ("abc", "_b_", True),
        ("abc", "(b|c)%", False),
        ("abbb", "ab{3}", True), ("abbb", "ab+", True), ("a", "ab?", True), ("a$b", "a$b", True),
        ("a.b", "a.b", True),
        ("a\\b", "a\\b", True), ("Z9", "[[:UPPER:]][[:digit:]]", True), ("é", "[[:ALPHA:]]", False),
        ("b", "[a-c]", True), ("b", "[^a-c]", False), ("", "(a|)", True),
    ],
)  # fmt: skip
def test_similar_to(text: str, pattern: str, expected: bool) -> None:
    assert one(f"'{text}' SIMILAR TO '{pattern}'") is expected
    assert one(f"NOT '{text}' SIMILAR TO '{pattern}'") is not expected


def test_an_escape_in_similar_to_makes_a_character_plain() -> None:
    assert one("'100%' SIMILAR TO '[0-9]+!%' ESCAPE '!'") is True
    assert one("'100x' SIMILAR TO '[0-9]+!%' ESCAPE '!'") is False
    assert one("'a+' NOT SIMILAR TO 'a!+' ESCAPE '!'") is False
    assert one("'!' SIMILAR TO '!!' ESCAPE '!'") is True


@pytest.mark.parametrize(
    ("sql", "remedy"),
    [
        (r"REGEXP(s, '(?=a)')", "simpler"), (r"REGEXP(s, 'a(?<!b)')", "simpler"), (r"REGEXP(s, '(a)\1')", "simpler"),
        (r"REGEXP_COUNT(s, 'a++')", "simpler"), (r"REGEXP_SUBSTR(s, '(?>a)')", "simpler"),
        (r"REGEXP_INSTR(s, '(')", "brackets"), (r"REGEXP_REPLACE(s, '[a', '')", "brackets"),
        (r"REGEXP(s, 'a\')", "brackets"), (r"REGEXP(s, '\R')", "brackets"), (r"REGEXP(s, s)", "quotes"),
        (r"REGEXP_EXTRACT(s, 'a', 1)", "parentheses"), (r"REGEXP_EXTRACT(s, 'a', -1)", "REGEXP_EXTRACT"),
        (r"s SIMILAR TO 'a!b' ESCAPE '!'", "Escape only"), (r"s SIMILAR TO 'a' ESCAPE 'ab'", "ESCAPE"),
        (r"s SIMILAR TO '[[:WORD:]]'", "ALNUM"), (r"s SIMILAR TO '[a%]'", "Escape it"),
        (r"s SIMILAR TO '(a'", "brackets"),
    ],
)  # fmt: skip
def test_a_pattern_that_cannot_be_has_a_place_and_a_remedy(sql: str, remedy: str) -> None:
    with pytest.raises(SqlErrors) as caught:
        bind_text("\n " + sql, [Column("s", types.STRING)])
    (error,) = caught.value.errors
    assert (error.line, error.column) == (2, 2)
    assert remedy in error.remedy


PIECES = st.sampled_from(["a", "b", "é", "[ab]", "[^a]", r"\d", r"\W", "(ab)", "a*?b", "b+", "(?:a|1)", "x?1", r"\."])


@settings(max_examples=60, deadline=None)
@given(st.lists(PIECES, min_size=1, max_size=4).map("".join), st.lists(st.text("ab1é. ", max_size=8), max_size=4))
def test_functions_agree_with_a_plain_reading(pattern: str, texts: list[str]) -> None:
    known = re.compile(pattern, re.ASCII)
    table = {"s": (types.STRING, [*texts, None])}
    finds = [list(known.finditer(text)) for text in texts]
    assert evaluate(f"REGEXP(s, '{pattern}')", table) == [*map(bool, finds), None]
    assert evaluate(f"REGEXP_COUNT(s, '{pattern}')", table) == [*map(len, finds), None]
    assert evaluate(f"REGEXP_INSTR(s, '{pattern}')", table) == [*[f[0].start() + 1 if f else 0 for f in finds], None]
    assert evaluate(f"REGEXP_SUBSTR(s, '{pattern}')", table) == [*[f[0][0] if f else None for f in finds], None]
    assert evaluate(f"REGEXP_REPLACE(s, '{pattern}', '-')", table) == [*[known.sub("-", t) for t in texts], None]
    assert evaluate(f"s SIMILAR TO '{pattern.replace('?', '')}%'", table)[-1] is None


@settings(max_examples=150, deadline=None)
@given(st.text(r"ab[]^-&~\dQEp{}LuAlpha():?*+.|$s,1", max_size=14))
def test_any_text_is_a_pattern_or_a_clear_refusal(pattern: str) -> None:
    try:
        found = pl.Series(["a"]).str.contains(polars_pattern(pattern)).to_list()
    except Mismatch as refusal:
        found = [True] if refusal.remedy else []
    assert found in ([True], [False])
