"""Encodings and hashes: what is none is NULL or rejects its row, bytes and characters, Java's reading of URLs."""

from __future__ import annotations

import base64
import hashlib
import ipaddress

import pytest
from core.expression_eval import evaluate, one
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.errors import SqlErrors
from penstock.expressions.bind import bind_text
from penstock.model import types

BAD = "error: bad_argument"


@pytest.mark.parametrize(
    ("sql", "values", "expected"),
    [
        ("FROM_BASE64(s)", ["aGk=", "aGk", "", "a", "!!", "aG\nk=", "YQ=", " YQ==", "YQ===", "/w==", None],
         ["hi", "hi", "", BAD, BAD, BAD, BAD, BAD, BAD, "\ufffd", None]),
        ("TO_BASE64(s)", ["", "é😀", None], ["", "w6nwn5iA", None]),
        ("UNHEX(s)", ["4a4B", "4A4", "", "g0", "4G1", "F", None],
         [b"\x4a\x4b", b"\0\xa4", b"", None, None, b"\0", None]),
        ("HEX(s)", ["", "é", None], ["", "C3A9", None]),
        ("URL_ENCODE(s)", ["a b+é*~.-_!'()/😀", "", None],
         ["a+b%2B%C3%A9*%7E.-_%21%27%28%29%2F%F0%9F%98%80", "", None]),
        ("URL_DECODE(s)", ["a%20b+c", "%", "%zz", "%2", "%C3", "%c3%a9", "", None],
         ["a b c", None, None, None, "\ufffd", "é", "", None]),
        ("INET_ATON(s)", ["1.2.3.4", "127.1", "10.1.2", "7", "01.2.3.4", "256.1", "1.2.3.4.5", "", "1..2", "a",
                          "4294967296", "-1", "1.2.3.4 ", None],
         [16909060, 2130706433, 167837698, 7, 16909060] + [None] * 9),
        ("SHA512(s) = SHA2(s, 512)", ["", "é", None], [True, True, None]),
        ("ENCODE(s, 'UTF-16')", ["aé😀", "", None], [b"\xfe\xff\0a\0\xe9\xd8\x3d\xde\0", b"\xfe\xff", None]),
        ("ENCODE(s, 'us-ascii')", ["aé😀", None], [b"a??", None]),
        ("DECODE(CAST(s AS BYTES), 'UTF-16LE')", ["a\0", None], ["a", None]),
    ],
)  # fmt: skip
def test_an_encoding_of_texts(sql: str, values: list[object], expected: list[object]) -> None:
    assert evaluate(sql, {"s": (types.STRING, values)}) == expected


def test_numbers_in_other_digits_wrap_at_64_bits() -> None:
    table = {"n": (types.BIGINT, [0, 12, -1, -(2**63), None])}
    assert evaluate("BIN(n)", table) == ["0", "1100", "1" * 64, "1" + "0" * 63, None]
    assert evaluate("HEX(n)", table) == ["0", "C", "F" * 16, "8" + "0" * 15, None]
    assert evaluate("HEX(CAST(n AS TINYINT))", table)[2] == "F" * 16
    ends = {"n": (types.BIGINT, [0, 2**32 - 1, 2**32, -1, None])}
    assert evaluate("INET_NTOA(n)", ends) == ["0.0.0.0", "255.255.255.255", None, None, None]


def test_decoding_puts_marks_for_what_a_character_set_lacks() -> None:
    table = {"b": (types.BYTES, [b"a\xe9\xff\0", b"\xfe\xff\0a\0", b"\xff\xfea\0", None])}
    assert evaluate("DECODE(b, 'US-ASCII')", table)[0] == "a\ufffd\ufffd\0"
    assert evaluate("DECODE(b, 'ISO-8859-1')", table)[0] == "aéÿ\0"
    assert evaluate("DECODE(b, 'UTF-16')", table) == ["\u61e9\uff00", "a\ufffd", "a", None]
    assert evaluate("DECODE(b, 'UTF-16BE')", table)[1] == "\ufeffa\ufffd"
    assert evaluate("TO_BASE64(b)", table)[0] == "Yen/AA=="


URLS = {
    "http://user:pw@h.com:80/p/q?k1=v1&k2=v2#Ref": ("h.com", "/p/q", "k1=v1&k2=v2", "Ref", "/p/q?k1=v1&k2=v2",
                                                    "user:pw@h.com:80", "user:pw"),
    "https://h": ("h", "", None, None, "", "h", None),
    "http://h?x=1": ("h", "", "x=1", None, "?x=1", "h", None),
    "http://h/p?#": ("h", "/p", "", "", "/p?", "h", None),
    "http://[::1]:80/a b": ("[::1]", "/a b", None, None, "/a b", "[::1]:80", None),
    "http://@h:/": ("h", "/", None, None, "/", "@h:", ""),
    "http://a@b@h/p": ("", "/p", None, None, "/p", "a@b@h", None),
    " HTTP://H/../A ": ("H", "/../A", None, None, "/../A", "H", None),
    "http:///a": ("", "/a", None, None, "/a", "", None),
    "mailto:a@b": ("", "a@b", None, None, "a@b", None, None),
    "foo://h/a": (None,) * 7,
    "nohost": (None,) * 7,
    "": (None,) * 7,
    "http://h:port/": (None,) * 7,
}  # fmt: skip


def test_parts_of_urls_are_those_of_java() -> None:
    table = {"u": (types.STRING, [*URLS, None])}
    parts = ("HOST", "PATH", "QUERY", "REF", "FILE", "AUTHORITY", "USERINFO")
    for i, part in enumerate(parts):
        assert evaluate(f"PARSE_URL(u, '{part}')", table) == [*[found[i] for found in URLS.values()], None], part
    assert evaluate("PARSE_URL(u, 'host')", table) == [None] * (len(URLS) + 1)
    assert evaluate("PARSE_URL(u, 'PROTOCOL')", table)[7:10] == ["http", "http", "mailto"]


def test_a_key_of_a_query_is_found_once_and_literally() -> None:
    table = {"u": (types.STRING, ["http://h/p?x=a=b&x=2&y=&a.b=3", "http://h/p", None])}
    assert evaluate("PARSE_URL(u, 'QUERY', 'x')", table) == ["a=b", None, None]
    assert evaluate("PARSE_URL(u, 'QUERY', 'y')", table) == ["", None, None]
    assert evaluate("PARSE_URL(u, 'QUERY', 'a.b')", table) == ["3", None, None]
    assert evaluate("PARSE_URL(u, 'QUERY', 'a_b')", table) == [None] * 3
    assert evaluate("PARSE_URL(u, 'HOST', 'x')", table) == [None] * 3


def test_a_digest_of_unknown_length_rejects_its_row_or_the_app() -> None:
    table = {"s": (types.STRING, ["a"] * 3), "bits": (types.INT, [224, 1, None])}
    assert evaluate("SHA2(s, bits)", table) == [hashlib.sha224(b"a").hexdigest(), BAD, None]
    with pytest.raises(SqlErrors, match="224, 256, 384 or 512"):
        bind_text("SHA2('a', 1)", [])


@pytest.mark.parametrize(
    ("sql", "remedy"),
    [
        ("ENCODE('a', 'EBCDIC')", "US-ASCII"),
        ("DECODE('a', 'UTF-8')", "CAST(x AS BYTES)"),
        ("HEX(1.5)", "CAST(x AS STRING)"),
        ("BIN('a')", "CAST(x AS BIGINT)"),
        ("INET_NTOA('a')", "CAST(x AS BIGINT)"),
        ("FROM_BASE64(1)", "CAST(x AS STRING)"),
        ("PI(1)", "arguments"),
        ("LOG()", "arguments"),
        ("PARSE_URL('a')", "arguments"),
    ],
)
def test_wrong_arguments_have_a_place_and_a_remedy(sql: str, remedy: str) -> None:
    with pytest.raises(SqlErrors) as caught:
        bind_text("  " + sql, [])
    (error,) = caught.value.errors
    assert (error.line, error.column, remedy in error.remedy) == (1, 3, True)


def test_logarithms_and_hyperbolic_functions_at_their_borders() -> None:
    table = {"x": (types.DOUBLE, [0.0, -1.0, 1000.0, None])}
    inf = float("inf")
    assert evaluate("LOG(x)", table)[0] == -inf
    assert str(evaluate("LOG(x)", table)[1]) == "nan"
    assert one("LOG(1, 10)") == inf
    assert one("LOG(10, 1000)") == pytest.approx(3, abs=1e-14)
    assert evaluate("COT(x)", table)[0] == inf
    assert evaluate("SINH(x)", table)[2:] == [inf, None]
    assert evaluate("COSH(x)", table)[2:] == [inf, None]
    assert evaluate("TANH(x)", table) == [0.0, pytest.approx(-0.7615941559557649), 1.0, None]


@settings(max_examples=20, deadline=None)
@given(st.lists(st.one_of(st.none(), st.text(max_size=8)), min_size=1, max_size=5), st.integers(0, 2**32 - 1))
def test_what_is_encoded_is_decoded_again(texts: list[str | None], address: int) -> None:
    table = {"s": (types.STRING, texts)}
    assert evaluate("FROM_BASE64(TO_BASE64(s))", table) == texts
    assert evaluate("URL_DECODE(URL_ENCODE(s))", table) == texts
    assert evaluate("DECODE(UNHEX(HEX(s)), 'UTF-8')", table) == texts
    assert evaluate("DECODE(ENCODE(s, 'UTF-16'), 'UTF-16')", table) == texts
    assert evaluate("TO_BASE64(s)", table)[0] == (
        None if texts[0] is None else base64.b64encode(texts[0].encode()).decode()
    )
    number = {"n": (types.BIGINT, [address])}
    assert evaluate("INET_NTOA(n)", number) == [str(ipaddress.IPv4Address(address))]
    assert evaluate("INET_ATON(INET_NTOA(n))", number) == [address]
