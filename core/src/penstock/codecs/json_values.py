"""What a JSON value means as a column: one reading for admission, for the processor's decoder and for replies.

There is no coercion across JSON types: `"12.5"` is not a DOUBLE, `1` is not a STRING, `1.0` is not an INT. Each
reader takes what msgspec made of the JSON value under `wire_type` and returns what a column holds, or raises
ValueError whose text names the value and the remedy (OutOfRange where the type was right and the value was not).
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Annotated, Any, Final

import msgspec

from penstock.model.types import DataType, Kind

__all__ = ["TIMESTAMP_MAX_MS", "TIMESTAMP_MIN_MS", "OutOfRange", "json_type_name", "read_bytes", "read_date_days",
           "read_decimal", "read_time_ms", "read_timestamp_ms", "reader", "wire_type", "write_timestamp"]  # fmt: skip

#: Epoch milliseconds of years 1 to 9999, Flink's TIMESTAMP range.
TIMESTAMP_MIN_MS: Final = -62_135_596_800_000
TIMESTAMP_MAX_MS: Final = 253_402_300_799_999

_EPOCH: Final = dt.datetime(1970, 1, 1)
_EPOCH_DAY: Final = dt.date(1970, 1, 1).toordinal()
_MILLISECOND: Final = dt.timedelta(milliseconds=1)
_TIMESTAMP: Final = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)"
    r"(?:[Tt ](\d\d):(\d\d)(?::(\d\d)(?:\.(\d+))?)?(?:([Zz])|([+-])(\d\d):?(\d\d))?)?",
    re.ASCII,
)
#: What nearly all timestamps look like; `fromisoformat` takes more than we do, but these as we do, and is faster.
_COMMON: Final = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d{3})?", re.ASCII)
_DATE: Final = re.compile(r"(\d{4})-(\d\d)-(\d\d)", re.ASCII)
_TIME: Final = re.compile(r"(\d\d):(\d\d)(?::(\d\d)(?:\.(\d+))?)?", re.ASCII)
_DECIMAL: Final = re.compile(r"-?\d+(?:\.\d+)?(?:[eE][+-]?\d{1,9})?", re.ASCII)
_INTEGER_BITS: Final = {Kind.TINYINT: 8, Kind.SMALLINT: 16, Kind.INT: 32, Kind.BIGINT: 64}
_NANOS_PER_MS: Final = 1_000_000
_FLOAT_MAX: Final = 3.4028234663852886e38
_TYPE_NAMES: Final = {b'"': "string", b"{": "object", b"[": "array", b"t": "boolean", b"f": "boolean", b"n": "null"}
_SHOWN_CHARS: Final = 40
_DECIMAL_DIGITS_MAX: Final = 400  # beyond it nothing can fit, and the arithmetic must not be attackable


class OutOfRange(ValueError):
    """The JSON type is right, the value does not fit the column."""


def wire_type(data_type: DataType) -> Any:
    """The msgspec annotation under which a column's JSON value is decoded, null excluded.

    Integers and FLOAT carry their range, so that a plain decode already refuses what does not fit. DECIMAL stays
    exact: msgspec makes a Decimal from the number's own text. TIMESTAMP is `int | str`, epoch milliseconds or text.
    """
    kind = data_type.kind
    if data_type.is_nested:
        return _nested_wire_type(data_type)
    if kind in _INTEGER_BITS:
        bound = 2 ** (_INTEGER_BITS[kind] - 1)
        return Annotated[int, msgspec.Meta(ge=-bound, le=bound - 1)]
    if data_type.is_timestamp:
        return int | str
    wire: dict[Kind, Any] = {
        Kind.BOOLEAN: bool,
        Kind.FLOAT: Annotated[float, msgspec.Meta(ge=-_FLOAT_MAX, le=_FLOAT_MAX)],
        Kind.DOUBLE: float,
        Kind.DECIMAL: Decimal,
        Kind.STRING: str,
        Kind.BYTES: str,
        Kind.DATE: str,
        Kind.TIME: str,
    }
    return wire[kind]


def reader(data_type: DataType) -> Callable[[Any], Any] | None:
    """The function from a decoded wire value to the column's value; None where the wire value is the value.

    TIMESTAMP and TIMESTAMP_LTZ: int, epoch milliseconds. DATE: int, days since the epoch. TIME: int, milliseconds
    of the day. BYTES: bytes. DECIMAL: Decimal with the column's scale. ARRAY: list, ROW: dict, MAP: list of dicts
    with `key` and `value`, of such values, but TIME in nanoseconds.
    """
    kind = data_type.kind
    if data_type.is_nested:
        return _nested_reader(data_type)
    if data_type.is_timestamp:
        return read_timestamp_ms
    if kind is Kind.DECIMAL:
        precision, scale = data_type.precision or 10, data_type.scale or 0
        return lambda value: read_decimal(value, precision, scale)
    readers: dict[Kind, Callable[[Any], Any]] = {
        Kind.DATE: read_date_days,
        Kind.TIME: read_time_ms,
        Kind.BYTES: read_bytes,
    }
    return readers.get(kind)


def read_timestamp_ms(value: int | str) -> int:
    """Epoch milliseconds, UTC, of ISO 8601 text or of a number that is epoch milliseconds already.

    Text: `YYYY-MM-DD`, then optionally `T` or a space and `hh:mm[:ss[.f]]` (fraction digits
    beyond milliseconds are cut off) and `Z` or an offset (`+05:30`, `+0530`), which is taken into account.
    Text without an offset is UTC. Leap seconds and hour 24 are refused.
    """
    if isinstance(value, int):
        if TIMESTAMP_MIN_MS <= value <= TIMESTAMP_MAX_MS:
            return value
        raise OutOfRange(f"{value} is not epoch milliseconds between the years 1 and 9999")
    if _COMMON.fullmatch(value) is not None:
        try:
            return (dt.datetime.fromisoformat(value) - _EPOCH) // _MILLISECOND
        except ValueError:
            pass  # explained below
    return _read_timestamp_text(value)


def read_date_days(value: str) -> int:
    """Days since 1970-01-01 of `YYYY-MM-DD`."""
    found = _DATE.fullmatch(value)
    if found is None:
        raise ValueError(f"{_shown(value)} is not a date; write YYYY-MM-DD")
    try:
        return dt.date(*(int(part) for part in found.groups())).toordinal() - _EPOCH_DAY
    except ValueError as error:
        raise ValueError(f"{_shown(value)} is not a date: {error}") from None


def read_time_ms(value: str) -> int:
    """Milliseconds of the day of `hh:mm[:ss[.f]]`."""
    found = _TIME.fullmatch(value)
    hour, minute, second = (int(part or 0) for part in found.groups()[:3]) if found else (24, 0, 0)
    if found is None or hour > 23 or minute > 59 or second > 59:
        raise ValueError(f"{_shown(value)} is not a time of day; write hh:mm:ss")
    fraction = found[4]
    return ((hour * 60 + minute) * 60 + second) * 1000 + (int(fraction[:3].ljust(3, "0")) if fraction else 0)


def read_bytes(value: str) -> bytes:
    """Bytes of base64 text (RFC 4648 section 4, padded)."""
    try:
        return msgspec.convert(value, bytes)  # stricter than the base64 module: no excess padding
    except msgspec.ValidationError:
        raise ValueError(f"{_shown(value)} is not base64 (RFC 4648 section 4, with padding)") from None


def read_decimal(value: Decimal | int | str, precision: int, scale: int) -> Decimal:
    """The exact value at the column's scale. OutOfRange if it has more digits than DECIMAL(precision, scale):
    nothing is rounded at the edge.
    """
    try:
        number = value if isinstance(value, Decimal) else Decimal(_decimal_text(value))
    except InvalidOperation:
        raise ValueError(f"{_shown(str(value))} is not a decimal number") from None
    if not number.is_finite():
        raise ValueError(f"{number} is not a decimal number")
    sign, digits, exponent = number.as_tuple()
    assert isinstance(exponent, int)  # finite
    if number and abs(exponent) + len(digits) > _DECIMAL_DIGITS_MAX:
        raise OutOfRange(f"{_shown(str(number))} does not fit DECIMAL({precision}, {scale})")
    unscaled, shift = int("".join(map(str, digits[:_DECIMAL_DIGITS_MAX])) or "0"), exponent + scale
    while shift < 0 and unscaled and unscaled % 10 == 0:
        unscaled, shift = unscaled // 10, shift + 1
    if unscaled and (shift < 0 or unscaled * 10**shift >= 10**precision):
        raise OutOfRange(f"{_shown(str(number))} does not fit DECIMAL({precision}, {scale})")
    unscaled = unscaled * 10**shift if unscaled else 0
    return Decimal((sign if unscaled else 0, tuple(map(int, str(unscaled))), -scale))


def write_timestamp(ms: int, *, zoned: bool = False) -> str:
    """`2018-01-01T00:00:00.000`, with `Z` for TIMESTAMP_LTZ."""
    moment = _EPOCH + dt.timedelta(milliseconds=ms)
    return moment.isoformat(timespec="milliseconds") + ("Z" if zoned else "")


def json_type_name(text: bytes) -> str:
    """`null`, `boolean`, `number`, `string`, `array` or `object`: what a JSON text without leading space is."""
    return _TYPE_NAMES.get(text[:1], "number")


@lru_cache(maxsize=256)
def _nested_wire_type(data_type: DataType) -> Any:
    if data_type.kind is Kind.ARRAY:
        return list[wire_type(data_type.element) | None]  # type: ignore[misc]  # made at run time
    if data_type.kind is Kind.MAP:
        return dict[str, wire_type(data_type.key_and_value[1]) | None]  # type: ignore[misc]  # made at run time
    fields: list[Any] = [
        (f"c{n}", wire_type(part) | None, msgspec.field(name=name, default=None))
        for n, (name, part) in enumerate(data_type.parts)
    ]
    return msgspec.defstruct("Row", fields, gc=False)


def _nested_reader(data_type: DataType) -> Callable[[Any], Any]:
    if data_type.kind is Kind.ARRAY:
        read = _part_reader(data_type.element)
        return lambda values: [read(value, n) for n, value in enumerate(values)]
    if data_type.kind is Kind.MAP:
        read = _part_reader(data_type.key_and_value[1])
        return lambda values: [{"key": key, "value": read(value, key)} for key, value in values.items()]
    fields = [(f"c{n}", name, _part_reader(part)) for n, (name, part) in enumerate(data_type.parts)]
    return lambda row: {name: part(getattr(row, field), name) for field, name, part in fields}


def _part_reader(data_type: DataType) -> Callable[[Any, int | str], Any]:
    """The reader of a part, which may be null, at a place, which is named where something is wrong."""
    read = reader(data_type)
    if read is None:
        return lambda value, _: value
    factor = _NANOS_PER_MS if data_type.kind is Kind.TIME else None

    def placed(value: Any, place: int | str) -> Any:
        if value is None:
            return None
        try:
            found = read(value)
        except ValueError as error:
            raise type(error)(f"in [{place}]: {error}") from None
        return found if factor is None else found * factor

    return placed


def _read_timestamp_text(value: str) -> int:
    """Every accepted form."""
    found = _TIMESTAMP.fullmatch(value)
    if found is None:
        raise ValueError(f"{_shown(value)} is not a timestamp; write ISO 8601 or epoch milliseconds as a number")
    year, month, day, hour, minute, second, fraction, _, sign, off_hours, off_minutes = found.groups()
    try:
        moment = dt.datetime(int(year), int(month), int(day), int(hour or 0), int(minute or 0), int(second or 0))
    except ValueError as error:
        raise ValueError(f"{_shown(value)} is not a timestamp: {error}") from None
    ms = (moment - _EPOCH) // _MILLISECOND + (int(fraction[:3].ljust(3, "0")) if fraction else 0)
    if sign is not None:
        if int(off_hours) > 23 or int(off_minutes) > 59:
            raise ValueError(f"{_shown(value)} is not a timestamp: the offset is out of range")
        shift_ms = (int(off_hours) * 60 + int(off_minutes)) * 60_000
        ms += shift_ms if sign == "-" else -shift_ms
    if not TIMESTAMP_MIN_MS <= ms <= TIMESTAMP_MAX_MS:
        raise OutOfRange(f"{_shown(value)} is not between the years 1 and 9999")
    return ms


def _decimal_text(value: int | str) -> str:
    if isinstance(value, str) and _DECIMAL.fullmatch(value) is None:
        raise ValueError(f"{_shown(value)} is not a decimal number")
    return str(value)


def _shown(text: str) -> str:
    return repr(text if len(text) <= _SHOWN_CHARS else text[:_SHOWN_CHARS] + "...")
