"""The query part of a URL as a checked query: known columns, values of the columns' types, named limits. Pure.

`?select=market,modal_price&modal_price=lt.500&state=in.(Goa,"Tamil Nadu")&order=modal_price.desc&limit=50`
"""

from __future__ import annotations

import difflib
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Final

from penstock.codecs.json_values import read_bytes, read_date_days, read_time_ms, read_timestamp_ms
from penstock.errors import PenstockError
from penstock.model.stream import Column
from penstock.model.types import DataType, Kind
from penstock_data.patterns import LikePattern, read_like
from penstock_data.settings import QuerySettings

__all__ = ["POSITION", "RESERVED", "Condition", "Operator", "Order", "PageQuery", "Scalar", "find_column",
           "parse_conditions", "parse_page_query", "read_limit", "read_value", "split_list"]  # fmt: skip

Scalar = bool | int | float | str | bytes | Decimal | tuple[int, int]

#: Parameters that are not filters. A column of that name is filtered as `col."limit"=...`.
RESERVED: Final = ("select", "order", "limit", "cursor")

#: Column of raw events, compared as (partition, offset).
POSITION: Final = "_position"

_NAMED = re.compile(r'col\."((?:[^"]|"")*)"', re.DOTALL)
_INTEGER = re.compile(r"[+-]?\d{1,19}", re.ASCII)
_NUMBER = re.compile(r"[+-]?(?:\d{1,400}(?:\.\d{0,400})?|\.\d{1,400})(?:[eE][+-]?\d{1,3})?", re.ASCII)
_EPOCH_MS = re.compile(r"-?\d{1,15}", re.ASCII)
_POSITION = re.compile(r"(\d{1,9}):(\d{1,18})", re.ASCII)
_BIGINT_MAX = 2**63 - 1


class Operator(StrEnum):
    """Comparison of a column with a value, as written in the URL."""

    EQ = "eq"
    NEQ = "neq"
    LT = "lt"
    LTE = "lte"
    GT = "gt"
    GTE = "gte"
    IN = "in"
    LIKE = "like"
    IS = "is"


_ORDERED = (Operator.LT, Operator.LTE, Operator.GT, Operator.GTE)


@dataclass(frozen=True, slots=True)
class Condition:
    """One filter. `value`: a Scalar; a tuple of them for IN; a LikePattern for LIKE; None, True or False for IS.

    Scalars are in stored form: epoch milliseconds, days, milliseconds of the day; (partition, offset) for POSITION.
    A comparison with NULL is unknown, and so is its negation: the row is left out, as in SQL. An empty IN is false.
    """

    column: Column
    operator: Operator
    value: Scalar | tuple[Scalar, ...] | LikePattern | None
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Order:
    """One column of the order. NULL counts as the least value, as in Flink."""

    column: Column
    descending: bool


@dataclass(frozen=True, slots=True)
class PageQuery:
    """A checked request for one page. `order` is as asked for; the reader adds the key. `cursor` is not yet read."""

    select: tuple[Column, ...]
    conditions: tuple[Condition, ...]
    order: tuple[Order, ...]
    limit: int
    cursor: str | None


def parse_page_query(
    pairs: Sequence[tuple[str, str]], columns: Mapping[str, Column], limits: QuerySettings
) -> PageQuery:
    """The query of `/v1/data/{relation}`. Errors: `unknown_column`, `bad_filter`, `bad_request`, `bad_cursor`."""
    single = _single(pairs, RESERVED)
    select = tuple(columns.values())
    if "select" in single:
        select = tuple(find_column(name, columns) for name in split_list(single["select"]))
        if not select or len({column.name for column in select}) < len(select):
            raise PenstockError("bad_request", "'select' names each column once: select=market,modal_price")
    order = tuple(_order(item, columns) for item in split_list(single.get("order", ""), keep_quotes=True))
    if len(order) > limits.order_columns_max:
        raise PenstockError("bad_request", f"'order' takes at most {limits.order_columns_max} columns")
    cursor = single.get("cursor")
    if cursor is not None and not 0 < len(cursor) <= limits.cursor_chars_max:
        raise PenstockError("bad_cursor", "'cursor' takes the 'next' of the page before, or is left out")
    rest = [(name, value) for name, value in pairs if name not in RESERVED]
    return PageQuery(
        select=select,
        conditions=parse_conditions(rest, columns, limits),
        order=order,
        limit=read_limit(single.get("limit"), limits),
        cursor=cursor,
    )


def parse_conditions(
    pairs: Sequence[tuple[str, str]], columns: Mapping[str, Column], limits: QuerySettings
) -> tuple[Condition, ...]:
    """`column=operator.value` pairs; all must hold."""
    if len(pairs) > limits.conditions_max:
        raise PenstockError("bad_filter", f"{len(pairs)} filters; at most {limits.conditions_max} are taken")
    return tuple(_condition(_unquoted(name), text, columns=columns, limits=limits) for name, text in pairs)


def find_column(name: str, columns: Mapping[str, Column]) -> Column:
    """The column by name; `unknown_column` with the closest names."""
    found = columns.get(name)
    if found is not None:
        return found
    close = difflib.get_close_matches(name[:100], columns, n=1, cutoff=0.5)
    folded = [known for known in columns if known.lower() == name.lower()]
    hint = f"did you mean '{(folded or close)[0]}'?" if folded or close else f"there are: {', '.join(columns)}"
    raise PenstockError("unknown_column", f"there is no column '{name[:100]}'; {hint}")


def read_limit(text: str | None, limits: QuerySettings) -> int:
    """Rows of a page."""
    if text is None:
        return min(limits.limit_default, limits.limit_max)
    if not _INTEGER.fullmatch(text) or not 1 <= int(text) <= limits.limit_max:
        raise PenstockError("bad_request", f"'limit' is a number from 1 to {limits.limit_max}, not '{text[:40]}'")
    return int(text)


def split_list(text: str, *, keep_quotes: bool = False) -> list[str]:
    """Items between commas; an item in double quotes may hold commas, `\\"` and `\\\\`."""
    items: list[str] = []
    item: list[str] = []
    quoted = False
    i = 0
    while i < len(text):
        c = text[i]
        if c == "\\" and quoted and i + 1 < len(text):
            item.append(text[i : i + 2] if keep_quotes else text[i + 1])
            i += 1
        elif c == '"':
            quoted = not quoted
            if keep_quotes:
                item.append(c)
        elif c == "," and not quoted:
            items.append("".join(item))
            item = []
        else:
            item.append(c)
        i += 1
    if quoted:
        raise PenstockError("bad_request", f"a double quote is not closed in '{text[:60]}'")
    return [*items, "".join(item)] if text else []


def read_value(text: str, column: Column) -> Scalar:
    """A value of the column's type in stored form; ValueError with the remedy."""
    if column.name == POSITION:
        found = _POSITION.fullmatch(text)
        if found is None:
            raise ValueError("a position is <partition>:<offset>, like 0:1000")
        return int(found[1]), int(found[2])
    return _read(text, column.type)


def _read(text: str, data_type: DataType) -> Scalar:
    kind = data_type.kind
    if data_type.is_integer:
        if not _INTEGER.fullmatch(text) or not -_BIGINT_MAX - 1 <= int(text) <= _BIGINT_MAX:
            raise ValueError("write a whole number")
        return int(text)
    if kind in (Kind.FLOAT, Kind.DOUBLE, Kind.DECIMAL):
        if not _NUMBER.fullmatch(text):
            raise ValueError("write a number like 12.5")
        return Decimal(text) if kind is Kind.DECIMAL else _float(text, single=kind is Kind.FLOAT)
    if kind is Kind.BOOLEAN:
        if text not in ("true", "false"):
            raise ValueError("write true or false")
        return text == "true"
    if data_type.is_timestamp:
        return read_timestamp_ms(int(text) if _EPOCH_MS.fullmatch(text) else text)
    if kind is Kind.DATE:
        return read_date_days(text)
    if kind is Kind.TIME:
        return read_time_ms(text)
    return read_bytes(text) if kind is Kind.BYTES else text


def _float(text: str, *, single: bool) -> float:
    number = float(text)
    try:
        # A FLOAT column holds 32 bits: 0.1 must be compared as what it was stored as.
        return float(struct.unpack("f", struct.pack("f", number))[0]) if single else number
    except OverflowError:
        return number


def _condition(name: str, text: str, *, columns: Mapping[str, Column], limits: QuerySettings) -> Condition:
    column = find_column(name, columns)
    negated = text.startswith("not.")
    word, dot, value = text.removeprefix("not.").partition(".")
    if not dot or word not in list(Operator):
        raise PenstockError(
            "bad_filter",
            f"'{name}={text[:60]}': write {name}=<operator>.<value> with one of {', '.join(Operator)}",
        )
    operator = Operator(word)
    if len(value) > limits.value_chars_max and operator is not Operator.IN:
        raise PenstockError("bad_filter", f"'{name}': a value has at most {limits.value_chars_max} characters")
    try:
        return Condition(column, operator, _operand(operator, value, column=column, limits=limits), negated)
    except ValueError as error:
        raise PenstockError("bad_filter", f"'{name}={text[:60]}' for {column.type}: {error}") from None


def _operand(
    operator: Operator, text: str, *, column: Column, limits: QuerySettings
) -> Scalar | tuple[Scalar, ...] | LikePattern | None:
    kind = column.type.kind
    if operator is Operator.IS:
        known = {"null": None, "true": True, "false": False}
        if text not in known or (text != "null" and kind is not Kind.BOOLEAN):
            raise ValueError("'is' takes null, and for BOOLEAN true and false")
        return known[text]
    if column.type.is_nested:
        raise ValueError("an ARRAY, MAP or ROW is only asked for null: is.null, not.is.null")
    if operator is Operator.LIKE:
        if kind is not Kind.STRING or column.name == POSITION:
            raise ValueError("'like' compares STRING columns")
        if len(text) > limits.like_chars_max:
            raise ValueError(f"a pattern has at most {limits.like_chars_max} characters")
        return read_like(text)
    if operator is Operator.IN:
        if not (text.startswith("(") and text.endswith(")")):
            raise ValueError('write in.(a,"b,c")')
        items = split_list(text[1:-1])
        if len(items) > limits.in_values_max:
            raise ValueError(f"at most {limits.in_values_max} values")
        return tuple(read_value(item, column) for item in items)
    if operator in _ORDERED and kind is Kind.BOOLEAN:
        raise ValueError("a BOOLEAN is compared with eq, neq, in and is")
    return read_value(text, column)


def _order(item: str, columns: Mapping[str, Column]) -> Order:
    name, dot, direction = item.rpartition(".")
    if not dot or direction not in ("asc", "desc"):
        name, direction = item, "asc"
    if name.startswith('"') and name.endswith('"') and len(name) > 1:
        name = split_list(name)[0] if len(name) > 2 else ""
    return Order(find_column(name, columns), direction == "desc")


def _unquoted(name: str) -> str:
    found = _NAMED.fullmatch(name)
    return found[1].replace('""', '"') if found else name


def _single(pairs: Sequence[tuple[str, str]], names: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in pairs:
        if name in names:
            if name in found:
                raise PenstockError("bad_request", f"'{name}' is given twice")
            found[name] = value
    return found
