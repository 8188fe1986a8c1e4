"""Window arithmetic against its definition, one window at a time."""

from __future__ import annotations

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock_processor.operators.windows import Windows

WINDOWS = st.builds(
    Windows, st.integers(1, 60), st.integers(1, 60), st.integers(-70, 70), st.booleans()
)  # size, slide, offset, sliced

#: Step, steps in a whole window, offset.
GROWING = st.builds(
    lambda step, steps, offset, sliced: Windows(step * steps, step, offset % (step * steps), sliced, cumulative=True),
    st.integers(1, 20), st.integers(1, 6), st.integers(-70, 70), st.booleans(),
)  # fmt: skip


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
    assert list(sliced.windows_with(start)) == _holding(windows, at)
    assert times.select(sliced.holds(pl.lit(start))).item() == bool(_holding(windows, at))


@settings(deadline=None, derandomize=True)
@given(windows=WINDOWS, watermark=st.integers(-200, 200))
def test_the_first_open_window_is_the_first_that_has_not_fired(windows, watermark):
    start = windows.first_open(watermark)
    assert (start - windows.offset_ms) % windows.slide_ms == 0
    assert start + windows.size_ms - 1 > watermark
    assert start - windows.slide_ms + windows.size_ms - 1 <= watermark


@settings(deadline=None, derandomize=True)
@given(windows=GROWING, at=st.integers(-200, 200))
def test_cumulating_windows_hold_what_lies_between_the_whole_ones_start_and_their_end(windows, at):
    starts = [k * windows.size_ms + windows.offset_ms for k in range(-400, 400)]
    (start,) = [start for start in starts if start <= at < start + windows.size_ms]
    expected = [(start, end) for end in range(start + windows.slide_ms, start + windows.size_ms + 1, windows.slide_ms)
                if at < end]  # fmt: skip
    times = pl.DataFrame({"t": pl.Series([at]).cast(pl.Datetime("ms"))})
    (first,) = times.select(windows.slice_of(pl.col("t"))).to_series()
    numbers = list(windows.windows_with(first))
    assert _bounds(windows, numbers) == expected
    found = times.select(windows.slice_of(pl.col("t"))).select(
        number.alias(str(n)) for n, number in enumerate(windows.numbers(pl.col("$slice")))
    )
    held = [number for number in reversed(found.row(0)) if _bounds(windows, [number])[0][1] > at]
    assert held == numbers
    for number in numbers:
        assert first in windows.slices_in(number) or not windows.sliced


@settings(deadline=None, derandomize=True)
@given(windows=GROWING, watermark=st.integers(-200, 200))
def test_a_cumulating_window_fires_at_its_end_and_its_rows_are_late_when_the_last_has_fired(windows, watermark):
    ((start, end),) = _bounds(windows, [windows.first_open(watermark)])
    assert end - 1 > watermark
    assert end - windows.slide_ms - 1 <= watermark
    assert windows.complete_to(watermark) == start - 1
    kept = windows.kept_from(watermark)
    assert kept == (start if windows.sliced else windows.first_open(watermark))


def _bounds(windows, numbers):
    frame = pl.DataFrame({"$slice": pl.Series(numbers, dtype=pl.Int64)})
    start, end = windows.bounds(pl.col("$slice"))
    return frame.select(start.alias("s"), end.alias("e")).rows()
