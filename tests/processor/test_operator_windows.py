"""Window arithmetic against its definition, one window at a time."""

from __future__ import annotations

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock_processor.operators.windows import Windows

WINDOWS = st.builds(
    Windows, st.integers(1, 60), st.integers(1, 60), st.integers(-70, 70), st.booleans()
)  # size, slide, offset, sliced


def _holding(windows, at):
    """Starts of all windows with start <= at < start + size, by trying each."""
    aligned = [k * windows.slide_ms + windows.offset_ms for k in range(-400, 400)]
    return [start for start in aligned if start <= at < start + windows.size_ms]


@settings(deadline=None, derandomize=True)
@given(windows=WINDOWS, at=st.integers(-200, 200))
def test_a_slice_lies_in_the_windows_of_each_of_its_rows(windows, at):
    sliced = Windows(windows.size_ms, windows.slide_ms, windows.offset_ms, sliced=True)
    times = pl.DataFrame({"t": pl.Series([at]).cast(pl.Datetime("ms"))})
    (start,) = times.select(sliced.slice_of(pl.col("t"))).to_series()
    assert start <= at < start + sliced.slice_ms
    assert list(sliced.starts(start)) == _holding(windows, at)
    assert times.select(sliced.holds(pl.lit(start))).item() == bool(_holding(windows, at))


@settings(deadline=None, derandomize=True)
@given(windows=WINDOWS, watermark=st.integers(-200, 200))
def test_the_first_open_window_is_the_first_that_has_not_fired(windows, watermark):
    start = windows.first_open(watermark)
    assert (start - windows.offset_ms) % windows.slide_ms == 0
    assert start + windows.size_ms - 1 > watermark
    assert start - windows.slide_ms + windows.size_ms - 1 <= watermark
