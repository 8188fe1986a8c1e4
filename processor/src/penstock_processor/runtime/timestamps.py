"""Timestamps and dates as text, a column at a time: exactly what `codecs.json_values` reads, or nothing.

Polars' parser alone is too generous (`2018- 1-01`, a second of 60), so a regular expression proves the form first.
"""

from __future__ import annotations

import polars as pl

from penstock.codecs.json_values import TIMESTAMP_MIN_MS

__all__ = ["dates_of_text", "timestamps_of_text"]

_DATE_FORM = r"\d{4}-\d\d-\d\d"
#: length -> (pattern, format): the forms that streams of events have; every other one is read by hand.
_FORMS: dict[int, tuple[str, str]] = {
    10: (f"^{_DATE_FORM}$", "%Y-%m-%d"),
    19: (rf"^{_DATE_FORM}[T ]\d\d:\d\d:[0-5]\d$", "%Y-%m-%dT%H:%M:%S"),
    20: (rf"^{_DATE_FORM}[T ]\d\d:\d\d:[0-5]\dZ$", "%Y-%m-%dT%H:%M:%SZ"),
    23: (rf"^{_DATE_FORM}[T ]\d\d:\d\d:[0-5]\d\.\d{{3}}$", "%Y-%m-%dT%H:%M:%S%.3f"),
    24: (rf"^{_DATE_FORM}[T ]\d\d:\d\d:[0-5]\d\.\d{{3}}Z$", "%Y-%m-%dT%H:%M:%S%.3fZ"),
}


def timestamps_of_text(text: pl.Series) -> pl.Series:
    """Datetime("ms") of a String series; null where the text is null or its form is not the first row's.

    So a null where `text` is not null means: read this row by hand.
    """
    kept = text.drop_nulls()
    form = _FORMS.get(len(kept[0].encode())) if len(kept) else None
    if form is None:
        return pl.Series(text.name, [None], dtype=pl.Datetime("ms")).new_from_index(0, len(text))
    pattern, layout = form
    if len(layout) > len("%Y-%m-%d") and kept[0][10] == " ":
        pattern, layout = pattern.replace("[T ]", " "), layout.replace("T", " ")
    else:
        pattern = pattern.replace("[T ]", "T")
    column = pl.col(text.name)
    proven = pl.when(column.str.contains(pattern)).then(column)
    parsed = proven.str.to_datetime(layout, time_unit="ms", strict=False, exact=True)
    frame = text.to_frame().select(parsed.alias(text.name))
    least = frame[text.name].cast(pl.Int64).min()
    if isinstance(least, int) and least < TIMESTAMP_MIN_MS:
        frame = frame.select(pl.when(column.cast(pl.Int64) >= TIMESTAMP_MIN_MS).then(column).alias(text.name))
    return frame[text.name]


def dates_of_text(text: pl.Series) -> pl.Series:
    """Date of a String series; null where the text is null or not YYYY-MM-DD (read it by hand)."""
    column = pl.col(text.name)
    proven = pl.when(column.str.contains(r"^(?:[1-9]\d{3}|0[1-9]\d\d|00[1-9]\d|000[1-9])-\d\d-\d\d$")).then(column)
    return text.to_frame().select(proven.str.to_date("%Y-%m-%d", strict=False).alias(text.name))[text.name]
