"""SQL types, as Flink names them (docs: Flink "Data Types"). Ingest, planner, store and publish share them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["BIGINT", "BOOLEAN", "BYTES", "DATE", "DOUBLE", "FLOAT", "INT", "SMALLINT", "STRING", "TIME", "TIMESTAMP",
           "TIMESTAMP_LTZ", "TINYINT", "DataType", "Kind", "array_of", "decimal", "map_of", "row_of"]  # fmt: skip


class Kind(StrEnum):
    """Type families. CHAR, VARCHAR and STRING are one: a length is what CAST cuts to, no part of the type."""

    BOOLEAN = "BOOLEAN"
    TINYINT = "TINYINT"
    SMALLINT = "SMALLINT"
    INT = "INT"
    BIGINT = "BIGINT"
    FLOAT = "FLOAT"
    DOUBLE = "DOUBLE"
    DECIMAL = "DECIMAL"
    STRING = "STRING"
    BYTES = "BYTES"
    DATE = "DATE"
    TIME = "TIME"
    TIMESTAMP = "TIMESTAMP"
    TIMESTAMP_LTZ = "TIMESTAMP_LTZ"
    ARRAY = "ARRAY"
    MAP = "MAP"
    ROW = "ROW"
    INTERVAL = "INTERVAL"  # day-time, in milliseconds; expressions only, never a column of a stream
    NULL = "NULL"  # type of a bare NULL literal


_INTEGERS = (Kind.TINYINT, Kind.SMALLINT, Kind.INT, Kind.BIGINT)


@dataclass(frozen=True, slots=True)
class DataType:
    """A type. `precision`/`scale` matter for DECIMAL; TIMESTAMP is always of precision 3 (milliseconds).

    `parts`: of an ARRAY its `element`, of a MAP `key` and `value`, of a ROW its fields, each with its type.
    """

    kind: Kind
    precision: int | None = None
    scale: int | None = None
    parts: tuple[tuple[str, DataType], ...] = ()

    @property
    def is_nested(self) -> bool:
        """ARRAY, MAP or ROW."""
        return self.kind in (Kind.ARRAY, Kind.MAP, Kind.ROW)

    @property
    def element(self) -> DataType:
        """Of an ARRAY."""
        return self.parts[0][1]

    @property
    def key_and_value(self) -> tuple[DataType, DataType]:
        """Of a MAP."""
        return self.parts[0][1], self.parts[1][1]

    @property
    def is_integer(self) -> bool:
        """TINYINT to BIGINT."""
        return self.kind in _INTEGERS

    @property
    def is_numeric(self) -> bool:
        """Integers, FLOAT, DOUBLE, DECIMAL."""
        return self.is_integer or self.kind in (Kind.FLOAT, Kind.DOUBLE, Kind.DECIMAL)

    @property
    def is_timestamp(self) -> bool:
        """TIMESTAMP or TIMESTAMP_LTZ: what may be a time attribute."""
        return self.kind in (Kind.TIMESTAMP, Kind.TIMESTAMP_LTZ)

    def __str__(self) -> str:
        if self.kind is Kind.DECIMAL:
            return f"DECIMAL({self.precision}, {self.scale})"
        if self.is_timestamp:
            return f"{self.kind.value}(3)"
        if self.kind is Kind.ROW:
            return f"ROW<{', '.join(f'`{name}` {part}' for name, part in self.parts)}>"
        if self.is_nested:
            return f"{self.kind.value}<{', '.join(str(part) for _, part in self.parts)}>"
        return self.kind.value


BOOLEAN = DataType(Kind.BOOLEAN)
TINYINT = DataType(Kind.TINYINT)
SMALLINT = DataType(Kind.SMALLINT)
INT = DataType(Kind.INT)
BIGINT = DataType(Kind.BIGINT)
FLOAT = DataType(Kind.FLOAT)
DOUBLE = DataType(Kind.DOUBLE)
STRING = DataType(Kind.STRING)
BYTES = DataType(Kind.BYTES)
DATE = DataType(Kind.DATE)
TIME = DataType(Kind.TIME)
TIMESTAMP = DataType(Kind.TIMESTAMP, 3)
TIMESTAMP_LTZ = DataType(Kind.TIMESTAMP_LTZ, 3)


def decimal(precision: int, scale: int) -> DataType:
    """DECIMAL(p, s) with 1 <= p <= 38 and 0 <= s <= p."""
    if not (1 <= precision <= 38 and 0 <= scale <= precision):
        raise ValueError(f"DECIMAL({precision}, {scale}): precision 1 to 38, scale 0 to precision")
    return DataType(Kind.DECIMAL, precision, scale)


def array_of(element: DataType) -> DataType:
    """ARRAY<element>."""
    return DataType(Kind.ARRAY, parts=(("element", element),))


def map_of(key: DataType, value: DataType) -> DataType:
    """MAP<key, value>."""
    return DataType(Kind.MAP, parts=(("key", key), ("value", value)))


def row_of(*fields: tuple[str, DataType]) -> DataType:
    """ROW<name type, ...>."""
    return DataType(Kind.ROW, parts=fields)
