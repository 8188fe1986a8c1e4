"""Cursors of pages: the order's values of the last row, opaque and bound to relation and order. Pure."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from typing import Any
from zlib import crc32

import msgspec

from penstock.errors import PenstockError
from penstock.model.types import DataType, Kind
from penstock_data.query import Scalar

__all__ = ["cursor_text", "read_cursor"]

_VERSION = 1
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[int, int, list[Any]]).decode


def cursor_text(scope: str, values: Sequence[Scalar | None]) -> str:
    """The text of a cursor after the row with these values; `scope` names relation and order."""
    plain = [str(value) if isinstance(value, Decimal) else value for value in values]
    body = _encode((_VERSION, crc32(scope.encode()), plain))
    return base64.urlsafe_b64encode(crc32(body).to_bytes(4, "big") + body).rstrip(b"=").decode()


def read_cursor(scope: str, text: str, types: Sequence[DataType]) -> list[Scalar | None]:
    """The values of a cursor that `cursor_text` made for the same scope and types; `bad_cursor` otherwise."""
    try:
        raw = base64.urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
        body = raw[4:]
        version, mark, values = _decode(body)
        if raw[:4] == crc32(body).to_bytes(4, "big") and version == _VERSION and mark == crc32(scope.encode()):
            return [_value(value, type_) for value, type_ in zip(values, types, strict=True)]
    except (ValueError, UnicodeError, binascii.Error, msgspec.MsgspecError, InvalidOperation, TypeError):
        pass
    raise PenstockError(
        "bad_cursor", "this is not a 'next' of this relation in this order; start again without 'cursor'"
    )


def _value(value: Any, data_type: DataType) -> Scalar | None:
    if value is None:
        return None
    kind = data_type.kind
    if kind is Kind.DECIMAL and isinstance(value, str):
        return Decimal(value)
    wanted: dict[Kind, type[Any]] = {
        Kind.BOOLEAN: bool,
        Kind.FLOAT: float,
        Kind.DOUBLE: float,
        Kind.STRING: str,
        Kind.BYTES: bytes,
    }
    as_cursor_text_wrote_it = type(value) is wanted.get(kind, int)
    if not as_cursor_text_wrote_it:
        raise TypeError("another type")
    found: Scalar = value
    return found
