"""Values of a frame's row in stored form, as filters and cursors hold them. Pure."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

from penstock.model.stream import Column
from penstock_data.query import Scalar

__all__ = ["stored_of", "stored_value"]

_EPOCH = dt.datetime(1970, 1, 1)
_MILLISECOND = dt.timedelta(milliseconds=1)


def stored_value(value: object, column: Column) -> Scalar | None:
    """As `stored_of`; the error names the column."""
    try:
        return stored_of(value)
    except TypeError as error:
        raise TypeError(f"{error} in column '{column.name}'") from None


def stored_of(value: object) -> Scalar | None:
    """Epoch milliseconds, days, milliseconds of the day; other values as they are. TypeError for no SQL value."""
    match value:
        case dt.datetime():
            local = value.astimezone(dt.UTC).replace(tzinfo=None) if value.tzinfo else value
            return (local - _EPOCH) // _MILLISECOND
        case dt.date():
            return value.toordinal() - _EPOCH.toordinal()
        case dt.time():
            return ((value.hour * 60 + value.minute) * 60 + value.second) * 1000 + value.microsecond // 1000
        case None | bool() | int() | float() | str() | bytes() | Decimal():
            return value
        case _:
            raise TypeError(f"{type(value).__name__} is no SQL value")
