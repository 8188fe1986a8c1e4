"""Which types fit into the columns of a target without CAST.

Rules of Flink (LogicalTypeCasts, implicit rules): widening of numbers; any number to DECIMAL or DOUBLE; TIMESTAMP to
DATE and TIME. Additionally TIMESTAMP and TIMESTAMP_LTZ fit each other, since the session's time zone is UTC.
"""

from __future__ import annotations

from penstock.model.types import DataType, Kind

__all__ = ["fits"]

_WIDTH = (Kind.TINYINT, Kind.SMALLINT, Kind.INT, Kind.BIGINT)


def fits(given: DataType, wanted: DataType) -> bool:
    """Whether a value of type `given` may be stored as `wanted` without CAST."""
    if given == wanted or given.kind is Kind.NULL:
        return True
    match wanted.kind:
        case Kind.TINYINT | Kind.SMALLINT | Kind.INT | Kind.BIGINT:
            return given.is_integer and _WIDTH.index(given.kind) <= _WIDTH.index(wanted.kind)
        case Kind.FLOAT:
            return given.is_integer or given.kind in (Kind.FLOAT, Kind.DECIMAL)
        case Kind.DOUBLE | Kind.DECIMAL:
            return given.is_numeric
        case Kind.DATE | Kind.TIME:
            return given.kind is Kind.TIMESTAMP
        case Kind.TIMESTAMP | Kind.TIMESTAMP_LTZ:
            return given.is_timestamp
        case _:
            return given.kind is wanted.kind
