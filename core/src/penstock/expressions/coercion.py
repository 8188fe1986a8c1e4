"""Types of expressions: what operands are converted to, and the type of a result, by Flink's rules.

Numeric promotion and decimal precision: Flink "Data Types" and LogicalTypeMerging; a result that would need more than
38 digits loses scale down to 6. FLOAT or DOUBLE with anything exact that is DECIMAL gives DOUBLE.
"""

from __future__ import annotations

from collections.abc import Iterable

from sqlglot import exp

from penstock.model.types import (
    BIGINT,
    BOOLEAN,
    BYTES,
    DATE,
    DOUBLE,
    FLOAT,
    INT,
    SMALLINT,
    STRING,
    TIME,
    TIMESTAMP,
    TIMESTAMP_LTZ,
    TINYINT,
    DataType,
    Kind,
    array_of,
    decimal,
    map_of,
    row_of,
)

__all__ = ["INTERVAL", "NULL", "Mismatch", "addition_type", "as_decimal", "common_type", "data_type_of",
           "division_type", "length_of", "modulo_type", "multiplication_type", "round_type"]  # fmt: skip

INTERVAL = DataType(Kind.INTERVAL)
NULL = DataType(Kind.NULL)

_INTEGER_DIGITS = {Kind.TINYINT: 3, Kind.SMALLINT: 5, Kind.INT: 10, Kind.BIGINT: 19}
_ORDER = [Kind.TINYINT, Kind.SMALLINT, Kind.INT, Kind.BIGINT]
_BY_KIND = {t.kind: t for t in (TINYINT, SMALLINT, INT, BIGINT)}
_SCALE_KEPT = 6
_DIGITS_MAX = 38


class Mismatch(Exception):
    """Something that cannot be bound: what is wrong, and what to write instead. The binder adds the place."""

    def __init__(self, message: str, remedy: str, code: str = "type_mismatch") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.remedy = remedy


def as_decimal(data_type: DataType) -> tuple[int, int]:
    """(precision, scale) of an integer or DECIMAL type."""
    if data_type.kind is Kind.DECIMAL:
        return data_type.precision or 10, data_type.scale or 0
    return _INTEGER_DIGITS[data_type.kind], 0


def common_type(types: Iterable[DataType]) -> DataType | None:
    """The least type that all of `types` convert to without a CAST; None if there is none. NULL fits everywhere."""
    found = NULL
    for data_type in types:
        if found.kind is Kind.NULL or found == data_type:
            found = data_type
        elif data_type.kind is Kind.NULL:
            continue
        elif found.is_numeric and data_type.is_numeric:
            found = _common_number(found, data_type)
        elif {found.kind, data_type.kind} == {Kind.DATE, Kind.TIMESTAMP}:
            found = TIMESTAMP
        elif found.is_nested and (nested := _common_nested(found, data_type)) is not None:
            found = nested
        else:
            return None
    return found


def addition_type(left: DataType, right: DataType) -> DataType:
    """Type of + and - of two numbers."""
    if _exact_with_decimal(left, right):
        (p1, s1), (p2, s2) = as_decimal(left), as_decimal(right)
        scale = max(s1, s2)
        return _adjusted(max(p1 - s1, p2 - s2) + scale + 1, scale)
    return _common_number(left, right)


def multiplication_type(left: DataType, right: DataType) -> DataType:
    """Type of * of two numbers."""
    if _exact_with_decimal(left, right):
        (p1, s1), (p2, s2) = as_decimal(left), as_decimal(right)
        return _adjusted(p1 + p2 + 1, s1 + s2)
    return _common_number(left, right)


def division_type(left: DataType, right: DataType) -> DataType:
    """Type of / of two numbers: integers stay integers."""
    if _exact_with_decimal(left, right):
        (p1, s1), (p2, s2) = as_decimal(left), as_decimal(right)
        scale = max(6, s1 + p2 + 1)
        return _adjusted(p1 - s1 + s2 + scale, scale)
    return _common_number(left, right)


def modulo_type(left: DataType, right: DataType) -> DataType:
    """Type of % of two numbers: of integers, that of the divisor."""
    if _exact_with_decimal(left, right):
        (p1, s1), (p2, s2) = as_decimal(left), as_decimal(right)
        scale = max(s1, s2)
        return _adjusted(min(p1 - s1, p2 - s2) + scale, scale)
    if left.is_integer and right.is_integer:
        return right
    return _common_number(left, right)


def round_type(data_type: DataType, digits: int | None) -> DataType:
    """Type of ROUND(x, digits); None: digits are not a constant."""
    if data_type.kind is not Kind.DECIMAL or digits is None:
        return data_type
    precision, scale = as_decimal(data_type)
    if digits >= scale:
        return data_type
    if digits < 0:
        return decimal(min(_DIGITS_MAX, 1 + precision - scale), 0)
    return decimal(min(_DIGITS_MAX, 1 + precision - scale + digits), digits)


_NAMED: dict[exp.DType, DataType] = {
    exp.DType.BOOLEAN: BOOLEAN,
    exp.DType.TINYINT: TINYINT,
    exp.DType.SMALLINT: SMALLINT,
    exp.DType.INT: INT,
    exp.DType.BIGINT: BIGINT,
    exp.DType.FLOAT: FLOAT,
    exp.DType.DOUBLE: DOUBLE,
    exp.DType.TEXT: STRING,
    exp.DType.VARCHAR: STRING,
    exp.DType.CHAR: STRING,
    exp.DType.VARBINARY: BYTES,
    exp.DType.BINARY: BYTES,
    exp.DType.DATE: DATE,
    exp.DType.TIME: TIME,
    exp.DType.TIMESTAMP: TIMESTAMP,
    exp.DType.TIMESTAMPLTZ: TIMESTAMP_LTZ,
}


def data_type_of(node: exp.Expr) -> DataType:
    """The type that a parsed type name means; Mismatch for types beyond this version.

    TIMESTAMP and TIMESTAMP_LTZ hold milliseconds: no precision and (0) to (3) are read as (3). Lengths of CHAR,
    VARCHAR, BINARY and VARBINARY: see `length_of`.
    """
    if not isinstance(node, exp.DataType) or not isinstance(node.this, exp.DType):
        raise Mismatch("A type is expected here.", _TYPES)
    if node.args.get("nested"):
        return _nested_type_of(node)
    parameters = [int(p.name) for p in node.expressions if p.name.isdigit()]
    if len(parameters) != len(node.expressions):
        raise Mismatch(f"{node.this.value} with parts is not supported.", _TYPES)
    if node.this is exp.DType.DECIMAL:
        return _decimal_of(parameters)
    found = _NAMED.get(node.this)
    if found is None:
        name = node.args.get("kind") or node.this.value
        raise Mismatch(f"Type {name} is not supported.", _TYPES)
    if found.is_timestamp and parameters and parameters[0] > 3:
        raise Mismatch(f"{found.kind.value}({parameters[0]}) is finer than milliseconds.", f"Write {found}.")
    return found


def length_of(node: exp.DataType) -> tuple[int | None, bool]:
    """The length that CAST gives a text or bytes (None: any), and whether shorter ones are filled up.

    Columns do not enforce theirs, as in Flink unless it is told to.
    """
    padded = node.this in (exp.DType.CHAR, exp.DType.BINARY)
    if not padded and node.this not in (exp.DType.VARCHAR, exp.DType.VARBINARY):
        return None, False
    lengths = [int(part.name) for part in node.expressions if part.name.isdigit()]
    if lengths and not 1 <= lengths[0] < 2**31:
        raise Mismatch(f"A length of {lengths[0]} is none.", "Write VARCHAR(10), for example.")
    return (lengths[0] if lengths else 1 if padded else None), padded


_TYPES = ("Use BOOLEAN, TINYINT, SMALLINT, INT, BIGINT, FLOAT, DOUBLE, DECIMAL(p, s), STRING, BYTES, DATE, TIME, "
          "TIMESTAMP(3), TIMESTAMP_LTZ(3), ARRAY<t>, MAP<k, v> or ROW<a t, ...>.")  # fmt: skip


def _nested_type_of(node: exp.DataType) -> DataType:
    parts = node.expressions
    if node.this is exp.DType.ARRAY and len(parts) == 1:
        return array_of(data_type_of(parts[0]))
    if node.this is exp.DType.MAP and len(parts) == 2:
        return map_of(data_type_of(parts[0]), data_type_of(parts[1]))
    if node.this is not exp.DType.STRUCT or not all(isinstance(part, exp.ColumnDef) for part in parts):
        raise Mismatch(f"{node.this.value} with parts is not supported.", _TYPES)
    names = [part.name for part in parts]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise Mismatch(f"The field '{twice[0]}' stands twice in a ROW.", "Give each field a name of its own.")
    return row_of(*((part.name, data_type_of(part.args["kind"])) for part in parts))


def _common_nested(left: DataType, right: DataType) -> DataType | None:
    """Part by part; fields of rows by their place, under the first one's names."""
    if left.kind is not right.kind or len(left.parts) != len(right.parts):
        return None
    parts = [
        (name, common_type((one, other))) for (name, one), (_, other) in zip(left.parts, right.parts, strict=True)
    ]
    found = tuple((name, part) for name, part in parts if part is not None)
    return DataType(left.kind, parts=found) if len(found) == len(parts) else None


def _decimal_of(parameters: list[int]) -> DataType:
    precision, scale = [*parameters, 10, 0][:2] if not parameters else [*parameters, 0][:2]
    try:
        return decimal(precision, scale)
    except ValueError as error:
        raise Mismatch(f"{error}.", "Write DECIMAL(10, 2), for example.") from None


def _common_number(left: DataType, right: DataType) -> DataType:
    if left.is_integer and right.is_integer:
        return _BY_KIND[_ORDER[max(_ORDER.index(left.kind), _ORDER.index(right.kind))]]
    if Kind.DOUBLE in (left.kind, right.kind):
        return DOUBLE
    if Kind.FLOAT in (left.kind, right.kind):
        return DOUBLE if Kind.DECIMAL in (left.kind, right.kind) else FLOAT
    (p1, s1), (p2, s2) = as_decimal(left), as_decimal(right)
    scale = max(s1, s2)
    return _adjusted(max(p1 - s1, p2 - s2) + scale, scale)


def _exact_with_decimal(left: DataType, right: DataType) -> bool:
    kinds = (left.kind, right.kind)
    return Kind.DECIMAL in kinds and Kind.DOUBLE not in kinds and Kind.FLOAT not in kinds


def _adjusted(precision: int, scale: int) -> DataType:
    if precision <= _DIGITS_MAX:
        return decimal(max(precision, 1), scale)
    whole = precision - scale
    return decimal(_DIGITS_MAX, max(_DIGITS_MAX - whole, min(scale, _SCALE_KEPT)))
