"""Watermarks of channels: the least counts, it never goes back, and it is state."""

from __future__ import annotations

from penstock.ports.log import DeltaKind
from penstock_processor.operators.step import MAX_WATERMARK
from penstock_processor.operators.watermarks import Watermarks


def _advanced(marks, **through):
    for channel, at in through.items():
        marks.observe(channel, at)
    return marks.advance()


def test_a_channel_that_was_never_heard_of_holds_back():
    marks = Watermarks("w", ["a", "b"])
    assert _advanced(marks, a=5) is None
    assert _advanced(marks, b=3) == 3
    assert _advanced(marks, b=9) == 5


def test_it_never_goes_back():
    marks = Watermarks("w", ["a"])
    assert _advanced(marks, a=5) == 5
    assert _advanced(marks, a=2) == 5


def test_idle_channels_hold_nothing_back_and_all_idle_ones_advance_nothing():
    marks = Watermarks("w", ["a", "b"])
    marks.set_idle("b", True)
    assert _advanced(marks, a=5) == 5
    marks.set_idle("a", True)
    assert _advanced(marks, a=9) == 5
    marks.set_idle("b", False)
    assert _advanced(marks, b=1) == 5
    assert _advanced(marks, b=7) == 7


def test_state_is_saved_when_it_changed_and_restored_with_idle_flags():
    marks = Watermarks("w", ["a", "b"])
    assert marks.delta() is None
    marks.set_idle("b", True)
    _advanced(marks, a=5)
    delta = marks.delta()
    assert delta is not None
    assert (delta.operator, delta.kind) == ("w", DeltaKind.REPLACE)
    assert marks.delta() is None
    again = Watermarks("w", ["a", "b"])
    again.restore([delta])
    assert again.combined == 5
    assert _advanced(again, a=8) == 8
    marks.observe("a", 8)
    marks.advance()
    assert marks.compact() == again.compact()


def test_the_end_is_beyond_every_time():
    marks = Watermarks("w", ["a", "b"])
    marks.end()
    assert marks.advance() == MAX_WATERMARK
