"""Timestamps and dates as text, a column at a time: exactly what `codecs.json_values` reads, or nothing.

The text of a column whose values are all equally long is one matrix of bytes, and reading it is arithmetic on its
columns: an eighth of the time of a regular expression and Polars' parser (which alone is too generous: it takes
`2018- 1-01` and a second of 60). Dates to days as in the proleptic Gregorian calendar (ISO 8601).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

__all__ = ["dates_of_text", "timestamps_of_text"]

Numbers = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

#: The forms that streams of events have, by length; a place with `0` is a digit. Every other form is read by hand.
_FORMS = {
    10: ("0000-00-00",),
    19: ("0000-00-00T00:00:00", "0000-00-00 00:00:00"),
    20: ("0000-00-00T00:00:00Z", "0000-00-00 00:00:00Z"),
    23: ("0000-00-00T00:00:00.000", "0000-00-00 00:00:00.000"),
    24: ("0000-00-00T00:00:00.000Z", "0000-00-00 00:00:00.000Z"),
}
_DAY_MS = 86_400_000
_MONTH_DAYS = np.array([0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31], dtype=np.int64)


def timestamps_of_text(text: pl.Series) -> pl.Series:
    """Datetime("ms") of a String series; null where the text is null or its form is not the first value's.

    So a null where `text` is not null means: read this row by hand.
    """
    return _column(text, pl.Datetime("ms"), dates_only=False)


def dates_of_text(text: pl.Series) -> pl.Series:
    """Date of a String series; null where the text is null or not YYYY-MM-DD (read it by hand)."""
    return _column(text, pl.Date(), dates_only=True)


@dataclass(frozen=True, slots=True)
class _Digits:
    """Bytes of equally long texts, one text a column; `read` makes a number of some of their digits."""

    places: npt.NDArray[np.uint8]

    def read(self, first: int, last: int) -> Numbers:
        value: Numbers = (self.places[first] - 48).astype(np.int64)
        for place in range(first + 1, last):
            value *= 10
            value += self.places[place] - 48
        return value


def _column(text: pl.Series, dtype: pl.DataType, *, dates_only: bool) -> pl.Series:
    nothing = pl.Series(text.name, [None], dtype=dtype).new_from_index(0, len(text))
    lengths = text.str.len_bytes()
    first = text[text.is_not_null().arg_max() or 0] if len(text) else None
    length = len(first.encode()) if isinstance(first, str) else 0
    forms = _FORMS.get(length, ()) if not dates_only or length == 10 else ()
    if not forms:
        return nothing
    rows = None if lengths.null_count() == 0 and lengths.min() == lengths.max() else (lengths == length).arg_true()
    joined = (text if rows is None else text.gather(rows)).str.join("").item().encode()
    matrix = np.frombuffer(joined, dtype=np.uint8).reshape(-1, length)
    values, good = _read(np.ascontiguousarray(matrix.T), forms)
    read = pl.Series(text.name, values)
    if not good.all():
        read = pl.select(pl.when(pl.Series(good)).then(read).alias(text.name))[text.name]
    if dates_only:
        read = read // _DAY_MS
    typed = read.cast(pl.Int32).cast(dtype) if dates_only else read.cast(dtype)
    return typed if rows is None else nothing.scatter(rows, typed)


def _read(places: npt.NDArray[np.uint8], forms: tuple[str, ...]) -> tuple[Numbers, Mask]:
    """Epoch milliseconds of every text, and which of them are of one of the forms and exist in the calendar."""
    form = np.frombuffer(forms[0].encode(), dtype=np.uint8)
    digit = form == ord("0")
    good: Mask = np.all(places[digit] - 48 <= 9, axis=0)
    good &= np.any([_matches(places, each) for each in forms], axis=0)
    digits = _Digits(places)
    year, month, day = digits.read(0, 4), digits.read(5, 7), digits.read(8, 10)
    good &= (year >= 1) & (month >= 1) & (month <= 12) & (day >= 1)
    leap = (year % 4 == 0) & ((year % 100 != 0) | (year % 400 == 0))
    good &= day <= _MONTH_DAYS[np.minimum(month, 12)] + (leap & (month == 2))
    ms = _days(year, month, day) * _DAY_MS
    if len(form) > 10:
        hour, minute, second = digits.read(11, 13), digits.read(14, 16), digits.read(17, 19)
        good &= (hour <= 23) & (minute <= 59) & (second <= 59)
        ms += ((hour * 60 + minute) * 60 + second) * 1000
    if len(form) >= 23:
        ms += digits.read(20, 23)
    return ms, good


def _matches(places: npt.NDArray[np.uint8], form_text: str) -> Mask:
    form = np.frombuffer(form_text.encode(), dtype=np.uint8)
    marks = np.flatnonzero(form != ord("0"))
    matches: Mask = np.all(places[marks] == form[marks, None], axis=0)
    return matches


def _days(year: Numbers, month: Numbers, day: Numbers) -> Numbers:
    """Days since 1970-01-01, counting years from March so that the leap day comes last."""
    shifted = year - (month <= 2)
    era = shifted // 400
    of_era = shifted - era * 400
    of_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    days: Numbers = era * 146_097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719_468
    return days
