"""Encodings and hashes: base64, hexadecimal, character sets, URLs, IPv4 addresses, digests. NULL in, NULL out.

Semantics: Flink 2.3, "System (Built-in) Functions", string and hash functions
(https://nightlies.apache.org/flink/flink-docs-release-2.3/docs/sql/functions/built-in-functions/).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Callable, Sequence
from urllib.parse import quote_plus, unquote_plus

import polars as pl

from penstock.expressions.by_row import by_row, missing
from penstock.expressions.coercion import Mismatch
from penstock.expressions.nodes import Call, Expr, Literal
from penstock.expressions.table import (
    CONSTANT_TEXT,
    INTEGER,
    LONG,
    TEXT,
    Compiled,
    Function,
    Parameter,
    Typing,
    failing,
    plain,
    takes,
    typed,
)
from penstock.expressions.urls import url_part
from penstock.model.types import BIGINT, BYTES, STRING, DataType, Kind

__all__ = ["FUNCTIONS"]

_CHARACTER_SETS = {"US-ASCII": "ascii", "ISO-8859-1": "latin-1", "UTF-8": "utf-8", "UTF-16BE": "utf-16-be",
                   "UTF-16LE": "utf-16-le", "UTF-16": "utf-16-be"}  # fmt: skip
_SHA2_BITS = (224, 256, 384, 512)
_ADDRESS_MAX = 0xFFFF_FFFF


def _bytes_type(expr: Expr) -> DataType | None:
    return BYTES if expr.type.kind in (Kind.BYTES, Kind.NULL) else None


def _text_or_bytes_type(expr: Expr) -> DataType | None:
    if expr.type.kind is Kind.NULL:
        return STRING
    return expr.type if expr.type.kind in (Kind.STRING, Kind.BYTES) else None


_BINARY = Parameter("BYTES", _bytes_type, "Write CAST(x AS BYTES).")
_TEXT_OR_BINARY = Parameter("STRING or BYTES", _text_or_bytes_type, "Write CAST(x AS STRING).")


def _digest(name: str) -> Callable[[str], str]:
    return lambda text: hashlib.new(name, text.encode(), usedforsecurity=False).hexdigest()


def _hash(name: str, algorithm: str, example: str) -> Function:
    return Function(name, f"{name}(text)", f"The {algorithm.upper()} digest as hexadecimal text.",
                    takes(STRING, TEXT), plain(by_row(_digest(algorithm), pl.String())),
                    ((f"{name}('abc')", f'"{example}"'),))  # fmt: skip


def _sha2(text: str, bits: int) -> str | None:
    return _digest(f"sha{bits}")(text) if bits in _SHA2_BITS else None


def _sha2_check(args: Sequence[Expr]) -> Typing:
    typing = takes(STRING, TEXT, INTEGER)(args)
    bits = args[1]
    if isinstance(bits, Literal) and bits.value is not None and bits.value not in _SHA2_BITS:
        raise Mismatch(f"has no digest of {bits.value} bits.", "Write 224, 256, 384 or 512.")
    return typing


def _fallible(build: Callable[..., object], result: pl.DataType) -> Callable[[Call, Sequence[pl.Expr]], Compiled]:
    """A function by row that fails (`bad_argument`) where it returns None for arguments that are not NULL."""
    apply = by_row(build, result)

    def made(_: Call, values: Sequence[pl.Expr]) -> Compiled:
        value = apply(*values)
        return Compiled(value, failing("bad_argument", missing(value, list(values))))

    return made


def _from_base64(text: str) -> str | None:
    """RFC 4648 with or without padding, nothing around it; bytes that are no UTF-8 become U+FFFD."""
    body = text.rstrip("=")
    padding = len(text) - len(body)
    if not re.fullmatch(r"[A-Za-z0-9+/]*", body) or len(body) % 4 == 1 or (padding and len(text) % 4) or padding > 2:
        return None
    try:
        return base64.b64decode(body + "=" * (-len(body) % 4)).decode("utf-8", "replace")
    except binascii.Error:
        return None


def _to_base64(call: Call, values: Sequence[pl.Expr]) -> Compiled:
    value = values[0]
    if call.args[0].type.kind is Kind.BYTES:
        return Compiled(value.bin.encode("base64"))
    return Compiled(value.str.encode("base64"))


def _hex_check(args: Sequence[Expr]) -> Typing:
    if len(args) == 1 and args[0].type.is_integer:
        return takes(STRING, LONG)(args)
    return takes(STRING, TEXT)(args)


def _hex(call: Call, values: Sequence[pl.Expr]) -> Compiled:
    if call.args[0].type.is_integer:
        return Compiled(by_row(lambda n: format(n % 2**64, "X"), pl.String())(values[0]))
    return Compiled(values[0].str.encode("hex").str.to_uppercase())


def _unhex(text: str) -> bytes | None:
    """An odd number of digits: the first is dropped, and a zero byte takes its place."""
    if not re.fullmatch(r"[0-9A-Fa-f]*", text):
        return None
    return (b"\0" if len(text) % 2 else b"") + bytes.fromhex(text[len(text) % 2 :])


def _character_set_check(result: DataType, parameter: Parameter) -> Callable[[Sequence[Expr]], Typing]:
    base = takes(result, parameter, CONSTANT_TEXT)

    def check(args: Sequence[Expr]) -> Typing:
        typing = base(args)
        if _character_set(args) not in _CHARACTER_SETS:
            raise Mismatch(f"does not know the character set '{_character_set(args)[:30]}'.",
                           f"Write one of {', '.join(_CHARACTER_SETS)}.")  # fmt: skip
        return typing

    return check


def _character_set(args: Sequence[Expr]) -> str:
    return str(args[1].value).upper() if isinstance(args[1], Literal) else ""


def _encode(call: Call, values: Sequence[pl.Expr]) -> Compiled:
    """What the character set lacks becomes a question mark; UTF-16 begins with its byte order mark."""
    name = _character_set(call.args)
    mark = b"\xfe\xff" if name == "UTF-16" else b""
    codec = _CHARACTER_SETS[name]
    return Compiled(by_row(lambda text: mark + text.encode(codec, "replace"), pl.Binary())(values[0]))


def _decode(call: Call, values: Sequence[pl.Expr]) -> Compiled:
    """What the character set lacks becomes U+FFFD; UTF-16 is big endian unless its byte order mark says otherwise."""
    name = _character_set(call.args)

    def decoded(data: bytes) -> str:
        if name == "UTF-16" and data[:2] == b"\xff\xfe":
            return data[2:].decode("utf-16-le", "replace")
        if name == "UTF-16" and data[:2] == b"\xfe\xff":
            data = data[2:]
        return data.decode(_CHARACTER_SETS[name], "replace")

    return Compiled(by_row(decoded, pl.String())(values[0]))


def _url_encode(text: str) -> str:
    return quote_plus(text, safe="*-._").replace("~", "%7E")


def _url_decode(text: str) -> str | None:
    return None if re.search(r"%(?![0-9A-Fa-f]{2})", text) else unquote_plus(text, errors="replace")


def _to_address(number: pl.Expr) -> pl.Expr:
    bytes_of = [((number // 256**i) % 256).cast(pl.String) for i in (3, 2, 1, 0)]
    inside = (number >= 0) & (number <= _ADDRESS_MAX)
    return pl.when(inside).then(pl.concat_str(bytes_of, separator="."))


def _from_address(text: str) -> int | None:
    """Short forms as in C: the last of fewer than four parts is the last byte; one part is the whole number."""
    parts = text.split(".")
    if len(parts) > 4 or not all(re.fullmatch(r"[0-9]{1,20}", part) for part in parts):
        return None
    numbers = [int(part) for part in parts]
    if len(numbers) == 1:
        return numbers[0] if numbers[0] <= _ADDRESS_MAX else None
    if max(numbers) > 255:
        return None
    first, last = numbers[:-1], numbers[-1]
    return int.from_bytes([*first, *[0] * (3 - len(first)), last], "big")


FUNCTIONS = (
    Function("TO_BASE64", "TO_BASE64(text)", "The text (its UTF-8 bytes) or BYTES in base64.",
             takes(STRING, _TEXT_OR_BINARY), typed(_to_base64),
             (("TO_BASE64('hello world')", '"aGVsbG8gd29ybGQ="'), ("TO_BASE64('')", '""'),
              ("TO_BASE64(X'ff')", '"/w=="'))),
    Function("FROM_BASE64", "FROM_BASE64(text)", "The text that the base64 says; fails if it is none.",
             takes(STRING, TEXT), typed(_fallible(_from_base64, pl.String())),
             (("FROM_BASE64('aGVsbG8gd29ybGQ=')", '"hello world"'), ("FROM_BASE64('aGk')", '"hi"'),
              ("FROM_BASE64('a')", "error: bad_argument"))),
    Function("HEX", "HEX(n) or HEX(text)", "An integer, or the UTF-8 bytes of a text, in hexadecimal digits.",
             _hex_check, typed(_hex),
             (("HEX(100)", '"64"'), ("HEX(-1)", '"FFFFFFFFFFFFFFFF"'), ("HEX('é')", '"C3A9"'))),
    Function("UNHEX", "UNHEX(text)", "The BYTES that hexadecimal digits say; NULL for other characters.",
             takes(BYTES, TEXT), plain(by_row(_unhex, pl.Binary())),
             (("DECODE(UNHEX('C3A9'), 'UTF-8')", '"é"'), ("HEX(DECODE(UNHEX('141'), 'ISO-8859-1'))", '"0041"'),
              ("UNHEX('0g') IS NULL", "true"))),
    Function("ENCODE", "ENCODE(text, 'character set')", "The BYTES of a text in US-ASCII, ISO-8859-1, UTF-8, "
             "UTF-16BE, UTF-16LE or UTF-16; ? for what the set lacks.",
             _character_set_check(BYTES, TEXT), typed(_encode),
             (("TO_BASE64(ENCODE('é', 'ISO-8859-1'))", '"6Q=="'), ("ENCODE('é', 'US-ASCII') = X'3f'", "true"))),
    Function("DECODE", "DECODE(bytes, 'character set')", "The text of BYTES in such a character set.",
             _character_set_check(STRING, _BINARY), typed(_decode),
             (("DECODE(X'00e9', 'UTF-16BE')", '"é"'), ("DECODE(X'61ff', 'UTF-8')", '"a�"'))),
    Function("URL_ENCODE", "URL_ENCODE(text)", "The text as a part of a URL (application/x-www-form-urlencoded).",
             takes(STRING, TEXT), plain(by_row(_url_encode, pl.String())),
             (("URL_ENCODE('a b+é')", '"a+b%2B%C3%A9"'), ("URL_ENCODE('~*')", '"%7E*"'))),
    Function("URL_DECODE", "URL_DECODE(text)", "The text that was URL-encoded; NULL for a broken escape.",
             takes(STRING, TEXT), plain(by_row(_url_decode, pl.String())),
             (("URL_DECODE('a+b%2B%C3%A9')", '"a b+é"'), ("URL_DECODE('100%') IS NULL", "true"))),
    Function("PARSE_URL", "PARSE_URL(url, part[, key])", "HOST, PATH, QUERY, REF, PROTOCOL, AUTHORITY, FILE or "
             "USERINFO of a URL, or the value of a key in its QUERY; NULL if there is none, or for no URL.",
             takes(STRING, TEXT, TEXT, TEXT, optional=1), plain(by_row(url_part, pl.String())),
             (("PARSE_URL('https://shop.example/p/q?k1=v1&k2=v2#top', 'HOST')", '"shop.example"'),
              ("PARSE_URL('https://shop.example/p/q?k1=v1&k2=v2#top', 'FILE')", '"/p/q?k1=v1&k2=v2"'),
              ("PARSE_URL('https://shop.example/p?k1=v1&k2=v2', 'QUERY', 'k2')", '"v2"'),
              ("PARSE_URL('no url', 'HOST') IS NULL", "true"))),
    Function("INET_ATON", "INET_ATON(text)", "An IPv4 address as a number; NULL for other texts.",
             takes(BIGINT, TEXT), plain(by_row(_from_address, pl.Int64())),
             (("INET_ATON('127.0.0.1')", "2130706433"), ("INET_ATON('127.1')", "2130706433"),
              ("INET_ATON('256.0.0.1') IS NULL", "true"))),
    Function("INET_NTOA", "INET_NTOA(n)", "The IPv4 address that a number is; NULL beyond 4294967295.",
             takes(STRING, LONG), plain(_to_address),
             (("INET_NTOA(2130706433)", '"127.0.0.1"'), ("INET_NTOA(-1) IS NULL", "true"))),
    _hash("MD5", "md5", "900150983cd24fb0d6963f7d28e17f72"),
    _hash("SHA1", "sha1", "a9993e364706816aba3e25717850c26c9cd0d89d"),
    _hash("SHA224", "sha224", "23097d223405d8228642a477bda255b32aadbce4bda0b3f7e36c9da7"),
    _hash("SHA256", "sha256", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
    _hash("SHA384", "sha384", hashlib.sha384(b"abc").hexdigest()),
    _hash("SHA512", "sha512", hashlib.sha512(b"abc").hexdigest()),
    Function("SHA2", "SHA2(text, bits)", "The SHA-2 digest of 224, 256, 384 or 512 bits as hexadecimal text.",
             _sha2_check, typed(_fallible(_sha2, pl.String())),
             (("SHA2('abc', 224)", '"23097d223405d8228642a477bda255b32aadbce4bda0b3f7e36c9da7"'),)),
)  # fmt: skip
